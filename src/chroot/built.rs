// SPDX-License-Identifier: ISC
//! What the last build was made of: the recipe's key, the archives' stamps, the actions' inputs. State file `built`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::bytes;
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::{Dir, FileType, Stat};
use crate::tree::Digest;

/// The state file's name.
const BUILT: &str = "built";

/// What the last build was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Built {
    /// Key of all that decides the wanted tree, if archives alone do: while it is the same, what was recorded is what
    /// is wanted.
    pub(crate) key: Option<String>,
    /// Each archive's stamp and digest when it was read.
    pub(crate) archives: BTreeMap<PathBuf, Seen>,
    /// Each action's input key when it ran.
    pub(crate) actions: BTreeMap<String, String>,
}

/// The stamp and digest of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    /// Size, mtime, ctime and inode.
    stamp: (u64, (i64, u32), (i64, u32), u64),
    /// SHA-256, in hexadecimal.
    sha256: String,
}

impl Seen {
    pub(crate) fn new(stat: &Stat, digest: Digest) -> Seen {
        Seen { stamp: stamp(stat), sha256: digest.to_string() }
    }

    /// The digest, if `stat` proves that the archive was not touched.
    pub(crate) fn proves(&self, stat: &Stat) -> Option<Digest> {
        (self.stamp == stamp(stat)).then(|| Digest::from_hex(self.sha256.as_bytes())).flatten()
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
    let file = std::fs::File::open(path).on("open", bytes(path))?;
    let stat = dir.stat_file(&file).on("stat", bytes(path))?;
    if stat.kind != FileType::File {
        return Err(Error::new(ErrorKind::Refused, "an archive must be a regular file").at(bytes(path)));
    }
    Ok(stat)
}
