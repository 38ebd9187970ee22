// SPDX-License-Identifier: ISC
//! `patch undo`: the plan that was carried out, with before and after exchanged; contents = what was set aside.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::Seek;
use std::path::PathBuf;

use super::change::Change;
use super::follow::{self, After, Followed};
use super::store::{self, Installed, Undo};
use super::target::Root;
use super::undoing::Undoing;
use super::{look, record};
use crate::apply::{Body, Slot, Stage, Target};
use crate::chroot::areas::{self, Areas};
use crate::chroot::open::Locking;
use crate::chroot::place::Home;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::resolve::{Here, Ids, OnConflict, Why, resolve};
use crate::patch::{self, Contents, Head};
use crate::path::TreePath;
use crate::plan::{self, Plan};
use crate::sys::{Dir, FileType, Mapping};
use crate::tree::diff::diff;
use crate::tree::{Digest, Meta, Tree};
use crate::watch::Watch;

/// Which patches are undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that was applied last.
    Last,
    /// This one.
    Name(String),
    /// All that were applied after this one, and it.
    To(String),
}

/// What the user asks of `patch undo`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Take the word of the root for what was there before, where the host has none.
    pub trust_root: bool,
    /// Only plan.
    pub dry_run: bool,
    /// Wait for the lock.
    pub wait: bool,
}

/// One patch that is undone, or would be.
#[derive(Debug)]
pub struct Undone {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// Its name.
    pub name: String,
    /// The changes.
    pub plan: Plan,
    /// What was noticed; conflicts: nothing was changed.
    pub noted: Vec<(TreePath, Why)>,
    /// Processes that still run what was replaced.
    pub in_use: Vec<Mapping>,
    /// What was done afterwards, or is left to do.
    pub followed: Vec<Followed>,
}

impl Undone {
    /// Was it in the way that something had changed?
    pub fn has_conflicts(&self) -> bool {
        self.noted.iter().any(|(_, why)| matches!(why, Why::Conflict(_)))
    }
}

/// Undoes patches of the root that the user calls `name`, the last applied first. Stops at the first that cannot be
/// undone: those before it, and the error. What was kept is verified of all before the first is touched.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such patch; [`ErrorKind::Refused`] if a later one touched the same paths, or if
/// nothing was kept.
pub fn undo(
    home: &Home,
    name: &OsStr,
    which: &Which,
    options: Options,
    watch: &Watch,
) -> Result<(Vec<Undone>, Option<Error>)> {
    let locking = Locking { shared: options.dry_run, wait: options.wait, verb: "patch undo" };
    let root = Root::open(home, name, locking)?;
    let installed = store::installed(&root.dir, root.state.as_ref())?;
    let names = chosen(&installed, which)?;
    for patch in installed.iter().filter(|patch| names.contains(&patch.contents.head.name)) {
        verified(&root, patch, options)?;
    }
    let (mut undone, mut done): (Vec<Undone>, _) = (Vec::new(), Undoing::default());
    let mut followed = if options.dry_run { Vec::new() } else { follow::catch_up(&root, watch)? };
    for name in names {
        match undo_one(&root, &name, (options, watch), (&undone, &done)) {
            Err(error) if undone.is_empty() => return Err(error),
            Err(error) => return Ok((undone, Some(error))),
            Ok(mut one) => {
                one.followed.splice(0..0, followed.drain(..));
                if options.dry_run {
                    done.add(&one.plan);
                }
                undone.push(one);
            }
        }
        if undone.last().is_some_and(Undone::has_conflicts) {
            break;
        }
    }
    Ok((undone, None))
}

/// Undoes the patch `name`, after those in `undone`.
fn undo_one(
    root: &Root,
    name: &str,
    (options, watch): (Options, &Watch),
    (undone, done): (&[Undone], &Undoing),
) -> Result<Undone> {
    // What is undone is gone from the list, and in no other's way.
    let installed = store::installed(&root.dir, root.state.as_ref())?;
    let gone = |patch: &&Installed| !undone.iter().any(|done| done.name == patch.contents.head.name);
    let installed: Vec<&Installed> = installed.iter().filter(gone).collect();
    let patch = installed.iter().find(|patch| patch.contents.head.name == name).ok_or_else(|| no_patch(name))?;
    may_be_undone(patch, &installed)?;
    Job { root, patch, options, done, watch }.undo()
}

/// The names of the patches to undo, in that order.
fn chosen(installed: &[Installed], which: &Which) -> Result<Vec<String>> {
    let latest: Vec<&Installed> = installed.iter().rev().collect();
    let name = |patch: &&Installed| patch.contents.head.name.clone();
    let find = |wanted: &str| latest.iter().position(|patch| patch.contents.head.name == *wanted);
    match which {
        Which::Last => latest.first().map(|patch| vec![name(patch)]).ok_or_else(|| no_patch("the last one")),
        Which::Name(wanted) => find(wanted).map(|at| vec![name(&latest[at])]).ok_or_else(|| no_patch(wanted)),
        Which::To(wanted) => {
            find(wanted).map(|at| latest[..=at].iter().map(name).collect()).ok_or_else(|| no_patch(wanted))
        }
    }
}

/// The root does not list the patch `name`.
pub(super) fn no_patch(name: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, "no such patch is listed there").at(name);
    error.hint("see which there are: stockade patch list")
}

/// Refuses a patch whose paths a later one touched (decision 8).
fn may_be_undone(patch: &Installed, installed: &[&Installed]) -> Result<()> {
    let touches_it = |other: &&&Installed| {
        let requires = other.contents.head.requires.iter().any(|(_, digest)| *digest == patch.digest);
        let touches = || {
            other
                .contents
                .entries
                .iter()
                .any(|e| e.change.action() != plan::Action::Touch && is_changed(patch, &e.change.path))
        };
        requires || touches()
    };
    match installed.iter().skip_while(|other| other.digest != patch.digest).skip(1).find(touches_it) {
        None => Ok(()),
        Some(later) => {
            let (name, own) = (&later.contents.head.name, &patch.contents.head.name);
            let error = Error::new(ErrorKind::Refused, format!("{name} came after it and touches the same")).at(own);
            Err(error.hint(format!("undo that, too: stockade patch undo --to {own}")))
        }
    }
}

fn is_changed(patch: &Installed, path: &TreePath) -> bool {
    patch.contents.get(path).is_some_and(|entry| entry.change.action() != plan::Action::Touch)
}

/// What undoes a patch, if it is what the host noted: what runs inside may have changed it.
fn verified<'a>(root: &Root, patch: &'a Installed, options: Options) -> Result<&'a Undo> {
    let name = &patch.contents.head.name;
    let undo = patch.undo.as_ref().ok_or_else(|| nothing_kept(name))?;
    let (kept, _) = store::kept(&root.dir, name).map_err(|error| error.at(name))?;
    let unverified = |why: &'static str| Error::new(ErrorKind::Unverified, why).at(name);
    match root.state.as_ref().map(|state| record::noted(state, name)).transpose()?.flatten() {
        Some(noted) if noted.undo == kept && noted.contents == patch.digest => Ok(undo),
        Some(_) => Err(unverified("what was kept to undo it was changed since")
            .hint("give up undoing it: stockade patch forget NAME")),
        None if options.trust_root => Ok(undo),
        None => Err(unverified("it was applied by another host, which alone knows what was kept")
            .hint("take the word of the root: --trust-root")),
    }
}

struct Job<'a> {
    root: &'a Root,
    patch: &'a Installed,
    options: Options,
    /// What a dry run made of the root so far.
    done: &'a Undoing,
    watch: &'a Watch,
}

impl Job<'_> {
    fn undo(&self) -> Result<Undone> {
        let name = &self.patch.contents.head.name;
        let undo = verified(self.root, self.patch, self.options)?;
        let reversed = reversed(name, undo);
        let home = patch::store(name)?;
        let mut paths = look::paths(&reversed);
        paths.push(home.clone());
        let below = areas::below(&self.root.place, &paths)?;
        let roots = areas::roots(&self.root.dir, &below)?;
        let here = self.done.tree(look::look(&roots, &paths, self.watch)?)?;
        let ids = Ids::default();
        let names = |path: &TreePath| Ok(self.done.names(path, look::names(&self.root.dir, path)?));
        let left = |_: &TreePath| Vec::new();
        let view = Here { tree: &here, ids: &ids, names: &names, left: &left };
        let resolved = resolve(&reversed, &view, OnConflict::Refuse)?;
        let plan = diff(&here, &resolved.want);
        let (in_use, followed) = (Vec::new(), Vec::new());
        let root = self.root.place.root.clone();
        let mut undone = Undone { root, name: name.clone(), plan, noted: resolved.noted, in_use, followed };
        if undone.has_conflicts() {
            return Ok(undone);
        }
        let change = |here| Change { root: self.root, roots: &roots, here, made: Cell::new(false), watch: self.watch };
        change(&here).check(&undone.plan)?;
        if self.options.dry_run {
            return Ok(undone);
        }
        // The list forgets it in the same step, and goes with the last.
        let unused = self.unused(undo, &home)?;
        let here = look::look(&roots, &[paths, self.stored(&home)?].concat(), self.watch)?;
        let stays =
            resolved.want.nodes().iter().filter(|node| !node.path.is_within(&home) && !unused.contains(&node.path));
        let want = Tree::new(stays.cloned().collect())?;
        let change = change(&here);
        let after = After { root: self.root, contents: &self.patch.contents, restart: false };
        after.commit(&change, || change.within(|work| self.restore(undo, &change, &want, work)))?;
        record::forget(self.root, name)?;
        undone.in_use = follow::in_use(&undone.plan);
        undone.followed = after.follow(self.watch)?;
        Ok(undone)
    }

    /// Directories that were made for the list, and hold nothing but this patch.
    fn unused(&self, undo: &Undo, home: &TreePath) -> Result<Vec<TreePath>> {
        let mut unused = vec![home.clone()];
        for above in home.ancestors() {
            let names = look::names(&self.root.dir, &above)?;
            if !undo.made.contains(&above) || !names.iter().all(|name| unused.contains(name)) {
                break;
            }
            unused.push(above);
        }
        Ok(unused)
    }

    /// Everything in the patch's own directory.
    fn stored(&self, home: &TreePath) -> Result<Vec<TreePath>> {
        let mut found = look::names(&self.root.dir, home)?;
        for path in found.clone() {
            found.extend(look::names(&self.root.dir, &path)?);
        }
        Ok(found)
    }

    fn restore(&self, undo: &Undo, change: &Change<'_>, want: &Tree, work: &Areas<'_>) -> Result<()> {
        let (target, stages) = (work.target()?, work.stages()?);
        let kept = self.kept(undo)?;
        let mut bring = |change: &plan::Change| self.bring(change, &kept, &target, &stages);
        let plan = diff(change.here, want);
        let record = record::next(self.root, &plan, None)?;
        change.carry_out(plan, &mut bring, record, (&target, &stages))
    }

    /// The names of the files that were set aside, by digest.
    fn kept<'u>(&self, undo: &'u Undo) -> Result<Kept<'u>> {
        let name = &self.patch.contents.head.name;
        let dir = store::kept(&self.root.dir, name)?.1;
        let before = |(path, number): (&TreePath, &usize)| {
            let at = undo.plan.changes.binary_search_by(|change| change.path.cmp(path)).ok()?;
            Some((undo.plan.changes[at].before.as_ref()?.digest()?, kept_name(number)))
        };
        Ok(Kept { dir, own: &undo.kept, files: undo.kept.iter().filter_map(before).collect() })
    }

    /// Stages what was set aside; its digest is compared on the way. Where it is just as it was, itself: so it shares its
    /// inode again with names that the patch knew nothing of.
    fn bring(&self, change: &plan::Change, kept: &Kept<'_>, target: &Target, stages: &[&Stage]) -> Result<Slot> {
        let lost = || Error::new(ErrorKind::NotFound, "what was there before was not kept").at(&change.path);
        let node = change.after.as_ref().ok_or_else(lost)?;
        let own = kept.own.get(&change.path).map(kept_name);
        let name = own.or_else(|| kept.files.get(&node.digest()?).cloned()).ok_or_else(lost)?;
        let dir = kept.dir.as_ref().ok_or_else(lost)?;
        let mut file = dir.open_file(&name).on("open", &change.path)?;
        let stage = stages[target.locate(&change.path)?.0];
        if kept.own.contains_key(&change.path)
            && is_as(dir, &name, &node.meta).on("stat", &change.path)?
            && Some(patch::digest_of(&mut file).on("read", &change.path)?) == node.digest()
            && let Ok(slot) = stage.link(dir, &name)
        {
            return Ok(slot);
        }
        file.rewind().on("seek", &change.path)?;
        Ok(stage.file(node, Body::File(&file), self.watch)?.slot)
    }
}

struct Kept<'a> {
    dir: Option<Dir>,
    /// The number of the one that was at a path.
    own: &'a BTreeMap<TreePath, usize>,
    files: HashMap<Digest, Vec<u8>>,
}

/// What was changed, as a patch that changes it back.
fn reversed(name: &str, undo: &Undo) -> Contents {
    let mut contents = Contents::new(Head { name: name.to_owned(), ..Head::default() }, undo.plan.clone().reversed());
    // Nothing is merged on the way back.
    contents.entries.iter_mut().for_each(|entry| entry.base = false);
    contents
}

/// Its name among what was set aside.
fn kept_name(number: &usize) -> Vec<u8> {
    format!("{number:06}").into_bytes()
}

/// Has the file `name` just this metadata?
fn is_as(dir: &Dir, name: &[u8], meta: &Meta) -> std::io::Result<bool> {
    let stat = dir.stat(name)?;
    let xattrs = dir.xattrs(name, FileType::File)?;
    let same = (stat.mode, stat.uid, stat.gid, stat.mtime, stat.flags)
        == (meta.mode, meta.uid, meta.gid, meta.mtime, meta.flags);
    Ok(same && xattrs == meta.xattrs.as_deref().cloned().unwrap_or_default())
}

fn nothing_kept(name: &str) -> Error {
    let error = Error::new(ErrorKind::Refused, "nothing was kept that would undo it").at(name);
    error.hint("it was unpacked by tar, or applied with --no-undo, or forgotten")
}
