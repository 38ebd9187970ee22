// SPDX-License-Identifier: ISC
//! The manifest: the text form of a tree, in mtree(5) syntax.
//!
//! One line an entry, by its full path: `./bin/ls type=file mode=0755 uid=0 gid=0 size=7 time=1.000000000 sha256=...`;
//! the root is `.`. Our own keywords come last, and only in [`Dialect::Stockade`]:
//!
//! | keyword | meaning |
//! | --- | --- |
//! | `hardlink=PATH` | first name of the link group, on every name of the group |
//! | `flags=OCTAL` | file flags (OpenBSD) |
//! | `xattr.NAME=VALUE` | one extended attribute, sorted by name |
//! | `origin=TEXT` | why the entry is here |
//! | `here=CTIME,INODE`, `from=CTIME,INODE` | [`Stamp`]s |
//!
//! Names, targets and values are escaped as vis(3) does with `VIS_OCTAL`: every byte that is not a plain graphic
//! character is `\ooo`, so that a line is ASCII and splits at spaces.
#![forbid(unsafe_code)]

mod read;

use std::cmp::Reverse;
use std::io::{self, Write};

use crate::path::TreePath;
use crate::tree::{Kind, Node, Stamp, Time, Tree};

pub use read::{Origins, read_node, read_path, read_some, read_tree, unescape};

/// The first two lines: mtree's signature, by which bsdtar knows the format, and the version of ours.
const HEADER: &[u8] = b"#mtree\n# stockade manifest 1\n";

/// Which keywords are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// All: reading gives back the very same tree.
    Stockade,
    /// Only those that mtree(8) and bsdtar(1) know.
    Mtree,
}

/// Writes a whole manifest.
///
/// # Errors
/// Those of `out`.
pub fn write_tree(tree: &Tree, out: &mut dyn Write, dialect: Dialect) -> io::Result<()> {
    const CHUNK: usize = 64 * 1024;
    let mut text = Vec::with_capacity(CHUNK + 4096);
    text.extend_from_slice(HEADER);
    let mut order: Vec<&Node> = tree.nodes().iter().collect();
    if dialect == Dialect::Mtree && order.iter().any(|node| is_pattern(node.path.as_bytes())) {
        order.sort_by_cached_key(|node| node.path.components().map(rank).collect::<Vec<_>>());
    }
    for node in order {
        write_node(node, &mut text, dialect);
        text.push(b'\n');
        if text.len() >= CHUNK {
            out.write_all(&text)?;
            text.clear();
        }
    }
    out.write_all(&text)
}

/// Sorts patterns behind the other names of a directory, and what begins with `*` last.
///
/// mtree takes a name with globbing characters, escaped or not, for a pattern, and each file for the first entry that
/// fits; bsdtar takes it for the name. So the file `*` must be listed plainly, but where it cannot catch its neighbours.
fn rank(name: &[u8]) -> (bool, Reverse<Option<&[u8]>>, &[u8]) {
    (is_pattern(name), Reverse(is_pattern(name).then_some(name)), name)
}

fn is_pattern(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| b"*?[".contains(byte))
}

/// Appends one entry: a line without its newline.
pub fn write_node(node: &Node, out: &mut Vec<u8>, dialect: Dialect) {
    path(out, &node.path);
    out.extend_from_slice(b" type=");
    out.extend_from_slice(node.kind.word().as_bytes());
    out.extend_from_slice(b" mode=0");
    octal(out, node.meta.mode.into(), 3);
    number(out, b" uid=", node.meta.uid.into());
    number(out, b" gid=", node.meta.gid.into());
    match &node.kind {
        Kind::File { size, .. } => number(out, b" size=", *size),
        Kind::Symlink(target) => {
            out.extend_from_slice(b" link=");
            escape(out, target);
        }
        // `native` is the one packing that mtree and libarchive agree on for large numbers.
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            number(out, b" device=native,", (*major).into());
            number(out, b",", (*minor).into());
        }
        Kind::Dir | Kind::Fifo | Kind::Socket => {}
    }
    out.extend_from_slice(b" time=");
    time(out, node.meta.mtime);
    if let Some(digest) = node.digest() {
        out.extend_from_slice(b" sha256=");
        out.extend_from_slice(&digest.hex());
    }
    if dialect == Dialect::Stockade {
        write_own(node, out);
    }
}

/// The keywords that only we know.
fn write_own(node: &Node, out: &mut Vec<u8>) {
    if let Some(group) = &node.group {
        out.extend_from_slice(b" hardlink=");
        path(out, group);
    }
    if node.meta.flags != 0 {
        out.extend_from_slice(b" flags=0");
        octal(out, node.meta.flags, 1);
    }
    for (name, value) in node.meta.xattrs.iter().flat_map(|x| x.iter()) {
        out.extend_from_slice(b" xattr.");
        escape(out, name);
        out.push(b'=');
        escape(out, value);
    }
    if let Some(origin) = &node.origin {
        out.extend_from_slice(b" origin=");
        escape(out, origin.as_bytes());
    }
    for (keyword, stamp) in [(&b" here="[..], node.here), (b" from=", node.from)] {
        if let Some(Stamp { ctime, ino }) = stamp {
            out.extend_from_slice(keyword);
            time(out, ctime);
            number(out, b",", ino);
        }
    }
}

/// Does the byte stand for itself? A table, because every byte of a manifest is asked twice.
fn is_plain(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], b'!');
        while byte <= b'~' {
            table[byte as usize] = !matches!(byte, b'\\' | b'#' | b'=' | b'*' | b'?' | b'[' | b']');
            byte += 1;
        }
        table
    };
    PLAIN[usize::from(byte)]
}

/// Appends a path as it stands in a manifest: `./etc/passwd`, the root as `.`.
pub fn path(out: &mut Vec<u8>, path: &TreePath) {
    out.push(b'.');
    if !path.is_root() {
        out.push(b'/');
        escape(out, path.as_bytes());
    }
}

/// Appends `bytes` as one word of a manifest.
pub fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(odd) = rest.iter().position(|&b| !is_plain(b)) {
        out.extend_from_slice(&rest[..odd]);
        out.push(b'\\');
        octal(out, rest[odd].into(), 3);
        rest = &rest[odd + 1..];
    }
    out.extend_from_slice(rest);
}

/// At least `width` octal digits.
fn octal(out: &mut Vec<u8>, value: u32, width: u32) {
    let digits = (32 - value.leading_zeros()).div_ceil(3).max(width);
    out.extend((0..digits).rev().map(|digit| b'0' + (value >> (3 * digit) & 7) as u8));
}

/// `keyword` and a decimal number.
fn number(out: &mut Vec<u8>, keyword: &[u8], value: u64) {
    let (mut digits, mut at, mut rest) = ([0; 20], 20, value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(keyword);
    out.extend_from_slice(&digits[at..]);
}

/// `SEC.NNNNNNNNN`; a time before 1970 has a negative SEC, above which the nanoseconds count as ever.
fn time(out: &mut Vec<u8>, time: Time) {
    number(out, if time.sec < 0 { b"-" } else { b"" }, time.sec.unsigned_abs());
    let (mut digits, mut rest) = (*b".000000000", time.nsec);
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests;
