// SPDX-License-Identifier: ISC
//! Old libraries under a running service: they stay, with their names, until the last process that has them mapped ends
//! (decision 38). It may load them once more, by the name that it knows.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::{IoContext, Result};
use crate::path::TreePath;
use crate::plan::Plan;
use crate::sys::{self, Dir, Process};
use crate::tree::diff::diff;
use crate::tree::policy::{Left, Settled, settle};
use crate::tree::resolve::resolve;
use crate::tree::{Kind, Node, Policy, Tree};

/// The origin, in the record, of what is there for a process that uses it and for nothing else.
pub(crate) const IN_USE: &str = "no longer wanted, but in use";

/// What became of a wanted tree.
pub(crate) struct Sparing {
    /// Entries left against it.
    pub(crate) left: Vec<(TreePath, Left)>,
    /// What is to be done.
    pub(crate) plan: Plan,
    /// What to say of it.
    pub(crate) notes: Vec<String>,
}

/// [`settle`] and the plan that follows, without the removal of files that processes have mapped.
///
/// # Errors
/// As settling; as looking at the files that would go.
pub(crate) fn settled(
    root: Option<&Dir>,
    (have, recorded): (&Tree, Option<&Tree>),
    want: &Tree,
    policy: &mut Policy,
) -> Result<Sparing> {
    let Settled { want: settled, left } = settle(have, recorded, want, policy)?;
    let plan = diff(have, &settled);
    let removed = plan.changes.iter().filter(|change| change.after.is_none()).map(|change| &change.path);
    let users = root.map(|root| users(root, removed)).transpose()?.unwrap_or_default();
    if users.is_empty() {
        return Ok(Sparing { left, plan, notes: Vec::new() });
    }
    policy.mapped = users.keys().cloned().chain(links_to(&users, have, &plan)).collect();
    drop(settled);
    let Settled { want: settled, left } = settle(have, recorded, want, policy)?;
    let kept: BTreeSet<&TreePath> = left.iter().filter(|(_, why)| *why == Left::Mapped).map(|(path, _)| path).collect();
    let notes: Vec<String> = users
        .iter()
        .filter(|(path, _)| kept.contains(path))
        .map(|(path, users)| {
            format!(
                "/{path} is no longer wanted, and stays while {} has it mapped; build again after that",
                sys::processes(users)
            )
        })
        .collect();
    Ok(Sparing { left, plan: diff(have, &settled), notes })
}

/// Which of the recorded files are there only for processes, and for which: those without any can go.
///
/// # Errors
/// As looking at the files.
pub(crate) fn recorded(root: &Dir, recorded: &Tree) -> Result<BTreeMap<TreePath, Vec<Process>>> {
    let mut found: BTreeMap<TreePath, Vec<Process>> = recorded
        .nodes()
        .iter()
        .filter(|node| is_file(node) && is_in_use(node))
        .map(|n| (n.path.clone(), Vec::new()))
        .collect();
    let users = users(root, found.keys())?;
    found.extend(users);
    Ok(found)
}

/// Was the node left for a process?
pub(crate) fn is_in_use(node: &Node) -> bool {
    node.origin.as_deref() == Some(IN_USE)
}

fn is_file(node: &Node) -> bool {
    matches!(node.kind, Kind::File { .. })
}

/// Who has mapped which of the files at `paths`. Whoever may not look finds nobody.
fn users<'a>(root: &Dir, paths: impl Iterator<Item = &'a TreePath>) -> Result<BTreeMap<TreePath, Vec<Process>>> {
    let (mut files, mut inodes) = (Vec::new(), HashSet::new());
    for path in paths {
        let parent = match root.walk_parent(path) {
            Err(error) if sys::is_stale(&error) => continue,
            parent => parent.on("open", path)?,
        };
        let stat = parent.find(path.name()).on("stat", path)?;
        if let Some(stat) = stat.filter(|stat| stat.kind == sys::FileType::File) {
            inodes.insert(stat.ino);
            files.push(path);
        }
    }
    let mut users: BTreeMap<TreePath, Vec<Process>> = BTreeMap::new();
    if files.is_empty() {
        return Ok(users);
    }
    for mapping in sys::mappings(&inodes, false).unwrap_or_default() {
        for path in &files {
            // The number may be another filesystem's; the end of the path, from wherever it is looked at, is ours.
            let end = [b"/", path.as_bytes()].concat();
            if mapping.paths.iter().any(|mapped| mapped.ends_with(&end)) {
                users.entry((*path).clone()).or_default().push(mapping.process.clone());
            }
        }
    }
    Ok(users)
}

/// The links that `plan` removes and that lead to those files: their other names.
fn links_to(users: &BTreeMap<TreePath, Vec<Process>>, have: &Tree, plan: &Plan) -> BTreeSet<TreePath> {
    let mut links = BTreeSet::new();
    for change in plan.changes.iter().filter(|change| change.after.is_none()) {
        let mut way = Vec::new();
        let end = resolve(
            &change.path,
            true,
            |path| have.get(path.as_bytes()).map(|node| &node.kind),
            |link| {
                way.push(link.clone());
                Ok(())
            },
        );
        // A link that leads nowhere leads to none of them.
        if let Ok(crate::tree::resolve::Resolved::Found(end)) = end
            && users.contains_key(&end)
        {
            links.extend(way);
        }
    }
    links
}
