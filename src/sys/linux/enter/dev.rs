// SPDX-License-Identifier: ISC
//! A small /dev: the root is nodev, so the devices that work are here (decision E18).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use super::mounting::{attach, clone, directory, make};
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
    let options = &[(c"mode", c"620"), (c"ptmxmode", c"666"), (c"gid", c"5")];
    let pts = || match make(c"devpts", options, flags) {
        // A user namespace need not have that group.
        Err(Errno::INVAL) => make(c"devpts", &options[..2], flags),
        made => made,
    };
    beneath(dev.as_fd(), c"pts", pts).map_err(Stuck::new("mount", "dev/pts"))?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    beneath(dev.as_fd(), c"shm", || make(c"tmpfs", &[(c"mode", c"1777")], flags))
        .map_err(Stuck::new("mount", "dev/shm"))?;
    if let Some(console) = console {
        put(dev.as_fd(), c"console", console).map_err(Stuck::new("mount", "dev/console"))?;
    }
    Ok(dev)
}

fn nodes(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for (name, major, minor) in DEVICES {
        let number = rustix::fs::makedev(*major, *minor);
        match rustix::fs::mknodat(dev, *name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number) {
            // In a user namespace devices cannot be made, but those of the host work.
            Err(Errno::PERM) => borrow(dev, name)?,
            made => made?,
        }
    }
    LINKS.iter().try_for_each(|(target, name)| rustix::fs::symlinkat(*target, dev, *name))
}

/// Puts the device `name` of the host into our own `dev`.
fn borrow(dev: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let host = rustix::fs::open(c"/dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let device = clone(host.as_fd(), name, OpenTreeFlags::empty())?;
    put(dev, name, device.as_fd())
}

/// Mounts `what` on a new file `name`.
fn put(dev: BorrowedFd<'_>, name: &CStr, what: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o600))?;
    attach(what, file.as_fd(), c"")
}

/// Makes the directory `name` in our own `dev` and puts a new filesystem on it.
fn beneath(dev: BorrowedFd<'_>, name: &CStr, make: impl FnOnce() -> Result<OwnedFd, Errno>) -> Result<(), Errno> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    attach(make()?, dev, name)
}
