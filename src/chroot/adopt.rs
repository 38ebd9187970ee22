// SPDX-License-Identifier: ISC
//! `adopt`: records a directory that Stockade did not make, or that was renamed or replaced (decisions E16, E17).
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::built::Built;
use super::guard::{self, Found};
use super::identity::{self, IDENTITY};
use super::open::{policy_of, scan_root};
use super::place::{Home, Place, bytes};
use super::proof::read_all;
use super::register;
use super::state::State;
use super::{layers, recorded, recover};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::recipe::Recipe;
use crate::sys::{Dir, Held};
use crate::tree::diff::pairs;
use crate::tree::policy::ADOPTED;
use crate::tree::{Node, Tree, Unknown};
use crate::watch::Watch;

/// What `adopt` did, or would do.
#[derive(Debug)]
pub struct Adopted {
    /// Absolute path of the chroot.
    pub root: PathBuf,
    /// How it came by its record.
    pub how: How,
}

/// How an adopted directory came by its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// All of these many entries were recorded as they are.
    Recorded(usize),
    /// It is the directory that a record here is of, which had another name.
    Renamed,
    /// Another directory has the name of one that was recorded: recipe and manifest stay, and these many entries that
    /// they do not know were recorded as they are.
    Restored(usize),
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
        return Ok(Adopted { root: place.root, how: How::Renamed });
    }
    if let Some(known) = known_elsewhere(&place, &root)? {
        if !dry_run {
            bind_again(home, &place, &known, wait)?;
        }
        return Ok(Adopted { root: place.root, how: How::Renamed });
    }
    if dry_run {
        let record = match State::open(home, &place)? {
            Some(state) => Record::of(&state, &root, watch)?,
            None => Record::anew(&root, watch)?,
        };
        return Ok(Adopted { root: place.root, how: record.how });
    }
    let state = State::create(home, &place)?;
    let _lock = state.lock(false, wait, "adopt").map_err(|e| e.at(shown))?;
    recover::settle(home, &place, &state, watch)?;
    let mut record = Record::of(&state, &root, watch).map_err(|e| e.at(shown))?;
    read_all(&root, &mut record.tree, watch, is_adopted)?;
    recorded::prepare(&state, &record.recipe, &record.built, &record.tree, &root)?;
    recorded::promote(&state)?;
    register::add(home, &place)?;
    Ok(Adopted { root: place.root, how: record.how })
}

/// What will be known of the directory.
struct Record {
    recipe: Recipe,
    built: Built,
    tree: Tree,
    how: How,
}

impl Record {
    /// The record in `state` with what it does not know of `root`; all of `root` if there is none.
    fn of(state: &State, root: &Dir, watch: &Watch) -> Result<Record> {
        let (Some(recipe), Some(known)) = (recorded::remembered(state)?, state.read_tree("manifest")?) else {
            return Record::anew(root, watch);
        };
        let policy = policy_of(&recipe)?;
        let have = scan_root(root, watch)?;
        let mut nodes = Vec::with_capacity(known.len());
        for (was, is) in pairs(&known, &have.tree) {
            match (was, is) {
                // Something lies below what was no directory: a record of both would be no tree.
                (Some(was), Some(is)) if is.kind.is_dir() && !was.kind.is_dir() => nodes.push(adopted(is)),
                (Some(was), _) => nodes.push(was.clone()),
                (None, Some(is)) if !policy.holds(&is.path) => nodes.push(adopted(is)),
                _ => {}
            }
        }
        let count = nodes.iter().filter(|node| is_adopted(node)).count();
        // Of the archives that it was made of all is still true; that nothing has to be done is not.
        let built = Built { key: None, root: None, ..Built::read(state)? };
        Ok(Record { recipe, built, tree: Tree::new(nodes)?, how: How::Restored(count) })
    }

    fn anew(root: &Dir, watch: &Watch) -> Result<Record> {
        let tree = Tree::new(scan_root(root, watch)?.tree.nodes().iter().map(adopted).collect())?;
        let recipe = Recipe { unknown: Unknown::Keep, ..Recipe::default() };
        let how = How::Recorded(tree.len());
        Ok(Record { recipe, built: Built::default(), tree, how })
    }
}

fn adopted(node: &Node) -> Node {
    Node { origin: Some(ADOPTED.into()), ..node.clone() }
}

fn is_adopted(node: &Node) -> bool {
    node.origin.as_deref() == Some(ADOPTED)
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
fn bind_again(home: &Home, place: &Place, known: &Path, wait: bool) -> Result<()> {
    let old =
        known.parent().and_then(Path::parent).unwrap_or(Path::new("/")).join(known.file_name().unwrap_or_default());
    let from = Place { root: old, state: known.to_owned(), beside: place.beside };
    // Whoever waits for one of these locks is told that the state was moved.
    let lock = |place: &Place| -> Result<(State, Held)> {
        let state = State::create(home, place)?;
        let held = state.lock(false, wait, "adopt").map_err(|e| e.at(bytes(&place.root)))?;
        Ok((state, held))
    };
    let (mine, _held) = lock(&from)?;
    if let Some(clone) = layers::clones(home, &from, &mine)?.first() {
        let reason = format!("{} lies in front of it and knows it by its old name", clone.display());
        let error = Error::new(ErrorKind::Refused, reason).at(bytes(&place.root));
        return Err(error.hint(format!("move it back to {}, or remove its clones first", from.root.display())));
    }
    let (other, _held) = lock(place)?;
    if other.read(IDENTITY)?.is_some() {
        return Err(Error::new(ErrorKind::Refused, "another record stands under its name").at(bytes(&place.state)));
    }
    // Before the name is another: its base must not change meanwhile.
    layers::keep_base(home, &mine, &place.root)?;
    other.clear_but(&[])?;
    other.vacate()?;
    std::fs::rename(known, &place.state).on("rename", bytes(&place.state))?;
    register::remove(home, &from.root)?;
    register::add(home, place)
}
