// SPDX-License-Identifier: ISC
//! What the system says of inodes, names and filesystems.

use crate::tree::Time;

/// The type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FileType {
    Dir,
    File,
    Symlink,
    Char,
    Block,
    Fifo,
    Socket,
    Other,
}

/// What the kernel says of an inode.
#[derive(Debug, Clone)]
pub struct Stat {
    /// Its type.
    pub kind: FileType,
    /// The twelve mode bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes allocated on disk.
    pub allocated: u64,
    /// Number of names.
    pub links: u64,
    /// Inode number.
    pub ino: u64,
    /// Device of the filesystem: major, minor.
    pub dev: (u32, u32),
    /// Which mount it is on: the mount's id on Linux, else a number made from `dev`.
    pub mount: u64,
    /// Device number of a device node: major, minor.
    pub rdev: (u32, u32),
    /// Last modification.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// File flags (OpenBSD).
    pub flags: u32,
}

/// A name read from a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Box<[u8]>,
    /// Its type, where the filesystem tells.
    pub kind: Option<FileType>,
    /// Its inode number.
    pub ino: u64,
}

/// Takes name, type where the filesystem tells, and inode number of an entry.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], Option<FileType>, u64);

/// Room and rules of a filesystem.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Inodes left; `u64::MAX` where the filesystem does not count them.
    pub inodes: u64,
    /// Size of a block: what even an empty file may take.
    pub block: u64,
    /// Mounted read-only.
    pub read_only: bool,
    /// Device nodes do not work.
    pub nodev: bool,
    /// Set-id bits do not work.
    pub nosuid: bool,
    /// Programs do not start.
    pub noexec: bool,
    /// The filesystem's own id, the same after a reboot where the filesystem has one on disk.
    pub id: u64,
    /// In memory only: syncing it is pointless.
    pub volatile: bool,
}
