// SPDX-License-Identifier: ISC
//! The root that a patch is applied to: a chroot of ours, another directory, or the running system.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::chroot::open::{Chroot, Locking};
use crate::chroot::origin::{How, Origin};
use crate::chroot::place::{Home, Place, bytes};
use crate::chroot::recover;
use crate::chroot::register;
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::sys::{self, Dir, FileType, Front, Held, is_stale, take_record_lock};
use crate::watch::Watch;

/// Account files and the like are smaller.
const LARGEST_TEXT: u64 = 16 << 20;

/// The lock that dpkg(1) takes before it changes anything.
const PACKAGES: &str = "var/lib/dpkg/lock-frontend";

/// Takes the lock of the package manager inside, if there is one.
fn lock_packages(root: &Dir, locking: Locking) -> Result<Option<Held>> {
    if locking.shared {
        return Ok(None);
    }
    let path = TreePath::new(PACKAGES.as_bytes())?;
    let dir = match root.try_clone().on("open", &path)?.crossing().walk_parent(&path) {
        Err(e) if is_stale(&e) => return Ok(None),
        dir => dir.on("open", &path)?,
    };
    if dir.find(path.name()).on("stat", &path)?.is_none_or(|stat| stat.kind != FileType::File) {
        return Ok(None);
    }
    let opened = dir.open_or_create(path.name(), 0o640);
    let denied = opened.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let hint =
        |error: Error| if denied { error.hint("only root patches what is root's: run it as root") } else { error };
    let file = opened.on("open", &path).map_err(hint)?;
    let held = take_record_lock(file).on("lock", &path)?;
    let busy = || Error::new(ErrorKind::Locked, "the package manager is at work there").at(&path);
    held.map(Some).ok_or_else(|| busy().hint("wait for it to end"))
}

/// Is it a clone by hard links, or is there one of it?
fn is_linked(home: &Home, place: &Place, state: &State) -> Result<bool> {
    let by_links = |state: &State| Ok::<_, Error>(Origin::read(state)?.filter(|origin| origin.how == How::Link));
    if by_links(state)?.is_some() {
        return Ok(true);
    }
    for root in register::all(home)? {
        // A clone whose record cannot be read may be one.
        let of = Place::find(home, &root).and_then(|place| State::open(home, &place));
        let Ok(Some(other)) = of else { continue };
        if by_links(&other).map_or(true, |origin| origin.is_some_and(|origin| origin.base == place.root)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the overlay of a root is attached: once, and no longer than the root is open, or whoever opens it next would
/// find that in the place of the empty directory.
#[derive(Default)]
struct Attached(OnceCell<PathBuf>);

impl Drop for Attached {
    fn drop(&mut self) {
        // Nobody else sees it, and it ends with this process.
        let _ = self.0.get().map(|at| sys::detach(at));
    }
}

/// A root, locked.
pub(crate) struct Root {
    pub(crate) place: Place,
    /// None for a root that nothing is known of yet, and that is only looked at.
    pub(crate) state: Option<State>,
    pub(crate) dir: Dir,
    /// Is there a manifest of it?
    pub(crate) managed: bool,
    /// It is a clone by hard links, or has such: its inodes may be theirs, too.
    pub(crate) shares: bool,
    /// The overlay of an overlay clone.
    front: Option<Front>,
    attached: Attached,
    /// That of the package manager inside: it would change the same files (decision 25). Given back before our own, or
    /// who waits for that would find it taken.
    _packages: Option<Held>,
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
            let packages = lock_packages(&root, locking)?;
            let shares = !locking.shared && is_linked(home, &place, &state)?;
            let (state, lock) = (Some(state), Some(lock));
            return Ok(Root {
                place,
                state,
                dir: root,
                managed: true,
                shares,
                front,
                attached: Attached::default(),
                _lock: lock,
                _packages: packages,
            });
        }
        let shown = bytes(&place.root);
        let dir = match Dir::open(&place.root, home.calls) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::NotFound, "there is no such directory").at(shown));
            }
            dir => dir.on("open", shown)?,
        };
        let (state, lock) = if locking.shared {
            let lock = known.as_ref().map(|state| state.lock(true, locking.wait, locking.verb)).transpose();
            let lock = lock.map_err(|e| e.at(shown))?;
            if known.as_ref().is_some_and(State::is_interrupted) {
                let error = Error::new(ErrorKind::Interrupted, "an earlier command was interrupted").at(shown);
                return Err(error.hint(format!("finish it with: stockade recover {}", escape(shown))));
            }
            (known, lock)
        } else {
            let state = State::create(home, &place)?;
            let lock = state.lock(false, locking.wait, locking.verb).map_err(|e| e.at(shown))?;
            recover::settle(home, &place, &state, &Watch::default())?;
            (Some(state), Some(lock))
        };
        let packages = lock_packages(&dir, locking)?;
        Ok(Root {
            place,
            state,
            dir,
            managed: false,
            shares: false,
            front: None,
            attached: Attached::default(),
            _lock: lock,
            _packages: packages,
        })
    }

    /// Makes the root be found at its path, by this thread and what it starts.
    pub(crate) fn attach(&self) -> Result<()> {
        let Some(front) = self.front.as_ref().filter(|_| self.attached.0.get().is_none()) else { return Ok(()) };
        let at = &self.place.root;
        front.attach(at).on("mount", bytes(at))?;
        let _ = self.attached.0.set(at.clone());
        Ok(())
    }

    /// Is it the running system?
    pub(crate) fn is_system(&self) -> bool {
        self.place.root == Path::new("/")
    }

    /// A chroot that is open already, and locked by whoever opened it.
    ///
    /// # Errors
    /// As dup(2).
    pub(crate) fn of(chroot: &Chroot) -> Result<Root> {
        let again = |dir: &Dir| dir.try_clone().on("dup", bytes(&chroot.place.root));
        let Chroot { place, state: known, root, .. } = chroot;
        let state = State { dir: again(&known.dir)?, path: known.path.clone(), lasting: known.lasting };
        let (place, state, dir) = (place.clone(), Some(state), again(root)?);
        Ok(Root {
            place,
            state,
            dir,
            managed: true,
            shares: false,
            front: None,
            attached: Attached::default(),
            _lock: None,
            _packages: None,
        })
    }

    /// Its state.
    pub(crate) fn state(&self) -> Result<&State> {
        self.state.as_ref().ok_or_else(|| Error::new(ErrorKind::NotFound, "nothing is recorded of it"))
    }

    /// The text of a small file of the root; empty if there is none. No symlink is followed.
    pub(crate) fn text(&self, path: &str) -> Result<Vec<u8>> {
        use std::io::Read;
        let path = TreePath::new(path.as_bytes())?;
        let above = match self.dir.try_clone().on("open", &path)?.crossing().walk_parent(&path) {
            Err(e) if is_stale(&e) => return Ok(Vec::new()),
            above => above.on("open", &path)?,
        };
        match above.find(path.name()).on("stat", &path)? {
            Some(stat) if stat.kind == FileType::File && stat.size <= LARGEST_TEXT => {}
            Some(stat) if stat.kind == FileType::File => {
                return Err(Error::new(ErrorKind::BadInput, "larger than such a file can be").at(&path));
            }
            _ => return Ok(Vec::new()),
        }
        let mut text = Vec::new();
        above
            .open_file(path.name())
            .and_then(|file| file.take(LARGEST_TEXT).read_to_end(&mut text))
            .on("read", &path)?;
        Ok(text)
    }
}
