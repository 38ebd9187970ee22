// SPDX-License-Identifier: ISC
//! A small /dev: the root is nodev, so the devices that work are here (decision E18).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mounting::{attach, directory, make};
use crate::sys::guest::Stuck;

const DEVICES: &[(&CStr, u32, u32)] =
    &[(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];
const LINKS: &[(&CStr, &CStr)] = &[
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// Mounts it in `root`; `console` becomes `/dev/console`.
pub(super) fn mount(root: BorrowedFd<'_>, console: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Stuck> {
    let place = directory(root, c"dev").map_err(Stuck::new("open", "dev"))?;
    let options = &[(c"mode", c"755"), (c"size", c"1m")];
    let dev = make(c"tmpfs", options, MountAttrFlags::MOUNT_ATTR_NOSUID)
        .and_then(|made| attach(&made, place.as_fd(), c"").map(|()| made))
        .map_err(Stuck::new("mount", "dev"))?;
    nodes(dev.as_fd()).map_err(Stuck::new("mknod", "dev"))?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = &[(c"gid", c"5"), (c"mode", c"620"), (c"ptmxmode", c"666")];
    beneath(dev.as_fd(), c"pts", || make(c"devpts", options, flags)).map_err(Stuck::new("mount", "dev/pts"))?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    beneath(dev.as_fd(), c"shm", || make(c"tmpfs", &[(c"mode", c"1777")], flags))
        .map_err(Stuck::new("mount", "dev/shm"))?;
    if let Some(console) = console {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&dev, c"console", flags, Mode::from_raw_mode(0o600))
            .and_then(|place| attach(console, place.as_fd(), c""))
            .map_err(Stuck::new("mount", "dev/console"))?;
    }
    Ok(dev)
}

fn nodes(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for (name, major, minor) in DEVICES {
        let number = rustix::fs::makedev(*major, *minor);
        rustix::fs::mknodat(dev, *name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?;
    }
    LINKS.iter().try_for_each(|(target, name)| rustix::fs::symlinkat(*target, dev, *name))
}

/// Makes the directory `name` in our own `dev` and puts a new filesystem on it.
fn beneath(dev: BorrowedFd<'_>, name: &CStr, make: impl FnOnce() -> Result<OwnedFd, Errno>) -> Result<(), Errno> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    attach(make()?, dev, name)
}
