// SPDX-License-Identifier: ISC
//! The stream of entries. Where readers of tar differ from each other, an archive could hide entries from one of them:
//! there we take the strict side and refuse.
#![forbid(unsafe_code)]

use super::header::{self, BLOCK, Dialect, Header};
use super::pax::{self, Extended};
use super::pipe::{Piece, Pipe, cut_short};
use super::sparse::{self, Extent, Sparse};
use super::{Body, Limits, SMALL, acl, bad, refused};
use crate::error::{Error, Result};
use crate::path::{TreePath, escape};
use crate::tree::{Kind, Meta, Time};

/// One entry, its names checked.
pub(super) struct Entry {
    pub(super) path: TreePath,
    pub(super) meta: Meta,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// A regular file; `size` bytes with its holes, `stored` bytes in the archive, to be passed to [`Entries::body`].
    File { size: u64, stored: u64, map: Option<Vec<Extent>> },
    /// Another name of what the path names.
    Link(TreePath),
    /// Anything else.
    Plain(Kind),
}

pub(super) struct Entries<'a> {
    pipe: Pipe,
    limits: &'a Limits,
    /// Bytes of all files so far, holes included.
    bytes: u64,
}

/// What comes before an entry and belongs to it.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Extended>,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_none()
    }
}

impl<'a> Entries<'a> {
    pub(super) fn new(pipe: Pipe, limits: &'a Limits) -> Entries<'a> {
        Entries { pipe, limits, bytes: 0 }
    }

    /// The next entry; none at the end of the archive, after which there is nothing but zeros.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut ahead = Ahead::default();
        loop {
            let Some(header) = self.header()? else {
                if !ahead.is_empty() {
                    return Err(bad("the archive ends with an extended header that belongs to no entry"));
                }
                return Ok(None);
            };
            match header.flag() {
                flag @ (b'x' | b'g' | b'L' | b'K') => self.extension(flag, &header, &mut ahead)?,
                _ => return self.entry(&header, ahead).map(Some),
            }
        }
    }

    /// Reads a header block; none at the end mark.
    fn header(&mut self) -> Result<Option<Header>> {
        let position = self.pipe.position();
        let mut header = Header([0; BLOCK]);
        match self.pipe.fill(&mut header.0)? {
            BLOCK => {}
            0 if position > 0 => return Err(bad("the archive is cut short: it has no end mark")),
            _ => return Err(cut_short()),
        }
        if header.is_zero() {
            // Readers differ on what follows a single zero block; nothing may.
            return match self.pipe.zeros_to_end()? {
                true => Ok(None),
                false => Err(bad("data after the end of the archive")),
            };
        }
        if !header.holds() {
            return Err(match position {
                0 => bad("not a tar archive, neither plain nor in gzip, xz or zstd"),
                _ => bad(format!("bad checksum of the header at byte {position}")),
            });
        }
        Ok(Some(header))
    }

    /// Reads what describes the next entry, or all.
    fn extension(&mut self, flag: u8, header: &Header, ahead: &mut Ahead) -> Result<()> {
        if header.dialect() == Dialect::V7 {
            return Err(refused(format!("extension {} in an archive older than extensions", char::from(flag))));
        }
        let size: u64 = header.number(&header::SIZE)?;
        let length = usize::try_from(size).ok().filter(|&n| n <= self.limits.header);
        let Some(length) = length else {
            return Err(bad(format!("an extended header of {size} bytes, more than {}", self.limits.header)));
        };
        let mut data = self.pipe.take(length)?;
        self.pipe.skip(padding(size))?;
        let before = match flag {
            b'g' => return pax::check_global(&data),
            b'x' => {
                ahead.pax.replace(pax::parse(&data, self.limits).map_err(|e| said_of(&header.name(), e))?).is_some()
            }
            _ => {
                data.truncate(data.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
                let slot = if flag == b'L' { &mut ahead.name } else { &mut ahead.link };
                slot.replace(data).is_some()
            }
        };
        match before {
            true => Err(refused(format!("two extensions {} for one entry", char::from(flag)))),
            false => Ok(()),
        }
    }

    fn entry(&mut self, header: &Header, ahead: Ahead) -> Result<Entry> {
        let mut pax = ahead.pax.unwrap_or_default();
        let name = pax.sparse.name.take().or(pax.path.take()).or(ahead.name).unwrap_or_else(|| header.name());
        let link = pax.link.take().or(ahead.link).unwrap_or_else(|| header.link().to_vec());
        self.describe(header, &name, link, pax).map_err(|e| said_of(&name, e))
    }

    fn describe(&mut self, header: &Header, name: &[u8], link: Vec<u8>, pax: Extended) -> Result<Entry> {
        let path = self.path(name)?;
        let flag = match header.flag() {
            b'\0' | b'0' | b'7' if name.ends_with(b"/") => b'5', // as before POSIX, and as all readers take it
            flag => flag,
        };
        let size = match pax.size {
            Some(size) => size,
            None => header.number(&header::SIZE)?,
        };
        if size != 0 && !matches!(flag, b'\0' | b'0' | b'7' | b'S') {
            return Err(refused("it has a body and is no file")); // some readers skip it, some take it for entries
        }
        let mut meta = meta(header, &pax)?;
        let device = |field, pax: Option<u32>| pax.map_or_else(|| header.number(field), Ok);
        let content = match flag {
            b'\0' | b'0' | b'7' | b'S' => self.file(header, size, pax.sparse)?,
            b'1' => Content::Link(self.path(&link).map_err(|e| bad(format!("hard link to {}", said_of(&link, e))))?),
            b'2' => {
                meta.mode = 0o777;
                Content::Plain(Kind::Symlink(self.target(link)?))
            }
            b'3' => Content::Plain(Kind::Char(device(&header::MAJOR, pax.major)?, device(&header::MINOR, pax.minor)?)),
            b'4' => Content::Plain(Kind::Block(device(&header::MAJOR, pax.major)?, device(&header::MINOR, pax.minor)?)),
            b'5' => Content::Plain(Kind::Dir),
            b'6' => Content::Plain(Kind::Fifo),
            other => return Err(refused(format!("entry of an unknown type {:?}", char::from(other)))),
        };
        Ok(Entry { path, meta, content })
    }

    fn file(&mut self, header: &Header, mut stored: u64, keys: sparse::Keys) -> Result<Content> {
        let found = match header.flag() {
            b'S' if header.dialect() == Dialect::Gnu => {
                let size = header.number(&header::REAL_SIZE)?;
                Some(sparse::old_gnu(header, size, &mut self.pipe, stored, self.limits)?)
            }
            b'S' => return Err(refused("a sparse file in an archive that is not GNU's")),
            _ => keys.resolve(&mut self.pipe, &mut stored, self.limits)?,
        };
        let (size, map) = match found {
            None => (stored, None),
            Some(Sparse { map, size }) => (size, Some(map)),
        };
        self.bytes = self.bytes.checked_add(size).filter(|&n| n <= self.limits.unpacked).ok_or_else(|| {
            refused(format!("with its {size} bytes the archive unpacks to more than {}", self.limits.unpacked))
        })?;
        Ok(Content::File { size, stored, map })
    }

    /// A name inside the tree. Absolute names are refused rather than cut: nobody could tell which was meant.
    fn path(&self, name: &[u8]) -> Result<TreePath> {
        if name.is_empty() {
            return Err(bad("an empty name"));
        }
        if name.starts_with(b"/") {
            return Err(refused("an absolute name").hint("pack it with relative names"));
        }
        if name.len() > self.limits.path {
            return Err(bad(format!("a name of more than {} bytes", self.limits.path)));
        }
        TreePath::lenient(name).map_err(|e| refused(e.reason().to_owned()))
    }

    fn target(&self, link: Vec<u8>) -> Result<Box<[u8]>> {
        match &link[..] {
            [] => Err(bad("a symbolic link to nothing")),
            link if link.contains(&0) => Err(bad("NUL byte in the target of a symbolic link")),
            link if link.len() > self.limits.path => Err(bad("the target of a symbolic link is too long")),
            _ => Ok(link.into()),
        }
    }

    /// Gives the body of the file that [`Entries::next`] returned last to `visit`, and passes over the rest of it.
    pub(super) fn body(
        &mut self,
        stored: u64,
        map: Option<Vec<Extent>>,
        visit: impl FnOnce(Body<'_>) -> Result<()>,
    ) -> Result<()> {
        if stored <= SMALL && map.is_none() {
            let bytes = self.pipe.take(usize::try_from(stored).unwrap_or_default())?;
            self.pipe.skip(padding(stored))?;
            return visit(Body::Small(bytes));
        }
        let mut piece = Piece { pipe: &mut self.pipe, left: stored };
        let visited = visit(Body::Stream { reader: &mut piece, map });
        let left = piece.left;
        if let Some(failure) = self.pipe.failure() {
            return Err(failure); // what the visitor makes of it is only its echo
        }
        visited?;
        self.pipe.skip(left + padding(stored))
    }
}

/// Owner, mode, time and attributes.
fn meta(header: &Header, pax: &Extended) -> Result<Meta> {
    let id = |field, pax: Option<u32>| match pax.map_or_else(|| header.number(field), Ok)? {
        u32::MAX => Err(bad("an owner or group of -1, which chown(2) takes for \"leave it\"")),
        id => Ok(id),
    };
    let mode: u64 = header.number(&header::MODE)?;
    let mut mode = (mode & 0o7777) as u16; // some writers put the type's bits in too
    if let Some((_, acl)) = pax.xattrs.iter().find(|(name, _)| **name == *b"system.posix_acl_access") {
        // With an access list the group's bits are its mask, but libarchive writes those of the group's own entry.
        let bits = acl::mode_bits(acl).ok_or_else(|| bad("its access list is malformed"))?;
        mode = mode & 0o7000 | bits;
    }
    Ok(Meta {
        mode,
        uid: id(&header::UID, pax.uid)?,
        gid: id(&header::GID, pax.gid)?,
        mtime: match pax.mtime {
            Some(time) => time,
            None => Time { sec: header.number(&header::MTIME)?, nsec: 0 },
        },
        xattrs: (!pax.xattrs.is_empty()).then(|| Box::new(pax.xattrs.clone())),
        flags: 0,
    })
}

/// From the end of a body to the next block.
fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Puts the entry's name before the reason.
fn said_of(name: &[u8], error: Error) -> Error {
    if error.path().is_some() {
        return error;
    }
    let made = Error::new(error.kind(), format!("{}: {}", escape(name), error.reason()));
    match error.advice() {
        Some(advice) => made.hint(advice),
        None => made,
    }
}
