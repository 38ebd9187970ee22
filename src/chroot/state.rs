// SPDX-License-Identifier: ISC
//! The state directory of a chroot: recipe, manifest, lock, journal and work space, out of reach of what runs inside.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::place::{Home, Place, STATE, bytes, escape_name, private_dir};
use crate::apply;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{Dir, Held, Lock};
use crate::tree::{Tree, text};

/// State files are ours; still, none is read beyond this size.
const MAX_STATE: u64 = 1 << 32;

/// The open state directory of one chroot.
#[derive(Debug)]
pub struct State {
    /// The directory.
    pub dir: Dir,
    /// Its path, for messages.
    pub path: PathBuf,
}

impl State {
    /// Opens the state of the chroot at `place`, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the directory is not ours or others may write to it.
    pub fn open(home: &Home, place: &Place) -> Result<Option<State>> {
        match std::fs::symlink_metadata(&place.state) {
            Ok(_) => State::create(home, place).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("stat", bytes(&place.state), &e)),
        }
    }

    /// Opens the state of the chroot at `place` and makes it if it is missing.
    ///
    /// # Errors
    /// As [`State::open`]; as mkdir(2).
    pub fn create(home: &Home, place: &Place) -> Result<State> {
        let all = place.state.parent().unwrap_or(Path::new("/"));
        let above = all.parent().unwrap_or(Path::new("/"));
        if above == home.path {
            home.open()?;
        }
        let above = Dir::open(above, home.calls).on("open", bytes(above))?;
        let all_dir = private_dir(&above, STATE.as_bytes(), all)?;
        let name = place.state.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or_default();
        Ok(State { dir: private_dir(&all_dir, name, &place.state)?, path: place.state.clone() })
    }

    /// Takes the chroot's lock; `verb` is written into it for others to read.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] naming the holder, if it is taken and `wait` is false.
    pub fn lock(&self, shared: bool, wait: bool, verb: &str) -> Result<Held> {
        let mut lock = Lock::open(&self.dir, b"lock").on("open", self.shown("lock"))?;
        let me = format!("stockade {verb}, process {}\n", std::process::id());
        let holder = lock.holder();
        match lock.take(shared, wait, &me).on("flock", self.shown("lock"))? {
            // `remove` takes the state away with its lock: who waited for that holds the lock of nothing.
            Ok(_) if self.dir.find(b"lock").on("stat", self.shown("lock"))?.is_none() => {
                Err(Error::new(ErrorKind::NotFound, "it was removed meanwhile"))
            }
            Ok(held) => Ok(held),
            Err(_) => {
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                Err(Error::new(ErrorKind::Locked, format!("in use by {holder}"))
                    .hint("wait for it to end, or leave out --no-wait"))
            }
        }
    }

    /// The text of the state file `name`; none if there is none.
    ///
    /// # Errors
    /// As open(2), read(2).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let file = match self.dir.open_file(name.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.on("open", self.shown(name))?,
        };
        let mut text = Vec::new();
        file.take(MAX_STATE).read_to_end(&mut text).on("read", self.shown(name))?;
        Ok(Some(text))
    }

    /// Replaces the state file `name` atomically and durably; nothing is written if it holds just this already.
    ///
    /// # Errors
    /// As write(2), fsync(2), rename(2).
    pub fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        if self.read(name)?.is_some_and(|old| old == text) {
            return Ok(());
        }
        let new = format!("{name}.new");
        self.discard(&new)?;
        let mut file = self.dir.create_file(new.as_bytes(), 0o600).on("create", self.shown(&new))?;
        file.write_all(text).on("write", self.shown(&new))?;
        file.sync_all().on("fsync", self.shown(&new))?;
        self.dir.rename(new.as_bytes(), &self.dir, name.as_bytes()).on("rename", self.shown(name))?;
        self.dir.sync().on("fsync", bytes(&self.path))
    }

    /// Removes the state file `name` if it is there.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn discard(&self, name: &str) -> Result<()> {
        match self.dir.unlink(name.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.on("unlink", self.shown(name)),
        }
    }

    /// Removes files that were being written (`NAME.new`) and those that were prepared and never counted (`NAME.next`).
    ///
    /// # Errors
    /// As readdir(3), unlink(2).
    pub fn forget_unfinished(&self) -> Result<()> {
        let entries = self.dir.entries().on("readdir", bytes(&self.path))?;
        let unfinished = |name: &[u8]| name.ends_with(b".new") || name.ends_with(b".next");
        let names = entries.iter().filter(|entry| unfinished(&entry.name));
        names.map(|entry| String::from_utf8_lossy(&entry.name)).try_for_each(|name| self.discard(&name))
    }

    /// Does a journal stand? Also if nobody can tell.
    pub fn is_interrupted(&self) -> bool {
        apply::JOURNALS.iter().any(|name| !matches!(self.dir.find(name), Ok(None)))
    }

    /// The tree recorded under `name`; none if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] with the line, if the manifest is damaged.
    pub fn read_tree(&self, name: &str) -> Result<Option<Tree>> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        text::read_tree(&text).map(Some).map_err(|e| e.at(self.shown(name)))
    }

    /// Records a tree under `name`.
    ///
    /// # Errors
    /// As [`State::write`].
    pub fn write_tree(&self, name: &str, tree: &Tree) -> Result<()> {
        let mut text = Vec::new();
        text::write_tree(tree, &mut text, text::Dialect::Stockade).on("write", self.shown(name))?;
        self.write(name, &text)
    }

    /// Opens the directory `name` in the state, made 0700 if it is missing.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn subdir(&self, name: &str) -> Result<Dir> {
        private_dir(&self.dir, name.as_bytes(), &self.path.join(name))
    }

    fn shown(&self, name: &str) -> Vec<u8> {
        bytes(&self.path.join(name)).to_vec()
    }
}

/// The register of all chroots, for `list`: one file each, holding the root's path.
pub(crate) mod register {
    use super::{Home, IoContext, Place, Result, STATE, bytes, escape_name, private_dir};
    use std::ffi::OsString;
    use std::io::Write;
    use std::os::unix::ffi::OsStringExt;

    /// Opens the register, which is made if it is missing.
    fn open(home: &Home) -> Result<crate::sys::Dir> {
        let state = private_dir(&home.open()?, STATE.as_bytes(), &home.path.join(STATE))?;
        private_dir(&state, b"roots", &home.path.join(STATE).join("roots"))
    }

    pub(crate) fn add(home: &Home, place: &Place) -> Result<()> {
        let roots = open(home)?;
        let name = escape_name(&place.root);
        let shown = bytes(&place.root);
        match roots.create_file(&name, 0o600) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            file => file.and_then(|mut f| f.write_all(shown)).on("register", shown),
        }
    }

    pub(crate) fn remove(home: &Home, place: &Place) -> Result<()> {
        match open(home)?.unlink(&escape_name(&place.root)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.on("unregister", bytes(&place.root)),
        }
    }

    /// The roots' paths, sorted.
    pub(crate) fn all(home: &Home) -> Result<Vec<OsString>> {
        let shown = home.path.join(STATE).join("roots");
        let mut out = Vec::new();
        if !shown.exists() {
            return Ok(out);
        }
        let roots = open(home)?;
        for entry in roots.entries().on("readdir", bytes(&shown))? {
            let file = roots.open_file(&entry.name).on("open", &entry.name)?;
            let mut path = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 16), &mut path).on("read", &entry.name)?;
            out.push(OsString::from_vec(path));
        }
        out.sort();
        Ok(out)
    }
}
