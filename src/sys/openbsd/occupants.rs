// SPDX-License-Identifier: ISC
//! Who is in a tree.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::occupant::{Occupant, is_below};

/// The mounts below the directory `root`, an absolute path without links. Which processes have it as their root is not
/// told: the system names no process's root.
///
/// # Errors
/// As getfsstat(2).
pub fn occupants(root: &Path) -> io::Result<Vec<Occupant>> {
    let targets = super::mounts()?.into_iter().map(|mount| mount.target);
    Ok(targets.filter(|t| is_below(t, root.as_os_str().as_bytes())).map(|t| Occupant::Mount(t, None)).collect())
}
