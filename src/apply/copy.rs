// SPDX-License-Identifier: ISC
//! [`copy_tree`]: a second tree like the first, made where nobody looks yet: no journal, no undo, no syncs. The caller
//! renames it in.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{self, Dir, FileType, Stat};
use crate::tree::{Kind, Node, Stamp, Tree};
use crate::watch::Watch;

use super::meta::{Attributes, Owners, finish, hold, native_owner, settle};
use super::parents::Parents;
use super::stage::{LARGE, make_special};

/// How the content of files comes into the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Copied; large files share their blocks where the filesystem can.
    Copy,
    /// Every file shares its blocks with its source, or it is an error.
    Reflink,
    /// Files and symlinks are further names of the same inodes: whoever writes to one writes to both.
    Link,
}

/// How many neighbours a thread takes at once: most share a directory, and two threads seldom meet in one.
const BATCH: usize = 32;
/// Files up to this size are read and written whole; beyond it the kernel copies without us.
const WHOLE: usize = 128 * 1024;

/// Fills the empty directory `to` with what `tree`, a fresh scan of `from`, says of it. [`Means::Link`] needs no extended
/// attributes in the tree.
///
/// Returns by index the stamp of each file of the copy; none for a file that changed since the scan, whose content is
/// then whatever was found. The stamps hold if nobody can write to the copy for the next 20 ms.
///
/// # Errors
/// [`ErrorKind::Refused`] for an entry that became another; [`ErrorKind::Unsupported`] where the filesystem cannot share
/// as asked; what the system says. What was made so far stays: the caller removes it.
pub fn copy_tree(
    (from, to): (&Dir, &Dir),
    tree: &Tree,
    means: Means,
    owners: Owners,
    watch: &Watch,
) -> Result<Vec<Option<Stamp>>> {
    // A default ACL, inherited from above, would go on to every directory made below.
    to.set_xattrs(b".", FileType::Dir, &Vec::new()).on("setxattr", b".")?;
    let native = native_owner(to)?;
    let (from, to) = (from.try_clone().on("dup", b".")?, to.try_clone().on("dup", b".")?);
    let (from, to) = (Arc::new(from), Arc::new(to));
    let no_clone = AtomicBool::new(false);
    let copier = Copier { from: &from, to: &to, nodes: tree.nodes(), means, owners, native, no_clone, watch };
    copier.directories()?;
    let mut stamps = copier.leaves()?;
    copier.join(&mut stamps)?;
    copier.settle_directories()?;
    Ok(stamps)
}

struct Copier<'a> {
    from: &'a Arc<Dir>,
    to: &'a Arc<Dir>,
    nodes: &'a [Node],
    means: Means,
    owners: Owners,
    native: (u32, u32),
    /// Sharing blocks was tried and does not work.
    no_clone: AtomicBool,
    watch: &'a Watch,
}

impl Copier<'_> {
    fn directories(&self) -> Result<()> {
        let mut parents = Parents::new(self.to);
        for node in self.nodes.iter().filter(|node| node.kind.is_dir() && !node.path.is_root()) {
            let (dir, name) = parents.of(&node.path)?;
            dir.make_dir(name, 0o700).on("mkdir", &node.path)?;
        }
        Ok(())
    }

    /// Everything but directories and further names, by several threads.
    fn leaves(&self) -> Result<Vec<Option<Stamp>>> {
        let jobs = self.jobs();
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Stamp)>> {
            let mut worker =
                Worker { copier: self, from: Parents::new(self.from), to: Parents::new(self.to), buffer: Vec::new() };
            let mut stamps = Vec::new();
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = worker.job(job.clone(), &mut stamps) {
                    next.store(jobs.len(), Ordering::Relaxed); // the other threads need not go on
                    return Err(error);
                }
            }
            Ok(stamps)
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(jobs.len());
        let mut all = vec![None; self.nodes.len()];
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                for (index, stamp) in worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
                    all[index] = Some(stamp);
                }
            }
            Ok(all)
        })
    }

    /// Runs of neighbours in one directory.
    fn jobs(&self) -> Vec<Range<usize>> {
        let mut jobs: Vec<Range<usize>> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.kind.is_dir()) {
            let near = |job: &&mut Range<usize>| {
                job.end == index
                    && job.len() < BATCH
                    && self.nodes[job.start].path.parent_bytes() == node.path.parent_bytes()
            };
            match jobs.last_mut().filter(near) {
                Some(job) => job.end = index + 1,
                None => jobs.push(index..index + 1),
            }
        }
        jobs
    }

    /// Is the entry another name of one that comes earlier?
    fn joins(&self, node: &Node) -> bool {
        !self.links(node) && node.group.as_ref().is_some_and(|first| *first != node.path)
    }

    /// Does it become another name of its source? A FIFO would be a way from one root into the other, and who changes
    /// the mode of a device would change both.
    fn links(&self, node: &Node) -> bool {
        self.means == Means::Link && matches!(node.kind, Kind::File { .. } | Kind::Symlink(_))
    }

    /// Gives the inodes with several names their further ones, and stamps them again: each name moved their ctime.
    fn join(&self, stamps: &mut [Option<Stamp>]) -> Result<()> {
        for node in self.nodes.iter().filter(|node| self.joins(node)) {
            let Some(first) = &node.group else { continue };
            let from = self.to.walk_parent(first).on("open", first)?;
            let to = self.to.walk_parent(&node.path).on("open", &node.path)?;
            from.link(first.name(), &to, node.path.name()).on("link", &node.path)?;
        }
        let grouped =
            self.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node, node.group.as_ref()?)));
        let proved: HashSet<_> =
            grouped.clone().filter(|(index, ..)| stamps[*index].is_some()).map(|(.., group)| group).collect();
        for (index, node, _) in grouped.filter(|(.., group)| proved.contains(group)) {
            let dir = self.to.walk_parent(&node.path).on("open", &node.path)?;
            stamps[index] = Some(stamp(&dir.stat(node.path.name()).on("stat", &node.path)?));
        }
        Ok(())
    }

    /// Deepest first: whatever comes into a directory moves its times.
    fn settle_directories(&self) -> Result<()> {
        let (mut parents, mut sources) = (Parents::new(self.to), Parents::new(self.from));
        for node in self.nodes.iter().rev().filter(|node| node.kind.is_dir()) {
            let (dir, name) = parents.of(&node.path)?;
            let from = if self.means == Means::Link { Some(sources.of(&node.path)?.0) } else { None };
            let node = whole(node, from.as_deref())?;
            settle(&dir, name, &node, Attributes::Fresh, self.owners)?;
        }
        for node in self.nodes.iter().rev().filter(|node| node.meta.flags != 0) {
            let (dir, name) = parents.of(&node.path)?;
            hold(&dir, name, node)?;
        }
        Ok(())
    }
}

/// One thread.
struct Worker<'a> {
    copier: &'a Copier<'a>,
    from: Parents<'a>,
    to: Parents<'a>,
    buffer: Vec<u8>,
}

impl Worker<'_> {
    fn job(&mut self, job: Range<usize>, stamps: &mut Vec<(usize, Stamp)>) -> Result<()> {
        let copier = self.copier;
        let first = &copier.nodes[job.start].path;
        let ((from, _), (to, _)) = (self.from.of(first)?, self.to.of(first)?);
        for index in job {
            let node = &copier.nodes[index];
            if copier.joins(node) {
                continue;
            }
            let made = match node.kind {
                _ if copier.links(node) => link(node, &from, &to)?,
                Kind::File { .. } => self.file(node, &from, &to)?,
                _ => {
                    let node = whole(node, (copier.means == Means::Link).then_some(&*from))?;
                    make_special(&to, node.path.name(), &node, copier.owners)?;
                    None
                }
            };
            stamps.extend(made.map(|stamp| (index, stamp)));
            copier.watch.count(1, node.size())?;
        }
        Ok(())
    }

    /// Copies one file. Its stamp, if the source is the one that was scanned, then and now.
    fn file(&mut self, node: &Node, from: &Dir, to: &Dir) -> Result<Option<Stamp>> {
        let (path, name) = (&node.path, node.path.name());
        let source = from.open_regular(name).on("open", path)?.ok_or_else(|| changed(node))?;
        let before = from.stat_file(&source).on("stat", path)?;
        let file = to.create_file(name, 0o600).on("create", path)?;
        self.content(&source, &before, &file, to).map_err(|error| self.cannot(node, &error))?;
        finish((to, name), &file, node, self.copier.native, self.copier.owners)?;
        let after = from.stat_file(&source).on("stat", path)?;
        if !is_scanned(node, &before) || !is_scanned(node, &after) {
            return Ok(None);
        }
        to.stat_file(&file).map(|stat| Some(stamp(&stat))).on("stat", path)
    }

    fn content(&mut self, mut source: &File, stat: &Stat, mut file: &File, dir: &Dir) -> io::Result<()> {
        let must = self.copier.means == Means::Reflink && stat.size > 0;
        if must || (stat.size >= LARGE && !self.copier.no_clone.load(Ordering::Relaxed)) {
            match dir.clone_file(source, file) {
                Err(error) if must => return Err(error),
                Err(_) => self.copier.no_clone.store(true, Ordering::Relaxed),
                Ok(()) => return Ok(()),
            }
        }
        if stat.allocated < stat.size {
            return sparse(source, stat.size, file);
        }
        if stat.size > WHOLE as u64 {
            return io::copy(&mut source, &mut file).map(drop);
        }
        let size = usize::try_from(stat.size).unwrap_or(WHOLE);
        self.buffer.resize(self.buffer.len().max(size), 0);
        let mut filled = 0;
        while filled < size {
            match source.read(&mut self.buffer[filled..size])? {
                0 => break,
                more => filled += more,
            }
        }
        file.write_all(&self.buffer[..filled])
    }

    fn cannot(&self, node: &Node, error: &io::Error) -> Error {
        let failed = Error::io("copy", &node.path, error);
        match self.copier.means {
            Means::Reflink => {
                let reason = format!("its blocks cannot be shared here: {}", failed.reason());
                Error::new(ErrorKind::Unsupported, reason).at(&node.path)
            }
            _ => failed,
        }
    }
}

/// Copies the ranges that hold data.
fn sparse(mut source: &File, size: u64, mut file: &File) -> io::Result<()> {
    file.set_len(size)?;
    let mut at = 0;
    while let Some(data) = sys::next_data(source, at, size)? {
        source.seek(SeekFrom::Start(data.start))?;
        file.seek(SeekFrom::Start(data.start))?;
        io::copy(&mut source.take(data.end - data.start), &mut file)?;
        at = data.end;
    }
    Ok(())
}

/// The node with the extended attributes of its source, where the tree does not know them.
fn whole<'a>(node: &'a Node, from: Option<&Dir>) -> Result<Cow<'a, Node>> {
    let Some(from) = from else { return Ok(Cow::Borrowed(node)) };
    let (name, kind) =
        if node.path.is_root() { (&b"."[..], FileType::Dir) } else { (node.path.name(), FileType::Other) };
    let xattrs = from.xattrs(name, kind).on("getxattr", &node.path)?;
    let mut node = node.clone();
    node.meta.xattrs = (!xattrs.is_empty()).then(|| Box::new(xattrs));
    Ok(Cow::Owned(node))
}

/// Makes the entry another name of its source. The link itself moves the ctime, so that size, mtime and inode tell
/// whether it still is the file that was scanned.
fn link(node: &Node, from: &Dir, to: &Dir) -> Result<Option<Stamp>> {
    let (path, name) = (&node.path, node.path.name());
    from.link(name, to, name).on("link", path)?;
    let Some(here) = node.here else { return Ok(None) };
    let stat = to.stat(name).on("stat", path)?;
    let same = (stat.ino, stat.size, stat.mtime) == (here.ino, node.size(), node.meta.mtime);
    Ok(same.then(|| stamp(&stat)))
}

/// Is it the very file that was scanned, untouched?
fn is_scanned(node: &Node, stat: &Stat) -> bool {
    node.here == Some(stamp(stat)) && (node.size(), node.meta.mtime) == (stat.size, stat.mtime)
}

fn stamp(stat: &Stat) -> Stamp {
    Stamp { ctime: stat.ctime, ino: stat.ino }
}

fn changed(node: &Node) -> Error {
    Error::new(ErrorKind::Refused, "it was replaced while it was copied")
        .at(&node.path)
        .hint("end what runs there, then repeat")
}
