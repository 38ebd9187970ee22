// SPDX-License-Identifier: ISC
//! [`Shards`]: a directory of numbered entries, spread over a few subdirectories.
//!
//! What is staged, and what is kept for turning back, never lies under a name from outside: a number steers nothing.
#![forbid(unsafe_code)]

use std::io;

use crate::sys::Dir;

/// How many subdirectories: enough that threads that create files side by side seldom wait for one directory.
const COUNT: u32 = 4;

/// How many directories the stage and the undo of an area take together.
pub(super) const DIRECTORIES: u64 = 2 * (1 + COUNT as u64);

/// The numbered entries of one area: `3/19` is number 19.
#[derive(Debug)]
pub(super) struct Shards {
    dirs: Vec<Dir>,
}

/// Where a number is kept.
pub(super) struct Place<'a> {
    pub(super) dir: &'a Dir,
    pub(super) name: Vec<u8>,
}

impl Shards {
    /// Makes the directory `name` in `work`, and its subdirectories where they are missing.
    pub(super) fn make(work: &Dir, name: &[u8]) -> io::Result<Shards> {
        let top = sure_dir(work, name)?;
        let dirs = (0..COUNT).map(|shard| sure_dir(&top, &number(shard))).collect::<io::Result<_>>()?;
        Ok(Shards { dirs })
    }

    /// The subdirectories.
    pub(super) fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// Directory and name of a number.
    pub(super) fn place(&self, slot: u32) -> Place<'_> {
        Place { dir: &self.dirs[(slot % COUNT) as usize], name: number(slot) }
    }
}

fn number(n: u32) -> Vec<u8> {
    n.to_string().into_bytes()
}

/// Opens the directory `name`, made private if it is missing.
fn sure_dir(parent: &Dir, name: &[u8]) -> io::Result<Dir> {
    match parent.open_dir(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            parent.make_dir(name, 0o700)?;
            parent.open_dir(name)
        }
        opened => opened,
    }
}
