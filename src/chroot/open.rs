// SPDX-License-Identifier: ISC
//! Opening a chroot that exists and is ours.
#![forbid(unsafe_code)]

use std::ffi::OsStr;

use super::identity::{self, IDENTITY};
use super::made::status::STATUS;
use super::place::{Home, Place, bytes};
use super::register;
use super::sessions::LEDGER;
use super::state::State;
use super::{actions, devices, inside, layers, login, recorded, recover, release};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::STORE;
use crate::path::{PathSet, TreePath, escape};
use crate::recipe::Recipe;
use crate::source::dir::{Scan, ScanOptions, scan, scan_known};
use crate::sys::{Dir, Front, Held};
use crate::tree::{Policy, Tree};
use crate::watch::Watch;

/// The name of the work directory where it must lie inside the root, on the root's own filesystem.
pub(crate) const WORK_INSIDE: &str = ".stockade-work";

/// A chroot with a record of ours, locked.
#[derive(Debug)]
pub struct Chroot {
    /// Where it is.
    pub place: Place,
    /// What we know of it.
    pub state: State,
    /// Its root directory; of an overlay clone, the root of the overlay.
    pub root: Dir,
    /// The overlay of an overlay clone.
    pub front: Option<Front>,
    /// Its lock; held until this is dropped.
    pub lock: Held,
}

/// How to take the lock.
#[derive(Debug, Clone, Copy)]
pub struct Locking {
    /// Several may hold it at once: for verbs that change nothing.
    pub shared: bool,
    /// Wait for it, or fail at once.
    pub wait: bool,
    /// The verb, written into the lock for others to read.
    pub verb: &'static str,
}

impl Chroot {
    /// Opens and locks the chroot that the user calls `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Refused`] if what is there is not what was recorded;
    /// [`ErrorKind::Interrupted`] if an interrupted command has to be recovered first; [`ErrorKind::Locked`].
    pub fn open(home: &Home, name: &OsStr, locking: Locking) -> Result<Chroot> {
        let mut chroot = Chroot::open_record(home, name, locking)?;
        if let Some(front) = layers::front(home, &chroot.place, &chroot.state)? {
            chroot.root = front.dir(home.calls).on("open", bytes(&chroot.place.root))?;
            chroot.front = Some(front);
            // Nothing can be renamed from beside it into it.
            chroot.place.beside = false;
        }
        Ok(chroot)
    }

    /// Refuses to change what overlay clones lie in front of.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] naming them.
    pub fn refuse_frozen(&self, home: &Home) -> Result<()> {
        layers::refuse_frozen(home, &self.place, &self.state)
    }

    /// Makes the root ready to be entered: it is one that the running kernel runs, its devices are there if they lie on a
    /// filesystem of their own, and it is found at its path, by this thread and what it starts.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a release that is newer than the kernel; as mknod(2) and unshare(2).
    pub fn attach(&self) -> Result<()> {
        let recipe = recorded::remembered(&self.state)?.unwrap_or_default();
        release::may_run(&self.root, recipe.release.as_deref())?;
        devices::fill(&self.root, recipe.devices)?;
        let Some(front) = &self.front else { return Ok(()) };
        front.attach(&self.place.root).on("mount", bytes(&self.place.root))
    }

    /// As [`Chroot::open`], for what is known of the chroot: the root of an overlay clone is the empty directory.
    ///
    /// # Errors
    /// As [`Chroot::open`].
    pub fn open_record(home: &Home, name: &OsStr, locking: Locking) -> Result<Chroot> {
        let place = Place::find(home, name)?;
        let shown = bytes(&place.root).to_vec();
        let shown = shown.as_slice();
        let root = match Dir::open(&place.root, home.calls) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_chroot(home, &place)),
            root => root.on("open", shown)?,
        };
        let state = State::open(home, &place)?.ok_or_else(|| unknown(shown))?;
        // Only one overlay of its layers may be there at a time.
        let shared = locking.shared && layers::base_of(&state)?.is_none();
        let lock = state.lock(shared, locking.wait, locking.verb).map_err(|e| e.at(shown))?;
        if shared && state.is_interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "an earlier command was interrupted")
                .at(shown)
                .hint(format!("finish it with: stockade recover {}", place.called(home))));
        }
        if !shared {
            recover::settle(home, &place, &state, &Watch::default())?;
        }
        let chroot = Chroot { place, state, root, front: None, lock };
        chroot.verify_identity()?;
        Ok(chroot)
    }

    fn verify_identity(&self) -> Result<()> {
        let shown = bytes(&self.place.root);
        let recorded = self.state.read(IDENTITY)?.ok_or_else(|| unknown(shown))?;
        if !identity::is(&recorded, &self.root).on("stat", shown)? {
            return Err(Error::new(ErrorKind::Refused, "the directory was renamed or replaced since it was recorded")
                .at(shown)
                .hint(format!("bind its record to it with: stockade adopt {}", escape(shown))));
        }
        Ok(())
    }

    /// The recorded manifest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::BadInput`] if it is damaged.
    pub fn manifest(&self) -> Result<Tree> {
        let none = || Error::new(ErrorKind::NotFound, "no manifest is recorded").at(bytes(&self.place.root));
        self.state.read_tree("manifest")?.ok_or_else(none)
    }

    /// The recipe that it was built with.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if none is recorded; [`ErrorKind::BadInput`] if it is damaged.
    pub fn recipe(&self) -> Result<Recipe> {
        let none = || Error::new(ErrorKind::NotFound, "no recipe is recorded").at(bytes(&self.place.root));
        recorded::remembered(&self.state)?.ok_or_else(none)
    }

    /// What its recipe calls its release.
    pub(crate) fn said_release(&self) -> Option<String> {
        self.recipe().ok().and_then(|recipe| recipe.release)
    }

    /// The policy of its recipe, with what actions and accounts write, and the sources that lie in it.
    ///
    /// # Errors
    /// As [`Chroot::recipe`].
    pub fn policy(&self) -> Result<Policy> {
        let recipe = self.recipe()?;
        let mut policy = policy_of(&recipe)?;
        inside::sources_of(&recipe, &self.place.root).into_iter().for_each(|path| policy.keep.insert(path));
        Ok(policy)
    }

    /// The directory in which its sessions are listed, made if it is missing.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn ledger(&self) -> Result<Dir> {
        self.state.subdir(LEDGER)
    }

    /// The directory in which homes for its accounts are kept, made if it is missing.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn homes(&self) -> Result<std::path::PathBuf> {
        self.state.subdir("homes").map(|_| self.state.path.join("homes"))
    }

    /// Scans the root as it is now; `recorded` is its manifest.
    ///
    /// # Errors
    /// As scan.
    pub fn scan(&self, recorded: &Tree, watch: &Watch) -> Result<Scan> {
        watch.begin("scanning", 0);
        scan_known(&self.root, &whole()?, recorded, watch).map_err(|e| e.at(bytes(&self.place.root)))
    }
}

/// The policy of `recipe`: what actions write is nobody's to judge, and what is in an account's home is the account's.
pub(crate) fn policy_of(recipe: &Recipe) -> Result<Policy> {
    let mut policy = recipe.policy()?;
    // A jail's cache is made like any other file.
    if recipe.closure.is_none() {
        actions::outputs()?.into_iter().for_each(|path| policy.volatile.insert(path));
    }
    login::homes_of(recipe)?.into_iter().for_each(|home| policy.keep.insert(home));
    policy.volatile.insert(TreePath::new(STORE.as_bytes())?);
    policy.ours = PathSet::new(login::ACCOUNT_FILES.iter().chain(&[STATUS]))?;
    Ok(policy)
}

/// Scans a root, our own work directory left out.
pub(crate) fn scan_root(root: &Dir, watch: &Watch) -> Result<Scan> {
    watch.begin("scanning", 0);
    scan(root, &whole()?, watch)
}

fn whole() -> Result<ScanOptions> {
    Ok(ScanOptions { xattrs: true, skip: PathSet::new([WORK_INSIDE])? })
}

/// There is no root.
pub(crate) fn no_chroot(home: &Home, place: &Place) -> Error {
    let (root, shown) = (bytes(&place.root), escape(bytes(&place.root)));
    if register::knows(home, &place.root).unwrap_or(false) {
        let hint = format!("move it back, or forget it with: stockade remove {shown}");
        return Error::new(ErrorKind::NotFound, "the chroot is gone; only its record is left").at(root).hint(hint);
    }
    let hint = format!("make it with: stockade build {}", place.called(home));
    Error::new(ErrorKind::NotFound, "there is no such chroot").at(root).hint(hint)
}

fn unknown(shown: &[u8]) -> Error {
    Error::new(ErrorKind::Refused, "no chroot of ours: there is no record of it")
        .at(shown)
        .hint(format!("record it as it is with: stockade adopt {}", escape(shown)))
}
