// SPDX-License-Identifier: ISC
//! What the host records of a root's patches: its manifest with their changes, and digests of what the root lists.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use super::target::Root;
use super::{follow, look};
use crate::chroot::built::Built;
use crate::chroot::recorded;
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{is_stored, origin_after};
use crate::path::TreePath;
use crate::plan::Plan;
use crate::sys::Dir;
use crate::tree::{Digest, Node, Tree};
use crate::watch::Watch;

/// The directory, in the state, of the digests.
const PATCHES: &str = "patches";

/// What identifies what a root lists of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) contents: Digest,
    pub(crate) undo: Option<Digest>,
    /// Its place among those that were applied.
    pub(crate) place: u64,
}

/// Notes the digests of the patch `name`.
pub(crate) fn note(root: &Root, name: &str, digests: &Digests) -> Result<()> {
    let state = root.state()?;
    let dir = state.subdir(PATCHES)?;
    let undo = digests.undo.map(|digest| format!("undo {digest}\n")).unwrap_or_default();
    let text = format!("contents {}\n{undo}place {}\n", digests.contents, digests.place);
    let new = format!("{name}~");
    let write = || -> std::io::Result<()> {
        let mut file = dir.open_or_create(new.as_bytes(), 0o600)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        dir.rename(new.as_bytes(), &dir, name.as_bytes())?;
        dir.sync()
    };
    write().on("write", name)
}

/// The digests that were noted of the patch `name`.
pub(crate) fn noted(state: &State, name: &str) -> Result<Option<Digests>> {
    let dir = match state.dir.open_dir(PATCHES.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        dir => dir.on("open", PATCHES)?,
    };
    let mut text = String::new();
    match dir.open_file(name.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.and_then(|file| file.take(4096).read_to_string(&mut text)).on("read", name)?,
    };
    let value = |keyword: &str| text.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
    let digest = |keyword: &str| value(keyword).and_then(|hex| Digest::from_hex(hex.as_bytes()));
    let place = value("place").and_then(|place| place.parse().ok()).unwrap_or(0);
    Ok(digest("contents").map(|contents| Digests { contents, undo: digest("undo"), place }))
}

/// Notes in `to` what was noted in `from`: the root that it is of is a copy.
pub(crate) fn copy_notes(from: &State, to: &State) -> Result<()> {
    follow::copy_due(from, to)?;
    let dir = match from.dir.open_dir(PATCHES.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        dir => dir.on("open", PATCHES)?,
    };
    let new = to.subdir(PATCHES)?;
    for entry in dir.entries().on("readdir", PATCHES)? {
        let mut text = Vec::new();
        let copy = || -> std::io::Result<()> {
            dir.open_file(&entry.name)?.take(4096).read_to_end(&mut text)?;
            new.open_or_create(&entry.name, 0o600)?.write_all(&text)
        };
        let mut copy = copy;
        copy().on("copy", &entry.name)?;
    }
    Ok(())
}

/// Forgets the digests of the patch `name`.
pub(crate) fn forget(root: &Root, name: &str) -> Result<()> {
    match root.state()?.subdir(PATCHES)?.unlink(name.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.on("unlink", name),
    }
}

/// The recorded manifest after `plan`; none for a root without one. What comes is the patch's, or is what it was.
pub(crate) fn next(root: &Root, plan: &Plan, patch: Option<&str>) -> Result<Option<Tree>> {
    let Some(recorded) = root.state()?.read_tree("manifest")?.filter(|_| root.managed) else { return Ok(None) };
    let mut nodes: BTreeMap<TreePath, Node> = recorded.into_nodes().into_iter().map(|n| (n.path.clone(), n)).collect();
    for change in plan.changes.iter().filter(|change| !is_stored(&change.path)) {
        let known = nodes.remove(&change.path);
        let Some(after) = &change.after else { continue };
        let touched = change.before.as_ref().is_some_and(|before| before.kind.same(&after.kind));
        let known = known.and_then(|node| node.origin);
        let origin: Option<Arc<str>> = match patch {
            _ if touched => known,
            Some(name) => Some(origin_after(known.as_deref(), &format!("patch {name}")).into()),
            None => after.origin.clone(),
        };
        nodes.insert(change.path.clone(), Node { origin, here: None, from: None, ..after.clone() });
    }
    // What was recorded below an entry that is no directory any more, or is gone, is gone as well.
    let has_room = |path: &TreePath| path.ancestors().all(|above| nodes.get(&above).is_some_and(|n| n.kind.is_dir()));
    let kept: Vec<Node> = nodes.values().filter(|node| node.path.is_root() || has_room(&node.path)).cloned().collect();
    Tree::new(kept).map(Some)
}

/// Writes the manifest that counts once the change is made.
pub(crate) fn prepare(state: &State, record: &Tree) -> Result<()> {
    state.write_tree("manifest.next", record)?;
    Built { root: None, ..Built::read(state)? }.write(state, "built.next")
}

/// Stamps what was put in place.
pub(crate) fn stamp(root: &Root, mut record: Tree, plan: &Plan, watch: &Watch) -> Result<()> {
    recorded::stamp(&root.dir, &mut record, plan.paths(), watch)?;
    root.state()?.write_tree("manifest", &record)
}

/// Reads again what was put in place: is it what it shall be?
pub(crate) fn verify(roots: &[(TreePath, Dir)], plan: &Plan, watch: &Watch) -> Result<()> {
    let placed = plan.changes.iter().filter(|change| change.replace && !is_stored(&change.path));
    let wanted: Vec<&Node> = placed.filter_map(|change| change.after.as_ref()).collect();
    let paths: Vec<TreePath> = wanted.iter().map(|node| node.path.clone()).collect();
    let here = look::look(roots, &paths, watch)?;
    let wrong = wanted.iter().find(|node| !here.get(node.path.as_bytes()).is_some_and(|is| is.kind.same(&node.kind)));
    wrong.map_or(Ok(()), |node| {
        let error = Error::new(ErrorKind::Unverified, "what was written is not what is there now");
        Err(error.at(&node.path).hint("see what writes there, then run `stockade patch check`"))
    })
}
