// SPDX-License-Identifier: ISC
//! `list` and `why`: what chroots there are, and why a file is in one.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::open::Chroot;
use super::place::{Home, Place, bytes};
use super::state::{State, identity, register};
use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::sys::Dir;
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Node, Tree};

/// One chroot in the list.
#[derive(Debug)]
pub struct Listed {
    /// Its name, if it lives under the home; else its path.
    pub name: String,
    /// Its path.
    pub root: PathBuf,
    /// What condition it is in.
    pub condition: Condition,
    /// Entries in its manifest.
    pub entries: usize,
    /// Bytes in its manifest.
    pub bytes: u64,
}

/// The condition of a chroot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// All is well.
    Ok,
    /// The directory is gone.
    Missing,
    /// Another directory is in its place.
    Replaced,
    /// A command was interrupted; `recover` finishes it.
    Interrupted,
    /// Its state cannot be read.
    Broken,
}

impl Condition {
    /// The word shown.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Ok => "ok",
            Condition::Missing => "missing",
            Condition::Replaced => "replaced",
            Condition::Interrupted => "interrupted",
            Condition::Broken => "broken",
        }
    }
}

/// All registered chroots, by path.
///
/// # Errors
/// If the register cannot be read.
pub fn list(home: &Home) -> Result<Vec<Listed>> {
    register::all(home)?.into_iter().map(|root| Ok(describe(home, &root))).collect()
}

fn describe(home: &Home, root: &std::ffi::OsStr) -> Listed {
    let root = PathBuf::from(root);
    let name = root.strip_prefix(&home.path).unwrap_or(&root).display().to_string();
    let (condition, tree) = examine(home, &root).unwrap_or((Condition::Broken, None));
    let tree = tree.unwrap_or_default();
    Listed { name, root, condition, entries: tree.len(), bytes: tree.bytes() }
}

fn examine(home: &Home, root: &std::path::Path) -> Result<(Condition, Option<Tree>)> {
    let Ok(dir) = Dir::open(root, home.calls) else { return Ok((Condition::Missing, None)) };
    let place = Place::find(home, root.as_os_str())?;
    let Some(state) = State::open(home, &place)? else { return Ok((Condition::Broken, None)) };
    let tree = state.read_tree("manifest")?;
    if state.is_interrupted() {
        return Ok((Condition::Interrupted, tree));
    }
    let same = identity(&dir).is_ok_and(|now| state.read("identity").is_ok_and(|was| was == Some(now.into_bytes())));
    Ok((if same { Condition::Ok } else { Condition::Replaced }, tree))
}

/// Why `path` is in the chroot: the entry, and the entries that lead to it through symlinked directories.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the manifest has no such entry.
pub fn why(chroot: &Chroot, path: &[u8]) -> Result<Vec<Node>> {
    let tree = chroot.manifest()?;
    let path = TreePath::lenient(path.strip_prefix(bytes(&chroot.place.root)).unwrap_or(path))?;
    let node = |at: &TreePath| tree.get(at.as_bytes());
    let mut chain: Vec<Node> = Vec::new();
    let through = |link: &TreePath| {
        chain.extend(node(link).cloned());
        Ok(())
    };
    let found = resolve(&path, false, |at| node(at).map(|n| &n.kind), through)?;
    let Resolved::Found(found) = found else {
        return Err(Error::new(ErrorKind::NotFound, "the manifest has no such entry").at(&path));
    };
    chain.extend(node(&found).cloned());
    Ok(chain)
}
