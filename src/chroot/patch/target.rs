// SPDX-License-Identifier: ISC
//! The root that a patch is applied to: a chroot of ours, another directory, or the running system.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;

use crate::chroot::open::{Chroot, Locking};
use crate::chroot::place::{Home, Place, bytes};
use crate::chroot::recover;
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, Front, Held, is_stale};
use crate::watch::Watch;

/// A root, locked.
pub(crate) struct Root {
    pub(crate) place: Place,
    /// None for a root that nothing is known of yet, and that is only looked at.
    pub(crate) state: Option<State>,
    pub(crate) dir: Dir,
    /// Is there a manifest of it?
    pub(crate) managed: bool,
    /// The overlay of an overlay clone.
    front: Option<Front>,
    _lock: Option<Held>,
}

impl Root {
    /// Opens the root that the user calls `name`, and takes its lock; finishes first what an interrupted command left.
    ///
    /// # Errors
    /// As [`Chroot::open`]; [`ErrorKind::Refused`] for a chroot with overlay clones, naming them.
    pub(crate) fn open(home: &Home, name: &OsStr, locking: Locking) -> Result<Root> {
        let place = Place::find(home, name)?;
        let known = State::open(home, &place)?;
        if known.as_ref().is_some_and(|state| matches!(state.read("manifest"), Ok(Some(_)))) {
            let chroot = Chroot::open(home, name, locking)?;
            if !locking.shared {
                chroot.refuse_frozen(home)?;
            }
            let Chroot { place, state, root, front, lock } = chroot;
            return Ok(Root { place, state: Some(state), dir: root, managed: true, front, _lock: Some(lock) });
        }
        let shown = bytes(&place.root);
        let dir = match Dir::open(&place.root, home.calls) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::NotFound, "there is no such directory").at(shown));
            }
            dir => dir.on("open", shown)?,
        };
        if locking.shared {
            let lock = known.as_ref().map(|state| state.lock(true, locking.wait, locking.verb)).transpose();
            let lock = lock.map_err(|e| e.at(shown))?;
            return Ok(Root { place, state: known, dir, managed: false, front: None, _lock: lock });
        }
        let state = State::create(home, &place)?;
        let lock = state.lock(false, locking.wait, locking.verb).map_err(|e| e.at(shown))?;
        recover::settle(home, &place, &state, &Watch::default())?;
        Ok(Root { place, state: Some(state), dir, managed: false, front: None, _lock: Some(lock) })
    }

    /// Makes the root be found at its path, by this thread and what it starts.
    pub(crate) fn attach(&self) -> Result<()> {
        let Some(front) = &self.front else { return Ok(()) };
        front.attach(&self.place.root).on("mount", bytes(&self.place.root))
    }

    /// Is it the running system?
    pub(crate) fn is_system(&self) -> bool {
        self.place.root == Path::new("/")
    }

    /// Its state.
    pub(crate) fn state(&self) -> Result<&State> {
        self.state.as_ref().ok_or_else(|| Error::new(ErrorKind::NotFound, "nothing is recorded of it"))
    }

    /// The text of a small file of the root; empty if there is none. No symlink is followed.
    pub(crate) fn text(&self, path: &str) -> Result<Vec<u8>> {
        use std::io::Read;
        let path = TreePath::new(path.as_bytes())?;
        let above = match self.dir.walk_parent(&path) {
            Err(e) if is_stale(&e) => return Ok(Vec::new()),
            above => above.on("open", &path)?,
        };
        match above.find(path.name()).on("stat", &path)? {
            Some(stat) if stat.kind == crate::sys::FileType::File => {}
            _ => return Ok(Vec::new()),
        }
        let mut text = Vec::new();
        above.open_file(path.name()).and_then(|file| file.take(16 << 20).read_to_end(&mut text)).on("read", &path)?;
        Ok(text)
    }
}
