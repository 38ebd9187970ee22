// SPDX-License-Identifier: ISC
//! Bringing the contents that a patch needs into the stages, while the patch is read once, from front to end.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};

use crate::apply::{self, Body, Slot, Stage, Target};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::resolve::{OnConflict, Why};
use crate::patch::{What, delta, digest_of};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::sys::is_stale;
use crate::tree::{Digest, Kind, Meta, Node, Tree};
use crate::watch::Watch;

/// What is brought where.
pub(crate) struct Bodies<'a> {
    target: &'a Target,
    /// None in a dry run: what comes is verified, and goes nowhere.
    stages: &'a [&'a Stage],
    here: &'a Tree,
    /// Nodes whose content is still to come, by its digest.
    wanted: HashMap<Digest, Vec<Node>>,
    on_conflict: OnConflict,
    /// Files whose content is made of what was, what is here and what comes.
    merges: HashSet<TreePath>,
    bases: HashMap<TreePath, Vec<u8>>,
    /// What is staged.
    pub(crate) slots: HashMap<TreePath, Slot>,
    /// Merged files as they are now.
    pub(crate) merged: Vec<Node>,
    /// Files that could not be merged, as they will be, and why.
    pub(crate) decided: Vec<(Node, Why)>,
    /// Files that could not be merged, with the marks of what is at odds.
    pub(crate) torn: Vec<(Node, Vec<u8>)>,
    watch: &'a Watch,
}

impl<'a> Bodies<'a> {
    pub(crate) fn new(
        (target, stages): (&'a Target, &'a [&'a Stage]),
        plan: &Plan,
        here: &'a Tree,
        (merges, on_conflict): (HashSet<TreePath>, OnConflict),
        watch: &'a Watch,
    ) -> Bodies<'a> {
        let mut wanted: HashMap<Digest, Vec<Node>> = HashMap::new();
        let needed = plan.changes.iter().filter(|change| change.needs_body() && !merges.contains(&change.path));
        for node in needed.filter_map(|change| change.after.as_ref()) {
            if let Some(digest) = node.digest() {
                wanted.entry(digest).or_default().push(node.clone());
            }
        }
        let (bases, slots, merged, decided, torn) = Default::default();
        Bodies { target, stages, here, wanted, merges, on_conflict, bases, slots, merged, decided, torn, watch }
    }

    /// Takes one body of the patch, for a change at where its path really is.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if it is not what the manifest says; [`ErrorKind::Refused`] for a difference from a
    /// content that is not here.
    pub(crate) fn take(&mut self, change: &Change, what: What, body: &mut dyn Read) -> Result<()> {
        let Some(after) = &change.after else { return Ok(()) };
        if self.merges.contains(&change.path) {
            let mut text = Vec::new();
            body.read_to_end(&mut text).on("read", &change.path)?;
            return if what == What::Base { self.base(change, text) } else { self.merge(change, &text) };
        }
        if what == What::Base {
            return Ok(());
        }
        let Some(node) = after.digest().and_then(|digest| self.next(digest, &change.path)) else { return Ok(()) };
        match what {
            What::Delta => {
                let before = self.before(change)?;
                let mut after = delta::patch(&before, BufReader::new(body), node.size())?;
                self.bring(&node, &mut after)
            }
            _ => self.bring(&node, body),
        }
    }

    /// A node that waits for this content, at this path if there is one.
    fn next(&mut self, digest: Digest, path: &TreePath) -> Option<Node> {
        let waiting = self.wanted.get_mut(&digest)?;
        let index = waiting.iter().position(|node| node.path == *path).or((!waiting.is_empty()).then_some(0))?;
        Some(waiting.swap_remove(index))
    }

    /// Nodes whose content nobody brought.
    pub(crate) fn missing(&self) -> Option<&Node> {
        self.wanted.values().flatten().next()
    }

    /// Stages a content, or only verifies it.
    fn bring(&mut self, node: &Node, body: &mut dyn Read) -> Result<()> {
        let (area, _) = self.target.locate(&node.path)?;
        let Some(stage) = self.stages.get(area) else {
            let digest = digest_of(body).on("read", &node.path)?;
            return if node.digest() == Some(digest) { Ok(()) } else { Err(unverified(node)) };
        };
        let staged = stage.file(node, Body::Stream(body), self.watch)?;
        self.slots.insert(node.path.clone(), staged.slot);
        Ok(())
    }

    /// The content that is here, which must be the one that the difference was made from.
    fn before(&self, change: &Change) -> Result<Vec<u8>> {
        let here = self.here.get(change.path.as_bytes());
        let expected = change.before.as_ref().and_then(Node::digest);
        if here.and_then(Node::digest) != expected {
            let error = Error::new(ErrorKind::Refused, "the patch brings only the difference from what is not here");
            return Err(error.at(&change.path).hint("get the patch with full bodies"));
        }
        self.read(&change.path, here.map_or(0, Node::size))
    }

    fn read(&self, path: &TreePath, size: u64) -> Result<Vec<u8>> {
        let (area, rest) = self.target.locate(path)?;
        let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let dir = self.target.areas[area].root.walk_parent(&rest).on("open", path)?;
        dir.open_file(rest.name()).and_then(|file| file.take(size + 1).read_to_end(&mut text)).on("read", path)?;
        Ok(text)
    }

    fn base(&mut self, change: &Change, text: Vec<u8>) -> Result<()> {
        verify(change.before.as_ref(), &text)?;
        self.bases.insert(change.path.clone(), text);
        Ok(())
    }

    /// Merges the changes of the patch into what is here.
    fn merge(&mut self, change: &Change, theirs: &[u8]) -> Result<()> {
        verify(change.after.as_ref(), theirs)?;
        let base = self.bases.remove(&change.path).unwrap_or_default();
        let Some(here) = self.here.get(change.path.as_bytes()) else { return Ok(()) };
        let ours = self.read(&change.path, here.size())?;
        let merged = match diffy::merge_bytes(&base, &ours, theirs) {
            Ok(merged) => merged,
            Err(marked) => return self.at_odds(change, here, marked, theirs),
        };
        let digest = apply::digest(&merged);
        let mut node = Node { group: None, here: None, ..here.clone() };
        node.kind = Kind::File { size: merged.len() as u64, digest: Some(digest) };
        node.meta.mtime = change.after.as_ref().map_or(node.meta.mtime, |after| after.meta.mtime);
        self.bring(&node, &mut merged.as_slice())?;
        self.merged.push(node);
        Ok(())
    }
}

impl Bodies<'_> {
    /// What is here and what the patch makes of it cannot be merged.
    fn at_odds(&mut self, change: &Change, here: &Node, marked: Vec<u8>, theirs: &[u8]) -> Result<()> {
        let Some(after) = &change.after else { return Ok(()) };
        match self.on_conflict {
            OnConflict::Refuse => self.torn.push((here.clone(), marked)),
            OnConflict::Keep => self.decided.push((here.clone(), Why::Kept("it was changed here, too"))),
            OnConflict::Replace => {
                let node = Node { kind: after.kind.clone(), group: None, here: None, ..here.clone() };
                let node = Node { meta: Meta { mtime: after.meta.mtime, ..node.meta.clone() }, ..node };
                self.bring(&node, &mut &*theirs)?;
                self.decided.push((node, Why::Replaced("it was changed here, too")));
            }
        }
        Ok(())
    }
}

fn verify(node: Option<&Node>, text: &[u8]) -> Result<()> {
    let Some(node) = node else { return Ok(()) };
    if node.digest() == Some(apply::digest(text)) {
        return Ok(());
    }
    Err(unverified(node))
}

fn unverified(node: &Node) -> Error {
    Error::new(ErrorKind::Unverified, "its content is not what the manifest of the patch says").at(&node.path)
}

/// The directory and name of the file at `path`, if its directories are there.
pub(crate) fn spot(target: &Target, path: &TreePath) -> Result<Option<(crate::sys::Dir, Vec<u8>)>> {
    let (area, rest) = target.locate(path)?;
    match target.areas[area].root.walk_parent(&rest) {
        Err(e) if is_stale(&e) => Ok(None),
        dir => dir.map(|dir| Some((dir, rest.name().to_vec()))).on("open", path),
    }
}
