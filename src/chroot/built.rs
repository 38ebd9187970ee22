// SPDX-License-Identifier: ISC
//! What the last build was made of: the recipe's key, the archives' stamps, the actions' inputs. State file `built`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::bytes;
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{self, Dir, Stat};
use crate::tree::Digest;

/// The state file's name.
pub(crate) const BUILT: &str = "built";

/// What the last build was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Built {
    /// Key of all that decides the wanted tree, if archives and directories alone do: while it is the same, what was recorded is what
    /// is wanted.
    pub(crate) key: Option<String>,
    /// Each archive as it was when it was read.
    pub(crate) archives: BTreeMap<PathBuf, Seen>,
    /// Each action's input key when it ran.
    pub(crate) actions: BTreeMap<String, String>,
    /// The root as it was when there was nothing to do for this key.
    pub(crate) root: Option<Untouched>,
}

/// A root in which everything is as wanted, and nothing was left against the recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Untouched {
    /// While it is the same, nobody has touched the root.
    pub(crate) fingerprint: Digest,
    /// Entries wanted.
    pub(crate) entries: usize,
}

/// An archive that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    /// Size, mtime, ctime and inode.
    stamp: (u64, (i64, u32), (i64, u32), u64),
    /// What its tree is cached under.
    tree: Digest,
    /// SHA-256 of the archive as it is stored, if it was verified by that.
    sha256: Option<Digest>,
}

impl Seen {
    pub(crate) fn new(stat: &Stat, tree: Digest, sha256: Option<Digest>) -> Seen {
        Seen { stamp: stamp(stat), tree, sha256 }
    }

    /// What its tree is cached under, if `stat` proves that the archive was not touched.
    pub(crate) fn proves_tree(&self, stat: &Stat) -> Option<Digest> {
        (self.stamp == stamp(stat)).then_some(self.tree)
    }

    /// Its checksum, if that is known and `stat` proves that the archive was not touched.
    pub(crate) fn proves_sha256(&self, stat: &Stat) -> Option<Digest> {
        self.sha256.filter(|_| self.stamp == stamp(stat))
    }
}

fn stamp(stat: &Stat) -> (u64, (i64, u32), (i64, u32), u64) {
    (stat.size, (stat.mtime.sec, stat.mtime.nsec), (stat.ctime.sec, stat.ctime.nsec), stat.ino)
}

impl Built {
    /// Reads it from the state; empty if there is none.
    pub(crate) fn read(state: &State) -> Result<Built> {
        let Some(text) = state.read(BUILT)? else { return Ok(Built::default()) };
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(ErrorKind::BadInput, e.to_string()).at(bytes(&state.path.join(BUILT))))
    }

    /// Writes it to the state file `name`.
    pub(crate) fn write(&self, state: &State, name: &str) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::new(ErrorKind::Usage, e.to_string()))?;
        state.write(name, &text)
    }
}

/// What the kernel says of the archive at `path`; links are followed.
pub(crate) fn stat_archive(path: &Path, dir: &Dir) -> Result<Stat> {
    let file = sys::open_regular(path).on("open", bytes(path))?;
    dir.stat_file(&file).on("stat", bytes(path))
}
