// SPDX-License-Identifier: ISC
//! Directories as sources: [`scan`] makes a [`Tree`] of what is there, [`digest_files`] reads contents.
//!
//! Everything is reached through descriptors and no symlink is followed. No mount is crossed, unless the root is
//! [`Dir::crossing`]. A tree that changes while it is scanned gives some state of each entry; nothing that comes or
//! goes is an error.
#![forbid(unsafe_code)]

mod clock;
mod digest;
mod fingerprint;
mod names;
mod piece;
mod pool;
mod stamp;
mod walk;

use std::collections::HashMap;
use std::num::NonZero;

use crate::error::Result;
use crate::path::{PathSet, TreePath};
use crate::sys::Dir;
use crate::tree::Tree;
use crate::watch::Watch;

use walk::Scope;

pub use digest::digest_files;
pub use fingerprint::{fingerprint, fingerprint_paths};
pub use stamp::stamp;

/// What a scan reads.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Extended attributes too: three times the work.
    pub xattrs: bool,
    /// Not entered and not listed.
    pub skip: PathSet,
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The entries; `here` stamps on files, digests on none.
    pub tree: Tree,
    /// Where other filesystems are mounted. They are in the tree as the mounted root is, with nothing below.
    pub mounts: Vec<TreePath>,
}

/// Scans all that is below `root`, and `root` itself.
///
/// # Errors
/// [`crate::ErrorKind::Io`] for what cannot be read, naming it; [`crate::ErrorKind::BadInput`] for a path longer than
/// [`crate::path::MAX_PATH`].
pub fn scan(root: &Dir, options: &ScanOptions, watch: &Watch) -> Result<Scan> {
    walk::run(root, options, Scope::default(), watch)
}

/// As [`scan`], of a tree of which `known` was recorded. Extended attributes of a file whose stamp is as recorded are
/// taken from there: whoever changes them moves the ctime (decision E11).
///
/// # Errors
/// As [`scan`].
pub fn scan_known(root: &Dir, options: &ScanOptions, known: &Tree, watch: &Watch) -> Result<Scan> {
    walk::run(root, options, Scope { known: Some(known), ..Scope::default() }, watch)
}

/// Scans only `paths` and the directories above them; of directories among `paths` not what lies below. Paths that do
/// not exist, or lie below a symlink, are not in the tree.
///
/// # Errors
/// As [`scan`].
pub fn scan_paths(root: &Dir, paths: &[TreePath], options: &ScanOptions, watch: &Watch) -> Result<Scan> {
    let mut wanted: walk::Wanted<'_> = HashMap::new();
    for path in paths {
        let mut at = path.as_bytes();
        while let Some(parent) = crate::path::parent(at) {
            let name = &at[if parent.is_empty() { 0 } else { parent.len() + 1 }..];
            if !wanted.entry(parent).or_default().insert(name) {
                break;
            }
            at = parent;
        }
    }
    walk::run(root, options, Scope { wanted: Some(&wanted), ..Scope::default() }, watch)
}

/// How many threads share the work: metadata comes from memory, so more than a few only fight over locks.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(8)
}

#[cfg(test)]
mod tests;
