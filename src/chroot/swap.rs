// SPDX-License-Identifier: ISC
//! `build --swap`: the change is made to a copy beside the root, and the two are exchanged in one step (decision E6).
//!
//! Until then nothing has happened to the root, and a crash leaves a copy to be removed; from then on all has, and what
//! is left to be removed is the old root. Recovery tells the two apart by the identity that was prepared.
#![forbid(unsafe_code)]

use super::carry::{Decided, Known, NEW, new_root, taking};
use super::compose::Wanted;
use super::guard::Found;
use super::place::{Place, bytes};
use super::state::State;
use super::work::owners;
use super::{actions, bodies, recorded};
use crate::apply::{self, Means, copy_tree, remove_tree};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::plan::Plan;
use crate::session;
use crate::sys::{Dir, shares_blocks};
use crate::tree::{Kind, Node, Stamp, Tree};
use crate::watch::Watch;

/// Names that are exchanged to see whether that works here.
const PROBES: [&[u8]; 2] = [b"probe-a.next", b"probe-b.next"];

/// Refuses a root that cannot be exchanged: somebody is in it, or the system cannot do it there.
pub(crate) fn may_swap(place: &Place, found: &Found, state: Option<&State>) -> Result<()> {
    let refuse = |error: Error| Err(error.at(bytes(&place.root)).hint("leave out --swap"));
    if !place.beside {
        return refuse(Error::new(ErrorKind::Refused, "what is known of it does not lie beside it, so no copy can"));
    }
    if matches!(found, Found::Room) {
        return Ok(());
    }
    session::refuse_occupied(&place.root)?;
    let Some(State { dir, .. }) = state else { return Ok(()) };
    let make = |name: &&[u8]| dir.create_file(name, 0o600).map(drop).on("create", bytes(&place.state));
    PROBES.iter().try_for_each(make)?;
    let tried = dir.exchange(PROBES[0], dir, PROBES[1]).on("renameat2", bytes(&place.root));
    PROBES.iter().try_for_each(|name| dir.unlink(name)).on("unlink", bytes(&place.state))?;
    tried.or_else(refuse)
}

impl Decided<'_> {
    /// Makes the change in a copy of `root`, which takes its place when it is complete.
    pub(crate) fn swapped_root(
        &self,
        root: &Dir,
        plan: &mut Plan,
        wanted: &mut Wanted,
        known: &Known<'_>,
        watch: &Watch,
    ) -> Result<()> {
        let shown = bytes(&self.place.root);
        bodies::check((&self.work.target(root)?, &self.place.root), plan, wanted)?;
        let slots = bodies::bring(plan, wanted, self.work, watch)?;
        let new = new_root(self.state)?;
        let have = self.copy(root, &new, known.have, watch)?;
        wanted
            .notes
            .extend(known.have.nodes().iter().filter(is_socket).map(|n| format!("{}: a socket is not kept", n.path)));
        aim(plan, &have);
        // Its journal lies with its stage: who finds them after a crash removes them with the copy.
        let (work, target) = (self.work.dir()?, self.work.target(&new)?);
        let prepared = apply::prepare(&target, &[self.work.stage()?], plan.clone(), &mut taking(slots), watch)?;
        apply::commit(&target, &work, &prepared, &|| Ok(()), watch)?;
        let mut built = self.keyed()?;
        built.actions.retain(|name, _| !actions::concerns(name, plan));
        let built = self.act(
            &built,
            (&wanted.tree, &|path| known.have.get(path).is_some()),
            &self.state.path.join(NEW),
            watch,
        )?;
        let mut record = recorded::tree(&wanted.tree, &Known { have: &have, ..*known })?;
        // Nobody else can reach it yet, and the exchange moves no stamp but its own.
        recorded::stamp(&new, &mut record, prepared.plan().paths(), watch)?;
        self.remember(wanted, ".next")?;
        recorded::prepare(self.state, self.asked, &built, &record, &new)?;
        new.sync_filesystem().on("syncfs", shown)?;
        watch.check()?;
        self.exchange()?;
        self.forget(wanted)?;
        remove_tree(&self.state.dir, NEW.as_bytes(), &Watch::default())
    }

    /// Copies the root as it is. Returns what the copy is like.
    fn copy(&self, root: &Dir, new: &Dir, have: &Tree, watch: &Watch) -> Result<Tree> {
        let nodes = have.nodes().iter().filter(|node| !is_socket(node));
        let mut copied = Tree::new(nodes.cloned().collect())?;
        watch.begin("copying", copied.bytes());
        let means = if shares_blocks(root, &self.state.dir) { Means::Reflink } else { Means::Copy };
        let stamps: Vec<Option<Stamp>> = copy_tree((root, new), &copied, means, owners(), watch)?;
        copied.nodes_mut().zip(stamps).for_each(|(node, stamp)| node.here = stamp);
        Ok(copied)
    }

    /// The copy becomes the root, and the root what is to be removed.
    fn exchange(&self) -> Result<()> {
        let shown = bytes(&self.place.root);
        // The lock keeps sessions out; who came by another way is seen here, or too late by a hair.
        session::refuse_occupied(&self.place.root)?;
        let (parent, name) = self.place.parent(self.home.calls)?;
        self.state.write(recorded::RENAMING, b"")?;
        self.state.dir.exchange(NEW.as_bytes(), &parent, &name).on("renameat2", shown)?;
        parent.sync().on("fsync", shown)?;
        recorded::promote(self.state)
    }
}

/// Turns a plan for the root into one for its copy: there the inodes are others, and there are no sockets.
fn aim(plan: &mut Plan, copy: &Tree) {
    for change in &mut plan.changes {
        let Some(before) = &mut change.before else { continue };
        if is_socket(&&*before) {
            change.before = None;
            change.replace = change.after.as_ref().is_some_and(|after| !after.kind.is_dir());
        } else {
            before.here = copy.get(before.path.as_bytes()).and_then(|is| is.here);
        }
    }
    plan.changes.retain(|change| change.before.is_some() || change.after.is_some());
}

/// It is of no use without the process that listens on it, and none is in the root.
fn is_socket(node: &&Node) -> bool {
    node.kind == Kind::Socket
}
