// SPDX-License-Identifier: ISC
//! The archive of a patch: [`write_bundle`] and [`Bundle`], which reads it forward only.
//!
//! Members, in this order: `var/db/stockade/patches/NAME/+CONTENTS`; what was there before of text that a target may
//! have edited (`.../NAME/base/N`); directories, files and specials that come, under their own names, differences
//! (`.../NAME/delta/N`) in place of some; names that join others. Directories have members only where the patch makes
//! them: a member for one that is there would replace an administrator's symlink to elsewhere (decision 12).
#![forbid(unsafe_code)]

mod read;
mod write;

use super::contents::{Body, Contents, Entry};
use super::tar::{Header, Type};
use super::{CONTENTS, store};
use crate::error::Result;
use crate::path::TreePath;
use crate::tree::{Digest, Kind, Node};

pub use read::{Bundle, Trust};
pub(super) use write::LEVEL;
pub use write::{Source, write_bundle};

/// What a member of the archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The content of a file before the change.
    Base,
    /// The content of a file after the change.
    Whole,
    /// The difference of the two: a zstd frame.
    Delta,
    /// An entry without content.
    Bare,
}

/// A member of the archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// The index of the entry in [`Contents::entries`] that it is of.
    pub entry: usize,
    /// What it is of it.
    pub what: What,
    path: TreePath,
    /// Bytes of its body.
    pub size: u64,
}

/// What the archive of a patch consists of, after its manifest.
fn members(contents: &Contents) -> Result<Vec<Member>> {
    let home = store(&contents.head.name)?;
    let (mut bases, mut own, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for (index, entry) in contents.entries.iter().enumerate() {
        let change = &entry.change;
        let beside = |dir: &str| home.under(&TreePath::new(format!("{dir}/{index:06}").into_bytes())?);
        let member = |what, path, size| Member { entry: index, what, path, size };
        if entry.base {
            bases.push(member(What::Base, beside("base")?, change.before.as_ref().map_or(0, Node::size)));
        }
        let Some(after) = &change.after else { continue };
        match entry.body {
            Body::Full => own.push(member(What::Whole, change.path.clone(), after.size())),
            Body::Delta(size) => own.push(member(What::Delta, beside("delta")?, size)),
            Body::None if !change.replace => {}
            Body::None if change.link.is_some() => links.push(member(What::Bare, change.path.clone(), 0)),
            // What is of no use to tar: a directory that is there, a file whose content is there.
            Body::None => match (&change.before, &after.kind) {
                (Some(Node { kind: Kind::Dir, .. }), Kind::Dir) | (_, Kind::File { .. }) => {}
                _ => own.push(member(What::Bare, change.path.clone(), 0)),
            },
        }
    }
    Ok([bases, own, links].concat())
}

impl Member {
    /// Its header, in whole blocks.
    fn header(&self, contents: &Contents) -> Vec<u8> {
        let Entry { change, .. } = &contents.entries[self.entry];
        let node = match self.what {
            What::Base => change.before.as_ref(),
            _ => change.after.as_ref(),
        };
        let name =
            |names: &std::collections::BTreeMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_default();
        let Some(node) = node.filter(|_| matches!(self.what, What::Whole | What::Bare)) else {
            // Nobody knows who may read what it was.
            return private(&self.path, 0o600, self.size, contents.head.date).blocks();
        };
        let kind = match &node.kind {
            _ if change.link.is_some() => Type::Link(change.link.as_ref().map_or(&[][..], TreePath::as_bytes)),
            Kind::File { size, .. } => Type::File(*size),
            Kind::Dir => Type::Dir,
            Kind::Symlink(target) => Type::Symlink(target),
            Kind::Char(major, minor) => Type::Char(*major, *minor),
            Kind::Block(major, minor) => Type::Block(*major, *minor),
            Kind::Fifo | Kind::Socket => Type::Fifo,
        };
        let (user, group) = (name(&contents.head.users, node.meta.uid), name(&contents.head.groups, node.meta.gid));
        let (path, meta) = (&self.path, &node.meta);
        let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime.sec);
        Header { path, kind, mode, uid, gid, user: &user, group: &group, mtime }.blocks()
    }

    /// The digest that its body must have, where the manifest says one.
    pub fn digest(&self, contents: &Contents) -> Option<Digest> {
        let change = &contents.entries[self.entry].change;
        match self.what {
            What::Base => change.before.as_ref()?.digest(),
            What::Whole => change.after.as_ref()?.digest(),
            What::Delta | What::Bare => None,
        }
    }
}

/// The header of a file in the patch's own directory.
fn private(path: &TreePath, mode: u16, size: u64, date: i64) -> Header<'_> {
    Header { path, kind: Type::File(size), mode, uid: 0, gid: 0, user: "root", group: "", mtime: date }
}

/// Where the manifest of the patch `name` lies.
fn manifest(name: &str) -> Result<TreePath> {
    store(name)?.join(CONTENTS.as_bytes())
}

#[cfg(test)]
mod tests;
