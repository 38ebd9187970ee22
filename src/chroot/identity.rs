// SPDX-License-Identifier: ISC
//! Which directory a record is of, so that another one in its place is not taken for it (decision E16).
//!
//! ```text
//! FILESYSTEM-ID INODE TIME-OF-BIRTH
//! mount point
//! ```
//!
//! The second line only if it was one. The time of birth, because inode numbers are used again.
#![forbid(unsafe_code)]

use std::io;

use crate::sys::Dir;

/// The state file that holds it.
pub(crate) const IDENTITY: &str = "identity";

const MOUNT: &[u8] = b"mount point";

/// The identity of `root`, as it is recorded.
///
/// # Errors
/// As fstat(2).
pub(crate) fn of(root: &Dir) -> io::Result<Vec<u8>> {
    let mut text = line(root)?;
    text.push(b'\n');
    if root.stat_self()?.mount != root.stat(b"..")?.mount {
        text.extend([MOUNT, b"\n"].concat());
    }
    Ok(text)
}

/// Is `root` the directory that `recorded` is of, wherever it is mounted now?
///
/// # Errors
/// As fstat(2).
pub(crate) fn is(recorded: &[u8], root: &Dir) -> io::Result<bool> {
    Ok(recorded.split(|&b| b == b'\n').next() == Some(&line(root)?))
}

/// Was the directory that `recorded` is of a mount point?
pub(crate) fn is_of_mount(recorded: &[u8]) -> bool {
    recorded.split(|&b| b == b'\n').nth(1) == Some(MOUNT)
}

fn line(root: &Dir) -> io::Result<Vec<u8>> {
    let birth = root.birth()?.unwrap_or_default();
    Ok(format!("{:016x} {} {}.{:09}", root.space()?.id, root.stat_self()?.ino, birth.sec, birth.nsec).into_bytes())
}
