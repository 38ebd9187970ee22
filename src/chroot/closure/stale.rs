// SPDX-License-Identifier: ISC
//! What of a jail is no longer what the host has. The plan of a build that changes nothing, with the packages' versions.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::versions;
use crate::chroot::build::{self, Request};
use crate::chroot::place::{Home, Place, bytes};
use crate::chroot::state::State;
use crate::chroot::{recorded, register};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::plan::{Action, Change};
use crate::sys::Dir;
use crate::watch::Watch;

/// A path that is not as the host has it.
#[derive(Debug)]
pub struct Stale {
    /// From the jail (before) to the host (after).
    pub change: Change,
    /// The package that it is of.
    pub package: Option<String>,
    /// That package's version when the jail was built.
    pub jail: Option<String>,
    /// Its version now.
    pub host: Option<String>,
}

/// The chroots that have a closure.
///
/// # Errors
/// If the register cannot be read.
pub fn jails(home: &Home) -> Result<Vec<PathBuf>> {
    let mut jails = Vec::new();
    for root in register::all(home)? {
        // One whose record cannot be read is `list`'s to show.
        let state = Place::find(home, &root).and_then(|place| State::open(home, &place));
        let recipe = state.ok().flatten().map(|state| recorded::remembered(&state));
        if recipe.is_some_and(|recipe| recipe.is_ok_and(|recipe| recipe.is_some_and(|r| r.closure.is_some()))) {
            jails.push(PathBuf::from(root));
        }
    }
    Ok(jails)
}

/// What is stale in the jail that the user calls `name`.
///
/// # Errors
/// [`ErrorKind::Refused`] for a chroot without closure; as a build: a library that is gone is one.
pub fn look(home: &Home, name: &OsStr, wait: bool, watch: &Watch) -> Result<Vec<Stale>> {
    let place = Place::find(home, name)?;
    let none = || Error::new(ErrorKind::NotFound, "there is no such jail").at(bytes(&place.root));
    let state = State::open(home, &place)?.ok_or_else(none)?;
    if recorded::remembered(&state)?.is_none_or(|recipe| recipe.closure.is_none()) {
        let error = Error::new(ErrorKind::Refused, "it is no jail: nothing in it follows the host");
        return Err(error.at(bytes(&place.root)).hint("compare it with its record: stockade check"));
    }
    let request = Request { name: name.to_owned(), dry_run: true, wait, ..Request::default() };
    let report = build::build(home, &request, watch)?;
    let changes: Vec<Change> = report.plan.changes.into_iter().filter(|c| c.action() != Action::Touch).collect();
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let root = Dir::open(std::path::Path::new("/"), home.calls).on("open", "/")?.crossing();
    let paths: HashSet<&[u8]> = changes.iter().map(|change| change.path.as_bytes()).collect();
    let (now, mut was) = (versions::of(&root, &paths)?, versions::read(&state)?);
    let stale = |change: Change| {
        let (jail, host) = (was.remove(&change.path), now.get(&change.path).cloned());
        let package = host.as_ref().or(jail.as_ref()).map(|(name, _)| name.clone());
        Stale { package, jail: jail.map(|(_, version)| version), host: host.map(|(_, version)| version), change }
    };
    Ok(changes.into_iter().map(stale).collect())
}
