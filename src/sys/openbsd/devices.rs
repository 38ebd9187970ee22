// SPDX-License-Identifier: ISC
//! The device nodes of a chroot on OpenBSD: what `MAKEDEV std` and `MAKEDEV all` make on amd64, arm64 and i386, whose
//! numbers differ in a few places. Other architectures are left to the chroot's own MAKEDEV.

use crate::sys::Device;
use crate::tree::Kind;

const WHEEL: u32 = 0;
const KMEM: u32 = 2;
const OPERATOR: u32 = 5;
const SNDIOP: u32 = 110;
const DIALER: u32 = 117;

/// What programs expect in any root. Of MAKEDEV's `std`, the windows on the kernel's memory are left out.
const STD: [(&str, u32, u32, u16); 9] = [
    ("console", 0, 0, 0o600),
    ("null", 2, 2, 0o666),
    ("ptm", 81, 0, 0o666),
    ("stderr", 22, 2, 0o666),
    ("stdin", 22, 0, 0o666),
    ("stdout", 22, 1, 0o666),
    ("tty", 1, 0, 0o666),
    ("urandom", 45, 0, 0o644),
    ("zero", 2, 12, 0o666),
];

/// Digits of MAKEDEV's serial and pseudo terminals.
const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// How the nodes of a row are numbered in their names.
#[derive(Debug, Clone, Copy)]
enum Count {
    /// One node, without a number.
    One,
    /// So many, from 0.
    Decimal(u32),
    /// So many, by a digit of [`DIGITS`].
    Digit(u32),
    /// So many, by two hexadecimal digits.
    Hex(u32),
    /// So many, by their minor numbers.
    Minor(u32),
}

/// Nodes of one driver, with minor numbers one after the other: name, major, first minor, how many, mode, group.
type Row = (&'static str, u32, u32, Count, u16, u32);

use Count::{Decimal, Digit, Hex, Minor, One};

/// On all three architectures.
const COMMON: &[Row] = &[
    ("mem", 2, 0, One, 0o640, KMEM),
    ("kmem", 2, 1, One, 0o640, KMEM),
    ("ksyms", 50, 0, One, 0o640, KMEM),
    ("klog", 7, 0, One, 0o600, WHEEL),
    ("fd/", 22, 0, Decimal(64), 0o666, WHEEL),
    ("ttyp", 5, 0, Digit(62), 0o666, WHEEL),
    ("ptyp", 6, 0, Digit(62), 0o666, WHEEL),
    ("tty", 8, 0, Hex(12), 0o660, DIALER),
    ("cua", 8, 128, Hex(12), 0o660, DIALER),
    ("ttyC", 12, 0, Digit(12), 0o600, WHEEL),
    ("ttyCcfg", 12, 255, One, 0o600, WHEEL),
    ("ttyU", 66, 0, Digit(4), 0o660, DIALER),
    ("cuaU", 66, 128, Digit(4), 0o660, DIALER),
    ("wskbd", 67, 0, Decimal(10), 0o600, WHEEL),
    ("wsmouse", 68, 0, Decimal(10), 0o600, WHEEL),
    ("wsmouse", 69, 0, One, 0o600, WHEEL),
    ("wskbd", 69, 1, One, 0o600, WHEEL),
    ("audio", 42, 0, Decimal(4), 0o660, SNDIOP),
    ("audioctl", 42, 192, Decimal(4), 0o660, SNDIOP),
    ("rmidi", 52, 0, Decimal(8), 0o660, SNDIOP),
    ("bio", 79, 0, One, 0o600, WHEEL),
    ("bktr", 49, 0, Decimal(1), 0o644, WHEEL),
    ("bpf", 23, 0, One, 0o600, WHEEL),
    ("bpf", 23, 0, Decimal(1), 0o600, WHEEL),
    ("ch", 17, 0, Decimal(1), 0o660, OPERATOR),
    ("dt", 30, 0, One, 0o600, WHEEL),
    ("fido/", 98, 0, Decimal(4), 0o666, WHEEL),
    ("hotplug", 82, 0, One, 0o400, WHEEL),
    ("ipmi", 96, 0, Decimal(1), 0o600, WHEEL),
    ("kstat", 51, 0, One, 0o640, WHEEL),
    ("pci", 72, 0, Decimal(4), 0o600, WHEEL),
    ("pf", 73, 0, One, 0o600, WHEEL),
    ("pppac", 99, 0, Decimal(1), 0o600, WHEEL),
    ("radio", 76, 0, Decimal(1), 0o666, WHEEL),
    ("tun", 40, 0, Decimal(4), 0o600, WHEEL),
    ("tuner", 49, 16, Decimal(1), 0o644, WHEEL),
    ("uhid", 62, 0, Decimal(8), 0o600, WHEEL),
    ("ujoy/", 100, 0, Decimal(4), 0o444, WHEEL),
    ("uk", 20, 0, Decimal(1), 0o640, OPERATOR),
    ("ulpt", 64, 0, Decimal(2), 0o600, WHEEL),
    ("usb", 61, 0, Decimal(8), 0o640, WHEEL),
    ("video", 44, 0, Decimal(4), 0o600, WHEEL),
];

/// On both of Intel's architectures.
const INTEL: &[Row] = &[
    ("xf86", 2, 4, One, 0o600, WHEEL),
    ("kcov", 19, 0, One, 0o600, WHEEL),
    ("lpa", 16, 128, Decimal(3), 0o600, WHEEL),
    ("lpt", 16, 0, Decimal(3), 0o600, WHEEL),
    ("pctr", 46, 0, One, 0o644, WHEEL),
    ("pvbus", 95, 0, Decimal(2), 0o640, WHEEL),
    ("speaker", 27, 0, One, 0o600, WHEEL),
    ("ttyc", 38, 0, Decimal(8), 0o660, DIALER),
    ("cuac", 38, 128, Decimal(8), 0o660, DIALER),
];

/// On the two architectures of 64 bits.
const WIDE: &[Row] = &[
    ("apm", 83, 0, One, 0o644, WHEEL),
    ("apmctl", 83, 8, One, 0o644, WHEEL),
    ("diskmap", 90, 0, One, 0o640, OPERATOR),
    ("dri/card", 87, 0, Decimal(4), 0o600, WHEEL),
    ("dri/renderD", 87, 128, Minor(4), 0o600, WHEEL),
    ("fuse", 92, 0, Decimal(1), 0o600, WHEEL),
    ("gpio", 88, 0, Decimal(3), 0o600, WHEEL),
    ("pppx", 91, 0, Decimal(1), 0o600, WHEEL),
    ("tap", 93, 0, Decimal(4), 0o600, WHEEL),
    ("vscsi", 89, 0, Decimal(1), 0o600, WHEEL),
];

const AMD64: &[Row] = &[
    ("efi", 84, 0, One, 0o600, WHEEL),
    ("nvram", 85, 0, One, 0o440, KMEM),
    ("psp", 101, 0, One, 0o600, WHEEL),
    ("vmm", 10, 0, One, 0o600, WHEEL),
    ("ttyVI00", 94, 0, One, 0o660, DIALER),
    ("ttyVI10", 94, 10, One, 0o660, DIALER),
    ("ttyVI20", 94, 20, One, 0o660, DIALER),
    ("ttyVI30", 94, 30, One, 0o660, DIALER),
    ("ttyVI40", 94, 40, One, 0o660, DIALER),
];

const ARM64: &[Row] = &[("efi", 71, 0, One, 0o600, WHEEL), ("openprom", 70, 0, One, 0o600, WHEEL)];

const I386: &[Row] = &[
    ("amdmsr", 89, 0, One, 0o666, WHEEL),
    ("apm", 21, 0, One, 0o644, WHEEL),
    ("apmctl", 21, 8, One, 0o644, WHEEL),
    ("diskmap", 91, 0, One, 0o640, OPERATOR),
    ("dri/card", 88, 0, Decimal(4), 0o600, WHEEL),
    ("dri/renderD", 88, 128, Minor(4), 0o600, WHEEL),
    ("fuse", 93, 0, Decimal(1), 0o600, WHEEL),
    ("gpio", 83, 0, Decimal(3), 0o600, WHEEL),
    ("joy", 26, 0, Decimal(2), 0o666, WHEEL),
    ("nvram", 84, 0, One, 0o440, KMEM),
    ("pppx", 92, 0, Decimal(1), 0o600, WHEEL),
    ("tap", 94, 0, Decimal(4), 0o600, WHEEL),
    ("vscsi", 90, 0, Decimal(1), 0o600, WHEEL),
];

/// Disks of 16 partitions: name, block major, character major, units, the partitions that have nodes.
const DISKS: &[(&str, u32, u32, u32, &[u8])] = &[
    ("cd", 6, 15, 2, b"ac"),
    ("rd", 17, 47, 1, b"ac"),
    ("sd", 4, 13, 10, b"abcdefghijklmnop"),
    ("vnd", 14, 41, 4, b"abcdefghijklmnop"),
    ("wd", 0, 3, 4, b"abcdefghijklmnop"),
];

const LINKS: [(&str, &str); 4] = [("pci", "pci0"), ("radio", "radio0"), ("random", "urandom"), ("video", "video0")];
const DIRECTORIES: [&str; 4] = ["dri", "fd", "fido", "ujoy"];

/// The device set `name` of this machine's architecture; none if there is no table of it.
pub fn device_set(name: &str) -> Option<Vec<Device>> {
    set(name, std::env::consts::ARCH)
}

fn set(name: &str, architecture: &str) -> Option<Vec<Device>> {
    let own: [&[Row]; 3] = match architecture {
        "x86_64" => [INTEL, WIDE, AMD64],
        "aarch64" => [WIDE, ARM64, &[]],
        "x86" => [INTEL, I386, &[]],
        _ => return None,
    };
    let mut made = Vec::new();
    let link = |&(name, target): &(&str, &str)| device(name, Kind::Symlink(target.as_bytes().into()), 0o777, WHEEL);
    made.extend(STD.iter().map(|&(name, major, minor, mode)| device(name, Kind::Char(major, minor), mode, WHEEL)));
    match name {
        "std" => made.extend(LINKS.iter().filter(|(name, _)| *name == "random").map(link)),
        "all" => {
            made.extend(LINKS.iter().map(link));
            made.extend(DIRECTORIES.iter().map(|name| device(name, Kind::Dir, 0o555, WHEEL)));
            COMMON.iter().chain(own.into_iter().flatten()).for_each(|row| nodes(row, &mut made));
            for &(name, block, character, units, partitions) in DISKS {
                (0..units).for_each(|unit| {
                    disk(&format!("{name}{unit}"), (block, character), unit * 16, partitions, &mut made);
                });
            }
            for minor in 0..8 * 16 {
                let name = format!("ugen{}.{:02}", minor / 16, minor % 16);
                made.push(device(&name, Kind::Char(63, minor), 0o600, WHEEL));
            }
            if architecture != "aarch64" {
                floppies_and_tapes(&mut made);
            }
        }
        _ => return None,
    }
    Some(made)
}

fn device(name: &str, kind: Kind, mode: u16, group: u32) -> Device {
    Device { path: format!("dev/{name}"), kind, mode, group }
}

fn nodes(&(name, major, first, count, mode, group): &Row, made: &mut Vec<Device>) {
    let many = match count {
        One => 1,
        Decimal(many) | Digit(many) | Hex(many) | Minor(many) => many,
    };
    for number in 0..many {
        let name = match count {
            One => name.to_owned(),
            Decimal(_) => format!("{name}{number}"),
            Digit(_) => format!("{name}{}", char::from(DIGITS[number as usize])),
            Hex(_) => format!("{name}{number:02x}"),
            Minor(_) => format!("{name}{}", first + number),
        };
        made.push(device(&name, Kind::Char(major, first + number), mode, group));
    }
}

/// The partitions of one disk, each twice: `sd0a`, and as a character device `rsd0a`.
fn disk(name: &str, (block, character): (u32, u32), first: u32, partitions: &[u8], made: &mut Vec<Device>) {
    for &letter in partitions {
        let minor = first + u32::from(letter - b'a');
        let letter = char::from(letter);
        made.push(device(&format!("{name}{letter}"), Kind::Block(block, minor), 0o640, OPERATOR));
        made.push(device(&format!("r{name}{letter}"), Kind::Char(character, minor), 0o640, OPERATOR));
    }
}

/// Floppy disks have a name for each format, tapes one for each way of closing them.
fn floppies_and_tapes(made: &mut Vec<Device>) {
    for unit in 0..2 {
        for (format, suffix) in (0..).zip(["", "B", "C", "D", "E", "F", "G", "H"]) {
            disk(&format!("fd{unit}{suffix}"), (2, 9), unit * 128 + format * 16, b"abci", made);
        }
        for (number, prefix) in (0..).zip(["", "n", "e", "en"]) {
            made.push(device(&format!("{prefix}rst{unit}"), Kind::Char(14, unit * 16 + number), 0o660, OPERATOR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(device: &Device) -> String {
        let kind = match &device.kind {
            Kind::Char(major, minor) => format!("c\t{major}\t{minor}"),
            Kind::Block(major, minor) => format!("b\t{major}\t{minor}"),
            Kind::Symlink(target) => return format!("{}\tl\t{}", device.path, String::from_utf8_lossy(target)),
            Kind::Dir => return format!("{}\td", device.path),
            other => panic!("{other:?}"),
        };
        format!("{}\t{kind}\t{:04o}\t{}", device.path, device.mode, device.group)
    }

    /// Numbers, modes and groups are those of a table that was made from MAKEDEV of amd64 itself.
    #[test]
    fn the_table_is_that_of_makedev() {
        let Some(path) = crate::test_data::test_data("tables/devices-amd64.tsv") else { return };
        let table = std::fs::read_to_string(path).unwrap();
        let groups =
            [("wheel", WHEEL), ("kmem", KMEM), ("operator", OPERATOR), ("_sndiop", SNDIOP), ("dialer", DIALER)];
        let mut expect = Vec::new();
        for fields in
            table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect::<Vec<_>>())
        {
            let [_, name, kind, major, minor, mode, owner, group] = fields[..] else { panic!("{fields:?}") };
            expect.push(match kind {
                "l" => format!("dev/{name}\tl\t{major}"),
                "d" => format!("dev/{name}\td"),
                _ => {
                    assert_eq!(owner, "root");
                    let group = groups.iter().find(|(word, _)| *word == group).unwrap().1;
                    format!("dev/{name}\t{kind}\t{major}\t{minor}\t{mode}\t{group}")
                }
            });
        }
        let mut found: Vec<String> = set("all", "x86_64").unwrap().iter().map(line).collect();
        expect.sort();
        found.sort();
        assert_eq!(found, expect);
        let of_std: Vec<String> = set("std", "x86_64").unwrap().iter().map(line).collect();
        assert!(of_std.len() == 10 && of_std.iter().all(|line| expect.contains(line)), "{of_std:?}");
    }

    /// What differs elsewhere, as their MAKEDEVs print it; and no name is there twice.
    #[test]
    fn other_architectures_have_numbers_of_their_own() {
        for (architecture, count, has, has_not) in [
            (
                "aarch64",
                1083,
                &["efi\tc\t71\t0\t0600\t0", "openprom\tc\t70\t0\t0600\t0", "apm\tc\t83\t0\t0644\t0"][..],
                "xf86",
            ),
            ("x86", 1249, &["apm\tc\t21\t0\t0644\t0", "tap3\tc\t94\t3\t0600\t0", "joy1\tc\t26\t1\t0666\t0"], "efi"),
        ] {
            let made = set("all", architecture).unwrap();
            let lines: Vec<String> = made.iter().map(line).collect();
            for line in has {
                assert!(lines.contains(&format!("dev/{line}")), "{architecture}: {line}");
            }
            assert!(!made.iter().any(|device| device.path == format!("dev/{has_not}")));
            let mut names: Vec<&str> = made.iter().map(|device| device.path.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!((names.len(), made.len()), (count, count), "{architecture}");
        }
        assert!(set("all", "sparc64").is_none() && device_set("none").is_none());
    }
}
