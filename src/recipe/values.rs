// SPDX-License-Identifier: ISC
//! What single values of a recipe may be. Pure; the errors hold reason and hint, the place is added by the caller.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath};
use crate::recipe::Action;
use crate::recipe::fault::unknown;
use crate::source::fetch::is_url;

/// Files of /etc that are never taken as they are: they hold secrets, or are made from the chroot's own.
const NEVER_TAKEN: [(&str, &str); 10] = [
    ("passwd", "accounts are merged, not copied: use [[account]]"),
    ("master.passwd", "accounts are merged, not copied: use [[account]]"),
    ("group", "accounts are merged, not copied: use [[account]]"),
    ("shadow", "accounts are merged, not copied: use [[account]]"),
    ("gshadow", "accounts are merged, not copied: use [[account]]"),
    ("pwd.db", "accounts are merged, not copied: use [[account]]"),
    ("spwd.db", "accounts are merged, not copied: use [[account]]"),
    ("machine-id", "it names this machine; a chroot gets none"),
    ("ssh", "it holds the host's keys; name the files that you want: ssh/ssh_config"),
    ("ssl/private", "it holds the host's keys"),
];

/// A path in the chroot.
pub(super) fn tree_path(text: &str) -> Result<TreePath> {
    let path = TreePath::lenient(text.as_bytes())?;
    if path.is_root() {
        bail!(Usage, "the root itself cannot be named here");
    }
    Ok(path)
}

/// A path in the chroot, or its root.
pub(super) fn place(text: &str) -> Result<TreePath> {
    match text.is_empty() {
        true => bail!(Usage, "a path is wanted; the root is \"/\""),
        false => TreePath::lenient(text.as_bytes()),
    }
}

/// A pattern of paths in the chroot.
pub(super) fn pattern(text: &str) -> Result<String> {
    if PathSet::is_everything(text)? {
        bail!(Usage, "the pattern covers the whole chroot");
    }
    Ok(text.to_owned())
}

/// A file of /etc, as its path in the chroot.
pub(super) fn etc(text: &str) -> Result<TreePath> {
    let name = tree_path(text)?;
    let secret = NEVER_TAKEN.iter().find(|(never, _)| name.as_bytes() == never.as_bytes());
    if let Some((_, hint)) = secret {
        return Err(Error::new(ErrorKind::Usage, format!("/etc/{name} is never taken from the host")).hint(*hint));
    }
    if name.name().starts_with(b"ssh_host_") || name.is_within(&tree_path("ssl/private")?) {
        bail!(Usage, "/etc/{name} is a secret of the host and is never taken");
    }
    if let Some(below) = text.strip_prefix("/etc/") {
        let hint = format!("write {below:?}");
        return Err(Error::new(ErrorKind::Usage, "names are taken below /etc").hint(hint));
    }
    tree_path("etc")?.under(&name)
}

/// An action.
pub(super) fn action(text: &str) -> Result<Action> {
    let known = Action::ALL.into_iter().find(|action| action.name() == text);
    known.ok_or_else(|| unknown("action", text, Action::ALL.into_iter().map(Action::name)))
}

/// A package: its name, with an architecture where it is a foreign one, or the group `@base`.
///
/// # Errors
/// [`ErrorKind::Usage`] for anything else; Debian's policy says what a name is.
pub(super) fn check_package(text: &str) -> Result<String> {
    if let Some(group) = text.strip_prefix('@') {
        return if group == "base" { Ok(text.to_owned()) } else { Err(unknown("group", text, ["@base"].into_iter())) };
    }
    let (name, architecture) = text.split_once(':').unwrap_or((text, "any"));
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.len() >= 2
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|c| plain(c) || b"+-.".contains(&c))
        && !architecture.is_empty()
        && architecture.bytes().all(|c| plain(c) || c == b'-');
    if !good {
        bail!(Usage, "{text:?} is no package name");
    }
    Ok(text.to_owned())
}

/// An account name that both systems take.
pub(super) fn account(text: &str) -> Result<String> {
    let first = |c: u8| c.is_ascii_alphabetic() || c == b'_';
    let rest = |c: u8| first(c) || c.is_ascii_digit() || c == b'-' || c == b'.';
    if text.len() > 31 || !text.bytes().next().is_some_and(first) || !text.bytes().all(rest) {
        bail!(Usage, "{text:?} is no account name");
    }
    Ok(text.to_owned())
}

/// A home or shell: an absolute path that fits into a line of passwd(5).
pub(super) fn passwd_path(text: &str) -> Result<String> {
    if !text.starts_with('/') || text.contains(':') || text.chars().any(char::is_control) {
        bail!(Usage, "an absolute path without colons is wanted");
    }
    TreePath::lenient(text.as_bytes())?;
    Ok(text.to_owned())
}

/// An absolute path of the host, as it is named there.
pub(super) fn absolute(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        bail!(Usage, "an absolute path is wanted");
    }
    TreePath::lenient(text.as_bytes())?;
    Ok(text.to_owned())
}

/// A release: 7.8.
pub(super) fn release(text: &str) -> Result<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((major, minor)) if digits(major) && digits(minor) && minor.len() == 1 => Ok(text.to_owned()),
        _ => bail!(Usage, "a release is two numbers, as uname -r prints them: \"7.8\""),
    }
}

/// The name of a release set, without digits.
pub(super) fn set(text: &str) -> Result<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase()) {
        bail!(Usage, "{text:?} is no name of a set: base, comp, man, xbase");
    }
    Ok(text.to_owned())
}

/// A mode, in octal.
pub(super) fn mode(text: &str) -> Result<u16> {
    let mode = u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Error::new(ErrorKind::Usage, format!("{text:?} is no mode: \"0755\"")))
}

/// An owner or a group: a name or a number.
pub(super) fn owner(text: &str) -> Result<String> {
    if text.parse::<u32>().is_ok() { Ok(text.to_owned()) } else { account(text) }
}

/// The name of a variable.
pub(super) fn variable(text: &str) -> Result<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.chars().all(letter) || text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() {
        bail!(Usage, "{text:?} is no name of a variable");
    }
    Ok(text.to_owned())
}

/// The value of a variable.
pub(super) fn value(text: &str) -> Result<String> {
    if text.contains('\0') {
        bail!(Usage, "NUL byte in a value");
    }
    Ok(text.to_owned())
}

/// A path of the host, relative to the directory `base`.
pub(super) fn host_path(base: &Path, text: &str) -> Result<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        bail!(Usage, "a path is wanted");
    }
    Ok(base.join(text))
}

/// A directory of the host, or one on a mirror.
pub(super) fn place_of_sets(base: &Path, text: &str) -> Result<PathBuf> {
    if is_url(text) { Ok(PathBuf::from(text)) } else { host_path(base, text) }
}

/// A path of the host that can stand in a recipe.
pub(super) fn remembered(path: &Path) -> Result<&str> {
    let error = || Error::new(ErrorKind::Usage, "a path in a recipe must be UTF-8").at(path.as_os_str().as_bytes());
    path.to_str().ok_or_else(error)
}
