// SPDX-License-Identifier: ISC
//! `remove`: takes a chroot away, unless something runs in it or is mounted below it.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::identity::IDENTITY;
use super::layers;
use super::open::{Chroot, Locking, no_chroot};
use super::place::{Home, Place, bytes};
use super::register;
use super::state::State;
use crate::apply::remove_tree;
use crate::error::{IoContext, Result};
use crate::session;
use crate::watch::Watch;

/// The name, in the state, of a root that is being removed.
pub(crate) const OLD: &str = "old";

/// What was, or with `dry_run` would be, removed.
#[derive(Debug)]
pub struct Removed {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// Entries in its manifest.
    pub entries: usize,
    /// The directory was gone already: only its record was removed.
    pub gone: bool,
}

/// Removes the chroot that the user calls `name`, its state and its registration.
///
/// The root is first renamed beside its state, so that nothing half removed is ever found under its name.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] naming the mounts below it and the processes in it.
pub fn remove(home: &Home, name: &OsStr, dry_run: bool, wait: bool, watch: &Watch) -> Result<Removed> {
    let place = Place::find(home, name)?;
    if is_gone(&place) {
        return remove_record(home, &place, dry_run, wait);
    }
    let chroot = Chroot::open_record(home, name, Locking { shared: false, wait, verb: "remove" })?;
    chroot.refuse_frozen(home)?;
    let base = layers::base_of(&chroot.state)?;
    refuse_if_in_use(&chroot)?;
    let entries = chroot.state.entries()?;
    let removed = Removed { root: chroot.place.root.clone(), entries, gone: false };
    if dry_run {
        return Ok(removed);
    }
    watch.begin("removing", entries as u64);
    if chroot.place.beside {
        let (parent, last) = chroot.place.parent(home.calls)?;
        parent.rename(&last, &chroot.state.dir, OLD.as_bytes()).on("rename", bytes(&removed.root))?;
    } else {
        let shown = bytes(&removed.root);
        for entry in chroot.root.entries().on("readdir", shown)? {
            remove_tree(&chroot.root, &entry.name, watch).map_err(|e| e.at(shown))?;
        }
        remove_empty(home, &chroot)?;
    }
    forget(home, &chroot.place, &chroot.state, watch)?;
    chroot.state.vacate()?;
    if let Some(base) = base {
        layers::thaw(home, &base, &removed.root)?;
    }
    Ok(removed)
}

fn is_gone(place: &Place) -> bool {
    place.root.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Removes what is known of a chroot whose directory somebody else removed, or moved away for good.
fn remove_record(home: &Home, place: &Place, dry_run: bool, wait: bool) -> Result<Removed> {
    let state = State::open(home, place)?;
    let lock = |state: &State| state.lock(false, wait, "remove").map_err(|e| e.at(bytes(&place.root)));
    let _lock = state.as_ref().map(lock).transpose()?;
    let holds = |state: &State| [IDENTITY, OLD].iter().any(|name| !matches!(state.dir.find(name.as_bytes()), Ok(None)));
    let known = state.as_ref().is_some_and(holds) || register::knows(home, &place.root)?;
    if !known || !is_gone(place) {
        return Err(no_chroot(home, place));
    }
    let entries = state.as_ref().map_or(Ok(0), State::entries)?;
    if !dry_run {
        match &state {
            Some(state) => {
                forget(home, place, state, &Watch::default())?;
                state.vacate()?;
            }
            None => drop(register::remove(home, &place.root)?),
        }
    }
    Ok(Removed { root: place.root.clone(), entries, gone: true })
}

/// Removes the root itself, unless it is a mount point or lies where we may not remove it: then somebody else made it.
fn remove_empty(home: &Home, chroot: &Chroot) -> Result<()> {
    let (parent, name) = chroot.place.parent(home.calls)?;
    match parent.remove_dir(&name) {
        Err(e) if matches!(e.kind(), ErrorKind::ResourceBusy | ErrorKind::PermissionDenied) => Ok(()),
        done => done.on("rmdir", bytes(&chroot.place.root)),
    }
}

/// Removes the record, the registration, and the old root if it lies in the state. May be repeated: as long as there is
/// more to do, there is an identity or an old root.
pub(crate) fn forget(home: &Home, place: &Place, state: &State, watch: &Watch) -> Result<()> {
    state.clear_but(&[IDENTITY, OLD])?;
    register::remove(home, &place.root)?;
    state.discard(IDENTITY)?;
    remove_tree(&state.dir, OLD.as_bytes(), watch)
}

/// Refuses while processes run in the root or mounts lie below it.
pub(crate) fn refuse_if_in_use(chroot: &Chroot) -> Result<()> {
    session::refuse_occupied(&chroot.place.root)
}
