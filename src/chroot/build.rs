// SPDX-License-Identifier: ISC
//! `build`: makes a chroot, or brings it up to date with its recipe.
//!
//! Scan or nothing / sources laid over one another / the sources' contents. A new root is filled beside its name and
//! renamed in; a root that exists is changed by journal.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use super::built::{Built, Untouched};
use super::carry::{Decided, Known};
use super::closure::{Record, purpose, spare_own};
use super::compose::{Composer, Inputs};
use super::mapped::Sparing;
use super::open::{policy_of, scan_root};
use super::patch::lasting;
use super::place::{Home, Place, bytes};
use super::proof::{prove_root, prove_wanted};
use super::state::State;
use super::swap::may_swap;
use super::work::Work;
use super::{actions, closure, devices, doctor, foreign, guard, inside, layers, mapped, mirror, recorded, recover};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::Plan;
use crate::recipe::{Closure, Devices, Recipe, Verify};
use crate::session;
use crate::source::dir::fingerprint;
use crate::sys::{Dir, Held};
use crate::tree::diff::diff;
use crate::tree::policy::{Left, settle};
use crate::tree::{Digest, Policy, Tree, Unknown};
use crate::watch::Watch;

/// What the user asks of `build`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The chroot: a path, or a name under the home.
    pub name: OsString,
    /// The recipe: a file or an embedded one; none: the remembered one.
    pub recipe: Option<String>,
    /// Archives to lay over the recipe's sources.
    pub from: Vec<PathBuf>,
    /// How these archives are verified.
    pub verify: Option<Verify>,
    /// Packages of the host to add.
    pub packages: Vec<String>,
    /// Programs of the host to add, with what they need.
    pub closure: Option<Closure>,
    /// The recipe itself, where it is no file.
    pub given: Option<Recipe>,
    /// The key of the release sets of a directory in `from`, if not that of their release.
    pub key: Option<PathBuf>,
    /// Trust the recipe's release sets without a signature.
    pub unsigned: bool,
    /// Take over a directory that is not empty, removing nothing.
    pub adopt: bool,
    /// Remove many entries without asking.
    pub yes: bool,
    /// Make the change to a copy, and exchange it with the root.
    pub swap: bool,
    /// Only plan.
    pub dry_run: bool,
    /// Wait for the lock.
    pub wait: bool,
}

/// What `build` did, or would do.
#[derive(Debug)]
pub struct Report {
    /// Absolute path of the chroot.
    pub root: PathBuf,
    /// It did not exist before.
    pub new: bool,
    /// The changes.
    pub plan: Plan,
    /// Entries left as they are against the recipe.
    pub left: Vec<(TreePath, Left)>,
    /// The actions that ran, or would run, in their order.
    pub actions: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// How many files were read to compare them.
    pub read: usize,
    /// Entries in the wanted tree.
    pub entries: usize,
}

/// Makes or refreshes the chroot that `request` names.
///
/// # Errors
/// [`ErrorKind::Refused`] for a directory that is not ours, a source that would leave the root, or a removal that needs
/// `--yes`; whatever reading the sources or writing the root says. The chroot is then as it was.
pub fn build(home: &Home, request: &Request, watch: &Watch) -> Result<Report> {
    let place = Place::find(home, &request.name)?;
    guard::may_build(home, &place)?;
    let known = State::open(home, &place)?;
    if let Some(base) = known.as_ref().map(layers::base_of).transpose()?.flatten() {
        let reason = format!("it is a clone by overlay of {}, and is what that is built as", base.display());
        let error = Error::new(ErrorKind::Refused, reason).at(bytes(&place.root));
        return Err(error.hint("take it back with `stockade reset`; or clone its base with --how copy, and build that"));
    }
    if known.is_none() {
        // Refused before anything of ours is made beside it.
        guard::look(home, &place)?.may_be_taken(request.adopt)?;
    }
    let state = if request.dry_run { known } else { Some(State::create(home, &place)?) };
    let lock = state.as_ref().map(|state| lock_for(state, &place, request)).transpose()?;
    match &state {
        Some(state) if !request.dry_run => drop(recover::settle(home, &place, state, watch)?),
        Some(state) if state.is_interrupted() => {
            let error = Error::new(ErrorKind::Interrupted, "an earlier command was interrupted").at(bytes(&place.root));
            return Err(error.hint(format!("finish it with: stockade recover {}", place.root.display())));
        }
        _ => {}
    }
    if let (Some(state), false) = (&state, request.dry_run) {
        layers::refuse_frozen(home, &place, state)?;
    }
    // Once more: it may have changed while the lock was waited for.
    let found = guard::look(home, &place)?;
    found.may_be_taken(request.adopt)?;
    let asked = recorded::recipe(state.as_ref(), request)?;
    let recipe = mirror::local(home, &asked, watch)?;
    purpose::check(&place.root, recipe.closure.as_ref().and_then(|closure| closure.purpose))?;
    if request.swap {
        may_swap(&place, &found, state.as_ref().filter(|_| !request.dry_run))?;
    }
    let root = if request.dry_run { found.into_existing() } else { found.into_root(home, &place)? };
    let work = match &state {
        Some(state) if !request.dry_run && (root.is_none() || request.swap) => {
            Work::for_new(&place, state, root.as_ref())?
        }
        Some(state) if !request.dry_run => Work::new(&place, state, root.as_ref())?,
        _ => Work::dry(home)?,
    };
    let built = state.as_ref().map_or_else(|| Ok(Built::default()), Built::read)?;
    let (state_of, asked) = (state.as_ref(), &asked);
    let job = Job { home, place: &place, state: state_of, request, asked, recipe: &recipe, built: &built, work: &work };
    let mut done = job.run(root.as_ref(), watch);
    let new = root.is_none() || request.swap;
    if let (true, true, Some(state), false) = (done.is_err() || request.swap, new, &state, request.dry_run) {
        // A root that did not come to be is of no use to anybody.
        recover::settle(home, &place, state, &Watch::default())?;
    }
    // Bodies that were not used are of no use; an interrupted commit needs them for its recovery.
    if !state.as_ref().is_some_and(State::is_interrupted) {
        work.clear(&Watch::default())?;
    }
    drop(lock);
    if let (Ok(report), false) = (&mut done, request.dry_run) {
        if report.new {
            report.notes.extend(exposed(home, &place)?);
            report.notes.extend(session::lost());
        }
        report.notes.extend(devices_apart(home, &place, recipe.devices)?);
    }
    done
}

/// Fills a `dev` that is a filesystem of its own, or says how to mount one where devices do not work (decision 29).
fn devices_apart(home: &Home, place: &Place, devices: Devices) -> Result<Option<String>> {
    let root = Dir::open(&place.root, home.calls).on("open", bytes(&place.root))?;
    let made = devices::fill(&root, devices)?;
    if made > 0 {
        return Ok(Some(format!("{made} devices made in {}/dev", place.root.display())));
    }
    let line = devices::mount_line(&root, &place.root, devices)?;
    Ok(line.map(|line| format!("for devices, here and after each boot: {line}; then build again")))
}

/// What to say, once, of a new chroot whose set-id programs others could run (decision E18).
fn exposed(home: &Home, place: &Place) -> Result<Option<String>> {
    let root = Dir::open(&place.root, home.calls).on("open", bytes(&place.root))?;
    let finding = doctor::reach(&place.root, root.space().on("statfs", bytes(&place.root))?.nosuid)?;
    let mend = finding.mend.map(|command| format!("; {command}")).unwrap_or_default();
    Ok((!finding.ok).then(|| format!("{}: {}{mend}", place.root.display(), finding.why)))
}

fn lock_for(state: &State, place: &Place, request: &Request) -> Result<Held> {
    state.lock(false, request.wait, "build").map_err(|e| e.at(bytes(&place.root)))
}

/// One build, once it is clear what it works on.
struct Job<'a> {
    home: &'a Home,
    place: &'a Place,
    state: Option<&'a State>,
    request: &'a Request,
    /// The recipe as it will be remembered.
    asked: &'a Recipe,
    /// The same, with everything it takes on this machine.
    recipe: &'a Recipe,
    built: &'a Built,
    work: &'a Work<'a>,
}

/// The root before the build.
struct Before {
    have: Tree,
    recorded: Option<Tree>,
    policy: Policy,
}

impl Job<'_> {
    fn run(&self, root: Option<&Dir>, watch: &Watch) -> Result<Report> {
        let remembered = self.remembered_closure()?;
        let mut inputs = recorded::host_inputs(self.recipe, remembered.as_ref(), self.home.calls, watch)?;
        let key = recorded::key(self.recipe, self.built, &self.work.anchor, &inputs)?;
        let key = key.filter(|key| self.built.key.as_ref() == Some(key));
        let fingerprint = key.as_ref().and(root).map(|root| fingerprint(root, watch)).transpose()?.flatten();
        if let (Some(now), Some(untouched)) = (fingerprint, &self.built.root)
            && untouched.fingerprint == now
        {
            return Ok(self.report(false, Plan::default(), Vec::new(), Vec::new(), (0, untouched.entries)));
        }
        let mut before = self.look(root, watch)?;
        if let (Some(root), Some(closure), false) = (root, &self.recipe.closure, self.request.dry_run) {
            closure::clear((&self.place.root, root), &closure.clean, &mut before.have)?;
        }
        if let (Some(record), Some(recorded)) = (&remembered, &before.recorded) {
            spare_own(&mut before.policy, &record.own, &before.have, &[recorded]);
        }
        if let (Some(root), Some(_)) = (root, &key)
            && let Some(report) = self.unchanged((root, fingerprint), &mut before, watch)?
        {
            return Ok(report);
        }
        let (recorded, policy) = (before.recorded.as_ref(), &before.policy);
        let sources = Inputs { recipe: self.recipe, built: self.built, work: self.work, root, recorded, policy };
        let mut wanted = Composer::new(sources, watch)?.compose()?;
        if let Some(record) = &wanted.closure {
            purpose::check_wx(&self.place.root, record.wx.as_ref())?;
            inputs = recorded::host_inputs(self.recipe, Some(record), self.home.calls, watch)?;
        }
        if let Some(owner) = self.work.owner_of_all()? {
            wanted.belong_to(owner, root.is_none());
        }
        let Before { have, recorded, policy } = &mut before;
        if let Some(record) = &wanted.closure {
            let nothing = Tree::default();
            spare_own(policy, &record.own, have, &[recorded.as_ref().unwrap_or(&nothing), &wanted.tree]);
        }
        let mut read = match root {
            Some(root) => prove_root((root, have), recorded.as_ref(), &wanted.tree, policy, watch)?,
            None => 0,
        };
        read += prove_wanted(&mut wanted, recorded.as_ref(), have, watch)?;
        let at_odds = match (self.state, root) {
            (Some(state), Some(root)) => {
                lasting::lay_over(&mut wanted, (state, root), (have, recorded.as_ref()), policy)?
            }
            _ => Vec::new(),
        };
        let spared = mapped::settled(root, (have, recorded.as_ref()), &wanted.tree, policy)?;
        let Sparing { mut left, mut plan, notes } = spared;
        left.extend(at_odds.into_iter().map(|path| (path, Left::Edited)));
        left.sort();
        wanted.notes.extend(notes);
        let mut ran = self.built.actions.clone();
        ran.retain(|name, _| !actions::concerns(name, &plan));
        let brought = if root.is_some() { &*have } else { &wanted.tree };
        let on: (&Tree, actions::There<'_>) = (&wanted.tree, &|path| brought.get(path).is_some());
        let due = foreign::due(self.recipe, on, &ran).into_iter().map(|(name, _)| name).collect();
        let left_out = foreign::note(self.recipe, on, &ran);
        wanted.notes.extend(left_out);
        if !self.request.yes && !self.request.dry_run {
            may_remove(self.place, &plan, have.len())?;
        }
        if let (Some(state), false) = (self.state, self.request.dry_run) {
            let (archives, actions) = (wanted.archives.clone(), self.built.actions.clone());
            let built = Built { key: None, archives, actions, root: None };
            let (home, place, work, asked, recipe) = (self.home, self.place, self.work, self.asked, self.recipe);
            let decided = Decided { home, place, state, work, asked, recipe, built, inputs };
            match root {
                None => decided.new_root(&mut plan, &mut wanted, watch)?,
                Some(root) => {
                    let (recorded, left, adopt) = (recorded.as_ref(), &left[..], self.request.adopt);
                    let known = Known { have, recorded, left, adopt, fingerprint };
                    if self.request.swap && !plan.is_empty() {
                        decided.swapped_root(root, &mut plan, &mut wanted, &known, watch)?;
                    } else {
                        decided.live_root(root, &mut plan, &mut wanted, &known, watch)?;
                    }
                }
            }
        }
        let counts = (read, wanted.tree.len());
        Ok(Report { actions: due, ..self.report(root.is_none(), plan, left, wanted.notes, counts) })
    }

    /// What the last build remembered of the recipe's closure.
    fn remembered_closure(&self) -> Result<Option<Record>> {
        match (&self.recipe.closure, self.state) {
            (Some(_), Some(state)) => Record::read(state),
            _ => Ok(None),
        }
    }

    /// The root as it is, what was recorded of it, and the policy with its mounts.
    fn look(&self, root: Option<&Dir>, watch: &Watch) -> Result<Before> {
        let mut policy = policy_of(self.recipe)?;
        inside::sources_of(self.recipe, &self.place.root).into_iter().for_each(|path| policy.keep.insert(path));
        if self.request.adopt {
            policy.unknown = Unknown::Keep;
        }
        let Some(root) = root else { return Ok(Before { have: Tree::default(), recorded: None, policy }) };
        let scan = scan_root(root, watch).map_err(|e| e.at(bytes(&self.place.root)))?;
        scan.mounts.into_iter().for_each(|path| policy.mounts.insert(path));
        let recorded = self.state.map(|s| s.read_tree("manifest")).transpose()?.flatten();
        Ok(Before { have: scan.tree, recorded, policy })
    }

    /// The report of a build with nothing to do, if stamps alone prove that there is nothing: what was recorded is what
    /// is wanted, and is what there is.
    fn unchanged(
        &self,
        (root, fingerprint): (&Dir, Option<Digest>),
        before: &mut Before,
        watch: &Watch,
    ) -> Result<Option<Report>> {
        let Some(recorded) = &before.recorded else { return Ok(None) };
        if recorded.nodes().iter().any(mapped::is_in_use) {
            return Ok(None);
        }
        let read = prove_root((root, &mut before.have), Some(recorded), recorded, &before.policy, watch)?;
        let settled = settle(&before.have, Some(recorded), recorded, &before.policy)?;
        let there = |path: &[u8]| before.have.get(path).is_some();
        let due = foreign::due(self.recipe, (recorded, &there), &self.built.actions);
        if read > 0 || !due.is_empty() || !diff(&before.have, &settled.want).is_empty() {
            return Ok(None);
        }
        if let (Some(state), Some(fingerprint), true, false) =
            (self.state, fingerprint, settled.left.is_empty(), self.request.dry_run)
        {
            let root = Some(Untouched { fingerprint, entries: recorded.len() });
            Built { root, ..self.built.clone() }.write(state, "built")?;
        }
        Ok(Some(self.report(false, Plan::default(), settled.left, Vec::new(), (0, recorded.len()))))
    }

    fn report(
        &self,
        new: bool,
        plan: Plan,
        left: Vec<(TreePath, Left)>,
        notes: Vec<String>,
        counts: (usize, usize),
    ) -> Report {
        let (read, entries) = counts;
        let actions = Vec::new();
        Report { root: self.place.root.clone(), new, plan, left, actions, notes, read, entries }
    }
}

/// A change that would empty the chroot is more likely a mistake than a wish (decision E9).
pub(crate) fn may_remove(place: &Place, plan: &Plan, entries: usize) -> Result<()> {
    let removed = plan.stats().removed;
    if removed <= 1000 && (removed < 10 || removed * 10 <= entries) {
        return Ok(());
    }
    let reason = format!("{removed} of {entries} entries would be removed");
    let hint = "look at them with --dry-run, then repeat with --yes";
    Err(Error::new(ErrorKind::Refused, reason).at(bytes(&place.root)).hint(hint))
}
