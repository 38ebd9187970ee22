// SPDX-License-Identifier: ISC
//! The device nodes of a chroot on OpenBSD/amd64 (numbers: its MAKEDEV; other architectures have others).

use crate::sys::Device;
use crate::tree::Kind;

/// What programs expect in any root. Of MAKEDEV's `std`, the windows on the kernel's memory are left out.
const STD: &[Device] = &[
    Device { path: "dev/console", kind: Kind::Char(0, 0), mode: 0o600, group: 0 },
    Device { path: "dev/null", kind: Kind::Char(2, 2), mode: 0o666, group: 0 },
    Device { path: "dev/ptm", kind: Kind::Char(81, 0), mode: 0o666, group: 0 },
    Device { path: "dev/stderr", kind: Kind::Char(22, 2), mode: 0o666, group: 0 },
    Device { path: "dev/stdin", kind: Kind::Char(22, 0), mode: 0o666, group: 0 },
    Device { path: "dev/stdout", kind: Kind::Char(22, 1), mode: 0o666, group: 0 },
    Device { path: "dev/tty", kind: Kind::Char(1, 0), mode: 0o666, group: 0 },
    Device { path: "dev/urandom", kind: Kind::Char(45, 0), mode: 0o644, group: 0 },
    Device { path: "dev/zero", kind: Kind::Char(2, 12), mode: 0o666, group: 0 },
];

/// The device set `name`; none if there is no such set.
pub fn device_set(name: &str) -> Option<Vec<Device>> {
    if name != "std" || !cfg!(target_arch = "x86_64") {
        return None;
    }
    let random = Kind::Symlink(b"urandom".as_slice().into());
    let random = Device { path: "dev/random", kind: random, mode: 0o777, group: 0 };
    Some(STD.iter().cloned().chain([random]).collect())
}
