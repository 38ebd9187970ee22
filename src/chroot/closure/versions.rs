// SPDX-License-Identifier: ISC
//! Which package of the host, in which version, a path is of. State file `versions`: path, tab, package, tab, version.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use crate::chroot::state::State;
use crate::error::Result;
use crate::path::{TreePath, escape, unescape};
use crate::select::packages::{Dpkg, Host, INFO, MERGED};
use crate::sys::Dir;

/// The state file's name.
pub(crate) const VERSIONS: &str = "versions";
/// The largest list of a package's files.
const MAX_LIST: u64 = 64 << 20;

/// Package and version of each path that is of a package.
pub(crate) type Versions = BTreeMap<TreePath, (String, String)>;

/// Looks these canonical paths up in dpkg's database; nothing where there is none.
///
/// # Errors
/// If the database is damaged.
pub(crate) fn of(root: &Dir, paths: &HashSet<&[u8]>) -> Result<Versions> {
    let host = Host::new(root)?;
    let info = TreePath::new(INFO.as_bytes())?;
    if paths.is_empty() || host.directory(&info)?.is_none() {
        return Ok(Versions::new());
    }
    let mut versions = Versions::new();
    for package in Dpkg::open(root)?.packages() {
        let Some(list) = package.info.get("list") else { continue };
        let text = host.read(&info.join(list)?, MAX_LIST)?.unwrap_or_default();
        for line in text.split(|&b| b == b'\n') {
            let line = line.strip_prefix(b"/").unwrap_or(line);
            // Packages of a host with merged /usr still list the old places.
            let merged =
                MERGED.iter().any(|dir| line.strip_prefix(dir.as_bytes()).is_some_and(|r| r.starts_with(b"/")));
            let line = if merged && !paths.contains(line) { [b"usr/", line].concat() } else { line.to_vec() };
            if paths.contains(line.as_slice()) {
                versions.insert(TreePath::new(line)?, (package.name.clone(), package.version.clone()));
            }
        }
    }
    Ok(versions)
}

/// What was remembered.
pub(crate) fn read(state: &State) -> Result<Versions> {
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
pub(crate) fn text(versions: &Versions) -> String {
    let mut text = String::new();
    for (path, (package, version)) in versions {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\t{package}\t{version}", escape(path.as_bytes()));
    }
    text
}
