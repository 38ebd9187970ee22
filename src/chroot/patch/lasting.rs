// SPDX-License-Identifier: ISC
//! Applied patches are the last sources of a build, so that a refresh does not revert them; where a source has become
//! newer than a patch, the source counts (decision E19); but a text below /etc that a patch changed stays, and is named, as
//! one that was changed by hand does.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::store::{Installed, installed};
use crate::chroot::compose::Wanted;
use crate::chroot::layer::Content;
use crate::chroot::state::State;
use crate::error::{IoContext, Result};
use crate::patch::{Entry, STORE, origin_after};
use crate::path::TreePath;
use crate::plan::{Action, Change};
use crate::sys::Dir;
use crate::tree::overlay::Provenance;
use crate::tree::{Node, Policy, Tree, Unknown};

/// Lays the patches of `root` over what its sources want. What a patch brought is in the root, and nowhere else: a file
/// that was changed since stays as it is. Returns the texts that stay although a newer source has others.
///
/// # Errors
/// As [`installed`].
pub(crate) fn lay_over(
    wanted: &mut Wanted,
    (state, root): (&State, &Dir),
    (have, recorded): (&Tree, Option<&Tree>),
    policy: &mut Policy,
) -> Result<Vec<TreePath>> {
    let mut patches = installed(root, Some(state))?;
    for patch in patches.extract_if(.., |patch| !patch.vouched) {
        // What runs inside could list others; plain tar does.
        let name = patch.contents.head.name;
        wanted
            .notes
            .push(format!("{name}: listed in the root, but not applied from here: `stockade patch apply` it again"));
    }
    if patches.is_empty() {
        return Ok(Vec::new());
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
        at_odds: BTreeSet::new(),
    };
    for patch in &patches {
        wanted.notes.extend(work.lay(patch));
    }
    work.keep_list()?;
    // Said once, as of what was edited by hand: then the newer text is the recorded one.
    let new = |path: &TreePath| {
        let was = recorded.and_then(|tree| tree.get(path.as_bytes()));
        work.policy.unknown == Unknown::Keep
            || !was.is_some_and(|was| work.entries.get(path).is_some_and(|(node, _)| same(was, node)))
    };
    let at_odds = work.at_odds.iter().filter(|path| new(path)).cloned().collect();
    let (nodes, from) = work.entries.into_values().unzip();
    (wanted.tree, wanted.from) = (Tree::new(nodes)?, from);
    Ok(at_odds)
}

/// How many of the files that a source has newer are named.
const MAX_NAMED: usize = 10;

fn keyed(entry: (Node, Provenance)) -> (TreePath, (Node, Provenance)) {
    (entry.0.path.clone(), entry)
}

struct Work<'a> {
    entries: BTreeMap<TreePath, (Node, Provenance)>,
    have: &'a Tree,
    recorded: Option<&'a Tree>,
    policy: &'a mut Policy,
    layer: u32,
    /// Texts that a patch and a newer source change.
    at_odds: BTreeSet<TreePath>,
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
        let changed = |entry: &&Entry| entry.change.action() != Action::Touch && !passed(&entry.change.path);
        let mut notes = Vec::new();
        let mut superseded = Vec::new();
        for Entry { change, base, .. } in patch.contents.entries.iter().filter(changed) {
            match self.place(change, name) {
                Placed::Newer if *base && self.stays(&change.path) => {}
                Placed::Newer => superseded.push(change.path.to_string()),
                Placed::Edited => notes.push(format!("{}: edited; what {name} made of it is not kept", change.path)),
                Placed::Done => {}
            }
        }
        if !superseded.is_empty() {
            let more = superseded.len().saturating_sub(MAX_NAMED);
            superseded.truncate(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = superseded.join(", ");
            notes.push(format!("{name}: from a newer source now, and as that has them: {named}{more}"));
        }
        notes
    }

    /// Leaves what is here in the place of what a newer source has, or has no more, unless it is the same.
    fn stays(&mut self, path: &TreePath) -> bool {
        let (here, want) = (self.have.get(path.as_bytes()), self.entries.get(path).map(|(node, _)| node));
        let stays = here.is_some_and(|here| want.is_none_or(|want| !same(want, here)));
        if stays {
            self.policy.keep.insert(path.clone());
            self.at_odds.insert(path.clone());
        }
        stays
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
