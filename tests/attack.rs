// SPDX-License-Identifier: ISC
//! What stands in the way of a change: symlinks that somebody planted or swaps in, mounts, full filesystems. Nothing
//! outside of the root changes, and the root is as it was.

mod trees;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stockade::apply::{self, Area, Body, Owners, Stage, Target};
use stockade::error::{ErrorKind, Result};
use stockade::path::TreePath;
use stockade::plan::{Change, Plan};
use stockade::sys::{Calls, Dir};
use stockade::tree::Tree;
use stockade::tree::diff::diff;
use stockade::watch::Watch;
use trees::{able, look, open, ready, shell, text};

const OLD: &str =
    "umask 022; mkdir -p d/e other; echo old > d/file; echo old > d/e/file; echo gone > d/e/gone; chmod 600 d/file";
const NEW: &str =
    "umask 022; mkdir -p d/e d/new other; echo new > d/file; echo new > d/e/file; echo n > d/new/n; ln -s x d/l";

/// A directory with `root` (the old tree), `new`, `outside` (as the directory `d` looks from within), `work`, `state`.
fn place(at: &Path) {
    for (name, script) in [("root", OLD), ("new", NEW), ("outside/base", OLD), ("work", ""), ("state", "")] {
        shell(script, &at.join(name));
    }
    fs::rename(at.join("outside/base/d"), at.join("outside/d")).unwrap();
}

fn plan(at: &Path) -> Plan {
    diff(&look(&at.join("root")), &look(&at.join("new")))
}

/// The whole change; what is left half done is put right by recovery.
fn change(at: &Path, plan: Plan) -> Result<()> {
    let (target, state) = open(at);
    let watch = Watch::default();
    let done = ready(&target, plan, &at.join("new"))
        .and_then(|prepared| apply::commit(&target, &state, &prepared, &|| Ok(()), &watch));
    apply::recover(&target, &state, &|| Ok(()), &watch).and(done)
}

#[test]
fn a_symlink_on_the_way_is_refused() {
    for (planted, names) in [("d", "d"), ("d/e", "d/e")] {
        let temp = tempfile::tempdir().unwrap();
        place(temp.path());
        let at = |name: &str| temp.path().join(name);
        let plan = plan(temp.path());
        fs::rename(at("root").join(planted), at("moved")).unwrap();
        symlink(at("outside").join(planted), at("root").join(planted)).unwrap();
        let (root, outside) = (text(&look(&at("root"))), text(&look(&at("outside"))));
        let error = change(temp.path(), plan).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(names.as_bytes())), "{error}");
        assert_eq!(text(&look(&at("root"))), root);
        assert_eq!(text(&look(&at("outside"))), outside);
    }
}

/// Somebody exchanges directories and symlinks all the time while changes go there and back.
#[test]
fn a_race_for_a_directory_changes_nothing_outside() {
    let temp = tempfile::tempdir().unwrap();
    place(temp.path());
    let at = |name: &str| temp.path().join(name);
    let outside = text(&look(&at("outside")));
    let (there, back) = (plan(temp.path()), diff(&look(&at("new")), &look(&at("root"))));
    let stop = AtomicBool::new(false);
    let mut failed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                let name = if turn % 2 == 0 { "root/d" } else { "root/d/e" };
                let target = if turn % 2 == 0 { "outside/d" } else { "outside/d/e" };
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if fs::rename(at(name), at("aside")).is_ok() {
                    symlink(at(target), at(name)).unwrap();
                    fs::remove_file(at(name)).unwrap();
                    fs::rename(at("aside"), at(name)).unwrap();
                }
            }
        });
        for turn in 0..5000 {
            if turn >= 200 && failed > 0 {
                break;
            }
            let mut plan = if turn % 2 == 0 { there.clone() } else { back.clone() };
            for node in plan.changes.iter_mut().filter_map(|c| c.before.as_mut()) {
                node.here = None; // The inodes come and go.
            }
            let (target, state) = open(temp.path());
            let bodies = if turn % 2 == 0 { at("new") } else { at("outside") };
            let done = ready(&target, plan, &bodies)
                .and_then(|prepared| apply::commit(&target, &state, &prepared, &|| Ok(()), &Watch::default()));
            failed += usize::from(done.is_err());
            while apply::recover(&target, &state, &|| Ok(()), &Watch::default()).is_err() {}
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(failed > 0, "the race was never met");
    assert_eq!(text(&look(&at("outside"))), outside);
}

#[test]
fn what_changed_since_it_was_looked_at_is_a_conflict() {
    for (script, names) in [
        ("echo more >> root/d/file", "d/file"),
        ("rm root/d/e/gone; mkdir root/d/e/gone", "d/e/gone"),
        ("rm root/d/e/gone", "d/e/gone"),
        ("mkdir root/d/new", "d/new"),
        ("echo x > root/d/l", "d/l"),
        ("touch -r root/d/file x; echo odl > root/d/file; touch -r x root/d/file", "d/file"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        place(temp.path());
        let plan = plan(temp.path());
        shell(script, temp.path());
        let root = text(&look(&temp.path().join("root")));
        let error = change(temp.path(), plan).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(names.as_bytes())), "{script}: {error}");
        assert_eq!(text(&look(&temp.path().join("root"))), root, "{script}");
    }
}

/// Runs an ignored test in a mount namespace of its own, after a script that mounts; `$1` is the directory.
fn in_namespace(test: &str, mounts: &str) {
    if !able(&["unshare"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let script = format!("set -e; cd \"$1\"; {mounts}; exec \"$2\" --ignored --exact {test} --nocapture");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(temp.path());
    command.arg(std::env::current_exe().unwrap()).env("STOCKADE_ATTACK_DIR", temp.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The directory that [`in_namespace`] prepared.
fn given() -> std::path::PathBuf {
    std::env::var_os("STOCKADE_ATTACK_DIR").expect("run by the other tests").into()
}

#[test]
fn mounts_are_left_alone() {
    in_namespace("with_mounts", "true");
}

#[test]
#[ignore = "run by the other tests"]
fn with_mounts() {
    let base = given();
    for (mounted, names) in [("d", "d"), ("d/e", "d/e"), ("d/file", "d/file"), ("d/e/gone", "d/e/gone")] {
        let at = base.join(mounted.replace('/', "-"));
        if Calls::from_env() == Calls::Portable {
            // Device numbers tell filesystems apart, not mounts of one.
            shell("mount -t tmpfs none .", &at.join("outside"));
        }
        place(&at);
        let plan = plan(&at);
        let (from, to) = (at.join("outside").join(mounted), at.join("root").join(mounted));
        let mount = Command::new("mount").arg("--bind").args([&from, &to]).status().unwrap();
        assert!(mount.success());
        let (root, outside) = (text(&look(&at.join("root"))), text(&look(&at.join("outside"))));
        let error = change(&at, plan).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(names.as_bytes())), "{error}");
        assert!(error.reason().contains("mount"), "{error}");
        assert_eq!(text(&look(&at.join("root"))), root);
        let removed = apply::remove_tree(&Dir::open(&at, Calls::from_env()).unwrap(), b"root", &Watch::default());
        let error = removed.unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(format!("root/{names}").as_bytes())));
        assert_eq!(text(&look(&at.join("outside"))), outside);
    }
}

#[test]
fn a_mount_that_is_named_is_changed_too() {
    in_namespace("with_two_areas", "mkdir -p root/m; mount -t tmpfs none root/m");
}

#[test]
#[ignore = "run by the other tests"]
fn with_two_areas() {
    let base = given();
    for name in ["work", "root/m/.work", "state"] {
        shell("", &base.join(name));
    }
    shell("echo a > a; echo b > m/b; ln a a2; ln m/b m/b2; mkdir m/gone; echo x > m/gone/x", &base.join("root"));
    shell("mkdir m; echo A > a; echo B > m/b; ln m/b m/b2; mkdir m/d; echo n > m/d/n; ln -s x m/l", &base.join("new"));
    let dir = |name: &str| Dir::open(&base.join(name), Calls::from_env()).unwrap();
    let at = TreePath::new(*b"m").unwrap();
    let area = |at: TreePath, root: &str, work: &str| Area { at, root: Arc::new(dir(root)), work: dir(work) };
    let areas = vec![area(TreePath::root(), "root", "work"), area(at.clone(), "root/m", "root/m/.work")];
    let target = Target { areas, owners: Owners::Set };
    let seen = || {
        let mut nodes = look(&base.join("root")).into_nodes();
        nodes.retain(|n| n.path != at);
        for mut node in look(&base.join("root/m")).into_nodes() {
            node.path = at.under(&node.path).unwrap();
            node.group = node.group.map(|group| at.under(&group).unwrap());
            nodes.push(node);
        }
        nodes.retain(|n| !n.path.as_bytes().starts_with(b"m/.work"));
        Tree::new(nodes).unwrap()
    };
    let old = text(&seen());
    let want = look(&base.join("new"));
    let watch = Watch::default();
    let run = |plan: Plan, bodies: &Path, spoil: bool| -> Result<()> {
        let stages = [0, 1].map(|i| Stage::create(&target.areas[i].work, Owners::Set).unwrap());
        let bodies = Dir::open(bodies, Calls::from_env()).unwrap();
        let mut bring = |change: &Change| {
            let node = change.after.as_ref().unwrap();
            let file = bodies.walk_parent(&node.path).unwrap().open_file(node.path.name()).unwrap();
            let stage = &stages[usize::from(node.path.is_within(&at))];
            Ok(stage.file(node, Body::File(&file), &watch)?.slot)
        };
        let prepared = apply::prepare(&target, &stages.each_ref(), plan, &mut bring, &watch)?;
        if spoil {
            shell("mv gone/x gone/y", &base.join("root/m"));
        }
        apply::commit(&target, &dir("state"), &prepared, &|| Ok(()), &watch)
    };
    let error = run(diff(&seen(), &want), &base.join("new"), true).unwrap_err();
    assert_eq!(error.path(), Some(&b"m/gone/x"[..]), "{error}");
    shell("mv gone/y gone/x; touch -r ../../state gone", &base.join("root/m"));
    let forget_gone =
        |text: String| text.lines().filter(|l| !l.starts_with("\"m/gone\"")).collect::<Vec<_>>().join("\n");
    assert_eq!(forget_gone(text(&seen())), forget_gone(old));
    run(diff(&seen(), &want), &base.join("new"), false).unwrap();
    assert_eq!(text(&seen()), text(&want));
    // A hard link cannot lead from one to the other.
    shell("rm m/l; ln a m/l; touch -r m m", &base.join("new"));
    let error = run(diff(&seen(), &look(&base.join("new"))), &base.join("new"), false).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(&b"m/l"[..])), "{error}");
}

#[test]
fn without_space_the_old_tree_stays() {
    in_namespace("with_little_space", "mount -t tmpfs -o size=3m,nr_inodes=200 none .");
}

#[test]
#[ignore = "run by the other tests"]
fn with_little_space() {
    let at = given();
    place(&at);
    let root = text(&look(&at.join("root")));
    // Too large for the stage.
    let big = tempfile::tempdir().unwrap();
    shell("head -c 8000000 /dev/urandom > big; echo new > other", big.path());
    let plan_big = diff(&look(&at.join("root")), &look(big.path()));
    let (target, state) = open(&at);
    let checked = apply::check(&target, &plan_big, &|_| false).unwrap();
    assert!(checked.problems.iter().any(|e| e.kind() == ErrorKind::NoSpace), "{checked:?}");
    let error = ready(&target, plan_big, big.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(apply::discard(&target).unwrap());
    assert_eq!(text(&look(&at.join("root"))), root);
    // Somebody fills the filesystem between the stage and the commit: at first so that nothing works, then with a few
    // inodes left.
    for spare in 0..40 {
        let prepared = ready(&target, plan(&at), &at.join("new")).unwrap();
        fs::create_dir(at.join("fill")).unwrap();
        let fill = (0..).take_while(|n| fs::write(at.join(format!("fill/{n}")), "").is_ok()).count();
        for n in 0..spare.min(fill) {
            fs::remove_file(at.join(format!("fill/{n}"))).unwrap();
        }
        let done = apply::commit(&target, &state, &prepared, &|| Ok(()), &Watch::default());
        fs::remove_dir_all(at.join("fill")).unwrap();
        if done.is_ok() {
            assert!(spare > 3, "there was no shortage");
            assert_eq!(text(&look(&at.join("root"))), text(&look(&at.join("new"))));
            return;
        }
        assert_eq!(done.unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(text(&look(&at.join("root"))), root, "with {spare} inodes left");
        assert!(matches!(
            apply::recover(&target, &state, &|| Ok(()), &Watch::default()),
            Ok(apply::Recovered::Nothing)
        ));
    }
    panic!("it never had enough");
}
