// SPDX-License-Identifier: ISC
//! One digest for all that stat(2) says of a directory and everything below it: while it stays the same, nothing there
//! was touched. Half the work of a scan, since nothing is kept.
#![forbid(unsafe_code)]

use std::io;

use sha2::{Digest as _, Sha256};

use super::clock::Settled;
use super::names::Names;
use crate::error::Result;
use crate::path::TreePath;
use crate::sys::{Dir, FileType, Stat, is_no_directory, is_symlink_in_the_way};
use crate::tree::{Digest, Time};
use crate::watch::Watch;

/// Directories within directories, beyond which it is not tried: each is an open descriptor.
const DEEPEST: usize = 48;

/// The fingerprint of `root`. That of a directory which is renamed stays the same.
///
/// Names, types, inodes and times of their last change (ctime) are what counts: a later change of content or metadata, by
/// whatever call, moves a ctime. None where that proves nothing: something was changed within the current tick of the
/// clock, cannot be looked at or goes away meanwhile; another filesystem is mounted below; it is very deep.
///
/// # Errors
/// [`crate::ErrorKind::Cancelled`].
pub fn fingerprint(root: &Dir, watch: &Watch) -> Result<Option<Digest>> {
    let Some((mut walk, top)) = Walk::start(root).unwrap_or_default() else { return Ok(None) };
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.below.pop() else {
            levels.pop();
            continue;
        };
        let next = level.dir.open_dir(&name).and_then(|dir| walk.list(dir));
        let Some(next) = next.unwrap_or_default().filter(|_| levels.len() < DEEPEST) else { return Ok(None) };
        watch.count(next.entries, 0)?;
        levels.push(next);
    }
    Ok(Some(Digest(walk.hash.finalize().into())))
}

struct Walk {
    mount: u64,
    settled: Settled,
    hash: Sha256,
}

/// An open directory, and the names of the directories in it that are still to be entered.
struct Level {
    dir: Dir,
    below: Vec<Box<[u8]>>,
    entries: u64,
}

impl Walk {
    /// The root itself is told by its metadata: renaming it moves its ctime.
    fn start(root: &Dir) -> io::Result<Option<(Walk, Level)>> {
        let stat = root.stat_self()?;
        let mut walk = Walk { mount: stat.mount, settled: Settled::now(), hash: Sha256::new() };
        walk.add(b"", &Stat { ctime: Time::default(), ..stat });
        for (name, value) in root.xattrs(b".", FileType::Dir)? {
            walk.add(&name, &stat);
            walk.add(&value, &stat);
        }
        let top = walk.list(root.try_clone()?)?;
        Ok(top.map(|top| (walk, top)))
    }

    /// Adds what is in `dir`; none if that proves nothing.
    fn list(&mut self, dir: Dir) -> io::Result<Option<Level>> {
        let names = Names::of(&dir)?;
        let names = names.sorted();
        self.hash.update(names.len().to_le_bytes());
        let mut below = Vec::new();
        for name in &names {
            let stat = dir.stat(name)?;
            if stat.mount != self.mount || !self.settled.holds(stat.ctime) {
                return Ok(None);
            }
            self.add(name, &stat);
            if stat.kind == FileType::Dir {
                below.push((*name).into());
            }
        }
        Ok(Some(Level { dir, below, entries: names.len() as u64 }))
    }

    fn add(&mut self, name: &[u8], stat: &Stat) {
        let mut record = [0; 64];
        let fields = [
            stat.ino,
            stat.ctime.sec as u64,
            stat.mtime.sec as u64,
            u64::from(stat.ctime.nsec) << 32 | u64::from(stat.mtime.nsec),
            u64::from(stat.uid) << 32 | u64::from(stat.gid),
            u64::from(stat.mode) << 48 | (stat.kind as u64) << 40 | name.len() as u64,
            stat.size,
            u64::from(stat.rdev.0) << 32 | u64::from(stat.rdev.1),
        ];
        for (bytes, field) in record.chunks_exact_mut(8).zip(fields) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        self.hash.update(record);
        self.hash.update(name);
    }
}

/// One digest for what stat(2) says of these paths below `root`, and of those that are not there. True marks a directory
/// whose names count; of others only what it is itself. None if one of them was changed at `since` or later.
///
/// # Errors
/// [`crate::ErrorKind::Cancelled`]; as the system calls.
pub fn fingerprint_paths<'a>(
    root: &Dir,
    paths: impl Iterator<Item = (&'a TreePath, bool)>,
    since: Time,
    watch: &Watch,
) -> Result<Option<Digest>> {
    let mut walk = Walk { mount: 0, settled: Settled::at(since), hash: Sha256::new() };
    // In order, so that each directory is opened once.
    let mut open: Vec<(Vec<u8>, Dir)> = Vec::new();
    for (path, listed) in paths {
        watch.count(1, 0)?;
        let parent = path.parent_bytes().unwrap_or_default();
        while open.last().is_some_and(|(at, _)| !within(parent, at)) {
            open.pop();
        }
        let stat = match find(root, &mut open, parent).and_then(|dir| dir.map_or(Ok(None), |dir| dir.find(path.name())))
        {
            Ok(stat) => stat,
            Err(e) if is_no_directory(&e) || is_symlink_in_the_way(&e) => None,
            Err(e) => return Err(crate::error::Error::io("stat", path, &e)),
        };
        match stat {
            None => walk.hash.update([path.as_bytes(), b"\0none\0"].concat()),
            Some(stat) if stat.kind == FileType::Dir && !listed => {
                let none = Time::default();
                walk.add(path.as_bytes(), &Stat { ctime: none, mtime: none, size: 0, ..stat });
            }
            Some(stat) if !walk.settled.holds(stat.ctime) => return Ok(None),
            Some(stat) => walk.add(path.as_bytes(), &stat),
        }
    }
    Ok(Some(Digest(walk.hash.finalize().into())))
}

/// Is the directory `at` the directory `path`, or above it?
fn within(path: &[u8], at: &[u8]) -> bool {
    path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || at.is_empty())
}

/// The directory `path`, by way of those that are open; none if there is no such directory.
fn find<'a>(root: &'a Dir, open: &'a mut Vec<(Vec<u8>, Dir)>, path: &[u8]) -> io::Result<Option<&'a Dir>> {
    loop {
        let start = open.last().map_or(0, |(at, _)| at.len());
        if start == path.len() {
            break;
        }
        let skip = start + usize::from(start > 0);
        let end = path[skip..].iter().position(|&b| b == b'/').map_or(path.len(), |at| skip + at);
        let dir = match open.last().map_or(root, |(_, dir)| dir).open_dir(&path[skip..end]) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            dir => dir?,
        };
        open.push((path[..end].to_vec(), dir));
    }
    Ok(Some(open.last().map_or(root, |(_, dir)| dir)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::dir::clock::settle;
    use crate::sys::{Calls, change_clock};
    use std::path::Path;
    use std::process::Command;

    fn shell(dir: &Path, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(dir).status().unwrap();
        assert!(status.success(), "{script}");
    }

    fn print(dir: &Path) -> Option<Digest> {
        fingerprint(&Dir::open(dir, Calls::from_env()).unwrap(), &Watch::default()).unwrap()
    }

    #[test]
    fn whatever_is_touched_shows() {
        let scratch = tempfile::tempdir().unwrap();
        let top = scratch.path().join("top");
        shell(
            scratch.path(),
            "mkdir -p top/d/e; cd top; echo one > f; echo two > d/g; ln -s f l; touch -r f stamp; ln f h",
        );
        settle();
        let before = print(&top).expect("settled");
        for (script, shows) in [
            ("cat f > /dev/null; ls -R . > /dev/null", false),
            ("mv ../top ../other; mv ../other ../top", false),
            ("echo owt > d/g", true),
            ("echo two > d/g; touch -r stamp d/g", true),
            ("touch -r stamp f", true),
            ("chmod 600 f", true),
            ("chmod 700 d/e", true),
            ("chmod 700 .", true),
            ("setfattr -n user.a -v b d/e || chmod 711 d/e", true),
            ("ln -sfn g l", true),
            ("echo > new; rm new", true),
            ("ln f d/i", true),
            ("rm h", true),
            ("mv d/g d/j", true),
            ("mkdir d/e/k", true),
            ("rmdir d/e/k", true),
        ] {
            let before = if shows { print(&top).expect("settled") } else { before };
            shell(&top, script);
            settle();
            let after = print(&top).expect("settled");
            assert_eq!(before != after, shows, "{script}");
            assert_eq!(print(&top), Some(after), "{script}");
        }
    }

    #[test]
    fn what_proves_nothing_has_none() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(DEEPEST + 1);
        shell(scratch.path(), &format!("mkdir -p {deep}"));
        settle();
        assert_eq!(print(scratch.path()), None, "too deep");
        // Again, if the clock ticked between writing and looking.
        let looks = std::iter::repeat_with(|| {
            let tick = change_clock();
            std::fs::write(scratch.path().join("f"), "x").unwrap();
            std::fs::remove_dir_all(scratch.path().join("d")).ok();
            (tick, print(scratch.path()), change_clock())
        });
        let (_, now, _) = looks.take(1000).find(|(before, _, after)| before == after).expect("a tick is long enough");
        assert_eq!(now, None, "changed in this tick");
        settle();
        assert_ne!(print(scratch.path()), None);
    }
}
