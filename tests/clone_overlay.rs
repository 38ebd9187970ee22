// SPDX-License-Identifier: ISC
//! Clones by overlay: what is written to one lies in front of its base, which must not change; no mount is ever seen
//! from outside.

mod common;

use std::fs;
use std::process::Stdio;

use common::{Said, World, able, fingerprint, picture};
use serde_json::Value;

const TREE: &str = r#"
umask 022; mkdir -p tree/bin tree/etc tree/d/deep tree/proc tree/dev tree/tmp tree/run tree/sys tree/home; cd tree
cp "$(command -v busybox)" bin/busybox; for name in sh cat rm ln mv mkdir chmod sleep; do ln -s busybox bin/$name; done
echo root:x:0:0::/:/bin/sh > etc/passwd; echo root:x:0: > etc/group; echo one > d/f; ln d/f d/g; echo x > d/deep/x
echo s > suid; chown 1:2 suid; chmod 6755 suid; setfattr -n user.a -v b d/f; chmod 750 .; mkfifo pipe
find . -depth -exec touch -h -d @1600000000.123456789 {} +
"#;

/// A world with the chroot `base` and its clone `w1`.
fn world() -> Option<World> {
    if !able(&["setfattr", "busybox", "strace"]) {
        return None;
    }
    let world = World::new();
    world.sh(TREE);
    let recipe = "devices = \"none\"\nactions = [\"-ldconfig\"]\n[policy]\nunknown = \"remove\"\n[[source]]\ndirectory = \"tree\"\n";
    world.write("recipe.toml", recipe);
    world.ok(&["build", "base", "-f", "./recipe.toml"]);
    let said = world.ok(&["clone", "base", "w1"]);
    assert!(said.contains(" by overlay: "), "{said}");
    Some(world)
}

fn check(world: &World, name: &str) -> (Vec<String>, Value) {
    let report: Value = serde_json::from_str(&world.run(&["check", name, "--json"]).out).unwrap();
    let line = |change: &Value| format!("{}{}", change["change"].as_str().unwrap(), change["path"].as_str().unwrap());
    (report["changes"].as_array().unwrap().iter().map(line).collect(), report["read"].clone())
}

/// What is mounted in the world, as seen from outside.
fn mounts(world: &World) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let here = world.path("").display().to_string();
    table.lines().filter(|line| line.contains(&here)).map(str::to_owned).collect()
}

#[test]
fn what_is_written_to_a_clone_lies_in_front_of_its_base() {
    let Some(world) = world() else { return };
    let base = fingerprint(&world.root("base"));
    assert_eq!(check(&world, "w1"), (vec![], 0.into()), "nothing was copied, nothing has to be read");
    assert_eq!(fs::read_dir(world.root("w1")).unwrap().count(), 0, "from outside there is nothing to see");
    let script =
        "echo two > /d/f; rm /suid; mkdir /new; echo n > /new/n; mv /d/deep /d/moved; chmod 700 /etc; rm /pipe";
    world.ok(&["run", "w1", "--", "sh", "-c", script]);
    assert_eq!(
        world.ok(&["run", "w1", "--", "cat", "/d/g", "/new/n", "/d/moved/x"]),
        "two\nn\nx\n",
        "two names of one"
    );
    let differences =
        ["-d/deep", "-d/deep/x", "*d/f", "*d/g", "+d/moved", "+d/moved/x", "metc", "+new", "+new/n", "-pipe", "-suid"];
    assert_eq!(check(&world, "w1").0, differences);
    assert_eq!(fingerprint(&world.root("base")), base, "the base is not touched");
    // Files go in and out.
    world.sh("echo inward > in; $STOCKADE copy in w1:/d/deep-not-there || $STOCKADE copy in w1:/new; $STOCKADE copy w1:/d/f out");
    assert_eq!(fs::read_to_string(world.path("out")).unwrap(), "two\n");
    // A clone of it stands alone.
    let said = world.ok(&["clone", "w1", "w2"]);
    assert!(said.contains(" by copy: "), "{said}");
    assert_eq!(fs::read_to_string(world.root("w2").join("d/g")).unwrap(), "two\n");
    world.refused(&["clone", "w1", "w3", "--how", "overlay"], &["its base is an overlay itself", "--how copy"]);
    // And back.
    let said = world.ok(&["reset", "w1"]);
    assert!(said.contains("/w1: reset: "), "{said}");
    assert_eq!(check(&world, "w1").0, [""; 0]);
    world.ok(&["check", "w1", "--hash"]);
    world.ok(&["clone", "w1", "w4", "--how", "copy"]);
    assert_eq!(picture(&world.root("w4")), picture(&world.root("base")));
    assert_eq!((fingerprint(&world.root("base")), mounts(&world)), (base, vec![]));
    let listed: Value = serde_json::from_str(&world.ok(&["list", "--json", "--disk"])).unwrap();
    let w1 = listed.as_array().unwrap().iter().find(|one| one["name"] == "w1").unwrap();
    assert_eq!((&w1["how"], w1["base"].as_str()), (&"overlay".into(), world.root("base").to_str()));
    assert!(w1["disk"]["own"].as_u64() < Some(100_000), "{w1}");
}

#[test]
fn the_base_of_a_clone_does_not_change() {
    let Some(world) = world() else { return };
    world.sh("echo x > in");
    let base = fingerprint(&world.root("base"));
    let w1 = world.root("w1").display().to_string();
    for arguments in [
        &["build", "base"][..],
        &["build", "base", "--swap"],
        &["remove", "base"],
        &["reset", "base"],
        &["copy", "in", "base:/d"],
        &["run", "base", "--", "sh", "-c", ": > /made"],
    ] {
        world.refused(arguments, &["clones by overlay would change with it: ", &w1, "remove them first"]);
    }
    assert_eq!(world.ok(&["run", "base", "--ephemeral", "--", "sh", "-c", ": > /made; cat /d/f"]), "one\n");
    world.refused(&["build", "w1"], &["it is a clone by overlay of ", "stockade reset"]);
    assert_eq!(fingerprint(&world.root("base")), base);
    // Gone is gone, in whatever way.
    world.ok(&["clone", "base", "w2", "--how", "overlay"]);
    world.ok(&["remove", "w1"]);
    world.refused(&["remove", "base"], &["/w2", "would change"]);
    world.sh("rm -r home/w2 home/.stockade/w2");
    world.sh("mv home/base home/away");
    world.sh("mv home/away home/base");
    world.ok(&["build", "base"]);
    world.ok(&["remove", "base"]);
    let left: Vec<_> = fs::read_dir(world.path("home/.stockade")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["roots"]);
}

/// A session that may write keeps its chroot from becoming a base; one command at a time works on a clone.
#[test]
fn sessions_and_clones_keep_out_of_each_others_way() {
    let Some(world) = world() else { return };
    let inside = |name: &str| {
        let mut session = world.stockade(&["run", name, "--", "sh", "-c", "echo ready; read line"]);
        let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(session.stdout.as_mut().unwrap(), &mut ready).unwrap();
        session
    };
    let mut session = inside("w1");
    world.refused(&["check", "w1", "--no-wait"], &["in use by stockade run"]);
    world.refused(&["run", "w1", "--no-wait", "--", "sh"], &["in use by stockade run"]);
    world.refused(&["remove", "w1", "--no-wait"], &["in use by stockade run"]);
    drop(session.stdin.take());
    session.wait().unwrap();
    world.ok(&["remove", "w1"]);
    let mut session = inside("base");
    world.refused(&["clone", "base", "w1", "--how", "overlay"], &["runs in it", "--how copy"]);
    assert!(world.ok(&["clone", "base", "w1"]).contains(" by copy: "));
    drop(session.stdin.take());
    session.wait().unwrap();
    world.ok(&["run", "base", "--", "sh", "-c", ": > /may-change-again"]);
}

/// Killed at many moments, a clone and a reset are whole or not there, and the next command goes on.
#[test]
fn a_killed_command_leaves_nothing_half_done() {
    let Some(world) = world() else { return };
    world.ok(&["remove", "w1"]);
    let before = picture(&world.root("base"));
    for how in ["overlay", "copy", "link"] {
        for (call, most) in
            [("mkdirat", 9), ("renameat", 9), ("linkat", 9), ("openat", 50), ("fsync", 7), ("utimensat", 7)]
        {
            for when in (1..=most).step_by(if most > 9 { 12 } else { 3 }) {
                let told = format!("{how}: {call} {when}");
                let inject = format!("-einject={call}:signal=KILL:when={when}");
                let mut command = std::process::Command::new("strace");
                command.args(["-f", "-qq", "-o", "/dev/null", &inject, env!("CARGO_BIN_EXE_stockade")]);
                command.args(["clone", "base", "w1", "--how", how]);
                world.settle(&mut command);
                let done = Said::of(command.output().unwrap());
                let there = world.root("w1").exists();
                assert!(there || done.status != Some(0), "{told}: {done:?}");
                world.run(&["recover", "w1"]);
                if there {
                    assert_eq!(check(&world, "w1").0, [""; 0], "{told}");
                    world.ok(&["remove", "w1"]);
                }
                let left = world.path("home/.stockade/w1");
                assert!(!left.exists(), "{told}: {:?}", fs::read_dir(&left).unwrap().collect::<Vec<_>>());
                assert_eq!(picture(&world.root("base")), before, "{told}");
            }
        }
    }
    world.ok(&["clone", "base", "w1", "--how", "overlay"]);
    for (call, when) in
        [("linkat", 1), ("renameat", 1), ("renameat", 3), ("unlinkat", 2), ("mkdirat", 4), ("utimensat", 2)]
    {
        world.ok(&["run", "w1", "--", "sh", "-c", "echo two > /d/f; rm -f /suid; mkdir -p /new; rm -rf /d/deep"]);
        let inject = format!("-einject={call}:signal=KILL:when={when}");
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", &inject, env!("CARGO_BIN_EXE_stockade"), "reset", "w1"]);
        world.settle(&mut command);
        Said::of(command.output().unwrap());
        world.ok(&["reset", "w1"]);
        assert_eq!(check(&world, "w1").0, [""; 0], "{call} {when}");
        assert_eq!(picture(&world.root("base")), before, "{call} {when}");
    }
}
