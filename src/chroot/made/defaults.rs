// SPDX-License-Identifier: ISC
//! Small fixed things that packages' scripts make on a first installation, as a table.
#![forbid(unsafe_code)]

use super::{Input, Output};
use crate::error::Result;

/// What is made.
enum What {
    /// A copy of a file that the package ships.
    Copy(&'static str),
    /// A file with this text.
    Text(&'static str),
    /// A directory.
    Dir,
    /// A symlink to this.
    Link(&'static str),
}
use What::{Copy, Dir, Link, Text};

/// User and group, whose numbers base-passwd fixes.
type Owner = (u32, u32);
const ROOT: Owner = (0, 0);
const MAIL: Owner = (0, 8);
const UTMP: Owner = (0, 43);

/// Package, path, what, owner, mode.
type Row = (&'static str, &'static str, What, Owner, u16);

/// A path that a package ships is left alone.
const TABLE: [Row; 42] = [
    ("base-files", "root/.profile", Copy("usr/share/base-files/dot.profile"), ROOT, 0o644),
    ("base-files", "root/.bashrc", Copy("usr/share/base-files/dot.bashrc"), ROOT, 0o644),
    ("base-files", "etc/profile", Copy("usr/share/base-files/profile"), ROOT, 0o644),
    ("base-files", "etc/motd", Copy("usr/share/base-files/motd"), ROOT, 0o644),
    ("base-files", "usr/share/info/dir", Copy("usr/share/base-files/info.dir"), ROOT, 0o644),
    ("base-files", "etc/dpkg/origins/default", Link("debian"), ROOT, 0o777),
    ("base-files", "mnt", Dir, ROOT, 0o755),
    ("base-files", "srv", Dir, ROOT, 0o755),
    ("base-files", "opt", Dir, ROOT, 0o755),
    ("base-files", "media", Dir, ROOT, 0o755),
    ("base-files", "etc/opt", Dir, ROOT, 0o755),
    ("base-files", "var/opt", Dir, ROOT, 0o755),
    ("base-files", "var/mail", Dir, MAIL, 0o2775),
    ("base-files", "var/spool/mail", Link("../mail"), ROOT, 0o777),
    ("base-files", "run/lock", Dir, ROOT, 0o1777),
    ("base-files", "usr/local", Dir, ROOT, 0o755),
    ("base-files", "usr/local/share", Dir, ROOT, 0o755),
    ("base-files", "usr/local/share/man", Dir, ROOT, 0o755),
    ("base-files", "usr/local/bin", Dir, ROOT, 0o755),
    ("base-files", "usr/local/games", Dir, ROOT, 0o755),
    ("base-files", "usr/local/lib", Dir, ROOT, 0o755),
    ("base-files", "usr/local/include", Dir, ROOT, 0o755),
    ("base-files", "usr/local/sbin", Dir, ROOT, 0o755),
    ("base-files", "usr/local/src", Dir, ROOT, 0o755),
    ("base-files", "usr/local/etc", Dir, ROOT, 0o755),
    ("base-files", "usr/local/man", Link("share/man"), ROOT, 0o777),
    ("base-files", "var/log/wtmp", Text(""), UTMP, 0o664),
    ("base-files", "var/log/btmp", Text(""), UTMP, 0o660),
    ("base-files", "var/log/lastlog", Text(""), UTMP, 0o664),
    ("login", "var/log/faillog", Text(""), ROOT, 0o644),
    ("passwd", "etc/subuid", Text(""), ROOT, 0o644),
    ("passwd", "etc/subgid", Text(""), ROOT, 0o644),
    ("libc-bin", "etc/nsswitch.conf", Copy("usr/share/libc-bin/nsswitch.conf"), ROOT, 0o644),
    ("libpam-modules", "etc/environment", Text(""), ROOT, 0o644),
    ("libpam-modules", "etc/security/opasswd", Text(""), ROOT, 0o600),
    ("readline-common", "etc/inputrc", Copy("usr/share/readline/inputrc"), ROOT, 0o644),
    ("tzdata", "etc/localtime", Link("/usr/share/zoneinfo/Etc/UTC"), ROOT, 0o777),
    ("tzdata", "etc/timezone", Text("Etc/UTC\n"), ROOT, 0o644),
    ("base-files", "etc/hosts", Text("127.0.0.1\tlocalhost\n::1\t\tlocalhost\n"), ROOT, 0o644),
    ("base-files", "etc/fstab", Text(""), ROOT, 0o644),
    (
        "netbase",
        "etc/networks",
        Text("default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n"),
        ROOT,
        0o644,
    ),
    ("ca-certificates", "usr/local/share/ca-certificates", Dir, ROOT, 0o755),
];

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    for (package, path, what, owner, mode) in TABLE {
        if !input.has(package) || input.find(path.as_bytes()).is_some() {
            continue;
        }
        match what {
            Copy(from) => {
                if let Some(body) = input.read(from)? {
                    output.owned_file(path, owner, mode, body)?;
                }
            }
            Text(text) => output.owned_file(path, owner, mode, text)?,
            Dir => output.dir(path, owner, mode)?,
            Link(target) => output.link(path, target)?,
        }
    }
    Ok(())
}
