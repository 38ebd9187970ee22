// SPDX-License-Identifier: ISC
//! The work space of one build: where bodies are staged, made only when the first body comes.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::path::PathBuf;

use super::open::WORK_INSIDE;
use super::place::{Home, Place, bytes, private_dir};
use super::state::State;
use crate::apply::{Owners, Stage, Target, remove_tree};
use crate::error::{IoContext, Result};
use crate::sys::{self, Dir};
use crate::watch::Watch;

/// The name of the work directory beside the root, in its state.
const WORK: &str = "work";

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
}

impl<'a> Work<'a> {
    /// The work space on the root's filesystem: in the state beside it, or inside the root (decision E16).
    pub(crate) fn new(place: &Place, state: &'a State, root: Option<&Dir>) -> Result<Work<'a>> {
        let shown = bytes(&place.root);
        let (anchor, name, path) = match root {
            Some(root) if !place.beside => {
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
        })
    }

    /// The work space of a dry run, which leaves nothing in state or root: a directory of its own among the temporary
    /// ones. It only ever holds archives that lie in archives.
    pub(crate) fn dry(home: &Home) -> Result<Work<'static>> {
        let path = std::env::temp_dir();
        let anchor = Dir::open(&path, home.calls).on("open", bytes(&path))?;
        let name = format!("stockade-{}", std::process::id()).into_bytes();
        Ok(Work { state: None, dry_run: true, anchor, name, path, stage: OnceCell::new() })
    }

    /// The directory itself, made if it is missing.
    pub(crate) fn dir(&self) -> Result<Dir> {
        self.quietly(|| private_dir(&self.anchor, &self.name, &self.path))
    }

    /// Changes the entries of the anchor. Where that is the root, the root's time shall not tell; being killed in here
    /// is the one moment that loses that time.
    fn quietly<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.name != WORK_INSIDE.as_bytes() {
            return change();
        }
        let before = self.anchor.stat_self().on("stat", bytes(&self.path))?.mtime;
        let done = change()?;
        self.anchor.set_mtime(b".", before).on("utimensat", bytes(&self.path))?;
        Ok(done)
    }

    /// The stage in it, made with the first call.
    pub(crate) fn stage(&self) -> Result<&Stage> {
        if self.stage.get().is_none() {
            // A second maker cannot be: one thread builds.
            let _ = self.stage.set(Stage::create(&self.dir()?, owners())?);
        }
        self.stage.get().ok_or_else(|| crate::Error::new(crate::ErrorKind::Io, "no stage"))
    }

    /// The root as a target whose stage and undo lie here.
    pub(crate) fn target(&self, root: &Dir) -> Result<Target> {
        Ok(Target::single(root.try_clone().on("open", bytes(&self.path))?, self.dir()?, owners()))
    }

    /// Removes it with all that is in it.
    pub(crate) fn clear(&self, watch: &Watch) -> Result<()> {
        match self.anchor.find(&self.name).on("stat", bytes(&self.path))? {
            Some(_) => self.quietly(|| remove_tree(&self.anchor, &self.name, watch).map(drop)),
            None => Ok(()),
        }
    }
}

/// Only root can give files away.
pub(crate) fn owners() -> Owners {
    if sys::effective_uid() == 0 { Owners::Set } else { Owners::Caller }
}
