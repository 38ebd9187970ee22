// SPDX-License-Identifier: ISC
//! `patch apply`: have = a look at the patch's paths, want = what [`resolve`] makes of it, contents = the patch itself.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;

use super::bodies::Bodies;
use super::change::{Change, Store};
use super::enrol;
use super::follow::{self, After, Followed};
use super::links::Links;
use super::order::{Known, Order, order};
use super::store::{self, Undo};
use super::target::Root;
use super::{look, store::word};
use crate::apply::{Slot, Stage, Target};
use crate::chroot::areas;
use crate::chroot::needs::{View, refuse_unmet};
use crate::chroot::open::{Chroot, Locking};
use crate::chroot::place::Home;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::resolve::{Here, Ids, OnConflict, Resolved, Why, resolve};
use crate::patch::{Bundle, Contents, Member};
use crate::path::TreePath;
use crate::plan::{self, Plan};
use crate::select::packages::Owners;
use crate::sys::{Dir, Mapping};
use crate::tree::diff::diff;
use crate::tree::{Meta, Node, Tree};
use crate::watch::Watch;

/// What the user asks of `patch apply`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is done about paths that are not as the patch expects them.
    pub on_conflict: OnConflict,
    /// Numbers of the series that are passed over.
    pub skip: Vec<u32>,
    /// The release of the root, where it does not say.
    pub release: Option<String>,
    /// Apply it although something in it needs a library that is nowhere.
    pub allow_unmet: bool,
    /// Keep nothing that would undo it.
    pub no_undo: bool,
    /// Restart the services that the patch names.
    pub restart: bool,
    /// Only plan.
    pub dry_run: bool,
    /// Wait for the lock.
    pub wait: bool,
}

/// What became of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied, or would be.
    Applied,
    /// Its changes are there, made by somebody else: it is listed now, or would be, and cannot be undone.
    Adopted,
    /// It was there already.
    Installed,
    /// It is not for this root, and why.
    Foreign(String),
    /// Nothing was changed: there are conflicts.
    Conflicts,
}

/// What `patch apply` did, or would do.
#[derive(Debug)]
pub struct Report {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// The manifest of the patch.
    pub contents: Contents,
    /// What became of it.
    pub outcome: Outcome,
    /// The changes.
    pub plan: Plan,
    /// What was noticed.
    pub noted: Vec<(TreePath, Why)>,
    /// Package and version of the paths that change and are of one.
    pub packages: Owners,
    /// Files with what could not be merged, to be edited.
    pub torn: Vec<TreePath>,
    /// What was done afterwards, or is left to do.
    pub followed: Vec<Followed>,
    /// Processes that still run what was replaced.
    pub in_use: Vec<Mapping>,
}

/// Applies a patch to the root that the user calls `name`: all of it, or nothing.
///
/// # Errors
/// [`ErrorKind::Refused`] if others come first; whatever reading the patch or writing the root says. The root is then
/// as it was.
pub fn apply(home: &Home, name: &OsStr, bundle: Bundle<'_>, options: &Options, watch: &Watch) -> Result<Report> {
    let locking = Locking { shared: options.dry_run, wait: options.wait, verb: "patch apply" };
    let root = Root::open(home, name, locking)?;
    let installed = store::installed(&root.dir, root.state.as_ref())?;
    let known = Known { skip: options.skip.clone(), release: options.release.clone() };
    // What an earlier patch left to do; a power cut may have come between.
    let followed = if options.dry_run { Vec::new() } else { follow::catch_up(&root, watch)? };
    let outcome = match order(&bundle.contents, &root, &installed, &known)? {
        Order::Next => {
            let links = Links::read(home, &root)?;
            let job = Job { root: &root, installed: &installed, links: &links, options, watch };
            let mut report = job.apply(bundle)?;
            report.followed.splice(0..0, followed);
            return Ok(report);
        }
        Order::Wait(error) => return Err(error.at(&bundle.contents.head.name)),
        Order::Installed => Outcome::Installed,
        Order::Foreign(reason) => Outcome::Foreign(reason),
    };
    Ok(Report { followed, ..Report::nothing(&root, bundle.contents, outcome) })
}

/// Lists a patch in the chroot in which it was made: its changes are there. So it is laid over what a build brings, and
/// patches that need it find it.
///
/// # Errors
/// As [`apply`].
pub fn list_made(chroot: &Chroot, contents: &Contents, watch: &Watch) -> Result<()> {
    let root = Root::of(chroot)?;
    let paths = Store::paths(&crate::patch::store(&contents.head.name)?)?;
    let roots = areas::roots(&root.dir, &areas::below(&root.place, &paths)?)?;
    let here = look::look(&roots, &paths, watch)?;
    let change = Change { root: &root, roots: &roots, here: &here, made: Cell::new(false), watch };
    let place = store::next_place(&store::installed(&root.dir, root.state.as_ref())?);
    let store = Store { contents, place, undo: None, enrolled: Vec::new() };
    change.within(|work| change.commit(&here, HashMap::new(), &store, (&work.target()?, &work.stages()?)))
}

impl Report {
    fn nothing(root: &Root, contents: Contents, outcome: Outcome) -> Report {
        let (plan, noted, packages, torn, followed, in_use) = Default::default();
        Report { root: root.place.root.clone(), contents, outcome, plan, noted, packages, torn, followed, in_use }
    }

    /// Is the patch there now, with all that it is to mend?
    pub fn is_whole(&self) -> bool {
        let whole = matches!(self.outcome, Outcome::Applied | Outcome::Adopted | Outcome::Installed);
        whole
            && !self.noted.iter().any(|(_, why)| matches!(why, Why::Kept(_)))
            && self.followed.iter().all(|f| f.done())
    }
}

/// What the root shall be, and its account files with what the patch adds to them.
type Wish = (Resolved, Vec<(Node, Vec<u8>)>);

/// What reading a patch brought.
struct Brought {
    /// Its manifest, verified.
    contents: Contents,
    want: Tree,
    slots: HashMap<TreePath, Slot>,
    /// Files that could not be merged, with the marks of what is at odds.
    torn: Vec<(Node, Vec<u8>)>,
}

struct Job<'a> {
    root: &'a Root,
    installed: &'a [store::Installed],
    links: &'a Links,
    options: &'a Options,
    watch: &'a Watch,
}

impl Job<'_> {
    fn apply(&self, bundle: Bundle<'_>) -> Result<Report> {
        let contents = &self.links.contents(&bundle.contents)?;
        let home = crate::patch::store(&contents.head.name)?;
        let mut paths = look::paths(contents);
        paths.extend(Store::paths(&home)?);
        paths.extend(enrol::paths(contents)?);
        let below = areas::below(&self.root.place, &paths)?;
        let roots = areas::roots(&self.root.dir, &below)?;
        let here = look::look(&roots, &paths, self.watch)?;
        let enrolled = enrol::changed(self.root, contents, &here)?;
        let resolved = self.resolve(contents, &here, &enrolled)?;
        let mut report = Report::nothing(self.root, bundle.contents.clone(), Outcome::Applied);
        report.noted = resolved.noted.clone();
        report.plan = diff(&here, &resolved.want);
        let is_dir = |change: &&plan::Change| change.before.iter().chain(&change.after).all(|node| node.kind.is_dir());
        let changed = report.plan.changes.iter().filter(|change| !is_dir(change));
        report.packages = look::packages(&self.root.dir, changed.map(|change| &change.path));
        if resolved.conflicts().next().is_some() {
            report.outcome = Outcome::Conflicts;
            return Ok(report);
        }
        if report.plan.changes.iter().all(is_time_of_dir) && enrolled.is_empty() && resolved.noted.is_empty() {
            report.outcome = Outcome::Adopted;
        }
        let change = Change { root: self.root, roots: &roots, here: &here, made: Cell::new(false), watch: self.watch };
        change.check(&report.plan)?;
        if self.options.dry_run {
            self.read(bundle, resolved, &change, (&change.target()?, &[]), &mut report)?;
        } else {
            change.within(|work| self.make(bundle, (resolved, enrolled), &change, work, &mut report))?;
        }
        Ok(report)
    }

    fn resolve(&self, contents: &Contents, here: &Tree, enrolled: &[(Node, Vec<u8>)]) -> Result<Resolved> {
        let text = |path: &str| match enrolled.iter().find(|(node, _)| node.path.as_bytes() == path.as_bytes()) {
            Some((_, text)) => Ok(text.clone()),
            None => self.root.text(path),
        };
        let ids = Ids::parse(&text("etc/passwd")?, &text("etc/group")?);
        let names = |path: &TreePath| look::names(&self.root.dir, path);
        let chain: Vec<Contents> = self.replaced_by(contents)?;
        let left = |path: &TreePath| chain.iter().filter_map(|c| c.get(path)?.change.after.clone()).collect();
        resolve(contents, &Here { tree: here, ids: &ids, names: &names, left: &left }, self.options.on_conflict)
    }

    /// The patches here that this one stands for.
    fn replaced_by(&self, contents: &Contents) -> Result<Vec<Contents>> {
        let provided =
            |patch: &&store::Installed| contents.head.provides.iter().any(|(_, digest)| *digest == patch.digest);
        self.installed.iter().filter(provided).map(|patch| self.links.contents(&patch.contents)).collect()
    }

    /// Reads the patch, and says what comes of merging. What it brings is staged; without stages it is only verified.
    fn read(
        &self,
        bundle: Bundle<'_>,
        resolved: Resolved,
        change: &Change<'_>,
        (target, stages): (&Target, &[&Stage]),
        report: &mut Report,
    ) -> Result<Brought> {
        let mut bodies = Bodies::new(
            (target, stages),
            &report.plan,
            change.here,
            (resolved.merges(), self.options.on_conflict),
            self.watch,
        );
        let links = self.links;
        self.watch.begin("staging", bundle.contents.bytes());
        let mut take = |contents: &Contents, member: &Member, body: &mut dyn Read| {
            bodies.take(&links.change(contents.entries[member.entry].change.clone())?, member.what, body)
        };
        let contents = bundle.read(&mut take, self.watch)?;
        if let Some(node) = bodies.missing() {
            return Err(Error::new(ErrorKind::BadInput, "the patch does not bring its content").at(&node.path));
        }
        if !bodies.torn.is_empty() {
            report.outcome = Outcome::Conflicts;
            report.plan = Plan::default();
            report.torn = bodies.torn.iter().map(|(node, _)| torn_path(node)).collect::<Result<_>>()?;
        }
        for (node, why) in &bodies.decided {
            report.noted.retain(|(path, _)| path != &node.path);
            report.noted.push((node.path.clone(), why.clone()));
        }
        let decided = bodies.decided.iter().map(|(node, _)| node);
        let want = with_merged(resolved.want, bodies.merged.iter().chain(decided))?;
        if bodies.torn.is_empty() {
            report.plan = diff(change.here, &want);
        }
        Ok(Brought { contents, want, slots: bodies.slots, torn: bodies.torn })
    }

    fn make(
        &self,
        bundle: Bundle<'_>,
        (resolved, enrolled): Wish,
        change: &Change<'_>,
        work: &areas::Areas<'_>,
        report: &mut Report,
    ) -> Result<()> {
        let (target, stages) = (work.target()?, work.stages()?);
        let Brought { contents, want, slots, torn } =
            self.read(bundle, resolved, change, (&target, &stages), report)?;
        if !torn.is_empty() {
            // Written once all of them are known.
            let mut torn = torn.iter().zip(&report.torn);
            return torn.try_for_each(|((node, text), path)| write_torn(&target, node, path, text));
        }
        if !self.options.allow_unmet {
            let staged = |path: &TreePath| stages[target.locate(path).ok()?.0].open(*slots.get(path)?).ok();
            let root = self.root.dir.try_clone().on("open", "/")?.crossing();
            let after = View::after(&root, &report.plan, &staged);
            refuse_unmet(&report.plan, &after, Some(&View::now(&root)), "apply the patch all the same")?;
        }
        let undo = Undo {
            applied: now(),
            skipped: self.options.skip.clone(),
            noted: report.noted.iter().map(|(path, why)| (word(why).to_owned(), path.clone())).collect(),
            ..Undo::default()
        };
        let keeps = report.outcome == Outcome::Applied && !self.options.no_undo;
        let place = store::next_place(self.installed);
        let store = Store { contents: &contents, place, undo: keeps.then_some(undo), enrolled };
        let after = After { root: self.root, contents: &contents, restart: self.options.restart };
        after.commit(change, || change.commit(&want, slots, &store, (&target, &stages)))?;
        report.in_use = follow::in_use(&report.plan);
        report.followed.extend(after.follow(self.watch)?);
        Ok(())
    }
}

/// Does nothing change but when a directory was changed?
fn is_time_of_dir(change: &plan::Change) -> bool {
    matches!((&change.before, &change.after), (Some(a), Some(b)) if a.kind.is_dir() && a.same_but_dir_time(b))
}

/// The wanted tree with the merged files as they turned out.
fn with_merged<'a>(mut want: Tree, merged: impl Iterator<Item = &'a Node>) -> Result<Tree> {
    for node in merged {
        if let Some(wanted) = want.get_mut(node.path.as_bytes()) {
            (wanted.kind, wanted.meta) = (node.kind.clone(), Meta { mtime: node.meta.mtime, ..wanted.meta.clone() });
        }
    }
    Tree::new(want.into_nodes())
}

/// Beside a file that could not be merged.
const TORN: &[u8] = b".stockade-new";

fn torn_path(node: &Node) -> Result<TreePath> {
    let name = [node.path.name(), TORN].concat();
    node.path.parent().unwrap_or_default().join(&name)
}

/// Writes what has to be edited beside the file that it is to become.
fn write_torn(target: &Target, node: &Node, path: &TreePath, text: &[u8]) -> Result<()> {
    use std::io::Write;
    let Some((dir, name)): Option<(Dir, _)> = super::bodies::spot(target, path)? else { return Ok(()) };
    // Somebody may be at work on the one of an earlier try.
    if dir.find(&name).on("stat", path)?.is_some() {
        return Ok(());
    }
    let mut file = dir.create_file(&name, 0o600).on("create", path)?;
    file.write_all(text).on("write", path)?;
    dir.set_owner(&name, node.meta.uid, node.meta.gid).on("chown", path)?;
    dir.set_mode(&name, node.meta.mode & 0o777).on("chmod", path)
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
