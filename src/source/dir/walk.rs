// SPDX-License-Identifier: ISC
//! The walk: threads take directories from a pool, and their findings are put in order at the end.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::pool::Pool;
use super::{Scan, ScanOptions, threads};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType, Stat, is_stale};
use crate::tree::{Kind, Meta, Node, Stamp, Time, Tree};
use crate::watch::Watch;

/// The names wanted in each directory that leads to one.
pub(super) type Wanted<'a> = HashMap<&'a [u8], HashSet<&'a [u8]>>;

/// How often a directory may turn into something else and back before the scan gives up.
const PATIENCE: usize = 64;

/// A directory to be listed.
struct Job {
    path: TreePath,
    /// Where its [`Outcome`] is to be found.
    number: usize,
}

enum Outcome {
    /// What is in it, sorted by name.
    Listed(Vec<Found>),
    /// It was gone, or something else, when it was to be listed.
    Changed(Option<Box<Found>>),
}

struct Found {
    node: Node,
    /// Device and inode of what may have further names.
    inode: Option<((u32, u32), u64)>,
    /// The number of the job that lists it.
    below: Option<usize>,
    /// Another filesystem is mounted on it.
    mount: bool,
}

struct Walk<'a> {
    root: &'a Dir,
    mount: u64,
    options: &'a ScanOptions,
    wanted: Option<&'a Wanted<'a>>,
    /// Files changed at or after this time get no stamp.
    settled: Time,
    jobs: AtomicUsize,
    watch: &'a Watch,
}

pub(super) fn run(root: &Dir, options: &ScanOptions, wanted: Option<&Wanted<'_>>, watch: &Watch) -> Result<Scan> {
    let settled = settled();
    let stat = root.stat_self().on("stat", "")?;
    let walk = Walk { root, mount: stat.mount, options, wanted, settled, jobs: AtomicUsize::new(1), watch };
    let Some(top) = walk.node(root, b".", TreePath::root(), &stat).on("read", "")? else {
        return Err(Error::new(ErrorKind::NotFound, "the directory is gone").at(""));
    };
    let pool = Pool::new(Job { path: TreePath::root(), number: 0 });
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(|| walk.work(&pool))).collect();
        for worker in workers {
            let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcomes.extend(done?);
        }
        Ok(())
    })?;
    assemble(top, outcomes, walk.jobs.into_inner())
}

/// The time before which a file's last change must lie for its stamp to prove anything (decision E11).
///
/// A file that is changed after it was scanned must get another ctime than the one recorded. Kernels take ctimes from a
/// clock that ticks, 100 times a second at the slowest, so "before" leaves room for two ticks.
fn settled() -> Time {
    let now = SystemTime::now().checked_sub(Duration::from_millis(20));
    let since = now.and_then(|n| n.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Time { sec: since.as_secs().try_into().unwrap_or_default(), nsec: since.subsec_nanos() }
}

impl Walk<'_> {
    fn work(&self, pool: &Pool<Job>) -> Result<Vec<(usize, Outcome)>> {
        let seat = pool.seat();
        let mut outcomes = Vec::new();
        let mut last: Option<(TreePath, Dir)> = None;
        while let Some(job) = seat.take() {
            let (mut more, mut tries) = (Vec::new(), 0);
            let outcome = loop {
                match self.open(last.as_ref(), &job.path) {
                    Ok(dir) => {
                        let found = self.list(&dir, &job.path, &mut more)?;
                        self.watch.count(found.len() as u64, 0)?;
                        last = Some((job.path, dir));
                        break Outcome::Listed(found);
                    }
                    Err(e) if tries < PATIENCE && is_stale(&e) => match self.look_again(&job.path)? {
                        Some(again) if again.node.kind.is_dir() && !again.mount => tries += 1,
                        other => break Outcome::Changed(other.map(Box::new)),
                    },
                    Err(e) => return Err(Error::io("open", &job.path, &e)),
                }
            };
            outcomes.push((job.number, outcome));
            seat.done(more);
        }
        Ok(outcomes)
    }

    /// Opens the directory at `path`: from the last one if that holds it, so that a deep chain costs one call a level;
    /// else from the root. No other descriptors are kept.
    fn open(&self, last: Option<&(TreePath, Dir)>, path: &TreePath) -> io::Result<Dir> {
        match last {
            Some((parent, dir)) if path.parent_bytes() == Some(parent.as_bytes()) => {
                dir.walk(&TreePath::new(path.name()).map_err(io::Error::other)?)
            }
            _ => self.root.walk(path),
        }
    }

    fn list(&self, dir: &Dir, path: &TreePath, more: &mut Vec<Job>) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut add = |name: &[u8]| -> Result<()> {
            let at = path.join(name)?;
            if self.options.skip.names(&at) {
                return Ok(());
            }
            let Some(mut new) = self.look(dir, name, at)? else { return Ok(()) };
            let leads = || self.wanted.is_none_or(|wanted| wanted.contains_key(new.node.path.as_bytes()));
            if new.node.kind.is_dir() && !new.mount && leads() {
                let number = self.jobs.fetch_add(1, Ordering::Relaxed);
                more.push(Job { path: new.node.path.clone(), number });
                new.below = Some(number);
            }
            found.push(new);
            Ok(())
        };
        match self.wanted {
            Some(wanted) => wanted.get(path.as_bytes()).into_iter().flatten().try_for_each(|name| add(name))?,
            None => dir.entries().on("read", path)?.iter().try_for_each(|entry| add(&entry.name))?,
        }
        found.sort_unstable_by(|a, b| a.node.path.as_bytes().cmp(b.node.path.as_bytes()));
        Ok(found)
    }

    /// What `name` is; none if it is gone.
    fn look(&self, dir: &Dir, name: &[u8], path: TreePath) -> Result<Option<Found>> {
        for _ in 0..PATIENCE {
            let Some(stat) = dir.find(name).on("stat", &path)? else { return Ok(None) };
            match self.node(dir, name, path.clone(), &stat) {
                Ok(Some(node)) => {
                    let mount = stat.mount != self.mount;
                    let shared = stat.links > 1 && stat.kind != FileType::Dir && !mount;
                    let inode = shared.then_some((stat.dev, stat.ino));
                    return Ok(Some(Found { node, inode, below: None, mount }));
                }
                Ok(None) => {}
                Err(e) => return Err(Error::io("read", &path, &e)),
            }
        }
        Err(Error::new(ErrorKind::Io, "it keeps changing while it is read").at(&path))
    }

    /// What is at `path` after all; none if nothing is, or its directories are no longer directories.
    fn look_again(&self, path: &TreePath) -> Result<Option<Found>> {
        match self.root.walk_parent(path) {
            Ok(dir) => self.look(&dir, path.name(), path.clone()),
            Err(e) if is_stale(&e) => Ok(None),
            Err(e) => Err(Error::io("open", path, &e)),
        }
    }

    /// The node for `name`, of which `stat` is known; none if it is no longer what `stat` says.
    fn node(&self, dir: &Dir, name: &[u8], path: TreePath, stat: &Stat) -> io::Result<Option<Node>> {
        let kind = match stat.kind {
            FileType::Dir => Kind::Dir,
            FileType::File => Kind::File { size: stat.size, digest: None },
            FileType::Char => Kind::Char(stat.rdev.0, stat.rdev.1),
            FileType::Block => Kind::Block(stat.rdev.0, stat.rdev.1),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Symlink => match dir.read_link(name) {
                Ok(target) => Kind::Symlink(target),
                Err(e) if is_stale(&e) => return Ok(None),
                Err(e) => return Err(e),
            },
            FileType::Other => return Err(io::Error::other("an entry of an unknown type")),
        };
        let xattrs = match self.options.xattrs.then(|| dir.xattrs(name, stat.kind)) {
            None => None,
            Some(Ok(list)) => (!list.is_empty()).then(|| Box::new(list)),
            Some(Err(e)) if is_stale(&e) => return Ok(None),
            Some(Err(e)) => return Err(e),
        };
        let mode = if stat.kind == FileType::Symlink { 0o777 } else { stat.mode };
        let meta = Meta { mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs, flags: stat.flags };
        let mut node = Node::new(path, meta, kind);
        if stat.kind == FileType::File && self.is_settled(stat.ctime) {
            node.here = Some(Stamp { ctime: stat.ctime, ino: stat.ino });
        }
        Ok(Some(node))
    }

    /// Without nanoseconds, the filesystem may count in whole seconds.
    fn is_settled(&self, ctime: Time) -> bool {
        if ctime.nsec == 0 { ctime.sec < self.settled.sec } else { ctime < self.settled }
    }
}

/// Puts the listings into tree order, and names that share an inode into groups.
fn assemble(top: Node, outcomes: Vec<(usize, Outcome)>, jobs: usize) -> Result<Scan> {
    let mut listed: Vec<Option<Outcome>> = Vec::new();
    listed.resize_with(jobs, || None);
    let mut total = 1;
    for (number, outcome) in outcomes {
        total += if let Outcome::Listed(found) = &outcome { found.len() } else { 0 };
        listed[number] = Some(outcome);
    }
    let (mut nodes, mut mounts, mut first_names) = (Vec::with_capacity(total), Vec::new(), HashMap::new());
    let mut open = vec![vec![Found { node: top, inode: None, below: Some(0), mount: false }].into_iter()];
    while let Some(level) = open.last_mut() {
        let Some(mut found) = level.next() else {
            open.pop();
            continue;
        };
        match found.below.and_then(|number| listed[number].take()) {
            None => {}
            Some(Outcome::Listed(below)) => open.push(below.into_iter()),
            Some(Outcome::Changed(Some(now))) => found = *now,
            Some(Outcome::Changed(None)) => continue,
        }
        if found.mount {
            mounts.push(found.node.path.clone());
        }
        if let Some(inode) = found.inode {
            // A group of one is dissolved by `Tree::new`.
            found.node.group = Some(first_names.entry(inode).or_insert_with(|| found.node.path.clone()).clone());
        }
        nodes.push(found.node);
    }
    Ok(Scan { tree: Tree::new(nodes)?, mounts })
}
