// SPDX-License-Identifier: ISC
//! What the tests of apply share: trees read back from the disk, and a plan carried out on one.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use stockade::apply::{self, Body, Owners, Prepared, Stage, Target};
use stockade::error::Result;
use stockade::plan::Plan;
use stockade::source::dir::{ScanOptions, digest_files, scan};
use stockade::sys::{Calls, Dir};
use stockade::tree::{Node, Tree};
use stockade::watch::Watch;

pub(crate) fn look(path: &Path) -> Tree {
    let root = Dir::open(path, Calls::Native).unwrap();
    let options = ScanOptions { xattrs: true, ..ScanOptions::default() };
    let mut tree = scan(&root, &options, &Watch::default()).unwrap().tree;
    let all: Vec<usize> = (0..tree.len()).collect();
    digest_files(&root, &mut tree, &all, &Watch::default()).unwrap();
    tree
}

/// All that counts: not the stamps.
pub(crate) fn text(tree: &Tree) -> String {
    let line = |n: &Node| format!("{:?} {:?} {:?} {:?}\n", n.path, n.kind, n.meta, n.group);
    tree.nodes().iter().map(line).collect()
}

/// Opens `root`, `work` and `state` in a directory of a test.
pub(crate) fn open(at: &Path) -> (Target, Dir) {
    let dir = |name: &str| Dir::open(&at.join(name), Calls::from_env()).unwrap();
    (Target::single(dir("root"), dir("work"), Owners::Set), dir("state"))
}

/// Stages what `plan` needs, out of the directory `bodies`.
pub(crate) fn ready(target: &Target, plan: Plan, bodies: &Path) -> Result<Prepared> {
    let watch = Watch::default();
    let stage = Stage::create(&target.areas[0].work, target.owners)?;
    let bodies = Dir::open(bodies, Calls::from_env()).unwrap();
    let mut slots = BTreeMap::new();
    for change in plan.changes.iter().filter(|c| c.needs_body()) {
        let node = change.after.as_ref().unwrap();
        let file = bodies.walk_parent(&node.path).unwrap().open_file(node.path.name()).unwrap();
        slots.insert(change.path.clone(), stage.file(node, Body::File(&file), &watch)?.slot);
    }
    apply::prepare(target, &[&stage], plan, &mut |change| Ok(slots[&change.path]), &watch)
}

pub(crate) fn shell(script: &str, at: &Path) {
    fs::create_dir_all(at).unwrap();
    assert!(Command::new("sh").args(["-ec", script]).current_dir(at).status().unwrap().success(), "{script}");
}

pub(crate) fn supports_xattrs(path: &Path) -> bool {
    Command::new("setfattr").args(["-n", "user.a", "-v", "1"]).arg(path).status().is_ok_and(|s| s.success())
}

/// May a test run here that needs root and these programs? In CI it must.
pub(crate) fn able(programs: &[&str]) -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let has =
        |program: &&str| Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let able = root && programs.iter().all(has);
    assert!(able || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "needs root and {programs:?}");
    if !able {
        eprintln!("SKIPPED: needs root and {programs:?}");
    }
    able
}
