// SPDX-License-Identifier: ISC
//! [`remove_tree`]: deleting whatever lies at a name, however deep, without leaving it (decision E15).
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, Entry, FileType, effective_uid};
use crate::watch::Watch;

use super::parents::{in_the_way, mounted};

/// So many of the deepest directories are held open; the ones above are reached again through `..`.
const OPEN: usize = 32;

/// Removes `name` in `parent` with everything below it; nothing to do if it is not there.
///
/// # Errors
/// [`ErrorKind::Refused`] at a mount point, and if a directory was moved away while its contents were removed; what
/// the system says. What was removed so far is gone.
pub fn remove_tree(parent: &Dir, name: &[u8], watch: &Watch) -> Result<()> {
    match parent.find(name).on("stat", name)? {
        None => return Ok(()),
        Some(stat) if stat.kind != FileType::Dir => return parent.unlink(name).on("unlink", name),
        Some(_) => {}
    }
    let mut walk = Walk { levels: Vec::new(), unlock: effective_uid() != 0, watch };
    walk.enter(parent, name)?;
    while let Some(top) = walk.levels.last_mut() {
        match top.subdirs.pop() {
            Some(below) => walk.descend(&below)?,
            None => walk.leave(parent)?,
        }
    }
    Ok(())
}

struct Walk<'a> {
    levels: Vec<Level>,
    /// Not root: a directory must be ours to write before anything in it can go.
    unlock: bool,
    watch: &'a Watch,
}

struct Level {
    name: Box<[u8]>,
    subdirs: Vec<Box<[u8]>>,
    at: At,
}

enum At {
    Open(Dir),
    /// Device and inode by which it is known again.
    Closed((u32, u32), u64),
}

impl Walk<'_> {
    /// Opens `name` in `dir` and removes from it everything but directories.
    fn enter(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        if self.unlock {
            let stat = dir.stat(name).map_err(|e| self.fail("stat", name, &e))?;
            if stat.mode & 0o700 != 0o700 {
                dir.set_mode(name, stat.mode | 0o700).map_err(|e| self.fail("chmod", name, &e))?;
            }
        }
        let opened = dir.walk(&TreePath::new(name)?).map_err(|e| in_the_way(&e, &self.path(name)))?;
        let mut level = Level { name: name.into(), subdirs: Vec::new(), at: At::Closed((0, 0), 0) };
        let entries = opened.entries().map_err(|e| self.fail("getdents", name, &e))?;
        self.watch.count(entries.len() as u64, 0)?;
        for entry in entries {
            if is_dir(&opened, &entry).map_err(|e| self.fail("stat", name, &e))? {
                level.subdirs.push(entry.name);
            } else if let Err(error) = opened.unlink(&entry.name) {
                let path = self.path(name).join(&entry.name)?;
                let busy = error.kind() == std::io::ErrorKind::ResourceBusy;
                return Err(if busy { mounted(&path) } else { Error::io("unlink", &path, &error) });
            }
        }
        level.at = At::Open(opened);
        self.levels.push(level);
        Ok(())
    }

    fn descend(&mut self, name: &[u8]) -> Result<()> {
        if let Some(far) = self.levels.len().checked_sub(OPEN)
            && let At::Open(dir) = &self.levels[far].at
        {
            let stat = dir.stat_self().map_err(|e| self.fail("stat", name, &e))?;
            self.levels[far].at = At::Closed(stat.dev, stat.ino);
        }
        let Some(Level { at: At::Open(dir), .. }) = self.levels.last() else { unreachable!("the deepest is open") };
        let dir = dir.try_clone().on("dup", name)?;
        self.enter(&dir, name)
    }

    /// Removes the deepest directory, which is empty now.
    fn leave(&mut self, parent: &Dir) -> Result<()> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        if let Some(Level { at, .. }) = self.levels.last_mut()
            && let (At::Closed(dev, ino), At::Open(below)) = (&*at, &done.at)
        {
            let dir = below.open_dir(b"..").on("open", &done.name)?;
            let stat = dir.stat_self().on("stat", &done.name)?;
            if (stat.dev, stat.ino) != (*dev, *ino) {
                return Err(Error::new(ErrorKind::Refused, "it was moved while it was removed").at(&done.name));
            }
            *at = At::Open(dir);
        }
        let above = match self.levels.last() {
            Some(Level { at: At::Open(dir), .. }) => dir,
            _ => parent,
        };
        above.remove_dir(&done.name).map_err(|e| self.fail("rmdir", &done.name, &e))
    }

    /// The whole path of `name` in the deepest directory; only for errors.
    fn path(&self, name: &[u8]) -> TreePath {
        let names: Vec<&[u8]> = self.levels.iter().map(|l| &*l.name).chain([name]).collect();
        TreePath::new(names.join(&b'/')).unwrap_or_default()
    }

    fn fail(&self, operation: &'static str, name: &[u8], error: &std::io::Error) -> Error {
        Error::io(operation, self.path(name), error)
    }
}

fn is_dir(dir: &Dir, entry: &Entry) -> std::io::Result<bool> {
    Ok(match entry.kind {
        Some(kind) => kind == FileType::Dir,
        None => dir.stat(&entry.name)?.kind == FileType::Dir,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::sys::Calls;

    fn open(temp: &tempfile::TempDir) -> Dir {
        Dir::open(temp.path(), Calls::from_env()).unwrap()
    }

    #[test]
    fn it_goes_and_nothing_else_does() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir_all(at("tree/a/b/c")).unwrap();
        fs::create_dir_all(at("tree/closed/below")).unwrap();
        fs::create_dir(at("other")).unwrap();
        fs::write(at("other/file"), "x").unwrap();
        symlink(at("other"), at("tree/a/link")).unwrap();
        fs::hard_link(at("other/file"), at("tree/a/b/name")).unwrap();
        fs::set_permissions(at("tree/closed"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(at("tree/closed/below"), fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&open(&temp), b"tree", &Watch::default()).unwrap();
        remove_tree(&open(&temp), b"tree", &Watch::default()).unwrap();
        assert!(!at("tree").exists() && fs::read_dir(at("other")).unwrap().count() == 1);
        symlink(at("other"), at("link")).unwrap();
        remove_tree(&open(&temp), b"link", &Watch::default()).unwrap();
        assert!(!at("link").is_symlink() && at("other/file").exists());
    }

    #[test]
    fn a_hundred_thousand_levels() {
        let temp = crate::apply::tests::world::temp();
        let mut dir = open(&temp);
        for _ in 0..100_000 {
            dir.make_dir(b"d", 0o700).unwrap();
            dir = dir.open_dir(b"d").unwrap();
        }
        drop(dir.create_file(b"bottom", 0o600).unwrap());
        drop(dir);
        remove_tree(&open(&temp), b"d", &Watch::default()).unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn errors_name_the_whole_path() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("a/b")).unwrap();
        let watch = Watch::default();
        let mut walk = Walk { levels: Vec::new(), unlock: false, watch: &watch };
        walk.enter(&open(&temp), b"a").unwrap();
        walk.descend(b"b").unwrap();
        let error = walk.fail("unlink", b"c", &std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(error.path(), Some(&b"a/b/c"[..]));
    }
}
