// SPDX-License-Identifier: ISC
//! Which release a root is of: what its own files say, never what runs outside; and whether that kernel runs it (decision 31).
#![forbid(unsafe_code)]

use crate::chroot::login::read_below;
use crate::error::{Error, ErrorKind, Result};
use crate::patch::arch;
use crate::path::TreePath;
use crate::select::locate::{Listing, MAX_FILE};
use crate::select::packages::Host;
use crate::sys::{self, Dir};
use crate::tree::{Node, Tree};

/// The locate database of the base, whose tags name the release.
const LOCATE: &str = "usr/lib/locate/src.db";

/// `7.8`, or `VERSION_ID` of os-release(5); empty if nothing tells.
pub(crate) fn of(root: &Dir) -> Result<String> {
    if let Some(release) = openbsd(root)? {
        return Ok(release);
    }
    let text = |path: &str| read_below(root, &TreePath::new(path.as_bytes())?);
    let file = match text("usr/lib/os-release")? {
        Some(file) => file,
        None => text("etc/os-release")?.unwrap_or_default(),
    };
    let file = String::from_utf8_lossy(&file);
    let line = file.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    let word = line.unwrap_or_default().trim_matches(['"', '\'']);
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    Ok(if plain { word.to_owned() } else { String::new() })
}

/// The release of an OpenBSD root: as the tags of its locate database tell, else the keys of its sets.
///
/// # Errors
/// As the system calls.
pub(crate) fn of_openbsd(root: &Dir) -> Result<Option<String>> {
    // A database that is none tells nothing.
    let database = Host::new(root)?.read(&TreePath::new(LOCATE.as_bytes())?, MAX_FILE)?;
    let told = database.and_then(|database| Listing::parse(&database).ok()?.release);
    if told.is_some() { Ok(told) } else { openbsd(root) }
}

/// As the keys of its sets tell.
pub(crate) fn openbsd(root: &Dir) -> Result<Option<String>> {
    let Ok(dir) = root.walk(&TreePath::new(*b"etc/signify")?) else { return Ok(None) };
    let keys = dir.entries().unwrap_or_default();
    let number = by_keys(keys.iter().map(|entry| &*entry.name));
    Ok(number.map(|number| format!("{}.{}", number / 10, number % 10)))
}

/// The system that a root is of, and what that calls the machine: `openbsd` and `amd64`. A root that does not say is of
/// the system that runs.
///
/// # Errors
/// As getdents(2).
pub(crate) fn system(root: &Dir) -> Result<(String, String)> {
    let (system, machine) = (sys::kernel().0.to_lowercase(), sys::machine());
    Ok(match openbsd(root)? {
        Some(_) => ("openbsd".to_owned(), arch(&machine).to_owned()),
        None => (system, machine),
    })
}

/// Is it a tree of OpenBSD?
pub(crate) fn is_openbsd(tree: &Tree) -> bool {
    let name = |node: &Node| node.path.as_bytes().strip_prefix(b"etc/signify/").map(<[u8]>::to_vec);
    let names: Vec<Vec<u8>> = tree.nodes().iter().filter_map(name).collect();
    by_keys(names.iter().map(Vec::as_slice)).is_some()
}

/// The release of base sets, `78` for 7.8, from the keys that they bring: their own and, as the newest, the next one's.
fn by_keys<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Option<u32> {
    let number = |name: &[u8]| {
        let digits = name.strip_prefix(b"openbsd-")?.strip_suffix(b"-base.pub")?;
        std::str::from_utf8(digits).ok()?.parse::<u32>().ok()
    };
    let mut releases: Vec<u32> = keys.filter_map(number).collect();
    releases.sort_unstable();
    releases.iter().rev().nth(1).copied()
}

/// Refuses to have a root run that is newer than the running kernel. `said` is what its recipe calls its release.
///
/// # Errors
/// [`ErrorKind::Refused`] naming both releases.
pub(crate) fn may_run(root: &Dir, said: Option<&str>) -> Result<()> {
    let (system, kernel) = sys::kernel();
    match (system.as_str(), said) {
        ("OpenBSD", Some(release)) => refuse_newer(release, (&system, &kernel)),
        ("OpenBSD", None) => of_openbsd(root)?.map_or(Ok(()), |release| refuse_newer(&release, (&system, &kernel))),
        _ => Ok(()),
    }
}

/// Refuses what [`newer`] tells of.
///
/// # Errors
/// [`ErrorKind::Refused`] naming both releases.
pub(crate) fn refuse_newer(release: &str, running: (&str, &str)) -> Result<()> {
    let error = |reason| Error::new(ErrorKind::Refused, reason);
    let hint = "upgrade the host first, or take the sets of its release";
    newer(release, running).map_or(Ok(()), |reason| Err(error(reason).hint(hint)))
}

/// What is wrong with a release that is newer than the running kernel: its programs would make system calls that this does
/// not know. Where the kernel is another system's, nothing of the chroot runs by itself and there is nothing to compare.
pub(crate) fn newer(release: &str, (system, kernel): (&str, &str)) -> Option<String> {
    let number = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let newer = system == "OpenBSD" && number(release)? > number(kernel)?;
    newer.then(|| format!("release {release} is newer than the running kernel, OpenBSD {kernel}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Calls;

    #[test]
    fn table() {
        let debian = "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"13\"\n";
        for (files, expect) in [
            (&[][..], ""),
            (&[("etc/os-release", debian)], "13"),
            (&[("etc/os-release", "ID=arch\n")], ""),
            (&[("etc/os-release", "VERSION_ID=a b\n")], ""),
            (&[("etc/signify/openbsd-78-base.pub", ""), ("etc/signify/openbsd-79-base.pub", "")], "7.8"),
            (&[("etc/signify/openbsd-58-base.pub", ""), ("etc/os-release", debian)], "13"),
            (&[("etc/signify/openbsd-78-pkg.pub", ""), ("etc/signify/openbsd-x8-base.pub", "")], ""),
        ] {
            let temp = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = temp.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            assert_eq!(of(&Dir::open(temp.path(), Calls::from_env()).unwrap()).unwrap(), expect, "{files:?}");
        }
    }

    #[test]
    fn the_release_is_the_last_but_one_key() {
        for (keys, want) in [
            (
                &["openbsd-77-base.pub", "openbsd-78-base.pub", "openbsd-79-base.pub", "openbsd-79-pkg.pub"][..],
                Some(78),
            ),
            (&["openbsd-99-base.pub", "openbsd-100-base.pub"], Some(99)),
            (&["openbsd-78-base.pub"], None),
            (&["openbsd-x-base.pub", "mine.pub"], None),
        ] {
            assert_eq!(by_keys(keys.iter().map(|key| key.as_bytes())), want, "{keys:?}");
        }
    }

    #[test]
    fn nothing_newer_than_the_kernel_runs() {
        for (release, kernel, may) in [
            ("7.8", ("OpenBSD", "7.8"), true),
            ("7.7", ("OpenBSD", "7.8"), true),
            ("7.9", ("OpenBSD", "7.8"), false),
            ("10.0", ("OpenBSD", "9.9"), false),
            ("9.9", ("OpenBSD", "10.0"), true),
            ("7.9", ("Linux", "6.12.48"), true),
            ("13", ("OpenBSD", "7.8"), true),
        ] {
            assert_eq!(refuse_newer(release, kernel).is_ok(), may, "{release} {kernel:?}");
        }
    }
}
