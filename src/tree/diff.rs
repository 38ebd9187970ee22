// SPDX-License-Identifier: ISC
//! `diff(have, want)`: a merge of two sorted lists, then two corrections: link groups and the times of touched
//! directories.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use crate::path::{TreePath, compare};
use crate::plan::{Change, Plan};
use crate::tree::{Node, Tree, Xattrs};

/// The changes that turn `have` into `want`.
///
/// A file without digest on either side is compared by size and mtime; callers fill in the digests they need first.
/// A directory below which something changes is part of the plan even if it stays as it is, so that apply can put its
/// times back.
pub fn diff(have: &Tree, want: &Tree) -> Plan {
    let mut changes = merge(have, want);
    relink(have, want, &mut changes);
    touch_parents(have, want, &mut changes);
    Plan { changes: changes.into_values().collect() }
}

type Changes = BTreeMap<TreePath, Change>;

/// Pairs the nodes of two trees by path, in order.
pub fn pairs<'a>(a: &'a Tree, b: &'a Tree) -> impl Iterator<Item = (Option<&'a Node>, Option<&'a Node>)> {
    let (mut left, mut right) = (a.nodes().iter().peekable(), b.nodes().iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => compare(x.path.as_bytes(), y.path.as_bytes()),
        };
        Some(match order {
            std::cmp::Ordering::Less => (left.next(), None),
            std::cmp::Ordering::Greater => (None, right.next()),
            std::cmp::Ordering::Equal => (left.next(), right.next()),
        })
    })
}

fn merge(have: &Tree, want: &Tree) -> Changes {
    pairs(have, want)
        .filter(|(have, want)| !matches!((have, want), (Some(have), Some(want)) if have.same(want)))
        .map(|(have, want)| change(have, want, false))
        .map(|change| (change.path.clone(), change))
        .collect()
}

fn change(before: Option<&Node>, after: Option<&Node>, replace: bool) -> Change {
    let path = before.or(after).map(|n| n.path.clone()).unwrap_or_default();
    let replace = match (before, after) {
        (Some(before), Some(after)) => {
            replace || !before.kind.same(&after.kind) || (before.meta != after.meta && privileged(before, after))
        }
        _ => true,
    };
    Change { path, before: before.cloned(), after: after.cloned(), replace, link: None }
}

/// Set-id bits or capabilities on either side of a file: never changed in place (decision E5).
fn privileged(before: &Node, after: &Node) -> bool {
    let held = |node: &Node| {
        let capable = |x: &Xattrs| x.iter().any(|(name, _)| &**name == b"security.capability");
        !node.kind.is_dir() && (node.meta.mode & 0o6000 != 0 || node.meta.xattrs.as_deref().is_some_and(capable))
    };
    held(before) || held(after)
}

/// Marks every name whose inode would not be shared as `want` says once the contents are right.
///
/// An inode of `have` stays with the first wanted group (or single name) that has a name on it; each other name is
/// linked to that group's inode, or gets one of its own.
fn relink(have: &Tree, want: &Tree, changes: &mut Changes) {
    let mut units: BTreeMap<&TreePath, Vec<(&Node, Option<&TreePath>)>> = BTreeMap::new();
    for (have, want) in pairs(have, want) {
        let Some(want) = want else { continue };
        let had = have.and_then(|h| h.group.as_ref());
        if want.kind.is_dir() || (want.group.is_none() && had.is_none()) {
            continue;
        }
        let stays = have.is_some() && !changes.get(&want.path).is_some_and(|c| c.replace);
        let inode = stays.then(|| had.unwrap_or(&want.path));
        units.entry(want.group.as_ref().unwrap_or(&want.path)).or_default().push((want, inode));
    }
    let mut claimed: HashSet<&TreePath> = HashSet::new();
    for names in units.values() {
        let base = names.iter().find_map(|(_, inode)| inode.filter(|i| !claimed.contains(i)));
        claimed.extend(base);
        let stays = |inode: &Option<&TreePath>| inode.is_some() && *inode == base;
        let anchor = names.iter().find(|(_, inode)| stays(inode)).unwrap_or(&names[0]).0;
        for (node, _) in names.iter().filter(|(_, inode)| !stays(inode)) {
            let before = have.get(node.path.as_bytes());
            let entry = changes.entry(node.path.clone()).or_insert_with(|| change(before, Some(node), true));
            entry.replace = true;
            entry.link = (node.path != anchor.path).then(|| anchor.path.clone());
        }
    }
}

/// Adds each surviving directory in which an entry comes, goes or is replaced: its mtime has to be put back.
fn touch_parents(have: &Tree, want: &Tree, changes: &mut Changes) {
    let mut parents: HashSet<TreePath> = HashSet::new();
    for change in changes.values().filter(|c| c.replace) {
        parents.extend(change.path.parent());
    }
    for path in parents {
        if let (Some(before), Some(after)) = (have.get(path.as_bytes()), want.get(path.as_bytes())) {
            changes.entry(path).or_insert_with(|| change(Some(before), Some(after), false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    /// `+a *b`: letters and paths of the plan, touched directories left out.
    fn plan(have: &[&str], want: &[&str]) -> String {
        let plan = diff(&tree(have), &tree(want));
        let shown = plan.changes.iter().filter(|c| c.action() != crate::plan::Action::Touch);
        shown.map(|c| format!("{}{}", c.action().letter(), c.path)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn table() {
        for (have, want, expect) in [
            (&["d a"][..], &["d a"][..], ""),
            (&[], &["d a", "f a/b"], "+a +a/b"),
            (&["d a", "f a/b"], &[], "-a -a/b"),
            (&["f a x"], &["f a y"], "*a"),
            (&["f a x"], &["d a", "f a/b"], "!a +a/b"),
            (&["l a x"], &["l a y"], "*a"),
            // links: made, broken, first name removed (nothing happens to the second), joined, left, exchanged
            (&["f a h", "f b h"], &["h a a", "h b a"], "=b"),
            (&["h a a", "h b a"], &["f a h", "f b h"], "=b"),
            (&["h a a", "h b a"], &["f b h"], "-a"),
            (&["h a a", "h b a", "f c h"], &["h a a", "h b a", "h c a"], "=c"),
            (&["h a a", "h b a"], &["h a a", "h b a", "h c a"], "+c"),
            (&["h a a", "h b a", "h c a"], &["h a a", "h b a", "f c h"], "=c"),
            (&["h a a", "h b a", "h c c", "h d c"], &["h a a", "h c a", "h b b", "h d b"], "=b =c"),
            (&["f a x", "h b b", "h c b"], &["h a a", "h b a", "h c a"], "*a"),
            (&["h a a", "h b a"], &["h a a", "h b a"], ""),
        ] {
            assert_eq!(plan(have, want), expect, "{have:?} -> {want:?}");
        }
    }

    #[test]
    fn a_directory_that_is_touched_is_in_the_plan() {
        let plan = diff(&tree(&["d /", "d a", "f a/b x"]), &tree(&["d /", "d a", "f a/b y"]));
        let paths: Vec<String> = plan.changes.iter().map(|c| c.path.to_string()).collect();
        assert_eq!(paths, ["a", "a/b"]);
    }

    #[test]
    fn links_name_the_inode_to_join() {
        let plan = diff(&tree(&["h b b", "h c b"]), &tree(&["h a a", "h b a", "h c a"]));
        assert_eq!(plan.changes[0].link.as_ref().map(ToString::to_string), Some("b".to_owned()));
        assert_eq!(plan.stats().bytes, 0);
    }

    #[test]
    fn reversing_swaps() {
        let there = diff(&tree(&["f a x"]), &tree(&["f b x"])).reversed();
        assert_eq!((there.stats().added, there.stats().removed), (1, 1));
    }
}
