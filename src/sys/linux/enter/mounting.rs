// SPDX-License-Identifier: ISC
//! Mounts as descriptors: made or cloned attached nowhere, then put in their place.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

/// A new filesystem, attached nowhere. An option without a value is a flag.
pub(in crate::sys::linux) fn make(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    flags: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What mount(8) shows in front of "on".
    rustix::mount::fsconfig_set_string(fs.as_fd(), c"source", kind)?;
    for (key, value) in options {
        match value.is_empty() {
            true => rustix::mount::fsconfig_set_flag(fs.as_fd(), *key)?,
            false => rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)?,
        }
    }
    rustix::mount::fsconfig_create(fs.as_fd())?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A clone of the mount that `path` below `at`, or `at` itself if that is empty, lies in, from there on.
pub(in crate::sys::linux) fn clone(at: BorrowedFd<'_>, path: &CStr, more: OpenTreeFlags) -> Result<OwnedFd, Errno> {
    let itself = if path.is_empty() { OpenTreeFlags::AT_EMPTY_PATH } else { OpenTreeFlags::AT_SYMLINK_NOFOLLOW };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | itself;
    rustix::mount::open_tree(at, path, flags | more)
}

/// mount_setattr(2), Linux 5.12: `flags` for the mount and all below it, and no propagation from or to the host's.
pub(in crate::sys::linux) fn restrict(tree: BorrowedFd<'_>, flags: MountAttrFlags) -> Result<(), Errno> {
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

/// Puts `what` on `path` below `at`, or on `at` itself if that is empty.
pub(in crate::sys::linux) fn attach(what: impl AsFd, at: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let itself = if path.is_empty() { MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH } else { MoveMountFlags::empty() };
    rustix::mount::move_mount(what.as_fd(), c"", at, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | itself)
}

/// The directory `name` in `at`; an error if it is a symlink or anything else.
pub(super) fn directory(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// What `path` below `root` is, without any symlink on the way, and never out of `root`.
pub(super) fn place(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}
