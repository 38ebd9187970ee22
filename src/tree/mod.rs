// SPDX-License-Identifier: ISC
//! A file tree as a value: [`Tree`] is a sorted flat list of [`Node`]s, parents before children.
//!
//! Pure: nothing here reads or writes a disk. [`text`] is the manifest, the text form of a tree; [`diff`] compares two
//! trees into a [`crate::plan::Plan`]; [`policy`] says what may be touched; [`overlay`] lays one tree over another.
#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod diff;
pub mod overlay;
pub mod policy;
pub mod relink;
pub mod resolve;
pub mod text;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;

pub use policy::{Policy, Unknown};

/// A point in time: seconds since 1970 (may be negative) and nanoseconds (always 0 to 999,999,999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Whole seconds since the epoch, rounded down.
    pub sec: i64,
    /// Nanoseconds above `sec`.
    pub nsec: u32,
}

/// A SHA-256 digest; in JSON its hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(hex: &[u8]) -> Option<Digest> {
        let hex: &[u8; 64] = hex.try_into().ok()?;
        let digit = |c: u8| match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            b'A'..=b'F' => c - b'A' + 10,
            _ => 0xff,
        };
        let (mut out, mut seen) = ([0; 32], 0);
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            let (high, low) = (digit(pair[0]), digit(pair[1]));
            seen |= high | low;
            *byte = high << 4 | low & 15;
        }
        (seen < 16).then_some(Digest(out)) // without a branch for each digit
    }

    /// The 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Digest, &'static str> {
        Digest::from_hex(hex.as_bytes()).ok_or("no SHA-256 digest")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Extended attributes by name, sorted: ACLs and file capabilities are among them (`system.posix_acl_access`,
/// `security.capability`), as the kernel's raw bytes. Always empty on OpenBSD.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// What an inode carries besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// The twelve mode bits: setuid, setgid, sticky and rwxrwxrwx. Always 0o777 for a symlink.
    pub mode: u16,
    /// Owner, by number.
    pub uid: u32,
    /// Group, by number.
    pub gid: u32,
    /// Last modification of the content.
    pub mtime: Time,
    /// Extended attributes; boxed because almost no entry has any.
    pub xattrs: Option<Box<Xattrs>>,
    /// File flags as chflags(2) gives them; always 0 on Linux.
    pub flags: u32,
}

/// What kind of entry it is, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file: its size in bytes and, once known, the digest of its content.
    File {
        /// Bytes.
        size: u64,
        /// SHA-256 of the content; none where nobody has read it yet.
        digest: Option<Digest>,
    },
    /// A symbolic link and its target, byte for byte.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A Unix-domain socket. Scans see them; they are never made.
    Socket,
}

impl Kind {
    /// The word that mtree(5) uses for it.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Dir => "dir",
            Kind::File { .. } => "file",
            Kind::Symlink(_) => "link",
            Kind::Char(..) => "char",
            Kind::Block(..) => "block",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
        }
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        matches!(self, Kind::Dir)
    }

    /// The same content, as far as is known: where a digest is missing on either side, the size decides.
    pub fn same(&self, other: &Kind) -> bool {
        match (self, other) {
            (Kind::File { size: a, digest: x }, Kind::File { size: b, digest: y }) => {
                a == b && (x.is_none() || y.is_none() || x == y)
            }
            _ => self == other,
        }
    }
}

/// What proves, without reading it, that a file is still the inode that was recorded: index data as git keeps it.
/// Size and mtime are the node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Last change of the inode.
    pub ctime: Time,
    /// Inode number.
    pub ino: u64,
}

/// One entry of a tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where.
    pub path: TreePath,
    /// Owner, mode, times.
    pub meta: Meta,
    /// Kind and content.
    pub kind: Kind,
    /// The first name, in tree order, of the inode that this name shares; that first name carries its own path. None
    /// where the tree has only this one name.
    pub group: Option<TreePath>,
    /// Why the entry is here: a set, a package and its version, an action.
    pub origin: Option<Arc<str>>,
    /// Stamp of the file in the root, taken after it was put there; files only.
    pub here: Option<Stamp>,
    /// Stamp of the file that it was copied from; directory sources only.
    pub from: Option<Stamp>,
}

impl Node {
    /// A node without group, origin and stamps.
    pub fn new(path: TreePath, meta: Meta, kind: Kind) -> Node {
        Node { path, meta, kind, group: None, origin: None, here: None, from: None }
    }

    /// Equal as the world sees it: content and metadata, not origin, stamps or link group.
    pub fn same(&self, other: &Node) -> bool {
        self.kind.same(&other.kind) && self.meta == other.meta
    }

    /// Like [`Node::same`], but a directory's mtime, which every change below it moves, does not count.
    pub fn same_but_dir_time(&self, other: &Node) -> bool {
        if self.kind.is_dir() && other.kind.is_dir() {
            let other = Meta { mtime: self.meta.mtime, ..other.meta.clone() };
            return self.meta == other;
        }
        self.same(other)
    }

    /// The digest of a regular file, if known.
    pub fn digest(&self) -> Option<Digest> {
        match self.kind {
            Kind::File { digest, .. } => digest,
            _ => None,
        }
    }

    /// The size of a regular file; 0 for anything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}

/// A sorted list of nodes: unique paths, every parent present and a directory, link groups normalised.
///
/// The root itself is the node with the empty path, if the tree says anything of it.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Sorts `nodes` and checks them.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the path that occurs twice, or whose parent is missing or no directory.
    pub fn new(mut nodes: Vec<Node>) -> Result<Tree> {
        if !nodes.is_sorted_by(|a, b| a.path <= b.path) {
            nodes.sort_by(|a, b| a.path.cmp(&b.path));
        }
        check(&nodes)?;
        Ok(Tree::from_sorted(nodes))
    }

    /// A tree of nodes that are known to be one, as a walk makes them: in order, unique, each below its directory.
    pub(crate) fn from_sorted(nodes: Vec<Node>) -> Tree {
        debug_assert!(check(&nodes).is_ok());
        let mut tree = Tree { nodes };
        tree.normalise_groups();
        tree
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Gives the nodes away.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// No entry at all?
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The index of `path`, or where it would be inserted.
    ///
    /// # Errors
    /// The insertion index, as `slice::binary_search` gives it.
    pub fn index_of(&self, path: &[u8]) -> std::result::Result<usize, usize> {
        self.nodes.binary_search_by(|node| crate::path::compare(node.path.as_bytes(), path))
    }

    /// The node at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.index_of(path).ok().map(|index| &self.nodes[index])
    }

    /// The node at `path`, to change anything but its path, group and being a directory.
    pub fn get_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        self.index_of(path).ok().map(|index| &mut self.nodes[index])
    }

    /// All nodes, to change anything but path, group and being a directory.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    /// The range of `path` and everything below it.
    pub fn subtree(&self, path: &TreePath) -> Range<usize> {
        let start = self.index_of(path.as_bytes()).unwrap_or_else(|at| at);
        let length = self.nodes[start..].partition_point(|node| node.path.is_within(path));
        start..start + length
    }

    /// The sum of the sizes of the regular files, each link group once.
    pub fn bytes(&self) -> u64 {
        let first = |n: &&Node| n.group.as_ref().is_none_or(|g| *g == n.path);
        self.nodes.iter().filter(first).map(Node::size).sum()
    }

    /// Makes every group name its first member in the tree, and dissolves groups of one.
    fn normalise_groups(&mut self) {
        let mut members: HashMap<TreePath, Vec<usize>> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(group) = &node.group {
                members.entry(group.clone()).or_default().push(index);
            }
        }
        for indices in members.into_values() {
            let first = self.nodes[indices[0]].path.clone();
            for &index in &indices {
                self.nodes[index].group = (indices.len() > 1).then(|| first.clone());
            }
        }
    }
}

/// Are the nodes, in order, a tree?
fn check(nodes: &[Node]) -> Result<()> {
    let mut open: Vec<usize> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 && nodes[index - 1].path == node.path {
            return Err(Error::new(ErrorKind::BadInput, "the path occurs twice").at(&node.path));
        }
        while open.last().is_some_and(|&top| !node.path.is_within(&nodes[top].path)) {
            open.pop();
        }
        let parent = node.path.parent_bytes().unwrap_or_default();
        let nearest = open.last().map_or(&[][..], |&top| nodes[top].path.as_bytes());
        if nearest != parent {
            return Err(Error::new(ErrorKind::BadInput, "its directory is missing").at(&node.path));
        }
        if node.kind.is_dir() && !node.path.is_root() {
            open.push(index);
        }
    }
    if nodes.first().is_some_and(|n| n.path.is_root() && !n.kind.is_dir()) {
        bail!(BadInput, "the root is not a directory");
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A node for tests: `d etc`, `f etc/passwd 10`, `l lib usr/lib`, `h b a` (b is another name of file a); `flags` at the
    /// end gives it file flags.
    pub(crate) fn node(text: &str) -> Node {
        let words: Vec<&str> = text.split(' ').collect();
        let meta = Meta { mode: 0o755, mtime: Time { sec: 7, nsec: 0 }, ..Meta::default() };
        let path = TreePath::lenient(words[1].as_bytes()).unwrap();
        let file = |seed: &str| Kind::File { size: seed.len() as u64, digest: Some(Digest([seed.as_bytes()[0]; 32])) };
        let kind = match words[0] {
            "d" => Kind::Dir,
            "l" => Kind::Symlink(words[2].as_bytes().into()),
            "h" => file("h"),
            _ => file(words.get(2).unwrap_or(&"x")),
        };
        let mut node = Node::new(path, meta, kind);
        node.meta.flags = u32::from(words.last() == Some(&"flags"));
        if words[0] == "h" {
            node.group = Some(TreePath::lenient(words[2].as_bytes()).unwrap());
        }
        node
    }

    pub(crate) fn tree(lines: &[&str]) -> Tree {
        Tree::new(lines.iter().map(|l| node(l)).collect()).unwrap()
    }

    #[test]
    fn a_tree_wants_its_parents() {
        assert!(Tree::new(vec![node("f a/b")]).is_err());
        assert!(Tree::new(vec![node("f a"), node("f a/b")]).is_err());
        assert!(Tree::new(vec![node("f a"), node("f a")]).is_err());
        assert_eq!(tree(&["f a/b", "d a", "d a-b", "d /"]).nodes()[1].path.as_bytes(), b"a");
    }

    #[test]
    fn groups_are_normalised() {
        let tree = tree(&["h z q", "h b q", "h c other"]);
        let groups: Vec<_> = tree.nodes().iter().map(|n| n.group.as_ref().map(ToString::to_string)).collect();
        assert_eq!(groups, [Some("b".to_owned()), None, Some("b".to_owned())]);
    }

    #[test]
    fn subtrees_are_ranges() {
        let tree = tree(&["d /", "d a", "f a/b", "d a/c", "f a/c/d", "f a-b"]);
        assert_eq!(tree.subtree(&TreePath::new(*b"a").unwrap()), 1..5);
        assert_eq!(tree.subtree(&TreePath::root()), 0..6);
        assert_eq!(tree.subtree(&TreePath::new(*b"a-a").unwrap()), 5..5);
    }
}
