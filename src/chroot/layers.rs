// SPDX-License-Identifier: ISC
//! Clones that are an overlay: what is written to them lies in front of their base, which must not change meanwhile.
//!
//! The clone's own directory is empty. Each command that looks into it makes the overlay anew, attached nowhere or in a
//! mount namespace of its own, and alone: two overlays of the same layers would not see each other's writes.
//! State directories: `upper` and `overlay` in that of the clone, `clones` in that of the base, with a file for each.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::open::{Chroot, WORK_INSIDE};
use super::origin::{How, Origin};
use super::place::{Home, Place, bytes, escape_name, private_dir};
use super::state::State;
use crate::apply::remove_tree;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::session::ledger;
use crate::sys::{Dir, FileType, Front, effective_uid, id_map, is_overlay};
use crate::watch::Watch;

/// What was written to the clone.
pub(crate) const UPPER: &str = "upper";
/// Overlayfs's own work directory.
pub(crate) const SCRATCH: &str = "overlay";
const CLONES: &str = "clones";

/// The base of an overlay clone; none for any other chroot.
pub(crate) fn base_of(state: &State) -> Result<Option<PathBuf>> {
    let origin = Origin::read(state)?;
    Ok(origin.filter(|origin| origin.how == How::Overlay).map(|origin| origin.base))
}

/// The overlay of the clone with this state; none for any other chroot.
///
/// # Errors
/// [`ErrorKind::NotFound`] if its base is gone; what the system says.
pub(crate) fn front(home: &Home, place: &Place, state: &State) -> Result<Option<Front>> {
    let Some(base) = base_of(state)? else { return Ok(None) };
    let lower = match Dir::open(&base, home.calls) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::new(ErrorKind::NotFound, "the base of this clone is gone").at(bytes(&base));
            return Err(error.hint("move it back; a clone by overlay cannot do without"));
        }
        lower => lower.on("open", bytes(&base))?,
    };
    // It may have been moved, and bound to its record again.
    if let Some(base) = State::open(home, &Place::find(home, base.as_os_str())?)? {
        freeze(&base, &place.root)?;
    }
    overlay(&lower, &state.dir, &state.path).map(Some).map_err(|error| error.at(bytes(&place.root)))
}

/// The overlay whose layers lie in `dir`, at `path`, in front of `lower`.
pub(crate) fn overlay(lower: &Dir, dir: &Dir, path: &Path) -> Result<Front> {
    let open = |name: &str| dir.open_dir(name.as_bytes()).on("open", bytes(&path.join(name)));
    Front::new(lower, &open(UPPER)?, &open(SCRATCH)?).on("mount", bytes(&path.join(UPPER)))
}

/// Makes layers in `dir`, at `path`, for an overlay in front of `lower`, and tries them.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where there are no overlays of such directories; what the system says.
pub(crate) fn make_layers(lower: &Dir, dir: &Dir, path: &Path) -> Result<()> {
    let cannot = |reason: String| Error::new(ErrorKind::Unsupported, reason);
    // Elsewhere its bookkeeping would be in attributes that whoever is inside can change.
    if effective_uid() != 0 || !id_map().is_ok_and(|map| map.is_everything()) {
        return Err(cannot("only root makes overlays".to_owned()));
    }
    let shown = bytes(path);
    for name in [UPPER, SCRATCH] {
        private_dir(dir, name.as_bytes(), &path.join(name))?;
    }
    // The root of an overlay is that of its upper layer: it looks like the lower one.
    let stat = lower.stat_self().on("stat", "")?;
    let xattrs = lower.xattrs(b".", FileType::Dir).on("getxattr", "")?;
    let upper = UPPER.as_bytes();
    dir.set_owner(upper, stat.uid, stat.gid).on("chown", shown)?;
    dir.set_xattrs(upper, FileType::Dir, &xattrs).on("setxattr", shown)?;
    dir.set_mode(upper, stat.mode).on("chmod", shown)?;
    overlay(lower, dir, path)
        .map(drop)
        .map_err(|error| cannot(format!("no overlay can be made here: {}", error.reason())))?;
    // Trying it touched it.
    dir.set_mtime(upper, stat.mtime).on("utimensat", shown)
}

/// Makes the layers of a clone of `base` in `state`, and tries them. From now on the base must not change.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where there are no overlays of such directories; [`ErrorKind::Refused`] if somebody is in
/// the base.
pub(crate) fn make(base: &Chroot, place: &Place, state: &State) -> Result<()> {
    let cannot = |error: Error| match error.kind() {
        ErrorKind::Unsupported => error.at(bytes(&place.root)).hint("use --how copy"),
        _ => error,
    };
    if is_overlay(&base.root) {
        return Err(cannot(Error::new(ErrorKind::Unsupported, "its base is an overlay itself")));
    }
    // In this order: a session enters itself in the ledger, then asks whether its chroot may change.
    freeze(&base.state, &place.root)?;
    if let Some(live) = ledger::live(&base.ledger()?)?.iter().find(|live| !live.entry.ephemeral) {
        let error =
            Error::new(ErrorKind::Refused, format!("process {} runs in it: {}", live.entry.pid, live.entry.command));
        return Err(error.at(bytes(&base.place.root)).hint("end it first, or use --how copy"));
    }
    // What was written to another clone of this name is none of this one's.
    clear(state)?;
    make_layers(&base.root, &state.dir, &state.path).map_err(cannot)
}

/// Writes down in the state of its base that `clone` lies in front of it.
fn freeze(base: &State, clone: &Path) -> Result<()> {
    let (clones, name) = (base.subdir(CLONES)?, escape_name(clone));
    let new = [name.as_slice(), UNFINISHED].concat();
    if clones.find(&name).on("stat", bytes(clone))?.is_some() {
        return Ok(());
    }
    let written = clones.open_or_create(&new, 0o600).and_then(|mut file| {
        file.set_len(0)?;
        file.write_all(bytes(clone))?;
        file.sync_all()
    });
    // Half a name would be no clone's, and the base unprotected.
    written.and_then(|()| clones.rename(&new, &clones, &name)).and_then(|()| clones.sync()).on("create", bytes(clone))
}

/// The end of the name of a file that is being written; no escaped name ends so.
const UNFINISHED: &[u8] = b"%";

/// Has the base of the clone with this `state`, if it has one, know it by the name `clone` too.
pub(crate) fn keep_base(home: &Home, state: &State, clone: &Path) -> Result<()> {
    let Some(base) = base_of(state)? else { return Ok(()) };
    match State::open(home, &Place::find(home, base.as_os_str())?)? {
        Some(base) => freeze(&base, clone),
        None => Ok(()),
    }
}

/// Forgets that `clone` lay in front of `base`.
pub(crate) fn thaw(home: &Home, base: &Path, clone: &Path) -> Result<()> {
    let Some(state) = State::open(home, &Place::find(home, base.as_os_str())?)? else { return Ok(()) };
    match state.subdir(CLONES)?.unlink(&escape_name(clone)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.on("unlink", bytes(clone)),
    }
}

/// Forgets a clone that did not come to be.
pub(crate) fn unmake(home: &Home, base: &Chroot, place: &Place, state: &State) -> Result<()> {
    clear(state)?;
    thaw(home, &base.place.root, &place.root)
}

/// Removes the layers of a clone that did not come to be.
pub(crate) fn clear(state: &State) -> Result<()> {
    [UPPER, SCRATCH].iter().try_for_each(|name| remove_tree(&state.dir, name.as_bytes(), &Watch::default()))
}

/// Did an interrupted command leave something in the overlay?
pub(crate) fn is_disturbed(state: &State) -> Result<bool> {
    let Ok(upper) = state.dir.open_dir(UPPER.as_bytes()) else { return Ok(false) };
    Ok(state.has_journal() || upper.find(WORK_INSIDE.as_bytes()).on("stat", bytes(&state.path))?.is_some())
}

/// The clones that lie in front of the chroot with this place and state; those that are gone, or never came to be, do
/// not count.
pub(crate) fn clones(home: &Home, place: &Place, state: &State) -> Result<Vec<PathBuf>> {
    let Ok(dir) = state.dir.open_dir(CLONES.as_bytes()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in dir.entries().on("readdir", bytes(&state.path))? {
        if entry.name.ends_with(UNFINISHED) {
            continue;
        }
        let mut path = Vec::new();
        let file = dir.open_file(&entry.name).on("open", &entry.name)?;
        file.take(1 << 16).read_to_end(&mut path).on("read", &entry.name)?;
        let path = PathBuf::from(OsString::from_vec(path));
        if is_clone_of(home, &path, &place.root)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_clone_of(home: &Home, clone: &Path, base: &Path) -> Result<bool> {
    let place = match Place::find(home, clone.as_os_str()) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        place => place?,
    };
    let Some(state) = State::open(home, &place)? else { return Ok(false) };
    Ok(base_of(&state)?.is_some_and(|of| of == base))
}

/// Refuses to change the base of overlay clones.
///
/// # Errors
/// [`ErrorKind::Refused`] naming them.
pub(crate) fn refuse_frozen(home: &Home, place: &Place, state: &State) -> Result<()> {
    let clones = clones(home, place, state)?;
    if clones.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = clones.iter().map(|clone| escape(bytes(clone))).collect();
    let reason = format!("clones by overlay would change with it: {}", names.join(", "));
    let hint = "remove them first; or make them stand alone: stockade clone CLONE NEW --how copy";
    Err(Error::new(ErrorKind::Refused, reason).at(bytes(&place.root)).hint(hint))
}
