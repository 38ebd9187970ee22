// SPDX-License-Identifier: ISC
//! The device nodes of a chroot on Linux (numbers: the kernel's `Documentation/admin-guide/devices.txt`).

use crate::sys::Device;
use crate::tree::Kind;

/// What programs expect in any root: the set that container engines give; path, major, minor, mode, group.
const STD: [(&str, u32, u32, u16, u32); 8] = [
    ("dev/console", 5, 1, 0o600, 0),
    ("dev/full", 1, 7, 0o666, 0),
    ("dev/null", 1, 3, 0o666, 0),
    ("dev/ptmx", 5, 2, 0o666, 5),
    ("dev/random", 1, 8, 0o666, 0),
    ("dev/tty", 5, 0, 0o666, 5),
    ("dev/urandom", 1, 9, 0o666, 0),
    ("dev/zero", 1, 5, 0o666, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];

const DIRS: &[(&str, u16)] = &[("dev/pts", 0o755), ("dev/shm", 0o1777)];

/// The device set `name`; none if there is no such set. `all` is no more than `std`: what else a kernel has is its own to
/// offer.
pub fn device_set(name: &str) -> Option<Vec<Device>> {
    if !["std", "all"].contains(&name) {
        return None;
    }
    let device = |path: &str, kind, mode, group| Device { path: path.to_owned(), kind, mode, group };
    let nodes =
        STD.iter().map(|&(path, major, minor, mode, group)| device(path, Kind::Char(major, minor), mode, group));
    let links = LINKS.iter().map(|&(path, target)| device(path, Kind::Symlink(target.as_bytes().into()), 0o777, 0));
    let dirs = DIRS.iter().map(|&(path, mode)| device(path, Kind::Dir, mode, 0));
    Some(nodes.chain(links).chain(dirs).collect())
}
