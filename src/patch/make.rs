// SPDX-License-Identifier: ISC
//! Making a patch file out of its manifest and two trees.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::bundle::LEVEL;
use super::scratch::{New, Scratch};
use super::secrets::holds_key;
use super::{Body, Contents, Entry, Member, Signer, What, delta, sign_gzip, write_bundle};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sign::SecretKey;
use crate::tree::{Digest, Node, relink};
use crate::watch::Watch;

/// Opens the content of a file of a tree.
pub type Open<'a> = dyn Fn(&Node) -> Result<Box<dyn Read + 'a>> + 'a;

/// Where the contents of both trees are.
#[derive(Clone, Copy)]
pub struct Bodies<'a> {
    /// Of what the patch replaces: for differences, and for text that a target may have edited.
    pub before: &'a Open<'a>,
    /// Of what it brings.
    pub after: &'a Open<'a>,
}

/// A secret key and the path that it came from.
#[derive(Debug)]
pub struct Pen {
    /// The key.
    pub key: SecretKey,
    /// Where it was read.
    pub path: PathBuf,
}

impl Pen {
    /// The comment of its signatures: what verifies them.
    pub fn comment(&self) -> String {
        format!("verify with {}.pub", self.path.file_stem().unwrap_or_default().to_string_lossy())
    }

    /// Signs a gzip file, of that date.
    ///
    /// # Errors
    /// As [`sign_gzip`].
    pub fn sign_gzip(&self, input: &mut (impl io::BufRead + io::Seek), date: i64, out: &mut dyn Write) -> Result<()> {
        let (comment, path) = (self.comment(), self.path.to_string_lossy());
        sign_gzip(input, &Signer { key: &self.key, comment: &comment, path: &path, date: &iso_date(date) }, out)
    }
}

/// Writes the patch to `file`, whole or not at all. With `small`, files are brought as differences where these are
/// smaller. Returns the manifest that it has.
///
/// # Errors
/// As [`write_bundle`]; errors of `bodies`.
pub fn make(
    mut contents: Contents,
    bodies: Bodies<'_>,
    (small, pen): (bool, Option<&Pen>),
    file: &Path,
    watch: &Watch,
) -> Result<Contents> {
    // What cannot be read back must not get out: a title of two lines, a word with a blank in it.
    Contents::parse(&contents.text())?;
    for entry in contents.entries.iter_mut().filter(|entry| entry.base) {
        entry.base = may_travel(entry, bodies)?;
    }
    let mut scratch = Scratch::beside(file)?;
    let mut deltas = HashMap::new();
    if small {
        watch.begin("comparing", contents.bytes());
        for (index, entry) in contents.entries.iter_mut().enumerate() {
            if let Some(range) = shrink(entry, bodies, &mut scratch, watch)? {
                deltas.insert(index, range);
            }
        }
    }
    let entries = &contents.entries;
    let mut source = |member: &Member| -> Result<Box<dyn Read + '_>> {
        let change = &entries[member.entry].change;
        let missing = || Error::new(ErrorKind::NotFound, "it has no content").at(&change.path);
        match (member.what, &change.before, &change.after) {
            (What::Base, Some(before), _) => (bodies.before)(before),
            (What::Whole, _, Some(after)) => (bodies.after)(after),
            (What::Delta, ..) => {
                let range: Range<u64> = deltas.get(&member.entry).cloned().ok_or_else(missing)?;
                Ok(Box::new(scratch.read(range)))
            }
            _ => Err(missing()),
        }
    };
    write(&contents, &mut source, pen, file, watch)?;
    Ok(contents)
}

/// May what a file was before travel along, for a merge? Only text can be merged, and a key that goes stays where it is.
fn may_travel(entry: &Entry, bodies: Bodies<'_>) -> Result<bool> {
    let Some(before) = &entry.change.before else { return Ok(false) };
    let mut text = Vec::new();
    (bodies.before)(before)?.take(before.size()).read_to_end(&mut text).on("read", &before.path)?;
    let is_text = std::str::from_utf8(&text).is_ok_and(|text| !text.contains('\0'));
    Ok(is_text && !holds_key(text.as_slice()).on("read", &before.path)?)
}

/// Writes and signs a patch whose bodies `source` gives.
///
/// # Errors
/// As [`write_bundle`] and [`sign_gzip`].
pub fn write<'a>(
    contents: &Contents,
    source: &mut (dyn FnMut(&Member) -> Result<Box<dyn Read + 'a>> + 'a),
    pen: Option<&Pen>,
    file: &Path,
    watch: &Watch,
) -> Result<()> {
    let mut new = New::create(file, 0o644)?;
    let shown = file.as_os_str().as_bytes();
    match pen {
        None => write_bundle(contents, source, (BufWriter::new(new.file()), shown), watch)?,
        Some(pen) => {
            let mut unsigned = Scratch::beside(file)?;
            write_bundle(contents, source, (BufWriter::new(&mut unsigned), shown), watch)?;
            let mut unsigned = BufReader::new(unsigned.rewound().on("seek", shown)?);
            let mut out = BufWriter::new(new.file());
            pen.sign_gzip(&mut unsigned, contents.head.date, &mut out)?;
            out.flush().on("write", shown)?;
        }
    }
    new.commit()
}

/// Makes the body of an entry a difference, if that takes less room, and keeps it in `scratch`.
fn shrink(entry: &mut Entry, bodies: Bodies<'_>, scratch: &mut Scratch, watch: &Watch) -> Result<Option<Range<u64>>> {
    let change = &entry.change;
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return Ok(None) };
    if !may_shrink(entry, before, after) {
        return Ok(None);
    }
    let old = whole(&mut *(bodies.before)(before)?, before)?;
    let new = whole(&mut *(bodies.after)(after)?, after)?;
    watch.count(1, new.len() as u64)?;
    let made = delta::make(&old, &new)?;
    if made.len() as u64 >= compressed(&new).on("compress", &change.path)? {
        return Ok(None);
    }
    entry.body = Body::Delta(made.len() as u64);
    scratch.add(&mut &made[..]).on("write", &change.path).map(Some)
}

/// Set-id programs always come whole, and what comes with its base does too (decisions 5 and 13).
fn may_shrink(entry: &Entry, before: &Node, after: &Node) -> bool {
    let set_id = |node: &Node| node.meta.mode & 0o6000 != 0;
    let both = before.digest().is_some() && after.digest().is_some();
    both && entry.body == Body::Full
        && !entry.base
        && !set_id(before)
        && !set_id(after)
        && relink::source(&after.path).is_none()
        && delta::fits(before.size(), after.size())
}

/// Reads all of a file, which must be what the tree says.
fn whole(from: &mut dyn Read, node: &Node) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(usize::try_from(node.size()).unwrap_or_default());
    from.take(node.size() + 1).read_to_end(&mut body).on("read", &node.path)?;
    let found = Digest(<sha2::Sha256 as sha2::Digest>::digest(&body).into());
    if node.digest() == Some(found) {
        return Ok(body);
    }
    Err(Error::new(ErrorKind::Unverified, "its content is not what the manifest says").at(&node.path))
}

/// How many bytes the content takes in the archive when it is whole.
fn compressed(body: &[u8]) -> io::Result<u64> {
    let mut counter = Counter(0);
    let mut gzip = GzEncoder::new(&mut counter, Compression::new(LEVEL));
    gzip.write_all(body)?;
    gzip.finish()?;
    Ok(counter.0)
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0 += from.len() as u64;
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seconds since 1970 as `YYYY-MM-DDThh:mm:ssZ`.
pub fn iso_date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Years begin with March here, so that the leap day is their last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month < 3);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::iso_date;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso_date(seconds), text);
        }
    }
}
