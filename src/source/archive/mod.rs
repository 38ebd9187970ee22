// SPDX-License-Identifier: ISC
//! Archives as sources: tar in its dialects, plain or compressed, and .deb.
//!
//! Pure but for reading the one file: bodies go to a visitor, never to a path, so nothing that an archive says can
//! reach the disk from here. Decoding runs on a thread of its own beside the parsing:
//! [`decode`] (compression, [`gzip`], [`deb`]) feeds [`pipe`], from which [`tar`] reads entries ([`header`], [`pax`], [`sparse`],
//! [`acl`]); [`names`] keeps what each path is in the end.
#![forbid(unsafe_code)]

mod acl;
mod deb;
mod decode;
mod gzip;
mod header;
mod names;
mod pax;
mod pipe;
mod sparse;
mod tar;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, Read};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{MAX_PATH, TreePath};
use crate::tree::{Digest, Kind, Node};
use crate::watch::Watch;

pub use gzip::Gunzip;
pub use pipe::{Piece, Pipe, read_ahead};

use decode::Stored;
use names::Names;
use tar::{Content, Entries, Entry};

/// Bodies up to this many bytes are handed over whole.
pub const SMALL: u64 = 1024 * 1024;

/// What an archive may ask of us at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries.
    pub entries: u32,
    /// Bytes of one path or link target.
    pub path: usize,
    /// Bytes of the extended header of one entry.
    pub header: usize,
    /// Bytes of one extended attribute (Linux takes no more than the default).
    pub xattr: usize,
    /// Data ranges of one sparse file.
    pub extents: usize,
    /// Bytes of all files together, holes included, and bytes of the unpacked stream.
    pub unpacked: u64,
    /// Unpacked bytes for each stored byte; counts only above `floor`.
    pub ratio: u64,
    /// Unpacked bytes below which `ratio` does not count.
    pub floor: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 4_000_000,
            path: MAX_PATH,
            header: 4 << 20,
            xattr: 64 << 10,
            extents: 1 << 18,
            unpacked: 1 << 40,
            ratio: 200,
            floor: 1 << 30,
        }
    }
}

/// The content of a regular file.
pub enum Body<'a> {
    /// All of it.
    Small(Vec<u8>),
    /// To be read now; what is left unread is skipped.
    Stream {
        /// The bytes; with a `map` only those of its ranges, back to back.
        reader: &'a mut dyn Read,
        /// Offset and length of the ranges that hold data, ascending, if the archive keeps the file sparse; the rest
        /// up to the file's size is holes.
        map: Option<Vec<(u64, u64)>>,
    },
}

impl<'a> Body<'a> {
    /// Reads the whole content, which is of `size` bytes, holes and all.
    pub fn whole(self, size: u64) -> Box<dyn Read + 'a> {
        match self {
            Body::Small(bytes) => Box::new(std::io::Cursor::new(bytes)),
            Body::Stream { reader, map: None } => Box::new(reader),
            Body::Stream { reader, map: Some(map) } => {
                Box::new(sparse::Expanded { data: reader, map: map.into_iter(), at: 0, size })
            }
        }
    }
}

/// Gets a running number, the node (size known, digest not) and the body of each regular file in archive order.
pub type Visit<'a> = dyn FnMut(u32, &Node, Body<'_>) -> Result<()> + 'a;

/// What an archive holds.
#[derive(Debug)]
pub struct Contents {
    /// Each path once, sorted; of several entries for a path the last counts. A regular file has the number that
    /// [`Visit`] got with its body; hard links share number and group.
    pub nodes: Vec<(Node, Option<u32>)>,
    /// SHA-256 of the archive as it is stored; only [`Archive::hashed`] gives one.
    pub digest: Option<Digest>,
}

/// An archive, not yet read.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: Arc<str>,
    limits: Limits,
    hashed: bool,
}

impl Archive {
    /// Takes `file`, which errors and origins call `name`, as an archive.
    ///
    /// # Errors
    /// If it is not a regular file, is empty, or is of a known format that is not supported.
    pub fn open(file: File, name: &str, limits: Limits) -> Result<Archive> {
        let metadata = file.metadata().on("stat", name)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Refused, "an archive must be a regular file").at(name));
        }
        let mut stored = Stored::new(&file, false);
        decode::sniff(stored.fill_buf().on("read", name)?).map_err(|e| e.at(name))?;
        Ok(Archive { file, name: name.into(), limits, hashed: false })
    }

    /// Hashes the stored bytes on the way: as much work as hashing the contents, so only for who has a checksum to
    /// compare.
    #[must_use]
    pub fn hashed(self) -> Archive {
        Archive { hashed: true, ..self }
    }

    /// Stored bytes.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn stored(&self) -> Result<u64> {
        Ok(self.file.metadata().on("stat", &*self.name)?.len())
    }

    /// Reads the whole archive, giving the body of every regular file to `visit`. Counts entries and stored bytes.
    ///
    /// # Errors
    /// Naming the archive and the entry, for anything but an unbroken archive within the limits whose names stay inside
    /// the tree; errors of `visit` as they are.
    pub fn read(&self, visit: &mut Visit<'_>, watch: &Watch) -> Result<Contents> {
        std::thread::scope(|scope| {
            let (sink, pipe) = pipe::pair();
            let decoder = scope.spawn(|| decode::run(Stored::new(&self.file, self.hashed), &self.limits, watch, sink));
            let nodes = self.entries(pipe, visit, watch);
            let ended = decoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let unread = || Error::new(ErrorKind::BadInput, "data after the end of the archive").at(&*self.name);
            Ok(Contents { nodes: nodes?, digest: ended.ok_or_else(unread)? })
        })
    }

    fn entries(&self, pipe: Pipe, visit: &mut Visit<'_>, watch: &Watch) -> Result<Vec<(Node, Option<u32>)>> {
        let mut entries = Entries::new(pipe, &self.limits);
        let mut names = Names::default();
        let (mut files, mut count) = (0, 0);
        while let Some(entry) = entries.next().map_err(|e| self.blame(None, e))? {
            watch.count(1, 0)?;
            count += 1;
            if count > self.limits.entries {
                let reason = format!("more than {} entries", self.limits.entries);
                return Err(Error::new(ErrorKind::Refused, reason).at(&*self.name));
            }
            self.take(entry, &mut entries, &mut names, &mut files, visit)?;
        }
        Ok(names.finish(&self.name))
    }

    /// Files one entry under its name and, for a regular file, has its body visited.
    fn take(
        &self,
        entry: Entry,
        entries: &mut Entries<'_>,
        names: &mut Names,
        files: &mut u32,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let Entry { path, meta, content } = entry;
        let said = path.clone();
        let blame = |e| self.blame(Some(&said), e);
        match content {
            Content::Link(target) => names.link(path, &target).map_err(blame),
            Content::Plain(kind) => names.put(Node::new(path, meta, kind), None).map_err(blame),
            Content::File { size, stored, map } => {
                let node = Node::new(path, meta, Kind::File { size, digest: None });
                names.put(node.clone(), Some(*files)).map_err(blame)?;
                let visited = entries.body(stored, map, |body| visit(*files, &node, body));
                *files += 1;
                visited.map_err(blame)
            }
        }
    }

    /// Names archive and entry in an error that names nothing yet.
    fn blame(&self, entry: Option<&TreePath>, error: Error) -> Error {
        if error.path().is_some() || error.kind() == ErrorKind::Cancelled {
            return error;
        }
        let reason = match entry {
            Some(entry) => format!("{entry}: {}", error.reason()),
            None => error.reason().to_owned(),
        };
        let made = Error::new(error.kind(), reason).at(&*self.name);
        match error.advice() {
            Some(advice) => made.hint(advice),
            None => made,
        }
    }
}

/// The archive breaks its format or a limit of ours.
fn bad(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}

/// The archive is well formed and asks for something that we do not do.
fn refused(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Refused, reason)
}
