// SPDX-License-Identifier: ISC
//! What services leave behind when they are killed: pid files and sockets that the next start would stumble over.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;

use crate::chroot::open::scan_root;
use crate::chroot::place::{Home, bytes};
use crate::chroot::{Chroot, Locking};
use crate::error::{ErrorKind, IoContext, Result};
use crate::path::PathSet;
use crate::session;
use crate::sys::Dir;
use crate::tree::{Kind, Node, Tree};
use crate::watch::Watch;

/// Clears the chroot `name` before a session begins in it, unless one lives there or somebody works on it: then what is
/// there is in use.
///
/// # Errors
/// As opening and scanning it, and as unlink(2).
pub fn before_session(home: &Home, name: &OsStr) -> Result<()> {
    let locking = Locking { shared: false, wait: false, verb: "run" };
    let chroot = match Chroot::open(home, name, locking) {
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
        chroot => chroot?,
    };
    if chroot.refuse_frozen(home).is_err() {
        // A clone lies in front of it, and would change under whoever is in that.
        return Ok(());
    }
    let patterns = chroot.recipe()?.closure.map(|closure| closure.clean).unwrap_or_default();
    let mut have = scan_root(&chroot.root, &Watch::default())?.tree;
    clear((&chroot.place.root, &chroot.root), &patterns, &mut have)
}

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
