// SPDX-License-Identifier: ISC
//! What a filesystem can hold, found out by doing.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;

use super::Finding;
use crate::chroot::place::bytes;
use crate::error::{Error, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Dir, FileType, Overlays};
use crate::tree::{Kind, Time, Xattrs};

/// Something that a filesystem may be able to do.
struct Ability {
    name: &'static str,
    /// What is lost where it cannot.
    lost: &'static str,
    /// A chroot works without it.
    optional: bool,
    attempt: fn(&Dir) -> io::Result<()>,
}

const ABILITIES: &[Ability] = &[
    Ability {
        name: "hard links",
        lost: "a change to a live chroot cannot keep what it replaces",
        optional: false,
        attempt: |dir| {
            file(dir, b"one")?;
            dir.link(b"one", dir, b"two")
        },
    },
    Ability {
        name: "times to the nanosecond",
        lost: "files count as edited after every build",
        optional: false,
        attempt: |dir| {
            let time = Time { sec: 1_000_000_001, nsec: 123_456_789 };
            file(dir, b"time")?;
            dir.set_mtime(b"time", time)?;
            expect(dir.stat(b"time")?.mtime == time)
        },
    },
    Ability {
        name: "holes in files",
        lost: "sparse files take all their size",
        optional: true,
        attempt: |dir| {
            let file = dir.create_file(b"hole", 0o600)?;
            file.set_len(1 << 20)?;
            expect(dir.stat_file(&file)?.allocated < 1 << 20)
        },
    },
    Ability {
        name: "shared blocks (reflink)",
        lost: "clones are copies",
        optional: true,
        attempt: |dir| {
            let mut from = dir.create_file(b"from", 0o600)?;
            from.write_all(&[1; 4096])?;
            let to = dir.create_file(b"to", 0o600)?;
            dir.clone_file(&dir.open_file(b"from")?, &to)
        },
    },
];

/// The extended attributes that systems with such are asked for: name, value, what they are.
const ATTRIBUTES: &[(&str, &[u8], &str)] = &[
    ("user.stockade", b"1", "user attributes"),
    // cap_net_raw=ep, as capabilities(7) lays it out, version 2.
    ("security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "file capabilities"),
    // u::rw-,u:0:r--,g::---,m::r--,o::--- as acl(5) is stored: version 2; tag, permissions, id. Everybody has the number 0.
    (
        "system.posix_acl_access",
        &[
            2, 0, 0, 0, //
            1, 0, 6, 0, 255, 255, 255, 255, //
            2, 0, 4, 0, 0, 0, 0, 0, //
            4, 0, 0, 0, 255, 255, 255, 255, //
            16, 0, 4, 0, 255, 255, 255, 255, //
            32, 0, 0, 0, 255, 255, 255, 255,
        ],
        "access control lists",
    ),
];

/// Tries what the filesystem of `at` can do, in a directory made for that and removed afterwards; `shown` names it.
pub(super) fn findings(at: &Dir, shown: &Path) -> Result<Vec<Finding>> {
    let name = format!(".stockade-doctor-{}", std::process::id()).into_bytes();
    let path = bytes(shown);
    at.make_dir(&name, 0o700).on("mkdir", path)?;
    let tried = at.open_dir(&name).map(|dir| (attempts(&dir, shown), clear(&dir)));
    at.remove_dir(&name).on("rmdir", path)?;
    let (findings, cleared) = tried.on("open", path)?;
    cleared.on("unlink", path).map(|()| findings)
}

fn attempts(dir: &Dir, shown: &Path) -> Vec<Finding> {
    let shown = escape(bytes(shown));
    let mut findings = Vec::new();
    for ability in ABILITIES {
        let what = format!("{} on {shown}", ability.name);
        findings.push(judge(what, (ability.attempt)(dir), ability.lost, ability.optional));
    }
    findings.push(devices(dir, &shown));
    if sys::HAS_SESSIONS && sys::effective_uid() == 0 {
        findings.push(overlays(dir, &shown));
    }
    if sys::HAS_XATTRS {
        for (name, value, label) in ATTRIBUTES {
            let lost = "files that have them cannot be built";
            findings.push(judge(format!("{label} on {shown}"), attribute(dir, name, value), lost, false));
        }
    }
    findings
}

/// Root of a user namespace, not of the machine.
fn is_rootless() -> bool {
    sys::id_map().is_ok_and(|map| !map.is_everything())
}

/// Nodes as `build` makes them, if it does.
fn devices(dir: &Dir, shown: &str) -> Finding {
    let what = format!("device nodes on {shown}");
    if is_rootless() {
        return Finding::good(what, "none are made for an ordinary user: a session has those of the host");
    }
    judge(what, dir.make_node(b"null", &Kind::Char(1, 3), 0o600), "a build with devices is refused", false)
}

/// A filesystem below an overlay, as `run --ephemeral` makes one.
fn overlays(dir: &Dir, shown: &str) -> Finding {
    let what = format!("overlays on {shown}");
    match sys::can_overlay(dir, is_rootless()) {
        Ok(Overlays::Whole) => Finding::good(what, "works"),
        Ok(Overlays::WithoutUserAttributes) => {
            Finding::good(what, "works, but for attributes of users, which need Linux 6.6")
        }
        Err(error) => {
            let error = Error::io("mount", "", &error);
            Finding::good(what, format!("none ({}): run --ephemeral is refused", error.reason()))
        }
    }
}

fn judge(what: String, result: io::Result<()>, lost: &str, optional: bool) -> Finding {
    let Err(error) = result else { return Finding::good(what, "works") };
    let error = Error::io("try", "", &error);
    let why = error.reason();
    if optional {
        return Finding::good(what, format!("none ({why}): {lost}"));
    }
    Finding::bad(what, format!("{why}: {lost}; use another filesystem"))
}

fn attribute(dir: &Dir, name: &str, value: &[u8]) -> io::Result<()> {
    let file_name = format!("has-{name}").into_bytes();
    file(dir, &file_name)?;
    let want: Xattrs = vec![(name.as_bytes().into(), value.into())];
    dir.set_xattrs(&file_name, FileType::File, &want)?;
    expect(dir.xattrs(&file_name, FileType::File)? == want)
}

fn file(dir: &Dir, name: &[u8]) -> io::Result<()> {
    dir.create_file(name, 0o600).map(drop)
}

fn expect(held: bool) -> io::Result<()> {
    if held { Ok(()) } else { Err(io::Error::new(io::ErrorKind::Unsupported, "what was written does not come back")) }
}

fn clear(dir: &Dir) -> io::Result<()> {
    dir.entries()?.iter().try_for_each(|entry| dir.unlink(&entry.name))
}
