// SPDX-License-Identifier: ISC
//! Programs and libraries among the changes whose own libraries are nowhere (decision 21).
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::chroot::copy::find_inside;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};
use crate::plan::Plan;
use crate::select::elf::{self, Root, Unmet};
use crate::sys::Dir;
use crate::tree::Kind;

/// Refuses a plan that brings a program which `view`, the root after it, has no libraries for.
///
/// # Errors
/// [`ErrorKind::Refused`] naming the first such program and what it lacks.
pub(super) fn refuse_unmet(plan: &Plan, view: &Dir) -> Result<()> {
    let open = |path: &Path| open(view, path);
    let names = |path: &Path| names(view, path);
    let root = Root { open: &open, names: &names, minors: true };
    for change in plan.changes.iter().filter(|change| change.replace) {
        let Some(after) = change.after.as_ref().filter(|after| matches!(after.kind, Kind::File { .. })) else {
            continue;
        };
        let path = Path::new("/").join(after.path.as_os_str());
        let Some(program) = open(&path).and_then(elf::read) else { continue };
        if let Some(unmet) = elf::unmet(&program, &path, &root).first() {
            let lacks = match unmet {
                Unmet::Interpreter(path) | Unmet::Library(path) => format!("needs {}", escape(path)),
                Unmet::Version { library, version, at } => {
                    let (library, version) = (escape(library), escape(version));
                    format!("needs {library} with {version}, which {} lacks", at.display())
                }
            };
            let reason = format!("{lacks}, and neither the chroot nor the change has that");
            let error = Error::new(ErrorKind::Refused, reason).at(&after.path);
            return Err(error.hint("install it too, or record all the same: --allow-unmet"));
        }
    }
    Ok(())
}

/// The path inside, `.` and `..` taken as they are written: they come from lists of directories.
fn within(view: &Dir, path: &Path) -> Option<TreePath> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.as_os_str().as_bytes().split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    find_inside(view, &TreePath::new(names.join(&b"/"[..])).ok()?).ok()?
}

fn open(view: &Dir, path: &Path) -> Option<File> {
    let at = within(view, path)?;
    let dir = view.walk_parent(&at).ok()?;
    dir.open_regular(at.name()).ok()?
}

fn names(view: &Dir, path: &Path) -> Vec<OsString> {
    let entries = within(view, path).and_then(|at| view.walk(&at).ok()?.entries().ok());
    entries.into_iter().flatten().map(|entry| OsString::from_vec(entry.name.into_vec())).collect()
}
