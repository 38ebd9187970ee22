// SPDX-License-Identifier: ISC
//! Who is in a tree, from `/proc` (proc(5)).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::mounts::{mounts, parse};
use crate::sys::occupant::{Occupant, Process, is_below};

/// What lives in the directory `root`, an absolute path without links: mounts below it, in our namespace and in those
/// of other processes, and processes that have it as their root. A process that we may not look at is not found.
///
/// # Errors
/// If `root` or `/proc` cannot be read.
pub fn occupants(root: &Path) -> io::Result<Vec<Occupant>> {
    let path = root.as_os_str().as_bytes();
    let below = |table: Vec<super::Mount>, seen: Option<&Process>| {
        let found = table.into_iter().map(|m| m.target).filter(|target| is_below(target, path));
        found.map(|target| Occupant::Mount(target, seen.cloned())).collect::<Vec<_>>()
    };
    let mut found = below(mounts()?, None);
    let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino()));
    let wanted = identity(root)?;
    let mut namespaces = HashSet::from([identity(Path::new("/proc/self/ns/mnt"))?]);
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let own = entry.path();
        let name = fs::read(own.join("comm")).unwrap_or_default();
        let process = Process { pid, name: name.trim_ascii_end().into() };
        // The link's text tells of roots deeper down; the inode tells where another namespace has other paths.
        let link = own.join("root");
        let is_root = identity(&link).is_ok_and(|it| it == wanted);
        if is_root || fs::read_link(&link).is_ok_and(|to| is_below(to.as_os_str().as_bytes(), path)) {
            found.push(Occupant::Process(process));
        } else if identity(&own.join("ns/mnt")).is_ok_and(|it| namespaces.insert(it)) {
            // Mounts there are invisible here, and removing their mount point destroys them.
            let table = fs::read(own.join("mountinfo")).unwrap_or_default();
            found.extend(below(parse(&table), Some(&process)));
        }
    }
    Ok(found)
}
