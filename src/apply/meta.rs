// SPDX-License-Identifier: ISC
//! Giving an entry its metadata, in the one order that loses nothing: owner, xattrs, mode, times. A change of owner
//! clears set-id bits and capabilities; an ACL changes the mode, and only who may write sets attributes. File flags come
//! when the entry is in its place for good: they would hold it in the stage.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{Dir, FileType, HOLDING_FLAGS, Stat, effective_uid, set_file_meta};
use crate::tree::{Kind, Node, Xattrs};

/// What becomes of the owners that a tree names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// They are set; whoever may not is told so.
    #[default]
    Set,
    /// Everything stays the caller's: for users without ids of their own to give away.
    Caller,
}

/// Which of the extended attributes have to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attributes {
    /// The entry is known to have none: only what the node names is set.
    Fresh,
    /// They are made exactly what the node names.
    Exact,
    /// They are right already.
    Leave,
}

/// Owner and group that a new file in `dir` gets by itself.
pub(super) fn native_owner(dir: &Dir) -> Result<(u32, u32)> {
    const PROBE: &[u8] = b"0";
    let made = dir.create_file(PROBE, 0o600).on("create", PROBE)?;
    let stat = dir.stat_file(&made).on("stat", PROBE)?;
    dir.unlink(PROBE).on("unlink", PROBE)?;
    Ok((stat.uid, stat.gid))
}

/// Gives a file that was just written, as `name` in `dir`, its metadata in as few calls as its node allows. `native`
/// is the [`native_owner`] there.
pub(super) fn finish(
    (dir, name): (&Dir, &[u8]),
    file: &File,
    node: &Node,
    native: (u32, u32),
    owners: Owners,
) -> Result<()> {
    let meta = &node.meta;
    if meta.xattrs.is_some() {
        return settle(dir, name, node, Attributes::Fresh, owners);
    }
    let chown = owners == Owners::Set && (meta.uid, meta.gid) != native;
    let owner = chown.then_some((meta.uid, meta.gid));
    set_file_meta(file, owner, meta.mode, meta.mtime).on("set metadata", &node.path).map_err(not_ours)
}

/// Gives `name` in `dir` the metadata of `node` where it differs from what is there.
pub(super) fn settle(dir: &Dir, name: &[u8], node: &Node, attributes: Attributes, owners: Owners) -> Result<()> {
    let (want, path) = (&node.meta, &node.path);
    let have = dir.stat(name).on("stat", path)?;
    let chown = owners == Owners::Set && (have.uid, have.gid) != (want.uid, want.gid);
    if chown {
        dir.set_owner(name, want.uid, want.gid).on("chown", path).map_err(not_ours)?;
    }
    let mut moved = chown && want.mode & 0o6000 != 0;
    if attributes == Attributes::Exact && have.mode & 0o200 == 0 && effective_uid() != 0 {
        dir.set_mode(name, have.mode | 0o200).on("chmod", path)?;
        moved = true;
    }
    settle_xattrs(dir, name, node, have.kind, attributes)?;
    moved |= attributes != Attributes::Leave && want.xattrs.is_some();
    if have.kind != FileType::Symlink && (moved || have.mode != want.mode) {
        dir.set_mode(name, want.mode).on("chmod", path)?;
    }
    if have.mtime != want.mtime {
        dir.set_mtime(name, want.mtime).on("utimensat", path)?;
    }
    Ok(())
}

/// Gives `name` in `dir` the file flags of `node`, which is the last of all.
pub(super) fn hold(dir: &Dir, name: &[u8], node: &Node) -> Result<()> {
    let have = dir.stat(name).on("stat", &node.path)?;
    if have.flags == node.meta.flags {
        return Ok(());
    }
    dir.set_flags(name, node.meta.flags).on("chflags", &node.path)
}

/// Takes the file flags from `name` in `dir` that would keep it from being changed.
pub(super) fn release(dir: &Dir, name: &[u8], have: &Stat) -> io::Result<()> {
    match have.flags & HOLDING_FLAGS {
        0 => Ok(()),
        _ => dir.set_flags(name, have.flags & !HOLDING_FLAGS),
    }
}

/// The extended attributes alone.
fn settle_xattrs(dir: &Dir, name: &[u8], node: &Node, kind: FileType, how: Attributes) -> Result<()> {
    let none = Xattrs::new();
    let want = node.meta.xattrs.as_deref().unwrap_or(&none);
    if how == Attributes::Leave || (how == Attributes::Fresh && want.is_empty()) {
        return Ok(());
    }
    dir.set_xattrs(name, kind, want).on("setxattr", &node.path).map_err(|error| match error.kind() {
        ErrorKind::Unsupported => error.hint("put the chroot on a filesystem that holds extended attributes"),
        _ => error,
    })
}

/// Says what mends an owner that could not be set.
pub(super) fn not_ours(error: Error) -> Error {
    error.hint("only root sets owners; run it as root")
}

/// Is an inode of this type an entry of this kind?
pub(super) fn same_type(found: FileType, kind: &Kind) -> bool {
    let expected = match kind {
        Kind::Dir => FileType::Dir,
        Kind::File { .. } => FileType::File,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Char(..) => FileType::Char,
        Kind::Block(..) => FileType::Block,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    };
    found == expected
}

/// Is the inode what `node` says, as far as one look tells? Files by size and mtime, and by inode where one is
/// recorded; everything else by its kind and content.
pub(super) fn matches(stat: &Stat, dir: &Dir, name: &[u8], node: &Node) -> std::io::Result<bool> {
    Ok(same_type(stat.kind, &node.kind)
        && match &node.kind {
            Kind::File { size, .. } => {
                let same_inode = node.here.is_none_or(|stamp| stamp.ino == stat.ino);
                *size == stat.size && node.meta.mtime == stat.mtime && same_inode
            }
            Kind::Symlink(target) => dir.read_link(name)? == *target,
            Kind::Char(major, minor) | Kind::Block(major, minor) => stat.rdev == (*major, *minor),
            Kind::Dir | Kind::Fifo | Kind::Socket => true,
        })
}
