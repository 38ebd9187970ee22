// SPDX-License-Identifier: ISC
//! A private key among the changes: nobody wants to ship one.
#![forbid(unsafe_code)]

use crate::error::{IoContext, Result};
use crate::patch::secrets::{holds_key, refused};
use crate::plan::Plan;
use crate::sys::Dir;
use crate::tree::Kind;
use crate::watch::Watch;

/// Refuses a plan that brings a private key out of `root`.
///
/// # Errors
/// [`crate::error::ErrorKind::Refused`] naming it; as read(2).
pub(super) fn refuse(plan: &Plan, root: &Dir, watch: &Watch) -> Result<()> {
    for change in plan.changes.iter().filter(|change| change.replace) {
        let Some(after) = change.after.as_ref().filter(|after| matches!(after.kind, Kind::File { .. })) else {
            continue;
        };
        let dir = root.walk_parent(&after.path).on("open", &after.path)?;
        let Some(file) = dir.open_regular(after.path.name()).on("open", &after.path)? else { continue };
        watch.check()?;
        if holds_key(file).on("read", &after.path)? {
            let hint =
                "leave it out, in the recipe of the chroot: [record] omit = [\"PATH\"]; or make it on the target";
            return Err(refused(&after.path, hint));
        }
    }
    Ok(())
}
