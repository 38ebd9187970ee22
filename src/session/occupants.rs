// SPDX-License-Identifier: ISC
//! Is a chroot in use?
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Occupant};

/// What lives in `root`: the mounts below it, in this namespace and in others, and the processes that have it as their
/// root, whoever started them.
///
/// # Errors
/// If `root` or the system's tables cannot be read.
pub fn occupants(root: &Path) -> Result<Vec<Occupant>> {
    let shown = root.as_os_str().as_bytes();
    let real = std::fs::canonicalize(root).on("realpath", shown)?;
    sys::occupants(&real).on("occupants", shown)
}

/// Refuses a root that somebody lives in.
///
/// # Errors
/// [`ErrorKind::Refused`] naming the mounts and the processes.
pub fn refuse_occupied(root: &Path) -> Result<()> {
    let found = occupants(root)?;
    let list = |mounts: bool| -> Vec<String> {
        found.iter().filter(|o| matches!(o, Occupant::Mount(..)) == mounts).map(ToString::to_string).collect()
    };
    let named = [("mounted below it", list(true)), ("running in it", list(false))];
    let reasons: Vec<String> = named
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(what, list)| format!("{what}: {}", list.join(", ")))
        .collect();
    let hint = match found.iter().rfind(|o| matches!(o, Occupant::Mount(_, None))) {
        // The last one first: it may lie on another.
        Some(Occupant::Mount(target, _)) => format!("umount {}", escape(target)),
        _ if found.is_empty() => return Ok(()),
        _ => "end these processes first".to_owned(),
    };
    Err(Error::new(ErrorKind::Refused, reasons.join("; ")).at(root.as_os_str().as_bytes()).hint(hint))
}
