// SPDX-License-Identifier: ISC
//! [`Stage`]: where bodies are written, with all their metadata, before anything moves to its place.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{Dir, FileType};
use crate::tree::{Digest, Kind, Node};
use crate::watch::Watch;

use super::body::{Body, Job, copy, digest, hash};
use super::meta::{Attributes, Owners, finish, native_owner, settle};
use super::shards::{Place, Shards};

/// The name of the stage in an area's work directory.
pub(super) const STAGE: &[u8] = b"stage";

/// From this size on it pays to ask whether a file has holes, or whether its blocks can be shared.
pub(super) const LARGE: u64 = 32 * 1024;

/// The number of something staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(pub(super) u32);

/// A staged file: its number, and what its content turned out to be.
#[derive(Debug, Clone, Copy)]
pub struct Staged {
    /// What [`super::prepare`] and [`super::commit_new`] ask for.
    pub slot: Slot,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub digest: Digest,
}

/// The stage of one area. Several threads may fill it at once.
///
/// What is in it has its final owner, mode, extended attributes and times, and is moved in by a rename.
#[derive(Debug)]
pub struct Stage {
    shards: Shards,
    next: AtomicU32,
    /// Owner and group that a new file here gets by itself.
    native: (u32, u32),
    owners: Owners,
    /// Sharing blocks was tried and does not work.
    no_clone: AtomicBool,
}

impl Stage {
    /// Makes an empty stage in `work`, which must be a private directory on the filesystem of the area's root.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`] if there is one already: an earlier command must be recovered first.
    pub fn create(work: &Dir, owners: Owners) -> Result<Stage> {
        if work.find(STAGE).on("stat", STAGE)?.is_some() {
            let error = Error::new(ErrorKind::Interrupted, "an earlier command was interrupted");
            return Err(error.hint("run `stockade recover` on it first"));
        }
        let shards = Shards::make(work, STAGE).on("mkdir", STAGE)?;
        // A default ACL above the stage would be inherited by every file in it.
        for dir in shards.dirs() {
            dir.set_xattrs(b".", FileType::Dir, &Vec::new()).on("setxattr", STAGE)?;
        }
        let native = native_owner(shards.place(0).dir)?;
        Ok(Stage { shards, next: AtomicU32::new(1), native, owners, no_clone: AtomicBool::new(false) })
    }

    /// Stages the regular file that `node` describes. Its content must have the node's size, and its digest if the
    /// node has one.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for another size, [`ErrorKind::Unverified`] for another digest; what the system says.
    pub fn file(&self, node: &Node, body: Body<'_>, watch: &Watch) -> Result<Staged> {
        let slot = self.number();
        let place = self.place(slot);
        let path = &node.path;
        let file = place.dir.create_file(&place.name, 0o600).on("create", path)?;
        let job = Job { path, limit: node.size(), watch };
        let (size, digest) = match body {
            Body::Bytes(bytes) => {
                (&file).write_all(bytes).on("write", path)?;
                (bytes.len() as u64, digest(bytes))
            }
            Body::Stream(from) => copy(from, &file, false, &job)?,
            Body::Sparse(from) => copy(from, &file, true, &job)?,
            Body::File(from) => self.copy_file(from, &file, &place, &job)?,
        };
        verify(node, size, digest)?;
        finish((place.dir, &place.name), &file, node, self.native, self.owners)?;
        Ok(Staged { slot, size, digest })
    }

    /// Shares the blocks of a large file if that works here, else copies it.
    fn copy_file(&self, mut from: &File, to: &File, place: &Place<'_>, job: &Job<'_>) -> Result<(u64, Digest)> {
        if job.limit < LARGE {
            return copy(&mut from, to, false, job);
        }
        if !self.no_clone.load(Ordering::Relaxed) {
            match place.dir.clone_file(from, to) {
                // Hashed is what was shared, not what the source may have become since.
                Ok(()) => return hash(&mut place.dir.open_file(&place.name).on("open", job.path)?, job),
                Err(_) => self.no_clone.store(true, Ordering::Relaxed),
            }
        }
        let stat = place.dir.stat_file(from).on("stat", job.path)?;
        copy(&mut from, to, stat.allocated < stat.size, job)
    }

    /// Opens a staged file for reading.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open(&self, slot: Slot) -> Result<File> {
        let place = self.place(slot);
        place.dir.open_file(&place.name).on("open", &place.name)
    }

    /// Stages a second name of the file `name` in `dir`, as it is.
    ///
    /// # Errors
    /// As linkat(2): EXDEV for a file of another filesystem.
    pub fn link(&self, dir: &Dir, name: &[u8]) -> std::io::Result<Slot> {
        let slot = self.number();
        let place = self.place(slot);
        dir.link(name, place.dir, &place.name).map(|()| slot)
    }

    /// Stages anything but files and directories: symlinks, devices, FIFOs.
    pub(super) fn special(&self, node: &Node) -> Result<Slot> {
        let slot = self.number();
        let place = self.place(slot);
        make_special(place.dir, &place.name, node, self.owners)?;
        Ok(slot)
    }

    /// A number for an entry that has nothing to stage, or not yet.
    pub(super) fn number(&self) -> Slot {
        Slot(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn place(&self, slot: Slot) -> Place<'_> {
        self.shards.place(slot.0)
    }

    pub(super) fn owners(&self) -> Owners {
        self.owners
    }
}

/// Makes a directory, or anything that is no regular file, with all its metadata, as `name` in `dir`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a socket; what the system says.
pub fn make_entry(dir: &Dir, name: &[u8], node: &Node) -> Result<()> {
    if node.kind.is_dir() {
        dir.make_dir(name, 0o700).on("mkdir", &node.path)?;
        return settle(dir, name, node, Attributes::Fresh, Owners::Set);
    }
    make_special(dir, name, node, Owners::Set)
}

/// Makes the symlink, device or FIFO `node` as `name` in `dir`, with its metadata.
pub(super) fn make_special(dir: &Dir, name: &[u8], node: &Node, owners: Owners) -> Result<()> {
    match &node.kind {
        Kind::Symlink(target) => dir.make_symlink(target, name).on("symlink", &node.path)?,
        Kind::Char(..) | Kind::Block(..) => {
            dir.make_node(name, &node.kind, 0o600).on("mknod", &node.path).map_err(not_allowed)?;
        }
        Kind::Fifo => dir.make_node(name, &node.kind, 0o600).on("mkfifo", &node.path)?,
        Kind::Socket => {
            let error = Error::new(ErrorKind::Unsupported, "a socket belongs to the program that listens on it");
            return Err(error.at(&node.path).hint("leave it out; its program makes it when it starts"));
        }
        Kind::Dir | Kind::File { .. } => unreachable!("neither is special"),
    }
    settle(dir, name, node, Attributes::Fresh, owners)
}

/// Says what mends a device that could not be made.
fn not_allowed(error: Error) -> Error {
    error.hint("devices are for root to make: run it as root, or leave them out with: devices = \"none\"")
}

/// Is the content what the node promises?
pub(super) fn verify(node: &Node, size: u64, digest: Digest) -> Result<()> {
    if size != node.size() {
        let reason = format!("its content has {} than the {} bytes announced", more_or_less(size, node), node.size());
        return Err(Error::new(ErrorKind::BadInput, reason).at(&node.path));
    }
    if node.digest().is_some_and(|want| want != digest) {
        return Err(Error::new(ErrorKind::Unverified, "its content does not have the recorded SHA-256").at(&node.path));
    }
    Ok(())
}

fn more_or_less(size: u64, node: &Node) -> &'static str {
    if size > node.size() { "more" } else { "less" }
}
