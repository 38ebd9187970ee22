// SPDX-License-Identifier: ISC
//! A jail is proved before it changes: it is made beside the one that there is, and a command is run in it.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::trace::{self, Probe};
use crate::chroot::build::{self, Request};
use crate::chroot::place::{Home, Place};
use crate::chroot::state::State;
use crate::chroot::{Chroot, Locking, recorded, remove};
use crate::error::Result;
use crate::recipe::Recipe;
use crate::watch::Watch;

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

/// Builds what `recipe` says beside the root `name`, runs `argv` in it as its first account, and removes it.
///
/// # Errors
/// As building and tracing.
pub fn run(home: &Home, name: &Path, recipe: Recipe, argv: &[Vec<u8>], watch: &Watch) -> Result<Probe> {
    let mut beside = name.as_os_str().to_owned();
    beside.push(format!(".probe-{}", std::process::id()));
    let user = recipe.closure.as_ref().and_then(|closure| closure.users.first().cloned());
    let request = Request { name: beside.clone(), given: Some(recipe), wait: true, ..Request::default() };
    build::build(home, &request, watch)?;
    let probed = run_in(home, &PathBuf::from(&beside), user.as_deref(), argv);
    remove::remove(home, &beside, false, true, &Watch::default())?;
    probed
}

fn run_in(home: &Home, root: &Path, user: Option<&str>, argv: &[Vec<u8>]) -> Result<Probe> {
    let locking = Locking { shared: true, wait: true, verb: "jail" };
    let chroot = Chroot::open(home, root.as_os_str(), locking)?;
    trace::probe(home.calls, &chroot.root, user, argv)
}
