// SPDX-License-Identifier: ISC
//! Linux: descriptors beyond POSIX.

mod devices;
mod enter;
mod front;
mod mappings;
mod mounts;
mod occupants;
mod outside;
mod process;
mod shield;
mod subvolume;
mod trace;
mod user_namespace;
mod xattr;

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;

use super::Calls;
use super::dir::Dir;
use super::stat::{FileType, Space, Stat, Visit};
use crate::tree::Time;

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
pub use outside::Outside;
pub use process::{end_process, pid_namespace, process_start};
pub use shield::shield;
pub use subvolume::{has_subvolumes, holds_subvolumes, is_subvolume, make_subvolume, remove_subvolume, snapshot};
pub use trace::trace;
pub use user_namespace::{enter_user_namespace, execute_again, id_map};
pub(super) use xattr::{set_xattrs, xattrs};

/// Filesystems here can hold extended attributes.
pub const HAS_XATTRS: bool = true;

/// What mounts an empty filesystem for devices at the directory that is written behind it.
pub const MOUNT_DEV: &str = "mount -t tmpfs -o nosuid,noexec,mode=755 tmpfs";

/// The embedded recipe of the running system: what `build` makes of nothing.
pub const HOST_RECIPE: &str = "host";

/// Where libraries are looked for in the end.
pub const LIBRARY_DIRS: &[&str] = &["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

/// Does a library with a later minor number stand in for an earlier one?
pub const LIBRARY_MINORS: bool = false;

const PATH_MAX: usize = 4096;

/// Opens the directory `path` below `fd` without following links or crossing mounts, in as few calls as PATH_MAX
/// allows. None: this kernel or mode has no openat2, walk by hand.
pub(super) fn open_beneath(fd: BorrowedFd<'_>, path: &[u8], calls: Calls) -> io::Result<Option<OwnedFd>> {
    if calls == Calls::Portable {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    while !rest.is_empty() {
        let (head, tail) = split(rest);
        let from = at.as_ref().map_or(fd, std::os::fd::AsFd::as_fd);
        let mut tries = 0;
        at = Some(loop {
            match rustix::fs::openat2(from, head, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) if at.is_none() => return Ok(None),
                // A rename somewhere made the kernel unsure; it asks to be called again.
                Err(Errno::AGAIN) if tries < 64 => tries += 1,
                other => break other?,
            }
        });
        rest = tail;
    }
    Ok(at)
}

/// Cuts a path after a whole name, so that the head is shorter than PATH_MAX.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() < PATH_MAX {
        return (path, &[]);
    }
    let cut = path[..PATH_MAX - 1].iter().rposition(|&b| b == b'/').unwrap_or(PATH_MAX - 1);
    (&path[..cut], &path[cut + 1..])
}

/// Hands over name, type and inode number of each entry, from wherever the read position is.
pub(super) fn entries(fd: BorrowedFd<'_>, visit: Visit<'_>) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut dir = RawDir::new(fd, &mut buffer);
    while let Some(entry) = dir.next() {
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

pub(super) fn stat(fd: BorrowedFd<'_>, name: &[u8], calls: Calls) -> io::Result<Stat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let itself = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | itself;
    let x = rustix::fs::statx(fd, name, flags, mask)?;
    let dev = (x.stx_dev_major, x.stx_dev_minor);
    let mount = match calls {
        Calls::Native if x.stx_mask & StatxFlags::MNT_ID.bits() != 0 => x.stx_mnt_id,
        _ => u64::from(dev.0) << 32 | u64::from(dev.1),
    };
    let time = |t: rustix::fs::StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
    Ok(Stat {
        kind: file_type(rustix::fs::FileType::from_raw_mode(x.stx_mode.into())).unwrap_or(FileType::Other),
        mode: x.stx_mode & 0o7777,
        uid: x.stx_uid,
        gid: x.stx_gid,
        size: x.stx_size,
        allocated: x.stx_blocks * 512,
        links: x.stx_nlink.into(),
        ino: x.stx_ino,
        dev,
        mount,
        rdev: (x.stx_rdev_major, x.stx_rdev_minor),
        mtime: time(x.stx_mtime),
        ctime: time(x.stx_ctime),
        flags: 0,
    })
}

/// When the inode was made, where the filesystem keeps that.
pub(super) fn birth(fd: BorrowedFd<'_>) -> io::Result<Option<Time>> {
    let x = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
    let known = x.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(known.then_some(Time { sec: x.stx_btime.tv_sec, nsec: x.stx_btime.tv_nsec }))
}

/// The time that a file changed now would get as its ctime.
pub fn change_clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time { sec: now.tv_sec, nsec: now.tv_nsec.try_into().unwrap_or_default() }
}

/// There are no file flags: what chattr(1) sets is another matter, and not recorded.
pub const HOLDING_FLAGS: u32 = 0;

/// There are no file flags.
pub(super) fn set_flags(_: BorrowedFd<'_>, _: &[u8], _: u32) -> io::Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

/// chmod that follows no symlink: fchmodat2 (Linux 6.6), else through /proc.
pub(super) fn set_mode(fd: BorrowedFd<'_>, name: &[u8], mode: u16) -> io::Result<()> {
    const FCHMODAT2: libc::c_long = 452;
    let text = std::ffi::CString::new(name)?;
    // SAFETY: `text` is a NUL-terminated string that outlives the call; the other arguments are integers.
    let done = unsafe {
        libc::syscall(FCHMODAT2, fd.as_raw_fd(), text.as_ptr(), libc::c_uint::from(mode), libc::AT_SYMLINK_NOFOLLOW)
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        return Err(error);
    }
    let pinned = rustix::fs::openat(fd, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&pinned)?;
    if rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Symlink {
        return Err(Errno::OPNOTSUPP.into());
    }
    let path = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode.into()))?)
}

pub(super) fn sync_filesystem(fd: BorrowedFd<'_>, calls: Calls) -> io::Result<()> {
    let synced = match calls {
        Calls::Native => rustix::fs::syncfs(fd),
        Calls::Portable => rustix::fs::fsync(fd),
    };
    Ok(synced?)
}

pub(super) fn space(fd: BorrowedFd<'_>) -> io::Result<Space> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    let v = rustix::fs::fstatvfs(fd)?;
    let kind = rustix::fs::fstatfs(fd)?.f_type;
    let blocks = if super::effective_uid() == 0 { v.f_bfree } else { v.f_bavail };
    #[allow(clippy::useless_conversion)] // the type differs between architectures
    let kind = i64::from(kind);
    Ok(Space {
        free: blocks.saturating_mul(v.f_frsize),
        inodes: if v.f_files == 0 { u64::MAX } else { v.f_favail },
        block: v.f_frsize,
        read_only: v.f_flag.contains(StatVfsMountFlags::RDONLY),
        nodev: v.f_flag.contains(StatVfsMountFlags::NODEV),
        nosuid: v.f_flag.contains(StatVfsMountFlags::NOSUID),
        noexec: v.f_flag.contains(StatVfsMountFlags::NOEXEC),
        id: v.f_fsid,
        volatile: kind == TMPFS || kind == RAMFS,
    })
}

pub(super) fn exchange(a: (BorrowedFd<'_>, &[u8]), b: (BorrowedFd<'_>, &[u8]), calls: Calls) -> io::Result<()> {
    match calls {
        Calls::Native => Ok(rustix::fs::renameat_with(a.0, a.1, b.0, b.1, RenameFlags::EXCHANGE)?),
        Calls::Portable => Err(Errno::OPNOTSUPP.into()),
    }
}

pub(super) fn clone_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, calls: Calls) -> io::Result<()> {
    match calls {
        Calls::Native => Ok(rustix::fs::ioctl_ficlone(to, from)?),
        Calls::Portable => Err(Errno::OPNOTSUPP.into()),
    }
}

/// The next range of `file`, of `size` bytes, at or after `at` that holds data; holes lie between.
///
/// # Errors
/// As lseek(2).
pub fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => return Ok(None),
        found => found?,
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
    Ok((start < end).then_some(start..end))
}

/// Can files in `to` share blocks with files in `from`? Found out with two files without a name.
pub fn shares_blocks(from: &Dir, to: &Dir) -> bool {
    let nameless = |dir: &Dir| {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::openat(dir, c".", flags, Mode::RUSR | Mode::WUSR)
    };
    let attempt = || -> Result<(), Errno> {
        let (source, copy) = (nameless(from)?, nameless(to)?);
        rustix::io::write(&source, &[1; 4096])?;
        rustix::fs::ioctl_ficlone(copy, source)
    };
    from.calls() == Calls::Native && attempt().is_ok()
}

/// Forbids this process to gain anything by executing programs.
///
/// # Errors
/// As prctl(2).
pub(super) fn forbid_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// There is no unveil(2).
///
/// # Errors
/// None.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub fn confine_writes(_: &[std::path::PathBuf]) -> io::Result<()> {
    Ok(())
}

/// There is no pledge(2).
///
/// # Errors
/// None.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub fn forbid_writes() -> io::Result<()> {
    Ok(())
}
