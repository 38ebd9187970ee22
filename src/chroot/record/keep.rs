// SPDX-License-Identifier: ISC
//! What was recorded becomes part of the chroot, and of its record.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use super::omit::is_only_time;
use super::{Means, Recorded, Recording};
use crate::apply::{self, Slot};
use crate::chroot::built::Built;
use crate::chroot::carry::taking;
use crate::chroot::layer::{Need, bring_files};
use crate::chroot::place::bytes;
use crate::chroot::recorded;
use crate::chroot::work::Work;
use crate::error::Result;
use crate::patch::origin_after;
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::sys::Dir;
use crate::tree::{Node, Policy, Tree};
use crate::watch::Watch;

impl Recording {
    /// Makes what was recorded part of the chroot and of its manifest, where `name` is told as its origin.
    ///
    /// # Errors
    /// If it cannot be done; the chroot is then as it was, as far as it was not changed in place.
    pub fn keep(&self, recorded: &Recorded, name: &str, watch: &Watch) -> Result<()> {
        let chroot = &self.chroot;
        let mut record = renewed(&chroot.manifest()?, recorded, &chroot.policy()?, &format!("record {name}"))?;
        match &self.means {
            Means::Overlay(layer) => self.carry_out(&recorded.all, &layer.view, &mut record, watch)?,
            Means::Scan(_) => {
                recorded::stamp(&chroot.root, &mut record, recorded.all.paths(), watch)?;
                self.built()?.write(&chroot.state, "built")?;
                chroot.state.write_tree("manifest", &record)?;
            }
        }
        Ok(())
    }

    /// What the chroot was built of is still true; that nothing has to be done is not.
    fn built(&self) -> Result<Built> {
        Ok(Built { key: None, root: None, ..Built::read(&self.chroot.state)? })
    }

    fn carry_out(&self, plan: &Plan, view: &Dir, record: &mut Tree, watch: &Watch) -> Result<()> {
        let chroot = &self.chroot;
        let work = Work::new(&chroot.place, &chroot.state, Some(&chroot.root))?;
        let done = self.apply(plan, view, record, &work, watch);
        // Bodies that were not used are of no use; an interrupted commit needs them for its recovery.
        if !chroot.state.is_interrupted() {
            work.clear(&Watch::default())?;
        }
        done.map_err(|error| error.at(bytes(&chroot.place.root)))
    }

    fn apply(&self, plan: &Plan, view: &Dir, record: &mut Tree, work: &Work<'_>, watch: &Watch) -> Result<()> {
        let (root, state) = (&self.chroot.root, &self.chroot.state);
        let target = work.target(root)?;
        apply::refuse(&target, plan, &|_| false, &self.chroot.place.root)?;
        watch.begin("staging", plan.stats().bytes);
        let slots = stage(plan, view, work, watch)?;
        let prepared = apply::prepare(&target, &[work.stage()?], plan.clone(), &mut taking(slots), watch)?;
        recorded::prepare(state, &self.chroot.recipe()?, &self.built()?, record, root)?;
        watch.check()?;
        apply::commit(&target, &state.dir, &prepared, &|| recorded::promote(state), watch)?;
        recorded::stamp(root, record, prepared.plan().paths(), watch)?;
        state.write_tree("manifest", record)
    }
}

/// Stages the bodies of `plan` out of `view`.
fn stage(plan: &Plan, view: &Dir, work: &Work<'_>, watch: &Watch) -> Result<HashMap<TreePath, Slot>> {
    let need = |(change, c): (usize, &Change)| {
        let node = c.after.clone().filter(|_| c.needs_body())?;
        Some(Need { change, path: node.path.clone(), node })
    };
    let needs: Vec<Need> = plan.changes.iter().enumerate().filter_map(need).collect();
    let brought = bring_files((view, &HashMap::new()), &needs, work.stage()?, watch)?;
    Ok(brought.into_iter().map(|body| (plan.changes[body.change].path.clone(), body.slot)).collect())
}

/// The manifest with what was recorded in it. What is nobody's to judge is not in it unless it was.
fn renewed(manifest: &Tree, recorded: &Recorded, policy: &Policy, step: &str) -> Result<Tree> {
    let (before, after) = (&recorded.seen.before, &recorded.seen.after);
    let mut nodes: BTreeMap<TreePath, Node> =
        manifest.nodes().iter().map(|node| (node.path.clone(), keyed(node, after))).collect();
    for change in &recorded.all.changes {
        let known = nodes.get(&change.path);
        let Some(node) = &change.after else {
            nodes.remove(&change.path);
            continue;
        };
        if known.is_none() && policy.holds(&change.path) {
            continue;
        }
        let untouched = change.before.as_ref().is_some_and(|was| was.same(node)) || is_only_time(change);
        let known = known.and_then(|was| was.origin.clone());
        let origin = if untouched { known } else { Some(origin_after(known.as_deref(), step).into()) };
        nodes.insert(change.path.clone(), Node { origin, ..node.clone() });
    }
    // What was not recorded may be above or beside what is now.
    for node in before.nodes().iter().chain(after.nodes()).filter(|node| node.kind.is_dir()) {
        let above = |path: &TreePath| nodes.range(path.clone()..).next().is_some_and(|(at, _)| at.is_within(path));
        if after.get(node.path.as_bytes()).is_some() && !nodes.contains_key(&node.path) && above(&node.path) {
            nodes.insert(node.path.clone(), node.clone());
        }
    }
    let mut tops: Vec<TreePath> = Vec::new();
    let mut kept = Vec::with_capacity(nodes.len());
    for (path, node) in nodes {
        while tops.last().is_some_and(|top| !path.is_within(top)) {
            tops.pop();
        }
        let parent = path.parent_bytes().unwrap_or_default();
        // Below what went, or is no directory any more.
        if !parent.is_empty() && tops.last().is_none_or(|top| top.as_bytes() != parent) {
            continue;
        }
        if node.kind.is_dir() && !path.is_root() {
            tops.push(path);
        }
        kept.push(node);
    }
    Tree::new(kept)
}

/// A recorded node with the link group that it has now, if it was looked at; a group of the record else, under a name
/// that no group of the root has.
fn keyed(node: &Node, after: &Tree) -> Node {
    let group = match after.get(node.path.as_bytes()) {
        Some(now) => now.group.clone(),
        None => node.group.clone().filter(|group| after.get(group.as_bytes()).is_none_or(|n| n.group.is_none())),
    };
    Node { group, ..node.clone() }
}
