// SPDX-License-Identifier: ISC
//! A layer: the nodes that one source brings, and how their contents are reached when the plan asks for them.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ingest::{Fate, Sink, ingest};
use super::place::bytes;
use crate::apply::{self, Slot, Stage};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::source::archive::{Archive, Limits};
use crate::sys::{self, Dir, FileType, Stat};
use crate::tree::{Digest, Node};
use crate::watch::Watch;

/// How many threads do work that waits for the disk or the processor.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(8)
}

/// Where the contents of a layer are.
#[derive(Debug)]
pub(crate) enum Content {
    /// In an archive.
    Archive(ArchiveContent),
    /// In a directory: at the layer's own paths, or where the map says.
    Directory { root: Dir, moved: HashMap<TreePath, TreePath> },
    /// Here.
    Made(HashMap<TreePath, Vec<u8>>),
}

/// The contents of an archive.
#[derive(Debug)]
pub(crate) struct ArchiveContent {
    pub(crate) reach: Reach,
    /// Its name in errors and origins.
    pub(crate) name: String,
    /// What its tree is cached under.
    pub(crate) id: Digest,
    /// What was staged while it was read, by path.
    pub(crate) staged: HashMap<TreePath, Slot>,
    /// The link group of each linked name.
    pub(crate) twins: HashMap<TreePath, TreePath>,
}

/// How an archive is opened.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// A file of the host.
    File(PathBuf),
    /// A file in the archive of an earlier layer.
    Nested { layer: usize, node: Box<Node> },
}

/// A body that a plan needs: for which node, and where in the layer it is.
#[derive(Debug)]
pub(crate) struct Need {
    /// Index of the change in the plan.
    pub(crate) change: usize,
    /// The node as it will be.
    pub(crate) node: Node,
    /// Its path in the layer.
    pub(crate) path: TreePath,
}

/// A body that was brought.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) change: usize,
    pub(crate) slot: Slot,
    pub(crate) digest: Digest,
}

/// Opens an archive of the host.
pub(crate) fn open_archive(path: &Path) -> Result<Archive> {
    let shown = bytes(path);
    let file = sys::open_regular(path).on("open", shown)?;
    Archive::open(file, &name_of(path), Limits::default())
}

/// The file name of an archive, as origins show it.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Stages bodies out of a directory, several at once.
pub(crate) fn bring_files(
    (root, moved): (&Dir, &HashMap<TreePath, TreePath>),
    needs: &[Need],
    stage: &Stage,
    watch: &Watch,
) -> Result<Vec<Brought>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Brought>> {
        let mut brought = Vec::new();
        while let Some(need) = needs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = moved.get(&need.path).unwrap_or(&need.path);
            let (dir, file) = open_source(root, path, &need.node)?;
            let staged = stage.file(&need.node, apply::Body::File(&file), watch)?;
            // What was written to it meanwhile is half of something.
            let other = need.node.digest().is_some_and(|digest| digest != staged.digest);
            if other || !is_as_scanned(&dir.stat_file(&file).on("stat", path)?, &need.node) {
                return Err(replaced(path));
            }
            watch.count(1, staged.size)?;
            brought.push(Brought { change: need.change, slot: staged.slot, digest: staged.digest });
        }
        Ok(brought)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, Result<Vec<Brought>>>| {
            w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let all: Vec<Result<Vec<Brought>>> = workers.into_iter().map(join).collect();
        Ok(all.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// Opens a file of a directory source, if it still is what was scanned.
fn open_source(root: &Dir, path: &TreePath, node: &Node) -> Result<(Dir, File)> {
    let parent = root.walk_parent(path).on("open", path)?;
    // A device would act on being opened: looked at first, and once more when it is open.
    if !is_as_scanned(&parent.stat(path.name()).on("stat", path)?, node) {
        return Err(replaced(path));
    }
    let file = parent.open_file(path.name()).on("open", path)?;
    if !is_as_scanned(&parent.stat_file(&file).on("stat", path)?, node) {
        return Err(replaced(path));
    }
    Ok((parent, file))
}

/// Is the file the one that was scanned as `node`, and unchanged? If nothing tells what has to be in it, its stamp must, or
/// its size and time.
fn is_as_scanned(stat: &Stat, node: &Node) -> bool {
    if node.digest().is_some() {
        return stat.kind == FileType::File && node.from.is_none_or(|from| from.ino == stat.ino);
    }
    let same = node.from.map_or(stat.mtime == node.meta.mtime, |from| (from.ino, from.ctime) == (stat.ino, stat.ctime));
    stat.kind == FileType::File && stat.size == node.size() && same
}

/// A source that does not hold still.
pub(crate) fn replaced(path: &TreePath) -> Error {
    let error = Error::new(ErrorKind::Refused, "the source file was changed while it was read").at(path);
    error.hint("try again once nothing is being installed or written there")
}

/// Stages bodies that are at hand.
pub(crate) fn bring_made(
    made: &HashMap<TreePath, Vec<u8>>,
    needs: &[Need],
    stage: &Stage,
    watch: &Watch,
) -> Result<Vec<Brought>> {
    let bring = |need: &Need| {
        let none = || Error::new(ErrorKind::NotFound, "nothing makes its content").at(&need.path);
        let body = made.get(&need.path).ok_or_else(none)?;
        let staged = stage.file(&need.node, apply::Body::Bytes(body), watch)?;
        Ok(Brought { change: need.change, slot: staged.slot, digest: staged.digest })
    };
    needs.iter().map(bring).collect()
}

/// Stages bodies out of an archive by reading it again; each must be what the first reading found. `twins` gives the link group of each linked name in it.
pub(crate) fn bring_archived(
    archive: &Archive,
    twins: &HashMap<TreePath, TreePath>,
    needs: &[Need],
    stage: &Stage,
    watch: &Watch,
) -> Result<Vec<Brought>> {
    let by_path: HashMap<&TreePath, &Need> = needs.iter().map(|need| (&need.path, need)).collect();
    let by_group: HashMap<&TreePath, &Need> = needs.iter().filter_map(|n| Some((twins.get(&n.path)?, n))).collect();
    // The body may come with another name of its link group; and with an entry that a later one replaces, so that
    // only the last counts.
    let find = |path: &TreePath| by_path.get(path).or_else(|| by_group.get(twins.get(path)?)).copied();
    let fate = |node: &Node| match find(&node.path) {
        Some(need) => Fate::Stage(Node { path: need.node.path.clone(), meta: need.node.meta.clone(), ..node.clone() }),
        None => Fate::Skip,
    };
    let sink = Sink { stage, fate: &fate, writers: threads() };
    let (contents, taken) = ingest(archive, sink, watch)?;
    let found = contents.nodes.iter().filter_map(|(node, number)| {
        let need = by_path.get(&node.path)?;
        let taken = taken.get(&(*number)?)?;
        Some((need.change, Brought { change: need.change, slot: taken.slot?, digest: taken.digest }))
    });
    let mut found: HashMap<usize, Brought> = found.collect();
    let take = |need: &Need| {
        let missing = || Error::new(ErrorKind::BadInput, "the archive no longer holds what was read from it");
        let brought = found.remove(&need.change).ok_or_else(|| missing().at(&need.path))?;
        let right = need.node.digest().is_none_or(|wanted| wanted == brought.digest);
        if right { Ok(brought) } else { Err(missing().at(&need.path)) }
    };
    needs.iter().map(take).collect()
}
