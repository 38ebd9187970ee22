// SPDX-License-Identifier: ISC
//! The entries of a root at the paths of a patch, across the filesystems that they lie on; files with digests.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::chroot::closure::versions;
use crate::error::{IoContext, Result};
use crate::patch::Contents;
use crate::path::TreePath;
use crate::select::packages::Owners;
use crate::source::dir::{ScanOptions, digest_files, scan_paths};
use crate::sys::{Dir, is_stale};
use crate::tree::{Kind, Node, Tree};
use crate::watch::Watch;

/// All paths that a patch speaks of: its changes, and the names that they join.
pub(crate) fn paths(contents: &Contents) -> Vec<TreePath> {
    let mut paths: Vec<TreePath> = Vec::with_capacity(contents.entries.len());
    for change in contents.entries.iter().map(|entry| &entry.change) {
        paths.push(change.path.clone());
        let nodes = [&change.before, &change.after].into_iter().flatten();
        paths.extend(nodes.filter_map(|node| node.group.clone()).chain(change.link.clone()));
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The entries at `paths`, as far as there are any, and the directories above; `roots` are the filesystems that they
/// lie on.
pub(crate) fn look(roots: &[(TreePath, Dir)], paths: &[TreePath], watch: &Watch) -> Result<Tree> {
    watch.begin("looking", paths.len() as u64);
    let mut nodes: BTreeMap<TreePath, Node> = BTreeMap::new();
    for (at, root) in roots {
        let mine = |path: &&TreePath| {
            // The deepest area has it.
            let best = roots.iter().filter(|(at, _)| path.is_within(at)).max_by_key(|(at, _)| at.depth());
            best.is_some_and(|(best, _)| best == at)
        };
        let below: Vec<TreePath> = paths.iter().filter(mine).filter_map(|path| path.strip(at)).collect();
        let options = ScanOptions { xattrs: true, ..ScanOptions::default() };
        let mut tree = scan_paths(root, &below, &options, watch)?.tree;
        let files: Vec<usize> = tree.nodes().iter().enumerate().filter(|(_, n)| is_file(n)).map(|(i, _)| i).collect();
        digest_files(root, &mut tree, &files, watch)?;
        for mut node in tree.into_nodes() {
            node.path = at.under(&node.path)?;
            node.group = node.group.map(|group| at.under(&group)).transpose()?;
            nodes.insert(node.path.clone(), node);
        }
    }
    Tree::new(nodes.into_values().collect())
}

/// Package and version of those of `paths` that are of one. For people: a damaged database says nothing.
pub(crate) fn packages<'a>(root: &Dir, paths: impl Iterator<Item = &'a TreePath>) -> Owners {
    versions::of(root, &paths.map(TreePath::as_bytes).collect()).unwrap_or_default()
}

fn is_file(node: &Node) -> bool {
    matches!(node.kind, Kind::File { .. })
}

/// The names in the directory `path` of a root; none if it is no directory.
pub(crate) fn names(root: &Dir, path: &TreePath) -> Result<Vec<TreePath>> {
    let dir = match root.try_clone().on("open", path)?.crossing().walk(path) {
        Err(e) if is_stale(&e) => return Ok(Vec::new()),
        dir => dir.on("open", path)?,
    };
    dir.entries().on("readdir", path)?.iter().map(|entry| path.join(&entry.name)).collect()
}
