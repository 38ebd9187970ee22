// SPDX-License-Identifier: ISC
//! The order in which the changes of a plan are carried out. Pure.
//!
//! Directories come first, so that everything has its place; then what becomes something else; then additions and
//! replacements, libraries before the programs that need them; then removals; metadata last, of directories deepest
//! first, because whatever comes or goes in a directory moves its times. File flags that hold an entry are taken away before
//! all of that, and given when all of it is done.
#![forbid(unsafe_code)]

use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::tree::Node;

/// One step; the numbers are indices into the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes what was there before writable for its owner: a directory's mode, and file flags that hold an entry.
    Unlock(usize),
    /// Moves a file out.
    TakeOut(usize),
    MakeDir(usize),
    /// Empties a directory (of the changes given, the last first), removes it and puts a file in its place.
    Retype(usize, Vec<usize>),
    /// Puts a staged file in its place.
    Place(usize),
    RemoveDir(usize),
    /// Sets the metadata of a file that stays.
    Settle(usize),
    /// Sets the metadata of a directory.
    SettleDir(usize),
    /// Sets the file flags of an entry.
    Hold(usize),
}

/// The steps of a plan. `unlock`: the caller is bound by permissions (is not root).
pub(super) fn steps(plan: &Plan, unlock: bool) -> Vec<Step> {
    let mut steps = Vec::with_capacity(plan.changes.len() + 16);
    let all = || plan.changes.iter().enumerate();
    let locked = |c: &Change| unlock && is_dir(&c.before) || has_flags(&c.before);
    steps.extend(all().filter(|(_, c)| locked(c)).map(|(i, _)| Step::Unlock(i)));
    for (index, change) in all().filter(|(_, c)| is_dir(&c.after) && !is_dir(&c.before)) {
        steps.extend(change.before.is_some().then_some(Step::TakeOut(index)));
        steps.push(Step::MakeDir(index));
    }
    let mut emptied: Option<&TreePath> = None;
    let mut removed = Vec::new();
    for (index, change) in all() {
        let within = emptied.is_some_and(|top| change.path.is_within(top));
        if is_dir(&change.before) && is_leaf(&change.after) {
            emptied = Some(&change.path);
            steps.push(Step::Retype(index, Vec::new()));
        } else if within && let Some(Step::Retype(_, below)) = steps.last_mut() {
            below.push(index);
        } else if change.after.is_none() {
            removed.push(index);
        }
    }
    let mut placed: Vec<(bool, bool, usize)> = all()
        .filter(|(_, c)| !is_dir(&c.before) && is_leaf(&c.after) && c.replace)
        .map(|(index, c)| (c.before.is_some(), !is_library(c), index))
        .collect();
    placed.sort_unstable();
    steps.extend(placed.into_iter().map(|(_, _, index)| Step::Place(index)));
    steps.extend(removed.into_iter().rev().map(|index| removal(plan, index)));
    let settled = all().filter(|(_, c)| is_leaf(&c.before) && is_leaf(&c.after) && !c.replace);
    steps.extend(settled.map(|(index, _)| Step::Settle(index)));
    steps.extend(all().rev().filter(|(_, c)| is_dir(&c.after)).map(|(index, _)| Step::SettleDir(index)));
    // Whatever held an entry was taken from it, so that it has to be held again.
    steps.extend(all().rev().filter(|(_, c)| has_flags(&c.after)).map(|(index, _)| Step::Hold(index)));
    steps
}

/// How the entry of a change that leaves nothing goes.
pub(super) fn removal(plan: &Plan, index: usize) -> Step {
    if is_dir(&plan.changes[index].before) { Step::RemoveDir(index) } else { Step::TakeOut(index) }
}

pub(super) fn is_dir(node: &Option<Node>) -> bool {
    node.as_ref().is_some_and(|n| n.kind.is_dir())
}

fn has_flags(node: &Option<Node>) -> bool {
    node.as_ref().is_some_and(|n| n.meta.flags != 0)
}

/// Something, and no directory.
pub(super) fn is_leaf(node: &Option<Node>) -> bool {
    node.as_ref().is_some_and(|n| !n.kind.is_dir())
}

/// `libc.so`, `libc.so.6`.
fn is_library(change: &Change) -> bool {
    let name = change.path.name();
    name.ends_with(b".so") || name.windows(4).any(|w| w == b".so.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::diff::diff;
    use crate::tree::tests::tree;

    fn shown(have: &[&str], want: &[&str]) -> String {
        let plan = diff(&tree(have), &tree(want));
        let path = |i: &usize| plan.changes[*i].path.to_string();
        let word = |step: &Step| match step {
            Step::Unlock(i) => format!("unlock {}", path(i)),
            Step::TakeOut(i) => format!("out {}", path(i)),
            Step::MakeDir(i) => format!("mkdir {}", path(i)),
            Step::Retype(i, below) => {
                format!("retype {}({})", path(i), below.iter().rev().map(path).collect::<Vec<_>>().join(" "))
            }
            Step::Place(i) => format!("place {}", path(i)),
            Step::RemoveDir(i) => format!("rmdir {}", path(i)),
            Step::Settle(i) => format!("settle {}", path(i)),
            Step::SettleDir(i) => format!("settle {}/", path(i)),
            Step::Hold(i) => format!("hold {}", path(i)),
        };
        steps(&plan, false).iter().map(word).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn table() {
        for (have, want, expect) in [
            (&[][..], &["d a", "d a/b", "f a/b/c"][..], "mkdir a, mkdir a/b, place a/b/c, settle a/b/, settle a/"),
            (&["d a", "d a/b", "f a/b/c"], &[], "out a/b/c, rmdir a/b, rmdir a"),
            (
                &["f bin x", "f libz.so.1 x"],
                &["f bin y", "f libz.so.1 y", "f new x", "f libn.so x"],
                "place libn.so, place new, place libz.so.1, place bin",
            ),
            (&["f a"], &["d a", "f a/b"], "out a, mkdir a, place a/b, settle a/"),
            (&["d a", "d a/b", "f a/b/c", "f a-"], &["f a"], "retype a(a/b/c a/b), out a-"),
            (&["d a", "f a/b x"], &["d a", "f a/b y"], "place a/b, settle a/"),
            // What is held is let go first, and held again when all is done.
            (
                &["d a", "f a/b x flags"],
                &["d a flags", "f a/b y flags"],
                "unlock a/b, place a/b, settle a/, hold a/b, hold a",
            ),
            (&["d a flags", "f a/b x flags"], &["d a flags"], "unlock a, unlock a/b, out a/b, settle a/, hold a"),
        ] {
            assert_eq!(shown(have, want), expect, "{have:?} -> {want:?}");
        }
    }
}
