// SPDX-License-Identifier: ISC
//! Actions: programs of the chroot that make what no source brings, run inside it when their inputs changed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use sha2::{Digest as _, Sha256};

use super::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::plan::Plan;
use crate::recipe::{self, Recipe};
use crate::tree::{Digest, Kind, Node, Tree};

/// One action.
struct Action {
    recipe: recipe::Action,
    /// The program; without it in the tree there is nothing to do.
    program: &'static str,
    arguments: &'static [&'static str],
    /// What it reads: its input key is made of these entries.
    reads: fn(&Node) -> bool,
    /// What it writes: never judged by the policy.
    writes: &'static [&'static str],
}

const ACTIONS: &[Action] = &[Action {
    recipe: recipe::Action::Ldconfig,
    program: "sbin/ldconfig",
    arguments: &["-X"],
    reads: |node| {
        let path = node.path.as_bytes();
        let library = node.path.name().windows(3).any(|three| three == b".so");
        path.starts_with(b"etc/ld.so.conf") || (library && !node.kind.is_dir())
    },
    writes: &["etc/ld.so.cache", "var/cache/ldconfig"],
}];

/// Everything that actions write.
pub(crate) fn outputs() -> Result<Vec<TreePath>> {
    ACTIONS.iter().flat_map(|action| action.writes).map(|path| TreePath::new(path.as_bytes())).collect()
}

/// The actions of `recipe` whose input in `tree` is not the one they ran with last.
pub(crate) fn due(recipe: &Recipe, tree: &Tree, ran: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let wanted = ACTIONS.iter().filter(|action| recipe.actions.contains(&action.recipe) && has_program(tree, action));
    let keyed = wanted.map(|action| (action.recipe.name().to_owned(), key(tree, action)));
    keyed.filter(|(name, key)| ran.get(name) != Some(key)).collect()
}

/// Does `plan` change anything that the action `name` reads?
pub(crate) fn concerns(name: &str, plan: &Plan) -> bool {
    let nodes = || plan.changes.iter().flat_map(|change| change.before.iter().chain(&change.after));
    ACTIONS.iter().any(|action| action.recipe.name() == name && nodes().any(action.reads))
}

fn has_program(tree: &Tree, action: &Action) -> bool {
    let Ok(path) = TreePath::new(action.program.as_bytes()) else { return false };
    let found = crate::tree::resolve::resolve(&path, true, |at| tree.get(at.as_bytes()).map(|n| &n.kind), |_| Ok(()));
    matches!(found, Ok(crate::tree::resolve::Resolved::Found(_)))
}

fn key(tree: &Tree, action: &Action) -> String {
    let mut hash = Sha256::new();
    for node in tree.nodes().iter().filter(|node| (action.reads)(node)) {
        hash.update(node.path.as_bytes());
        match &node.kind {
            Kind::Symlink(target) => hash.update(target),
            _ => hash.update(node.digest().map_or([0; 32], |d| d.0)),
        }
        hash.update(b"\n");
    }
    Digest(hash.finalize().into()).to_string()
}

/// Runs the action `name` in the directory `root`.
///
/// It runs as a process of its own, `stockade inside ROOT -- PROGRAM`: entering a root is for a process without other
/// threads (decision S1).
pub(crate) fn run(name: &str, root: &Path) -> Result<()> {
    let Some(action) = ACTIONS.iter().find(|action| action.recipe.name() == name) else { return Ok(()) };
    let me = std::env::current_exe().on("readlink", "/proc/self/exe")?;
    let program = format!("/{}", action.program);
    let mut command = std::process::Command::new(me);
    command.arg("inside").arg(root).arg("--").arg(&program).args(action.arguments);
    let output = command.stdin(Stdio::null()).output().on("spawn", &program)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(Error::new(ErrorKind::Io, format!("action {name}: {program} failed: {}", escape(said.as_bytes())))
        .at(bytes(root))
        .hint(format!("leave it out with: actions = [\"-{name}\"]")))
}
