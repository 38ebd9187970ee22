// SPDX-License-Identifier: ISC
//! The closure of a few programs: every path of the host that they need, each with the reasons why.
//!
//! Nothing is executed. ELF files are read as their loaders read them, scripts as far as simple reading goes, and what
//! programs load without saying so is in data files. Symlinks stay what they are; their targets come along.
#![forbid(unsafe_code)]

mod apply;
pub mod binfmt;
pub mod cache;
mod gather;
pub mod graph;
pub mod hints;
mod load;
mod look;
mod modules;
pub mod owners;
pub mod policy;
pub mod script;
pub mod search;
pub mod tmpfiles;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::path::TreePath;

pub use gather::gather;
pub use view::View;

/// Where programs are looked up by name, before anything that the caller adds.
pub const PROGRAM_DIRS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Programs, absolute paths.
    pub programs: Vec<String>,
    /// Files and trees that are wanted besides, absolute paths.
    pub paths: Vec<String>,
    /// Paths that a trace of a real run saw, absolute; who opened each.
    pub traced: Vec<(String, String)>,
    /// Files of whole packages, and the package of each.
    pub packaged: Vec<(TreePath, String)>,
    /// Programs that the kernel starts by others.
    pub formats: Vec<binfmt::Format>,
    /// The name services of the host's `nsswitch.conf`, not those of the one made for a jail.
    pub host_nss: bool,
    /// Policies that apply although they are not asked for by any file.
    pub with: Vec<String>,
    /// Policies that do not apply.
    pub without: Vec<String>,
}

/// Why a path is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason {
    /// The path that wants it; none where the user does.
    pub by: Option<TreePath>,
    /// As what: `library libc.so.6`, `interpreter`, `policy git: ...`.
    pub why: Arc<str>,
}

/// All that a few programs need.
#[derive(Debug, Default)]
pub struct Closure {
    /// Canonical paths of the host, each with its reasons, the first one found first.
    pub entries: BTreeMap<TreePath, Vec<Reason>>,
    /// Directories of which only the directory itself is wanted: their contents are made inside.
    pub own: BTreeSet<TreePath>,
    /// Directories that services find made for them when they start.
    pub temporary: Vec<tmpfiles::Temporary>,
    /// Accounts that the programs run as.
    pub users: BTreeSet<String>,
    /// Libraries, for the loader's cache: with `true` where their numbers begin with the most significant byte.
    pub libraries: Vec<cache::Entry>,
    /// Byte order of the machine that the libraries are for.
    pub big: bool,
    /// A loader is among them that has a cache (glibc) or hints (OpenBSD).
    pub loaders: BTreeSet<search::Loader>,
    /// A program that writes to memory which it executes: OpenBSD lets it only on a filesystem that is mounted for that.
    pub wx: Option<TreePath>,
    /// What could not be had although something names it: one line each.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests;
