// SPDX-License-Identifier: ISC
//! Chroots of another system than the one that runs: their programs do not run here, and what they would make is made where
//! they do.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::actions::{self, There};
use crate::recipe::Recipe;
use crate::sys;
use crate::tree::Tree;

/// The actions of `recipe` that are due, as [`actions::due`] says; none where their programs cannot run.
pub(crate) fn due(recipe: &Recipe, on: (&Tree, There<'_>), ran: &BTreeMap<String, String>) -> Vec<(String, String)> {
    if is_foreign(on.0) { Vec::new() } else { actions::due(recipe, on, ran) }
}

/// What is said of actions that are left out, in one line.
pub(crate) fn note(recipe: &Recipe, on: (&Tree, There<'_>), ran: &BTreeMap<String, String>) -> Option<String> {
    let left: Vec<String> = actions::due(recipe, on, ran).into_iter().map(|(name, _)| name).collect();
    (is_foreign(on.0) && !left.is_empty()).then(|| {
        let names = left.join(", ");
        format!("programs of OpenBSD do not run here, and actions are left out: {names}; build it again on OpenBSD")
    })
}

/// Is it of OpenBSD, somewhere else, and has no place for what every session here mounts? Who made one has programs inside
/// that do run.
fn is_foreign(tree: &Tree) -> bool {
    sys::kernel().0 != "OpenBSD" && tree.get(b"usr/libexec/ld.so").is_some() && tree.get(b"proc").is_none()
}
