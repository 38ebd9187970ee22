// SPDX-License-Identifier: ISC
//! OpenBSD: POSIX calls, and what little differs.

mod confine;
mod devices;
mod enter;
mod front;
mod mappings;
mod mounts;
mod occupants;
mod trace;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::Calls;
use super::dir::Dir;
use super::guest::Stuck;
use super::ids::IdMap;
use super::stat::{FileType, Space, Stat, Visit};
use crate::tree::{Time, Xattrs};

pub(super) use confine::forbid_privileges;
pub use confine::{confine_writes, forbid_writes};
pub use devices::device_set;
pub use enter::{
    Bind, HAS_SESSIONS, MOUNT_POINTS, Overlays, SEARCH_PATH, USER_NAMESPACE_SETTINGS, can_enter, can_overlay, enter,
    take_bind,
};
pub(super) use enter::{mark_inherited, set_credentials, take_class};
pub use front::{Front, detach, hides_lower, is_overlay};
pub use mappings::mappings;
pub use mounts::{Mount, mounts};
pub use occupants::occupants;
pub use trace::trace;

/// There are no extended attributes.
pub const HAS_XATTRS: bool = false;

/// What mounts an empty filesystem for devices at the directory that is written behind it.
pub const MOUNT_DEV: &str = "mount_mfs -s 4m -i 2048 -o nosuid,noexec swap";

/// The embedded recipe of the running system: what `build` makes of nothing.
pub const HOST_RECIPE: &str = "openbsd-host";

/// Where libraries are looked for in the end.
pub const LIBRARY_DIRS: &[&str] = &["/usr/lib", "/usr/local/lib", "/usr/X11R6/lib"];

/// Does a library with a later minor number stand in for an earlier one?
pub const LIBRARY_MINORS: bool = true;

/// There is no openat2: directories are walked by hand.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub(super) fn open_beneath(_fd: BorrowedFd<'_>, _path: &[u8], _calls: Calls) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

/// Hands over name, type and inode number of each entry.
pub(super) fn entries(fd: BorrowedFd<'_>, visit: Visit<'_>) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            visit(name, file_type(entry.file_type()), entry.ino());
        }
    }
    Ok(())
}

fn file_type(kind: rustix::fs::FileType) -> Option<FileType> {
    use rustix::fs::FileType as R;
    Some(match kind {
        R::Directory => FileType::Dir,
        R::RegularFile => FileType::File,
        R::Symlink => FileType::Symlink,
        R::CharacterDevice => FileType::Char,
        R::BlockDevice => FileType::Block,
        R::Fifo => FileType::Fifo,
        R::Socket => FileType::Socket,
        R::Unknown => return None,
    })
}

pub(super) fn stat(fd: BorrowedFd<'_>, name: &[u8], _calls: Calls) -> io::Result<Stat> {
    let s = match name {
        b"" => rustix::fs::fstat(fd)?,
        _ => rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?,
    };
    let numbers = |dev| (rustix::fs::major(dev), rustix::fs::minor(dev));
    let dev = numbers(s.st_dev);
    let time = |sec: i64, nsec: i64| Time { sec, nsec: nsec as u32 };
    Ok(Stat {
        kind: file_type(rustix::fs::FileType::from_raw_mode(s.st_mode)).unwrap_or(FileType::Other),
        mode: (s.st_mode & 0o7777) as u16,
        uid: s.st_uid,
        gid: s.st_gid,
        size: s.st_size as u64,
        allocated: s.st_blocks as u64 * 512,
        links: s.st_nlink.into(),
        ino: s.st_ino,
        dev,
        // Each mount is a device of its own: there are no bind mounts.
        mount: u64::from(dev.0) << 32 | u64::from(dev.1),
        rdev: numbers(s.st_rdev),
        mtime: time(s.st_mtime, s.st_mtime_nsec),
        ctime: time(s.st_ctime, s.st_ctime_nsec),
        flags: s.st_flags,
    })
}

/// When the inode was made: stat(2) does not say it here.
pub(super) fn birth(_: BorrowedFd<'_>) -> io::Result<Option<Time>> {
    Ok(None)
}

/// A time not after the one that a file changed now would get as its ctime: that comes from a clock which ticks 100 times
/// a second and cannot be read, so this leaves room for two ticks.
pub fn change_clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let nanoseconds = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec) - 20_000_000;
    let (sec, nsec) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    Time { sec: sec.try_into().unwrap_or_default(), nsec: nsec.try_into().unwrap_or_default() }
}

/// chmod that follows no symlink.
pub(super) fn set_mode(fd: BorrowedFd<'_>, name: &[u8], mode: u16) -> io::Result<()> {
    Ok(rustix::fs::chmodat(fd, name, Mode::from_raw_mode(mode.into()), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The file flags (chflags(2)) that keep an entry as it is: nobody renames, links, writes or removes one that has them.
pub const HOLDING_FLAGS: u32 = libc::SF_IMMUTABLE | libc::SF_APPEND | libc::UF_IMMUTABLE | libc::UF_APPEND;

/// chflags that follows no symlink.
pub(super) fn set_flags(fd: BorrowedFd<'_>, name: &[u8], flags: u32) -> io::Result<()> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the descriptor is open and the name a string, both for as long as the call.
    match unsafe { libc::chflagsat(fd.as_raw_fd(), name.as_ptr(), flags, libc::AT_SYMLINK_NOFOLLOW) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[allow(clippy::unnecessary_wraps)] // as on the other system
pub(super) fn xattrs(_fd: BorrowedFd<'_>, _name: &[u8], _kind: FileType) -> io::Result<Xattrs> {
    Ok(Xattrs::new())
}

pub(super) fn set_xattrs(_fd: BorrowedFd<'_>, _name: &[u8], _kind: FileType, want: &Xattrs) -> io::Result<()> {
    if want.is_empty() { Ok(()) } else { Err(Errno::OPNOTSUPP.into()) }
}

/// There are no pid namespaces.
pub fn pid_namespace() -> Option<u64> {
    None
}

/// Not known here.
pub fn process_start(_pid: u32) -> Option<u64> {
    None
}

/// Has the process `pid` end: asked, or with `force` at once. `still` says whether that number is still the process that
/// is meant; nothing happens if not.
///
/// # Errors
/// As kill(2).
pub fn end_process(pid: u32, force: bool, still: &dyn Fn() -> bool) -> io::Result<()> {
    use rustix::process::{Pid, Signal};
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| still()) else { return Ok(()) };
    match rustix::process::kill_process(pid, if force { Signal::KILL } else { Signal::TERM }) {
        Err(Errno::SRCH) => Ok(()),
        done => Ok(done?),
    }
}

/// Only the directory itself: sync(2) promises nothing, so each file is synced when it is written.
pub(super) fn sync_filesystem(fd: BorrowedFd<'_>, _calls: Calls) -> io::Result<()> {
    Ok(rustix::fs::fsync(fd)?)
}

pub(super) fn space(fd: BorrowedFd<'_>) -> io::Result<Space> {
    let f = rustix::fs::fstatfs(fd)?;
    let is = |flag: i32| f.f_flags & flag as u32 != 0;
    // What is kept for root may be taken: then the number is negative.
    let left = |count: i64| u64::try_from(count).unwrap_or(0);
    let blocks = if super::effective_uid() == 0 { f.f_bfree } else { left(f.f_bavail) };
    // SAFETY: plain numbers, eight bytes without padding, any value of which is a u64.
    let id = unsafe { std::mem::transmute::<libc::fsid_t, u64>(f.f_fsid) };
    Ok(Space {
        free: blocks.saturating_mul(f.f_bsize.into()),
        inodes: if f.f_files == 0 { u64::MAX } else { left(f.f_favail) },
        block: f.f_bsize.into(),
        read_only: is(libc::MNT_RDONLY),
        nodev: is(libc::MNT_NODEV),
        nosuid: is(libc::MNT_NOSUID),
        noexec: is(libc::MNT_NOEXEC),
        id,
        volatile: matches!(mounts::text(&f.f_fstypename), b"mfs" | b"tmpfs"),
    })
}

/// Two renames would leave a moment without a root, and no call does both.
pub(super) fn exchange(_: (BorrowedFd<'_>, &[u8]), _: (BorrowedFd<'_>, &[u8]), _: Calls) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

/// No filesystem can share blocks.
pub(super) fn clone_file(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>, _calls: Calls) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

/// The next range of `file` that holds data: nobody tells where the holes are.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub fn next_data(_file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    Ok((at < size).then_some(at..size))
}

/// No filesystem can share blocks.
pub fn shares_blocks(_from: &Dir, _to: &Dir) -> bool {
    false
}

/// There are none here.
///
/// # Errors
/// None.
pub fn holds_subvolumes(_dir: &Dir) -> io::Result<bool> {
    Ok(false)
}

/// No filesystem has subvolumes.
pub fn is_subvolume(_dir: &Dir) -> bool {
    false
}

/// No filesystem has subvolumes.
pub fn make_subvolume(_dir: &Dir, _name: &[u8]) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

/// No filesystem has subvolumes.
pub fn snapshot(_from: &Dir, _to: &Dir, _name: &[u8]) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

/// No filesystem has subvolumes.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub fn remove_subvolume(_dir: &Dir, _name: &[u8]) -> io::Result<bool> {
    Ok(false)
}

/// No filesystem has subvolumes.
pub fn has_subvolumes(_dir: &Dir) -> bool {
    false
}

/// There are no user namespaces.
///
/// # Errors
/// None.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub fn id_map() -> io::Result<IdMap> {
    Ok(IdMap::everything())
}

/// There are no user namespaces.
///
/// # Errors
/// Always: `unshare` is not supported.
pub fn enter_user_namespace(_: &IdMap) -> Result<Outside, Stuck> {
    Err(Stuck::new("unshare", "")(Errno::NOSYS))
}

/// Only a process that has entered a user namespace does that.
pub fn execute_again(_home: &std::path::Path, outside: Outside) -> io::Error {
    match outside {}
}

/// There is no outside of what there is not.
#[derive(Debug)]
pub enum Outside {}

impl Outside {
    /// There is none.
    pub fn find() -> Option<Outside> {
        None
    }

    /// Owner and group outside.
    ///
    /// # Errors
    /// None.
    pub fn owner(&mut self, _path: &[u8], _found: (u32, u32)) -> io::Result<(u32, u32)> {
        match *self {}
    }
}

/// There is no /proc/self/exe.
///
/// # Errors
/// None.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub fn shield() -> io::Result<()> {
    Ok(())
}
