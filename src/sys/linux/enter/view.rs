// SPDX-License-Identifier: ISC
//! What a guest sees: the root, nodev, with /proc, /sys, a small /dev, /run and /tmp of its own.
//!
//! Every mount is made detached and put in its place by descriptor, so that nothing in the root (a `/dev` that is a
//! symlink to the host's) can lead it elsewhere, and no path of the host is looked up twice.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};

use super::mounting::{attach, clone, directory, make, place, restrict};
use super::{dev, masks, overlay};
use crate::sys::Dir;
use crate::sys::guest::Stuck;
use crate::sys::terms::{Mounted, Mounting, Terms};

type Done<T = ()> = Result<T, Stuck>;

/// All that a view is made of.
pub(super) struct View<'a> {
    /// The root, from [`take`].
    pub(super) tree: OwnedFd,
    /// The terminal, from [`console`].
    pub(super) console: Option<OwnedFd>,
    pub(super) terms: &'a Terms,
}

/// Clones the mounts at and below `root`: unattached, private and nodev (decision E18). Closing the descriptor undoes it.
pub(super) fn take(root: &Dir, read_only: bool) -> Done<OwnedFd> {
    let tree = clone(root.as_fd(), c"", OpenTreeFlags::AT_RECURSIVE).map_err(Stuck::new("open_tree", ""))?;
    let mut flags = MountAttrFlags::MOUNT_ATTR_NODEV;
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    restrict(tree.as_fd(), flags).map_err(Stuck::new("mount_setattr", ""))?;
    Ok(tree)
}

/// Clones the terminal `fd`, so that programs inside find a name for it: `/dev/console`. None where it is no part of
/// our mounts; then it has no name inside.
pub(super) fn console(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let tree = clone(fd, c"", OpenTreeFlags::empty()).ok()?;
    restrict(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_NOEXEC).ok()?;
    Some(tree)
}

/// Something of the host, not yet mounted.
#[derive(Debug)]
pub struct Bind {
    pub(super) tree: OwnedFd,
    directory: bool,
}

/// Takes the directory or file `path` of the host, with all that is mounted below it, for [`Mounted::Bind`]. Devices in
/// it do not work, unless it is one itself.
///
/// # Errors
/// As open(2), open_tree(2), mount_setattr(2).
pub fn take_bind(path: &Path, read_only: bool) -> std::io::Result<Bind> {
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    let device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let tree = clone(found.as_fd(), c"", OpenTreeFlags::AT_RECURSIVE)?;
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !device);
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    restrict(tree.as_fd(), flags)?;
    Ok(Bind { tree, directory: kind == FileType::Directory })
}

impl View<'_> {
    /// Makes it the root of this process and its namespace, and lets go of the host's mounts.
    pub(super) fn build(&self) -> Done {
        rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(Stuck::new("mount", ""))?;
        attach(&self.tree, CWD, c"/").map_err(Stuck::new("move_mount", ""))?;
        let front = self.terms.ephemeral.then(|| overlay::mount(self.tree.as_fd(), self.terms.rootless)).transpose()?;
        if let (Some(front), Some(keep)) = (&front, &self.terms.keep) {
            // A clone of that mount alone: without what goes on it next.
            clone(front.as_fd(), c"", OpenTreeFlags::empty())
                .and_then(|view| keep.give(view.as_fd()))
                .map_err(Stuck::new("sendmsg", "overlay"))?;
        }
        let root = front.as_ref().unwrap_or(&self.tree).as_fd();
        self.fill(root)?;
        self.terms.mounts.iter().enumerate().try_for_each(|(index, mounting)| {
            extra(root, mounting).map_err(|errno| Stuck { mount: Some(index), ..Stuck::new("mount", "")(errno) })
        })?;
        rustix::process::fchdir(root)
            .and_then(|()| rustix::process::pivot_root(c".", c"."))
            .map_err(Stuck::new("pivot_root", ""))?;
        // The host's root now lies on top of ours.
        rustix::mount::unmount(c".", UnmountFlags::DETACH)
            .and_then(|()| rustix::process::chdir(c"/"))
            .map_err(Stuck::new("umount", ""))
    }

    /// Mounts what every guest has.
    fn fill(&self, root: BorrowedFd<'_>) -> Done {
        use MountAttrFlags as F;
        let closed = F::MOUNT_ATTR_NOSUID | F::MOUNT_ATTR_NODEV | F::MOUNT_ATTR_NOEXEC;
        let proc = directory(root, c"proc").map_err(Stuck::new("open", "proc"))?;
        let proc = over(&proc, c"proc", &[], closed).map_err(Stuck::new("mount", "proc"))?;
        let dev = dev::mount(root, self.console.as_ref().map(AsFd::as_fd))?;
        let sys = maybe(root, c"sys", |at| match over(at, c"sysfs", &[], closed | F::MOUNT_ATTR_RDONLY) {
            // Not in a user namespace with the host's network.
            Err(Errno::PERM) => borrow_sys(at, closed | F::MOUNT_ATTR_RDONLY),
            mounted => mounted,
        })
        .map_err(Stuck::new("mount", "sys"))?;
        let open = F::MOUNT_ATTR_NOSUID | F::MOUNT_ATTR_NODEV;
        if !self.terms.own_run {
            let run = maybe(root, c"run", |at| over(at, c"tmpfs", &[(c"mode", c"755")], open));
            // Where /var/lock leads.
            run.and_then(|run| {
                run.map_or(Ok(()), |run| rustix::fs::mkdirat(run, c"lock", Mode::from_raw_mode(0o1777)))
            })
            .map_err(Stuck::new("mount", "run"))?;
        }
        maybe(root, c"tmp", |at| over(at, c"tmpfs", &[(c"mode", c"1777")], open))
            .map_err(Stuck::new("mount", "tmp"))?;
        if !self.terms.confined {
            return Ok(());
        }
        masks::apply(proc.as_fd(), sys.as_ref().map(AsFd::as_fd), dev.as_fd()).map_err(Stuck::new("mask", "proc"))
    }
}

/// The host's /sys, with all that is mounted there, over `at`.
fn borrow_sys(at: &OwnedFd, flags: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let tree = clone(CWD, c"/sys", OpenTreeFlags::AT_RECURSIVE)?;
    restrict(tree.as_fd(), flags)?;
    attach(&tree, at.as_fd(), c"").map(|()| tree)
}

/// A new filesystem over `at`.
fn over(at: &OwnedFd, kind: &CStr, options: &[(&CStr, &CStr)], flags: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let made = make(kind, options, flags)?;
    attach(&made, at.as_fd(), c"").map(|()| made)
}

/// Mounts over the directory `name`, if the root has one: a small root need not, and in some a link stands there.
fn maybe<T>(
    root: BorrowedFd<'_>,
    name: &CStr,
    mount: impl FnOnce(&OwnedFd) -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    match directory(root, name) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        at => mount(&at?).map(Some),
    }
}

fn extra(root: BorrowedFd<'_>, mounting: &Mounting) -> Result<(), Errno> {
    let Mounting { place: path, ours, what } = mounting;
    let is_directory = !matches!(what, Mounted::Bind(Bind { directory: false, .. }));
    let at = match place(root, path) {
        Err(Errno::NOENT) if *ours > 0 => {
            make_place(root, path.to_bytes(), *ours, is_directory)?;
            place(root, path)?
        }
        at => at?,
    };
    if (FileType::from_raw_mode(rustix::fs::fstat(&at)?.st_mode) == FileType::Directory) != is_directory {
        return Err(Errno::NOTDIR);
    }
    match what {
        Mounted::Bind(bind) => attach(&bind.tree, at.as_fd(), c""),
        Mounted::Tmpfs => {
            let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            over(&at, c"tmpfs", &[(c"mode", c"755")], flags).map(drop)
        }
    }
}

/// Makes what is missing of `path` below its first `ours` bytes: directories, and at its end one or an empty file.
fn make_place(root: BorrowedFd<'_>, path: &[u8], ours: usize, is_directory: bool) -> Result<(), Errno> {
    with_name(&path[..ours], |prefix| place(root, prefix)).and_then(|mut at| {
        let mut names = path[ours..].split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() && !is_directory {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o644);
                return with_name(name, |name| rustix::fs::openat(&at, name, flags, mode)).map(drop);
            }
            at = with_name(name, |name| match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => directory(at.as_fd(), name),
                Err(errno) => Err(errno),
            })?;
        }
        Ok(())
    })
}

/// Calls `call` with `name` as the kernel wants it, allocating nothing.
fn with_name<T>(name: &[u8], call: impl FnOnce(&CStr) -> Result<T, Errno>) -> Result<T, Errno> {
    let mut text = [0; libc::PATH_MAX as usize];
    text.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
    call(CStr::from_bytes_until_nul(&text).map_err(|_| Errno::NAMETOOLONG)?)
}
