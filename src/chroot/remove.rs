// SPDX-License-Identifier: ISC
//! `remove`: takes a chroot away, unless something runs in it or is mounted below it.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io::ErrorKind;

use super::open::{Chroot, Locking};
use super::place::{Home, bytes};
use super::state::register;
use crate::apply::remove_tree;
use crate::error::{IoContext, Result};
use crate::session;
use crate::sys;
use crate::watch::Watch;

/// The name, in the state, of a root that is being removed.
pub(crate) const OLD: &str = "old";

/// What was, or with `dry_run` would be, removed.
#[derive(Debug)]
pub struct Removed {
    /// Absolute path of the root.
    pub root: std::path::PathBuf,
    /// Entries in its manifest.
    pub entries: usize,
}

/// Removes the chroot that the user calls `name`, its state and its registration.
///
/// The root is first renamed beside its state, so that nothing half removed is ever found under its name.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] naming the mounts below it and the processes in it.
pub fn remove(home: &Home, name: &OsStr, dry_run: bool, wait: bool, watch: &Watch) -> Result<Removed> {
    let chroot = Chroot::open(home, name, Locking { shared: false, wait, verb: "remove" })?;
    refuse_if_in_use(&chroot)?;
    let entries = chroot.state.read_tree("manifest")?.map_or(0, |tree| tree.len());
    let removed = Removed { root: chroot.place.root.clone(), entries };
    if dry_run {
        return Ok(removed);
    }
    watch.begin("removing", entries as u64);
    if chroot.place.beside {
        let (parent, last) = chroot.place.parent(home.calls)?;
        parent.rename(&last, &chroot.state.dir, OLD.as_bytes()).on("rename", bytes(&removed.root))?;
        remove_tree(&chroot.state.dir, OLD.as_bytes(), watch)?;
    } else {
        let shown = bytes(&removed.root);
        for entry in chroot.root.entries().on("readdir", shown)? {
            remove_tree(&chroot.root, &entry.name, watch).map_err(|e| e.at(shown))?;
        }
    }
    forget(home, &chroot)?;
    if !chroot.place.beside {
        remove_empty(home, &chroot)?;
    }
    Ok(removed)
}

/// Removes the root itself, unless it is a mount point or lies where we may not remove it: then somebody else made it.
fn remove_empty(home: &Home, chroot: &Chroot) -> Result<()> {
    let (parent, name) = chroot.place.parent(home.calls)?;
    match parent.remove_dir(&name) {
        Err(e) if matches!(e.kind(), ErrorKind::ResourceBusy | ErrorKind::PermissionDenied) => Ok(()),
        done => done.on("rmdir", bytes(&chroot.place.root)),
    }
}

/// Removes state and registration.
fn forget(home: &Home, chroot: &Chroot) -> Result<()> {
    register::remove(home, &chroot.place)?;
    let all = chroot.place.state.parent().unwrap_or(&chroot.place.state);
    let above = sys::Dir::open(all, home.calls).on("open", bytes(all))?;
    let name = chroot.place.state.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or_default();
    remove_tree(&above, name, &Watch::default())
}

/// Refuses while processes run in the root or mounts lie below it.
pub(crate) fn refuse_if_in_use(chroot: &Chroot) -> Result<()> {
    session::refuse_occupied(&chroot.place.root)
}
