// SPDX-License-Identifier: ISC
//! The private overlay of a recording: what the commands write lies in front of the root, which stays as it is.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::apply::remove_tree;
use crate::chroot::layers::{SCRATCH, UPPER, make_layers, overlay};
use crate::chroot::open::Chroot;
use crate::chroot::place::bytes;
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Dir, Front, is_overlay};
use crate::watch::Watch;

/// The directory of the state that the layers of a recording lie in, while there is one.
const RECORD: &str = "record";
/// What overlayfs makes in its work directory where it keeps hard links together.
const INDEX: &[u8] = b"index";

/// An overlay in front of a root.
#[derive(Debug)]
pub(super) struct Layer {
    /// What was written.
    pub(super) upper: Dir,
    /// The root as the commands see it.
    pub(super) view: Dir,
}

impl Layer {
    /// Lays one in front of `chroot`. From then on this thread, and what it starts, finds it at the chroot's path.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where there can be none.
    pub(super) fn make(chroot: &Chroot) -> Result<Layer> {
        let (state, shown) = (&chroot.state, bytes(&chroot.place.root));
        if is_overlay(&chroot.root) {
            return Err(Error::new(ErrorKind::Unsupported, "it lies on an overlay itself").at(shown));
        }
        clear(state)?;
        let (dir, path) = (state.subdir(RECORD)?, state.path.join(RECORD));
        let made = make_layers(&chroot.root, &dir, &path).and_then(|()| Layer::open(chroot, &dir, &path));
        if made.is_err() {
            clear(state)?;
        }
        made.map_err(|error| error.at(shown))
    }

    fn open(chroot: &Chroot, dir: &Dir, path: &Path) -> Result<Layer> {
        let shown = bytes(path);
        let front: Front = overlay(&chroot.root, dir, path)?;
        let view = front.dir(chroot.root.calls()).on("open", shown)?;
        // Making it touched the upper layer.
        let was = chroot.root.stat_self().on("stat", shown)?;
        view.set_mtime(b".", was.mtime).on("utimensat", shown)?;
        let upper = dir.open_dir(UPPER.as_bytes()).on("open", shown)?;
        let scratch = dir.open_dir(SCRATCH.as_bytes()).on("open", shown)?;
        if scratch.find(INDEX).on("stat", shown)?.is_none() {
            return Err(Error::new(ErrorKind::Unsupported, "an overlay here would part hard links"));
        }
        front.attach(&chroot.place.root).on("mount", shown)?;
        Ok(Layer { upper, view })
    }
}

/// Refuses a root with mounts below it: a layer in front of it would show what they hide.
pub(super) fn refuse_mounts(root: &Path) -> Result<()> {
    let below = |mount: &sys::Mount| {
        let target = Path::new(OsStr::from_bytes(&mount.target));
        target != root && target.starts_with(root)
    };
    match sys::mounts().on("mounts", bytes(root))?.into_iter().find(below) {
        None => Ok(()),
        Some(mount) => {
            let target = escape(&mount.target);
            let reason = format!("{target} is mounted below it: what is written there would not be recorded");
            Err(Error::new(ErrorKind::Refused, reason).at(bytes(root)).hint(format!("umount {target}")))
        }
    }
}

/// Removes what a recording wrote.
///
/// # Errors
/// As unlink(2).
pub(crate) fn clear(state: &State) -> Result<()> {
    remove_tree(&state.dir, RECORD.as_bytes(), &Watch::default()).map(drop)
}
