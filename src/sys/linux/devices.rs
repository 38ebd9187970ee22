// SPDX-License-Identifier: ISC
//! The device nodes of a chroot on Linux (numbers: the kernel's `Documentation/admin-guide/devices.txt`).

use crate::sys::Device;
use crate::tree::Kind;

/// What programs expect in any root: the set that container engines give.
const STD: &[Device] = &[
    Device { path: "dev/console", kind: Kind::Char(5, 1), mode: 0o600, group: 0 },
    Device { path: "dev/full", kind: Kind::Char(1, 7), mode: 0o666, group: 0 },
    Device { path: "dev/null", kind: Kind::Char(1, 3), mode: 0o666, group: 0 },
    Device { path: "dev/ptmx", kind: Kind::Char(5, 2), mode: 0o666, group: 5 },
    Device { path: "dev/random", kind: Kind::Char(1, 8), mode: 0o666, group: 0 },
    Device { path: "dev/tty", kind: Kind::Char(5, 0), mode: 0o666, group: 5 },
    Device { path: "dev/urandom", kind: Kind::Char(1, 9), mode: 0o666, group: 0 },
    Device { path: "dev/zero", kind: Kind::Char(1, 5), mode: 0o666, group: 0 },
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
    let links = LINKS.iter().map(|&(path, target)| Device {
        path,
        kind: Kind::Symlink(target.as_bytes().into()),
        mode: 0o777,
        group: 0,
    });
    let dirs = DIRS.iter().map(|&(path, mode)| Device { path, kind: Kind::Dir, mode, group: 0 });
    Some(STD.iter().cloned().chain(links).chain(dirs).collect())
}
