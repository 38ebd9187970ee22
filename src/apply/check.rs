// SPDX-License-Identifier: ISC
//! [`check`]: will the filesystem take the plan? Asked before anything is touched.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::sys::Space;
use crate::tree::{Kind, Node};

use super::Target;
use super::commit::RESERVE_BYTES;
use super::shards::DIRECTORIES;

/// What a filesystem needs, and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Where it is mounted in the tree; one place, if it is mounted in several.
    pub at: TreePath,
    /// Bytes that the plan takes at its peak, old files that are kept until the end not counted: they are there.
    pub bytes: u64,
    /// Inodes that the plan takes at its peak.
    pub inodes: u64,
    /// Bytes that are free for this user.
    pub free: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
}

/// What [`check`] found.
#[derive(Debug, Default)]
pub struct Checked {
    /// By filesystem.
    pub needs: Vec<Need>,
    /// Why the plan cannot be carried out, or its result could not be used: read-only, no space, devices on a `nodev`
    /// mount, programs on `noexec`. One of each kind for each area.
    pub problems: Vec<Error>,
    /// Set-id files that come to a filesystem mounted `nosuid`, where they get no rights.
    pub powerless: Vec<TreePath>,
}

/// Adds up what `plan` needs and compares it with the filesystems' room and rules.
///
/// Sizes are those that the plan's nodes declare: files with holes, and copies that share their blocks, need less.
/// What is `staged` already has its room.
///
/// # Errors
/// If a filesystem cannot be asked.
pub fn check(target: &Target, plan: &Plan, staged: &dyn Fn(&Change) -> bool) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut needs: BTreeMap<u64, Need> = BTreeMap::new();
    for (index, area) in target.areas.iter().enumerate() {
        let space = area.root.space().on("statfs", &area.at)?;
        let mut changes = Vec::new();
        for change in &plan.changes {
            if target.locate(&change.path)?.0 == index {
                changes.push(change);
            }
        }
        let need = needs.entry(space.id).or_insert_with(|| Need {
            at: area.at.clone(),
            bytes: RESERVE_BYTES as u64 + DIRECTORIES * space.block,
            inodes: DIRECTORIES,
            free: space.free,
            free_inodes: space.inodes,
        });
        for (bytes, inodes) in changes.iter().filter(|c| !staged(c)).map(|change| cost(change, space.block)) {
            need.bytes = need.bytes.saturating_add(bytes);
            need.inodes += inodes;
        }
        checked.problems.extend(rules(&area.at, &space, &changes));
        checked.powerless.extend(powerless(&space, &changes));
    }
    checked.needs = needs.into_values().collect();
    checked.problems.extend(checked.needs.iter().filter_map(shortage));
    Ok(checked)
}

/// Refuses a plan with the first problem that [`check`] finds. If that is one of a filesystem, it names where that is: in
/// the tree whose root is `root`. Returns the set-id files that will get no rights: not each chroot needs them to.
///
/// # Errors
/// The problem; as [`check`].
pub fn refuse(target: &Target, plan: &Plan, staged: &dyn Fn(&Change) -> bool, root: &Path) -> Result<Vec<TreePath>> {
    let checked = check(target, plan, staged)?;
    let Some(problem) = checked.problems.into_iter().next() else { return Ok(checked.powerless) };
    Err(if problem.kind() == ErrorKind::NoSpace { problem.below(root.as_os_str().as_bytes()) } else { problem })
}

/// Bytes and inodes that a change takes while the old file is still there.
fn cost(change: &Change, block: u64) -> (u64, u64) {
    let Some(after) = &change.after else { return (0, 0) };
    let staged = change.replace && change.link.is_none();
    match after.kind {
        Kind::Dir if change.before.as_ref().is_some_and(|n| n.kind.is_dir()) => (0, 0),
        Kind::Dir => (block, 1),
        _ if !staged => (0, 0),
        Kind::File { size, .. } => (size.div_ceil(block.max(1)).saturating_mul(block), 1),
        _ => (0, 1),
    }
}

fn shortage(need: &Need) -> Option<Error> {
    let short = |what: &str, needed: u64, free: u64| {
        let reason = format!("it needs {needed} {what}, and {free} are free");
        Error::new(ErrorKind::NoSpace, reason).at(shown(&need.at)).hint("make room, or choose another filesystem")
    };
    if need.bytes > need.free {
        return Some(short("bytes", need.bytes, need.free));
    }
    (need.inodes > need.free_inodes).then(|| short("inodes", need.inodes, need.free_inodes))
}

/// What the options of the mount forbid.
fn rules(at: &TreePath, space: &Space, changes: &[&Change]) -> Vec<Error> {
    let mut problems = Vec::new();
    if space.read_only && !changes.is_empty() {
        let error = Error::new(ErrorKind::NoSpace, "its filesystem is mounted read-only").at(shown(at));
        problems.push(error.hint("mount it writable: mount -o remount,rw"));
    }
    let options: [(bool, &str, &str, Meets); 2] = [
        (space.nodev, "nodev", "a device does not work", |n| matches!(n.kind, Kind::Char(..) | Kind::Block(..))),
        (space.noexec, "noexec", "a program does not start", |n| is_file(n) && n.meta.mode & 0o111 != 0),
    ];
    for (set, option, reason, meets) in options {
        let mut brought = changes.iter().filter_map(|c| c.after.as_ref());
        if let Some(node) = brought.find(|node| set && meets(node)) {
            problems.push(forbidden(&node.path, option, reason));
        }
    }
    problems
}

fn forbidden(path: &TreePath, option: &str, reason: &str) -> Error {
    let way_out = format!("mount it without: mount -o remount,{}; or choose another filesystem", &option[2..]);
    Error::new(ErrorKind::Refused, format!("{reason} on a filesystem mounted {option}")).at(path).hint(way_out)
}

fn powerless(space: &Space, changes: &[&Change]) -> Vec<TreePath> {
    let brought = changes.iter().filter_map(|change| change.after.as_ref()).filter(|_| space.nosuid);
    let is_set_id = |node: &&Node| is_file(node) && node.meta.mode & 0o6000 != 0;
    brought.filter(is_set_id).map(|node| node.path.clone()).collect()
}

/// The refusal of a set-id program that gets no rights.
pub fn refused_set_id(path: &TreePath) -> Error {
    forbidden(path, "nosuid", "a set-id program gets no rights")
}

/// Does an option concern an entry?
type Meets = fn(&Node) -> bool;

fn is_file(node: &Node) -> bool {
    matches!(node.kind, Kind::File { .. })
}

/// An area for people: the root of the tree has no name of its own.
fn shown(at: &TreePath) -> &[u8] {
    if at.is_root() { b"/" } else { at.as_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;
    use crate::tree::diff::diff;
    use crate::tree::tests::{node, tree};

    const SPACE: Space = Space {
        free: 0,
        inodes: 0,
        block: 4096,
        read_only: false,
        nodev: false,
        nosuid: false,
        noexec: false,
        id: 0,
        volatile: false,
    };

    #[test]
    fn costs() {
        for (have, want, expect) in [
            (&[][..], &["d a", "f a/b xyz", "l a/c b"][..], (8192, 3)),
            (&["f a x"], &["f a y"], (4096, 1)),
            (&["h a a", "h b a"], &["h a a", "h b a", "h c a"], (0, 0)),
            (&["h a a", "h b a"], &["f a h", "f b h"], (4096, 1)),
            (&["d a", "f a/b"], &[], (0, 0)),
        ] {
            let plan = diff(&tree(have), &tree(want));
            let costs = plan.changes.iter().map(|c| cost(c, 4096));
            assert_eq!(costs.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)), expect, "{have:?} -> {want:?}");
        }
    }

    #[test]
    fn options_forbid() {
        let mut set_id = node("f su");
        set_id.meta.mode = 0o4755;
        let device = Node { kind: Kind::Char(1, 3), ..node("f null") };
        let plan = diff(&Tree::default(), &Tree::new(vec![set_id, device]).unwrap());
        let changes: Vec<&Change> = plan.changes.iter().collect();
        for (space, expect) in [
            (SPACE, &[][..]),
            (Space { nodev: true, ..SPACE }, &["null: a device does not work on a filesystem mounted nodev"]),
            (Space { nosuid: true, ..SPACE }, &[]),
            (Space { noexec: true, ..SPACE }, &["su: a program does not start on a filesystem mounted noexec"]),
            (Space { read_only: true, ..SPACE }, &["/: its filesystem is mounted read-only"]),
        ] {
            let problems = rules(&TreePath::root(), &space, &changes);
            assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
            assert_eq!(powerless(&space, &changes).len(), usize::from(space.nosuid));
        }
    }

    #[test]
    fn shortages() {
        let need = Need { at: TreePath::root(), bytes: 10, inodes: 2, free: 10, free_inodes: 2 };
        assert!(shortage(&need).is_none());
        assert!(shortage(&Need { free: 9, ..need.clone() }).is_some_and(|e| e.kind() == ErrorKind::NoSpace));
        assert!(shortage(&Need { free_inodes: 1, ..need }).is_some());
    }
}
