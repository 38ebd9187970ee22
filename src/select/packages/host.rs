// SPDX-License-Identifier: ISC
//! [`Host`]: reads files of a host by path. Symlinks are resolved here, inside the given root, and mounts are crossed,
//! because a host may have `/usr` and `/var` on filesystems of their own.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind as Io, Read};
use std::rc::Rc;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType, Stat};

/// How many symlinks one path may go through, as the kernel counts.
const MAX_LINKS: usize = 40;

/// A host's tree, read-only. Paths given to it may go through symlinks; paths that it returns do not.
#[derive(Debug)]
pub struct Host {
    root: Rc<Dir>,
    /// The directories on the way to the one used last: callers go through a tree in order.
    last: RefCell<Vec<(TreePath, Rc<Dir>)>>,
    /// Canonical directories by the names they were asked for; none where there is no such directory.
    known: RefCell<HashMap<TreePath, Option<TreePath>>>,
}

impl Host {
    /// Reads the tree below `root`.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated.
    pub fn new(root: &Dir) -> Result<Host> {
        let root = Rc::new(root.try_clone().on("fcntl", "/")?);
        Ok(Host { root, last: RefCell::default(), known: RefCell::default() })
    }

    /// The canonical path of the directory `path`; none if there is no such directory.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] after 40 links; or as the system calls.
    pub fn directory(&self, path: &TreePath) -> Result<Option<TreePath>> {
        let bytes = path.as_bytes();
        let mut found = TreePath::root();
        let mut end = 0;
        for name in path.components() {
            end += name.len() + usize::from(end > 0);
            let known = self.known.borrow().get(&bytes[..end]).cloned();
            let next = match known {
                Some(known) => known,
                None => {
                    let next = self.enter(&found.join(name)?)?;
                    self.known.borrow_mut().insert(TreePath::new(&bytes[..end])?, next.clone());
                    next
                }
            };
            match next {
                Some(next) => found = next,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The canonical path of the directory `path`, whose parent is canonical.
    fn enter(&self, path: &TreePath) -> Result<Option<TreePath>> {
        match self.stat(path)?.map(|stat| stat.kind) {
            Some(FileType::Dir) => Ok(Some(path.clone())),
            Some(FileType::Symlink) => self.follow(path, FileType::Dir),
            _ => Ok(None),
        }
    }

    /// `path` with its directories made canonical and its last name as it is; none if the directory does not exist.
    ///
    /// # Errors
    /// As [`Host::directory`].
    pub fn place(&self, path: &TreePath) -> Result<Option<TreePath>> {
        let Some(parent) = path.parent() else { return Ok(Some(TreePath::root())) };
        self.directory(&parent)?.map(|parent| parent.join(path.name())).transpose()
    }

    /// The canonical path of `path`, if that leads to something of type `want`.
    fn follow(&self, path: &TreePath, want: FileType) -> Result<Option<TreePath>> {
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let (mut at, mut links, mut kind) = (TreePath::root(), 0, FileType::Dir);
        while let Some(name) = todo.pop() {
            if name == b".." {
                at = at.parent().unwrap_or_default();
                kind = FileType::Dir;
                continue;
            }
            let next = at.join(&name)?;
            let Some(stat) = self.stat(&next)? else { return Ok(None) };
            kind = stat.kind;
            if kind != FileType::Symlink {
                at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::new(ErrorKind::BadInput, "too many symbolic links").at(path));
            }
            let target = self.read_link(&next)?;
            if target.starts_with(b"/") {
                at = TreePath::root();
            }
            kind = FileType::Dir;
            let names = target.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".");
            todo.extend(names.rev().map(<[u8]>::to_vec));
        }
        Ok((kind == want).then_some(at))
    }

    /// What is at the canonical path `path`; none if nothing is.
    ///
    /// # Errors
    /// As fstatat(2).
    pub fn stat(&self, path: &TreePath) -> Result<Option<Stat>> {
        let Some(parent) = path.parent() else { return self.root.stat_self().on("stat", "/").map(Some) };
        match self.open(&parent)? {
            Some(dir) => dir.find(path.name()).on("stat", path),
            None => Ok(None),
        }
    }

    /// The target of the symlink at the canonical path `path`.
    ///
    /// # Errors
    /// As readlinkat(2).
    pub fn read_link(&self, path: &TreePath) -> Result<Box<[u8]>> {
        let parent = path.parent().and_then(|parent| self.open(&parent).transpose()).transpose()?;
        let Some(dir) = parent else { return Err(Error::new(ErrorKind::NotFound, "no such link").at(path)) };
        dir.read_link(path.name()).on("readlink", path)
    }

    /// The content of the regular file `path` leads to, of at most `limit` bytes; none if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is larger; or as the system calls.
    pub fn read(&self, path: &TreePath, limit: u64) -> Result<Option<Vec<u8>>> {
        // Most are no links, in a directory that is known.
        let Some(place) = self.place(path)? else { return Ok(None) };
        let found = match self.stat(&place)?.map(|stat| stat.kind) {
            Some(FileType::File) => place,
            Some(FileType::Symlink) => match self.follow(&place, FileType::File)? {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(dir) = self.open(&found.parent().unwrap_or_default())? else { return Ok(None) };
        let mut content = Vec::new();
        let file = dir.open_file(found.name()).on("open", &found)?;
        file.take(limit + 1).read_to_end(&mut content).on("read", &found)?;
        if content.len() as u64 > limit {
            return Err(Error::new(ErrorKind::BadInput, format!("larger than {limit} bytes")).at(&found));
        }
        Ok(Some(content))
    }

    /// Opens the regular file at a canonical path; none if it is missing or something else.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open_file(&self, path: &TreePath) -> Result<Option<File>> {
        let Some(dir) = self.open(&path.parent().unwrap_or_default())? else { return Ok(None) };
        match dir.open_regular(path.name()) {
            Err(e) if e.kind() == Io::NotFound => Ok(None),
            file => file.on("open", path),
        }
    }

    /// The names in the directory `path`, sorted; none if it does not exist.
    ///
    /// # Errors
    /// As getdents(2).
    pub fn list(&self, path: &TreePath) -> Result<Vec<Box<[u8]>>> {
        let Some(found) = self.directory(path)? else { return Ok(Vec::new()) };
        let Some(dir) = self.open(&found)? else { return Ok(Vec::new()) };
        let mut names: Vec<_> = dir.entries().on("getdents", &found)?.into_iter().map(|entry| entry.name).collect();
        names.sort();
        Ok(names)
    }

    /// Opens the directory at a canonical path; none if it is missing or no directory.
    fn open(&self, path: &TreePath) -> Result<Option<Rc<Dir>>> {
        let mut last = self.last.borrow_mut();
        while last.last().is_some_and(|(at, _)| !path.is_within(at)) {
            last.pop();
        }
        let open = last.last().map_or(0, |(at, _)| at.depth());
        for name in path.components().skip(open) {
            let (at, dir) = last.last().map_or((TreePath::root(), &self.root), |(at, dir)| (at.clone(), dir));
            let next = match dir.open_dir(name) {
                Ok(next) => (at.join(name)?, Rc::new(next)),
                Err(e) if matches!(e.kind(), Io::NotFound | Io::NotADirectory) => return Ok(None),
                Err(e) => return Err(Error::io("open", path, &e)),
            };
            last.push(next);
        }
        Ok(Some(Rc::clone(last.last().map_or(&self.root, |(_, dir)| dir))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Calls;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_root() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("usr/bin/ls"), "ls").unwrap();
        for (target, name) in [
            ("usr/bin", "bin"),
            ("/usr/../../usr/./bin/", "up"),
            ("/etc", "out"),
            ("loop", "loop"),
            ("usr/bin/ls", "file"),
            ("/usr/bin/ls", "usr/bin/dir"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let host = Host::new(&Dir::open(root, Calls::Native).unwrap()).unwrap();
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        for (asked, want) in [
            ("bin/ls", Some("usr/bin/ls")),
            ("up/ls", Some("usr/bin/ls")),
            ("up/new", Some("usr/bin/new")),
            ("bin", Some("bin")),
            ("out/passwd", None),
            ("file/x", None),
            ("bin/ls/x", None),
            ("bin/dir", Some("usr/bin/dir")),
        ] {
            assert_eq!(host.place(&path(asked)).unwrap(), want.map(path), "{asked}");
        }
        assert!(host.place(&path("loop/x")).is_err());
        let deep = "bin/a/".repeat(9000) + "x";
        assert_eq!(host.place(&path(&deep)).unwrap(), None);
        assert_eq!(host.read(&path("bin/dir"), 2).unwrap().as_deref(), Some(&b"ls"[..]));
        assert_eq!(host.read(&path("bin/dir"), 1).unwrap_err().to_string(), "usr/bin/ls: larger than 1 bytes");
        assert_eq!(host.read(&path("bin"), 9).unwrap(), None);
        assert_eq!(host.list(&path("up")).unwrap(), [(*b"dir").into(), (*b"ls").into()]);
        assert!(host.list(&path("none")).unwrap().is_empty());
    }
}
