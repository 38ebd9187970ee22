// SPDX-License-Identifier: ISC
//! What belongs to no patch: temporary files, caches, build trees, what is made of other files, what is secret.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use super::seen::Seen;
use crate::error::Result;
use crate::patch::STORE;
use crate::path::{PathSet, TreePath};
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::sys::Dir;
use crate::tree::diff::diff;
use crate::tree::{Kind, Node, Tree};

/// What is left out, and the patterns of its paths. A recipe adds to it and takes from it: `[record]`.
const RULES: &[(&str, &[&str])] = &[
    ("temporary files", &["tmp/*", "var/tmp/*", "usr/tmp/*", "run", "var/run"]),
    ("locks", &["var/lib/dpkg/{lock,lock-frontend,triggers/Lock}", "var/lib/apt/daily_lock", "var/lock"]),
    ("sources and build trees", &["usr/src", "usr/xenocara", "usr/ports", "usr/obj", "usr/xobj", "build"]),
    ("the list of patches", &[STORE]),
    ("logs", &["var/log", "var/cron/log*", "var/account"]),
    (
        "caches",
        &[
            "var/cache",
            "var/lib/apt/lists",
            "var/lib/dpkg/*-old",
            "var/backups",
            "root/.cache",
            "home/*/.cache",
            "**/__pycache__",
        ],
    ),
    (
        "made of other files",
        &[
            "etc/ld.so.cache",
            "var/run/ld.so.hints",
            "etc/{spwd,pwd}.db",
            "etc/{passwd,group,shadow,gshadow,subuid,subgid}-",
            "etc/mail/*.db",
            "etc/aliases.db",
            "etc/{login.conf,capabilities}.db",
            "usr/share/misc/termcap.db",
            "{usr/share/man,usr/X11R6/man,usr/local/man}/mandoc.db",
            "var/db/locate.database",
            "var/lib/{mlocate,plocate}",
            "var/run/dev.db",
        ],
    ),
    (
        "random seeds and keys of this host",
        &[
            "var/db/host.random",
            "etc/random.seed",
            "var/lib/systemd/random-seed",
            "etc/ssh/ssh_host_*",
            "etc/{iked,isakmpd}/private",
            "etc/machine-id",
            "var/lib/dbus/machine-id",
            "etc/soii.key",
        ],
    ),
];
/// The rule that a recipe's own patterns are counted under.
const RECIPE: &str = "left out by the recipe";
/// The rule of what no file of a patch can be.
const SOCKETS: &str = "sockets";
/// Linked anew at every boot, out of objects that are recorded; where there are none, a kernel is a file like others.
pub(super) const KERNELS: (&str, &[&str]) =
    ("kernels that are linked at boot", &["bsd", "obsd", "nbsd", "bsd.booted", "var/db/kernel.SHA256"]);
const KERNEL_OBJECTS: &str = "usr/share/relink/kernel";
/// The rule of files that become entries of their own ([`crate::patch::accounts`]).
const ACCOUNTS: &str = "account files";

/// The rules of a root.
pub(super) struct Rules {
    omit: Vec<(&'static str, PathSet)>,
    keep: PathSet,
}

/// Changes that were left out, by rule: each with one path as an example.
pub type LeftOut = BTreeMap<&'static str, (usize, TreePath)>;

impl Rules {
    /// The default ones for the root `view`, as `recipe` changes them.
    pub(super) fn new(recipe: &Recipe, view: &Dir) -> Result<Rules> {
        let set = |&(name, patterns): &(&'static str, &[&str])| Ok((name, PathSet::new(patterns)?));
        let mut omit: Vec<_> = RULES.iter().map(set).collect::<Result<_>>()?;
        if view.walk(&TreePath::new(KERNEL_OBJECTS.as_bytes())?).is_ok() {
            omit.push(set(&KERNELS)?);
        }
        omit.push((ACCOUNTS, PathSet::new(super::ACCOUNT_FILES)?));
        omit.push((RECIPE, PathSet::new(&recipe.record.omit)?));
        Ok(Rules { omit, keep: PathSet::new(&recipe.record.keep)? })
    }

    /// The rule that leaves `node` out. An account file is never taken, whatever the recipe says.
    fn leaves_out(&self, node: &Node) -> Option<&'static str> {
        let rule = self.omit.iter().find(|(_, paths)| paths.covers(&node.path)).map(|(name, _)| *name);
        match rule {
            None if node.kind == Kind::Socket => Some(SOCKETS),
            Some(rule) if rule != ACCOUNTS && self.keep.covers(&node.path) => None,
            rule => rule,
        }
    }

    /// The part of the changes that makes a patch, and what was left out of it.
    pub(super) fn apply(&self, seen: &Seen, all: &Plan) -> Result<(Plan, LeftOut)> {
        let mut left: LeftOut = BTreeMap::new();
        for change in all.changes.iter().filter(|change| !is_only_time(change)) {
            let node = change.after.as_ref().or(change.before.as_ref());
            if let Some(rule) = node.and_then(|node| self.leaves_out(node)) {
                left.entry(rule).or_insert_with(|| (0, change.path.clone())).0 += 1;
            }
        }
        // A directory that leads to something is there on both sides.
        let taken = |node: &&Node| self.leaves_out(node).is_none();
        let nodes = seen.before.nodes().iter().chain(seen.after.nodes());
        let above: HashSet<TreePath> =
            nodes.filter(taken).flat_map(|node| node.path.ancestors().collect::<Vec<_>>()).collect();
        let rest = |tree: &Tree| {
            let stays = |node: &&Node| taken(node) || (above.contains(&node.path) && node.kind.is_dir());
            Tree::new(tree.nodes().iter().filter(stays).cloned().collect())
        };
        let mut plan = diff(&rest(&seen.before)?, &rest(&seen.after)?);
        prune_times(&mut plan);
        Ok((plan, left))
    }
}

/// A directory's time is part of a patch only where something in that directory is.
fn prune_times(plan: &mut Plan) {
    let told = plan.changes.iter().filter(|change| !is_only_time(change) && change.replace);
    let parents: HashSet<TreePath> = told.filter_map(|change| change.path.parent()).collect();
    plan.changes.retain(|change| !is_only_time(change) || parents.contains(&change.path));
}

/// Does nothing but the time of a directory change?
pub(super) fn is_only_time(change: &crate::plan::Change) -> bool {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => before.kind.is_dir() && before.same_but_dir_time(after),
        _ => false,
    }
}
