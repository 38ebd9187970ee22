// SPDX-License-Identifier: ISC
//! A dry run of several undos: each is planned against what those before it would leave.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::error::Result;
use crate::path::TreePath;
use crate::plan::Plan;
use crate::tree::{Node, Tree};

/// What the plans so far would make of a root, at the paths that they change.
#[derive(Debug, Default)]
pub(super) struct Undoing(BTreeMap<TreePath, Option<Node>>);

impl Undoing {
    /// One more plan.
    pub(super) fn add(&mut self, plan: &Plan) {
        self.0.extend(plan.changes.iter().map(|change| (change.path.clone(), change.after.clone())));
    }

    /// What is here, as the plans would leave it.
    pub(super) fn tree(&self, here: Tree) -> Result<Tree> {
        if self.0.is_empty() {
            return Ok(here);
        }
        let mut nodes: BTreeMap<TreePath, Node> = here.into_nodes().into_iter().map(|n| (n.path.clone(), n)).collect();
        for (path, after) in &self.0 {
            match after {
                Some(node) => drop(nodes.insert(path.clone(), node.clone())),
                None => drop(nodes.remove(path)),
            }
        }
        Tree::new(nodes.into_values().collect())
    }

    /// The names in the directory `path`, of which these are there now.
    pub(super) fn names(&self, path: &TreePath, mut there: Vec<TreePath>) -> Vec<TreePath> {
        there.retain(|name| !matches!(self.0.get(name), Some(None)));
        let made = self.0.iter().filter(|(at, after)| after.is_some() && at.parent().as_ref() == Some(path));
        there.extend(made.map(|(at, _)| at.clone()).filter(|at| !there.contains(at)).collect::<Vec<_>>());
        there
    }
}
