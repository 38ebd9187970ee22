// SPDX-License-Identifier: ISC
//! Carrying out the change that a patch, or its undo, makes to a root: one plan with what the root keeps of it.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::store::{KEPT, UNDO, Undo};
use super::target::Root;
use super::{bodies, record};
use crate::apply::{self, Body, Slot, Stage, Target, digest};
use crate::chroot::areas::Areas;
use crate::chroot::work::owners;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{CONTENTS, Contents};
use crate::path::TreePath;
use crate::plan::{self, Plan};
use crate::sys::Dir;
use crate::tree::diff::diff;
use crate::tree::{Kind, Meta, Node, Time, Tree, Xattrs};
use crate::watch::Watch;

/// What the root keeps of a patch that is applied.
pub(crate) struct Store<'a> {
    pub(crate) contents: &'a Contents,
    /// Its place among those that were applied.
    pub(crate) place: u64,
    /// What undoes it, but for the changes; none: nothing is kept.
    pub(crate) undo: Option<Undo>,
    /// Account files with what the patch adds to them. Undoing the patch leaves them: somebody may use the accounts.
    pub(crate) enrolled: Vec<(Node, Vec<u8>)>,
}

impl Store<'_> {
    /// The directories above the patch's own, that, and the files in it.
    pub(crate) fn paths(home: &TreePath) -> Result<Vec<TreePath>> {
        let files = [CONTENTS, UNDO, KEPT].into_iter().map(|name| home.join(name.as_bytes()));
        let mut paths: Vec<TreePath> = files.collect::<Result<_>>()?;
        paths.push(home.clone());
        paths.extend(home.ancestors().filter(|above| !above.is_root()));
        Ok(paths)
    }
}

/// A change of a root.
pub(crate) struct Change<'a> {
    pub(crate) root: &'a Root,
    /// The filesystems that it lies on.
    pub(crate) roots: &'a [(TreePath, Dir)],
    /// The entries that are there, and what is above them.
    pub(crate) here: &'a Tree,
    /// The root is changed, whatever fails from then on.
    pub(crate) made: Cell<bool>,
    pub(crate) watch: &'a Watch,
}

/// A file that is set aside for the undo: of which path, and under which name.
struct Keep {
    from: Node,
    path: TreePath,
    /// Its inode stays with another name and must not lose what it may do, or is on another filesystem.
    copied: bool,
}

impl Change<'_> {
    /// What is asked, and never written to.
    pub(crate) fn target(&self) -> Result<Target> {
        let area = |(at, root): &(TreePath, Dir)| -> Result<apply::Area> {
            let again = || root.try_clone().on("open", at);
            Ok(apply::Area { at: at.clone(), root: again()?.into(), work: again()? })
        };
        Ok(Target { areas: self.roots.iter().map(area).collect::<Result<_>>()?, owners: owners() })
    }

    /// Will the filesystems take it?
    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        let powerless = apply::refuse(&self.target()?, plan, &|_| false, &self.root.place.root)?;
        // A chroot is where its owner put it; a running system needs its programs.
        let refused = powerless.first().filter(|_| self.root.is_system());
        refused.map_or(Ok(()), |path| Err(apply::refused_set_id(path)))
    }

    /// Does something with a work space on each of the filesystems, of which nothing is left behind: but what an
    /// interrupted commit needs for its recovery.
    pub(crate) fn within<T>(&self, work: impl FnOnce(&Areas<'_>) -> Result<T>) -> Result<T> {
        let state = self.root.state()?;
        let areas = Areas::new(&self.root.place, state, self.roots)?;
        areas.note(state)?;
        let done = work(&areas);
        if !state.is_interrupted() {
            areas.clear(state)?;
            state.forget_unfinished()?;
        }
        done
    }

    /// Turns what is here into `want`, and lists the patch with what undoes it, in one step.
    pub(crate) fn commit(
        &self,
        want: &Tree,
        slots: HashMap<TreePath, Slot>,
        store: &Store<'_>,
        (target, stages): (&Target, &[&Stage]),
    ) -> Result<()> {
        let home = crate::patch::store(&store.contents.head.name)?;
        let plan = diff(self.here, want);
        let keeps = if store.undo.is_some() { self.keeps(&plan, &home, target)? } else { Vec::new() };
        let made = home.ancestors().filter(|above| self.here.get(above.as_bytes()).is_none()).collect();
        let undo = store.undo.clone().map(|undo| Undo { made, place: store.place, ..undo });
        let text = undo.map(|undo| self.undo_text(&undo, &plan, &keeps)).transpose()?;
        let date = store.contents.head.date;
        let contents = store.contents.text();
        let file = |path: TreePath, text: &[u8], mode| {
            let kind = Kind::File { size: text.len() as u64, digest: Some(digest(text)) };
            Node::new(path, meta(mode, date), kind)
        };
        let manifest = file(home.join(CONTENTS.as_bytes())?, &contents, 0o644);
        let mut made: Vec<(Node, &[u8])> = vec![(manifest, &contents)];
        if let Some(text) = &text {
            made.push((file(home.join(UNDO.as_bytes())?, text, 0o600), text));
        }
        made.extend(store.enrolled.iter().map(|(node, text)| (node.clone(), text.as_slice())));
        let mut nodes: BTreeMap<TreePath, Node> = want.nodes().iter().map(|n| (n.path.clone(), n.clone())).collect();
        let directory = |path: &TreePath, mode| Node::new(path.clone(), meta(mode, date), Kind::Dir);
        for above in home.ancestors().filter(|above| !above.is_root()).chain([home.clone()]) {
            nodes.entry(above.clone()).or_insert_with(|| directory(&above, 0o755));
        }
        if !keeps.is_empty() {
            let kept = home.join(KEPT.as_bytes())?;
            nodes.insert(kept.clone(), directory(&kept, 0o700));
        }
        nodes.extend(made.iter().map(|(node, _)| (node.path.clone(), node.clone())));
        for keep in &keeps {
            let node = Node { path: keep.path.clone(), group: None, here: None, origin: None, ..keep.from.clone() };
            nodes.insert(keep.path.clone(), node);
        }
        let want = Tree::new(nodes.into_values().collect())?;
        let texts: HashMap<&TreePath, &[u8]> = made.iter().map(|(node, text)| (&node.path, *text)).collect();
        let kept: HashMap<&TreePath, &Keep> = keeps.iter().map(|keep| (&keep.path, keep)).collect();
        let mut slots = slots;
        let mut bring = |change: &plan::Change| -> Result<Slot> {
            if let Some(slot) = slots.remove(&change.path) {
                return Ok(slot);
            }
            let stage = stages[target.locate(&change.path)?.0];
            if let Some(text) = texts.get(&change.path) {
                let node = change.after.as_ref().ok_or_else(|| unstaged(change))?;
                return Ok(stage.file(node, Body::Bytes(text), self.watch)?.slot);
            }
            let keep = kept.get(&change.path).ok_or_else(|| unstaged(change))?;
            self.set_aside(keep, target, stage)
        };
        let undo = text.as_ref().map(|text| digest(text));
        let digests = record::Digests { contents: digest(&contents), undo, place: store.place };
        record::note(self.root, &store.contents.head.name, &digests)?;
        let plan = diff(self.here, &want);
        let record = record::next(self.root, &plan, Some(&store.contents.head.name))?;
        self.carry_out(plan, &mut bring, record, (target, stages))
    }

    /// Carries out a plan and makes `record` the manifest of the root.
    pub(crate) fn carry_out(
        &self,
        plan: Plan,
        bring: &mut dyn FnMut(&plan::Change) -> Result<Slot>,
        record: Option<Tree>,
        (target, stages): (&Target, &[&Stage]),
    ) -> Result<()> {
        let state = self.root.state()?;
        let prepared = apply::prepare(target, stages, plan, bring, self.watch)?;
        if let Some(record) = &record {
            record::prepare(state, record)?;
        }
        self.watch.check()?;
        let finish = || super::store::disarm(&self.root.dir).and_then(|()| crate::chroot::recorded::promote(state));
        apply::commit(target, &state.dir, &prepared, &finish, self.watch)?;
        self.made.set(true);
        record::verify(self.roots, prepared.plan(), self.watch)?;
        match record {
            Some(record) => record::stamp(self.root, record, prepared.plan(), self.watch),
            None => Ok(()),
        }
    }

    /// The files whose content the undo will need: an inode once, whatever its names.
    fn keeps(&self, plan: &Plan, home: &TreePath, target: &Target) -> Result<Vec<Keep>> {
        let going: HashMap<&TreePath, &plan::Change> = plan.changes.iter().map(|c| (&c.path, c)).collect();
        let leaves = |path: &TreePath| going.get(path).is_some_and(|c| c.replace || c.after.is_none());
        let mut twins: HashMap<&TreePath, Vec<&TreePath>> = HashMap::new();
        for node in self.here.nodes() {
            if let Some(group) = &node.group {
                twins.entry(group).or_default().push(&node.path);
            }
        }
        let mut keeps: Vec<Keep> = Vec::new();
        let mut seen = HashSet::new();
        let store = target.locate(home)?.0;
        for change in &plan.changes {
            let Some(before) = change.before.as_ref().filter(|before| is_needed(before, change)) else { continue };
            if before.group.as_ref().is_some_and(|group| !seen.insert(group.clone())) {
                continue;
            }
            let names = before.group.as_ref().and_then(|group| twins.get(group)).map_or(&[][..], Vec::as_slice);
            let stays = !names.iter().all(|path| leaves(path));
            let path = home.join(KEPT.as_bytes())?.join(format!("{:06}", keeps.len()).as_bytes())?;
            // Other names may be those of a clone by links, which nobody patches here: their inode stays as it is. Else they
            // are a user's own, and lose what the program may do.
            let shared = self.root.shares && links(target, &change.path)? > names.len().max(1) as u64;
            let changes = (stays || shared) && is_armed(&before.meta);
            let copied = changes || target.locate(&change.path)?.0 != store;
            keeps.push(Keep { from: before.clone(), path, copied });
        }
        Ok(keeps)
    }

    /// The text of `+UNDO`.
    fn undo_text(&self, undo: &Undo, plan: &Plan, keeps: &[Keep]) -> Result<Vec<u8>> {
        let mut plan = plan.clone();
        let recorded = self.root.state()?.read_tree("manifest")?;
        for before in plan.changes.iter_mut().filter_map(|change| change.before.as_mut()) {
            before.here = None;
            before.origin = recorded.as_ref().and_then(|tree| tree.get(before.path.as_bytes())?.origin.clone());
        }
        let kept = keeps.iter().enumerate().map(|(number, keep)| (keep.from.path.clone(), number)).collect();
        Ok(Undo { plan, kept, ..undo.clone() }.text())
    }

    /// Brings a file that goes into the stage, to become part of what the root keeps: as a second name of it, or a copy.
    fn set_aside(&self, keep: &Keep, target: &Target, stage: &Stage) -> Result<Slot> {
        let path = &keep.from.path;
        let gone = || Error::new(ErrorKind::Refused, "it is gone since it was looked at").at(path);
        let (dir, name) = bodies::spot(target, path)?.ok_or_else(gone)?;
        if !keep.copied
            && let Ok(slot) = stage.link(&dir, &name)
        {
            return Ok(slot);
        }
        let file = dir.open_file(&name).on("open", path)?;
        let node = Node { path: keep.path.clone(), group: None, here: None, ..keep.from.clone() };
        Ok(stage.file(&node, Body::File(&file), self.watch)?.slot)
    }
}

/// How many names the file at `path` has.
fn links(target: &Target, path: &TreePath) -> Result<u64> {
    let Some((dir, name)) = bodies::spot(target, path)? else { return Ok(0) };
    Ok(dir.find(&name).on("stat", path)?.map_or(0, |stat| stat.links))
}

/// Does the undo need the content of what was there?
fn is_needed(before: &Node, change: &plan::Change) -> bool {
    let same = change.after.as_ref().is_some_and(|after| after.kind.same(&before.kind));
    matches!(before.kind, Kind::File { .. }) && !same
}

/// Has it set-id bits or capabilities, which what is set aside loses?
fn is_armed(meta: &Meta) -> bool {
    let capable = |xattrs: &Xattrs| xattrs.iter().any(|(name, _)| **name == *b"security.capability");
    meta.mode & 0o6000 != 0 || meta.xattrs.as_deref().is_some_and(capable)
}

/// Root's own.
fn meta(mode: u16, date: i64) -> Meta {
    Meta { mode, mtime: Time { sec: date, nsec: 0 }, ..Meta::default() }
}

fn unstaged(change: &plan::Change) -> Error {
    Error::new(ErrorKind::NotFound, "its content was not staged").at(&change.path)
}
