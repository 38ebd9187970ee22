// SPDX-License-Identifier: ISC
//! What makes use of a directory tree: processes whose root it is, and mounts below it.

use std::fmt;

use crate::path::escape;

/// Something that lives in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// A process that has the directory, or one below it, as its root.
    Process(Process),
    /// A mount below it: where, and in whose namespace if not in ours.
    Mount(Vec<u8>, Option<Process>),
}

/// A process, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name that the kernel has for it.
    pub name: Vec<u8>,
}

/// A process, and the files that it has mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The process.
    pub process: Process,
    /// The paths that the files had.
    pub paths: Vec<Vec<u8>>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", escape(&self.name), self.pid)
    }
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Occupant::Process(process) => write!(f, "{process}"),
            Occupant::Mount(target, None) => f.write_str(&escape(target)),
            Occupant::Mount(target, Some(seen)) => write!(f, "{} as seen by {seen}", escape(target)),
        }
    }
}

/// Processes, as people name them.
pub fn processes(list: &[Process]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Is the absolute path `path` below `root`?
pub(super) fn is_below(path: &[u8], root: &[u8]) -> bool {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    path.strip_prefix(root).is_some_and(|rest| rest.first() == Some(&b'/') && rest.len() > 1)
}
