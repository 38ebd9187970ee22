// SPDX-License-Identifier: ISC
//! [`View`]: the host as the closure looks at it. Links are followed here, inside the root, and remembered; so is every
//! path that was asked for, there or not: while all of those are as they were, the closure is too.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::rc::Rc;

use crate::error::Result;
use crate::path::TreePath;
use crate::select::packages::Host;
use crate::sys::{Dir, FileType, Stat};

/// How many symlinks one path may go through, as the kernel counts.
const MAX_LINKS: usize = 40;
/// The longest path that is followed, in bytes.
const MAX_PATH: usize = 4096;

/// What the kernel shows of a running system: links lead there, but nothing there is taken, and it may not even be ours to
/// read.
const SHOWN: [&[u8]; 2] = [b"proc", b"sys"];

/// Where a path leads.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The links on the way, in the order in which they are met.
    pub links: Vec<TreePath>,
    /// What is at the end; none if that does not exist, or is what the kernel shows of a running system.
    pub end: Option<(TreePath, FileType)>,
    /// Nothing is at the end because the links go in a circle.
    pub circle: bool,
}

impl Found {
    /// The end, if it is a regular file.
    pub fn file(&self) -> Option<&TreePath> {
        self.end.as_ref().filter(|(_, kind)| *kind == FileType::File).map(|(path, _)| path)
    }

    /// The end, if it is a directory.
    pub fn dir(&self) -> Option<&TreePath> {
        self.end.as_ref().filter(|(_, kind)| *kind == FileType::Dir).map(|(path, _)| path)
    }
}

/// A host's tree, read-only, with a memory.
#[derive(Debug)]
pub struct View {
    host: Host,
    stats: RefCell<HashMap<TreePath, Option<Rc<Stat>>>>,
    found: RefCell<HashMap<Vec<u8>, Rc<Found>>>,
    /// Canonical paths that were asked for; true for directories whose names were.
    asked: RefCell<BTreeMap<TreePath, bool>>,
}

impl View {
    /// Looks at the tree below `root`.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated.
    pub fn new(root: &Dir) -> Result<View> {
        let host = Host::new(root)?;
        Ok(View { host, stats: RefCell::default(), found: RefCell::default(), asked: RefCell::default() })
    }

    /// Every canonical path that was asked for, and whether its names were (a directory).
    pub fn asked(&self) -> BTreeMap<TreePath, bool> {
        self.asked.borrow().clone()
    }

    /// What is at the canonical path `path`; none if nothing is.
    ///
    /// # Errors
    /// As fstatat(2).
    pub fn stat(&self, path: &TreePath) -> Result<Option<Rc<Stat>>> {
        if let Some(known) = self.stats.borrow().get(path) {
            return Ok(known.clone());
        }
        let stat = self.host.stat(path)?.map(Rc::new);
        if !path.is_root() {
            self.asked.borrow_mut().entry(path.clone()).or_insert(false);
        }
        self.stats.borrow_mut().insert(path.clone(), stat.clone());
        Ok(stat)
    }

    /// Where the absolute path `path` leads, as the kernel would find it with this tree as its root.
    ///
    /// # Errors
    /// As the system calls.
    pub fn follow(&self, path: &[u8]) -> Result<Rc<Found>> {
        if path.len() > MAX_PATH || path.contains(&0) {
            return Ok(Rc::default());
        }
        if let Some(found) = self.found.borrow().get(path) {
            return Ok(Rc::clone(found));
        }
        let found = Rc::new(self.walk(path)?);
        self.found.borrow_mut().insert(path.to_vec(), Rc::clone(&found));
        Ok(found)
    }

    fn walk(&self, path: &[u8]) -> Result<Found> {
        let mut found = Found::default();
        let (mut at, mut kind) = (TreePath::root(), FileType::Dir);
        let mut todo = names(path);
        while let Some(name) = todo.pop() {
            if kind != FileType::Dir || name.len() > crate::path::MAX_NAME {
                return Ok(found);
            }
            if name == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = at.join(&name)?;
            if SHOWN.contains(&next.as_bytes()) {
                return Ok(found);
            }
            let Some(stat) = self.stat(&next)? else { return Ok(found) };
            kind = stat.kind;
            if kind != FileType::Symlink {
                at = next;
                continue;
            }
            found.links.push(next.clone());
            if found.links.len() > MAX_LINKS {
                return Ok(Found { circle: true, ..found });
            }
            let target = self.host.read_link(&next)?;
            if target.starts_with(b"/") {
                at = TreePath::root();
            }
            kind = FileType::Dir;
            todo.extend(names(&target));
        }
        found.end = Some((at, kind));
        Ok(found)
    }

    /// Opens the regular file at a canonical path; none if it is something else by now.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open(&self, path: &TreePath) -> Result<Option<File>> {
        self.host.open_file(path)
    }

    /// The first `limit` bytes of the file that `path` leads to; none if there is no such file.
    ///
    /// # Errors
    /// As [`View::follow`] and read(2); [`ErrorKind::BadInput`] if it is longer than `limit`.
    pub fn read(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
        match self.follow(path)?.file() {
            Some(file) => self.host.read(file, limit),
            None => Ok(None),
        }
    }

    /// As [`View::read`], as text; empty if there is none, and bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn text(&self, path: &str, limit: u64) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path.as_bytes(), limit)?.unwrap_or_default()).into_owned())
    }

    /// The sorted names in the directory that `path` leads to; none if there is no such directory.
    ///
    /// # Errors
    /// As [`View::follow`] and getdents(2).
    pub fn names(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>> {
        let found = self.follow(path)?;
        let Some(dir) = found.dir() else { return Ok(Vec::new()) };
        if !dir.is_root() {
            self.asked.borrow_mut().insert(dir.clone(), true);
        }
        self.host.list(dir)
    }
}

/// The names of a path, last one first; `.` and empty ones are nothing.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".").rev().map(<[u8]>::to_vec).collect()
}

/// `dir/name` as bytes of an absolute path.
pub(crate) fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    [dir.strip_suffix(b"/").unwrap_or(dir), b"/", name].concat()
}

/// The absolute path of a path in the tree.
pub(crate) fn absolute(path: &TreePath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Calls;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside_and_remembered() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
        std::fs::write(root.join("usr/lib/libx.so.1.2"), "x").unwrap();
        for (target, name) in [
            ("/usr/lib", "lib"),
            ("libx.so.1.2", "usr/lib/libx.so.1"),
            ("../../../../../lib/libx.so.1", "usr/lib/deep/up"),
            ("loop", "loop"),
            ("/none", "dangling"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let view = View::new(&Dir::open(root, Calls::Native).unwrap()).unwrap();
        for (path, links, end) in [
            ("/lib/libx.so.1", "lib usr/lib/libx.so.1", "usr/lib/libx.so.1.2"),
            ("/usr/lib/deep/up", "usr/lib/deep/up lib usr/lib/libx.so.1", "usr/lib/libx.so.1.2"),
            ("/usr/lib/deep/../libx.so.1.2", "", "usr/lib/libx.so.1.2"),
            ("/../lib", "lib", "usr/lib"),
            ("/lib/libx.so.1/more", "lib usr/lib/libx.so.1", "-"),
            ("/dangling", "dangling", "-"),
            ("/", "", "/"),
            ("relative", "", "-"),
        ] {
            let found = view.follow(path.as_bytes()).unwrap();
            let shown: Vec<String> = found.links.iter().map(ToString::to_string).collect();
            let at = found.end.as_ref().map_or("-".to_owned(), |(path, _)| path.to_string());
            assert_eq!((shown.join(" "), at), (links.to_owned(), end.to_owned()), "{path}");
        }
        let circle = view.follow(b"/loop").unwrap();
        assert!(circle.circle && circle.end.is_none());
        assert_eq!(view.names(b"/lib/deep").unwrap(), [(*b"up").into()]);
        let asked = view.asked();
        let told = |path: &str| asked.get(&TreePath::new(path.as_bytes()).unwrap()).copied();
        assert_eq!(
            [told("usr/lib/deep"), told("usr/lib"), told("none"), told("never")],
            [Some(true), Some(false), Some(false), None]
        );
    }
}
