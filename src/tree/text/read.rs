// SPDX-License-Identifier: ISC
//! Reading a manifest: what we write, and nothing else.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{HEADER, is_plain};
use crate::error::{Error, ErrorKind, Result};
use crate::path::{MAX_PATH, TreePath};
use crate::tree::{Digest, Kind, Meta, Node, Stamp, Time, Tree, Xattrs};

/// A thread more is started for this much text.
const WORTH: usize = 256 * 1024;
/// The longest line: two paths, and a good many of the largest extended attributes that Linux allows.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// How many entries a manifest may have: a hundred times the largest chroot that was ever seen.
const MAX_ENTRIES: usize = 16 * 1024 * 1024;
/// Linux's own limits (xattr(7)).
const MAX_XATTR_NAME: usize = 255;
const MAX_XATTR_VALUE: usize = 64 * 1024;
/// A package's name and version, with a path behind it where a symlinked directory was followed.
const MAX_ORIGIN: usize = 2 * MAX_PATH;

/// The origins read so far: each text is kept once, however many entries share it.
#[derive(Debug, Default)]
pub struct Origins(HashMap<Box<[u8]>, Arc<str>>);

impl Origins {
    fn get(&mut self, escaped: &[u8]) -> Option<Arc<str>> {
        if let Some(known) = self.0.get(escaped) {
            return Some(Arc::clone(known));
        }
        let text: Arc<str> = String::from_utf8(unescape(escaped, MAX_ORIGIN)?.into()).ok()?.into();
        self.0.insert(escaped.into(), Arc::clone(&text));
        Some(text)
    }
}

/// Reads a whole manifest of [`super::Dialect::Stockade`] or [`super::Dialect::Mtree`].
///
/// # Errors
/// [`ErrorKind::BadInput`] with the number of the line and the text in question.
pub fn read_tree(text: &[u8]) -> Result<Tree> {
    let Some(body) = text.strip_prefix(HEADER) else {
        return Err(bad("not a manifest, or one of another version", &text[..text.len().min(HEADER.len())]));
    };
    let Some(body) = body.strip_suffix(b"\n").or(body.is_empty().then_some(body)) else {
        return Err(bad("the last line is cut off", body.rsplit(|&b| b == b'\n').next().unwrap_or_default()));
    };
    let tree = Tree::new(read_lines(body)?)?;
    match tree.nodes().iter().find(|node| !agrees(&tree, node)) {
        Some(node) => Err(Error::new(ErrorKind::BadInput, "names of one link group differ").at(&node.path)),
        None => Ok(tree),
    }
}

/// Of a whole manifest, the entries at `wanted` paths; of the others nothing but the path is looked at.
///
/// # Errors
/// As [`read_node`].
pub fn read_some(text: &[u8], wanted: &HashSet<&[u8]>) -> Result<Vec<Node>> {
    let Some(body) = text.strip_prefix(HEADER) else { return read_tree(text).map(|_| Vec::new()) };
    let mut origins = Origins::default();
    let is_wanted = |line: &&[u8]| {
        let name = line.split(|&b| b == b' ').next().unwrap_or_default();
        match name.strip_prefix(b"./") {
            Some(plain) if !plain.contains(&b'\\') => wanted.contains(plain),
            _ => read_path(name).is_some_and(|path| wanted.contains(path.as_bytes())),
        }
    };
    body.split(|&b| b == b'\n').filter(is_wanted).map(|line| read_node(line, &mut origins)).collect()
}

/// Reads all lines, by as many threads as that is worth.
fn read_lines(body: &[u8]) -> Result<Vec<Node>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(1 + body.len() / WORTH);
    let parts = parts(body, threads);
    let parts: Vec<Result<Vec<Node>>> = std::thread::scope(|scope| {
        let readers: Vec<_> =
            parts.into_iter().map(|(first, part)| scope.spawn(move || read_part(part, first))).collect();
        readers.into_iter().map(|r| r.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut nodes = Vec::new();
    for part in parts {
        nodes.append(&mut part?);
    }
    Ok(nodes)
}

/// Cuts the text at newlines into about equal parts, each with the number of its first line.
pub(super) fn parts(body: &[u8], count: usize) -> Vec<(usize, &[u8])> {
    let (mut parts, mut rest, mut line) = (Vec::new(), (!body.is_empty()).then_some(body), 3);
    for left in (1..=count).rev() {
        let Some(text) = rest else { break };
        let middle = text.len() / left;
        let end = text[middle..].iter().position(|&b| b == b'\n').map_or(text.len(), |at| middle + at);
        parts.push((line, &text[..end]));
        line += 1 + text[..end].iter().filter(|&&b| b == b'\n').count();
        rest = text.get(end + 1..);
    }
    parts
}

/// Reads lines, of which the first has this number.
fn read_part(text: &[u8], first: usize) -> Result<Vec<Node>> {
    let mut nodes = Vec::with_capacity(text.len() / 96); // few lines are shorter; room that is not used costs nothing
    let mut origins = Origins::default();
    for (index, line) in (first..).zip(text.split(|&b| b == b'\n')) {
        if index == MAX_ENTRIES + 3 {
            return Err(Error::new(ErrorKind::BadInput, format!("more than {MAX_ENTRIES} entries")));
        }
        let numbered = |e: Error| Error::new(e.kind(), format!("line {index}: {}", e.reason()));
        nodes.push(read_node(line, &mut origins).map_err(numbered)?);
    }
    Ok(nodes)
}

/// Two names of one inode cannot differ, and directories have one.
fn agrees(tree: &Tree, node: &Node) -> bool {
    let Some(group) = &node.group else { return true };
    !node.kind.is_dir() && tree.get(group.as_bytes()).is_some_and(|first| first.same(node))
}

/// Reads one entry: a line without its newline.
///
/// # Errors
/// [`ErrorKind::BadInput`] with the text in question.
pub fn read_node(line: &[u8], origins: &mut Origins) -> Result<Node> {
    if line.len() > MAX_LINE {
        return Err(bad("line is too long", line));
    }
    let mut words = line.split(|&b| b == b' ');
    let name = words.next().unwrap_or_default();
    let path = read_path(name).ok_or_else(|| bad("bad path", name))?;
    let mut fields = Fields::default();
    for word in words {
        fields.take(word, origins).map_err(|reason| bad(reason, word))?;
    }
    fields.node(path).ok_or_else(|| bad("fields are missing, or do not fit the type", line))
}

fn bad(reason: &'static str, text: &[u8]) -> Error {
    const SHOWN: usize = 60;
    let more = if text.len() > SHOWN { "..." } else { "" };
    let shown = crate::path::escape(&text[..text.len().min(SHOWN)]);
    Error::new(ErrorKind::BadInput, format!("{reason}: \"{shown}\"{more}"))
}

#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a [u8]>,
    mode: Option<u16>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    link: Option<Box<[u8]>>,
    device: Option<(u32, u32)>,
    mtime: Option<Time>,
    digest: Option<Digest>,
    group: Option<TreePath>,
    flags: Option<u32>,
    xattrs: Xattrs,
    origin: Option<Arc<str>>,
    here: Option<Stamp>,
    from: Option<Stamp>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, word: &'a [u8], origins: &mut Origins) -> Result<(), &'static str> {
        let equals = word.iter().position(|&b| b == b'=').ok_or("not a keyword with a value")?;
        let (keyword, value) = (&word[..equals], &word[equals + 1..]);
        match keyword {
            b"type" => set(&mut self.kind, Some(value)),
            b"mode" => set(&mut self.mode, octal(value).filter(|&m| m <= 0o7777).and_then(|m| m.try_into().ok())),
            b"uid" => set(&mut self.uid, small(value)),
            b"gid" => set(&mut self.gid, small(value)),
            b"size" => set(&mut self.size, number(value)),
            b"link" => set(&mut self.link, unescape(value, MAX_PATH).filter(|t| !t.contains(&0))),
            b"device" => set(&mut self.device, device(value)),
            b"time" => set(&mut self.mtime, time(value)),
            b"sha256" => set(&mut self.digest, Digest::from_hex(value)),
            b"hardlink" => set(&mut self.group, read_path(value)),
            b"flags" => set(&mut self.flags, octal(value)),
            b"origin" => set(&mut self.origin, origins.get(value)),
            b"here" => set(&mut self.here, stamp(value)),
            b"from" => set(&mut self.from, stamp(value)),
            _ => self.xattr(keyword.strip_prefix(b"xattr.").ok_or("unknown keyword")?, value),
        }
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let name = unescape(name, MAX_XATTR_NAME).filter(|n| !n.is_empty() && !n.contains(&0)).ok_or("bad name")?;
        let value = unescape(value, MAX_XATTR_VALUE).ok_or("malformed or too large")?;
        if self.xattrs.last().is_some_and(|(last, _)| *last >= name) {
            return Err("extended attributes are not in order");
        }
        self.xattrs.push((name, value));
        Ok(())
    }

    fn node(self, path: TreePath) -> Option<Node> {
        let kind = match (self.kind?, self.size, self.link, self.device, self.digest) {
            (b"dir", None, None, None, None) => Kind::Dir,
            (b"file", Some(size), None, None, digest) => Kind::File { size, digest },
            (b"link", None, Some(target), None, None) => Kind::Symlink(target),
            (b"char", None, None, Some((major, minor)), None) => Kind::Char(major, minor),
            (b"block", None, None, Some((major, minor)), None) => Kind::Block(major, minor),
            (b"fifo", None, None, None, None) => Kind::Fifo,
            (b"socket", None, None, None, None) => Kind::Socket,
            _ => return None,
        };
        let meta = Meta {
            mode: self.mode?,
            uid: self.uid?,
            gid: self.gid?,
            mtime: self.mtime?,
            xattrs: (!self.xattrs.is_empty()).then(|| Box::new(self.xattrs)),
            flags: self.flags.unwrap_or_default(),
        };
        Some(Node { path, meta, kind, group: self.group, origin: self.origin, here: self.here, from: self.from })
    }
}

fn set<T>(field: &mut Option<T>, value: Option<T>) -> Result<(), &'static str> {
    match (value, &field) {
        (None, _) => Err("malformed"),
        (Some(_), Some(_)) => Err("given twice"),
        (value, None) => {
            *field = value;
            Ok(())
        }
    }
}

/// A path as [`super::path`] writes it.
pub fn read_path(text: &[u8]) -> Option<TreePath> {
    if text == b"." {
        return Some(TreePath::root());
    }
    let bytes = unescape(text.strip_prefix(b"./")?, MAX_PATH)?;
    TreePath::new(bytes).ok().filter(|path| !path.is_root())
}

/// Undoes [`super::escape`], and only that: what it would have escaped must be. None for anything else, or for more than
/// `limit` bytes.
pub fn unescape(text: &[u8], limit: usize) -> Option<Box<[u8]>> {
    if text.len() <= limit && text.iter().all(|&b| is_plain(b)) {
        return Some(text.into());
    }
    let mut out = Vec::with_capacity(text.len().min(limit));
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, tail) = match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), tail)
            }
            _ if is_plain(byte) => (byte, tail),
            _ => return None,
        };
        out.push(byte);
        rest = tail;
    }
    (out.len() <= limit).then(|| out.into())
}

/// A decimal number without sign and needless zeros.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    match text.len() {
        ..=19 => text.iter().try_fold(0, |value, &byte| Some(value * 10 + digit(byte)?)), // cannot overflow
        _ => text.iter().try_fold(0u64, |value, &byte| value.checked_mul(10)?.checked_add(digit(byte)?)),
    }
}

fn small(text: &[u8]) -> Option<u32> {
    number(text)?.try_into().ok()
}

/// An octal number, a zero before it.
fn octal(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"0").filter(|d| !d.is_empty())?;
    digits.iter().try_fold(0u32, |value, byte| match byte {
        b'0'..=b'7' => Some(value.checked_mul(8)? + u32::from(byte - b'0')),
        _ => None,
    })
}

fn device(text: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = cut(text.strip_prefix(b"native,")?, b',')?;
    Some((small(major)?, small(minor)?))
}

fn stamp(text: &[u8]) -> Option<Stamp> {
    let (ctime, ino) = cut(text, b',')?;
    Some(Stamp { ctime: time(ctime)?, ino: number(ino)? })
}

fn time(text: &[u8]) -> Option<Time> {
    let (sec, nsec) = cut(text, b'.')?;
    let sec = match sec.strip_prefix(b"-") {
        Some(before) => 0i64.checked_sub_unsigned(number(before).filter(|&n| n > 0)?)?,
        None => number(sec)?.try_into().ok()?,
    };
    let digits: &[u8; 9] = nsec.try_into().ok()?;
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    Some(Time { sec, nsec: digits.iter().try_fold(0, |value, &byte| Some(value * 10 + digit(byte)?))? })
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let middle = text.iter().position(|&b| b == at)?;
    Some((&text[..middle], &text[middle + 1..]))
}
