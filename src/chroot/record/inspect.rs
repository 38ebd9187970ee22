// SPDX-License-Identifier: ISC
//! One look into each file that a patch would bring: for a private key, which nobody wants to ship, and for programs.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;

use crate::error::{IoContext, Result};
use crate::patch::secrets::{holds_key, refused};
use crate::path::TreePath;
use crate::plan::Plan;
use crate::sys::Dir;
use crate::tree::Kind;
use crate::watch::Watch;

/// How a program or library begins.
const ELF: &[u8; 4] = b"\x7fELF";

/// Refuses a plan that brings a private key out of `view`, the root after it. Returns those changes that bring programs
/// and libraries.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] naming it; as read(2).
pub(super) fn refuse_keys(plan: &Plan, view: &Dir, watch: &Watch) -> Result<Plan> {
    let (files, mut programs) = (Files::new(view), Plan::default());
    for change in plan.changes.iter().filter(|change| change.replace) {
        let Some(after) = change.after.as_ref().filter(|after| matches!(after.kind, Kind::File { .. })) else {
            continue;
        };
        watch.check()?;
        let path = &after.path;
        let Some(mut file) = files.open(path)? else { continue };
        let mut begin = Vec::new();
        (&mut file).take(ELF.len() as u64).read_to_end(&mut begin).on("read", path)?;
        if holds_key(begin.as_slice().chain(file)).on("read", path)? {
            let hint =
                "leave it out, in the recipe of the chroot: [record] omit = [\"PATH\"]; or make it on the target";
            return Err(refused(path, hint));
        }
        if begin == ELF {
            programs.changes.push(change.clone());
        }
    }
    Ok(programs)
}

/// Opens files of a root. Who asks in order has each directory opened once.
pub(super) struct Files<'a> {
    root: &'a Dir,
    last: RefCell<Option<(TreePath, Dir)>>,
}

impl<'a> Files<'a> {
    pub(super) fn new(root: &'a Dir) -> Files<'a> {
        Files { root, last: RefCell::new(None) }
    }

    /// The regular file at `path`; none if something else is there.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn open(&self, path: &TreePath) -> Result<Option<File>> {
        let parent = path.parent().unwrap_or_default();
        let mut last = self.last.borrow_mut();
        let dir = match last.take() {
            Some((at, dir)) if at == parent => dir,
            _ => self.root.walk(&parent).on("open", path)?,
        };
        let file = dir.open_regular(path.name()).on("open", path);
        *last = Some((parent, dir));
        file
    }
}
