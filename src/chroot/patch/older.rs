// SPDX-License-Identifier: ISC
//! Which other roots still hold what a patch mends: by their manifests, in which the digests of their files are.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::record;
use crate::chroot::list::name_of;
use crate::chroot::place::{Home, Place};
use crate::chroot::state::State;
use crate::chroot::{recorded, register};
use crate::error::Result;
use crate::patch::Contents;
use crate::path::TreePath;
use crate::tree::{Digest, Node};

/// A root that holds older copies of mended files.
#[derive(Debug, PartialEq, Eq)]
pub struct Older {
    /// Its path.
    pub root: PathBuf,
    /// How the user calls it.
    pub name: String,
    /// It is a jail: it is built from the host, not patched.
    pub jail: bool,
    /// Where the copies are, and which patch mends them.
    pub copies: Vec<(TreePath, String)>,
}

/// The chroots and jails of `home` but `patched` that hold a file as it was before one of `patches`.
///
/// # Errors
/// If the register cannot be read; a chroot of which nothing can be read is passed over: `list` names it.
pub fn older(home: &Home, patched: &HashSet<PathBuf>, patches: &[Contents]) -> Result<Vec<Older>> {
    let replaced: HashMap<Key<'_>, &str> = patches.iter().flat_map(replaced).collect();
    let mut found = Vec::new();
    if replaced.is_empty() {
        return Ok(found);
    }
    for root in register::all(home)?.into_iter().map(PathBuf::from).filter(|root| !patched.contains(root)) {
        if let Ok(Some(older)) = look(home, &root, &replaced) {
            found.push(older);
        }
    }
    Ok(found)
}

/// Content and name of a file: in a jail it may be in another directory.
type Key<'a> = (Digest, &'a [u8]);

/// The contents that a patch puts others in the place of.
fn replaced(patch: &Contents) -> impl Iterator<Item = (Key<'_>, &str)> {
    let key = |entry: &'_ crate::patch::Entry| {
        let before = entry.change.before.as_ref().filter(|node| node.size() > 0)?.digest()?;
        (entry.change.after.as_ref().and_then(Node::digest) != Some(before)).then_some(before)
    };
    let keyed = move |entry| Some(((key(entry)?, entry.change.path.name()), patch.head.name.as_str()));
    patch.entries.iter().filter_map(keyed)
}

fn look(home: &Home, root: &Path, replaced: &HashMap<Key<'_>, &str>) -> Result<Option<Older>> {
    let Some(state) = State::open(home, &Place::find(home, root.as_os_str())?)? else { return Ok(None) };
    let tree = state.read_tree("manifest")?.unwrap_or_default();
    // Where the patch is there, another file of that content is meant to be as it is.
    let lacks = |patch: &str| !matches!(record::noted(&state, patch), Ok(Some(_)));
    let copy = |node: &Node| {
        let patch = replaced.get(&(node.digest()?, node.path.name())).filter(|patch| lacks(patch))?;
        Some((node.path.clone(), (*patch).to_owned()))
    };
    let copies: Vec<_> = tree.nodes().iter().filter_map(copy).collect();
    if copies.is_empty() {
        return Ok(None);
    }
    Ok(Some(Older { root: root.to_owned(), name: name_of(home, root), jail: is_jail(&state)?, copies }))
}

/// Is it of a recipe with a closure?
pub(crate) fn is_jail(state: &State) -> Result<bool> {
    Ok(recorded::remembered(state)?.is_some_and(|recipe| recipe.closure.is_some()))
}
