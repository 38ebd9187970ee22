// SPDX-License-Identifier: ISC
//! Content decides, stat is only a hint: which digests the recorded stamps prove, and which files have to be read
//! (design rule 5, decision E11).
#![forbid(unsafe_code)]

use super::compose::Wanted;
use super::layer::{Content, replaced};
use crate::error::Result;
use crate::path::TreePath;
use crate::source::dir::{ScanOptions, digest_files, scan_paths};
use crate::sys::Dir;
use crate::tree::overlay::Provenance;
use crate::tree::{Kind, Node, Policy, Stamp, Tree};
use crate::watch::Watch;

/// Gives the files of `have` the digests that the recorded stamps prove, and reads those that have to be compared and
/// are not proved. Returns how many were read.
///
/// # Errors
/// As read(2).
pub(crate) fn prove_root(
    (root, have): (&Dir, &mut Tree),
    recorded: Option<&Tree>,
    want: &Tree,
    policy: &Policy,
    watch: &Watch,
) -> Result<usize> {
    if let Some(recorded) = recorded {
        inherit(have, recorded, |node| node.here);
    }
    let compared = |node: &Node, tree: Option<&Tree>| {
        tree.and_then(|t| t.get(node.path.as_bytes())).is_some_and(|other| same_size(node, other))
    };
    read(root, have, watch, |node| {
        !policy.holds(&node.path) && (compared(node, Some(want)) || compared(node, recorded))
    })
}

/// The same for the wanted tree: stamps of directory sources are the recorded `from`. Only files that the root has
/// too, with the same size or with that of the record, are worth reading before they are copied. Returns how many were read.
///
/// # Errors
/// As read(2).
pub(crate) fn prove_wanted(wanted: &mut Wanted, recorded: Option<&Tree>, have: &Tree, watch: &Watch) -> Result<usize> {
    if let Some(recorded) = recorded {
        inherit(&mut wanted.tree, recorded, |node| node.from);
    }
    let mut read = 0;
    let had =
        |node: &Node| recorded.and_then(|tree| tree.get(node.path.as_bytes())).is_some_and(|was| same_size(node, was));
    for (number, layer) in wanted.layers.iter().enumerate() {
        let Content::Directory { root, moved } = layer else { continue };
        let unread = |&(node, from): &(&Node, &Provenance)| {
            from.layer as usize == number
                && matches!(node.kind, Kind::File { .. })
                && node.digest().is_none()
                && have.get(node.path.as_bytes()).is_some_and(|other| same_size(node, other) || had(node))
        };
        let nodes = wanted.tree.nodes().iter().zip(&wanted.from);
        let asked: Vec<(TreePath, TreePath)> = nodes
            .filter(unread)
            .map(|(node, from)| (node.path.clone(), moved.get(&from.path).unwrap_or(&from.path).clone()))
            .collect();
        if asked.is_empty() {
            continue;
        }
        let paths: Vec<TreePath> = asked.iter().map(|(_, source)| source.clone()).collect();
        let mut tree = scan_paths(root, &paths, &ScanOptions::default(), watch)?.tree;
        read += self::read(root, &mut tree, watch, |_| true)?;
        for (path, source) in asked {
            let is = tree.get(source.as_bytes()).ok_or_else(|| replaced(&source))?;
            let Some(node) = wanted.tree.get_mut(path.as_bytes()) else { continue };
            let same = match (node.from, is.here) {
                (Some(from), Some(here)) => from == here,
                _ => is.meta.mtime == node.meta.mtime,
            };
            if !same || is.size() != node.size() {
                return Err(replaced(&source));
            }
            if let Kind::File { digest, .. } = &mut node.kind {
                *digest = is.digest();
            }
        }
    }
    Ok(read)
}

/// Reads every file of `tree` that has no digest yet, for `check --hash`.
///
/// # Errors
/// As read(2).
pub(crate) fn read_all(root: &Dir, tree: &mut Tree, watch: &Watch, wanted: impl Fn(&Node) -> bool) -> Result<usize> {
    read(root, tree, watch, wanted)
}

/// Copies digests from `recorded` to the files of `tree` whose stamp, size and mtime are as recorded.
pub(crate) fn inherit(tree: &mut Tree, recorded: &Tree, stamp: impl Fn(&Node) -> Option<Stamp>) {
    let mut known = recorded.nodes().iter().peekable();
    for node in tree.nodes_mut() {
        while known.next_if(|k| k.path < node.path).is_some() {}
        let Some(was) = known.peek().filter(|k| k.path == node.path) else { continue };
        let proved = stamp(node).is_some() && stamp(node) == stamp(was) && node.meta.mtime == was.meta.mtime;
        if let (Kind::File { size, digest }, Kind::File { size: was_size, digest: was_digest }) =
            (&mut node.kind, &was.kind)
            && proved
            && size == was_size
        {
            *digest = *was_digest;
        }
    }
}

fn same_size(a: &Node, b: &Node) -> bool {
    matches!((&a.kind, &b.kind), (Kind::File { size: a, .. }, Kind::File { size: b, .. }) if a == b)
}

fn read(root: &Dir, tree: &mut Tree, watch: &Watch, wanted: impl Fn(&Node) -> bool) -> Result<usize> {
    let unread = |node: &Node| matches!(node.kind, Kind::File { digest: None, .. });
    let nodes = tree.nodes().iter().enumerate();
    let which: Vec<usize> = nodes.filter(|(_, n)| unread(n) && wanted(n)).map(|(index, _)| index).collect();
    if which.is_empty() {
        return Ok(0);
    }
    watch.begin("reading", which.iter().map(|&i| tree.nodes()[i].size()).sum());
    digest_files(root, tree, &which, watch)?;
    Ok(which.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Digest, Meta, Time};

    fn file(mtime: i64, ino: Option<u64>, digest: Option<u8>) -> Node {
        let meta = Meta { mtime: Time { sec: mtime, nsec: 0 }, ..Meta::default() };
        let kind = Kind::File { size: 1, digest: digest.map(|d| Digest([d; 32])) };
        let here = ino.map(|ino| Stamp { ctime: Time::default(), ino });
        Node { here, ..Node::new(TreePath::new(*b"a").unwrap(), meta, kind) }
    }

    #[test]
    fn only_an_equal_stamp_proves() {
        let recorded = Tree::new(vec![file(1, Some(7), Some(9))]).unwrap();
        for (node, proved) in [
            (file(1, Some(7), None), true),
            (file(2, Some(7), None), false),
            (file(1, Some(8), None), false),
            (file(1, None, None), false),
        ] {
            let mut tree = Tree::new(vec![node]).unwrap();
            inherit(&mut tree, &recorded, |n| n.here);
            assert_eq!(tree.nodes()[0].digest().is_some(), proved);
        }
    }
}
