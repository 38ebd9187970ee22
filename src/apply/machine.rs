// SPDX-License-Identifier: ISC
//! The machine that carries out the steps of a plan on a live tree, forwards or back.
//!
//! Every file that comes has a number in the directory of what comes *in*, every file that goes gets the same number
//! in the directory of what goes *out*. A file has come when its number *in* is gone, and has left when its number *out*
//! is there: so each step can be taken again after a crash without guessing, and turning back is the same machine with
//! before and after, in and out exchanged.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::sys::{Dir, FileType, Stat, effective_uid};
use crate::tree::{Kind, Node};
use crate::watch::Watch;

use super::Target;
use super::body;
use super::meta::{Attributes, hold, matches, release, same_type, settle};
use super::parents::{Parents, mounted};
use super::shards::{Place, Shards};
use super::stage::Slot;
use super::steps::{Step, is_leaf, removal};

/// Under which circumstances the steps are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// For the first time: nothing is done yet.
    First,
    /// After a crash: some steps are done.
    Again,
    /// Back to where it began: most of the steps were never taken.
    Back,
}

/// What is to be done, and with what.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) target: &'a Target,
    pub(super) plan: &'a Plan,
    /// By change.
    pub(super) slots: &'a [Slot],
    /// By area.
    pub(super) incoming: Vec<Shards>,
    pub(super) outgoing: Vec<Shards>,
    pub(super) pass: Pass,
}

pub(super) struct Machine<'a> {
    job: &'a Job<'a>,
    /// By area.
    parents: Vec<Parents<'a>>,
    mounts: Vec<u64>,
    /// Files that were put back with other content than they had: somebody held them open and wrote.
    written: Vec<TreePath>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Result<Machine<'a>> {
        let areas = &job.target.areas;
        let mounts = areas.iter().map(|area| Ok(area.root.stat_self().on("stat", &area.at)?.mount));
        let parents = areas.iter().map(|area| Parents::new(&area.root)).collect();
        Ok(Machine { job, parents, mounts: mounts.collect::<Result<_>>()?, written: Vec::new() })
    }

    /// Takes all steps. Forwards the first error ends it; on the way back everything that can be put back is, and the
    /// first error is returned at the end. Returns the files that somebody wrote to while they were set aside.
    pub(super) fn run(mut self, steps: &[Step], watch: &Watch) -> Result<Vec<TreePath>> {
        let mut failed = Ok(());
        for step in steps {
            let done = self.take(step);
            if self.job.pass == Pass::Back {
                failed = failed.and(done);
            } else {
                done?;
                watch.count(1, 0)?;
            }
        }
        failed.map(|()| self.written)
    }

    fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Unlock(index) => self.unlock(*index),
            Step::TakeOut(index) => self.take_out(*index),
            Step::MakeDir(index) => self.make_dir(*index),
            Step::Retype(index, below) => self.retype(*index, below),
            Step::Place(index) => self.place(*index),
            Step::RemoveDir(index) => self.remove_dir(*index),
            Step::Settle(index) => self.settle(*index),
            Step::SettleDir(index) => self.settle_dir(*index),
            Step::Hold(index) => self.hold(*index),
        }
    }

    fn unlock(&mut self, index: usize) -> Result<()> {
        // Whatever is in the way of this one, or was never made, the step that needs the directory finds too.
        let Ok(at) = self.spot(index) else { return Ok(()) };
        match at.find()? {
            Some(stat) if stat.kind == FileType::Dir => {
                release(&at.dir, &at.name, &stat).on("chflags", &at.change.path)?;
                let locked = stat.mode & 0o700 != 0o700 && effective_uid() != 0;
                if locked { at.dir.set_mode(&at.name, stat.mode | 0o700).on("chmod", &at.change.path) } else { Ok(()) }
            }
            Some(stat) => release(&at.dir, &at.name, &stat).on("chflags", &at.change.path),
            None => Ok(()),
        }
    }

    /// Keeps the old file by a second name in *out*, and renames the new one over it.
    fn place(&mut self, index: usize) -> Result<()> {
        let job = self.job;
        let (new, out) = job.places(index);
        let path = &job.plan.changes[index].path;
        let Some(coming) = new.dir.find(&new.name).on("stat", path)? else { return Ok(()) };
        let at = self.spot(index)?;
        match (at.find()?, at.change.before.as_ref().filter(|n| !n.kind.is_dir())) {
            // A rename that was cut in two, or between two names of one inode, which does nothing.
            (Some(now), _) if now.ino == coming.ino => return new.dir.unlink(&new.name).on("unlink", path),
            // On the way back nothing has to be kept, so that it needs no space.
            (Some(now), Some(_)) if job.pass == Pass::Back && at.is_before(&now, job.pass)? => {}
            (Some(now), Some(before)) if job.pass != Pass::Back => at.keep(&now, before, &out)?,
            (None, Some(_)) if job.pass == Pass::Back => {}
            (None, None) => {}
            _ => return Err(at.conflict()),
        }
        if job.pass == Pass::Back && !at.is_as_set_aside(&coming, &new)? {
            // What was written to it is somebody's work: it goes back, and is told of.
            self.written.push(path.clone());
        }
        new.dir.rename(&new.name, &at.dir, &at.name).on("rename", path)
    }

    /// Moves a file out.
    fn take_out(&mut self, index: usize) -> Result<()> {
        let job = self.job;
        let (_, out) = job.places(index);
        if out.dir.find(&out.name).on("stat", &job.plan.changes[index].path)?.is_some() {
            return Ok(());
        }
        let Some((at, now)) = self.leaving(index)? else {
            return if job.pass == Pass::Back { Ok(()) } else { Err(conflict(&job.plan.changes[index])) };
        };
        if now.kind == FileType::Dir || !at.is_before(&now, job.pass)? {
            return Err(at.conflict());
        }
        let path = &at.change.path;
        at.dir.rename(&at.name, out.dir, &out.name).on("rename", path)?;
        let moved = out.dir.stat(&out.name).on("stat", path)?;
        if moved.ino != now.ino {
            // Something else took its place in between; a directory may even have carried mounts along.
            out.dir.rename(&out.name, &at.dir, &at.name).on("rename", path)?;
            return Err(at.conflict());
        }
        Ok(())
    }

    fn make_dir(&mut self, index: usize) -> Result<()> {
        let at = self.spot(index)?;
        match at.find()? {
            // Nobody but its owner enters before it has its own mode and its contents.
            None => at.dir.make_dir(&at.name, 0o700).on("mkdir", &at.change.path),
            Some(stat) if stat.kind == FileType::Dir && self.job.pass != Pass::First => Ok(()),
            Some(_) => Err(at.conflict()),
        }
    }

    /// Never moves a directory: mounts below it would go along (decision E3).
    fn retype(&mut self, index: usize, below: &[usize]) -> Result<()> {
        let job = self.job;
        let (new, _) = job.places(index);
        if new.dir.find(&new.name).on("stat", &job.plan.changes[index].path)?.is_none() {
            return Ok(());
        }
        for &inner in below.iter().rev() {
            self.take(&removal(job.plan, inner))?;
        }
        self.remove_dir(index)?;
        self.place(index)
    }

    fn remove_dir(&mut self, index: usize) -> Result<()> {
        let Some((at, now)) = self.leaving(index)? else {
            let first = self.job.pass == Pass::First;
            return if first { Err(conflict(&self.job.plan.changes[index])) } else { Ok(()) };
        };
        if now.kind != FileType::Dir {
            return Err(at.conflict());
        }
        at.dir.remove_dir(&at.name).map_err(|error| match error.kind() {
            std::io::ErrorKind::DirectoryNotEmpty => {
                Error::new(ErrorKind::Refused, "something was put into it meanwhile").at(&at.change.path)
            }
            std::io::ErrorKind::ResourceBusy => mounted(&at.change.path),
            _ => Error::io("rmdir", &at.change.path, &error),
        })
    }

    fn settle(&mut self, index: usize) -> Result<()> {
        let at = self.spot(index)?;
        let (Some(now), Some(before), Some(after)) = (at.find()?, &at.change.before, &at.change.after) else {
            return Err(at.conflict());
        };
        if !same_type(now.kind, &after.kind) {
            return Err(at.conflict());
        }
        settle(&at.dir, &at.name, after, attributes(before, after), self.job.target.owners)
    }

    fn settle_dir(&mut self, index: usize) -> Result<()> {
        let at = self.spot(index)?;
        let (Some(now), Some(after)) = (at.find()?, &at.change.after) else { return Err(at.conflict()) };
        if now.kind != FileType::Dir {
            return Err(at.conflict());
        }
        let attributes = match &at.change.before {
            Some(before) if before.kind.is_dir() => attributes(before, after),
            // It may have inherited an ACL.
            _ => Attributes::Exact,
        };
        settle(&at.dir, &at.name, after, attributes, self.job.target.owners)
    }

    fn hold(&mut self, index: usize) -> Result<()> {
        let at = self.spot(index)?;
        let Some(after) = &at.change.after else { return Err(at.conflict()) };
        hold(&at.dir, &at.name, after)
    }

    /// An entry that is to go, or none if it, or its directory, has gone already.
    fn leaving(&mut self, index: usize) -> Result<Option<(Spot<'a>, Stat)>> {
        match self.spot(index) {
            Ok(at) => Ok(at.find()?.map(|now| (at, now))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reaches the directory of a change, without leaving its area.
    fn spot(&mut self, index: usize) -> Result<Spot<'a>> {
        let change = &self.job.plan.changes[index];
        let (area, rest) = self.job.target.locate(&change.path)?;
        let (dir, name) = self.parents[area].of(&rest)?;
        Ok(Spot { dir, name: name.to_vec(), change, mount: self.mounts[area] })
    }
}

impl Job<'_> {
    /// Where the file of a change comes from, and where the old one goes.
    fn places(&self, index: usize) -> (Place<'_>, Place<'_>) {
        // A path that has no area fails when it is reached.
        let area = self.target.locate(&self.plan.changes[index].path).map_or(0, |(area, _)| area);
        let slot = self.slots[index].0;
        (self.incoming[area].place(slot), self.outgoing[area].place(slot))
    }
}

/// The place of a change in the tree.
struct Spot<'a> {
    dir: std::sync::Arc<Dir>,
    name: Vec<u8>,
    change: &'a Change,
    mount: u64,
}

impl Spot<'_> {
    /// What is there now; a mount point is an error.
    fn find(&self) -> Result<Option<Stat>> {
        let found = self.dir.find(&self.name).on("stat", &self.change.path)?;
        match found {
            Some(stat) if stat.mount != self.mount => Err(mounted(&self.change.path)),
            found => Ok(found),
        }
    }

    /// Is it what has to go? On the way back, a file of several names may have joined an inode that stayed, and whose
    /// own time is set last or put back already.
    fn is_before(&self, now: &Stat, pass: Pass) -> Result<bool> {
        match &self.change.before {
            Some(Node { kind: kind @ Kind::File { size, .. }, .. }) if pass == Pass::Back && now.links > 1 => {
                Ok(same_type(now.kind, kind) && *size == now.size)
            }
            Some(before) => matches(now, &self.dir, &self.name, before).on("readlink", &self.change.path),
            None => Ok(false),
        }
    }

    /// Does a file that was set aside hold what it held then? Whoever had it open may have written to it since
    /// (decision E2).
    fn is_as_set_aside(&self, coming: &Stat, kept: &Place<'_>) -> Result<bool> {
        let (path, Some(was)) = (&self.change.path, &self.change.after) else { return Ok(true) };
        match was.digest() {
            Some(digest) if coming.size == was.size() => {
                let mut file = kept.dir.open_file(&kept.name).on("open", path)?;
                // Nothing stops the way back.
                let job = body::Job { path, limit: was.size(), watch: &Watch::default() };
                Ok(body::hash(&mut file, &job)?.1 == digest)
            }
            Some(_) => Ok(false),
            // Another name of the inode may have moved its time.
            None if coming.links > 1 => Ok(coming.size == was.size()),
            None => matches(coming, kept.dir, &kept.name, was).on("readlink", path),
        }
    }

    /// Gives the inode `now` its second name, unless it has it. What is kept is looked at again: it is this inode, and
    /// no other, that will be replaced.
    fn keep(&self, now: &Stat, before: &Node, out: &Place<'_>) -> Result<()> {
        let path = &self.change.path;
        if now.kind == FileType::Dir {
            return Err(self.conflict());
        }
        let kept = out.dir.find(&out.name).on("stat", path)?;
        if kept.is_none() {
            self.dir.link(&self.name, out.dir, &out.name).on("link", path)?;
        }
        let linked = out.dir.stat(&out.name).on("stat", path)?;
        let right = matches(&linked, out.dir, &out.name, before).on("readlink", path)?;
        if right && linked.ino == now.ino {
            return Ok(());
        }
        if kept.is_none() {
            out.dir.unlink(&out.name).on("unlink", path)?;
        }
        Err(self.conflict())
    }

    fn conflict(&self) -> Error {
        conflict(self.change)
    }
}

/// Somebody else was at the path.
pub(super) fn conflict(change: &Change) -> Error {
    let reason = if is_leaf(&change.before) || change.before.is_some() {
        "it changed after it was looked at"
    } else {
        "something is there that was not when it was looked at"
    };
    Error::new(ErrorKind::Refused, reason).at(&change.path).hint("run the command again when nothing writes there")
}

fn attributes(before: &Node, after: &Node) -> Attributes {
    if before.meta.xattrs == after.meta.xattrs { Attributes::Leave } else { Attributes::Exact }
}
