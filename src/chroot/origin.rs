// SPDX-License-Identifier: ISC
//! Where a clone comes from. State file `origin`: how it was made, a space, the absolute path of its base.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::place::bytes;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};

/// The state file's name.
pub(crate) const ORIGIN: &str = "origin";

/// How a clone is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The filesystem shares all of it until one of both is written to.
    Snapshot,
    /// Every file shares its blocks with that of the base until one of them is written to.
    Reflink,
    /// What is written to it lies in front of the base.
    Overlay,
    /// Every file is a further name of the base's own.
    Link,
    /// Every file is copied.
    Copy,
}

impl How {
    const ALL: [How; 5] = [How::Snapshot, How::Reflink, How::Overlay, How::Link, How::Copy];

    /// The word for it, as `--how` takes it.
    pub fn word(self) -> &'static str {
        match self {
            How::Snapshot => "snapshot",
            How::Reflink => "reflink",
            How::Overlay => "overlay",
            How::Link => "link",
            How::Copy => "copy",
        }
    }
}

/// Where a clone comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Absolute path of the base.
    pub base: PathBuf,
    /// How it was made.
    pub how: How,
}

impl Origin {
    /// Reads it from the state; none for a chroot that is no clone.
    pub(crate) fn read(state: &State) -> Result<Option<Origin>> {
        let Some(text) = state.read(ORIGIN)? else { return Ok(None) };
        let damaged = || Error::new(ErrorKind::BadInput, "the record is damaged").at(bytes(&state.path.join(ORIGIN)));
        let split = text.iter().position(|&b| b == b' ').ok_or_else(damaged)?;
        let how = How::ALL.into_iter().find(|how| how.word().as_bytes() == &text[..split]).ok_or_else(damaged)?;
        Ok(Some(Origin { base: PathBuf::from(OsString::from_vec(text[split + 1..].to_vec())), how }))
    }

    /// Its text.
    pub(crate) fn text(&self) -> Vec<u8> {
        [self.how.word().as_bytes(), b" ", bytes(&self.base)].concat()
    }
}
