// SPDX-License-Identifier: ISC
//! The register of all chroots, for `list`: one file each, holding the root's path.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::place::{Home, Place, STATE, bytes, escape_name, private_dir};
use crate::error::{IoContext, Result};

/// Opens the register, which is made if it is missing.
fn open(home: &Home) -> Result<crate::sys::Dir> {
    let state = private_dir(&home.open()?, STATE.as_bytes(), &home.path.join(STATE))?;
    private_dir(&state, b"roots", &home.path.join(STATE).join("roots"))
}

pub(crate) fn add(home: &Home, place: &Place) -> Result<()> {
    let roots = open(home)?;
    let name = escape_name(&place.root);
    let shown = bytes(&place.root);
    match roots.create_file(&name, 0o600) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        file => file.and_then(|mut f| f.write_all(shown)).on("register", shown),
    }
}

/// Forgets a root. Was it known?
pub(crate) fn remove(home: &Home, root: &Path) -> Result<bool> {
    match open(home)?.unlink(&escape_name(root)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true).on("unregister", bytes(root)),
    }
}

/// Is a root known?
pub(crate) fn knows(home: &Home, root: &Path) -> Result<bool> {
    Ok(all(home)?.iter().any(|known| known == root.as_os_str()))
}

/// The roots' paths, sorted.
pub(crate) fn all(home: &Home) -> Result<Vec<OsString>> {
    let shown = home.path.join(STATE).join("roots");
    let mut out = Vec::new();
    if !shown.exists() {
        return Ok(out);
    }
    let roots = open(home)?;
    for entry in roots.entries().on("readdir", bytes(&shown))? {
        let file = roots.open_file(&entry.name).on("open", &entry.name)?;
        let mut path = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 16), &mut path).on("read", &entry.name)?;
        out.push(OsString::from_vec(path));
    }
    out.sort();
    Ok(out)
}
