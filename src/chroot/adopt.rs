// SPDX-License-Identifier: ISC
//! `adopt`: records a directory that Stockade did not make, or that was renamed or replaced (decisions E16, E17).
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::built::Built;
use super::guard::{self, Found};
use super::identity::{self, IDENTITY};
use super::open::scan_root;
use super::place::{Home, Place, bytes};
use super::proof::read_all;
use super::state::{State, register};
use super::{recorded, recover};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::recipe::Recipe;
use crate::sys::Dir;
use crate::tree::Unknown;
use crate::tree::policy::ADOPTED;
use crate::watch::Watch;

/// What `adopt` recorded, or would record.
#[derive(Debug)]
pub struct Adopted {
    /// Absolute path of the chroot.
    pub root: PathBuf,
    /// How many entries were recorded anew; none if an earlier record was found and bound again.
    pub entries: Option<usize>,
}

/// Records the directory that the user calls `name`. Nothing in it is changed.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it does not exist; [`ErrorKind::Refused`] for `/`, homes and the like.
pub fn adopt(home: &Home, name: &OsStr, dry_run: bool, wait: bool, watch: &Watch) -> Result<Adopted> {
    let place = Place::find(home, name)?;
    guard::may_build(home, &place)?;
    let shown = bytes(&place.root);
    let root = Dir::open(&place.root, home.calls).on("open", shown)?;
    if matches!(guard::look(home, &place)?, Found::Ours(_)) {
        return Ok(Adopted { root: place.root, entries: None });
    }
    if let Some(known) = known_elsewhere(&place, &root)? {
        if !dry_run {
            bind_again(home, &place, &known)?;
        }
        return Ok(Adopted { root: place.root, entries: None });
    }
    let mut tree = scan_root(&root, watch).map_err(|e| e.at(shown))?.tree;
    let entries = tree.len();
    if !dry_run {
        read_all(&root, &mut tree, watch, |_| true)?;
        let origin = std::sync::Arc::from(ADOPTED);
        tree.nodes_mut().for_each(|node| node.origin = Some(std::sync::Arc::clone(&origin)));
        let state = State::create(home, &place)?;
        let _lock = state.lock(false, wait, "adopt").map_err(|e| e.at(shown))?;
        recover::settle(home, &place, &state, watch)?;
        let recipe = Recipe { unknown: Unknown::Keep, ..Recipe::default() };
        recorded::prepare(&state, &recipe, &Built::default(), &tree, &root)?;
        recorded::promote(&state)?;
        register::add(home, &place)?;
    }
    Ok(Adopted { root: place.root, entries: Some(entries) })
}

/// The state directory, beside that of `place`, whose root this directory was before it was renamed.
fn known_elsewhere(place: &Place, root: &Dir) -> Result<Option<PathBuf>> {
    let all = place.state.parent().unwrap_or(Path::new("/"));
    let Ok(entries) = std::fs::read_dir(all) else { return Ok(None) };
    for entry in entries.flatten() {
        let Ok(was) = std::fs::read(entry.path().join(IDENTITY)) else { continue };
        if entry.path() != place.state && identity::is(&was, root).on("stat", bytes(&place.root))? {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Moves the record of a renamed root to its new name.
fn bind_again(home: &Home, place: &Place, known: &Path) -> Result<()> {
    if place.state.exists() {
        return Err(Error::new(ErrorKind::Refused, "another record stands under its name").at(bytes(&place.state)));
    }
    let old =
        known.parent().and_then(Path::parent).unwrap_or(Path::new("/")).join(known.file_name().unwrap_or_default());
    std::fs::rename(known, &place.state).on("rename", bytes(&place.state))?;
    register::remove(home, &Place { root: old, ..place.clone() })?;
    register::add(home, place)
}
