// SPDX-License-Identifier: ISC
//! Bringing the content of a file to its place: written once, hashed on the way.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, IoContext, Result};
use crate::path::TreePath;
use crate::tree::Digest;
use crate::watch::Watch;

/// How much is read, hashed and written at a time.
const CHUNK: usize = 256 * 1024;
/// Holes are kept in units of this; smaller ones save nothing on any filesystem.
const HOLE: usize = 4096;

/// The content of a file to be staged.
pub enum Body<'a> {
    /// All of it, in memory.
    Bytes(&'a [u8]),
    /// Read to its end.
    Stream(&'a mut dyn Read),
    /// Read to its end; runs of zeros become holes, because the source had some.
    Sparse(&'a mut dyn Read),
    /// An open file, shared with the copy where the filesystem can.
    File(&'a File),
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Body::Bytes(_) => "Bytes",
            Body::Stream(_) => "Stream",
            Body::Sparse(_) => "Sparse",
            Body::File(_) => "File",
        })
    }
}

/// The digest of bytes in memory.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Copies `from` to the empty file `to`. Returns size and digest.
///
/// Stops behind `limit` bytes: the caller then sees a size that it did not expect, and no endless file fills the disk.
pub(super) fn copy(from: &mut dyn Read, to: &File, sparse: bool, job: &Job<'_>) -> Result<(u64, Digest)> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(job.limit).unwrap_or(CHUNK) + 1)];
    let mut hash = Sha256::new();
    let mut at = 0;
    loop {
        let filled = fill(from, &mut buffer).map_err(|error| unwrap(error, job.path))?;
        let chunk = &buffer[..filled];
        hash.update(chunk);
        if sparse {
            write_data(to, chunk, at).on("write", job.path)?;
        } else {
            (&*to).write_all(chunk).on("write", job.path)?;
        }
        at += filled as u64;
        if filled < buffer.len() || at > job.limit {
            break;
        }
        job.watch.check()?;
    }
    if sparse {
        to.set_len(at).on("ftruncate", job.path)?;
    }
    Ok((at, Digest(hash.finalize().into())))
}

/// The digest of what can be read from `from`, and its size.
pub(super) fn hash(from: &mut dyn Read, job: &Job<'_>) -> Result<(u64, Digest)> {
    let mut buffer = vec![0; CHUNK];
    let (mut hash, mut size) = (Sha256::new(), 0);
    loop {
        let filled = fill(from, &mut buffer).map_err(|error| unwrap(error, job.path))?;
        hash.update(&buffer[..filled]);
        size += filled as u64;
        if filled < buffer.len() || size > job.limit {
            return Ok((size, Digest(hash.finalize().into())));
        }
        job.watch.check()?;
    }
}

/// What a copy needs to know besides its ends.
pub(super) struct Job<'a> {
    /// For errors.
    pub(super) path: &'a TreePath,
    /// The size that is expected.
    pub(super) limit: u64,
    pub(super) watch: &'a Watch,
}

/// Reads until the buffer is full or the end has come.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Writes the parts of `chunk` that are not zero.
fn write_data(to: &File, chunk: &[u8], at: u64) -> io::Result<()> {
    let is_hole = |block: &[u8]| block.iter().all(|&b| b == 0);
    let mut start = 0;
    while start < chunk.len() {
        let rest = &chunk[start..];
        let run = |hole: bool| rest.chunks(HOLE).take_while(|b| is_hole(b) == hole).map(<[u8]>::len).sum::<usize>();
        start += run(true);
        let data = &chunk[start..];
        let length = data.chunks(HOLE).take_while(|b| !is_hole(b)).map(<[u8]>::len).sum::<usize>();
        to.write_all_at(&data[..length], at + start as u64)?;
        start += length;
    }
    Ok(())
}

/// Readers of archives hand our own errors through `io::Error`.
fn unwrap(error: io::Error, path: &TreePath) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours.at(path),
        Err(error) => Error::io("read", path, &error),
    }
}
