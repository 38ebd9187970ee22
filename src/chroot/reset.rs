// SPDX-License-Identifier: ISC
//! `reset`: back to the recorded manifest, touching only what differs.
//!
//! Scan of the root / the recorded manifest / the base, or the sources that the recipe remembers. Content is taken from
//! anywhere that has it: the recorded digest decides, not where a file comes from.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::PathBuf;

use super::actions::There;
use super::build::may_remove;
use super::built::{BUILT, Built};
use super::carry::taking;
use super::compose::{Composer, Inputs};
use super::open::{Chroot, Locking};
use super::origin::Origin;
use super::place::Home;
use super::proof::{prove_root, prove_wanted};
use super::work::Work;
use super::{actions, bodies, foreign, mirror, recorded};
use crate::apply::{self, Body, Slot};
use crate::error::{ErrorKind, IoContext, Result};
use crate::path::{PathSet, TreePath};
use crate::plan::{Change, Plan};
use crate::recipe::Recipe;
use crate::sys::Dir;
use crate::tree::diff::{diff, pairs};
use crate::tree::policy::{Left, Settled, settle};
use crate::tree::{Kind, Node, Policy, Tree, Unknown};
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
        may_remove(&chroot.place, &plan, aim.entries)?;
    }
    let work = Work::new(&chroot.place, &chroot.state, Some(&chroot.root))?;
    let done = job.carry_out(aim, (plan, left), &work, watch);
    // Bodies that were not used are of no use; an interrupted commit needs them for its recovery.
    if !chroot.state.is_interrupted() {
        work.clear(&Watch::default())?;
    }
    done
}

/// Where the reset comes from and where it goes.
struct Aim {
    /// What is there, without the files that are proved to be as recorded.
    have: Tree,
    /// What was recorded, without the same files.
    want: Tree,
    /// All that was recorded.
    recorded: Tree,
    /// How many entries there are.
    entries: usize,
    policy: Policy,
}

impl Aim {
    /// These paths, and all that share an inode with one of them: content that nobody has is lost for all its names.
    fn with_twins(&self, paths: HashSet<TreePath>) -> HashSet<TreePath> {
        let group = |path: &TreePath| self.want.get(path.as_bytes())?.group.clone();
        let groups: HashSet<TreePath> = paths.iter().filter_map(group).collect();
        let is_twin = |node: &&Node| node.group.as_ref().is_some_and(|group| groups.contains(group));
        let twins = self.want.nodes().iter().filter(is_twin).map(|node| node.path.clone());
        twins.chain(paths.iter().cloned()).collect()
    }

    /// The changes that are to be made, but for files whose content is `lost`.
    fn plan(&self, lost: &HashSet<TreePath>) -> Result<Decision> {
        let Aim { have, want, policy, .. } = self;
        let settled = if lost.is_empty() {
            settle(have, Some(want), want, policy)?
        } else {
            let mut policy = policy.clone();
            lost.iter().cloned().for_each(|path| policy.keep.insert(path));
            let there = |path: &TreePath| !lost.contains(path) || have.get(path.as_bytes()).is_some();
            let nodes = want.nodes().iter().filter(|node| there(&node.path));
            settle(have, Some(want), &Tree::new(nodes.cloned().collect())?, &policy)?
        };
        let Settled { want, mut left } = settled;
        // What is mounted stays: nothing else was promised.
        left.retain(|(_, why)| *why != Left::Mounted);
        Ok((diff(have, &want), left))
    }
}

/// The changes, and the entries that are left as they are.
type Decision = (Plan, Vec<(TreePath, Left)>);

/// Leaves out of both trees the files that their stamps prove to be as recorded: nothing is to be decided of them.
/// Directories stay, so that both are trees; files with several names too, for these belong together.
fn differing(have: Tree, recorded: &Tree) -> (Tree, Tree) {
    let proved = |(have, recorded): (Option<&Node>, Option<&Node>)| match (have, recorded) {
        (Some(have), Some(was)) => {
            let alone = have.group.is_none() && was.group.is_none();
            alone && have.here.is_some() && have.here == was.here && was.digest().is_some() && have.same(was)
        }
        _ => false,
    };
    let kept = |pair: &(Option<&Node>, Option<&Node>)| !proved(*pair);
    let (left, right): (Vec<_>, Vec<_>) = pairs(&have, recorded).filter(kept).unzip();
    let tree = |nodes: Vec<Option<&Node>>| Tree::from_sorted(nodes.into_iter().flatten().cloned().collect());
    (tree(left), tree(right))
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
        let scan = self.chroot.scan(&recorded, watch)?;
        let policy = self.chroot.policy()?;
        let mut policy = Policy { unknown: Unknown::Remove, edited: PathSet::default(), ..policy };
        scan.mounts.into_iter().for_each(|path| policy.mounts.insert(path));
        let entries = scan.tree.len();
        let (mut have, want) = differing(scan.tree, &recorded);
        prove_root((&self.chroot.root, &mut have), Some(&want), &want, &policy, watch)?;
        Ok(Aim { have, want, recorded, entries, policy })
    }

    fn carry_out(&self, mut aim: Aim, wish: Decision, work: &Work<'_>, watch: &Watch) -> Result<Report> {
        watch.begin("staging", wish.0.stats().bytes);
        let mut slots = self.take_from_base(&wish.0, work, watch)?;
        slots.extend(self.take_from_sources(&wish.0, &slots, &aim, work, watch)?);
        let lost = aim.with_twins(missing(&wish.0, &slots).map(|change| change.path.clone()).collect());
        let (plan, left) = if lost.is_empty() { wish } else { aim.plan(&lost)? };
        let mut built = self.built.clone();
        if !plan.is_empty() {
            // Those that do not come to run are due with the next reset or build.
            built.actions.retain(|name, _| !actions::concerns(name, &plan));
            built.write(&self.chroot.state, BUILT)?;
            self.apply(plan.clone(), slots, &mut aim, work, watch)?;
            self.chroot.state.write_tree("manifest", &aim.recorded)?;
        }
        let there = |path: &[u8]| [&aim.have, &aim.recorded].iter().any(|tree| tree.get(path).is_some());
        self.act(built, (&aim.recorded, &there), watch)?;
        let mut lost: Vec<TreePath> = lost.into_iter().collect();
        lost.sort();
        Ok(Report { lost, ..self.report(&aim, plan, left) })
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
        let recipe = &mirror::local(self.home, &self.recipe, watch)?;
        let (built, policy) = (&self.built, &aim.policy);
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

    /// Carries the plan out, and stamps what was recorded as it then is.
    fn apply(
        &self,
        plan: Plan,
        slots: HashMap<TreePath, Slot>,
        aim: &mut Aim,
        work: &Work<'_>,
        watch: &Watch,
    ) -> Result<()> {
        let (root, state) = (&self.chroot.root, &self.chroot.state);
        let target = work.target(root)?;
        let staged = |change: &Change| slots.contains_key(&change.path);
        apply::refuse(&target, &plan, &staged, &self.chroot.place.root)?;
        let prepared = apply::prepare(&target, &[work.stage()?], plan, &mut taking(slots), watch)?;
        watch.check()?;
        // The record stands already: it is what the root becomes.
        apply::commit(&target, &state.dir, &prepared, &|| Ok(()), watch)?;
        let Aim { have, want, recorded, .. } = aim;
        for node in want.nodes().iter().filter(|node| matches!(node.kind, Kind::File { .. })) {
            let is = have.get(node.path.as_bytes()).filter(|is| is.same(node) && is.digest().is_some());
            if let Some(node) = recorded.get_mut(node.path.as_bytes()) {
                node.here = is.and_then(|is| is.here);
            }
        }
        let twins = twins(prepared.plan(), have, recorded);
        recorded::stamp(root, recorded, prepared.plan().paths().chain(&twins), watch)
    }

    /// Runs the actions that are due: what they read was put back, and what they write is nobody's to judge, and may be
    /// of before.
    fn act(&self, mut built: Built, on: (&Tree, There<'_>), watch: &Watch) -> Result<()> {
        let due = foreign::due(&self.recipe, on, &built.actions);
        if !due.is_empty() {
            self.chroot.attach()?;
        }
        for (name, key) in due {
            let ran = actions::run((&name, key), &self.chroot.place.root, watch)?;
            built.actions.insert(name, ran);
            built.write(&self.chroot.state, BUILT)?;
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
