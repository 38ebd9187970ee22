// SPDX-License-Identifier: ISC
//! [`commit`] changes a live tree, [`recover`] finishes or takes back what an earlier command left half done.
#![forbid(unsafe_code)]

use std::io::Write;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::Plan;
use crate::sys::{Calls, Dir, effective_uid};
use crate::tree::Kind;
use crate::watch::Watch;

use super::journal::{self, BACK, FORWARD, NEW};
use super::machine::{Job, Machine, Pass};
use super::prepare::Prepared;
use super::remove::remove_tree;
use super::shards::Shards;
use super::stage::STAGE;
use super::steps::steps;
use super::{Area, Target};

/// Where replaced and removed files wait until the change is done.
const UNDO: &[u8] = b"undo";
/// Space that is given back before a change is taken back, which may need a little.
const RESERVE: &[u8] = b"reserve";
pub(super) const RESERVE_BYTES: usize = 256 * 1024;

/// How many files a message names.
const MAX_NAMED: usize = 5;

/// What [`recover`] found.
#[derive(Debug)]
pub enum Recovered {
    /// Nothing was left behind.
    Nothing,
    /// A change that had not begun was forgotten.
    Discarded,
    /// The change is done.
    Finished,
    /// The change is taken back: for the reason given, or because that was under way. The reason also names files that
    /// could not become what they were, because somebody wrote to them meanwhile.
    TurnedBack(Option<Error>),
}

/// Carries out a prepared plan on a live tree: all of it, or nothing.
///
/// The caller holds the lock of `state`, where the journal goes. `finish` runs when the tree is complete and durable,
/// and writes down what it is now; it runs again if the machine stops before the journal is gone, so it must do no
/// harm the second time.
///
/// # Errors
/// What went wrong; the tree is as it was before, and the stage is gone. [`ErrorKind::Interrupted`] if even taking
/// back failed, or what follows a change that is made: then [`recover`] has to be run.
pub fn commit(
    target: &Target,
    state: &Dir,
    prepared: &Prepared,
    finish: &dyn Fn() -> Result<()>,
    watch: &Watch,
) -> Result<()> {
    watch.begin("applying", prepared.plan.changes.len() as u64);
    begin(target, state, prepared).map_err(|error| {
        // The journal must be gone for good before the stage is: without its files they would count as in place.
        let forgotten = journal::forget(state, FORWARD).and_then(|()| clear(target, state));
        match forgotten {
            Ok(_) => error,
            Err(second) => stuck(&error, &second),
        }
    })?;
    let change = Change { target, state, prepared, watch };
    change.forward(Pass::First, finish)?.map_or(Ok(()), Err)
}

/// Finishes or takes back what an interrupted command left behind. The caller holds the lock of `state`; `finish` is
/// as for [`commit`].
///
/// # Errors
/// [`ErrorKind::BadInput`] if the journal is not ours or of another root; [`ErrorKind::Interrupted`] if the change can
/// neither be finished nor be taken back, naming what is in the way.
pub fn recover(target: &Target, state: &Dir, finish: &dyn Fn() -> Result<()>, watch: &Watch) -> Result<Recovered> {
    if let Some(prepared) = journal::read(state, BACK, target)? {
        let written = Change { target, state, prepared: &prepared, watch }.go_back()?;
        return Ok(Recovered::TurnedBack(written));
    }
    if let Some(prepared) = journal::read(state, FORWARD, target)? {
        let change = Change { target, state, prepared: &prepared, watch };
        let failed = change.forward(Pass::Again, finish)?;
        return Ok(failed.map_or(Recovered::Finished, |error| Recovered::TurnedBack(Some(error))));
    }
    Ok(if clear(target, state)? { Recovered::Discarded } else { Recovered::Nothing })
}

/// Forgets what is staged. Returns whether there was anything. Never while a journal stands.
///
/// # Errors
/// What the system says.
pub fn discard(target: &Target) -> Result<bool> {
    let mut found = false;
    for Area { work, .. } in &target.areas {
        for name in [RESERVE, STAGE, UNDO] {
            found |= work.find(name).on("stat", name)?.is_some();
            // Not the caller's watch: a Ctrl-C shall not leave what it wants to be rid of.
            remove_tree(work, name, &Watch::default())?;
        }
    }
    Ok(found)
}

/// As [`discard`], and forgets a journal that was not finished.
fn clear(target: &Target, state: &Dir) -> Result<bool> {
    journal::remove(state, NEW)?;
    discard(target)
}

/// A change whose journal stands.
struct Change<'a> {
    target: &'a Target,
    state: &'a Dir,
    prepared: &'a Prepared,
    watch: &'a Watch,
}

impl Change<'_> {
    /// Goes on to the end, or back if that fails; then the reason is returned.
    fn forward(&self, pass: Pass, finish: &dyn Fn() -> Result<()>) -> Result<Option<Error>> {
        let done = self.drive(&self.prepared.plan, pass).and_then(|_| self.sync());
        if let Err(reason) = done {
            for area in &self.target.areas {
                // If even that fails, there may still be space enough.
                let _ = journal::remove(&area.work, RESERVE);
            }
            let back = journal::rename(self.state, FORWARD, BACK).and_then(|()| self.go_back());
            return match back {
                Ok(None) => Ok(Some(reason)),
                Ok(Some(written)) => Ok(Some(Error::new(reason.kind(), format!("{reason}; and {written}")))),
                Err(error) => Err(stuck(&reason, &error)),
            };
        }
        finish().and_then(|()| self.end(FORWARD)).map_err(|error| {
            let reason = format!("the change is made, but not what follows it: {error}");
            Error::new(ErrorKind::Interrupted, reason).hint("mend that and run `stockade recover`")
        })?;
        Ok(None)
    }

    /// Puts everything back, in the same order of steps, with before and after exchanged. Returns what cannot be what it
    /// was: files that were written to meanwhile.
    fn go_back(&self) -> Result<Option<Error>> {
        let mut reversed = self.prepared.plan.clone().reversed();
        for node in reversed.changes.iter_mut().filter_map(|change| change.before.as_mut()) {
            // Whatever stamp a wanted node has, it is of no inode that was put here.
            node.here = None;
        }
        let files = self.drive(&reversed, Pass::Back)?;
        self.sync()?;
        self.end(BACK)?;
        Ok(written(&files))
    }

    fn drive(&self, plan: &Plan, pass: Pass) -> Result<Vec<TreePath>> {
        let open = |name: &'static [u8]| -> Result<Vec<Shards>> {
            self.target.areas.iter().map(|area| Shards::make(&area.work, name).on("mkdir", name)).collect()
        };
        let (incoming, outgoing) = if pass == Pass::Back { (UNDO, STAGE) } else { (STAGE, UNDO) };
        let (incoming, outgoing) = (open(incoming)?, open(outgoing)?);
        let job = Job { target: self.target, plan, slots: &self.prepared.slots, incoming, outgoing, pass };
        Machine::new(&job)?.run(&steps(plan, effective_uid() != 0), self.watch)
    }

    fn sync(&self) -> Result<()> {
        sync(self.target)
    }

    /// The change is durable: forget the journal first, then what turning back would have needed.
    fn end(&self, phase: &[u8]) -> Result<()> {
        journal::forget(self.state, phase)?;
        clear(self.target, self.state).map(|_| ())
    }
}

/// Everything up to the moment from which the change goes forward.
fn begin(target: &Target, state: &Dir, prepared: &Prepared) -> Result<()> {
    for Area { work, .. } in &target.areas {
        journal::remove(work, RESERVE)?;
        let mut reserve = work.create_file(RESERVE, 0o600).on("create", RESERVE)?;
        // Not zeros: a filesystem may store those as nothing.
        reserve.write_all(&[0xa5; RESERVE_BYTES]).on("write", RESERVE)?;
        Shards::make(work, UNDO).on("mkdir", UNDO)?;
    }
    sync_bodies(target, prepared)?;
    sync(target)?;
    journal::write(state, target, prepared)
}

/// Makes what was written to every area durable.
fn sync(target: &Target) -> Result<()> {
    for area in &target.areas {
        if !area.root.space().on("statfs", &area.at)?.volatile {
            area.root.sync_filesystem().on("syncfs", &area.at)?;
        }
    }
    Ok(())
}

/// Where a whole filesystem cannot be synced at once, each staged file is.
fn sync_bodies(target: &Target, prepared: &Prepared) -> Result<()> {
    let files = prepared.plan.changes.iter().zip(&prepared.slots);
    for (change, slot) in files.filter(|(c, _)| c.replace) {
        let (index, _) = target.locate(&change.path)?;
        let area = &target.areas[index];
        let is_file = change.after.as_ref().is_some_and(|n| matches!(n.kind, Kind::File { .. }));
        if is_file && area.work.calls() == Calls::Portable && !area.work.space().on("statfs", &area.at)?.volatile {
            let stage = Shards::make(&area.work, STAGE).on("mkdir", STAGE)?;
            let place = stage.place(slot.0);
            let file = place.dir.open_file(&place.name).on("open", &change.path)?;
            file.sync_all().on("fsync", &change.path)?;
        }
    }
    Ok(())
}

/// Says which files were written to while they were set aside.
fn written(files: &[TreePath]) -> Option<Error> {
    let named: Vec<String> = files.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = files.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let reason = format!("written to while set aside, and put back with that: {}{more}", named.join(", "));
    (!files.is_empty()).then(|| Error::new(ErrorKind::Refused, reason))
}

/// Neither forward nor back.
fn stuck(reason: &Error, error: &Error) -> Error {
    let text = format!("{reason}; and what was done so far could not be taken back: {error}");
    Error::new(ErrorKind::Interrupted, text).hint("mend that and run `stockade recover`")
}
