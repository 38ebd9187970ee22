// SPDX-License-Identifier: ISC
//! A [`Plan`] is a set of [`Change`]s between two trees. Swap before and after and it is the undo.
//!
//! The plan says *what*; [`crate::apply`] decides in which order and how. Pure.
#![forbid(unsafe_code)]

pub mod text;

use crate::path::TreePath;
use crate::tree::{Kind, Node};

/// What becomes of one path. Never neither before nor after.
///
/// Before and after may be equal: then the directory is only touched by other changes and gets its times back, or the
/// file is linked anew because its link group changes.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// What must be there; none: nothing.
    pub before: Option<Node>,
    /// What will be there; none: nothing.
    pub after: Option<Node>,
    /// The inode is replaced although its content may stay: content differs, or the link group changes.
    pub replace: bool,
    /// The name, wanted too, whose inode this name joins; none: the inode is its own. Only staging reads it: a reversed
    /// plan finds whole inodes in the undo directory.
    pub link: Option<TreePath>,
}

/// How a change is shown: one letter, as in the listings of `build --dry-run` and `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `+`: nothing was there.
    Add,
    /// `-`: nothing will be there.
    Remove,
    /// `!`: another kind of entry.
    Retype,
    /// `*`: another content.
    Modify,
    /// `=`: the same content in another link group.
    Relink,
    /// `m`: other metadata.
    Meta,
    /// A directory whose times are put back; not shown.
    Touch,
}

impl Action {
    /// The letter shown in listings.
    pub fn letter(self) -> char {
        match self {
            Action::Add => '+',
            Action::Remove => '-',
            Action::Retype => '!',
            Action::Modify => '*',
            Action::Relink => '=',
            Action::Meta => 'm',
            Action::Touch => '.',
        }
    }
}

impl Change {
    /// What kind of change it is.
    pub fn action(&self) -> Action {
        let (before, after) = match (&self.before, &self.after) {
            (None, _) => return Action::Add,
            (_, None) => return Action::Remove,
            (Some(before), Some(after)) => (before, after),
        };
        if std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind) {
            Action::Retype
        } else if !before.kind.same(&after.kind) {
            Action::Modify
        } else if before.meta != after.meta {
            Action::Meta
        } else if self.replace {
            Action::Relink
        } else {
            Action::Touch
        }
    }

    /// Names of the fields in which before and after differ, in mtree's words; for listings.
    pub fn differs_in(&self) -> Vec<&'static str> {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return Vec::new() };
        let (a, b) = (&before.meta, &after.meta);
        let size = |n: &Node| matches!(n.kind, Kind::File { .. }).then(|| n.size());
        let fields = [
            ("type", before.kind.word() != after.kind.word()),
            ("size", size(before).is_some() && size(after).is_some() && size(before) != size(after)),
            ("content", before.size() == after.size() && self.action() == Action::Modify),
            ("mode", a.mode != b.mode),
            ("uid", a.uid != b.uid),
            ("gid", a.gid != b.gid),
            ("time", a.mtime != b.mtime),
            ("xattr", a.xattrs != b.xattrs),
            ("flags", a.flags != b.flags),
            ("links", self.replace && before.group != after.group),
        ];
        fields.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

/// Changes sorted by path, each path once.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The changes, in tree order.
    pub changes: Vec<Change>,
}

/// What a plan amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// New entries.
    pub added: usize,
    /// Entries that go.
    pub removed: usize,
    /// Entries whose kind or content changes, or that are linked anew.
    pub modified: usize,
    /// Entries whose metadata alone changes.
    pub metadata: usize,
    /// Bytes of file content that have to be brought.
    pub bytes: u64,
}

impl Plan {
    /// The paths it names.
    pub fn paths(&self) -> impl Iterator<Item = &TreePath> {
        self.changes.iter().map(|change| &change.path)
    }

    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The undo.
    #[must_use]
    pub fn reversed(self) -> Plan {
        let swap = |c: Change| Change { before: c.after, after: c.before, ..c };
        Plan { changes: self.changes.into_iter().map(swap).collect() }
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for change in &self.changes {
            match change.action() {
                Action::Add => stats.added += 1,
                Action::Remove => stats.removed += 1,
                Action::Retype | Action::Modify | Action::Relink => stats.modified += 1,
                Action::Meta => stats.metadata += 1,
                Action::Touch => {}
            }
            if change.needs_body() {
                stats.bytes += change.after.as_ref().map_or(0, Node::size);
            }
        }
        stats
    }
}

impl Change {
    /// Must the content of the file after the change be brought from outside? Joining another name, or a new inode with
    /// the content of the old one, needs none.
    pub fn needs_body(&self) -> bool {
        let Some(after) = &self.after else { return false };
        let kept = self.before.as_ref().is_some_and(|before| before.kind.same(&after.kind));
        matches!(after.kind, Kind::File { .. }) && self.replace && self.link.is_none() && !kept
    }
}
