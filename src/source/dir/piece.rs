// SPDX-License-Identifier: ISC
//! What each thread walked, and how it becomes one tree: everything is in order already, so nothing is sorted.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::vec::IntoIter;

use super::Scan;
use super::walk::{Found, Inode};
use crate::path::TreePath;
use crate::tree::{Node, Tree};

/// Entries in tree order; other threads' pieces belong in between.
#[derive(Default)]
pub(super) struct Piece {
    nodes: Vec<Node>,
    /// Indices of nodes whose inode may have further names.
    shared: Vec<(usize, Inode)>,
    mounts: Vec<TreePath>,
    /// Before which index the piece of which job belongs.
    gaps: Vec<(usize, usize)>,
}

impl Piece {
    pub(super) fn add(&mut self, found: Found) {
        self.shared.extend(found.inode.map(|inode| (self.nodes.len(), inode)));
        self.mounts.extend(found.mount.then(|| found.node.path.clone()));
        self.nodes.push(found.node);
    }

    /// Here belongs the piece of the job `number`.
    pub(super) fn leave(&mut self, number: usize) {
        self.gaps.push((self.nodes.len(), number));
    }

    /// Puts the pieces together, beginning with that of job 0.
    pub(super) fn join(mut pieces: BTreeMap<usize, Piece>) -> Piece {
        let total = pieces.values().map(|piece| piece.nodes.len()).sum();
        let mut whole = Piece { nodes: Vec::with_capacity(total), ..Piece::default() };
        let mut open: Vec<Open> = pieces.remove(&0).map(|first| Open::new(first, &mut whole)).into_iter().collect();
        while let Some(piece) = open.last_mut() {
            let gap = piece.gaps.next();
            piece.pass(gap.map(|(before, _)| before), &mut whole);
            match gap.and_then(|(_, number)| pieces.remove(&number)) {
                Some(next) => open.push(Open::new(next, &mut whole)),
                None if gap.is_none() => drop(open.pop()),
                None => {} // the thread that took it found it gone
            }
        }
        whole
    }

    /// Makes the tree; names that share an inode become groups.
    pub(super) fn finish(mut self) -> Scan {
        let mut first_names: HashMap<Inode, TreePath> = HashMap::new();
        for (index, inode) in self.shared {
            let node = &mut self.nodes[index];
            // A group of one is dissolved by `Tree`.
            node.group = Some(first_names.entry(inode).or_insert_with(|| node.path.clone()).clone());
        }
        self.mounts.sort_unstable();
        Scan { tree: Tree::from_sorted(self.nodes), mounts: self.mounts }
    }
}

/// A piece of which the first nodes are in the whole.
struct Open {
    nodes: IntoIter<Node>,
    passed: usize,
    shared: Peekable<IntoIter<(usize, Inode)>>,
    gaps: IntoIter<(usize, usize)>,
}

impl Open {
    fn new(piece: Piece, whole: &mut Piece) -> Open {
        whole.mounts.extend(piece.mounts);
        let (nodes, gaps) = (piece.nodes.into_iter(), piece.gaps.into_iter());
        Open { nodes, passed: 0, shared: piece.shared.into_iter().peekable(), gaps }
    }

    /// Moves the nodes before index `end`, or all.
    fn pass(&mut self, end: Option<usize>, whole: &mut Piece) {
        let end = end.unwrap_or(self.passed + self.nodes.len());
        let moved = whole.nodes.len() - self.passed;
        while let Some((index, inode)) = self.shared.next_if(|(index, _)| *index < end) {
            whole.shared.push((index + moved, inode));
        }
        whole.nodes.extend(self.nodes.by_ref().take(end - self.passed));
        self.passed = end;
    }
}
