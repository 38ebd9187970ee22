// SPDX-License-Identifier: ISC
//! Who has a file mapped, from `/proc/PID/maps` (proc(5)).

use std::collections::HashSet;
use std::fs;
use std::io;

use crate::sys::occupant::{Mapping, Process};

/// Processes that have mapped a file whose inode is one of these, and which is no longer where it was (`gone`), or still
/// is. Other filesystems may have the same numbers: that it was moved away, or its path, tells them apart, almost always.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn mappings(inodes: &HashSet<u64>, gone: bool) -> io::Result<Vec<Mapping>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It ended, or is none of ours.
        let Ok(maps) = fs::read(entry.path().join("maps")) else { continue };
        let mut paths: Vec<Vec<u8>> =
            maps.split(|&b| b == b'\n').filter_map(|line| mapped(line, inodes, gone)).collect();
        paths.sort();
        paths.dedup();
        if !paths.is_empty() {
            let name = fs::read(entry.path().join("comm")).unwrap_or_default();
            found.push(Mapping { process: Process { pid, name: name.trim_ascii_end().into() }, paths });
        }
    }
    Ok(found)
}

/// The path in a line `RANGE PERMISSIONS OFFSET DEVICE INODE PATH`, with ` (deleted)` after it where it is gone, if it
/// is of one of `inodes`.
fn mapped(line: &[u8], inodes: &HashSet<u64>, gone: bool) -> Option<Vec<u8>> {
    let mut words = line.splitn(6, |&b| b == b' ');
    let inode = std::str::from_utf8(words.nth(4)?).ok()?.parse().ok()?;
    let path = words.next()?.trim_ascii_start();
    let path = match (path.strip_suffix(b" (deleted)"), gone) {
        (Some(path), true) => path,
        (None, false) => path,
        _ => return None,
    };
    inodes.contains(&inode).then(|| path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let inodes = HashSet::from([42]);
        for (line, expect) in [
            (
                &b"7f-80 r-xp 0000 fe:00 42                         /usr/lib/a b.so (deleted)"[..],
                Some(&b"/usr/lib/a b.so"[..]),
            ),
            (b"7f-80 r-xp 0000 fe:00 42 /usr/lib/a.so", None),
            (b"7f-80 r-xp 0000 fe:00 43 /usr/lib/a.so (deleted)", None),
            (b"7f-80 rw-p 0000 00:00 0 ", None),
            (b"", None),
        ] {
            assert_eq!(mapped(line, &inodes, true).as_deref(), expect);
        }
        let there = b"7f-80 r-xp 0000 fe:00 42 /usr/lib/a.so";
        assert_eq!(mapped(there, &inodes, false).as_deref(), Some(&b"/usr/lib/a.so"[..]));
        assert_eq!(mapped(b"7f-80 r-xp 0000 fe:00 42 /a (deleted)", &inodes, false), None);
    }
}
