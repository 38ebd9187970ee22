// SPDX-License-Identifier: ISC
//! What a guest sees: the root, nodev, with /proc and a small /dev of its own.
//!
//! Every mount is made detached and put in its place by descriptor, so that nothing in the root (a `/dev` that is a
//! symlink to the host's) can lead it elsewhere, and no path of the host is looked up twice.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::sys::Dir;
use crate::sys::guest::Stuck;

type Done<T = ()> = Result<T, Stuck>;

/// Clones the mounts at and below `root`: unattached, private and nodev (decision E18). Closing the descriptor undoes it.
pub(super) fn take(root: &Dir) -> Done<OwnedFd> {
    let tree = clone(root.as_fd(), OpenTreeFlags::AT_RECURSIVE).map_err(Stuck::new("open_tree", ""))?;
    set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_NODEV).map_err(Stuck::new("mount_setattr", ""))?;
    Ok(tree)
}

/// Clones the terminal `fd`, so that programs inside find a name for it: `/dev/console`. None where it is no part of
/// our mounts; then it has no name inside.
pub(super) fn console(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let tree = clone(fd, OpenTreeFlags::empty()).ok()?;
    set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_NOEXEC).ok()?;
    Some(tree)
}

fn clone(fd: BorrowedFd<'_>, more: OpenTreeFlags) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, c"", flags | more)
}

/// mount_setattr(2), Linux 5.12: `flags` for the mount and all below it, and no propagation from or to the host's.
fn set_attributes(tree: BorrowedFd<'_>, flags: MountAttrFlags) -> Result<(), Errno> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attr = MountAttr { set: flags.bits().into(), clear: 0, propagation: libc::MS_PRIVATE, user_namespace: 0 };
    let at = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    let size = size_of::<MountAttr>();
    // SAFETY: the kernel reads an empty string and `size` bytes of `attr`, which is laid out as it defines it.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), at, &raw const attr, size) };
    if done == 0 { Ok(()) } else { Err(super::last_errno()) }
}

/// Makes `tree` the root of this process and its namespace, and lets go of the host's mounts.
pub(super) fn build(tree: BorrowedFd<'_>, console: Option<BorrowedFd<'_>>) -> Done {
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Stuck::new("mount", ""))?;
    rustix::mount::move_mount(tree, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Stuck::new("move_mount", ""))?;
    proc(tree)?;
    dev(tree, console)?;
    rustix::process::fchdir(tree)
        .and_then(|()| rustix::process::pivot_root(c".", c"."))
        .map_err(Stuck::new("pivot_root", ""))?;
    // The host's root now lies on top of ours.
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
        .and_then(|()| rustix::process::chdir(c"/"))
        .map_err(Stuck::new("umount", ""))
}

fn proc(tree: BorrowedFd<'_>) -> Done {
    let place = open(tree, c"proc").map_err(Stuck::new("open", "proc"))?;
    let flags =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    make(c"proc", &[], flags).and_then(|made| attach(&made, &place)).map_err(Stuck::new("mount", "proc"))
}

const DEVICES: &[(&CStr, u32, u32)] =
    &[(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];
const LINKS: &[(&CStr, &CStr)] = &[
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

fn dev(tree: BorrowedFd<'_>, console: Option<BorrowedFd<'_>>) -> Done {
    let place = open(tree, c"dev").map_err(Stuck::new("open", "dev"))?;
    let options = &[(c"mode", c"755"), (c"size", c"1m")];
    let dev = make(c"tmpfs", options, MountAttrFlags::MOUNT_ATTR_NOSUID)
        .and_then(|made| attach(&made, &place).map(|()| made))
        .map_err(Stuck::new("mount", "dev"))?;
    nodes(dev.as_fd()).map_err(Stuck::new("mknod", "dev"))?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = &[(c"gid", c"5"), (c"mode", c"620"), (c"ptmxmode", c"666")];
    beneath(dev.as_fd(), c"pts", || make(c"devpts", options, flags)).map_err(Stuck::new("mount", "dev/pts"))?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    beneath(dev.as_fd(), c"shm", || make(c"tmpfs", &[(c"mode", c"1777")], flags))
        .map_err(Stuck::new("mount", "dev/shm"))?;
    let Some(console) = console else { return Ok(()) };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&dev, c"console", flags, Mode::from_raw_mode(0o600))
        .and_then(|place| attach(console, &place))
        .map_err(Stuck::new("mount", "dev/console"))
}

fn nodes(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for (name, major, minor) in DEVICES {
        let number = rustix::fs::makedev(*major, *minor);
        rustix::fs::mknodat(dev, *name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?;
    }
    LINKS.iter().try_for_each(|(target, name)| rustix::fs::symlinkat(*target, dev, *name))
}

/// A new filesystem, attached nowhere.
fn make(kind: &CStr, options: &[(&CStr, &CStr)], flags: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What mount(8) shows in front of "on".
    rustix::mount::fsconfig_set_string(fs.as_fd(), c"source", kind)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(fs.as_fd())?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

fn attach(what: impl AsFd, place: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(what.as_fd(), c"", place.as_fd(), c"", flags)
}

/// Makes the directory `name` in our own `dev` and puts a new filesystem on it.
fn beneath(dev: BorrowedFd<'_>, name: &CStr, make: impl FnOnce() -> Result<OwnedFd, Errno>) -> Result<(), Errno> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    attach(make()?, open(dev, name)?)
}

/// The directory `name`, which must be no symlink.
fn open(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}
