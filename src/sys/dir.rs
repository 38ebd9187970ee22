// SPDX-License-Identifier: ISC
//! A directory descriptor and the at-calls on names below it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, Timespec, Timestamps};

use super::stat::{Entry, FileType, Space, Stat, Visit};
use super::{Calls, platform};
use crate::path::TreePath;
use crate::tree::{Kind, Time, Xattrs};

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory held open. Every method acts on one name in it (never a path) and follows no symlink.
///
/// Errors are bare [`io::Error`]s; callers know the path and attach it.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    calls: Calls,
    crossing: bool,
    /// Held while it is listed: threads that share a `Dir` share its read position.
    listing: Mutex<()>,
}

impl Dir {
    /// Opens `path` as the user gave it, links and mounts and all.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path, calls: Calls) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Dir::from_fd(fd, calls))
    }

    pub(super) fn from_fd(fd: OwnedFd, calls: Calls) -> Dir {
        Dir { fd, calls, crossing: false, listing: Mutex::new(()) }
    }

    /// The same directory, from which [`Dir::walk`] goes on into other mounts: for reading a host that has `/usr` or
    /// `/var` on a filesystem of its own. Never for a root that is written to.
    #[must_use]
    pub fn crossing(self) -> Dir {
        Dir { crossing: true, ..self }
    }

    /// The same directory, from which [`Dir::walk`] stays on its mount.
    #[must_use]
    pub fn staying(self) -> Dir {
        Dir { crossing: false, ..self }
    }

    /// May mounts be crossed?
    pub fn crosses(&self) -> bool {
        self.crossing
    }

    /// Another directory that was reached from this one.
    fn reached(&self, fd: OwnedFd) -> Dir {
        Dir { fd, calls: self.calls, crossing: self.crossing, listing: Mutex::new(()) }
    }

    /// The calls that this directory and all opened through it may use.
    pub fn calls(&self) -> Calls {
        self.calls
    }

    /// A second descriptor of the same directory, with a read position of its own.
    ///
    /// # Errors
    /// As openat(2).
    pub fn try_clone(&self) -> io::Result<Dir> {
        self.open_dir(b".")
    }

    /// Opens the directory `name`; a symlink is an error.
    ///
    /// # Errors
    /// As openat(2); ENOTDIR or ELOOP for a symlink.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Dir> {
        Ok(self.reached(rustix::fs::openat(&self.fd, name, DIR_FLAGS, Mode::empty())?))
    }

    /// Opens the directory at `path` below this one. A symlink or another mount on the way is an error; the mount is
    /// none if this directory is [`Dir::crossing`].
    ///
    /// # Errors
    /// As openat(2); ELOOP or ENOTDIR for a symlink, EXDEV for a mount point.
    pub fn walk(&self, path: &TreePath) -> io::Result<Dir> {
        if path.is_root() {
            return self.try_clone();
        }
        if !self.crossing
            && let Some(fd) = platform::open_beneath(self.fd.as_fd(), path.as_bytes(), self.calls)?
        {
            return Ok(self.reached(fd));
        }
        let mount = self.stat_self()?.mount;
        let mut names = path.components();
        let mut at = self.open_dir(names.next().unwrap_or_default())?;
        loop {
            if !self.crossing && at.stat_self()?.mount != mount {
                return Err(rustix::io::Errno::XDEV.into());
            }
            match names.next() {
                Some(name) => at = at.open_dir(name)?,
                None => return Ok(at),
            }
        }
    }

    /// Opens the directory that holds `path`; the name in it is `path.name()`.
    ///
    /// # Errors
    /// As [`Dir::walk`]; EINVAL for the root, which has no name.
    pub fn walk_parent(&self, path: &TreePath) -> io::Result<Dir> {
        match path.parent() {
            Some(parent) => self.walk(&parent),
            None => Err(rustix::io::Errno::INVAL.into()),
        }
    }

    /// The names in it, without `.` and `..`, in the order of the disk.
    ///
    /// # Errors
    /// As getdents(2).
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut out = Vec::new();
        self.each_entry(&mut |name, kind, ino| out.push(Entry { name: name.into(), kind, ino }))?;
        Ok(out)
    }

    /// As [`Dir::entries`], without making anything of them.
    ///
    /// # Errors
    /// As getdents(2).
    pub fn each_entry(&self, visit: Visit<'_>) -> io::Result<()> {
        let _alone = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::fs::seek(&self.fd, SeekFrom::Start(0))?;
        platform::entries(self.fd.as_fd(), visit)
    }

    /// What the kernel says of `name`.
    ///
    /// # Errors
    /// As fstatat(2).
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        platform::stat(self.fd.as_fd(), name, self.calls)
    }

    /// What the kernel says of `name`, or none if it does not exist.
    ///
    /// # Errors
    /// As fstatat(2), ENOENT apart.
    pub fn find(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the kernel says of the directory itself.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn stat_self(&self) -> io::Result<Stat> {
        platform::stat(self.fd.as_fd(), b"", self.calls)
    }

    /// When the directory was made, where the filesystem keeps that.
    ///
    /// # Errors
    /// As statx(2).
    pub fn birth(&self) -> io::Result<Option<Time>> {
        platform::birth(self.fd.as_fd())
    }

    /// What the kernel says of an open file.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn stat_file(&self, file: &File) -> io::Result<Stat> {
        platform::stat(file.as_fd(), b"", self.calls)
    }

    /// Opens the regular file `name` for reading. Never blocks on a FIFO; the caller checks that it is the file it
    /// expects before it reads.
    ///
    /// # Errors
    /// As openat(2); ELOOP for a symlink.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?.into())
    }

    /// Opens `name` for reading if it is a regular file; none if it is something else, or becomes it meanwhile. A device
    /// would act on being opened: looked at first, and once more when it is open (decision E14).
    ///
    /// # Errors
    /// As openat(2), fstatat(2).
    pub fn open_regular(&self, name: &[u8]) -> io::Result<Option<File>> {
        let named = self.stat(name)?;
        if named.kind != FileType::File {
            return Ok(None);
        }
        let file = self.open_file(name)?;
        let opened = self.stat_file(&file)?;
        Ok(((opened.kind, opened.ino) == (FileType::File, named.ino)).then_some(file))
    }

    /// Opens `name` for reading and writing and creates it with `mode` if it is missing; for state files.
    ///
    /// # Errors
    /// As openat(2).
    pub fn open_or_create(&self, name: &[u8], mode: u16) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, bits(mode))?.into())
    }

    /// Creates the regular file `name`, which must not exist.
    ///
    /// # Errors
    /// As openat(2); EEXIST.
    pub fn create_file(&self, name: &[u8], mode: u16) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, bits(mode))?.into())
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// As mkdirat(2).
    pub fn make_dir(&self, name: &[u8], mode: u16) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.fd, name, bits(mode))?)
    }

    /// Makes the symlink `name`.
    ///
    /// # Errors
    /// As symlinkat(2).
    pub fn make_symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, name)?)
    }

    /// Makes the device or FIFO `name`; regular files, directories, links and sockets are EINVAL.
    ///
    /// # Errors
    /// As mknodat(2); EPERM where the process may not make devices.
    pub fn make_node(&self, name: &[u8], kind: &Kind, mode: u16) -> io::Result<()> {
        let (file_type, dev) = match *kind {
            Kind::Char(major, minor) => (rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            Kind::Block(major, minor) => (rustix::fs::FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            Kind::Fifo => (rustix::fs::FileType::Fifo, 0),
            _ => return Err(rustix::io::Errno::INVAL.into()),
        };
        Ok(rustix::fs::mknodat(&self.fd, name, file_type, bits(mode), dev as _)?)
    }

    /// The target of the symlink `name`.
    ///
    /// # Errors
    /// As readlinkat(2).
    pub fn read_link(&self, name: &[u8]) -> io::Result<Box<[u8]>> {
        Ok(rustix::fs::readlinkat(&self.fd, name, Vec::new())?.into_bytes().into())
    }

    /// Gives the inode `name` a second name in `to`.
    ///
    /// # Errors
    /// As linkat(2).
    pub fn link(&self, name: &[u8], to: &Dir, new_name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.fd, name, &to.fd, new_name, AtFlags::empty())?)
    }

    /// Renames `name`, replacing what is there.
    ///
    /// # Errors
    /// As renameat(2). Two names of one inode: does nothing.
    pub fn rename(&self, name: &[u8], to: &Dir, new_name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, name, &to.fd, new_name)?)
    }

    /// Exchanges `name` and `new_name`, which both exist, in one step.
    ///
    /// # Errors
    /// As renameat2(2); EOPNOTSUPP or EINVAL where the system or the filesystem cannot.
    pub fn exchange(&self, name: &[u8], to: &Dir, new_name: &[u8]) -> io::Result<()> {
        platform::exchange((self.fd.as_fd(), name), (to.fd.as_fd(), new_name), self.calls)
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// As unlinkat(2).
    pub fn unlink(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As unlinkat(2); ENOTEMPTY, EBUSY for a mount point.
    pub fn remove_dir(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Sets owner and group of `name`; the kernel may clear set-id bits, so the mode comes after.
    ///
    /// # Errors
    /// As fchownat(2).
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        Ok(rustix::fs::chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the twelve mode bits of `name`, which must be no symlink.
    ///
    /// # Errors
    /// As fchmodat(2).
    pub fn set_mode(&self, name: &[u8], mode: u16) -> io::Result<()> {
        platform::set_mode(self.fd.as_fd(), name, mode)
    }

    /// Sets the file flags of `name`.
    ///
    /// # Errors
    /// As chflagsat(2); `EOPNOTSUPP` where there are none.
    pub fn set_flags(&self, name: &[u8], flags: u32) -> io::Result<()> {
        platform::set_flags(self.fd.as_fd(), name, flags)
    }

    /// Sets the modification time of `name`; the access time becomes the same.
    ///
    /// # Errors
    /// As utimensat(2).
    pub fn set_mtime(&self, name: &[u8], mtime: Time) -> io::Result<()> {
        Ok(rustix::fs::utimensat(&self.fd, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// All extended attributes of `name`, sorted.
    ///
    /// # Errors
    /// As lgetxattr(2).
    pub fn xattrs(&self, name: &[u8], kind: FileType) -> io::Result<Xattrs> {
        platform::xattrs(self.fd.as_fd(), name, kind)
    }

    /// Makes the extended attributes of `name` exactly `want`.
    ///
    /// # Errors
    /// As lsetxattr(2); `ENOTSUP` where the filesystem cannot hold one.
    pub fn set_xattrs(&self, name: &[u8], kind: FileType, want: &Xattrs) -> io::Result<()> {
        platform::set_xattrs(self.fd.as_fd(), name, kind, want)
    }

    /// Makes all that was written to its filesystem durable (syncfs); on OpenBSD only the directory itself.
    ///
    /// # Errors
    /// As syncfs(2), fsync(2).
    pub fn sync_filesystem(&self) -> io::Result<()> {
        platform::sync_filesystem(self.fd.as_fd(), self.calls)
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Room and rules of its filesystem.
    ///
    /// # Errors
    /// As fstatfs(2).
    pub fn space(&self) -> io::Result<Space> {
        platform::space(self.fd.as_fd())
    }

    /// Shares the blocks of `from` with the empty file `to` (reflink).
    ///
    /// # Errors
    /// EOPNOTSUPP, EXDEV, EINVAL where the filesystem cannot; the caller copies then.
    pub fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        platform::clone_file(from.as_fd(), to.as_fd(), self.calls)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets owner, then mode, then mtime of an open file: owner first, because it clears set-id bits.
///
/// # Errors
/// As fchown(2), fchmod(2), futimens(2).
pub fn set_file_meta(file: &File, owner: Option<(u32, u32)>, mode: u16, mtime: Time) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(file, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))?;
    }
    rustix::fs::fchmod(file, bits(mode))?;
    Ok(rustix::fs::futimens(file, &times(mtime))?)
}

/// Did opening a directory fail because a symlink, or something else that is no directory, has its name?
pub fn is_no_directory(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP))
}

fn bits(mode: u16) -> Mode {
    Mode::from_raw_mode(rustix::fs::RawMode::from(mode))
}

fn times(mtime: Time) -> Timestamps {
    let spec = Timespec { tv_sec: mtime.sec, tv_nsec: mtime.nsec.into() };
    Timestamps { last_access: spec, last_modification: spec }
}
