// SPDX-License-Identifier: ISC
//! The walk: threads take directories from a pool, and their findings are put in order at the end.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use super::clock::Settled;
use super::names::Names;
use super::piece::Piece;
use super::pool::Pool;
use super::{Scan, ScanOptions, threads};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType, Stat, is_stale};
use crate::tree::{Kind, Meta, Node, Stamp, Tree};
use crate::watch::Watch;

/// The names wanted in each directory that leads to one.
pub(super) type Wanted<'a> = HashMap<&'a [u8], HashSet<&'a [u8]>>;

/// How often a directory may turn into something else and back before the scan gives up.
const PATIENCE: usize = 64;

pub(super) struct Found {
    pub(super) node: Node,
    /// Device and inode of what may have further names.
    pub(super) inode: Option<Inode>,
    /// A directory to be listed.
    enter: bool,
    /// Another filesystem is mounted on it.
    pub(super) mount: bool,
}

pub(super) type Inode = ((u32, u32), u64);

/// What is to be walked, in tree order.
#[allow(clippy::large_enum_variant)] // almost all are entries
enum Item {
    Entry(Found),
    /// A directory that was given to another thread, and the number of the job.
    Given(usize),
}

struct Walk<'a> {
    root: &'a Dir,
    mount: u64,
    options: &'a ScanOptions,
    wanted: Option<&'a Wanted<'a>>,
    known: Option<&'a Tree>,
    /// Files changed at or after this time get no stamp.
    settled: Settled,
    watch: &'a Watch,
}

/// What to walk, and what is known of it before.
#[derive(Clone, Copy, Default)]
pub(super) struct Scope<'a> {
    /// Only these; none: all.
    pub(super) wanted: Option<&'a Wanted<'a>>,
    /// Of the files that its stamps prove, extended attributes need not be read.
    pub(super) known: Option<&'a Tree>,
}

pub(super) fn run(root: &Dir, options: &ScanOptions, scope: Scope<'_>, watch: &Watch) -> Result<Scan> {
    let settled = Settled::now();
    let stat = root.stat_self().on("stat", "")?;
    let Scope { wanted, known } = scope;
    let walk = Walk { root, mount: stat.mount, options, wanted, known, settled, watch };
    let Some((meta, kind)) = walk.read(root, b".", &stat, None).on("read", "")? else {
        return Err(Error::new(ErrorKind::NotFound, "the directory is gone").at(""));
    };
    let top = Found { node: Node::new(TreePath::root(), meta, kind), inode: None, enter: true, mount: false };
    let threads = threads();
    let pool = Pool::new(top, threads);
    let mut pieces = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| walk.work(&pool))).collect();
        for worker in workers {
            pieces.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(())
    })?;
    Ok(Piece::join(pieces).finish())
}

impl Walk<'_> {
    fn work(&self, pool: &Pool<Found>) -> Result<Vec<(usize, Piece)>> {
        let seat = pool.seat();
        let (mut pieces, mut last) = (Vec::new(), None);
        while let Some((number, top)) = seat.take() {
            pieces.push((number, self.walk(top, &mut last, pool)?));
        }
        Ok(pieces)
    }

    /// Walks `top` and what lies below it in tree order, but for what it gives away to idle threads.
    fn walk(&self, top: Found, last: &mut Option<(TreePath, Dir)>, pool: &Pool<Found>) -> Result<Piece> {
        let mut piece = Piece::default();
        let mut levels = vec![Level::new(vec![Item::Entry(top)])];
        while let Some(level) = levels.last_mut() {
            match level.next() {
                None => drop(levels.pop()),
                Some(Item::Given(number)) => piece.leave(number),
                Some(Item::Entry(found)) if !found.enter => piece.add(found),
                Some(Item::Entry(found)) => {
                    if let Some((found, below)) = self.enter(found, last)? {
                        piece.add(found);
                        levels.push(Level::new(below));
                    }
                    if pool.is_hungry() {
                        share(&mut levels, pool);
                    }
                }
            }
        }
        Ok(piece)
    }

    /// Lists a directory: itself, and what is in it. None if it is gone; nothing in it if it is no longer one.
    fn enter(&self, mut found: Found, last: &mut Option<(TreePath, Dir)>) -> Result<Option<(Found, Vec<Item>)>> {
        for _ in 0..PATIENCE {
            let path = &found.node.path;
            let opened = self.open(last.as_ref(), path);
            match opened.and_then(|dir| self.names(&dir, path).map(|names| (dir, names))) {
                Ok((dir, names)) => {
                    let below = self.list(&dir, path, &names)?;
                    self.watch.count(below.len() as u64, 0)?;
                    *last = Some((path.clone(), dir));
                    return Ok(Some((found, below)));
                }
                Err(e) if is_stale(&e) => {
                    *last = None; // it may be the one that was removed, and another is in its place
                    match self.look_again(path)? {
                        Some(again) if again.enter => found = again,
                        other => return Ok(other.map(|found| (found, Vec::new()))),
                    }
                }
                Err(e) => return Err(Error::io("read", path, &e)),
            }
        }
        Err(restless(&found.node.path))
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

    fn names(&self, dir: &Dir, path: &TreePath) -> io::Result<Names> {
        let Some(wanted) = self.wanted else { return Names::of(dir) };
        let mut names = Names::default();
        wanted.get(path.as_bytes()).into_iter().flatten().for_each(|name| names.add(name));
        Ok(names)
    }

    fn list(&self, dir: &Dir, path: &TreePath, names: &Names) -> Result<Vec<Item>> {
        let names = names.sorted();
        let mut items = Vec::with_capacity(names.len());
        for name in names {
            let at = path.join(name)?;
            if !self.options.skip.names(&at) {
                items.extend(self.look(dir, name, at)?.map(Item::Entry));
            }
        }
        Ok(items)
    }

    /// What `name` is; none if it is gone.
    fn look(&self, dir: &Dir, name: &[u8], path: TreePath) -> Result<Option<Found>> {
        for _ in 0..PATIENCE {
            let Some(stat) = dir.find(name).on("stat", &path)? else { return Ok(None) };
            let known = self.known.filter(|_| self.options.xattrs);
            let known = known.and_then(|tree| tree.get(path.as_bytes())).filter(|node| self.proves(node, &stat));
            let Some((meta, kind)) = self.read(dir, name, &stat, known).on("read", &path)? else { continue };
            let mount = stat.mount != self.mount && !self.root.crosses();
            let shared = stat.links > 1 && stat.kind != FileType::Dir && !mount;
            let node = self.node(path, meta, kind, &stat);
            let leads = || self.wanted.is_none_or(|wanted| wanted.contains_key(node.path.as_bytes()));
            let enter = node.kind.is_dir() && !mount && leads();
            return Ok(Some(Found { node, inode: shared.then_some((stat.dev, stat.ino)), enter, mount }));
        }
        Err(restless(&path))
    }

    /// What is at `path` after all; none if nothing is, or its directories are no longer directories.
    fn look_again(&self, path: &TreePath) -> Result<Option<Found>> {
        match self.root.walk_parent(path) {
            Ok(dir) => self.look(&dir, path.name(), path.clone()),
            Err(e) if is_stale(&e) => Ok(None),
            Err(e) => Err(Error::io("open", path, &e)),
        }
    }

    /// Is `stat` that of the inode which `node` tells of, untouched since?
    fn proves(&self, node: &Node, stat: &Stat) -> bool {
        let here = Stamp { ctime: stat.ctime, ino: stat.ino };
        stat.kind == FileType::File
            && (node.here, node.size(), node.meta.mtime) == (Some(here), stat.size, stat.mtime)
            && self.settled.holds(stat.ctime)
    }

    /// What else belongs to `name`, of which `stat` is known; none if it is no longer what `stat` says. It has the
    /// extended attributes of `known`.
    fn read(&self, dir: &Dir, name: &[u8], stat: &Stat, known: Option<&Node>) -> io::Result<Option<(Meta, Kind)>> {
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
        let ask = self.options.xattrs && known.is_none();
        let xattrs = match ask.then(|| dir.xattrs(name, stat.kind)) {
            None => known.and_then(|node| node.meta.xattrs.clone()),
            Some(Ok(list)) => (!list.is_empty()).then(|| Box::new(list)),
            Some(Err(e)) if is_stale(&e) => return Ok(None),
            Some(Err(e)) => return Err(e),
        };
        let mode = if stat.kind == FileType::Symlink { 0o777 } else { stat.mode };
        let meta = Meta { mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs, flags: stat.flags };
        Ok(Some((meta, kind)))
    }

    fn node(&self, path: TreePath, meta: Meta, kind: Kind, stat: &Stat) -> Node {
        let mut node = Node::new(path, meta, kind);
        if stat.kind == FileType::File && self.settled.holds(stat.ctime) {
            node.here = Some(Stamp { ctime: stat.ctime, ino: stat.ino });
        }
        node
    }
}

fn restless(path: &TreePath) -> Error {
    Error::new(ErrorKind::Io, "it keeps changing while it is read").at(path)
}

/// What is in one directory and not walked yet.
struct Level {
    items: std::vec::IntoIter<Item>,
    /// How many of the items are directories to be listed.
    dirs: usize,
}

impl Level {
    fn new(items: Vec<Item>) -> Level {
        let dirs = items.iter().filter(|item| item.is_open()).count();
        Level { items: items.into_iter(), dirs }
    }

    fn next(&mut self) -> Option<Item> {
        let item = self.items.next()?;
        self.dirs -= usize::from(item.is_open());
        Some(item)
    }
}

impl Item {
    fn is_open(&self) -> bool {
        matches!(self, Item::Entry(found) if found.enter)
    }
}

/// Gives away what is likely the largest part of the work ahead: the last directory of the highest level.
fn share(levels: &mut [Level], pool: &Pool<Found>) {
    let Some(level) = levels.iter_mut().find(|level| level.dirs > 0) else { return };
    level.dirs -= 1;
    let last = level.items.as_mut_slice().iter_mut().rfind(|item| item.is_open());
    if let Some(item) = last
        && let Item::Entry(found) = std::mem::replace(item, Item::Given(0))
    {
        *item = Item::Given(pool.give(found));
    }
}
