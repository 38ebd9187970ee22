// SPDX-License-Identifier: ISC
//! [`prepare`]: everything that can be done before the live tree is touched. Each file that comes lies in the stage
//! afterwards; each that only goes has a number.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::sys::{Dir, Stat};
use crate::tree::{Kind, Meta, Node};
use crate::watch::Watch;

use super::Target;
use super::body::{Body, Job, hash};
use super::machine::conflict;
use super::meta::{Attributes, matches, same_type, settle};
use super::parents::{Parents, mounted};
use super::stage::{Slot, Stage};
use super::steps::{is_dir, is_leaf};

/// A plan whose files are staged.
#[derive(Debug)]
pub struct Prepared {
    pub(super) plan: Plan,
    /// By change; a directory's is 0.
    pub(super) slots: Vec<Slot>,
}

impl Prepared {
    /// The plan as it will be carried out: as given, and what sharing of inodes adds to it.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// Checks that the tree is still as the plan expects it, and completes the stages, one for each area.
///
/// `bodies` is asked once for each change with [`Change::needs_body`]; a slot is used up by one change.
///
/// # Errors
/// [`ErrorKind::Refused`] naming what changed, what is mounted, or what is in the way; [`ErrorKind::Unsupported`] for
/// a socket; what the system says. The tree is as it was; [`super::discard`] clears the stage.
pub fn prepare(
    target: &Target,
    stages: &[&Stage],
    plan: Plan,
    bodies: &mut dyn FnMut(&Change) -> Result<Slot>,
    watch: &Watch,
) -> Result<Prepared> {
    let mut look = Look { target, parents: target.areas.iter().map(|a| Parents::new(&a.root)).collect() };
    let links = look.verify(&plan, watch)?;
    let plan = look.part(plan, &links)?;
    let mut work = Work { stages, plan: &plan, look, slots: vec![Slot(0); plan.changes.len()], used: HashSet::new() };
    for index in 0..plan.changes.len() {
        work.stage(index, bodies, watch)?;
    }
    // Names that join an inode, now that every inode is there.
    let index_of: HashMap<&TreePath, usize> = plan.changes.iter().enumerate().map(|(i, c)| (&c.path, i)).collect();
    for index in 0..plan.changes.len() {
        work.join(index, &index_of)?;
    }
    let slots = work.slots;
    Ok(Prepared { plan, slots })
}

/// Looks at the tree and changes nothing.
struct Look<'a> {
    target: &'a Target,
    parents: Vec<Parents<'a>>,
}

impl Look<'_> {
    fn reach(&mut self, path: &TreePath) -> Result<(usize, Arc<Dir>, Vec<u8>)> {
        let (area, rest) = self.target.locate(path)?;
        let (dir, name) = self.parents[area].of(&rest)?;
        Ok((area, dir, name.to_vec()))
    }

    /// Is everything as the plan expects? Returns the link counts of files whose metadata alone changes.
    fn verify(&mut self, plan: &Plan, watch: &Watch) -> Result<HashMap<usize, u64>> {
        let mut links = HashMap::new();
        let mut absent: Option<&TreePath> = None;
        for (index, change) in plan.changes.iter().enumerate() {
            watch.check()?;
            if absent.is_some_and(|top| change.path.is_within(top)) {
                continue;
            }
            if !is_dir(&change.before) {
                absent = Some(&change.path);
            }
            let (_, dir, name) = self.reach(&change.path)?;
            let found = dir.find(&name).on("stat", &change.path)?;
            let here = dir.stat_self().on("stat", &change.path)?;
            match (&change.before, found) {
                (None, None) => {}
                (Some(_), Some(stat)) if stat.mount != here.mount => return Err(mounted(&change.path)),
                (Some(node), Some(stat)) if unchanged(&stat, &dir, &name, node, watch)? => {
                    links.insert(index, stat.links);
                }
                _ => return Err(conflict(change)),
            }
        }
        Ok(links)
    }

    /// Gives a fresh inode to files whose metadata changes while names that are not in the tree share them: those
    /// names belong to somebody else (decision E5).
    fn part(&mut self, mut plan: Plan, links: &HashMap<usize, u64>) -> Result<Plan> {
        let mut inodes: BTreeMap<TreePath, Vec<usize>> = BTreeMap::new();
        for (index, change) in plan.changes.iter().enumerate() {
            if let Some(before) = change.before.as_ref().filter(|n| !n.kind.is_dir()) {
                inodes.entry(before.group.clone().unwrap_or_else(|| change.path.clone())).or_default().push(index);
            }
        }
        let mut touched = Vec::new();
        for names in inodes.into_values() {
            let in_place = |&&i: &&usize| !plan.changes[i].replace && is_leaf(&plan.changes[i].after);
            let staying: Vec<usize> = names.iter().filter(in_place).copied().collect();
            if staying.iter().all(|i| links.get(i).is_none_or(|&count| count <= names.len() as u64)) {
                continue;
            }
            let first = plan.changes[staying[0]].path.clone();
            for &index in &staying {
                let change = &mut plan.changes[index];
                change.replace = true;
                change.link = (change.path != first).then(|| first.clone());
                touched.extend(change.path.parent());
            }
        }
        for path in touched {
            if let Err(at) = plan.changes.binary_search_by(|c| c.path.cmp(&path)) {
                plan.changes.insert(at, self.touch(path)?);
            }
        }
        Ok(plan)
    }

    /// A directory that stays as it is, so that it gets its times back.
    fn touch(&mut self, path: TreePath) -> Result<Change> {
        let (_, dir, name) = self.reach(&path)?;
        let stat = dir.stat(&name).on("stat", &path)?;
        let meta =
            Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs: None, flags: stat.flags };
        let node = Node::new(path.clone(), meta, Kind::Dir);
        Ok(Change { path, before: Some(node.clone()), after: Some(node), replace: false, link: None })
    }
}

/// As [`matches`], and not even its inode was changed since it was stamped; without a stamp its content is read.
fn unchanged(stat: &Stat, dir: &Dir, name: &[u8], node: &Node, watch: &Watch) -> Result<bool> {
    if !matches(stat, dir, name, node).on("readlink", &node.path)? {
        return Ok(false);
    }
    match (node.here, node.digest()) {
        (Some(stamp), _) => Ok(stamp.ctime == stat.ctime),
        (None, None) => Ok(true),
        (None, Some(digest)) => {
            let mut file = dir.open_file(name).on("open", &node.path)?;
            let job = Job { path: &node.path, limit: node.size(), watch };
            Ok(hash(&mut file, &job)?.1 == digest)
        }
    }
}

/// Fills the stages.
struct Work<'a> {
    stages: &'a [&'a Stage],
    plan: &'a Plan,
    look: Look<'a>,
    slots: Vec<Slot>,
    used: HashSet<(usize, Slot)>,
}

impl Work<'_> {
    /// Brings the file of a change into the stage, unless it joins another.
    fn stage(&mut self, index: usize, bodies: &mut dyn FnMut(&Change) -> Result<Slot>, watch: &Watch) -> Result<()> {
        let change = &self.plan.changes[index];
        let (area, _) = self.look.target.locate(&change.path)?;
        let stage = *self.stages.get(area).ok_or_else(|| Error::new(ErrorKind::Usage, "an area has no stage"))?;
        self.slots[index] = match &change.after {
            None if is_leaf(&change.before) => stage.number(),
            None => return Ok(()),
            Some(node) if node.kind.is_dir() && !is_leaf(&change.before) => return Ok(()),
            Some(node) if node.kind.is_dir() || !change.replace || change.link.is_some() => stage.number(),
            Some(node) if change.needs_body() => {
                let slot = bodies(change)?;
                let staged = stage.place(slot);
                // A later source may have had another word on owner and mode than the one that brought the body.
                settle(staged.dir, &staged.name, node, Attributes::Leave, stage.owners())?;
                slot
            }
            Some(node) if matches!(node.kind, Kind::File { .. }) => self.copy(change, node, stage, watch)?,
            Some(node) => stage.special(node)?,
        };
        if !self.used.insert((area, self.slots[index])) {
            return Err(Error::new(ErrorKind::Usage, "a staged file is to be in two places").at(&change.path));
        }
        Ok(())
    }

    /// A new inode with the content of the one in the tree.
    fn copy(&mut self, change: &Change, after: &Node, stage: &Stage, watch: &Watch) -> Result<Slot> {
        let (_, dir, name) = self.look.reach(&change.path)?;
        let file = dir.open_file(&name).on("open", &change.path)?;
        let stat = dir.stat_file(&file).on("stat", &change.path)?;
        let before = change.before.as_ref().filter(|before| {
            same_type(stat.kind, &before.kind) && stat.size == before.size() && stat.mtime == before.meta.mtime
        });
        let Some(before) = before else { return Err(conflict(change)) };
        let kind = if after.digest().is_some() { &after.kind } else { &before.kind };
        let node = Node { kind: kind.clone(), ..after.clone() };
        Ok(stage.file(&node, Body::File(&file), watch)?.slot)
    }

    /// Stages a name of an inode that is staged under another, or that stays in the tree.
    fn join(&mut self, index: usize, index_of: &HashMap<&TreePath, usize>) -> Result<()> {
        let change = &self.plan.changes[index];
        let (Some(anchor), Some(after), true) = (&change.link, &change.after, change.replace) else { return Ok(()) };
        let (area, _) = self.look.target.locate(&change.path)?;
        if area != self.look.target.locate(anchor)?.0 {
            let reason = "a hard link cannot reach from one filesystem into another";
            return Err(Error::new(ErrorKind::Refused, reason).at(&change.path));
        }
        let to = self.stages[area].place(self.slots[index]);
        if let Some(&first) = index_of.get(anchor).filter(|&&i| self.plan.changes[i].replace) {
            let from = self.stages[area].place(self.slots[first]);
            return from.dir.link(&from.name, to.dir, &to.name).on("link", &change.path);
        }
        let (_, dir, name) = self.look.reach(anchor)?;
        let stat = dir.stat(&name).on("stat", anchor)?;
        let is_file = matches!(after.kind, Kind::File { .. });
        if !same_type(stat.kind, &after.kind) || (is_file && stat.size != after.size()) {
            return Err(conflict(change));
        }
        dir.link(&name, to.dir, &to.name).on("link", &change.path)
    }
}
