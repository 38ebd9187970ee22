// SPDX-License-Identifier: ISC
//! Apply: check, stage, commit, undo. The one effect.
//!
//! A [`Plan`](crate::plan::Plan) says what; here it is carried out, through directory descriptors and validated paths
//! alone. Bodies are staged first ([`Stage`]), then everything moves to its place by rename.
#![forbid(unsafe_code)]

mod body;
mod check;
mod commit;
mod copy;
mod journal;
mod machine;
mod meta;
mod new;
mod parents;
mod prepare;
mod remove;
mod shards;
pub mod stage;
mod steps;

pub use body::{Body, digest};
pub use check::{Checked, Need, check, refuse, refused_set_id};
pub use commit::{Recovered, commit, discard, recover};
pub use copy::{Means, copy_tree};
pub use meta::Owners;
pub use new::commit_new;
pub use prepare::{Prepared, prepare};
pub use remove::remove_tree;
pub use stage::{Slot, Stage, Staged, make_entry};

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::sys::Dir;

/// The names of journals in a state directory: while one is there, [`recover`] has to be run.
pub const JOURNALS: [&[u8]; 2] = [journal::FORWARD, journal::BACK];

/// A mount that is written to (decision E4).
#[derive(Debug)]
pub struct Area {
    /// Where its root lies in the tree; the root of the tree for the first area.
    pub at: TreePath,
    /// Its root.
    pub root: Arc<Dir>,
    /// A private directory of root's on the same filesystem, out of every scan: for the stage, and for what is kept
    /// until the change is done.
    pub work: Dir,
}

/// What a plan is applied to: one area, or several where the caller names mounts that belong to the tree.
#[derive(Debug)]
pub struct Target {
    /// Every path belongs to the area with the longest `at` above it.
    pub areas: Vec<Area>,
    /// What becomes of the owners that the plan names.
    pub owners: Owners,
}

impl Target {
    /// A root that is one area.
    pub fn single(root: Dir, work: Dir, owners: Owners) -> Target {
        Target { areas: vec![Area { at: TreePath::root(), root: Arc::new(root), work }], owners }
    }

    /// The area that `path` belongs to, and the path in it.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if it is in none.
    pub fn locate(&self, path: &TreePath) -> Result<(usize, TreePath)> {
        let within = self.areas.iter().enumerate().filter_map(|(i, a)| Some((a.at.depth(), i, path.strip(&a.at)?)));
        match within.max_by_key(|(depth, ..)| *depth) {
            Some((_, index, rest)) => Ok((index, rest)),
            None => Err(Error::new(ErrorKind::Refused, "it lies in none of the filesystems to change").at(path)),
        }
    }
}

#[cfg(test)]
mod tests;
