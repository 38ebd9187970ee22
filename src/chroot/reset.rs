// SPDX-License-Identifier: ISC
//! `reset`: back to the recorded manifest, touching only what differs.
//!
//! Scan of the root / the recorded manifest / the base, or the sources that the recipe remembers. Content is taken from
//! anywhere that has it: the recorded digest decides, not where a file comes from.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::PathBuf;

use super::build::may_remove;
use super::built::Built;
use super::carry::{Known, taking};
use super::compose::{Composer, Inputs};
use super::open::{Chroot, Locking};
use super::origin::Origin;
use super::place::{Home, bytes};
use super::proof::{prove_root, prove_wanted};
use super::work::Work;
use super::{actions, bodies, recorded};
use crate::apply::{self, Body, Slot};
use crate::error::{ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::recipe::Recipe;
use crate::sys::Dir;
use crate::tree::diff::diff;
use crate::tree::policy::{Left, Settled, settle};
use crate::tree::{Node, Policy, Tree, Unknown};
use crate::watch::Watch;

/// What the user asks of `reset`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Remove many entries without asking.
    pub yes: bool,
    /// Only plan.
    pub dry_run: bool,
    /// Wait for the lock.
    pub wait: bool,
}

/// What `reset` did, or would do.
#[derive(Debug)]
pub struct Report {
    /// Absolute path of the chroot.
    pub root: PathBuf,
    /// The changes.
    pub plan: Plan,
    /// Entries left as they are against the manifest.
    pub left: Vec<(TreePath, Left)>,
    /// Files whose content nobody has any more; they are left as they are.
    pub lost: Vec<TreePath>,
    /// Entries in the manifest.
    pub entries: usize,
}

/// Takes the chroot that the user calls `name` back to what was recorded. Kept and volatile paths stay as they are.
///
/// # Errors
/// [`ErrorKind::Refused`] for a removal that needs `yes`; whatever reading the sources or writing the root says. The
/// chroot is then as it was.
pub fn reset(home: &Home, name: &OsStr, options: Options, watch: &Watch) -> Result<Report> {
    let locking = Locking { shared: options.dry_run, wait: options.wait, verb: "reset" };
    let chroot = Chroot::open(home, name, locking)?;
    let job = Job { home, chroot: &chroot, recipe: chroot.recipe()?, built: Built::read(&chroot.state)? };
    let aim = job.look(watch)?;
    let (plan, left) = aim.plan(&HashSet::new())?;
    if options.dry_run {
        return Ok(job.report(&aim, plan, left));
    }
    chroot.refuse_frozen(home)?;
    if !options.yes {
        may_remove(&chroot.place, &plan, aim.have.len())?;
    }
    let work = Work::new(&chroot.place, &chroot.state, Some(&chroot.root))?;
    let done = job.carry_out(&aim, &plan, &work, watch);
    // Bodies that were not used are of no use; an interrupted commit needs them for its recovery.
    if !chroot.state.is_interrupted() {
        work.clear(&Watch::default())?;
    }
    done
}

/// Where the reset comes from and where it goes.
struct Aim {
    have: Tree,
    recorded: Tree,
    policy: Policy,
}

impl Aim {
    /// These paths, and all that share an inode with one of them: content that nobody has is lost for all its names.
    fn with_twins(&self, paths: HashSet<TreePath>) -> HashSet<TreePath> {
        let group = |path: &TreePath| self.recorded.get(path.as_bytes())?.group.clone();
        let groups: HashSet<TreePath> = paths.iter().filter_map(group).collect();
        let is_twin = |node: &&Node| node.group.as_ref().is_some_and(|group| groups.contains(group));
        let twins = self.recorded.nodes().iter().filter(is_twin).map(|node| node.path.clone());
        twins.chain(paths.iter().cloned()).collect()
    }

    /// The changes that are to be made, but for files whose content is `lost`.
    fn plan(&self, lost: &HashSet<TreePath>) -> Result<(Plan, Vec<(TreePath, Left)>)> {
        let Aim { have, recorded, policy } = self;
        let settled = if lost.is_empty() {
            settle(have, Some(recorded), recorded, policy)?
        } else {
            let mut policy = policy.clone();
            lost.iter().cloned().for_each(|path| policy.keep.insert(path));
            let there = |path: &TreePath| !lost.contains(path) || have.get(path.as_bytes()).is_some();
            let nodes = recorded.nodes().iter().filter(|node| there(&node.path));
            settle(have, Some(recorded), &Tree::new(nodes.cloned().collect())?, &policy)?
        };
        let Settled { want, left } = settled;
        Ok((diff(have, &want), left))
    }
}

/// One reset, once it is clear what it works on.
struct Job<'a> {
    home: &'a Home,
    chroot: &'a Chroot,
    recipe: Recipe,
    built: Built,
}

impl Job<'_> {
    /// The root as it is and as it was recorded, and what the recipe says of paths that are nobody's to judge.
    fn look(&self, watch: &Watch) -> Result<Aim> {
        let recorded = self.chroot.manifest()?;
        let scan = self.chroot.scan(watch)?;
        let mut policy = Policy { unknown: Unknown::Remove, ..self.chroot.policy()? };
        scan.mounts.into_iter().for_each(|path| policy.mounts.insert(path));
        let mut have = scan.tree;
        prove_root((&self.chroot.root, &mut have), Some(&recorded), &recorded, &policy, watch)?;
        Ok(Aim { have, recorded, policy })
    }

    fn carry_out(&self, aim: &Aim, wish: &Plan, work: &Work<'_>, watch: &Watch) -> Result<Report> {
        watch.begin("staging", wish.stats().bytes);
        let mut slots = self.take_from_base(wish, work, watch)?;
        slots.extend(self.take_from_sources(wish, &slots, aim, work, watch)?);
        let lost = aim.with_twins(missing(wish, &slots).map(|change| change.path.clone()).collect());
        let (plan, left) = aim.plan(&lost)?;
        if !plan.is_empty() {
            let record = self.apply(plan.clone(), slots, aim, work, watch)?;
            self.chroot.state.write_tree("manifest", &record)?;
            self.act(&plan, &aim.recorded)?;
        }
        let mut lost: Vec<TreePath> = lost.into_iter().collect();
        lost.sort();
        Ok(Report { lost, ..self.report(aim, plan, left) })
    }

    fn report(&self, aim: &Aim, plan: Plan, left: Vec<(TreePath, Left)>) -> Report {
        let root = self.chroot.place.root.clone();
        Report { root, plan, left, lost: Vec::new(), entries: aim.recorded.len() }
    }

    /// What the base still has. A clone by links has the same inode as its base: what was written through is not there.
    fn take_from_base(&self, plan: &Plan, work: &Work<'_>, watch: &Watch) -> Result<HashMap<TreePath, Slot>> {
        let mut slots = HashMap::new();
        let Some(origin) = Origin::read(&self.chroot.state)? else { return Ok(slots) };
        let Ok(base) = Dir::open(&origin.base, self.home.calls) else { return Ok(slots) };
        for change in missing(plan, &HashMap::new()) {
            watch.check()?;
            let Some(node) = &change.after else { continue };
            let Some(file) = open_as(&base, &change.path, node.size())? else { continue };
            match work.stage()?.file(node, Body::File(&file), watch) {
                Ok(staged) => drop(slots.insert(change.path.clone(), staged.slot)),
                // Another content: the base was edited, or brought up to date.
                Err(e) if matches!(e.kind(), ErrorKind::Unverified | ErrorKind::BadInput) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(slots)
    }

    /// What the sources of the recipe have of the rest.
    fn take_from_sources(
        &self,
        plan: &Plan,
        known: &HashMap<TreePath, Slot>,
        aim: &Aim,
        work: &Work<'_>,
        watch: &Watch,
    ) -> Result<HashMap<TreePath, Slot>> {
        let mut rest = Plan { changes: missing(plan, known).cloned().collect() };
        if rest.is_empty() || self.recipe.sources.is_empty() {
            return Ok(HashMap::new());
        }
        let (recipe, built, policy) = (&self.recipe, &self.built, &aim.policy);
        // Of a root that is not there yet: accounts made inside are not what was built.
        let inputs = Inputs { recipe, built, work, root: None, recorded: Some(&aim.recorded), policy };
        let mut wanted = match Composer::new(inputs, watch)?.compose() {
            Ok(wanted) => wanted,
            // A source that is gone, or no longer what it was, has nothing for us.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unverified) => return Ok(HashMap::new()),
            Err(e) => return Err(e),
        };
        prove_wanted(&mut wanted, Some(&aim.recorded), &aim.recorded, watch)?;
        rest.changes.retain(|change| {
            let has = wanted.tree.get(change.path.as_bytes()).and_then(|node| node.digest());
            has.is_some() && has == change.after.as_ref().and_then(|node| node.digest())
        });
        bodies::bring(&mut rest, &mut wanted, work, watch)
    }

    /// Carries the plan out. Returns the manifest with the stamps of what was put in place.
    fn apply(
        &self,
        plan: Plan,
        slots: HashMap<TreePath, Slot>,
        aim: &Aim,
        work: &Work<'_>,
        watch: &Watch,
    ) -> Result<Tree> {
        let (root, state) = (&self.chroot.root, &self.chroot.state);
        let target = work.target(root)?;
        let staged = |change: &Change| slots.contains_key(&change.path);
        if let Some(problem) = apply::check(&target, &plan, &staged)?.problems.into_iter().next() {
            return Err(problem.at(bytes(&self.chroot.place.root)));
        }
        let stages = std::slice::from_ref(work.stage()?);
        let prepared = apply::prepare(&target, stages, plan, &mut taking(slots), watch)?;
        watch.check()?;
        // The record stands already: it is what the root becomes.
        apply::commit(&target, &state.dir, &prepared, &|| Ok(()), watch)?;
        let (have, recorded) = (&aim.have, Some(&aim.recorded));
        let known = Known { have, recorded, left: &[], adopt: false, fingerprint: None };
        let mut record = recorded::tree(&aim.recorded, &known)?;
        let twins = twins(prepared.plan(), &aim.have, &record);
        recorded::stamp(root, &mut record, prepared.plan().paths().chain(&twins), watch)?;
        Ok(record)
    }

    /// Runs the actions whose inputs were put back: what they write is nobody's to judge, and may be of before.
    fn act(&self, plan: &Plan, tree: &Tree) -> Result<()> {
        let mut ran = self.built.actions.clone();
        ran.retain(|name, _| !actions::concerns(name, plan));
        let due = actions::due(&self.recipe, tree, &ran);
        if !due.is_empty() {
            self.chroot.attach()?;
        }
        for (name, _) in due {
            actions::run(&name, &self.chroot.place.root)?;
        }
        Ok(())
    }
}

/// Files that are as recorded, but lose another name of theirs: that moves their ctimes.
fn twins(plan: &Plan, have: &Tree, record: &Tree) -> Vec<TreePath> {
    let before = plan.changes.iter().filter_map(|change| change.before.as_ref());
    let groups: HashSet<&TreePath> = before.filter_map(|node| node.group.as_ref()).collect();
    let known = |path: &TreePath| record.get(path.as_bytes()).is_some_and(|node| node.here.is_some());
    let names = have.nodes().iter().filter(|node| node.group.as_ref().is_some_and(|group| groups.contains(group)));
    names.map(|node| node.path.clone()).filter(known).collect()
}

/// The changes that need a content which is not among `known`.
fn missing<'a>(plan: &'a Plan, known: &'a HashMap<TreePath, Slot>) -> impl Iterator<Item = &'a Change> {
    plan.changes.iter().filter(|change| change.needs_body() && !known.contains_key(&change.path))
}

/// Opens the file at `path` below `root`, if there is one of this size.
fn open_as(root: &Dir, path: &TreePath, size: u64) -> Result<Option<std::fs::File>> {
    let Ok(parent) = root.walk_parent(path) else { return Ok(None) };
    match parent.find(path.name()).on("stat", path)? {
        Some(stat) if stat.size == size => parent.open_regular(path.name()).on("open", path),
        _ => Ok(None),
    }
}
