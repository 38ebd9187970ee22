// SPDX-License-Identifier: ISC
//! What a chroot takes on the disk.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::error::{IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType, Stat, is_stale};

/// Bytes allocated to the entries of a chroot, mounts apart. Blocks that a filesystem shares between files (reflinks,
/// snapshots) count in each of them: it does not say who else has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    /// Of inodes all names of which are in it: what its removal frees.
    pub own: u64,
    /// Of inodes that have names elsewhere too, in its base or in clones.
    pub shared: u64,
}

/// Adds up what is below `root`. What comes or goes meanwhile is no error.
///
/// # Errors
/// As openat(2), getdents(2).
pub(crate) fn used(root: &Dir) -> Result<Disk> {
    let top = root.stat_self().on("stat", "")?;
    let mut disk = Disk { own: top.allocated, shared: 0 };
    // Inodes with several names: how many of them were met, and what the kernel says of one.
    let mut linked: HashMap<((u32, u32), u64), (u64, Stat)> = HashMap::new();
    let mut todo = vec![TreePath::root()];
    while let Some(path) = todo.pop() {
        let dir = match root.walk(&path) {
            Err(e) if is_stale(&e) => continue,
            dir => dir.on("open", &path)?,
        };
        for entry in dir.entries().on("readdir", &path)? {
            let Some(stat) = dir.find(&entry.name).on("stat", &path)?.filter(|stat| stat.mount == top.mount) else {
                continue;
            };
            match stat.kind {
                FileType::Dir => {
                    disk.own += stat.allocated;
                    todo.push(path.join(&entry.name)?);
                }
                _ if stat.links > 1 => linked.entry((stat.dev, stat.ino)).or_insert((0, stat)).0 += 1,
                _ => disk.own += stat.allocated,
            }
        }
    }
    for (met, stat) in linked.into_values() {
        let part = if met == stat.links { &mut disk.own } else { &mut disk.shared };
        *part += stat.allocated;
    }
    Ok(disk)
}
