// SPDX-License-Identifier: ISC
//! Which package of the host, in which version, a path is of. State file `versions`: path, tab, package, tab, version.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::chroot::state::State;
use crate::error::Result;
use crate::path::{TreePath, escape, unescape};
use crate::select::packages::{Database, Owners};
use crate::sys::Dir;

/// The state file's name.
pub(crate) const VERSIONS: &str = "versions";

/// Looks these canonical paths up in the host's package database; nothing where there is none.
///
/// # Errors
/// If the database is damaged.
pub(crate) fn of(root: &Dir, paths: &HashSet<&[u8]>) -> Result<Owners> {
    if paths.is_empty() {
        return Ok(Owners::new());
    }
    Database::find(root)?.map_or_else(|| Ok(Owners::new()), |database| database.owners(paths))
}

/// What was remembered.
pub(crate) fn read(state: &State) -> Result<Owners> {
    let text = state.read(VERSIONS)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let path = TreePath::new(unescape(fields.next()?)?).ok()?;
        Some((path, (fields.next()?.to_owned(), fields.next()?.to_owned())))
    };
    Ok(text.lines().filter_map(row).collect())
}

/// Its text.
pub(crate) fn text(versions: &Owners) -> String {
    let mut text = String::new();
    for (path, (package, version)) in versions {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\t{package}\t{version}", escape(path.as_bytes()));
    }
    text
}
