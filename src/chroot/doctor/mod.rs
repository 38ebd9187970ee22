// SPDX-License-Identifier: ISC
//! `doctor`: looks at the machine and at a chroot for what will not work, and names the command that mends it.
#![forbid(unsafe_code)]

mod abilities;
mod apparmor;
mod doas;
pub mod hooks;
mod host;
mod place;
mod terminals;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;

pub(super) use place::reach;

use super::place::{Home, Place};
use crate::error::Result;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: a noun with its place.
    pub what: String,
    /// How it is, and what follows from that.
    pub why: String,
    /// The command that mends it.
    pub mend: Option<String>,
    /// Nothing to mend.
    pub ok: bool,
}

impl Finding {
    fn good(what: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding { what: what.into(), why: why.into(), mend: None, ok: true }
    }

    fn bad(what: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding { what: what.into(), why: why.into(), mend: None, ok: false }
    }

    fn mend(mut self, command: impl Into<String>) -> Finding {
        self.mend = Some(command.into());
        self
    }
}

/// Looks at the host and the stockade home, or, with `root`, at the host and that chroot.
///
/// The abilities of a filesystem are found out by trying, in a directory that is removed again.
///
/// # Errors
/// If the place cannot be looked at; what is wrong with it is a finding, not an error.
pub fn examine(home: &Home, root: Option<&OsStr>) -> Result<Vec<Finding>> {
    let mut findings = host::findings();
    match root {
        Some(name) => {
            findings.extend(doas::findings(&name.to_string_lossy()));
            findings.extend(place::of_chroot(home, &Place::find(home, name)?)?);
        }
        None => findings.extend(place::of_home(home)?),
    }
    Ok(findings)
}
