// SPDX-License-Identifier: ISC
//! A jail is proved before it changes: it is made beside the one that there is, and a command is run in it.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::trace::{self, Probe};
use crate::chroot::build::{self, Request};
use crate::chroot::place::{Home, Place};
use crate::chroot::state::State;
use crate::chroot::{Chroot, Locking, recorded, register, remove};
use crate::error::{ErrorKind, Result};
use crate::recipe::Recipe;
use crate::sys;
use crate::watch::Watch;

/// What the name of a root ends with that is only there for a probe; its process follows.
const MARK: &str = ".probe-";

/// The recipe that `request` builds, if it has a probe and the build would change something.
///
/// # Errors
/// As the build.
pub fn due(home: &Home, request: &Request, watch: &Watch) -> Result<Option<Recipe>> {
    let place = Place::find(home, &request.name)?;
    let state = State::open(home, &place)?;
    // Nothing of what it is to be is looked at before it is clear that there is a probe.
    if state.is_none() && request.recipe.is_none() && request.given.is_none() {
        return Ok(None);
    }
    let recipe = recorded::recipe(state.as_ref(), request)?;
    if recipe.closure.as_ref().is_none_or(|closure| closure.probe.is_empty()) {
        return Ok(None);
    }
    let plan = build::build(home, &Request { dry_run: true, ..request.clone() }, watch)?.plan;
    Ok((!plan.is_empty()).then_some(recipe))
}

/// Builds what `recipe` says beside the root `name`, runs `argv` in it as its first account, and removes it. `aside`: what
/// it says goes to standard error.
///
/// # Errors
/// As building and tracing.
pub fn run(
    home: &Home,
    name: &Path,
    recipe: Recipe,
    (argv, aside): (&[Vec<u8>], bool),
    watch: &Watch,
) -> Result<Probe> {
    // It is the first thing that is made there, perhaps.
    home.open()?;
    let mut beside = Place::find(home, name.as_os_str())?.root.into_os_string();
    beside.push(MARK);
    sweep(home, &beside)?;
    beside.push(std::process::id().to_string());
    let user = recipe.closure.as_ref().and_then(|closure| closure.users.first().cloned());
    let request = Request { name: beside.clone(), given: Some(recipe), wait: true, ..Request::default() };
    build::build(home, &request, watch)?;
    let probed = run_in(home, &PathBuf::from(&beside), user.as_deref(), (argv, aside), watch);
    remove::remove(home, &beside, false, true, &Watch::default())?;
    probed
}

/// Removes what probes left that were killed: jails of this name with the number of a process that is no more.
fn sweep(home: &Home, beginning: &OsStr) -> Result<()> {
    let of_probe = |root: &OsString| {
        let number = root.as_encoded_bytes().strip_prefix(beginning.as_encoded_bytes());
        let number = number.filter(|text| text.iter().all(u8::is_ascii_digit));
        number.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).is_some_and(|pid| !sys::lives(pid))
    };
    for root in register::all(home)?.into_iter().filter(of_probe) {
        let place = Place::find(home, &root)?;
        let recipe = State::open(home, &place)?.map(|state| recorded::remembered(&state)).transpose()?.flatten();
        if recipe.is_none_or(|recipe| recipe.closure.is_none()) {
            continue;
        }
        match remove::remove(home, &root, false, false, &Watch::default()) {
            Err(error) if matches!(error.kind(), ErrorKind::Locked | ErrorKind::Refused | ErrorKind::NotFound) => {}
            removed => drop(removed?),
        }
    }
    Ok(())
}

fn run_in(home: &Home, root: &Path, user: Option<&str>, command: (&[Vec<u8>], bool), watch: &Watch) -> Result<Probe> {
    let locking = Locking { shared: true, wait: true, verb: "jail" };
    let chroot = Chroot::open(home, root.as_os_str(), locking)?;
    trace::probe(home.calls, &chroot.root, user, command, watch)
}
