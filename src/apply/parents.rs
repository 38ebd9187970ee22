// SPDX-License-Identifier: ISC
//! [`Parents`]: the directories that hold the paths one works on, kept open while neighbours follow.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::sys::{Dir, is_no_directory};

/// More directories than this are not held open at once; a deeper one is reached from the root again.
const LIMIT: usize = 32;

/// Opens the directory of one path after another. In tree order each directory is opened about once.
#[derive(Debug)]
pub(super) struct Parents<'a> {
    root: &'a Arc<Dir>,
    open: Vec<(TreePath, Arc<Dir>)>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a Arc<Dir>) -> Parents<'a> {
        Parents { root, open: Vec::new() }
    }

    /// The directory that holds `path`, and the name of `path` in it. The root is `.` in itself.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if a symlink, a file or another mount is in the way.
    pub(super) fn of<'p>(&mut self, path: &'p TreePath) -> Result<(Arc<Dir>, &'p [u8])> {
        let name = if path.is_root() { b"." } else { path.name() };
        let parent = path.parent_bytes().unwrap_or_default();
        while self.open.last().is_some_and(|(at, _)| !leads_to(at.as_bytes(), parent)) {
            self.open.pop();
        }
        let known = self.open.last().map_or(&[][..], |(at, _)| at.as_bytes());
        if known != parent {
            let parent = TreePath::new(parent)?;
            let rest = self.open.last().map_or(Some(parent.clone()), |(at, _)| parent.strip(at)).unwrap_or_default();
            let dir = self.open.last().map_or(self.root, |(_, dir)| dir).walk(&rest);
            let dir = dir.map_err(|error| in_the_way(&error, &parent))?;
            if self.open.len() == LIMIT {
                self.open.remove(0);
            }
            self.open.push((parent, Arc::new(dir)));
        }
        Ok((Arc::clone(self.open.last().map_or(self.root, |(_, dir)| dir)), name))
    }
}

/// Is `at` the directory `path` or one above it?
fn leads_to(at: &[u8], path: &[u8]) -> bool {
    path.starts_with(at) && (path.len() == at.len() || path[at.len()] == b'/')
}

/// Why a directory could not be reached.
pub(super) fn in_the_way(error: &std::io::Error, path: &TreePath) -> Error {
    if is_no_directory(error) {
        let reason = "a symbolic link or a file is where a directory must be; nothing is written through it";
        return Error::new(ErrorKind::Refused, reason).at(path);
    }
    if error.kind() == std::io::ErrorKind::CrossesDevices {
        return mounted(path);
    }
    Error::io("open", path, error)
}

/// The refusal to cross a mount.
pub(super) fn mounted(path: &TreePath) -> Error {
    Error::new(ErrorKind::Refused, "a filesystem is mounted here or above it; mounts are not crossed")
        .at(path)
        .hint("unmount it, or name the path under `keep`")
}
