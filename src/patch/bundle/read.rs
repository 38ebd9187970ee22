// SPDX-License-Identifier: ISC
//! Reading the archive of a patch, forward only.
#![forbid(unsafe_code)]

use std::io::{BufRead, Read};

use super::{Member, What, manifest, members, private};
use crate::error::{Error, ErrorKind, Result};
use crate::patch::Keys;
use crate::patch::contents::Contents;
use crate::patch::signed::{Signed, why};
use crate::patch::tar::{BLOCK, END, padding};
use crate::source::archive::{Gunzip, Piece, Pipe, read_ahead};
use crate::watch::Watch;

/// The largest manifest: that of a patch of a million files.
const MAX_MANIFEST: u64 = 512 << 20;
/// How every gzip file begins.
const GZIP: u8 = 0x1f;
/// Where the size stands in a header.
const SIZE: std::ops::Range<usize> = 124..135;

/// Whose patches are taken.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Those that one of these keys signed.
    Keys(&'a Keys),
    /// Anybody's, signed or not. The bodies must still be what the manifest says.
    Anyone,
}

/// A patch that is being read. Its manifest is known; its bodies come next.
pub struct Bundle<'a> {
    /// The manifest.
    pub contents: Contents,
    /// What the key is called that the patch is signed with; none if nobody asked.
    pub key: Option<String>,
    archive: Gunzip<Box<dyn BufRead + Send + 'a>>,
}

impl<'a> Bundle<'a> {
    /// Reads up to the end of the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if it is not signed by whom `trust` names; [`ErrorKind::BadInput`] if it is no patch;
    /// [`ErrorKind::Unsupported`] for a patch of a later format.
    pub fn open(mut input: impl BufRead + Send + 'a, trust: Trust<'_>) -> Result<Bundle<'a>> {
        if input.fill_buf().map_err(why)?.first() != Some(&GZIP) {
            return Err(broken("it is no gzip file"));
        }
        let (input, key): (Box<dyn BufRead + Send + 'a>, _) = match trust {
            Trust::Anyone => (Box::new(input), None),
            Trust::Keys(keys) => {
                let signed = Signed::open(input, keys)?;
                let key = signed.key.clone();
                (Box::new(signed), Some(key))
            }
        };
        let mut archive = Gunzip::new(input);
        let contents = read_manifest(&mut archive)?;
        Ok(Bundle { contents, key, archive })
    }

    /// Reads the rest: `visit` gets each member that has a body, and the body, in order; what it leaves unread is read
    /// and dropped. To the very end: a patch that is cut short, or has more than it should, is found out here.
    ///
    /// # Errors
    /// As [`Bundle::open`]; errors of `visit`.
    pub fn read(
        self,
        visit: &mut dyn FnMut(&Contents, &Member, &mut dyn Read) -> Result<()>,
        watch: &Watch,
    ) -> Result<Contents> {
        // Unpacked on a thread of its own while the bodies before are hashed and written.
        read_ahead(self.archive, why, |rest| read_members(&self.contents, rest, visit, watch))?;
        Ok(self.contents)
    }
}

fn read_members(
    contents: &Contents,
    from: &mut Pipe,
    visit: &mut dyn FnMut(&Contents, &Member, &mut dyn Read) -> Result<()>,
    watch: &Watch,
) -> Result<()> {
    for member in members(contents)? {
        watch.check()?;
        expect(from, &member.header(contents))?;
        if member.what == What::Bare {
            continue;
        }
        let mut body = Piece { pipe: from, left: member.size };
        let visited = visit(contents, &member, &mut body);
        let left = body.left;
        // What the visitor makes of a failure to read is only its echo.
        from.failure().map_or(visited, Err)?;
        from.skip(left)?;
        expect(from, &END[..padding(member.size)])?;
    }
    expect(from, &END)?;
    if from.is_at_end()? { Ok(()) } else { Err(broken("data after the end of the patch")) }
}

fn read_manifest(archive: &mut impl Read) -> Result<Contents> {
    let mut header = [0; BLOCK];
    archive.read_exact(&mut header).map_err(why)?;
    let size = std::str::from_utf8(&header[SIZE]).ok().and_then(|digits| u64::from_str_radix(digits, 8).ok());
    let size = size.filter(|&size| size <= MAX_MANIFEST).ok_or_else(no_patch)?;
    // Not yet known to be a patch: what is no manifest need not be read to its end.
    let mut text = Vec::new();
    archive.take(size).read_to_end(&mut text).map_err(why)?;
    if text.len() as u64 != size {
        return Err(no_patch());
    }
    let contents = Contents::parse(&text)?;
    let path = manifest(&contents.head.name)?;
    if private(&path, 0o644, size, contents.head.date).blocks() != header {
        return Err(no_patch());
    }
    let mut rest = vec![0; padding(size)];
    archive.read_exact(&mut rest).map_err(why)?;
    if rest.iter().all(|&byte| byte == 0) { Ok(contents) } else { Err(no_patch()) }
}

/// Reads what must come next.
fn expect(from: &mut Pipe, bytes: &[u8]) -> Result<()> {
    let found = from.take(bytes.len())?;
    if found == bytes { Ok(()) } else { Err(broken("a member of the archive is not what its manifest says")) }
}

fn no_patch() -> Error {
    broken("it is no patch of stockade").hint("look into it with: tar tzf FILE")
}

fn broken(reason: &'static str) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}
