// SPDX-License-Identifier: ISC
//! Bringing the contents that a plan needs into the stage, layer by layer.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::Path;

use super::compose::{Wanted, open_reach};
use super::layer::{Brought, Content, Need, bring_archived, bring_files, bring_made};
use super::work::Work;
use crate::apply::{self, Slot, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::tree::{Digest, Kind, Node};
use crate::watch::Watch;

/// Refuses a plan that the filesystem will not take, before anything is touched; what archives have staged already has
/// its room. What will not work there, but need not, is noted.
///
/// # Errors
/// The first problem found, with its way out.
pub(crate) fn check((target, root): (&Target, &Path), plan: &Plan, wanted: &mut Wanted) -> Result<()> {
    let staged = |change: &Change| {
        let Ok(at) = wanted.tree.index_of(change.path.as_bytes()) else { return false };
        let from = &wanted.from[at];
        let layer = &wanted.layers[from.layer as usize];
        change.needs_body() && matches!(layer, Content::Archive(archive) if archive.staged.contains_key(&from.path))
    };
    let powerless = apply::refuse(target, plan, &staged, root)?;
    if let Some(first) = powerless.first() {
        wanted.notes.push(format!(
            "set-id programs that get no rights, as the filesystem is mounted nosuid: {}, /{first} first",
            powerless.len()
        ));
    }
    Ok(())
}

/// Stages every body that `plan` needs. Digests that become known on the way are filled in, in the plan and in the
/// wanted tree. Returns the slots by path.
///
/// # Errors
/// Whatever the sources or the stage say.
pub(crate) fn bring(
    plan: &mut Plan,
    wanted: &mut Wanted,
    work: &Work<'_>,
    watch: &Watch,
) -> Result<HashMap<TreePath, Slot>> {
    watch.begin("staging", plan.stats().bytes);
    let mut needs = sort_by_layer(plan, wanted)?;
    let mut slots = HashMap::new();
    // Inner archives first: staging them may stage something of the outer one too.
    for (layer, needs) in needs.iter_mut().enumerate().rev().filter(|(_, needs)| !needs.is_empty()) {
        let mut brought = take_staged(&wanted.layers[layer], needs);
        if !needs.is_empty() {
            brought.extend(fetch(layer, needs, wanted, work, watch)?);
        }
        for body in brought {
            let change = &mut plan.changes[body.change];
            slots.insert(change.path.clone(), body.slot);
            fill(change.after.as_mut(), body.digest);
            fill(wanted.tree.get_mut(change.path.as_bytes()), body.digest);
        }
    }
    spread_digests(plan, wanted);
    Ok(slots)
}

fn sort_by_layer(plan: &Plan, wanted: &Wanted) -> Result<Vec<Vec<Need>>> {
    let mut needs: Vec<Vec<Need>> = wanted.layers.iter().map(|_| Vec::new()).collect();
    for (index, change) in plan.changes.iter().enumerate().filter(|(_, c)| c.needs_body()) {
        let unknown = || Error::new(ErrorKind::NotFound, "no source brings its content").at(&change.path);
        let at = wanted.tree.index_of(change.path.as_bytes()).map_err(|_| unknown())?;
        let (from, Some(node)) = (&wanted.from[at], change.after.clone()) else { return Err(unknown()) };
        needs[from.layer as usize].push(Need { change: index, node, path: from.path.clone() });
    }
    Ok(needs)
}

/// Bodies that were staged while their archive was read; what is not among them stays in `needs`.
fn take_staged(layer: &Content, needs: &mut Vec<Need>) -> Vec<Brought> {
    let Content::Archive(archive) = layer else { return Vec::new() };
    let mut brought = Vec::new();
    needs.retain(|need| match (archive.staged.get(&need.path), need.node.digest()) {
        (Some(&slot), Some(digest)) => {
            brought.push(Brought { change: need.change, slot, digest });
            false
        }
        _ => true,
    });
    brought
}

fn fetch(layer: usize, needs: &[Need], wanted: &mut Wanted, work: &Work<'_>, watch: &Watch) -> Result<Vec<Brought>> {
    let stage = work.stage()?;
    match &wanted.layers[layer] {
        Content::Directory { root, moved } => bring_files((root, moved), needs, stage, watch),
        Content::Made(bodies) => bring_made(bodies, needs, stage, watch),
        Content::Archive(archive) => {
            let (reach, name) = (archive.reach.clone(), archive.name.clone());
            let opened = open_reach(&reach, &name, &mut wanted.layers, work, watch)?;
            let Content::Archive(archive) = &wanted.layers[layer] else { return Ok(Vec::new()) };
            bring_archived(&opened, &archive.twins, needs, stage, watch)
        }
    }
}

fn fill(node: Option<&mut Node>, found: Digest) {
    if let Some(Node { kind: Kind::File { digest, .. }, .. }) = node {
        *digest = Some(found);
    }
}

/// Gives the other names of each link group the digest of the one that was brought.
fn spread_digests(plan: &mut Plan, wanted: &mut Wanted) {
    let known: HashMap<TreePath, Digest> =
        wanted.tree.nodes().iter().filter_map(|node| Some((node.group.clone()?, node.digest()?))).collect();
    let group_digest = |node: &Node| node.group.as_ref().and_then(|group| known.get(group)).copied();
    let after = plan.changes.iter_mut().filter_map(|change| change.after.as_mut());
    for node in wanted.tree.nodes_mut().chain(after) {
        if let (None, Some(digest)) = (node.digest(), group_digest(node)) {
            fill(Some(node), digest);
        }
    }
}
