// SPDX-License-Identifier: ISC
//! [`Policy`], and [`settle`], which puts it into the wanted tree so that [`super::diff`] stays two-way (decision E9).
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::error::Result;
use crate::path::{PathSet, TreePath};
use crate::tree::diff::pairs;
use crate::tree::{Kind, Meta, Node, Tree};

/// What to do with entries that nobody wanted, and with wanted entries that somebody edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// Leave them and report: the user's word stands.
    #[default]
    Keep,
    /// Remove the unknown, restore the edited: the recipe's word stands.
    Remove,
}

/// The origin of what was there when a directory was adopted.
pub const ADOPTED: &str = "adopted";

/// What may be touched.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Unknown and edited entries.
    pub unknown: Unknown,
    /// Paths that are installed if absent and never changed afterwards, with all below them.
    pub keep: PathSet,
    /// Paths whose edited files stay under [`Unknown::Remove`] too: silently, unless what is wanted changed as well. So
    /// does what nobody wanted there: it is somebody's own.
    pub edited: PathSet,
    /// Kept paths of which `check` says nothing: logs, caches, run-time state.
    pub volatile: PathSet,
    /// Files that go as soon as no process uses them any more.
    pub mapped: BTreeSet<TreePath>,
    /// Mount points in the root: kept, with all below them.
    pub mounts: PathSet,
    /// Paths made anew from what is there (accounts, caches): never judged as edited.
    pub ours: PathSet,
}

impl Policy {
    /// Is `path` out of reach of every change once it exists?
    pub fn holds(&self, path: &TreePath) -> bool {
        self.mounts.covers(path) || self.volatile.covers(path) || self.keep.covers(path)
    }

    /// Does something else stand in the place of a wanted device? That is no run-time state, whatever is volatile there:
    /// what is written to such a `/dev/null` fills the disk, and can be read.
    pub fn is_displaced(&self, have: &Node, want: &Node) -> bool {
        let is_device = matches!(want.kind, Kind::Char(..) | Kind::Block(..));
        let is_kept = || self.mounts.covers(&want.path) || self.keep.covers(&want.path);
        is_device && have.kind != want.kind && !is_kept()
    }
}

/// Why an entry was left as it is although the wanted tree says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Left {
    /// Only in the root, and policy keeps it.
    Unknown,
    /// Wanted, but changed or deleted since it was recorded.
    Edited,
    /// No longer wanted, but changed since it was recorded.
    Stale,
    /// No longer wanted, but a process uses it.
    Mapped,
    /// A directory that has to stay because of what lies below it.
    InUse,
    /// There when the directory was adopted, and wanted by no source.
    Adopted,
    /// Wanted, but below something that is left and is no directory.
    Blocked,
    /// Wanted, but below a link that is kept in the place of a directory: whoever moved that cares for it.
    Linked,
    /// Wanted, but below a mount point: nothing is put into another filesystem, nor under it.
    Mounted,
}

impl Left {
    /// The word used in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Left::Unknown => "unknown",
            Left::Edited => "edited",
            Left::Stale => "stale but edited",
            Left::Mapped => "in use",
            Left::InUse => "not empty",
            Left::Adopted => "adopted",
            Left::Blocked => "below an edited path",
            Left::Linked => "below a link that is kept",
            Left::Mounted => "below a mount",
        }
    }
}

/// What [`settle`] decided.
#[derive(Debug, Default)]
pub struct Settled {
    /// The tree that the root shall become: the argument for [`super::diff::diff`].
    pub want: Tree,
    /// Entries left against the wanted tree, in tree order.
    pub left: Vec<(TreePath, Left)>,
}

/// Puts the policy into the wanted tree.
///
/// `have` must know the digest of every file that `recorded` or `want` has too, or carry none for files that their
/// stamps prove unchanged. `recorded` is what the last build wanted; none for a root that was never built.
///
/// # Errors
/// Only if the result is no tree, which would be a fault in here.
pub fn settle(have: &Tree, recorded: Option<&Tree>, want: &Tree, policy: &Policy) -> Result<Settled> {
    let mut settler =
        Settler { recorded, policy, nodes: Vec::with_capacity(want.len()), kept: HashSet::new(), left: Vec::new() };
    for (have, want) in pairs(have, want) {
        settler.decide(have, want);
    }
    settler.finish(have, want)
}

struct Settler<'a> {
    recorded: Option<&'a Tree>,
    policy: &'a Policy,
    nodes: Vec<Node>,
    /// Names of link groups that stay as they are in the root.
    kept: HashSet<TreePath>,
    left: Vec<(TreePath, Left)>,
}

impl Settler<'_> {
    fn decide(&mut self, have: Option<&Node>, want: Option<&Node>) {
        match (have, want) {
            (Some(have), Some(want)) if self.policy.is_displaced(have, want) => self.nodes.push(want.clone()),
            (Some(have), _) if self.policy.holds(&have.path) => self.keep(have),
            (Some(have), Some(want)) => self.both(have, want),
            (None, Some(want)) => self.missing(want),
            (Some(have), None) => self.unwanted(have),
            (None, None) => {}
        }
    }

    fn was(&self, path: &TreePath) -> Option<&Node> {
        self.recorded.and_then(|tree| tree.get(path.as_bytes()))
    }

    fn keep(&mut self, have: &Node) {
        if have.group.is_some() {
            self.kept.insert(have.path.clone());
        }
        self.nodes.push(have.clone());
    }

    fn leave(&mut self, node: &Node, why: Left) {
        self.left.push((node.path.clone(), why));
    }

    /// Is the entry one of those that stay as they were edited?
    fn may_be_edited(&self, have: &Node) -> bool {
        !have.kind.is_dir() && self.policy.edited.covers(&have.path) && !self.policy.ours.covers(&have.path)
    }

    fn both(&mut self, have: &Node, want: &Node) {
        let was = self.was(&have.path);
        let mut known = was.is_some_and(|was| have.same_but_dir_time(was));
        if !known && self.may_be_edited(have) {
            known = was.is_some_and(|was| alike(have, was)) || alike(have, want);
            if !known {
                if !was.is_some_and(|was| alike(was, want)) {
                    self.leave(have, Left::Edited);
                }
                return self.keep(have);
            }
        }
        let free = known || self.policy.unknown == Unknown::Remove || self.policy.ours.covers(&have.path);
        if free || have.same_but_dir_time(want) {
            // Under `keep`, a directory's time tells of the user's own work in it.
            let keep_time = have.kind.is_dir() && want.kind.is_dir() && self.policy.unknown == Unknown::Keep;
            let mut node = want.clone();
            if keep_time {
                node.meta.mtime = have.meta.mtime;
            }
            self.nodes.push(node);
        } else {
            self.leave(have, Left::Edited);
            self.keep(have);
        }
    }

    fn missing(&mut self, want: &Node) {
        if self.policy.mounts.covers(&want.path) {
            return self.leave(want, Left::Mounted);
        }
        let deleted = self.was(&want.path).is_some() && !self.policy.holds(&want.path);
        if deleted && self.policy.unknown == Unknown::Keep && !self.policy.ours.covers(&want.path) {
            self.leave(want, Left::Edited);
        } else {
            self.nodes.push(want.clone());
        }
    }

    fn unwanted(&mut self, have: &Node) {
        let why = match self.was(&have.path) {
            // `adopt` promised to remove nothing; what it found was never ours.
            Some(was) if was.origin.as_deref() == Some(ADOPTED) => Left::Adopted,
            Some(_) if self.policy.mapped.contains(&have.path) => Left::Mapped,
            Some(was) if have.same_but_dir_time(was) => return,
            Some(_) => Left::Stale,
            None if self.policy.unknown == Unknown::Keep => Left::Unknown,
            None if self.policy.edited.covers(&have.path) => return self.keep(have),
            None => return,
        };
        self.leave(have, why);
        self.keep(have);
    }

    /// Makes the decisions a tree again: whatever stays or comes keeps its directories.
    fn finish(mut self, have: &Tree, want: &Tree) -> Result<Settled> {
        self.nodes.sort_by(|a, b| a.path.cmp(&b.path));
        part_groups(&mut self.nodes, &self.kept);
        let mut needed: HashSet<TreePath> = HashSet::new();
        for node in &self.nodes {
            for parent in node.path.ancestors() {
                if !needed.insert(parent) {
                    break;
                }
            }
        }
        // A wanted file in the place of a directory that must stay, or an entry below what will be no directory.
        let held = |path: &TreePath| have.get(path.as_bytes()).is_some_and(|n| n.kind.is_dir());
        let mut kept: Vec<Node> = Vec::with_capacity(self.nodes.len());
        let mut left = self.left;
        let mut closed: Option<(TreePath, Left)> = None;
        for node in self.nodes {
            if let Some((_, why)) = closed.as_ref().filter(|(top, _)| node.path.is_within(top)) {
                needed.remove(&node.path);
                left.push((node.path, *why));
                continue;
            }
            let blocks = needed.remove(&node.path) && !node.kind.is_dir();
            if !blocks {
                kept.push(node);
            } else if held(&node.path) {
                left.push((node.path.clone(), Left::InUse));
                kept.extend(have.get(node.path.as_bytes()).cloned());
            } else {
                let is_link = matches!(node.kind, Kind::Symlink(_));
                let why = if is_link && self.policy.holds(&node.path) { Left::Linked } else { Left::Blocked };
                closed = Some((node.path.clone(), why));
                kept.push(node);
            }
        }
        // Directories that nobody decided to keep, but that something below needs.
        for path in needed {
            let is_dir = |n: &&Node| n.kind.is_dir();
            let node = have.get(path.as_bytes()).filter(is_dir).or_else(|| want.get(path.as_bytes()).filter(is_dir));
            kept.extend(node.cloned());
        }
        left.sort();
        Ok(Settled { want: Tree::new(kept)?, left })
    }
}

/// The same but for the time, where the contents are known to be the same: who touched a file did not edit it.
fn alike(a: &Node, b: &Node) -> bool {
    let is_file = matches!(a.kind, Kind::File { .. });
    let read = !is_file || (a.digest().is_some() && b.digest().is_some()) || a.meta.mtime == b.meta.mtime;
    read && a.kind.same(&b.kind) && a.meta == Meta { mtime: a.meta.mtime, ..b.meta.clone() }
}

/// Keeps link groups of the root and of the wanted tree apart: both are called by a name, and may be called alike.
fn part_groups(nodes: &mut [Node], kept: &HashSet<TreePath>) {
    let mut firsts: HashMap<(bool, TreePath), TreePath> = HashMap::new();
    for node in nodes {
        if let Some(group) = node.group.take() {
            let first = firsts.entry((kept.contains(&node.path), group)).or_insert_with(|| node.path.clone());
            node.group = Some(first.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    /// One line a case: have, recorded, want -> the settled names (with the seed of files) and what was left.
    fn settled(have: &[&str], recorded: &[&str], want: &[&str], policy: &Policy) -> String {
        let recorded = tree(recorded);
        let settled = settle(&tree(have), Some(&recorded), &tree(want), policy).unwrap();
        let seed = |n: &Node| n.digest().map_or(n.kind.word().to_owned(), |d| char::from(d.0[0]).to_string());
        let names: Vec<String> = settled.want.nodes().iter().map(|n| format!("{}={}", n.path, seed(n))).collect();
        let left: Vec<String> = settled.left.iter().map(|(p, why)| format!("{p}:{}", why.word())).collect();
        format!("{} | {}", names.join(" "), left.join(" "))
    }

    #[test]
    fn classes_under_keep_and_remove() {
        let keep = Policy::default();
        let remove = Policy { unknown: Unknown::Remove, ..Policy::default() };
        for (have, recorded, want, kept, removed) in [
            // stale: as recorded, edited
            (&["f a x"][..], &["f a x"][..], &[][..], " | ", " | "),
            (&["f a y"], &["f a x"], &[], "a=y | a:stale but edited", "a=y | a:stale but edited"),
            // edited: changed, deleted
            (&["f a y"], &["f a x"], &["f a x"], "a=y | a:edited", "a=x | "),
            (&[], &["f a x"], &["f a x"], " | a:edited", "a=x | "),
            // unedited goes to what is wanted
            (&["f a x"], &["f a x"], &["f a z"], "a=z | ", "a=z | "),
            // unknown
            (&["d d", "f d/a x"], &[], &[], "d=dir d/a=x | d:unknown d/a:unknown", " | "),
            // a stale directory with an unknown file in it stays
            (&["d d", "f d/a x"], &["d d"], &[], "d=dir d/a=x | d/a:unknown", " | "),
            // a wanted file where a directory must stay
            (&["d d", "f d/a x"], &["d d"], &["f d z"], "d=dir d/a=x | d:not empty d/a:unknown", "d=z | "),
        ] {
            assert_eq!(settled(have, recorded, want, &keep), kept, "keep {have:?}");
            assert_eq!(settled(have, recorded, want, &remove), removed, "remove {have:?}");
        }
    }

    #[test]
    fn edited_files_stay_where_they_may() {
        let policy = Policy { unknown: Unknown::Remove, edited: PathSet::new(["e"]).unwrap(), ..Policy::default() };
        for (have, recorded, want, expect) in [
            // edited, and the default as it was; and changed; and changed to the same
            (&["d e", "f e/a y"][..], &["d e", "f e/a x"][..], &["d e", "f e/a x"][..], "e=dir e/a=y | "),
            (&["d e", "f e/a y"], &["d e", "f e/a x"], &["d e", "f e/a z"], "e=dir e/a=y | e/a:edited"),
            (&["d e", "f e/a y"], &["d e", "f e/a x"], &["d e", "f e/a y"], "e=dir e/a=y | "),
            // not edited; unknown, and wanted now; unknown; not there
            (&["d e", "f e/a x"], &["d e", "f e/a x"], &["d e", "f e/a z"], "e=dir e/a=z | "),
            (&["d e", "f e/a y"], &["d e"], &["d e", "f e/a z"], "e=dir e/a=y | e/a:edited"),
            (&["d e", "d e/d", "f e/d/b y"], &["d e"], &["d e"], "e=dir e/d=dir e/d/b=y | "),
            (&["d e"], &["d e", "f e/a x"], &["d e", "f e/a x"], "e=dir e/a=x | "),
        ] {
            assert_eq!(settled(have, recorded, want, &policy), expect, "{have:?} {want:?}");
        }
    }

    #[test]
    fn a_time_alone_is_no_edit() {
        let policy = Policy { unknown: Unknown::Remove, edited: PathSet::new(["e"]).unwrap(), ..Policy::default() };
        // have, recorded, want: contents, each with a time of its own -> what is there in the end, and what is left
        for (have, recorded, want, expect) in [
            ("x", "x", "z", ("z", 0)), // touched, and a newer default
            ("y", "x", "x", ("y", 0)), // edited; the default only has another time
            ("y", "x", "z", ("y", 1)), // edited, and so was the default
            ("z", "x", "z", ("z", 0)), // edited to what is the default now
        ] {
            let at = |seed: &str, sec: i64| {
                let mut tree = tree(&["d e", &format!("f e/a {seed}")]);
                tree.nodes_mut().for_each(|node| node.meta.mtime.sec = sec);
                tree
            };
            let settled = settle(&at(have, 1), Some(&at(recorded, 2)), &at(want, 3), &policy).unwrap();
            let (content, left) = expect;
            assert!(
                settled.want.get(b"e/a").unwrap().kind.same(&at(content, 0).get(b"e/a").unwrap().kind),
                "{have} {want}"
            );
            assert_eq!(settled.left.len(), left, "{have} {recorded} {want}");
        }
    }

    #[test]
    fn link_groups_of_the_root_and_of_the_recipe_stay_apart() {
        // The user's `a` and `mine` are one inode; the wanted `a` and `b` are another, called by the same first name.
        let have = tree(&["h a a", "f b x", "h mine a"]);
        let want = tree(&["h a a", "h b a"]);
        let mut recorded = want.clone();
        recorded.nodes_mut().for_each(|node| node.meta.uid = 9);
        let policy = Policy { keep: PathSet::new(["a"]).unwrap(), unknown: Unknown::Remove, ..Policy::default() };
        let settled = settle(&have, Some(&recorded), &want, &policy).unwrap();
        assert_eq!(settled.want.get(b"b").unwrap().group, None);
    }

    #[test]
    fn what_was_adopted_is_never_removed() {
        let mut recorded = tree(&["f a x"]);
        recorded.nodes_mut().for_each(|node| node.origin = Some(ADOPTED.into()));
        for unknown in [Unknown::Keep, Unknown::Remove] {
            let policy = Policy { unknown, ..Policy::default() };
            let settled = settle(&tree(&["f a x"]), Some(&recorded), &Tree::default(), &policy).unwrap();
            assert_eq!((settled.want.len(), settled.left[0].1), (1, Left::Adopted));
        }
    }

    #[test]
    fn what_stands_in_the_place_of_a_device_gives_way() {
        let set = |path: &str| PathSet::new([path]).unwrap();
        let device = |minor| Node { kind: Kind::Char(1, minor), ..crate::tree::tests::node("f v/null") };
        let with = |node: Node| Tree::new(vec![crate::tree::tests::node("d v"), node]).unwrap();
        let want = with(device(3));
        for unknown in [Unknown::Keep, Unknown::Remove] {
            let volatile = Policy { unknown, volatile: set("v"), ..Policy::default() };
            let of_others = Node { meta: Meta { uid: 9, ..Meta::default() }, ..device(3) };
            for (have, policy, restored) in [
                (with(device(9)), volatile.clone(), true),
                (tree(&["d v", "f v/null y"]), volatile.clone(), true),
                (tree(&["d v", "l v/null y"]), volatile.clone(), true),
                (with(of_others), volatile.clone(), false),
                (tree(&["d v", "d v/null", "f v/null/x y"]), volatile.clone(), false),
                (tree(&["d v", "f v/null y"]), Policy { mounts: set("v"), ..volatile.clone() }, false),
                (tree(&["d v", "f v/null y"]), Policy { keep: set("v"), ..volatile }, false),
            ] {
                let settled = settle(&have, Some(&want), &want, &policy).unwrap().want;
                assert_eq!(settled.get(b"v/null").unwrap().same(&device(3)), restored, "{:?}", have.nodes());
            }
        }
    }

    #[test]
    fn kept_paths_are_installed_once_and_never_changed() {
        let policy = Policy {
            unknown: Unknown::Remove,
            keep: PathSet::new(["k"]).unwrap(),
            mounts: PathSet::new(["m/n"]).unwrap(),
            ..Policy::default()
        };
        for (have, want, expect) in [
            (&[][..], &["d k", "f k/a x"][..], "k=dir k/a=x | "),
            (&["d k", "f k/a y", "f k/b y"], &["d k", "f k/a x"], "k=dir k/a=y k/b=y | "),
            (&["d m", "d m/n", "f m/n/x y", "f m/y y"], &[], "m=dir m/n=dir m/n/x=y | "),
            (&["d m", "d m/n"], &["f m x"], "m=dir m/n=dir | m:not empty"),
            (
                &["l k x"],
                &["d k", "d k/d", "f k/d/a x", "f z x"],
                "k=link z=x | k/d:below a link that is kept k/d/a:below a link that is kept",
            ),
            (&["d m", "d m/n"], &["d m", "d m/n", "f m/n/x x", "f m/y x"], "m=dir m/n=dir m/y=x | m/n/x:below a mount"),
        ] {
            assert_eq!(settled(have, &[], want, &policy), expect);
        }
    }
}
