// SPDX-License-Identifier: ISC
//! An overlay in front of the root: what a guest writes goes to memory, and the root stays as it is.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mounting::{attach, make};
use crate::sys::guest::Stuck;

/// Mounts it over `tree`, which lies at `/`.
///
/// Memory, not a place beside the root: nothing can stay behind, however the session ends.
pub(super) fn mount(tree: BorrowedFd<'_>, rootless: bool) -> Result<OwnedFd, Stuck> {
    let open = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    // The upper layer must be mounted somewhere while the overlay is made; it stays below, unreachable.
    let memory = make(c"tmpfs", &[(c"mode", c"755")], open)
        .and_then(|memory| attach(&memory, CWD, c"/").map(|()| memory))
        .map_err(Stuck::new("mount", "tmpfs"))?;
    for name in [c"upper", c"work"] {
        rustix::fs::mkdirat(&memory, name, Mode::from_raw_mode(0o755)).map_err(Stuck::new("mkdir", "tmpfs"))?;
    }
    copy_meta(tree, memory.as_fd()).map_err(Stuck::new("chown", "tmpfs"))?;
    let (lower, upper, work) = (path(tree, ""), path(memory.as_fd(), "/upper"), path(memory.as_fd(), "/work"));
    let text = |bytes| CStr::from_bytes_until_nul(bytes).unwrap_or_default();
    let [lower, upper, work] = [(c"lowerdir", text(&lower)), (c"upperdir", text(&upper)), (c"workdir", text(&work))];
    // Directories of the root can be renamed, and a file with several names stays one; in a user namespace there is
    // no such thing.
    let whole = [lower, upper, work, (c"redirect_dir", c"on"), (c"index", c"on")];
    let plain = [lower, upper, work, (c"userxattr", c"")];
    let options: &[(&CStr, &CStr)] = if rootless { &plain } else { &whole };
    let front = make(c"overlay", options, MountAttrFlags::MOUNT_ATTR_NODEV).map_err(Stuck::new("mount", "overlay"))?;
    attach(&front, CWD, c"/").map_err(Stuck::new("move_mount", "overlay")).map(|()| front)
}

/// The root directory of an overlay is the upper one: it looks like the lower.
fn copy_meta(tree: BorrowedFd<'_>, memory: BorrowedFd<'_>) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(tree)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    let upper = super::mounting::directory(memory, c"upper")?;
    rustix::fs::chownat(&upper, c"", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)?;
    rustix::fs::chmodat(memory, c"upper", Mode::from_raw_mode(stat.st_mode & 0o7777), rustix::fs::AtFlags::empty())
}

/// The path of a descriptor, and `tail`. Overlays take paths only, until Linux 6.13.
fn path(fd: BorrowedFd<'_>, tail: &str) -> [u8; 48] {
    let mut text = [0; 48];
    // Longer than any: the last byte stays NUL.
    let _ = write!(&mut text[..47], "/proc/self/fd/{}{tail}", fd.as_raw_fd());
    text
}
