// SPDX-License-Identifier: ISC
//! [`Front`]: a directory in front of another, as an overlay that is attached nowhere: it goes with its descriptor.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use super::enter::{attach, make};
use crate::sys::{Calls, Dir};

/// The magic number of overlayfs in statfs(2).
const OVERLAYFS: u64 = 0x794c_7630;

/// An overlay.
#[derive(Debug)]
pub struct Front(OwnedFd);

impl Front {
    /// Makes the overlay of `upper`, to which all writes go, in front of `lower`. `work` is an empty directory on the
    /// filesystem of `upper`. Neither may be in another overlay meanwhile.
    ///
    /// # Errors
    /// EPERM for users; EINVAL where the filesystems cannot do it; EBUSY if one is in use; ESTALE if `upper` was in
    /// front of another directory before.
    pub fn new(lower: &Dir, upper: &Dir, work: &Dir) -> io::Result<Front> {
        // Overlays take paths only, until Linux 6.13.
        let path = |dir: &Dir| CString::new(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
        let (lower, upper, work) = (path(lower)?, path(upper)?, path(work)?);
        let options: [(&CStr, &CStr); 5] = [
            (c"lowerdir", &lower),
            (c"upperdir", &upper),
            (c"workdir", &work),
            // Directories of the lower one can be renamed, and a file with several names stays one.
            (c"redirect_dir", c"on"),
            (c"index", c"on"),
        ];
        Ok(Front(make(c"overlay", &options, MountAttrFlags::empty())?))
    }

    /// Its root.
    ///
    /// # Errors
    /// As openat(2).
    pub fn dir(&self, calls: Calls) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir::from_fd(rustix::fs::openat(&self.0, c".", flags, Mode::empty())?, calls))
    }

    /// Puts it on the directory `place`, in a mount namespace that this thread moves to: from then on, it and all that
    /// it starts find the overlay there, and nobody else does.
    ///
    /// # Errors
    /// As unshare(2), move_mount(2).
    pub fn attach(&self, place: &Path) -> io::Result<()> {
        let place = CString::new(place.as_os_str().as_bytes())?;
        // SAFETY: it takes no pointer, and no memory or descriptor is unshared.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return Err(io::Error::last_os_error());
        }
        rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(attach(&self.0, CWD, &place)?)
    }
}

/// Takes what [`Front::attach`] put on `place` away from there.
///
/// # Errors
/// As umount2(2).
pub fn detach(place: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH)?)
}

/// Does the directory `name` in `dir`, which is of an upper layer, hide the one of the same path in the lower layer? It
/// does so if it was made anew in its place, or renamed to it.
///
/// # Errors
/// As lgetxattr(2).
pub fn hides_lower(dir: &Dir, name: &[u8]) -> io::Result<bool> {
    let path = [format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).as_bytes(), name].concat();
    for mark in [c"trusted.overlay.opaque", c"trusted.overlay.redirect"] {
        match rustix::fs::lgetxattr(&*path, mark, &mut [0u8; 0][..]) {
            Ok(_) => return Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(false)
}

/// Does `dir` lie on an overlay?
pub fn is_overlay(dir: &Dir) -> bool {
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // the type differs between architectures
    rustix::fs::fstatfs(dir).is_ok_and(|found| found.f_type as u64 == OVERLAYFS)
}
