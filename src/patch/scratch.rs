// SPDX-License-Identifier: ISC
//! Files that are being made: [`New`], which gets its name when it is whole, and [`Scratch`], which never has one.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, IoContext, Result};

/// A file beside the one that it becomes. Nobody else reads it before; if it is dropped it is gone.
#[derive(Debug)]
pub struct New {
    file: File,
    made: PathBuf,
    becomes: PathBuf,
}

impl New {
    /// Makes a file that will be `becomes`, with these mode bits but for those of the umask.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if what it would replace is no file: a device, say; as open(2).
    pub fn create(becomes: &Path, mode: u32) -> Result<New> {
        let replaced = fs::symlink_metadata(becomes).map(|found| found.file_type());
        if replaced.is_ok_and(|kind| !kind.is_file() && !kind.is_symlink()) {
            return Err(Error::new(ErrorKind::Refused, "what is there is no file").at(bytes(becomes)));
        }
        let mut number = 0;
        loop {
            let made = beside(becomes, number);
            match OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&made) {
                Ok(file) => return Ok(New { file, made, becomes: becomes.to_owned() }),
                // Another of this process's, or what a killed one left.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(error).on("create", bytes(&made)),
            }
        }
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name, in place of what had it, and sees to it that it stays so if the power fails.
    ///
    /// # Errors
    /// As fsync(2) and rename(2).
    pub fn commit(self) -> Result<()> {
        name(&self.file, &self.made, &self.becomes)
    }

    /// As [`New::commit`], but what has the name already stays.
    ///
    /// # Errors
    /// As fsync(2) and link(2): the name is taken.
    pub fn commit_new(self) -> Result<()> {
        self.file.sync_all().on("fsync", bytes(&self.made))?;
        fs::hard_link(&self.made, &self.becomes).on("create", bytes(&self.becomes))?;
        sync_directory(&self.becomes)
    }
}

/// Gives a file that is whole its name, in place of what had it, and sees to it that it stays so if the power fails.
///
/// # Errors
/// As fsync(2) and rename(2).
pub(super) fn name(file: &File, made: &Path, becomes: &Path) -> Result<()> {
    file.sync_all().on("fsync", bytes(made))?;
    fs::rename(made, becomes).on("rename", bytes(becomes))?;
    sync_directory(becomes)
}

impl Drop for New {
    fn drop(&mut self) {
        // After a rename it is not there. Otherwise nothing more can be done about it.
        let _ = fs::remove_file(&self.made);
    }
}

/// A file without a name, for what does not fit into memory.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    end: u64,
}

impl Scratch {
    /// Makes one on the filesystem of `file`.
    ///
    /// # Errors
    /// As open(2).
    pub fn beside(file: &Path) -> Result<Scratch> {
        let new = New::create(file, 0o600)?;
        let file = new.file.try_clone().on("dup", bytes(&new.made))?;
        Ok(Scratch { file, end: 0 })
    }

    /// Appends all of `from`; where it is then.
    ///
    /// # Errors
    /// As read(2) and write(2).
    pub fn add(&mut self, from: &mut dyn Read) -> io::Result<Range<u64>> {
        let start = self.end;
        self.end += io::copy(from, &mut &self.file)?;
        Ok(start..self.end)
    }

    /// Reads what was added.
    pub fn read(&self, range: Range<u64>) -> impl Read + '_ {
        Part { file: &self.file, range }
    }

    /// The file, at its beginning.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn rewound(mut self) -> io::Result<File> {
        io::Seek::rewind(&mut self.file)?;
        Ok(self.file)
    }
}

impl Write for Scratch {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let length = self.file.write(from)?;
        self.end += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Part<'a> {
    file: &'a File,
    range: Range<u64>,
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let room = left.min(out.len());
        let length = self.file.read_at(&mut out[..room], self.range.start)?;
        self.range.start += length as u64;
        Ok(length)
    }
}

fn beside(file: &Path, number: u32) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}-{number}", std::process::id()))
}

fn sync_directory(file: &Path) -> Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).on("fsync", bytes(parent))
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a");
        let write = |text: &[u8]| {
            let mut new = New::create(&path, 0o644).unwrap();
            new.file().write_all(text).unwrap();
            new
        };
        drop(write(b"dropped"));
        assert!(!path.exists());
        write(b"one").commit_new().unwrap();
        assert!(write(b"two").commit_new().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(b"three").commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let mut scratch = Scratch::beside(&path).unwrap();
        let first = scratch.add(&mut &b"first"[..]).unwrap();
        let second = scratch.add(&mut &b"second"[..]).unwrap();
        let text = |range| io::read_to_string(scratch.read(range)).unwrap();
        assert_eq!((text(second), text(first)), ("second".to_owned(), "first".to_owned()));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
