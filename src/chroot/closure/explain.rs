// SPDX-License-Identifier: ISC
//! Why each path is in a jail, what nothing needs, and how much each reason takes.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::record::Record;
use crate::chroot::Chroot;
use crate::error::Result;
use crate::path::TreePath;
use crate::select::closure::graph::{Chain, Graph};
use crate::tree::{Kind, Node, Tree};

/// Who wants what in this jail.
///
/// # Errors
/// [`crate::ErrorKind::NotFound`] if it has no closure.
pub fn graph(chroot: &Chroot) -> Result<Graph> {
    Record::reasons(&chroot.state)
}

/// Every chain that leads to `path`, the shortest first, and whether there are more; none for a chroot without closure
/// and for what no chain needs.
///
/// # Errors
/// As reading the record.
pub fn chains(chroot: &Chroot, path: &TreePath) -> Result<(Vec<Chain>, bool)> {
    if chroot.state.read(super::REASONS)?.is_none() {
        return Ok((Vec::new(), false));
    }
    Ok(graph(chroot)?.chains(path))
}

/// Files and links of the manifest that no chain needs.
///
/// # Errors
/// As [`graph`], and reading the manifest.
pub fn unused(chroot: &Chroot) -> Result<Vec<TreePath>> {
    let (graph, tree) = (graph(chroot)?, chroot.manifest()?);
    // Devices are nobody's wish: every chroot has them.
    let device = |node: &&Node| node.origin.as_deref().is_some_and(|origin| origin.starts_with("devices "));
    let entries = tree.nodes().iter().filter(|node| matches!(node.kind, Kind::File { .. } | Kind::Symlink(_)));
    let paths = entries.filter(|node| !device(node));
    Ok(graph.unused(paths.map(|node| &node.path)))
}

/// Bytes and files by the kind of reason that brought them, the most first.
///
/// # Errors
/// As reading the manifest.
pub fn sizes(chroot: &Chroot) -> Result<Vec<(String, u64, usize)>> {
    let (graph, tree) = (graph(chroot)?, chroot.manifest()?);
    let mut sums: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    for node in tree.nodes().iter().filter(|node| matches!(node.kind, Kind::File { .. })) {
        let sum = sums.entry(kind_of(&graph, &tree, &node.path)).or_default();
        *sum = (sum.0 + node.size(), sum.1 + 1);
    }
    let mut sizes: Vec<_> = sums.into_iter().map(|(kind, (bytes, files))| (kind, bytes, files)).collect();
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(sizes)
}

/// The kind of the reason of `path`: of what lies in a tree, that of the tree.
fn kind_of(graph: &Graph, tree: &Tree, path: &TreePath) -> String {
    let mut at = path.clone();
    for _ in 0..path.depth() {
        let Some(reason) = graph.reasons.get(&at).and_then(|reasons| reasons.first()) else { break };
        match &reason.by {
            Some(by) if matches!(&*reason.why, "in it" | "where it leads") => at = by.clone(),
            _ => return plain(&reason.why),
        }
    }
    let origin = tree.get(path.as_bytes()).and_then(|node| node.origin.as_deref());
    origin.map_or("made by stockade".to_owned(), |origin| plain(origin.split(" <- ").next().unwrap_or_default()))
}

/// `library` for every library; a policy by its name.
fn plain(why: &str) -> String {
    match why.split_once(' ') {
        Some(("policy", rest)) => format!("policy {}", rest.split(':').next().unwrap_or_default()),
        Some((word @ ("library" | "late" | "module" | "program" | "package"), _)) => word.to_owned(),
        _ => why.to_owned(),
    }
}
