// SPDX-License-Identifier: ISC
//! `check`: what differs between a chroot and its manifest. Scan, compare, stop at the plan.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use super::closure::{Record, spare_own};
use super::mapped;
use super::open::Chroot;
use super::proof::{prove_root, read_all};
use crate::error::Result;
use crate::path::{PathSet, TreePath};
use crate::plan::{Change, Plan};
use crate::sys::Process;
use crate::tree::diff::{diff, pairs};
use crate::tree::{Node, Policy, Tree, relink};
use crate::watch::Watch;

/// What `check` found.
#[derive(Debug)]
pub struct Report {
    /// From the manifest (before) to what there is (after): `+` was added in the chroot, `-` is missing.
    pub plan: Plan,
    /// Every file was read; else unchanged stamps were believed.
    pub hashed: bool,
    /// How many files were read.
    pub read: usize,
    /// Files that are there only for processes that have them mapped, and those processes.
    pub in_use: BTreeMap<TreePath, Vec<Process>>,
    /// How many entries were compared.
    pub entries: usize,
}

/// Compares `chroot` with its manifest. `quiet` is the recipe's policy: its volatile paths are silent.
///
/// # Errors
/// As scan and read.
pub fn check(chroot: &Chroot, policy: &Policy, hash: bool, watch: &Watch) -> Result<Report> {
    let recorded = chroot.manifest()?;
    // Who asks for hashes trusts no stamp.
    let nothing = Tree::default();
    let scan = chroot.scan(if hash { &nothing } else { &recorded }, watch)?;
    let mut have = scan.tree;
    let mounts = PathSet::new(scan.mounts)?;
    let mut silent = Policy { mounts, keep: PathSet::default(), ..policy.clone() };
    if let Some(record) = Record::read(&chroot.state)? {
        spare_own(&mut silent, &record.own, &have, &[&recorded]);
    }
    let read = if hash {
        let seen = |node: &Node| !silent.holds(&node.path) && recorded.get(node.path.as_bytes()).is_some();
        read_all(&chroot.root, &mut have, watch, seen)?
    } else {
        prove_root((&chroot.root, &mut have), Some(&recorded), &recorded, &silent, watch)?
    };
    let entries = have.len();
    let in_use = mapped::recorded(&chroot.root, &recorded)?;
    let displaced: Vec<Change> =
        pairs(&recorded, &have).filter_map(|(was, is)| displaced(was?, is?, &silent)).collect();
    let recorded = spoken_of(recorded, &silent)?;
    let have = spoken_of(have, &silent)?;
    let mut plan = diff(&recorded, &have);
    relink::pass_over(&mut plan, &|source| recorded.get(source.as_bytes()).is_some());
    plan.changes.retain(|change| match (&change.before, &change.after) {
        (Some(before), Some(after)) => change.replace || !before.same_but_dir_time(after),
        _ => true,
    });
    let known: HashSet<TreePath> = plan.changes.iter().map(|change| change.path.clone()).collect();
    plan.changes.extend(displaced.into_iter().filter(|change| !known.contains(&change.path)));
    plan.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Report { plan, hashed: hash, read, in_use, entries })
}

/// What stands in the place of a device, silent as it may be there otherwise.
fn displaced(was: &Node, is: &Node, silent: &Policy) -> Option<Change> {
    let (path, before, after) = (was.path.clone(), Some(was.clone()), Some(is.clone()));
    silent.is_displaced(is, was).then_some(Change { path, before, after, replace: true, link: None })
}

/// The tree without what `check` is silent about.
fn spoken_of(tree: Tree, silent: &Policy) -> Result<Tree> {
    Tree::new(tree.into_nodes().into_iter().filter(|node| !silent.holds(&node.path)).collect())
}
