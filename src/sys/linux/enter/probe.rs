// SPDX-License-Identifier: ISC
//! What sessions need, tried out by a child that ends at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags};
use rustix::process::WaitOptions;

use super::{NAMESPACES, fork, mounting, overlay, view};
use crate::sys::guest::Stuck;
use crate::sys::{Calls, Dir};

/// Tries whether [`super::enter`] is allowed here, without entering anything.
///
/// # Errors
/// The step that fails.
pub fn can_enter() -> Result<(), Stuck> {
    let opened = Dir::open(Path::new("/"), Calls::Native);
    let root = opened.map_err(|error| Stuck { operation: "open", place: "", mount: None, error })?;
    view::take(&root, false)?;
    child(NAMESPACES, || 0).map(drop).map_err(Stuck::new("clone", ""))
}

/// What an overlay in front of a directory can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlays {
    /// All.
    Whole,
    /// All but attributes of users, which files in memory have since Linux 6.6.
    WithoutUserAttributes,
}

/// Tries whether `root` can be used with [`super::Terms::ephemeral`], by root of a user namespace if `rootless`; nothing of that is seen outside.
///
/// # Errors
/// Why not.
pub fn can_overlay(root: &Dir, rootless: bool) -> std::io::Result<Overlays> {
    const NO_ATTRIBUTES: i32 = 255;
    // Here, where its mount is: another namespace cannot clone it.
    let tree = mounting::clone(root.as_fd(), c"", OpenTreeFlags::empty())?;
    let work =
        || attempt(tree.as_fd(), rootless).map_or_else(Errno::raw_os_error, |all| if all { 0 } else { NO_ATTRIBUTES });
    match child(NAMESPACES, work)? {
        0 => Ok(Overlays::Whole),
        NO_ATTRIBUTES => Ok(Overlays::WithoutUserAttributes),
        errno => Err(std::io::Error::from_raw_os_error(errno)),
    }
}

/// Mounts an overlay; does it take attributes of users?
fn attempt(tree: BorrowedFd<'_>, rootless: bool) -> Result<bool, Errno> {
    let plain = |stuck: Stuck| Errno::from_io_error(&stuck.error).unwrap_or(Errno::INVAL);
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mounting::attach(tree, CWD, c"/")?;
    let front = overlay::mount(tree, rootless).map_err(plain)?;
    let top = rustix::fs::openat(&front, c".", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    Ok(rustix::fs::fsetxattr(&top, c"user.stockade", b"1", XattrFlags::empty()).is_ok())
}

/// The exit status of a child in new namespaces `flags` that does `work`, which must not allocate.
fn child(flags: libc::c_int, work: impl FnOnce() -> i32) -> Result<i32, Errno> {
    let Some(pid) = fork(flags)? else {
        let status = work();
        // SAFETY: does not return and touches no memory.
        unsafe { libc::_exit(status) }
    };
    let status = rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
    status.and_then(|(_, status)| status.exit_status()).ok_or(Errno::CHILD)
}
