// SPDX-License-Identifier: ISC
//! The work space of one build: where bodies are staged, made only when the first body comes.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use super::carry::{NEW, new_root};
use super::open::WORK_INSIDE;
use super::place::{Home, Place, bytes, private_dir, trusted_dir};
use super::state::State;
use crate::apply::{Owners, Stage, Target, remove_tree};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{self, Dir, has_subvolumes, is_subvolume};
use crate::tree::Time;
use crate::watch::Watch;

/// The name of the work directory beside the root, in its state.
const WORK: &str = "work";

/// The state file that holds the root's time while the work space comes or goes.
const ROOT_TIME: &str = "root-time";

const NOT_EMPTY: std::io::ErrorKind = std::io::ErrorKind::DirectoryNotEmpty;
/// Another command has removed it already.
const GONE: std::io::ErrorKind = std::io::ErrorKind::NotFound;

/// The work space of one command.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// The state, if the command may write to it.
    pub(crate) state: Option<&'a State>,
    /// Nothing is staged for good: bodies are only hashed.
    pub(crate) dry_run: bool,
    /// The directory that holds the work space; exists always, for questions to its filesystem.
    pub(crate) anchor: Dir,
    name: Vec<u8>,
    path: PathBuf,
    stage: OnceCell<Stage>,
    /// The state file that holds the anchor's time while the work space comes or goes.
    time: String,
}

impl<'a> Work<'a> {
    /// The work space on the root's filesystem: in the state beside it, or inside the root (decision E16).
    pub(crate) fn new(place: &Place, state: &'a State, root: Option<&Dir>) -> Result<Work<'a>> {
        let shown = bytes(&place.root);
        let (anchor, name, path) = match root {
            // Nothing can be renamed from one subvolume into another.
            Some(root) if !place.beside || is_subvolume(root) => {
                (root.try_clone().on("open", shown)?, WORK_INSIDE, place.root.join(WORK_INSIDE))
            }
            _ => (state.dir.try_clone().on("open", shown)?, WORK, state.path.join(WORK)),
        };
        Ok(Work {
            state: Some(state),
            dry_run: false,
            anchor,
            name: name.as_bytes().to_vec(),
            path,
            stage: OnceCell::new(),
            time: ROOT_TIME.to_owned(),
        })
    }

    /// The work space on another filesystem of the root, mounted at `path`; `number` tells it from others.
    pub(crate) fn on_mount(state: &'a State, anchor: Dir, path: PathBuf, number: usize) -> Work<'a> {
        let (name, time) = (WORK_INSIDE.as_bytes().to_vec(), format!("{ROOT_TIME}.{number}"));
        let path = path.join(WORK_INSIDE);
        Work { state: Some(state), dry_run: false, anchor, name, path, stage: OnceCell::new(), time }
    }

    /// The work space for filling a new root: in that root, if it is a subvolume.
    pub(crate) fn for_new(place: &Place, state: &'a State, root: Option<&Dir>) -> Result<Work<'a>> {
        let new = state.path.join(NEW);
        if root.is_some_and(|root| !is_subvolume(root)) || !has_subvolumes(&state.dir) {
            return Work::new(place, state, root);
        }
        let inside = Place { root: new, beside: false, ..place.clone() };
        Work::new(&inside, state, Some(&new_root(state)?))
    }

    /// The work space of a dry run, which leaves nothing in state or root: a directory of its own among the temporary
    /// ones. It only ever holds archives that lie in archives.
    pub(crate) fn dry(home: &Home) -> Result<Work<'static>> {
        let path = std::env::temp_dir();
        let anchor = Dir::open(&path, home.calls).on("open", bytes(&path))?;
        let name = format!("stockade-{}", std::process::id()).into_bytes();
        Ok(Work { state: None, dry_run: true, anchor, name, path, stage: OnceCell::new(), time: ROOT_TIME.to_owned() })
    }

    /// Is there one? Where a journal stands, there is, unless it is of another root.
    pub(crate) fn exists(&self) -> Result<bool> {
        Ok(trusted_dir(&self.anchor, &self.name, &self.path)?.is_some())
    }

    /// The directory itself, made if it is missing.
    pub(crate) fn dir(&self) -> Result<Dir> {
        match trusted_dir(&self.anchor, &self.name, &self.path)? {
            Some(dir) => Ok(dir),
            None => self.quietly(|| private_dir(&self.anchor, &self.name, &self.path)),
        }
    }

    /// Changes the entries of the anchor. Where that is the root, the root's time shall not tell; it is written down
    /// first, for [`Work::settle`].
    fn quietly<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(state) = self.state.filter(|_| self.name == WORK_INSIDE.as_bytes()) else { return change() };
        let stat = self.anchor.stat_self().on("stat", bytes(&self.path))?;
        let text = format!("{} {} {}\n", stat.ino, stat.mtime.sec, stat.mtime.nsec);
        state.write(&self.time, text.as_bytes())?;
        let done = change()?;
        self.settle()?;
        Ok(done)
    }

    /// Gives the root the time back that it had before the work space came or went.
    pub(crate) fn settle(&self) -> Result<()> {
        let Some(state) = self.state.filter(|_| self.name == WORK_INSIDE.as_bytes()) else { return Ok(()) };
        let Some(text) = state.read(&self.time)? else { return Ok(()) };
        let (ino, time) = parse_time(&text).ok_or_else(|| broken(&state.path))?;
        if self.anchor.stat_self().on("stat", bytes(&self.path))?.ino == ino {
            self.anchor.set_mtime(b".", time).on("utimensat", bytes(&self.path))?;
        }
        state.discard(&self.time)
    }

    /// The stage in it, made with the first call.
    pub(crate) fn stage(&self) -> Result<&Stage> {
        if self.stage.get().is_none() {
            // A second maker cannot be: one thread builds.
            let _ = self.stage.set(Stage::create(&self.dir()?, owners())?);
        }
        self.stage.get().ok_or_else(|| crate::Error::new(crate::ErrorKind::Io, "no stage"))
    }

    /// Owner and group of all that this user can make; none for root, who makes what is wanted.
    pub(crate) fn owner_of_all(&self) -> Result<Option<(u32, u32)>> {
        match owners() {
            Owners::Set => Ok(None),
            // Not the process's own group: some filesystems and directories hand down theirs.
            Owners::Caller => {
                let made = self.dir()?.stat_self().on("stat", bytes(&self.path))?;
                Ok(Some((made.uid, made.gid)))
            }
        }
    }

    /// The root as a target whose stage and undo lie here.
    pub(crate) fn target(&self, root: &Dir) -> Result<Target> {
        Ok(Target::single(root.try_clone().on("open", bytes(&self.path))?, self.dir()?, owners()))
    }

    /// Removes it if nothing is in it: another command may have something there.
    pub(crate) fn leave(&self) -> Result<()> {
        match self.quietly(|| self.anchor.remove_dir(&self.name).on("rmdir", bytes(&self.path))) {
            Err(e)
                if e.errno()
                    .map(std::io::Error::from_raw_os_error)
                    .is_some_and(|e| matches!(e.kind(), NOT_EMPTY | GONE)) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Removes it with all that is in it.
    pub(crate) fn clear(&self, watch: &Watch) -> Result<()> {
        match self.anchor.find(&self.name).on("stat", bytes(&self.path))? {
            Some(_) => self.quietly(|| remove_tree(&self.anchor, &self.name, watch).map(drop)),
            None => Ok(()),
        }
    }
}

/// `INODE SECONDS NANOSECONDS`
fn parse_time(text: &[u8]) -> Option<(u64, Time)> {
    let words: Vec<&str> = std::str::from_utf8(text).ok()?.split_whitespace().collect();
    let [ino, sec, nsec] = words.as_slice() else { return None };
    Some((ino.parse().ok()?, Time { sec: sec.parse().ok()?, nsec: nsec.parse().ok()? }))
}

fn broken(state: &Path) -> Error {
    Error::new(ErrorKind::BadInput, "the recorded time is malformed").at(bytes(&state.join(ROOT_TIME)))
}

/// Only root can give files away, and only if there is more than one number.
pub(crate) fn owners() -> Owners {
    let gives = sys::effective_uid() == 0 && !sys::id_map().is_ok_and(|map| map.is_single());
    if gives { Owners::Set } else { Owners::Caller }
}
