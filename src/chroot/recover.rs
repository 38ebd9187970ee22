// SPDX-License-Identifier: ISC
//! What an interrupted command left: finished or undone, never guessed.
#![forbid(unsafe_code)]

use std::ffi::OsStr;

use super::areas::Areas;
use super::carry::NEW;
use super::identity::{self, IDENTITY};
use super::layers;
use super::patch::store;
use super::place::{Home, Place, bytes};
use super::remove::{OLD, forget};
use super::state::State;
use super::work::Work;
use super::{record, recorded};
use crate::apply::{self, Recovered, remove_tree};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::Dir;
use crate::watch::Watch;

/// What an interrupted command had left.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Nothing,
    /// Work that had changed nothing yet; it is forgotten.
    Discarded,
    /// A change that is complete now.
    Finished,
    /// A change that is taken back, and why.
    TurnedBack(String),
}

/// Finishes or takes back what an interrupted command left in the chroot that the user calls `name`.
///
/// # Errors
/// If neither can be done, naming what is in the way.
pub fn recover(home: &Home, name: &OsStr, wait: bool, watch: &Watch) -> Result<Outcome> {
    let place = Place::find(home, name)?;
    let unknown = || Error::new(ErrorKind::NotFound, "there is no record of such a chroot").at(bytes(&place.root));
    let state = State::open(home, &place)?.ok_or_else(unknown)?;
    let _lock = state.lock(false, wait, "recover").map_err(|e| e.at(bytes(&place.root)))?;
    let outcome = settle(home, &place, &state, watch)?;
    if state.read(IDENTITY)?.is_none() {
        // Nothing came of it, or it was removed.
        state.vacate()?;
    }
    Ok(outcome)
}

/// Settles what an earlier command left in the state of `place`. Needs the lock, alone.
pub(crate) fn settle(home: &Home, place: &Place, state: &State, watch: &Watch) -> Result<Outcome> {
    if state.dir.find(OLD.as_bytes()).on("stat", bytes(&state.path))?.is_some() {
        forget(home, place, state, &Watch::default())?;
        return Ok(Outcome::Finished);
    }
    let mut outcome = Outcome::Nothing;
    match Dir::open(&place.root, home.calls) {
        Ok(_) if layers::base_of(state)?.is_some() && !layers::is_disturbed(state)? => {}
        Ok(root) => {
            let front = layers::front(home, place, state)?;
            let (root, place) = match &front {
                Some(front) => {
                    (front.dir(home.calls).on("open", bytes(&place.root))?, &Place { beside: false, ..place.clone() })
                }
                None => (root, place),
            };
            let areas = Areas::left(place, state, &root)?;
            areas.settle()?;
            if state.has_journal() {
                outcome = replay(state, &areas, &root, watch).map_err(|e| e.at(bytes(&place.root)))?;
            }
            areas.clear(state)?;
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("open", bytes(&place.root), &e)),
        // What it was, or shall be, is in the journal alone: perhaps it was only moved away.
        Err(_) if state.has_journal() => return Err(half_changed(place)),
        Err(_) => Work::new(place, state, None)?.clear(&Watch::default())?,
    }
    // Prepared files count only if their root was renamed in; a journal would have promoted them itself.
    if renamed_in(home, place, state)? {
        recorded::promote(state)?;
        outcome = Outcome::Finished;
    }
    state.forget_unfinished()?;
    record::clear(state)?;
    if state.read(IDENTITY)?.is_none() {
        layers::clear(state)?;
    }
    if state.dir.find(NEW.as_bytes()).on("stat", bytes(&state.path))?.is_some() {
        remove_tree(&state.dir, NEW.as_bytes(), &Watch::default())?;
        outcome = if outcome == Outcome::Nothing { Outcome::Discarded } else { outcome };
    }
    Ok(outcome)
}

/// A change was interrupted and its root is gone.
fn half_changed(place: &Place) -> Error {
    let shown = escape(bytes(&place.root));
    Error::new(ErrorKind::Interrupted, "a change of it was interrupted, and now it is gone")
        .at(bytes(&place.root))
        .hint(format!("move it back and run: stockade recover {shown}; or give it up with: stockade remove {shown}"))
}

/// Finishes or takes back what the journal says.
fn replay(state: &State, areas: &Areas<'_>, root: &Dir, watch: &Watch) -> Result<Outcome> {
    if !areas.exist()? {
        let reason = "another directory is in the place of the one that was being changed";
        let hint = "move that one back, then run `stockade recover`";
        return Err(Error::new(ErrorKind::Interrupted, reason).hint(hint));
    }
    let finish = || store::disarm(root).and_then(|()| recorded::promote(state));
    Ok(match apply::recover(&areas.target()?, &state.dir, &finish, watch)? {
        Recovered::Nothing => Outcome::Nothing,
        Recovered::Discarded => Outcome::Discarded,
        Recovered::Finished => Outcome::Finished,
        Recovered::TurnedBack(why) => Outcome::TurnedBack(why.map(|e| e.to_string()).unwrap_or_default()),
    })
}

/// Is the root the prepared one?
fn renamed_in(home: &Home, place: &Place, state: &State) -> Result<bool> {
    let Ok(root) = Dir::open(&place.root, home.calls) else { return Ok(false) };
    let (Some(_), Some(next)) = (state.read(recorded::RENAMING)?, state.read("identity.next")?) else {
        return Ok(false);
    };
    identity::is(&next, &root).on("stat", bytes(&place.root))
}
