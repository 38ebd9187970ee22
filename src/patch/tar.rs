// SPDX-License-Identifier: ISC
//! Headers of the archive in a patch: ustar (POSIX.1-1988), with a pax header (POSIX.1-2001) before those that have no
//! room there.
//!
//! Only written, never read: what a patch's manifest says leaves one way to write its archive, so whoever reads one
//! compares.
#![forbid(unsafe_code)]

use crate::path::TreePath;

/// Bytes of a header and of what all else is rounded up to.
pub(super) const BLOCK: usize = 512;
/// What ends an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type<'a> {
    /// A file of so many bytes.
    File(u64),
    /// Another name of an earlier member, or of what is on the disk.
    Link(&'a [u8]),
    Symlink(&'a [u8]),
    Char(u32, u32),
    Block(u32, u32),
    Dir,
    Fifo,
}

/// A member's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) path: &'a TreePath,
    pub(super) kind: Type<'a>,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names of owner and group, empty if they have none.
    pub(super) user: &'a str,
    pub(super) group: &'a str,
    /// Seconds since 1970.
    pub(super) mtime: i64,
}

impl Header<'_> {
    /// The header's blocks.
    pub(super) fn blocks(&self) -> Vec<u8> {
        let mut pax = Vec::new();
        let mut block = [0; BLOCK];
        self.names(&mut block, &mut pax);
        let size = if let Type::File(size) = self.kind { size } else { 0 };
        put(&mut block, 100..107, u64::from(self.mode));
        for (range, key, value) in [
            (108..115, "uid", i64::from(self.uid)),
            (116..123, "gid", i64::from(self.gid)),
            (124..135, "size", i64::try_from(size).unwrap_or(i64::MAX)),
            (136..147, "mtime", self.mtime),
        ] {
            let fits = u64::try_from(value).ok().filter(|&value| value < 1 << (3 * range.len()));
            if fits.is_none() {
                record(&mut pax, key, value.to_string().as_bytes());
            }
            put(&mut block, range, fits.unwrap_or_default());
        }
        let (major, minor) = match self.kind {
            Type::Char(major, minor) | Type::Block(major, minor) => (major, minor),
            _ => (0, 0),
        };
        // Larger numbers exist on no device that a patch brings; the manifest has them whole.
        put(&mut block, 329..336, u64::from(major & 0o7_777_777));
        put(&mut block, 337..344, u64::from(minor & 0o7_777_777));
        finish(&mut block, self.flag());
        if pax.is_empty() { block.to_vec() } else { [extension(&pax), block.to_vec()].concat() }
    }

    fn flag(&self) -> u8 {
        match self.kind {
            Type::File(_) => b'0',
            Type::Link(_) => b'1',
            Type::Symlink(_) => b'2',
            Type::Char(..) => b'3',
            Type::Block(..) => b'4',
            Type::Dir => b'5',
            Type::Fifo => b'6',
        }
    }

    /// Everything that is text.
    fn names(&self, block: &mut [u8; BLOCK], pax: &mut Vec<u8>) {
        let mut path = self.path.as_bytes().to_vec();
        if self.kind == Type::Dir {
            path.push(b'/');
        }
        match split(&path) {
            Some((prefix, name)) => {
                block[..name.len()].copy_from_slice(name);
                block[345..345 + prefix.len()].copy_from_slice(prefix);
            }
            None => {
                block[..100].copy_from_slice(&path[..100]);
                record(pax, "path", &path);
            }
        }
        if let Type::Link(target) | Type::Symlink(target) = self.kind {
            let room = target.len().min(100);
            block[157..157 + room].copy_from_slice(&target[..room]);
            if target.len() > room {
                record(pax, "linkpath", target);
            }
        }
        for (at, name) in [(265, self.user), (297, self.group)] {
            // tar falls back on the number, and we on the manifest.
            if name.len() < 32 {
                block[at..at + name.len()].copy_from_slice(name.as_bytes());
            }
        }
    }
}

/// Prefix and name of a path, if both have room.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let fits = |&at: &usize| path[at] == b'/' && at <= 155 && (2..=101).contains(&(path.len() - at));
    let at = (0..path.len()).find(fits)?;
    Some((&path[..at], &path[at + 1..]))
}

/// Octal digits that fill the range; a NUL follows it already.
fn put(block: &mut [u8; BLOCK], range: std::ops::Range<usize>, value: u64) {
    for (place, digit) in block[range].iter_mut().rev().zip(0..) {
        *place = b'0' + (value >> (3 * digit) & 7) as u8;
    }
}

fn finish(block: &mut [u8; BLOCK], flag: u8) {
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum = block.iter().map(|&byte| u64::from(byte)).sum();
    put(block, 148..154, sum);
    block[154] = 0;
}

/// `LENGTH KEY=VALUE`, its own digits counted in.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let length = (1..).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
    pax.extend_from_slice(format!("{} {key}=", length.unwrap_or(rest)).as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

/// A pax header with its records.
fn extension(pax: &[u8]) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..9].copy_from_slice(b"PaxHeader");
    put(&mut block, 100..107, 0o644);
    for range in [108..115, 116..123, 136..147, 329..336, 337..344] {
        put(&mut block, range, 0);
    }
    put(&mut block, 124..135, pax.len() as u64);
    finish(&mut block, b'x');
    let mut blocks = [&block[..], pax].concat();
    blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    blocks
}

/// What fills a body of this size up to a whole block.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}
