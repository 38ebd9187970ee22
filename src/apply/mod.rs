// SPDX-License-Identifier: ISC
//! Apply: check, stage, commit, undo. The one effect.
//!
//! A [`Plan`](crate::plan::Plan) says what; here it is carried out, through directory descriptors and validated paths
//! alone. Bodies are staged first ([`Stage`]), then everything moves to its place by rename.
#![forbid(unsafe_code)]
#![allow(dead_code)] // until the commit of live trees is here

mod body;
mod meta;
mod new;
mod parents;
mod shards;
pub mod stage;

pub use body::Body;
pub use meta::Owners;
pub use new::commit_new;
pub use stage::{Slot, Stage, Staged};

use crate::path::TreePath;
use crate::sys::Dir;

/// A mount that is written to (decision E4).
#[derive(Debug)]
pub struct Area {
    /// Where its root lies in the tree; the root of the tree for the first area.
    pub at: TreePath,
    /// Its root.
    pub root: Dir,
    /// A private directory of root's on the same filesystem, out of every scan: for the stage, and for what is kept
    /// until the change is done.
    pub work: Dir,
}

/// What a plan is applied to: one area, or several where the caller names mounts that belong to the tree.
#[derive(Debug)]
pub struct Target {
    areas: Vec<Area>,
}

#[cfg(test)]
mod tests;
