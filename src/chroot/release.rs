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

/// The linker of OpenBSD: no other system has it there.
const LINKER: &[u8] = b"usr/libexec/ld.so";

/// `7.8`, or `VERSION_ID` of os-release(5); empty if nothing tells. `said` is what the recipe calls its release.
pub(crate) fn of(root: &Dir, said: Option<&str>) -> Result<String> {
    if let Some(release) = openbsd(root, said)? {
        return Ok(release);
    }
    let file = os_release(root)?.unwrap_or_default();
    let file = String::from_utf8_lossy(&file);
    let line = file.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    let word = line.unwrap_or_default().trim_matches(['"', '\'']);
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    Ok(if plain { word.to_owned() } else { String::new() })
}

fn os_release(root: &Dir) -> Result<Option<Vec<u8>>> {
    let text = |path: &str| read_below(root, &TreePath::new(path.as_bytes())?);
    match text("usr/lib/os-release")? {
        None => text("etc/os-release"),
        file => Ok(file),
    }
}

/// The release of an OpenBSD root: as its recipe says, else as the tags of its locate database tell, else the keys of its
/// sets.
///
/// # Errors
/// As the system calls.
pub(crate) fn openbsd(root: &Dir, said: Option<&str>) -> Result<Option<String>> {
    if let Some(said) = said {
        return Ok(Some(said.to_owned()));
    }
    match tags(root)? {
        None => Ok(by_keys(keys(root)?.iter().map(|name| &**name)).map(|n| format!("{}.{}", n / 10, n % 10))),
        told => Ok(told),
    }
}

/// What the tags of the locate database tell. A database that is none tells nothing.
fn tags(root: &Dir) -> Result<Option<String>> {
    let database = Host::new(root)?.read(&TreePath::new(LOCATE.as_bytes())?, MAX_FILE)?;
    Ok(database.and_then(|database| Listing::parse(&database).ok()?.release))
}

/// The names of the keys in a root.
fn keys(root: &Dir) -> Result<Vec<Box<[u8]>>> {
    let Ok(dir) = root.walk(&TreePath::new(*b"etc/signify")?) else { return Ok(Vec::new()) };
    Ok(dir.entries().unwrap_or_default().into_iter().map(|entry| entry.name).collect())
}

/// The system that a root is of, and what that calls the machine: `openbsd` and `amd64`. A root that does not say is of
/// the system that runs. `said` is the release that its recipe calls: only those of OpenBSD do.
///
/// # Errors
/// As getdents(2).
pub(crate) fn system(root: &Dir, said: Option<&str>) -> Result<(String, String)> {
    let (system, machine) = (sys::kernel().0.to_lowercase(), sys::machine());
    // Another system may have a key of OpenBSD's; one that says what it is is that.
    let by_key = || Ok(keys(root)?.iter().any(|name| key_number(name).is_some()) && os_release(root)?.is_none());
    Ok(match openbsd(root, said)?.is_some() || by_key()? {
        true => ("openbsd".to_owned(), arch(&machine).to_owned()),
        false => (system, machine),
    })
}

/// Is it a tree of OpenBSD?
pub(crate) fn is_openbsd(tree: &Tree) -> bool {
    let is_key =
        |node: &Node| node.path.as_bytes().strip_prefix(b"etc/signify/").is_some_and(|n| key_number(n).is_some());
    let others = [&b"usr/lib/os-release"[..], b"etc/os-release"].iter().any(|path| tree.get(path).is_some());
    tree.get(LINKER).is_some() || !others && tree.nodes().iter().any(is_key)
}

/// The release of `openbsd-78-base.pub`.
fn key_number(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(b"openbsd-")?.strip_suffix(b"-base.pub")?;
    std::str::from_utf8(digits).ok()?.parse::<u32>().ok()
}

/// The release of base sets, `78` for 7.8, from the keys that they bring: their own and, as the newest, the next one's.
fn by_keys<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Option<u32> {
    let mut releases: Vec<u32> = keys.filter_map(key_number).collect();
    releases.sort_unstable();
    releases.iter().rev().nth(1).copied()
}

/// Refuses to have a root run that is newer than the running kernel. `said` is what its recipe calls its release.
///
/// # Errors
/// [`ErrorKind::Refused`] naming both releases.
pub(crate) fn may_run(root: &Dir, said: Option<&str>) -> Result<()> {
    let (system, kernel) = sys::kernel();
    match system.as_str() {
        "OpenBSD" => openbsd(root, said)?.map_or(Ok(()), |release| refuse_newer(&release, (&system, &kernel))),
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
            let root = Dir::open(temp.path(), Calls::from_env()).unwrap();
            assert_eq!(of(&root, None).unwrap(), expect, "{files:?}");
            assert_eq!(of(&root, Some("9.9")).unwrap(), "9.9", "{files:?}");
        }
    }

    /// A root of OpenBSD is one by its recipe, its database or a single key; a system that says what it is is not.
    #[test]
    fn what_makes_a_root_one_of_openbsd() {
        let key = "etc/signify/openbsd-78-base.pub";
        let other = if sys::kernel().0 == "OpenBSD" { "openbsd" } else { "linux" };
        for (files, said, want) in [
            (&[][..], None, other),
            (&[][..], Some("7.8"), "openbsd"),
            (&[key][..], None, "openbsd"),
            (&[key, "etc/os-release"][..], None, other),
            (&["etc/signify/mine.pub"][..], None, other),
        ] {
            let temp = tempfile::tempdir().unwrap();
            for path in files {
                let path = temp.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            let root = Dir::open(temp.path(), Calls::from_env()).unwrap();
            assert_eq!(system(&root, said).unwrap().0, want, "{files:?} {said:?}");
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
