// SPDX-License-Identifier: ISC
//! `record`: what commands change in a chroot, exactly.
//!
//! The tree before / the tree after / what was written, or the live tree. Two ways lead to the same plan: an overlay in
//! front of the root, of which only what was written is looked at; or two scans, where there is none.
#![forbid(unsafe_code)]

mod bundle;
pub mod errata;
mod inspect;
mod keep;
mod layer;
mod omit;
mod seen;
mod upper;

use std::cell::Cell;
use std::ffi::OsString;

use super::login::ACCOUNT_FILES;
use super::needs::{View, refuse_unmet};
use super::open::{Chroot, Locking};
use super::place::{Home, bytes};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::accounts::Accounts;
use crate::path::escape;
use crate::plan::Plan;
use crate::session::{self, Command, Entry, Options, Outcome, Session, ledger};
use crate::sys::{self, Dir};
use crate::tree::Kind;
use crate::tree::diff::diff;
use crate::watch::Watch;

use layer::Layer;
pub(crate) use layer::clear;
pub use omit::LeftOut;
use omit::Rules;
use seen::Seen;

/// What the user asks of `record`.
#[derive(Debug, Clone)]
pub struct Request {
    /// The chroot.
    pub root: OsString,
    /// Compare two scans, although there may be an overlay.
    pub scan: bool,
    /// The changes are not to become part of the chroot.
    pub discard: bool,
    /// Wait for the lock.
    pub wait: bool,
}

/// A chroot whose changes are being recorded. End it with [`Recording::end`], however it went.
#[derive(Debug)]
pub struct Recording {
    /// The chroot, as it was.
    pub chroot: Chroot,
    /// Why there is no overlay.
    pub scanned: Option<String>,
    means: Means,
    /// Did a command run?
    ran: Cell<bool>,
}

#[derive(Debug)]
enum Means {
    Overlay(Layer),
    Scan(Box<seen::Before>),
}

impl Means {
    /// An overlay if there can be one; else two scans, and why.
    fn find(chroot: &Chroot, request: &Request, watch: &Watch) -> Result<(Means, Option<String>)> {
        let layer = match request.scan {
            true => Err(Error::new(ErrorKind::Unsupported, "a scan was asked for")),
            false => layer::refuse_mounts(&chroot.place.root).and_then(|()| Layer::make(chroot)),
        };
        match layer {
            Ok(layer) => Ok((Means::Overlay(layer), None)),
            Err(why) if why.kind() != ErrorKind::Unsupported => Err(why),
            Err(why) if request.discard => {
                let reason = format!("without an overlay it changes the chroot itself: {}", why.reason());
                let error = Error::new(ErrorKind::Unsupported, reason).at(bytes(&chroot.place.root));
                Err(error.hint("record it in a clone: stockade clone ROOT NEW"))
            }
            Err(why) => {
                chroot.attach()?;
                let before = Box::new(seen::Before::of(chroot, watch)?);
                Ok((Means::Scan(before), Some(why.reason().to_owned())))
            }
        }
    }
}

/// What was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// All changes: what becomes of the chroot.
    pub all: Plan,
    /// The changes that make a patch.
    pub plan: Plan,
    /// How many of all are not in `plan`, by rule.
    pub left_out: LeftOut,
    seen: Seen,
}

impl Recorded {
    /// Accounts and groups that came, and what of them cannot be told so.
    pub fn accounts(&self) -> &Accounts {
        &self.seen.accounts
    }

    /// Was a kernel left out, which is linked anew at boot?
    pub fn has_kernel(&self) -> bool {
        self.left_out.contains_key(omit::KERNELS.0)
    }

    /// Did nothing change that a patch could bring?
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.accounts().is_empty()
    }
}

impl Recording {
    /// Opens the chroot and begins. Call it from the main thread: this thread, and what it starts, then finds the overlay
    /// at the chroot's path.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if clones by overlay would change with it, or something is mounted below it;
    /// [`ErrorKind::Unsupported`] to discard what only a scan can record; whatever looking at it says.
    pub fn begin(home: &Home, request: &Request, watch: &Watch) -> Result<Recording> {
        let locking = Locking { shared: false, wait: request.wait, verb: "record" };
        let chroot = Chroot::open(home, &request.root, locking)?;
        chroot.refuse_frozen(home)?;
        session::refuse_occupied(&chroot.place.root)?;
        let (means, scanned) = Means::find(&chroot, request, watch)?;
        Ok(Recording { chroot, scanned, means, ran: Cell::new(false) })
    }

    /// A session whose changes are recorded.
    ///
    /// # Errors
    /// As [`session::prepare`].
    pub fn session(&self, command: &Command, options: &Options) -> Result<Session> {
        let root = self.view().try_clone().on("dup", bytes(&self.chroot.place.root))?;
        session::prepare(&self.chroot.place.root, root, command, options)
    }

    /// Runs it. Call it from the main thread.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run(&self, session: Session, options: &Options) -> Result<Outcome> {
        let ledger = self.chroot.ledger()?;
        let (line, listed) = ledger::enter(&ledger, &Entry::new(&session, options))?;
        let lock = self.chroot.lock.try_clone().on("dup", "lock")?;
        self.ran.set(true);
        let outcome = session.run(vec![lock, listed]);
        drop(line);
        outcome
    }

    /// What the sessions so far have changed.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a private key among the changes, and for a program that needs a library which is not
    /// there, unless `incomplete`; whatever looking at it says.
    pub fn look(&self, incomplete: bool, watch: &Watch) -> Result<Recorded> {
        let view = self.view();
        let seen = match &self.means {
            Means::Overlay(layer) => Seen::through(layer, &self.chroot.root, watch)?,
            Means::Scan(before) => before.compare(&self.chroot, watch)?,
        };
        let mut all = diff(&seen.before, &seen.after);
        // It is of no use without the process that listened on it.
        all.changes.retain(|change| change.after.as_ref().is_none_or(|after| after.kind != Kind::Socket));
        let (plan, left_out) = Rules::new(&self.chroot.recipe()?, view)?.apply(&seen, &all)?;
        let recorded = Recorded { all, plan, left_out, seen };
        let programs = inspect::refuse_keys(&recorded.plan, view, watch)?;
        if !incomplete {
            refuse_unmet(&programs, &View::now(view), None, "record all the same")?;
        }
        Ok(recorded)
    }

    /// The release that the chroot says it is of: `7.8`, or `12` of a Debian; empty if it does not.
    ///
    /// # Errors
    /// As read(2).
    pub fn release(&self) -> Result<String> {
        crate::chroot::release::of(&self.chroot.root, self.chroot.said_release().as_deref())
    }

    /// The system of the chroot, and what that calls the machine: `amd64` is `x86_64` to another.
    ///
    /// # Errors
    /// As getdents(2).
    pub fn system(&self) -> Result<(String, String)> {
        crate::chroot::release::system(&self.chroot.root, self.chroot.said_release().as_deref())
    }

    /// The root as the commands see it.
    fn view(&self) -> &Dir {
        match &self.means {
            Means::Overlay(layer) => &layer.view,
            Means::Scan(_) => &self.chroot.root,
        }
    }

    /// Ends the recording. What was written in front of the chroot is gone then.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn end(self) -> Result<()> {
        match self.means {
            Means::Overlay(layer) => {
                sys::detach(&self.chroot.place.root).on("umount", bytes(&self.chroot.place.root))?;
                drop(layer);
                clear(&self.chroot.state)
            }
            Means::Scan(_) => Ok(()),
        }
    }

    /// How to get back what a failed recording changed; none if it changed nothing.
    pub fn way_back(&self) -> Option<String> {
        let root = escape(bytes(&self.chroot.place.root));
        (self.ran.get() && matches!(self.means, Means::Scan(_)))
            .then(|| format!("what it changed stays; go back with: stockade reset {root}"))
    }
}
