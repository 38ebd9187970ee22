// SPDX-License-Identifier: ISC
//! What an interrupted command left: finished or undone, never guessed.
#![forbid(unsafe_code)]

use std::ffi::OsStr;

use super::carry::NEW;
use super::identity;
use super::place::{Home, Place, bytes};
use super::recorded;
use super::remove::OLD;
use super::state::State;
use super::work::Work;
use crate::apply::{self, Recovered, remove_tree};
use crate::error::{Error, ErrorKind, IoContext, Result};
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
    settle(home, &place, &state, watch)
}

/// Settles what an earlier command left in the state of `place`. Needs the lock, alone.
pub(crate) fn settle(home: &Home, place: &Place, state: &State, watch: &Watch) -> Result<Outcome> {
    let mut outcome = Outcome::Nothing;
    match Dir::open(&place.root, home.calls) {
        Ok(root) => {
            let work = Work::new(place, state, Some(&root))?;
            if state.is_interrupted() {
                outcome = replay(state, &work, &root, watch)?;
            }
            work.clear(&Watch::default())?;
        }
        // What was planned for a root that is gone went with it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            apply::JOURNALS.iter().try_for_each(|name| state.discard(&String::from_utf8_lossy(name)))?;
            Work::new(place, state, None)?.clear(&Watch::default())?;
        }
        Err(e) => return Err(Error::io("open", bytes(&place.root), &e)),
    }
    // Prepared files count only if their root was renamed in; a journal would have promoted them itself.
    if renamed_in(home, place, state)? {
        recorded::promote(state)?;
        outcome = Outcome::Finished;
    }
    state.forget_unfinished()?;
    for left in [NEW, OLD] {
        if state.dir.find(left.as_bytes()).on("stat", bytes(&state.path))?.is_some() {
            remove_tree(&state.dir, left.as_bytes(), &Watch::default())?;
            outcome = if outcome == Outcome::Nothing { Outcome::Discarded } else { outcome };
        }
    }
    Ok(outcome)
}

/// Finishes or takes back what the journal says.
fn replay(state: &State, work: &Work<'_>, root: &Dir, watch: &Watch) -> Result<Outcome> {
    let promote = || recorded::promote(state);
    Ok(match apply::recover(&work.target(root)?, &state.dir, &promote, watch)? {
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
