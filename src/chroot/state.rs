// SPDX-License-Identifier: ISC
//! The state directory of a chroot: recipe, manifest, lock, journal and work space, out of reach of what runs inside.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::numbers;
use super::place::{Home, Place, STATE, bytes, private_dir};
use super::recorded::RENAMING;
use crate::apply;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{Dir, Held, Lock};
use crate::tree::{Tree, text};
use crate::watch::Watch;

/// The lock of a chroot.
const LOCK: &[u8] = b"lock";

/// State files are ours; still, none is read beyond this size.
const MAX_STATE: u64 = 1 << 32;

/// The open state directory of one chroot.
#[derive(Debug)]
pub struct State {
    /// The directory.
    pub dir: Dir,
    /// Its path, for messages.
    pub path: PathBuf,
    /// What is written to it is made durable.
    pub lasting: bool,
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
        Ok(State { dir: private_dir(&all_dir, name, &place.state)?, path: place.state.clone(), lasting: true })
    }

    /// Takes the chroot's lock; `verb` is written into it for others to read.
    ///
    /// Only the holder moves a state directory or removes its lock file ([`State::vacate`]). So who holds the file that
    /// is called `lock` in the directory that bears the state's name is alone with it, and stays so.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] naming the holder, if it is taken and `wait` is false; [`ErrorKind::NotFound`] if the state
    /// was removed or moved while the lock was waited for.
    pub fn lock(&self, shared: bool, wait: bool, verb: &str) -> Result<Held> {
        let meanwhile = || {
            let error = Error::new(ErrorKind::NotFound, "it was removed or renamed meanwhile");
            error.hint("run the command again if it is still wanted")
        };
        let opened = match Lock::open(&self.dir, LOCK) {
            // Who changes nothing needs nothing that can be written.
            Err(e) if shared && e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                Lock::open_existing(&self.dir, LOCK)
            }
            opened => opened,
        };
        let mut lock = match opened {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(meanwhile()),
            lock => lock.on("open", self.shown("lock"))?,
        };
        let me = format!("stockade {verb}, process {}\n", std::process::id());
        let holder = lock.holder();
        match lock.take(shared, wait, &me).on("flock", self.shown("lock"))? {
            Ok(held) if self.is_held_by(&held).on("stat", self.shown("lock"))? => {
                numbers::must_be_ours(self).map(|()| held)
            }
            Ok(_) => Err(meanwhile()),
            Err(_) => {
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                Err(Error::new(ErrorKind::Locked, format!("in use by {holder}"))
                    .hint("wait for it to end, or leave out --no-wait"))
            }
        }
    }

    fn is_held_by(&self, held: &Held) -> std::io::Result<bool> {
        let named = match Dir::open(&self.path, self.dir.calls()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            named => named?.stat_self()?,
        };
        let mine = self.dir.stat_self()?;
        Ok((named.dev, named.ino) == (mine.dev, mine.ino) && held.is_called(LOCK, &self.dir)?)
    }

    /// Removes all that is in the state but its lock and `names`. Needs the lock, alone.
    ///
    /// # Errors
    /// As readdir(3), unlink(2).
    pub fn clear_but(&self, names: &[&str]) -> Result<()> {
        for entry in self.dir.entries().on("readdir", bytes(&self.path))? {
            if *entry.name != *LOCK && !names.iter().any(|name| name.as_bytes() == &*entry.name) {
                apply::remove_tree(&self.dir, &entry.name, &Watch::default())?;
            }
        }
        Ok(())
    }

    /// Removes the directory with its lock, if nothing else is in it. Needs the lock, alone; whoever waits for it is
    /// told that the state is gone.
    ///
    /// # Errors
    /// As unlink(2), rmdir(2).
    pub fn vacate(&self) -> Result<()> {
        let name = self.path.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or_default();
        let all = self.path.parent().unwrap_or(Path::new("/"));
        let all = Dir::open(all, self.dir.calls()).on("open", bytes(all))?;
        self.discard("lock")?;
        match all.remove_dir(name) {
            // Somebody made a lock of his own in that moment: the directory is his.
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
            done => done.on("rmdir", bytes(&self.path)),
        }
    }

    /// The text of the state file `name`; none if there is none.
    ///
    /// # Errors
    /// As open(2), read(2).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let length = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_STATE);
        let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(MAX_STATE).read_to_end(&mut text).on("read", self.shown(name))?;
        Ok(Some(text))
    }

    /// Replaces the state file `name` atomically and durably; nothing is written if it holds just this already.
    ///
    /// # Errors
    /// As write(2), fsync(2), rename(2).
    pub fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        if self.holds(name, text)? {
            return Ok(());
        }
        self.write_all(&[(name, text)])
    }

    /// Replaces each of the state files atomically; durable once all are written.
    ///
    /// # Errors
    /// As [`State::write`].
    pub fn write_all(&self, files: &[(&str, &[u8])]) -> Result<()> {
        files.iter().try_for_each(|(name, text)| self.put(name, text))?;
        self.sync()
    }

    /// Makes the names in it durable, if they are to last.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn sync(&self) -> Result<()> {
        if self.lasting { self.dir.sync().on("fsync", bytes(&self.path)) } else { Ok(()) }
    }

    fn put(&self, name: &str, text: &[u8]) -> Result<()> {
        let new = format!("{name}.new");
        self.discard(&new)?;
        let mut file = self.dir.create_file(new.as_bytes(), 0o600).on("create", self.shown(&new))?;
        file.write_all(text).on("write", self.shown(&new))?;
        if self.lasting {
            file.sync_all().on("fsync", self.shown(&new))?;
        }
        self.dir.rename(new.as_bytes(), &self.dir, name.as_bytes()).on("rename", self.shown(name))
    }

    /// Is this the text of the state file `name` already?
    fn holds(&self, name: &str, text: &[u8]) -> Result<bool> {
        let Some(mut file) = self.open_file(name)? else { return Ok(false) };
        let (mut rest, mut buffer) = (text, vec![0; 1 << 16]);
        loop {
            let length = file.read(&mut buffer).on("read", self.shown(name))?;
            match rest.strip_prefix(&buffer[..length]) {
                Some(left) if length > 0 => rest = left,
                left => return Ok(left.is_some_and(<[u8]>::is_empty)),
            }
        }
    }

    fn open_file(&self, name: &str) -> Result<Option<std::fs::File>> {
        match self.dir.open_file(name.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).on("open", self.shown(name)),
        }
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
    pub fn has_journal(&self) -> bool {
        apply::JOURNALS.iter().any(|name| !matches!(self.dir.find(name), Ok(None)))
    }

    /// Has an earlier command to be finished or taken back before the chroot is used?
    pub fn is_interrupted(&self) -> bool {
        self.has_journal() || !matches!(self.dir.find(RENAMING.as_bytes()), Ok(None))
    }

    /// The tree recorded under `name`; none if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] with the line, if the manifest is damaged.
    pub fn read_tree(&self, name: &str) -> Result<Option<Tree>> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        text::read_tree(&text).map(Some).map_err(|e| e.at(self.shown(name)))
    }

    /// How many entries the manifest has; what it says of them is not looked at.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn entries(&self) -> Result<usize> {
        let text = self.read("manifest")?.unwrap_or_default();
        // A line each, after the two of the head.
        Ok(text.iter().filter(|&&b| b == b'\n').count().saturating_sub(2))
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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sys::Calls;

    fn world() -> (tempfile::TempDir, Home, Place) {
        let temp = tempfile::tempdir().unwrap();
        let home = Home { path: temp.path().join("home"), calls: Calls::from_env() };
        let place = Place::find(&home, OsStr::new("b0")).unwrap();
        (temp, home, place)
    }

    fn taken(home: &Home, place: &Place) -> Result<()> {
        State::create(home, place)?.lock(false, false, "build").map(drop)
    }

    /// Whoever opened the state before it was removed, moved or made anew does not get its lock.
    #[test]
    fn the_lock_of_what_is_gone_is_not_given_out() {
        type Change = fn(&State, &Home, &Place) -> Result<()>;
        let changes: [Change; 5] = [
            |state, _, _| state.vacate(),
            |state, home, place| state.vacate().and_then(|()| State::create(home, place)).map(drop),
            |state, home, place| state.vacate().and_then(|()| taken(home, place)),
            |state, _, _| std::fs::rename(&state.path, state.path.with_file_name("b1")).on("rename", "b0"),
            // In the middle of `vacate` another makes a lock there: the directory is his.
            |state, home, place| {
                state.discard("lock")?;
                taken(home, place)?;
                std::fs::remove_dir(&state.path).expect_err("it is not empty");
                Ok(())
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (_temp, home, place) = world();
            let state = State::create(&home, &place).unwrap();
            let held = state.lock(false, false, "remove").unwrap();
            let waiting = State::create(&home, &place).unwrap();
            let lock = Lock::open(&waiting.dir, LOCK).unwrap();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| lock.take(false, true, "waiter").unwrap().unwrap());
                change(&state, &home, &place).unwrap();
                drop(held);
                let got = waiter.join().unwrap();
                assert!(!waiting.is_held_by(&got).unwrap(), "{number}");
            });
            assert_eq!(waiting.lock(false, false, "build").is_ok(), number == 4, "{number}");
            State::create(&home, &place).unwrap().lock(false, false, "build").unwrap();
        }
    }

    /// Many at once make, use and remove one state: at any time one of them is in it, and what he wrote is there.
    #[test]
    fn only_one_is_in_a_state_at_a_time() {
        let (_temp, home, place) = world();
        let (inside, entered, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let worker = |me: usize| {
            for round in 0..150 {
                let state = match State::create(&home, &place) {
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    state => state.unwrap(),
                };
                let _held = match state.lock(false, round % 2 == 0, "test") {
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Locked) => {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    held => held.unwrap(),
                };
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are in it");
                std::fs::write(place.state.join("mine"), me.to_string()).unwrap();
                std::thread::yield_now();
                assert_eq!(std::fs::read_to_string(place.state.join("mine")).unwrap(), me.to_string());
                if (round + me).is_multiple_of(3) {
                    state.clear_but(&[]).unwrap();
                    // The last that is done before others may come in.
                    inside.fetch_sub(1, Ordering::SeqCst);
                    state.vacate().unwrap();
                } else {
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
                entered.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|me| drop(scope.spawn(move || worker(me))));
        });
        assert!(entered.into_inner() > 100 && turned_away.into_inner() > 0);
    }
}
