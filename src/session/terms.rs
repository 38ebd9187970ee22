// SPDX-License-Identifier: ISC
//! From what was asked for to the terms that the system enters on.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::account::{self, Account};
use super::options::{Confine, Extra, HomeDir, Options};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{self, Bind, Calls, Dir, Mounted, Mounting, Terms};

/// Directories of the root that a session has filesystems of its own on, where places may be made.
const OURS: [&str; 3] = ["dev", "run", "tmp"];

/// The terms of `options` for `account`; the limits are added by the caller.
///
/// # Errors
/// What is to be mounted is not there, or is not what it should be.
pub(super) fn terms(options: &Options, account: &Account) -> Result<Terms> {
    let mut terms = Terms {
        confined: options.confine == Confine::Full,
        setuid: options.setuid,
        offline: options.offline,
        hostname: options.hostname.clone().map(hostname).transpose()?,
        read_only: options.read_only,
        ephemeral: options.ephemeral || options.keep,
        own_run: options.own_run && !options.read_only,
        ..Terms::default()
    };
    if let Some(bind) = home(&options.home, account)? {
        push(&mut terms, &TreePath::lenient(&account.home)?, Mounted::Bind(bind))?;
    }
    for extra in &options.mounts {
        match extra {
            Extra::Tmpfs(to) => push(&mut terms, to, Mounted::Tmpfs)?,
            Extra::Bind { from, to, read_only } => {
                let bind = sys::take_bind(from, *read_only).on("bind", from.as_os_str().as_bytes())?;
                push(&mut terms, to, Mounted::Bind(bind))?;
            }
        }
    }
    Ok(terms)
}

fn push(terms: &mut Terms, to: &TreePath, what: Mounted) -> Result<()> {
    if to.is_root() {
        return Err(Error::new(ErrorKind::Usage, "nothing can be mounted on the root itself").at("/"));
    }
    let ours = ours(terms, to.as_bytes());
    let place = CString::new(to.as_bytes()).map_err(|_| Error::new(ErrorKind::Usage, "holds a NUL byte").at(to))?;
    terms.mounts.push(Mounting { place, ours, what });
    Ok(())
}

/// How much of `path` leads to a filesystem that is made for the session: the last mount that covers it decides.
fn ours(terms: &Terms, path: &[u8]) -> usize {
    let covers = |above: &[u8]| path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'));
    match terms.mounts.iter().rev().find(|mounting| covers(mounting.place.to_bytes())) {
        Some(Mounting { place, what: Mounted::Tmpfs, .. }) => place.to_bytes().len(),
        Some(_) => 0,
        None => {
            let ours = |name: &&&str| covers(name.as_bytes()) && !(**name == "run" && terms.own_run);
            OURS.iter().find(ours).map_or(0, |name| name.len())
        }
    }
}

fn hostname(name: String) -> Result<CString> {
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    match CString::new(name) {
        Ok(name) if fits => Ok(name),
        _ => Err(Error::new(ErrorKind::Usage, "a host name has up to 64 letters, digits, dashes and dots")),
    }
}

/// What is bound on the account's home, if anything.
fn home(home: &HomeDir, account: &Account) -> Result<Option<Bind>> {
    let path = match home {
        HomeDir::Own => return Ok(None),
        HomeDir::Private(homes) => private(homes, account)?,
        HomeDir::Host => of_host(account)?,
    };
    sys::take_bind(&path, false).map(Some).on("bind", path.as_os_str().as_bytes())
}

/// The home that is kept in `homes` for the account's number; its name may be anything.
fn private(homes: &Path, account: &Account) -> Result<PathBuf> {
    let dir = Dir::open(homes, Calls::from_env()).on("open", homes.as_os_str().as_bytes())?;
    let name = account.uid.to_string();
    match dir.make_dir(name.as_bytes(), 0o700) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => {
            made.on("mkdir", &name)?;
            dir.set_owner(name.as_bytes(), account.uid, account.gid).on("chown", &name)?;
        }
    }
    Ok(homes.join(name))
}

fn of_host(account: &Account) -> Result<PathBuf> {
    let name = String::from_utf8_lossy(&account.name);
    let host = Dir::open(Path::new("/"), Calls::from_env()).on("open", "/")?;
    let known = account::find(&host, Some(&name))?;
    if known.uid != account.uid {
        let reason = format!("{name} is user {} on the host and user {} inside", known.uid, account.uid);
        return Err(Error::new(ErrorKind::Refused, reason).hint("use --home private"));
    }
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&known.home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_made_only_in_what_is_ours() {
        let mut terms = Terms::default();
        for (place, ours_before) in [
            ("srv", 0),
            ("srv/a/b", 3),
            ("srv2/a", 0),
            ("tmp", 0),
            ("tmp/x", 3),
            ("tmpfiles/x", 0),
            ("run/a", 3),
            ("srv/a/b/c", 7),
            ("dev/kvm", 3),
            ("etc/x", 0),
        ] {
            assert_eq!(ours(&terms, place.as_bytes()), ours_before, "{place}");
            push(&mut terms, &TreePath::new(place.as_bytes()).unwrap(), Mounted::Tmpfs).unwrap();
        }
        assert!(push(&mut terms, &TreePath::root(), Mounted::Tmpfs).is_err());
        assert_eq!(ours(&Terms { own_run: true, ..Terms::default() }, b"run/a"), 0);
    }

    #[test]
    fn host_names() {
        for (name, good) in [("a", true), ("a.b-1", true), ("", false), ("a b", false), ("a\n", false), ("ä", false)] {
            assert_eq!(hostname(name.to_owned()).is_ok(), good, "{name:?}");
        }
        assert!(hostname("a".repeat(65)).is_err());
    }
}
