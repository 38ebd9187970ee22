// SPDX-License-Identifier: ISC
//! Carrying out a plan: into a new root that is renamed in, or onto a root that exists, by journal.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::actions::There;
use super::built::{Built, Untouched};
use super::compose::Wanted;
use super::layer::Content;
use super::place::{Home, Place, bytes};
use super::recorded::HostInputs;
use super::register;
use super::state::State;
use super::work::Work;
use super::{actions, bodies, cache, foreign, recorded};
use crate::apply::{self, Slot};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::recipe::Recipe;
use crate::source::dir::fingerprint;
use crate::sys::{self, Dir};
use crate::tree::policy::Left;
use crate::tree::{Digest, Tree};
use crate::watch::Watch;

/// The name, in the state, of a new root until it is renamed in.
pub(crate) const NEW: &str = "new";

/// All that a build has decided.
pub(crate) struct Decided<'a> {
    pub(crate) home: &'a Home,
    pub(crate) place: &'a Place,
    pub(crate) state: &'a State,
    pub(crate) work: &'a Work<'a>,
    /// As it is remembered.
    pub(crate) asked: &'a Recipe,
    /// The same, with everything it takes on this machine.
    pub(crate) recipe: &'a Recipe,
    pub(crate) built: Built,
    /// Of the host's own files, as they were when the sources were brought together.
    pub(crate) inputs: HostInputs,
}

/// What was known of a root that exists, before it is changed.
pub(crate) struct Known<'a> {
    pub(crate) have: &'a Tree,
    pub(crate) recorded: Option<&'a Tree>,
    pub(crate) left: &'a [(TreePath, Left)],
    /// What is unknown was promised to stay.
    pub(crate) adopt: bool,
    /// Fingerprint of the root, taken before anything was looked at.
    pub(crate) fingerprint: Option<Digest>,
}

impl Decided<'_> {
    /// Fills a new root beside its name, syncs it and renames it in.
    pub(crate) fn new_root(&self, plan: &mut Plan, wanted: &mut Wanted, watch: &Watch) -> Result<()> {
        let shown = bytes(&self.place.root);
        bodies::check((&self.work.target(&self.state.dir)?, &self.place.root), plan, wanted)?;
        let slots = bodies::bring(plan, wanted, self.work, watch)?;
        let new = new_root(self.state)?;
        watch.begin("filling", plan.changes.len() as u64);
        apply::commit_new(&new, self.work.stage()?, plan, &mut taking(slots), watch)?;
        let there = |path: &[u8]| wanted.tree.get(path).is_some();
        let mut built = self.act(&self.keyed()?, (&wanted.tree, &there), &self.state.path.join(NEW), watch)?;
        // Nobody else can reach it yet, and renaming it moves no stamp but its own.
        recorded::stamp(&new, &mut wanted.tree, plan.paths(), watch)?;
        if built.key.is_some() {
            let entries = wanted.tree.len();
            built.root = fingerprint(&new, watch)?.map(|fingerprint| Untouched { fingerprint, entries });
        }
        watch.begin("syncing", 0);
        new.sync_filesystem().on("syncfs", shown)?;
        self.remember(wanted, ".next")?;
        recorded::prepare(self.state, self.asked, &built, &wanted.tree, &new)?;
        watch.check()?;
        rename_in(self.home, self.place, self.state)?;
        self.forget(wanted)
    }

    /// Changes the root that exists.
    pub(crate) fn live_root(
        &self,
        root: &Dir,
        plan: &mut Plan,
        wanted: &mut Wanted,
        known: &Known<'_>,
        watch: &Watch,
    ) -> Result<()> {
        let there = |path: &[u8]| known.have.get(path).is_some();
        let target = self.work.target(root)?;
        bodies::check((&target, &self.place.root), plan, wanted)?;
        let slots = bodies::bring(plan, wanted, self.work, watch)?;
        let mut record = recorded::tree(&wanted.tree, known)?;
        let mut built = self.keyed()?;
        if known.left.iter().any(|(_, why)| *why == Left::Mounted) {
            // What is recorded is not all that is wanted.
            built.key = None;
        }
        if plan.is_empty() {
            let due = foreign::due(self.recipe, (&wanted.tree, &there), &built.actions);
            if known.left.is_empty() && due.is_empty() {
                let entries = wanted.tree.len();
                built.root = known.fingerprint.map(|fingerprint| Untouched { fingerprint, entries });
            }
            self.remember(wanted, "")?;
            recorded::renew(self.state, self.asked, &built, &record, root)?;
        } else {
            // Whatever comes between, they are due until they ran.
            built.actions.retain(|name, _| !actions::concerns(name, plan));
            let prepared = apply::prepare(&target, &[self.work.stage()?], plan.clone(), &mut taking(slots), watch)?;
            self.remember(wanted, ".next")?;
            recorded::prepare(self.state, self.asked, &built, &record, root)?;
            watch.check()?;
            apply::commit(&target, &self.state.dir, &prepared, &|| recorded::promote(self.state), watch)?;
            recorded::stamp(root, &mut record, prepared.plan().paths(), watch)?;
            self.state.write_tree("manifest", &record)?;
        }
        register::add(self.home, self.place)?;
        self.act_on(Built { root: None, ..built }, (&wanted.tree, &there), watch)?;
        self.forget(wanted)
    }

    /// Writes what is to be remembered of the closure, with this ending.
    pub(super) fn remember(&self, wanted: &Wanted, ending: &str) -> Result<()> {
        wanted.closure.as_ref().map_or(Ok(()), |record| record.write(self.state, ending))
    }

    /// What the build is made of, with the key that goes with it.
    pub(super) fn keyed(&self) -> Result<Built> {
        let key = recorded::key(self.recipe, &self.built, &self.work.anchor, &self.inputs)?;
        Ok(Built { key, ..self.built.clone() })
    }

    /// Runs the actions that are due in the tree at `path`; they join what the build is made of.
    pub(super) fn act(
        &self,
        built: &Built,
        on: (&Tree, There<'_>),
        path: &std::path::Path,
        watch: &Watch,
    ) -> Result<Built> {
        let mut built = built.clone();
        for (name, key) in foreign::due(self.recipe, on, &built.actions) {
            let ran = actions::run((&name, key), path, watch)?;
            built.actions.insert(name, ran);
        }
        Ok(built)
    }

    /// Runs the actions that are due in the root. Each that ran is recorded before the next: where one fails, those before
    /// it are done with, and it is due again.
    fn act_on(&self, mut built: Built, on: (&Tree, There<'_>), watch: &Watch) -> Result<()> {
        for (name, key) in foreign::due(self.recipe, on, &built.actions) {
            let ran = actions::run((&name, key), &self.place.root, watch)?;
            built.actions.insert(name, ran);
            built.write(self.state, "built")?;
        }
        Ok(())
    }

    /// Forgets the archives that are no longer of use.
    pub(super) fn forget(&self, wanted: &Wanted) -> Result<()> {
        let digest = |layer: &Content| match layer {
            Content::Archive(archive) => Some(archive.id.to_string()),
            _ => None,
        };
        let keep: Vec<String> = wanted.layers.iter().filter_map(digest).collect();
        cache::keep_only(self.state, &keep)
    }
}

/// Makes the directory of a new root: a subvolume where the filesystem has such, so that it can be cloned as a whole
/// (decision S5).
pub(crate) fn new_root(state: &State) -> Result<Dir> {
    let shown = state.path.join(NEW);
    let is_there = state.dir.find(NEW.as_bytes()).on("stat", bytes(&shown))?.is_some();
    if !is_there && sys::has_subvolumes(&state.dir) {
        sys::make_subvolume(&state.dir, NEW.as_bytes()).on("mkdir", bytes(&shown))?;
        state.dir.set_mode(NEW.as_bytes(), 0o700).on("chmod", bytes(&shown))?;
    }
    state.subdir(NEW)
}

/// Gives the new root its name, and makes what is prepared in the state its record.
pub(crate) fn rename_in(home: &Home, place: &Place, state: &State) -> Result<()> {
    let shown = bytes(&place.root);
    let (parent, name) = place.parent(home.calls)?;
    register::add(home, place)?;
    state.write(recorded::RENAMING, b"")?;
    state.dir.rename(NEW.as_bytes(), &parent, &name).on("rename", shown)?;
    if state.lasting {
        parent.sync().on("fsync", shown)?;
    }
    recorded::promote(state)
}

/// Hands out each slot once.
pub(crate) fn taking(mut slots: HashMap<TreePath, Slot>) -> impl FnMut(&Change) -> Result<Slot> {
    move |change| {
        let missing = || Error::new(ErrorKind::NotFound, "its content was not staged").at(&change.path);
        slots.remove(&change.path).ok_or_else(missing)
    }
}
