// SPDX-License-Identifier: ISC
//! What this process gives up: unveil(2) for one that writes, pledge(2) only for one that writes no modes, for a pledged
//! process loses set-id bits without being told. Neither is handed on to a program that is executed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Everything may be read and executed. Files for the time being are written, terminals, and where output is thrown away.
const ALWAYS: [(&CStr, &CStr); 4] = [(c"/", c"rx"), (c"/tmp", c"rwxc"), (c"/dev/null", c"rw"), (c"/dev/tty", c"rw")];

/// From now on this process writes below `places` alone, for good. Of a place that is not there yet, the nearest directory
/// above that is.
///
/// # Errors
/// As unveil(2).
pub fn confine_writes(places: &[PathBuf]) -> io::Result<()> {
    for (path, permissions) in ALWAYS {
        unveil(path, permissions)?;
    }
    if let Some(temporary) = std::env::var_os("TMPDIR") {
        unveil(&CString::new(temporary.as_bytes())?, c"rwxc")?;
    }
    for place in places {
        let there = place.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        unveil(&CString::new(there.as_os_str().as_bytes())?, c"rwxc")?;
    }
    // SAFETY: two null pointers, which end it.
    done(unsafe { libc::unveil(std::ptr::null(), std::ptr::null()) })
}

fn unveil(path: &CStr, permissions: &CStr) -> io::Result<()> {
    // SAFETY: both are strings that last for the call.
    match done(unsafe { libc::unveil(path.as_ptr(), permissions.as_ptr()) }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// From now on this process reads, and no more.
///
/// # Errors
/// As pledge(2).
pub fn forbid_writes() -> io::Result<()> {
    pledge(c"stdio rpath tty")
}

/// Forbids this process all but the network and reading files.
///
/// # Errors
/// As pledge(2).
pub(in crate::sys) fn forbid_privileges() -> io::Result<()> {
    pledge(c"stdio rpath inet dns")
}

fn pledge(promises: &CStr) -> io::Result<()> {
    // SAFETY: a string that lasts, or none.
    done(unsafe { libc::pledge(promises.as_ptr(), std::ptr::null()) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
