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

/// The device set `name`; none if there is no table of it: `all` is left to the chroot's own MAKEDEV.
pub fn device_set(name: &str) -> Option<Vec<Device>> {
    if name != "std" || !cfg!(target_arch = "x86_64") {
        return None;
    }
    let random = Kind::Symlink(b"urandom".as_slice().into());
    let random = Device { path: "dev/random", kind: random, mode: 0o777, group: 0 };
    Some(STD.iter().cloned().chain([random]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers, modes and groups are those of a table that was made from MAKEDEV itself.
    #[test]
    fn the_table_is_that_of_makedev() {
        let data = std::env::var_os("STOCKADE_TESTDATA").map(std::path::PathBuf::from);
        let data = data.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/testdata").into());
        let path = data.join("tables/devices-amd64.tsv");
        let Ok(table) = std::fs::read_to_string(&path) else {
            eprintln!("SKIPPED: {} is missing (set STOCKADE_TESTDATA)", path.display());
            return;
        };
        let devices = device_set("std").unwrap();
        assert!(devices.len() > STD.len());
        for device in devices {
            let name = device.path.strip_prefix("dev/").unwrap();
            let line = table.lines().find(|line| line.split('\t').nth(1) == Some(name)).unwrap();
            let kind = match &device.kind {
                Kind::Char(major, minor) => format!("c\t{major}\t{minor}"),
                Kind::Symlink(target) => format!("l\t{}\t-", String::from_utf8_lossy(target)),
                other => panic!("{other:?}"),
            };
            let mode =
                if matches!(device.kind, Kind::Symlink(_)) { "-".into() } else { format!("{:04o}", device.mode) };
            assert!(line.ends_with(&format!("\t{name}\t{kind}\t{mode}\troot\twheel")), "{line}");
            assert_eq!(device.group, 0);
        }
        assert!(device_set("all").is_none());
    }
}
