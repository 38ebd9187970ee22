// SPDX-License-Identifier: ISC
//! What each name of an archive stands for in the end: later entries win, hard links share what their target named
//! when they came.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::{bad, refused};
use crate::error::Result;
use crate::path::TreePath;
use crate::tree::{Kind, Meta, Node};

/// What a name stands for.
struct Name {
    /// Index into the inodes; none for a directory that is only implied by an entry below it.
    inode: Option<u32>,
    /// Is there anything below it?
    holds: bool,
}

struct Inode {
    meta: Meta,
    kind: Kind,
    body: Option<u32>,
    names: u32,
}

#[derive(Default)]
pub(super) struct Names {
    names: HashMap<TreePath, Name>,
    inodes: Vec<Inode>,
}

impl Names {
    /// Files an entry of its own.
    pub(super) fn put(&mut self, node: Node, body: Option<u32>) -> Result<()> {
        if !node.kind.is_dir() {
            self.make_room(&node.path, node.kind.word())?;
        }
        self.reach(&node.path)?;
        let inode = index(self.inodes.len())?;
        self.inodes.push(Inode { meta: node.meta, kind: node.kind, body, names: 0 });
        self.name(node.path, inode);
        Ok(())
    }

    /// Files another name of what `target` names now.
    pub(super) fn link(&mut self, path: TreePath, target: &TreePath) -> Result<()> {
        let inode = self.names.get(target).and_then(|name| name.inode);
        let Some(inode) = inode else {
            return Err(refused(format!("it is a hard link to {target}, which the archive does not hold before it")));
        };
        if self.inodes[inode as usize].kind.is_dir() {
            return Err(refused(format!("it is a hard link to {target}, a directory")));
        }
        self.make_room(&path, "hard link")?;
        self.reach(&path)?;
        self.name(path, inode);
        Ok(())
    }

    fn name(&mut self, path: TreePath, inode: u32) {
        self.inodes[inode as usize].names += 1;
        match self.names.entry(path) {
            Entry::Vacant(vacant) => _ = vacant.insert(Name { inode: Some(inode), holds: false }),
            Entry::Occupied(mut known) => {
                if let Some(old) = known.get_mut().inode.replace(inode) {
                    self.inodes[old as usize].names -= 1;
                }
            }
        }
    }

    /// Something other than a directory may not take the place of a directory that holds entries.
    fn make_room(&self, path: &TreePath, word: &str) -> Result<()> {
        if path.is_root() {
            return Err(refused(format!("the root of the archive is a {word}")));
        }
        if self.names.get(path).is_some_and(|name| name.holds) {
            return Err(refused(format!("a {word} takes the place of a directory that has entries in this archive")));
        }
        Ok(())
    }

    /// Checks that the directories above `path` are none but directories, and notes those that have no entry.
    ///
    /// A directory that holds something was checked when that came, and stays one ([`Names::make_room`]).
    fn reach(&mut self, path: &TreePath) -> Result<()> {
        let mut below = path.clone();
        while let Some(parent) = below.parent() {
            match self.names.entry(parent.clone()) {
                Entry::Occupied(mut known) => {
                    let inode = known.get().inode.map(|inode| &self.inodes[inode as usize]);
                    if let Some(kind) = inode.map(|i| &i.kind).filter(|kind| !kind.is_dir()) {
                        let reason = format!("it lies below {parent}, which is a {} in this archive", kind.word());
                        return Err(refused(reason));
                    }
                    known.get_mut().holds = true;
                    return Ok(());
                }
                Entry::Vacant(vacant) => _ = vacant.insert(Name { inode: None, holds: true }),
            }
            below = parent;
        }
        Ok(())
    }

    /// The nodes, sorted; the names of one inode share a group.
    pub(super) fn finish(mut self, origin: &Arc<str>) -> Vec<(Node, Option<u32>)> {
        let mut named: Vec<(TreePath, u32)> =
            self.names.into_iter().filter_map(|(path, name)| Some((path, name.inode?))).collect();
        named.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut groups: HashMap<u32, TreePath> = HashMap::new();
        let mut nodes = Vec::with_capacity(named.len());
        for (path, index) in named {
            let inode = &mut self.inodes[index as usize];
            let group = (inode.names > 1).then(|| groups.entry(index).or_insert_with(|| path.clone()).clone());
            let (meta, kind) = match group {
                None => (std::mem::take(&mut inode.meta), std::mem::replace(&mut inode.kind, Kind::Fifo)),
                Some(_) => (inode.meta.clone(), inode.kind.clone()),
            };
            let node = Node { group, origin: Some(Arc::clone(origin)), ..Node::new(path, meta, kind) };
            nodes.push((node, inode.body));
        }
        nodes
    }
}

fn index(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| bad("too many entries"))
}
