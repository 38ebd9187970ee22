// SPDX-License-Identifier: ISC
//! Writing the archive of a patch.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::{Member, What, manifest, members, private};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::contents::Contents;
use crate::patch::tar::{END, padding};
use crate::tree::Digest;
use crate::watch::Watch;

/// gzip's own default: a little larger than the best, in a third of the time.
pub(in crate::patch) const LEVEL: u32 = 6;

/// Gives the body of a member.
pub type Source<'a> = dyn FnMut(&Member) -> Result<Box<dyn Read + 'a>> + 'a;

/// Writes a patch, not signed, to `out`, which errors call `shown`. `source` is asked for each member that has a body, in their order. The same
/// manifest and bodies give the same bytes.
///
/// # Errors
/// [`ErrorKind::Unverified`] for a body that is not what the manifest says; errors of `source`; as write(2).
pub fn write_bundle(
    contents: &Contents,
    source: &mut Source<'_>,
    (out, shown): (impl Write, &[u8]),
    watch: &Watch,
) -> Result<()> {
    let members = members(contents)?;
    watch.begin("packing", members.iter().map(|member| member.size).sum());
    let mut gzip = GzEncoder::new(out, Compression::new(LEVEL));
    let mut buffer = vec![0; 128 * 1024];
    let written = |done: io::Result<()>| done.on("write", shown);
    let text = contents.text();
    let path = manifest(&contents.head.name)?;
    written(gzip.write_all(&private(&path, 0o644, text.len() as u64, contents.head.date).blocks()))?;
    written(gzip.write_all(&text))?;
    written(gzip.write_all(&END[..padding(text.len() as u64)]))?;
    for member in &members {
        written(gzip.write_all(&member.header(contents)))?;
        if member.what != What::Bare {
            let mut packer = Packer { contents, gzip: (&mut gzip, shown), buffer: &mut buffer, watch };
            packer.copy(member, &mut *source(member)?)?;
        }
    }
    written(gzip.write_all(&END))?;
    written(gzip.finish().and_then(|mut out| out.flush()))
}

/// What packs one body after the other.
struct Packer<'a, W: Write> {
    contents: &'a Contents,
    gzip: (&'a mut W, &'a [u8]),
    buffer: &'a mut [u8],
    watch: &'a Watch,
}

impl<W: Write> Packer<'_, W> {
    fn copy(&mut self, member: &Member, from: &mut dyn Read) -> Result<()> {
        let Packer { contents, gzip, buffer, watch } = self;
        let (gzip, shown) = (&mut *gzip.0, gzip.1);
        let path = &contents.entries[member.entry].change.path;
        let (mut hash, mut left) = (Sha256::new(), member.size);
        let changed = || Error::new(ErrorKind::Unverified, "its content is not what the manifest says").at(path);
        loop {
            let length = from.read(buffer).on("read", path)?;
            if length == 0 {
                break;
            }
            left = left.checked_sub(length as u64).ok_or_else(changed)?;
            hash.update(&buffer[..length]);
            gzip.write_all(&buffer[..length]).on("write", shown)?;
            watch.count(0, length as u64)?;
        }
        let digest = Digest(hash.finalize().into());
        if left > 0 || member.digest(contents).is_some_and(|expected| expected != digest) {
            return Err(changed());
        }
        gzip.write_all(&END[..padding(member.size)]).on("write", shown)
    }
}
