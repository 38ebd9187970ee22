// SPDX-License-Identifier: ISC
//! Names inside a tree ([`TreePath`]) and sets of them ([`PathSet`]).
//!
//! A `TreePath` is valid by construction, so that nothing above `sys` ever has to ask whether a name could leave the
//! root. It is bytes, not text: any byte but NUL and `/` may occur in a name.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// The longest path that a tree may hold, in bytes (decision E15).
pub const MAX_PATH: usize = 64 * 1024;
/// The longest name, in bytes (NAME_MAX on both systems).
pub const MAX_NAME: usize = 255;

const TOO_LONG: &str = "path is longer than 64 KiB";

/// A path inside a tree: relative, without `.`, `..`, empty names or NUL; the empty path is the root itself.
///
/// Ordered by component, so that a directory is followed directly by everything below it: `a`, `a/b`, `a-b`.
/// Shared, not copied, by all that name the entry: a plan, its trees and its bodies name each path several times over.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TreePath(Arc<[u8]>);

impl TreePath {
    /// The root of the tree.
    pub fn root() -> TreePath {
        TreePath::default()
    }

    /// Checks `bytes` and takes them as they are; a leading `/` or `./` is an error here.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the path, for anything but plain names joined by single slashes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Result<TreePath> {
        let bytes = bytes.into();
        match fault(&bytes) {
            None => Ok(TreePath(bytes)),
            Some(reason) => Err(Error::new(ErrorKind::BadInput, reason).at(&*bytes)),
        }
    }

    /// Like [`TreePath::new`], but accepts what people and archives write: leading `/` or `./`, doubled and trailing
    /// slashes, `.` components. `..` stays an error.
    ///
    /// # Errors
    /// As for [`TreePath::new`].
    pub fn lenient(bytes: &[u8]) -> Result<TreePath> {
        let mut out = Vec::with_capacity(bytes.len());
        for name in bytes.split(|&b| b == b'/').filter(|n| !n.is_empty() && *n != b".") {
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(name);
        }
        TreePath::new(out).map_err(|e| Error::new(ErrorKind::BadInput, e.reason().to_owned()).at(bytes))
    }

    /// The path's bytes, without a leading slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for APIs that want one, relative to the root.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Is it the root?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        &self.0[start..]
    }

    /// The path without its last name; none for the root.
    pub fn parent(&self) -> Option<TreePath> {
        self.parent_bytes().map(|bytes| TreePath(bytes.into()))
    }

    /// The bytes of the parent, without allocating; none for the root.
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        parent(&self.0)
    }

    /// The names from the top down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// How many names the path has; 0 for the root.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { 1 + self.0.iter().filter(|&&b| b == b'/').count() }
    }

    /// The entry `name` in this directory.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if `name` is not a plain name or the result is longer than [`MAX_PATH`].
    pub fn join(&self, name: &[u8]) -> Result<TreePath> {
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        if !self.is_root() {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        // This path is valid already: only the name can be at fault, or the whole too long.
        let fault = match name.is_empty() || name.contains(&b'/') {
            true => Some("not a file name"),
            false => fault(name).or((joined.len() > MAX_PATH).then_some(TOO_LONG)),
        };
        match fault {
            None => Ok(TreePath(joined.into())),
            Some(reason) => Err(Error::new(ErrorKind::BadInput, reason).at(joined)),
        }
    }

    /// The path `below` laid under this one.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if the result is longer than [`MAX_PATH`].
    pub fn under(&self, below: &TreePath) -> Result<TreePath> {
        match (self.is_root(), below.is_root()) {
            (true, _) => Ok(below.clone()),
            (_, true) => Ok(self.clone()),
            _ => TreePath::new([&*self.0, b"/", &*below.0].concat()),
        }
    }

    /// Is it `other` or below `other`?
    pub fn is_within(&self, other: &TreePath) -> bool {
        other.is_root()
            || (self.0.starts_with(&other.0) && (self.0.len() == other.0.len() || self.0[other.0.len()] == b'/'))
    }

    /// What remains of this path below `other`; none if it is not within it.
    pub fn strip(&self, other: &TreePath) -> Option<TreePath> {
        if !self.is_within(other) {
            return None;
        }
        let skip = if other.is_root() { 0 } else { (other.0.len() + 1).min(self.0.len()) };
        Some(TreePath(self.0[skip..].into()))
    }

    /// The directories above it, nearest first, the root last; none for the root.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> {
        std::iter::successors(self.parent(), TreePath::parent)
    }
}

/// The parent of the path `bytes`; none for the root.
pub fn parent(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().rposition(|&b| b == b'/');
    (!bytes.is_empty()).then(|| &bytes[..last.unwrap_or(0)])
}

/// Why `bytes` cannot be a `TreePath`.
fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.len() > MAX_PATH {
        return Some(TOO_LONG);
    }
    if bytes.contains(&0) {
        return Some("NUL byte in a path");
    }
    bytes.split(|&b| b == b'/').find_map(|name| match name {
        b"" => Some("empty name in a path"),
        b"." => Some("\".\" in a path"),
        b".." => Some("\"..\" in a path"),
        _ if name.len() > MAX_NAME => Some("name is longer than 255 bytes"),
        _ => None,
    })
}

impl Ord for TreePath {
    fn cmp(&self, other: &TreePath) -> Ordering {
        compare(&self.0, &other.0)
    }
}

/// Orders two paths by component: `/` sorts before every byte that a name may hold.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    const WORD: usize = 16;
    let rank = |byte: Option<&u8>| byte.map(|&b| if b == b'/' { 1 } else { u16::from(b) + 1 });
    // Neighbours in a tree share long beginnings: whole words first, then bytes.
    let words = a.chunks_exact(WORD).zip(b.chunks_exact(WORD)).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[words * WORD..], &b[words * WORD..]);
    let differ = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
    rank(a.get(differ)).cmp(&rank(b.get(differ)))
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &TreePath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for TreePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// So that maps keyed by `TreePath` can be asked with plain bytes.
impl std::borrow::Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for TreePath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The path as people read it: odd bytes escaped, the root as `/`.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { f.write_str(&escape(&self.0)) }
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Bytes as printable text: control bytes, backslash and bytes that are not UTF-8 become `\ooo`, so that a hostile
/// file name cannot drive the terminal.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                let mut buffer = [0; 4];
                octal(&mut out, c.encode_utf8(&mut buffer).as_bytes());
            } else {
                out.push(c);
            }
        }
        octal(&mut out, chunk.invalid());
    }
    out
}

/// The bytes that [`escape`] wrote as `text`; none if it did not write that.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 1..at + 4)?, 8).ok()?);
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

fn octal(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str(&format!("\\{byte:03o}"));
    }
}

/// A set of paths given as exact paths and globs; what covers a directory covers everything below it.
///
/// `*` and `?` do not match `/`, `**` does. A leading slash is allowed and means nothing.
#[derive(Clone, Default)]
pub struct PathSet {
    exact: HashSet<TreePath>,
    globs: GlobSet,
    patterns: Vec<String>,
}

/// One pattern of a set.
enum Pattern {
    Exact(TreePath),
    Glob(Glob),
}

fn read(pattern: &[u8]) -> Result<Pattern> {
    if !pattern.iter().any(|b| b"*?[{\\".contains(b)) {
        return TreePath::lenient(pattern).map(Pattern::Exact);
    }
    let Ok(text) = std::str::from_utf8(pattern) else {
        bail!(Usage, "a pattern must be UTF-8: {}", escape(pattern));
    };
    let text = text.trim_start_matches("./").trim_matches('/');
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    let wrong = |e: globset::Error| Error::new(ErrorKind::Usage, format!("bad pattern {text:?}: {}", e.kind()));
    glob.map(Pattern::Glob).map_err(wrong)
}

fn has_letter(text: &str) -> bool {
    text.contains(|c: char| c.is_alphanumeric())
}

impl PathSet {
    /// Builds the set from patterns; a pattern without glob characters is an exact path.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the pattern that is no path and no glob.
    pub fn new<I, S>(patterns: I) -> Result<PathSet>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<[u8]>,
    {
        let mut set = PathSet::default();
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            match read(pattern.as_ref())? {
                Pattern::Exact(path) => drop(set.exact.insert(path)),
                Pattern::Glob(glob) => {
                    set.patterns.push(glob.glob().to_owned());
                    globs.add(glob);
                }
            }
        }
        set.globs = globs.build().map_err(|e| Error::new(ErrorKind::Usage, e.kind().to_string()))?;
        Ok(set)
    }

    /// Does `pattern` cover every path? Quick for all but odd ones: a set takes its time to build.
    ///
    /// # Errors
    /// As [`PathSet::new`].
    pub fn is_everything(pattern: &str) -> Result<bool> {
        match read(pattern.as_bytes())? {
            Pattern::Exact(path) => Ok(path.is_root()),
            // It would have to match the empty path, and no plain letter outside of a choice does.
            Pattern::Glob(glob) if glob.glob().split(['{', '[', '\\']).next().is_some_and(has_letter) => Ok(false),
            Pattern::Glob(_) => Ok(PathSet::new([pattern])?.covers(&TreePath::root())),
        }
    }

    /// Adds one exact path.
    pub fn insert(&mut self, path: TreePath) {
        self.exact.insert(path);
    }

    /// Nothing in it?
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }

    /// Does the set hold `path` itself or a directory above it?
    pub fn covers(&self, path: &TreePath) -> bool {
        let mut rest = Some(path.as_bytes());
        while let Some(bytes) = rest {
            if self.holds(bytes) {
                return true;
            }
            rest = parent(bytes);
        }
        false
    }

    /// Does the set hold `path` itself? Enough, and quicker than [`PathSet::covers`], for a walk from the top down that
    /// does not enter what the set holds.
    pub fn names(&self, path: &TreePath) -> bool {
        !self.is_empty() && self.holds(path.as_bytes())
    }

    fn holds(&self, path: &[u8]) -> bool {
        self.exact.contains(path) || (!self.patterns.is_empty() && self.globs.is_match(OsStr::from_bytes(path)))
    }

    /// The exact paths, in no order.
    pub fn exact(&self) -> impl Iterator<Item = &TreePath> {
        self.exact.iter()
    }
}

impl fmt::Debug for PathSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.exact).entries(&self.patterns).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn validity_table() {
        let long = "n".repeat(256);
        for (text, valid) in [
            ("", true),
            ("a", true),
            ("a/b", true),
            ("a\nb", true),
            (".a", true),
            ("...", true),
            ("a..b", true),
            ("/a", false),
            ("a/", false),
            ("a//b", false),
            (".", false),
            ("..", false),
            ("a/..", false),
            ("a/./b", false),
            ("a\0b", false),
            (&long, false),
            (&long[1..], true),
        ] {
            assert_eq!(TreePath::new(text.as_bytes()).is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn lenient_table() {
        for (text, want) in [
            ("./a/b/", Some("a/b")),
            ("/a", Some("a")),
            ("./", Some("")),
            ("a//b/./c", Some("a/b/c")),
            ("a/../b", None),
        ] {
            assert_eq!(TreePath::lenient(text.as_bytes()).ok(), want.map(path), "{text:?}");
        }
    }

    #[test]
    fn order_keeps_subtrees_together() {
        let mut paths: Vec<TreePath> = ["b", "a-b", "a/b/c", "a", "", "a/b", "a.c"].into_iter().map(path).collect();
        paths.sort();
        assert_eq!(paths, ["", "a", "a/b", "a/b/c", "a-b", "a.c", "b"].map(path));
    }

    #[test]
    fn relations() {
        assert!(
            path("a/b").is_within(&path("a")) && !path("ab").is_within(&path("a")) && path("x").is_within(&path(""))
        );
        assert_eq!(path("a/b").strip(&path("a")), Some(path("b")));
        assert_eq!(path("a/b").strip(&path("")), Some(path("a/b")));
        assert_eq!(path("a").strip(&path("a")), Some(path("")));
        assert_eq!(path("a/b").ancestors().collect::<Vec<_>>(), [path("a"), path("")]);
        assert_eq!((path("a/b").name(), path("").depth(), path("a/b").depth()), (&b"b"[..], 0, 2));
        assert_eq!(path("a").under(&path("b/c")).unwrap(), path("a/b/c"));
    }

    #[test]
    fn sets_cover_what_lies_below() {
        let set = PathSet::new(["/var/log", "tmp/*", "**/*.pyc"]).unwrap();
        for (text, want) in [
            ("var", false),
            ("var/log", true),
            ("var/log/x/y", true),
            ("var/logs", false),
            ("tmp", false),
            ("tmp/a/b", true),
            ("usr/lib/a.pyc", true),
            ("usr/lib/a.py", false),
        ] {
            assert_eq!(set.covers(&path(text)), want, "{text}");
        }
        assert!(PathSet::new(["[a"]).is_err());
        assert!(PathSet::new([""]).unwrap().covers(&path("any")));
    }

    #[test]
    fn patterns_that_cover_everything() {
        for (pattern, everything) in [
            ("**", true),
            ("*", true),
            ("/", true),
            (".", true),
            ("**/", true),
            ("{a,}", false),
            ("{a,**}", true),
            ("**/*", true),
            ("a*", false),
            ("**/*.pyc", false),
            ("[ab]*", false),
            ("{a,b}", false),
            ("?", false),
            ("var/log", false),
        ] {
            let set = PathSet::new([pattern]).unwrap();
            assert_eq!(PathSet::is_everything(pattern).unwrap(), set.covers(&TreePath::root()), "{pattern}");
            assert_eq!(PathSet::is_everything(pattern).unwrap(), everything, "{pattern}");
        }
        assert!(PathSet::is_everything("[a").is_err());
    }
}
