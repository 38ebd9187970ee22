// SPDX-License-Identifier: ISC
//! Contents: SHA-256 of chosen files.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::threads;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType, Stat};
use crate::tree::{Digest, Kind, Node, Stamp, Time, Tree};
use crate::watch::Watch;

/// How many neighbours a thread takes at once: most share a directory.
const BATCH: usize = 16;
/// How often a file may change while it is read.
const PATIENCE: usize = 3;

/// What was read.
struct Content {
    stat: Stat,
    digest: Digest,
}

/// Reads the files at `which`, indices into `tree`, and fills in their digests. Names of one link group are read once.
///
/// A file that changed since the scan gets the size and time it has now, and loses its stamp. Entries of other kinds
/// are left alone.
///
/// # Errors
/// [`ErrorKind::Io`] for what cannot be read; [`ErrorKind::Refused`] for what is no longer a file, or never at rest.
pub fn digest_files(root: &Dir, tree: &mut Tree, which: &[usize], watch: &Watch) -> Result<()> {
    let mut jobs: Vec<usize> = Vec::with_capacity(which.len());
    let mut readers: HashMap<&TreePath, usize> = HashMap::new();
    let mut shares: Vec<(usize, usize)> = Vec::new();
    for &index in which {
        let node = &tree.nodes()[index];
        match node.group.as_ref().map(|group| *readers.entry(group).or_insert(index)) {
            Some(reader) if reader != index => shares.push((index, reader)),
            _ if matches!(node.kind, Kind::File { .. }) => jobs.push(index),
            _ => {}
        }
    }
    let contents = read_all(root, tree.nodes(), &jobs, watch)?;
    let mut nodes: Vec<&mut Node> = tree.nodes_mut().collect();
    let own = jobs.iter().map(|&index| (index, index));
    for (index, reader) in own.chain(shares) {
        if let Some(content) = contents.get(&reader) {
            note(nodes[index], content);
        }
    }
    Ok(())
}

fn note(node: &mut Node, content: &Content) {
    let Content { stat, digest } = content;
    node.here = node.here.filter(|here| *here == Stamp { ctime: stat.ctime, ino: stat.ino });
    node.meta.mtime = stat.mtime;
    node.kind = Kind::File { size: stat.size, digest: Some(*digest) };
}

fn read_all(root: &Dir, nodes: &[Node], jobs: &[usize], watch: &Watch) -> Result<HashMap<usize, Content>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Content)>> {
        let mut reader = Reader { root, watch, last: None, buffer: vec![0; 128 * 1024] };
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed).min(jobs.len());
            for &index in &jobs[start..(start + BATCH).min(jobs.len())] {
                match reader.read(&nodes[index].path) {
                    Ok(content) => done.push((index, content)),
                    Err(e) => {
                        next.store(jobs.len(), Ordering::Relaxed); // the other threads need not go on
                        return Err(e);
                    }
                }
            }
            if start == jobs.len() {
                return Ok(done);
            }
        }
    };
    let mut contents = HashMap::with_capacity(jobs.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads().min(jobs.len())).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            contents.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(contents)
    })
}

struct Reader<'a> {
    root: &'a Dir,
    watch: &'a Watch,
    last: Option<(TreePath, Dir)>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn read(&mut self, path: &TreePath) -> Result<Content> {
        let parent = path.parent().unwrap_or_default();
        let dir = match self.last.take() {
            Some((last, dir)) if last == parent => dir,
            _ => self.root.walk(&parent).on("open", &parent)?,
        };
        let content = self.content(&dir, path);
        self.last = Some((parent, dir));
        content
    }

    /// Opens nothing but a regular file, and the very one that was looked at: opening a device may act (decision E14).
    fn content(&mut self, dir: &Dir, path: &TreePath) -> Result<Content> {
        for _ in 0..PATIENCE {
            let named = dir.stat(path.name()).on("stat", path)?;
            if named.kind != FileType::File {
                return Err(Error::new(ErrorKind::Refused, "no longer a regular file").at(path));
            }
            let mut file = dir.open_file(path.name()).on("open", path)?;
            let before = dir.stat_file(&file).on("stat", path)?;
            if state(&before) != state(&named) {
                continue;
            }
            let digest = self.digest(&mut file, path)?;
            let after = dir.stat_file(&file).on("stat", path)?;
            if state(&after) == state(&before) {
                return Ok(Content { stat: after, digest });
            }
        }
        Err(Error::new(ErrorKind::Refused, "it keeps changing while it is read")
            .at(path)
            .hint("stop what writes to it, or name it under keep or volatile in the recipe"))
    }

    fn digest(&mut self, file: &mut impl Read, path: &TreePath) -> Result<Digest> {
        let mut hasher = Sha256::new();
        loop {
            let length = file.read(&mut self.buffer).on("read", path)?;
            if length == 0 {
                self.watch.count(1, 0)?;
                return Ok(Digest(hasher.finalize().into()));
            }
            hasher.update(&self.buffer[..length]);
            self.watch.count(0, length as u64)?;
        }
    }
}

/// The inode and what a write to it would change.
fn state(stat: &Stat) -> (FileType, (u32, u32), u64, u64, Time) {
    (stat.kind, stat.dev, stat.ino, stat.size, stat.ctime)
}
