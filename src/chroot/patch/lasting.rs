// SPDX-License-Identifier: ISC
//! Applied patches are the last sources of a build, so that a refresh does not revert them; where a source has become
//! newer than a patch, the source counts (decision E19).
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use super::store::{Installed, installed};
use crate::chroot::compose::Wanted;
use crate::chroot::layer::Content;
use crate::chroot::state::State;
use crate::error::{IoContext, Result};
use crate::patch::{STORE, origin_after};
use crate::path::TreePath;
use crate::plan::{Action, Change};
use crate::sys::Dir;
use crate::tree::overlay::Provenance;
use crate::tree::{Node, Policy, Tree};

/// Lays the patches of `root` over what its sources want. What a patch brought is in the root, and nowhere else: a file
/// that was changed since stays as it is.
///
/// # Errors
/// As [`installed`].
pub(crate) fn lay_over(
    wanted: &mut Wanted,
    (state, root): (&State, &Dir),
    (have, recorded): (&Tree, Option<&Tree>),
    policy: &mut Policy,
) -> Result<()> {
    let mut patches = installed(root, Some(state))?;
    for patch in patches.extract_if(.., |patch| !patch.vouched) {
        // What runs inside could list others; plain tar does.
        let name = patch.contents.head.name;
        wanted
            .notes
            .push(format!("{name}: listed in the root, but not applied from here: `stockade patch apply` it again"));
    }
    if patches.is_empty() {
        return Ok(());
    }
    let layer = u32::try_from(wanted.layers.len()).unwrap_or(u32::MAX);
    let root = root.try_clone().on("open", "/")?;
    wanted.layers.push(Content::Directory { root, moved: HashMap::new() });
    let nodes = std::mem::take(&mut wanted.tree).into_nodes();
    let mut work = Work {
        entries: nodes.into_iter().zip(std::mem::take(&mut wanted.from)).map(keyed).collect(),
        have,
        recorded,
        policy,
        layer,
    };
    for patch in &patches {
        wanted.notes.extend(work.lay(patch));
    }
    work.keep_list()?;
    let (nodes, from) = work.entries.into_values().unzip();
    (wanted.tree, wanted.from) = (Tree::new(nodes)?, from);
    Ok(())
}

fn keyed(entry: (Node, Provenance)) -> (TreePath, (Node, Provenance)) {
    (entry.0.path.clone(), entry)
}

struct Work<'a> {
    entries: BTreeMap<TreePath, (Node, Provenance)>,
    have: &'a Tree,
    recorded: Option<&'a Tree>,
    policy: &'a mut Policy,
    layer: u32,
}

impl Work<'_> {
    /// The directories above the list of patches.
    fn keep_list(&mut self) -> Result<()> {
        for above in TreePath::new(STORE.as_bytes())?.ancestors() {
            let Some(here) = self.have.get(above.as_bytes()) else { continue };
            let from = || Provenance { layer: self.layer, path: above.clone() };
            let node = || Node { origin: Some("patch".into()), here: None, from: None, ..here.clone() };
            self.entries.entry(above.clone()).or_insert_with(|| (node(), from()));
        }
        Ok(())
    }

    /// Lays one patch over what is wanted so far. Returns what the user should know.
    fn lay(&mut self, patch: &Installed) -> Vec<String> {
        let name = &patch.contents.head.name;
        let passed = |path: &TreePath| {
            let mut noted = patch.undo.iter().flat_map(|undo| &undo.noted);
            noted.any(|(word, at)| at == path && matches!(word.as_str(), "not-installed" | "kept" | "not-empty"))
        };
        let changes = patch.contents.entries.iter().map(|entry| &entry.change);
        let mut notes = Vec::new();
        let mut superseded = 0;
        for change in changes.filter(|change| change.action() != Action::Touch && !passed(&change.path)) {
            match self.place(change, name) {
                Placed::Newer => superseded += 1,
                Placed::Edited => notes.push(format!("{}: edited; what {name} made of it is not kept", change.path)),
                Placed::Done => {}
            }
        }
        if superseded > 0 {
            notes.push(format!(
                "{name}: {superseded} of its files come from a newer source now, and stay as that has them"
            ));
        }
        notes
    }

    fn place(&mut self, change: &Change, name: &str) -> Placed {
        let want = self.entries.get(&change.path).map(|(node, _)| node);
        let is = |node: &Option<Node>| match (want, node) {
            (None, None) => true,
            (Some(want), Some(node)) => same(want, node),
            _ => false,
        };
        if is(&change.after) {
            return Placed::Done;
        }
        if !is(&change.before) {
            return Placed::Newer;
        }
        let Some(after) = &change.after else {
            self.entries.remove(&change.path);
            return Placed::Done;
        };
        // Owners have the numbers that they have here, and what was changed locally counts.
        let Some(here) = self.have.get(change.path.as_bytes()) else { return Placed::Edited };
        let edited = !here.kind.same(&after.kind);
        if edited {
            // Nobody has what the patch made of it: it is neither touched nor vouched for.
            self.policy.keep.insert(change.path.clone());
        }
        let was = self.recorded.and_then(|tree| tree.get(change.path.as_bytes()));
        let here = was.filter(|was| was.kind.same(&after.kind)).unwrap_or(here);
        let known = want.and_then(|node| node.origin.as_deref());
        let origin = Some(origin_after(known, &format!("patch {name}")).into());
        let node = Node { origin, here: None, from: None, ..here.clone() };
        let from = Provenance { layer: self.layer, path: change.path.clone() };
        self.entries.insert(change.path.clone(), (node, from));
        if edited { Placed::Edited } else { Placed::Done }
    }
}

enum Placed {
    Done,
    /// A source brings something else than what the patch was made for.
    Newer,
    /// It is not what the patch made of it.
    Edited,
}

/// The same content; where nobody has read it, the time stands for it.
fn same(want: &Node, node: &Node) -> bool {
    let known = want.digest().is_some() || node.digest().is_none();
    want.kind.same(&node.kind) && (known || want.meta.mtime == node.meta.mtime)
}
