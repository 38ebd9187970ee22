// SPDX-License-Identifier: ISC
//! Filling a new root that nobody can see yet: no journal, no undo, no syncs. The caller syncs once and renames it in.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::plan::{Change, Plan};
use crate::sys::{Dir, FileType};
use crate::tree::{Kind, Node};
use crate::watch::Watch;

use super::meta::{Attributes, hold, settle};
use super::parents::Parents;
use super::stage::{Slot, Stage, make_special};

/// Carries out `plan`, the difference between nothing and the wanted tree, in the empty directory `root`.
///
/// `bodies` is asked once for each change with [`Change::needs_body`]; a slot is used up by one change.
///
/// # Errors
/// [`ErrorKind::Refused`] if the plan expects something in the root; what the system says. What was made so far
/// stays: the caller removes the root.
pub fn commit_new(
    root: &Dir,
    stage: &Stage,
    plan: &Plan,
    bodies: &mut dyn FnMut(&Change) -> Result<Slot>,
    watch: &Watch,
) -> Result<()> {
    // A default ACL, inherited from above, would go on to every directory made below.
    root.set_xattrs(b".", FileType::Dir, &Vec::new()).on("setxattr", b".")?;
    let root = Arc::new(root.try_clone().on("dup", b".")?);
    let mut filler = Filler { root: &root, stage, parents: Parents::new(&root) };
    for change in &plan.changes {
        filler.make(change, bodies)?;
        watch.count(1, 0)?;
    }
    // Names that share an inode wait until it is there.
    for change in &plan.changes {
        filler.join(change)?;
    }
    // Directories last, deepest first: whatever comes into one moves its times.
    for change in plan.changes.iter().rev() {
        filler.settle_directory(change)?;
    }
    for change in plan.changes.iter().rev() {
        let node = wanted(change)?;
        if node.meta.flags != 0 {
            let (dir, name) = filler.parents.of(&node.path)?;
            hold(&dir, name, node)?;
        }
    }
    Ok(())
}

struct Filler<'a> {
    root: &'a Dir,
    stage: &'a Stage,
    parents: Parents<'a>,
}

impl Filler<'_> {
    fn make(&mut self, change: &Change, bodies: &mut dyn FnMut(&Change) -> Result<Slot>) -> Result<()> {
        let node = wanted(change)?;
        if node.path.is_root() || change.link.is_some() {
            return Ok(());
        }
        let (dir, name) = self.parents.of(&node.path)?;
        match node.kind {
            Kind::Dir => dir.make_dir(name, 0o700).on("mkdir", &node.path),
            Kind::File { .. } => {
                let staged = self.stage.place(bodies(change)?);
                staged.dir.rename(&staged.name, &dir, name).on("rename", &node.path)
            }
            _ => make_special(&dir, name, node, self.stage.owners()),
        }
    }

    fn join(&mut self, change: &Change) -> Result<()> {
        let Some(first) = &change.link else { return Ok(()) };
        let from = self.root.walk_parent(first).on("open", first)?;
        let (dir, name) = self.parents.of(&change.path)?;
        from.link(first.name(), &dir, name).on("link", &change.path)
    }

    fn settle_directory(&mut self, change: &Change) -> Result<()> {
        let node = wanted(change)?;
        if !node.kind.is_dir() {
            return Ok(());
        }
        let (dir, name) = self.parents.of(&node.path)?;
        settle(&dir, name, node, Attributes::Fresh, self.stage.owners())
    }
}

/// The node to make; anything but the root itself must be new.
fn wanted(change: &Change) -> Result<&Node> {
    match &change.after {
        Some(node) if change.before.is_none() || node.path.is_root() => Ok(node),
        _ => Err(Error::new(ErrorKind::Refused, "a new root holds nothing yet").at(&change.path)),
    }
}
