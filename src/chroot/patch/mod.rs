// SPDX-License-Identifier: ISC
//! Patches applied to roots: chroots of ours, other directories, and the running system.
//!
//! What a root knows of its patches is in it, `var/db/stockade/patches/NAME/`, so that it travels along: the manifest,
//! and what is needed to undo. It comes and goes with the patch, by the same plan. The host keeps digests of it in the
//! root's state, out of reach of what runs inside.
#![forbid(unsafe_code)]

pub mod apply;
mod bodies;
mod change;
mod enrol;
mod follow;
pub(crate) mod lasting;
mod links;
mod look;
pub mod official;
pub mod older;
mod order;
mod record;
pub(crate) mod store;
mod target;
pub mod undo;
mod undoing;
pub mod verify;

use std::ffi::OsString;

use super::place::Home;
use super::register;
use crate::error::Result;

pub use follow::{Done, Followed, catch_up_on};
pub(crate) use record::copy_notes;
pub use store::{Installed, Undo, installed, word};

/// The running system and all chroots of `home`.
///
/// # Errors
/// As readdir(3).
pub fn roots(home: &Home) -> Result<Vec<OsString>> {
    Ok([vec![OsString::from("/")], register::all(home)?].concat())
}
