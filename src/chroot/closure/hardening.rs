// SPDX-License-Identifier: ISC
//! A fragment of a systemd unit for a service with a jail as its root (systemd.exec(5)).
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::record::Record;
use crate::chroot::Chroot;
use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::recipe::Closure;
use crate::tree::Tree;

/// The fragment: the root, the directories of the service's own and what traces saw it write to, the sockets it reaches.
/// Nothing is guessed: what it does not say is systemd's default.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a chroot without closure; [`ErrorKind::Unsupported`] for a path that a unit cannot hold.
pub fn fragment(chroot: &Chroot) -> Result<String> {
    let none = || Error::new(ErrorKind::NotFound, "it has no closure").hint("make one with: stockade jail");
    let closure = chroot.recipe()?.closure.ok_or_else(none)?;
    let own = Record::read(&chroot.state)?.map(|record| record.own).unwrap_or_default();
    let mut lines = vec![format!("RootDirectory={}", word(&chroot.place.root.to_string_lossy())?)];
    lines.push("MountAPIVFS=yes".to_owned());
    lines.push("PrivateDevices=yes".to_owned());
    lines.push("ProtectSystem=strict".to_owned());
    if let Some(user) = closure.users.first() {
        lines.push(format!("User={}", word(user)?));
    }
    if closure.keep_setid.is_empty() {
        lines.push("NoNewPrivileges=yes".to_owned());
        lines.push("RestrictSUIDSGID=yes".to_owned());
    }
    // The host's as it is now, where the jail has a copy.
    lines.push("BindReadOnlyPaths=-/etc/resolv.conf".to_owned());
    for dir in closure.socket_dirs() {
        // A server that starts anew makes a new socket: the directory is what lasts. Sockets can be used all the same.
        lines.push(format!("BindReadOnlyPaths={}", word(dir)?));
    }
    for path in writable(&closure, &own, &chroot.manifest()?)? {
        // A plus sign: below the new root; a minus sign: if it is there.
        lines.push(format!("ReadWritePaths=-+{}", word(&format!("/{path}"))?));
    }
    Ok(format!("[Service]\n{}\n", lines.join("\n")))
}

/// Where the service writes: none of them below another.
fn writable(closure: &Closure, own: &BTreeSet<TreePath>, jail: &Tree) -> Result<Vec<TreePath>> {
    let mut paths: BTreeSet<TreePath> =
        own.iter().filter(|path| jail.get(path.as_bytes()).is_some()).cloned().collect();
    for path in &closure.written {
        let mut path = TreePath::lenient(path.as_bytes())?;
        // A file that was made: the directory that it was made in.
        while jail.get(path.as_bytes()).is_none() && !path.is_root() {
            path = path.parent().unwrap_or_default();
        }
        if !path.is_root() {
            paths.insert(path);
        }
    }
    let below = |path: &TreePath| path.ancestors().any(|above| paths.contains(&above));
    Ok(paths.iter().filter(|path| !below(path)).cloned().collect())
}

/// A word of a unit: specifiers and quotes have a meaning there.
fn word(text: &str) -> Result<String> {
    if text.chars().any(|c| c.is_control() || "\"'\\:".contains(c)) {
        return Err(Error::new(ErrorKind::Unsupported, "a unit cannot hold this name").at(text));
    }
    let text = text.replace('%', "%%");
    Ok(if text.contains(' ') { format!("\"{text}\"") } else { text })
}
