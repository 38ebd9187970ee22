// SPDX-License-Identifier: ISC
//! Locks: flock(2) on files; the text in them only names the holder (decision E13).
//!
//! Only the holder may remove a lock file. Whoever waited for it then holds the lock of nothing: ask
//! [`Held::is_called`].

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::Dir;
use crate::path::escape;

/// A lock file.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Its holder writes who it is; not where nobody can.
    writable: bool,
}

/// A lock that is held until it is dropped, or until the process ends however it ends.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Is its file the one that is called `name` in `dir` now?
    ///
    /// # Errors
    /// As fstatat(2).
    pub fn is_called(&self, name: &[u8], dir: &Dir) -> io::Result<bool> {
        let mine = dir.stat_file(&self.0)?;
        Ok(dir.find(name)?.is_some_and(|found| (found.dev, found.ino) == (mine.dev, mine.ino)))
    }
}

impl Held {
    /// The same lock once more: it is held until both are dropped.
    ///
    /// # Errors
    /// As dup(2).
    pub fn try_clone(&self) -> io::Result<Held> {
        self.0.try_clone().map(Held)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the lock that other programs take on `file` by fcntl(2), as dpkg(1) does on its own; none if somebody has it.
/// It is held until the process closes any descriptor of that file.
///
/// # Errors
/// As fcntl(2).
pub fn take_record_lock(file: File) -> io::Result<Option<Held>> {
    use rustix::fs::FlockOperation::NonBlockingLockExclusive;
    use rustix::io::Errno;
    match rustix::fs::fcntl_lock(&file, NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Held(file))),
        Err(Errno::ACCESS | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Lock {
    /// Opens the lock file `name` in `state`.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open(state: &Dir, name: &[u8]) -> io::Result<Lock> {
        Ok(Lock { file: state.open_or_create(name, 0o600)?, writable: true })
    }

    /// Opens the lock file `name` in `state`, which must exist.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open_existing(state: &Dir, name: &[u8]) -> io::Result<Lock> {
        Ok(Lock { file: state.open_file(name)?, writable: false })
    }

    /// Takes it alone if nobody has it, without a word in it.
    ///
    /// # Errors
    /// As flock(2).
    pub fn try_hold(self) -> io::Result<Option<Held>> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(Held(self.file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Who wrote its name into the lock last; escaped, because root inside a session could reach the file.
    pub fn holder(&mut self) -> String {
        let mut text = String::new();
        let read = self.file.rewind().and_then(|()| (&mut self.file).take(400).read_to_string(&mut text));
        if read.is_ok() { escape(text.trim().as_bytes()) } else { String::new() }
    }

    /// Takes it shared or alone; `wait` or give it back at once. `me` is written for others to read.
    ///
    /// # Errors
    /// The lock itself, inside `Ok(Err(_))`, if another process holds it; else as flock(2).
    pub fn take(mut self, shared: bool, wait: bool, me: &str) -> io::Result<Result<Held, Lock>> {
        match (shared, wait) {
            (true, true) => self.file.lock_shared()?,
            (false, true) => self.file.lock()?,
            (shared, false) => {
                let tried = if shared { self.file.try_lock_shared() } else { self.file.try_lock() };
                match tried {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Ok(Err(self)),
                    Err(TryLockError::Error(e)) => return Err(e),
                }
            }
        }
        if self.writable {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(me.as_bytes())?;
        }
        Ok(Ok(Held(self.file)))
    }
}
