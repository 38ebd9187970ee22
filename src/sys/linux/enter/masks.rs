// SPDX-License-Identifier: ISC
//! What a confined guest does not see of /proc and /sys, and what it only reads: the paths that container engines mask.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use super::mounting::{attach, clone, make, restrict};

/// Files that /dev/null is put on.
const FILES: &[&CStr] =
    &[c"interrupts", c"kcore", c"keys", c"latency_stats", c"sched_debug", c"timer_list", c"timer_stats"];
/// Directories that an empty one is put on, in /proc and in /sys.
const PROC: &[&CStr] = &[c"acpi", c"asound", c"scsi"];
const SYS: &[&CStr] = &[c"firmware", c"devices/virtual/powercap"];
/// What in /proc is the whole machine's to set.
const READ_ONLY: &[&CStr] = &[c"bus", c"fs", c"irq", c"sys", c"sysrq-trigger"];

/// Puts the masks on a guest's own `proc` and `sys`; `dev` has the null device.
pub(super) fn apply(proc: BorrowedFd<'_>, sys: Option<BorrowedFd<'_>>, dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for path in READ_ONLY {
        let Some(tree) = there(clone(proc, path, OpenTreeFlags::empty()))? else { continue };
        restrict(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        attach(tree, proc, path)?;
    }
    for path in FILES {
        there(attach(clone(dev, c"null", OpenTreeFlags::empty())?, proc, path))?;
    }
    hide(proc, PROC)?;
    sys.map_or(Ok(()), |sys| hide(sys, SYS))
}

fn hide(at: BorrowedFd<'_>, paths: &[&CStr]) -> Result<(), Errno> {
    use MountAttrFlags as F;
    let flags = F::MOUNT_ATTR_RDONLY | F::MOUNT_ATTR_NOSUID | F::MOUNT_ATTR_NODEV | F::MOUNT_ATTR_NOEXEC;
    for path in paths {
        // Asked first: a filesystem costs more than a look.
        if rustix::fs::accessat(at, *path, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok() {
            attach(make(c"tmpfs", &[(c"mode", c"555")], flags)?, at, path)?;
        }
    }
    Ok(())
}

/// Kernels differ in what they have.
fn there<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Err(Errno::NOENT) => Ok(None),
        found => found.map(Some),
    }
}
