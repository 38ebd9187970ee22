// SPDX-License-Identifier: ISC
//! What services leave behind when they are killed: pid files and sockets that the next start would stumble over.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::chroot::place::bytes;
use crate::error::{IoContext, Result};
use crate::path::PathSet;
use crate::session;
use crate::sys::Dir;
use crate::tree::{Kind, Node, Tree};

/// Removes what `patterns` name of the root that `have` shows: files, sockets and FIFOs, by descriptor, and only while
/// nothing runs inside. What was removed is taken out of `have`.
///
/// # Errors
/// As looking for processes, and unlink(2).
pub(crate) fn clear((at, root): (&Path, &Dir), patterns: &[String], have: &mut Tree) -> Result<()> {
    let patterns = PathSet::new(patterns)?;
    let loose = |node: &Node| matches!(node.kind, Kind::File { .. } | Kind::Socket | Kind::Fifo);
    let left: Vec<&Node> = have.nodes().iter().filter(|node| loose(node) && patterns.names(&node.path)).collect();
    if left.is_empty() || !session::occupants(at)?.is_empty() {
        return Ok(());
    }
    for node in &left {
        let dir = root.walk_parent(&node.path).on("open", &node.path)?;
        dir.unlink(node.path.name()).on("unlink", &node.path)?;
    }
    let gone: Vec<_> = left.iter().map(|node| node.path.clone()).collect();
    let kept = have.nodes().iter().filter(|node| !gone.contains(&node.path)).cloned().collect();
    *have = Tree::new(kept).map_err(|error| error.at(bytes(at)))?;
    Ok(())
}
