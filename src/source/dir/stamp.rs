// SPDX-License-Identifier: ISC
//! Stamps of files that are known: a look at each, without making a tree of them.
#![forbid(unsafe_code)]

use std::io;

use super::clock::{Settled, settle};
use crate::error::{Error, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType, is_stale};
use crate::tree::{Kind, Node, Stamp, Tree};
use crate::watch::Watch;

/// Gives those files of `tree` that `which` names the stamps that they have in `root`, after waiting until these prove
/// something. A file that no longer has the size and time that the tree says gets none.
///
/// # Errors
/// As fstatat(2).
pub fn stamp(root: &Dir, tree: &mut Tree, which: &dyn Fn(&TreePath) -> bool, watch: &Watch) -> Result<()> {
    settle();
    let settled = Settled::now();
    let mut last: Option<(TreePath, Option<Dir>)> = None;
    for node in tree.nodes_mut() {
        if !matches!(node.kind, Kind::File { .. }) || !which(&node.path) {
            continue;
        }
        watch.count(1, 0)?;
        if last.as_ref().is_none_or(|(path, _)| node.path.parent_bytes() != Some(path.as_bytes())) {
            let parent = node.path.parent().unwrap_or_default();
            last = Some((parent, there(root.walk_parent(&node.path)).map_err(|e| Error::io("open", &node.path, &e))?));
        }
        let Some((_, Some(dir))) = &last else { continue };
        node.here = look(dir, node, settled).map_err(|e| Error::io("stat", &node.path, &e))?;
    }
    Ok(())
}

fn look(dir: &Dir, node: &Node, settled: Settled) -> io::Result<Option<Stamp>> {
    let Some(stat) = dir.find(node.path.name())? else { return Ok(None) };
    let same = stat.kind == FileType::File && stat.size == node.size() && stat.mtime == node.meta.mtime;
    Ok((same && settled.holds(stat.ctime)).then_some(Stamp { ctime: stat.ctime, ino: stat.ino }))
}

/// None for what is gone or has become something else.
fn there(dir: io::Result<Dir>) -> io::Result<Option<Dir>> {
    match dir {
        Err(e) if is_stale(&e) => Ok(None),
        dir => dir.map(Some),
    }
}
