// SPDX-License-Identifier: ISC
//! [`remove_tree`]: deleting whatever lies at a name, however deep, without leaving it (decision E15).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, Entry, FileType, HOLDING_FLAGS, effective_uid, remove_subvolume};
use crate::watch::Watch;

use super::meta::release;
use super::parents::{in_the_way, mounted};

/// So many of the deepest directories are held open; the ones above are reached again through `..`.
const OPEN: usize = 32;

/// So many directories are handed out to threads, as far as there are so many in the upper levels.
const BRANCHES: usize = 64;
/// Directories deeper than this are not looked for to be handed out.
const SHALLOW: usize = 4;

/// Removes `name` in `parent` with everything below it; nothing to do if it is not there.
///
/// # Errors
/// [`ErrorKind::Refused`] at a mount point, and if a directory was moved away while its contents were removed; what
/// the system says. What was removed so far is gone.
pub fn remove_tree(parent: &Dir, name: &[u8], watch: &Watch) -> Result<()> {
    match parent.find(name).on("stat", name)? {
        None => return Ok(()),
        Some(stat) if stat.kind != FileType::Dir => return unlink(parent, name).on("unlink", name),
        Some(_) if remove_subvolume(parent, name).on("stat", name)? => return Ok(()),
        Some(_) => {}
    }
    // Not root: a directory must be ours to write before anything in it can go.
    let unlock = effective_uid() != 0;
    if !unlock {
        remove_branches(parent, name, watch)?;
    }
    Walk { above: TreePath::root(), levels: Vec::new(), unlock, watch }.run(parent, name)
}

/// Removes a name, whatever file flags hold it.
fn unlink(dir: &Dir, name: &[u8]) -> std::io::Result<()> {
    match dir.unlink(name) {
        Err(error) if HOLDING_FLAGS != 0 && error.kind() == std::io::ErrorKind::PermissionDenied => {
            release(dir, name, &dir.stat(name)?)?;
            dir.unlink(name)
        }
        done => done,
    }
}

/// Removes directories some levels down, by several threads; what is left of the tree then is little.
fn remove_branches(parent: &Dir, name: &[u8], watch: &Watch) -> Result<()> {
    let above = TreePath::new(name)?;
    let top = parent.walk(&above).map_err(|e| in_the_way(&e, &above))?;
    let branches = branches(&top).on("readdir", name)?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(path) = branches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let parent = top.walk_parent(path).map_err(|e| in_the_way(&e, path))?;
            let above = above.under(&path.parent().unwrap_or_default())?;
            let mut walk = Walk { above, levels: Vec::new(), unlock: false, watch };
            walk.run(&parent, path.name()).inspect_err(|_| next.store(branches.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(branches.len());
    if threads < 2 {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, _>| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        workers.into_iter().map(join).fold(Ok(()), Result::and)
    })
}

/// Some directories below `top`, none in another. What cannot be opened is left to the walk that says so.
fn branches(top: &Dir) -> std::io::Result<Vec<TreePath>> {
    let mut open = VecDeque::from([TreePath::root()]);
    let mut closed = Vec::new();
    while let Some(path) = open.pop_front() {
        if path.depth() == SHALLOW || open.len() + closed.len() >= BRANCHES {
            closed.push(path);
            continue;
        }
        let Ok(dir) = top.walk(&path) else { continue };
        for entry in dir.entries()? {
            if is_dir(&dir, &entry)? {
                open.extend(path.join(&entry.name));
            }
        }
    }
    closed.retain(|path| !path.is_root());
    Ok(closed)
}

struct Walk<'a> {
    /// What leads to the directory in which it begins; for errors.
    above: TreePath,
    levels: Vec<Level>,
    /// A directory is made ours to write first.
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
    /// Removes the directory `name` in `parent`.
    fn run(&mut self, parent: &Dir, name: &[u8]) -> Result<()> {
        self.enter(parent, name)?;
        while let Some(top) = self.levels.last_mut() {
            match top.subdirs.pop() {
                Some(below) => self.descend(&below)?,
                None => self.leave(parent)?,
            }
        }
        Ok(())
    }

    /// Opens `name` in `dir` and removes from it everything but directories.
    fn enter(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        if self.unlock || HOLDING_FLAGS != 0 {
            let stat = dir.stat(name).map_err(|e| self.fail("stat", name, &e))?;
            release(dir, name, &stat).map_err(|e| self.fail("chflags", name, &e))?;
            if self.unlock && stat.mode & 0o700 != 0o700 {
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
            } else if let Err(error) = unlink(&opened, &entry.name) {
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
        let names = self.levels.iter().map(|level| &*level.name).chain([name]);
        let names: Vec<&[u8]> = self.above.components().chain(names).collect();
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
        let mut walk = Walk { above: TreePath::root(), levels: Vec::new(), unlock: false, watch: &watch };
        walk.enter(&open(&temp), b"a").unwrap();
        walk.descend(b"b").unwrap();
        let error = walk.fail("unlink", b"c", &std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(error.path(), Some(&b"a/b/c"[..]));
    }
}
