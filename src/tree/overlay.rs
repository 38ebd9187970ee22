// SPDX-License-Identifier: ISC
//! Laying one source's tree over what earlier sources made (decision E10). Symlinks are resolved here, in the tree,
//! and never by the kernel while writing.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath};
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Kind, Meta, Node, Tree};

/// The wanted tree while sources are laid one over another; each is whole before the next.
#[derive(Debug, Default)]
pub struct Overlay {
    nodes: BTreeMap<TreePath, Entry>,
    layers: u32,
}

#[derive(Debug)]
struct Entry {
    node: Node,
    layer: u32,
    /// Where the node's content is to be found in its source, if it was moved by a symlinked directory.
    key: Option<TreePath>,
}

/// Where a node of the finished tree came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The number of the layer, counted from 0 in the order of [`Overlay::lay`].
    pub layer: u32,
    /// The node's path in that layer.
    pub path: TreePath,
}

impl Overlay {
    /// Lays the nodes of a source, each path once, over what is there; a later layer wins.
    ///
    /// `into` is the directory that receives it, `replace` names what may take the place of a non-empty directory.
    /// Directories that no source brings are made: root's, 0755, of 1970.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] naming the entry: it lies below a symlink of its own layer, a dangling one or a
    /// non-directory, or would replace a non-empty directory that `replace` does not name.
    pub fn lay(&mut self, mut nodes: Vec<Node>, into: &TreePath, replace: &PathSet) -> Result<()> {
        let layer = self.layers;
        self.layers += 1;
        let mut moved: HashMap<TreePath, TreePath> = HashMap::new();
        let mut groups: Vec<(TreePath, TreePath)> = Vec::new();
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        for mut node in nodes {
            let named = node.path.clone();
            let wanted = into.under(&named)?;
            let placed = self.place(&wanted, layer, &mut moved)?;
            if let Some(group) = node.group.take() {
                groups.push((placed.clone(), group));
            }
            if placed != wanted {
                node.origin = Some(note(node.origin.as_deref(), &wanted));
            }
            node.path = placed.clone();
            self.put(node, (placed != named).then_some(named), layer, replace)?;
        }
        self.regroup(&groups, layer);
        Ok(())
    }

    /// The canonical path of `wanted`, whose directories may be links of earlier layers.
    fn place(&mut self, wanted: &TreePath, layer: u32, moved: &mut HashMap<TreePath, TreePath>) -> Result<TreePath> {
        let Some(parent) = wanted.parent() else { return Ok(TreePath::root()) };
        let canonical = match moved.get(&parent) {
            Some(known) => known.clone(),
            None => {
                self.provide(&parent, layer);
                let known = self.resolve(&parent, Some(layer)).map_err(|e| e.at(wanted))?;
                if !self.nodes.get(&known).is_none_or(|e| e.node.kind.is_dir()) {
                    return Err(refused(&format!("it lies below {known}, which is no directory")).at(wanted));
                }
                moved.insert(parent, known.clone());
                known
            }
        };
        canonical.join(wanted.name())
    }

    /// Makes the directories of `path` that are missing, unless a link leads to them.
    fn provide(&mut self, path: &TreePath, layer: u32) {
        let chain: Vec<TreePath> = path.ancestors().collect();
        for missing in chain.into_iter().rev().chain([path.clone()]).skip(1) {
            let parent = missing.parent().unwrap_or_default();
            if let Ok(at) = self.resolve(&parent, Some(layer))
                && let Ok(dir) = at.join(missing.name())
                && !self.nodes.contains_key(&dir)
            {
                let node = Node::new(dir.clone(), Meta { mode: 0o755, ..Meta::default() }, Kind::Dir);
                self.nodes.insert(dir, Entry { node, layer, key: None });
            }
        }
    }

    /// Follows the links in `path`, its last name too; links of the layer `own` are refused.
    fn follow(&self, path: &TreePath, own: Option<u32>) -> Result<Resolved> {
        let through = |link: &TreePath| match self.nodes.get(link) {
            Some(entry) if own == Some(entry.layer) => {
                Err(refused(&format!("it lies below {link}, a symbolic link of the same source")))
            }
            _ => Ok(()),
        };
        resolve(path, true, |at| self.nodes.get(at).map(|entry| &entry.node.kind), through)
    }

    /// As [`Overlay::follow`]; what does not exist is an error too.
    fn resolve(&self, path: &TreePath, own: Option<u32>) -> Result<TreePath> {
        match self.follow(path, own)? {
            Resolved::Found(at) => Ok(at),
            Resolved::Missing(missing) => Err(refused(&format!("its directory {missing} does not exist"))),
        }
    }

    fn put(&mut self, node: Node, key: Option<TreePath>, layer: u32, replace: &PathSet) -> Result<()> {
        if let Some(old) = self.nodes.get(&node.path) {
            let over_link = node.kind.is_dir() && matches!(old.node.kind, Kind::Symlink(_));
            let is_dir = |path: TreePath| self.nodes.get(&path).is_some_and(|e| e.node.kind.is_dir());
            if over_link && old.layer != layer && self.resolve(&node.path, None).is_ok_and(is_dir) {
                return Ok(()); // dpkg's rule: the link and its target's metadata stay
            }
            if old.node.kind.is_dir() && !node.kind.is_dir() {
                self.clear(&node, replace)?;
            }
        }
        self.nodes.insert(node.path.clone(), Entry { node, layer, key });
        Ok(())
    }

    /// Makes room for a non-directory where a directory is.
    fn clear(&mut self, node: &Node, replace: &PathSet) -> Result<()> {
        let after =
            |p: &TreePath| self.nodes.range::<TreePath, _>((std::ops::Bound::Excluded(p), std::ops::Bound::Unbounded));
        let below: Vec<TreePath> =
            after(&node.path).map(|(p, _)| p).take_while(|p| p.is_within(&node.path)).cloned().collect();
        if !below.is_empty() && !replace.covers(&node.path) {
            let reason = format!("a {} would replace a directory that is not empty", node.kind.word());
            return Err(refused(&reason).at(&node.path).hint(format!("allow it with replace = [\"{}\"]", node.path)));
        }
        for path in below {
            self.nodes.remove(&path);
        }
        Ok(())
    }

    /// Names the groups of `layer` by where its nodes ended up.
    fn regroup(&mut self, groups: &[(TreePath, TreePath)], layer: u32) {
        let mut first: HashMap<&TreePath, &TreePath> = HashMap::new();
        for (placed, group) in groups {
            let name = *first.entry(group).or_insert(placed);
            if let Some(entry) = self.nodes.get_mut(placed)
                && entry.layer == layer
            {
                entry.node.group = Some(name.clone());
            }
        }
    }

    /// Is there an entry at `path`?
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path).map(|entry| &entry.node)
    }

    /// All entries so far, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|entry| &entry.node)
    }

    /// The entry at `path`, and where it came from.
    pub fn find(&self, path: &TreePath) -> Option<(&Node, Provenance)> {
        let entry = self.nodes.get(path)?;
        Some((&entry.node, Provenance { layer: entry.layer, path: entry.key.as_ref().unwrap_or(path).clone() }))
    }

    /// The canonical path of `path`, last name included, following links as the kernel would inside the root.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if a name on the way is missing or no directory, or after 40 links.
    pub fn canonical(&self, path: &TreePath) -> Result<TreePath> {
        self.resolve(path, None)
    }

    /// The finished tree, and for each of its nodes, in order, where it came from.
    ///
    /// # Errors
    /// Only if the layers do not make a tree, which would be a fault in here.
    pub fn finish(self) -> Result<(Tree, Vec<Provenance>)> {
        let (mut nodes, mut from) = (Vec::with_capacity(self.nodes.len()), Vec::with_capacity(self.nodes.len()));
        // Groups of two layers may be called alike once names of one have been replaced by the other's.
        let mut firsts: HashMap<(u32, TreePath), TreePath> = HashMap::new();
        for (path, Entry { mut node, layer, key }) in self.nodes {
            if let Some(group) = node.group.take() {
                node.group = Some(firsts.entry((layer, group)).or_insert_with(|| node.path.clone()).clone());
            }
            from.push(Provenance { layer, path: key.unwrap_or(path) });
            nodes.push(node);
        }
        Ok((Tree::new(nodes)?, from))
    }
}

fn refused(reason: &str) -> Error {
    Error::new(ErrorKind::Refused, reason.to_owned())
}

fn note(origin: Option<&str>, named: &TreePath) -> std::sync::Arc<str> {
    format!("{} as /{}", origin.unwrap_or("?"), named).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{node, tree};

    fn lay(layers: &[&[&str]], replace: &[&str]) -> Result<String> {
        let replace = PathSet::new(replace)?;
        let mut overlay = Overlay::default();
        for layer in layers {
            overlay.lay(layer.iter().map(|l| node(l)).collect(), &TreePath::root(), &replace)?;
        }
        let (tree, _) = overlay.finish()?;
        Ok(tree.nodes().iter().map(|n| format!("{}:{}", n.path, n.kind.word())).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn table() {
        for (layers, replace, expect) in [
            // merged /usr: through a link of an earlier source
            (
                &[&["d usr", "d usr/bin", "l bin usr/bin"][..], &["d bin", "f bin/ls"]][..],
                &[][..],
                Ok("bin:link usr:dir usr/bin:dir usr/bin/ls:file"),
            ),
            (&[&["d a", "d a/b", "l c /../a/./b"], &["d c", "f c/x"]], &[], Ok("a:dir a/b:dir a/b/x:file c:link")),
            // a directory that nobody brings
            (&[&["f a/b/c"]], &[], Ok("a:dir a/b:dir a/b/c:file")),
            // through a link of the same source, to nothing, to a file
            (&[&["d b", "l a b", "f a/x"]], &[], Err("a/x: it lies below a, a symbolic link of the same source")),
            (&[&["l a nowhere"], &["f a/x"]], &[], Err("a/x: its directory nowhere does not exist")),
            (&[&["f b", "l a b"], &["f a/x"]], &[], Err("a/x: it lies below b, which is no directory")),
            (&[&["f a"], &["f a/x"]], &[], Err("a/x: it lies below a, which is no directory")),
            // a later layer wins
            (&[&["f a"], &["l a b"]], &[], Ok("a:link")),
            (&[&["f a"], &["d a", "f a/b"]], &[], Ok("a:dir a/b:file")),
            // a link that leads to nothing is replaced by the directory
            (&[&["l a nowhere"], &["d a", "f a/b"]], &[], Ok("a:dir a/b:file")),
            (&[&["d a", "f a/b"], &["l a c"]], &[], Err("a: a link would replace a directory that is not empty")),
            (&[&["d a", "f a/b"], &["l a c"]], &["a"], Ok("a:link")),
            (&[&["d a"], &["l a c"]], &[], Ok("a:link")),
            (&[&["l a b", "l b a"], &["d a", "f a/x"]], &[], Ok("a:dir a/x:file b:link")),
        ] {
            let result = lay(layers, replace).map_err(|e| e.to_string());
            assert_eq!(result.as_deref().map_err(String::as_str), expect, "{layers:?}");
        }
    }

    #[test]
    fn groups_of_two_layers_stay_apart() {
        let mut overlay = Overlay::default();
        for layer in [&["h a a", "h b a", "h c a"][..], &["h a a", "h d a"]] {
            overlay.lay(tree(layer).into_nodes(), &TreePath::root(), &PathSet::default()).unwrap();
        }
        let (tree, _) = overlay.finish().unwrap();
        let group = |path: &[u8]| tree.get(path).unwrap().group.as_ref().map(ToString::to_string);
        let names = [group(b"a"), group(b"b"), group(b"c"), group(b"d")].map(Option::unwrap);
        assert_eq!(names, ["a", "b", "b", "a"]);
    }

    #[test]
    fn groups_follow_their_names() {
        let mut overlay = Overlay::default();
        let none = PathSet::default();
        overlay.lay(tree(&["d u", "l b u"]).into_nodes(), &TreePath::root(), &none).unwrap();
        overlay.lay(tree(&["d b", "h b/x b/x", "h b/y b/x"]).into_nodes(), &TreePath::root(), &none).unwrap();
        let (tree, from) = overlay.finish().unwrap();
        assert_eq!(tree.get(b"u/y").unwrap().group.as_ref().unwrap().as_bytes(), b"u/x");
        assert_eq!(from[2], Provenance { layer: 1, path: TreePath::new(*b"b/x").unwrap() });
    }
}
