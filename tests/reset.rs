// SPDX-License-Identifier: ISC
//! `reset`: whatever was done inside, the chroot is what was built again, and nothing else was touched.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use common::{World, able, entries, rsync_differences};
use serde_json::Value;

const TREE: &str = r#"
umask 022; mkdir -p tree/etc tree/usr/bin tree/usr/lib/deep tree/log tree/kept tree/gone/in; cd tree
for i in 1 2 3 4 5 6 7 8; do echo "file $i" > usr/lib/f$i; done; echo a > etc/a; echo b > etc/b; ln -s a etc/l
echo tool > usr/bin/tool; chmod 4755 usr/bin/tool; setfattr -n user.a -v 1 etc/b; chown 5:6 usr/lib/f3
echo one > h1; ln h1 h2; ln h1 usr/h3; mkfifo pipe; mknod null c 1 3; echo log > log/messages; echo k > kept/k
echo g > gone/in/g; : > gone/e; ln -s in gone/l; head -c 100000 /dev/urandom > usr/bin/large; chmod 1777 log
find . -depth -exec touch -h -d @1600000000.123456789 {} +
"#;

/// Everything that somebody may do to a chroot, but to logs and what is kept.
const DAMAGE: &str = r#"
echo edit > etc/a; echo 'file 9' > usr/lib/f1; chmod 600 usr/lib/f2; chown 1:1 usr/lib/f3; rm usr/lib/f4 usr/bin/large
rm -r gone; echo f > gone; rm etc/b; mkdir -p etc/b/d/e; echo x > etc/b/d/e/f; ln -sf b etc/l; mkdir -p new/er/est
echo n > new/er/est/n; rm h2; echo two > h2; echo through > usr/h3; rm pipe null; echo p > pipe; mkfifo null
chmod 755 usr/bin/tool; rmdir usr/lib/deep; ln -s /etc usr/lib/deep; touch -d @1 usr/lib/f5; setfattr -n user.z -v y usr
ln usr/lib/f6 usr/lib/f6-too; printf 'FILE 7\n' > usr/lib/f7; touch -d @1600000000.123456789 usr/lib/f7
echo more >> log/messages; echo new > log/new; echo changed > kept/k; touch kept
"#;

fn world(unknown: &str, source: &str) -> Option<World> {
    if !able(&["setfattr", "rsync", "tar"]) {
        return None;
    }
    let world = World::new();
    world.sh(TREE);
    world.sh("tar --format=posix --numeric-owner --xattrs -C tree -cf tree.tar .");
    let policy = format!("[policy]\nunknown = \"{unknown}\"\nkeep = [\"kept\"]\nvolatile = [\"log\"]\n");
    world.write(
        "recipe.toml",
        &format!("devices = \"none\"\nactions = [\"-ldconfig\"]\n{policy}[[source]]\n{source}\n"),
    );
    world.ok(&["build", "base", "-f", "./recipe.toml"]);
    Some(world)
}

/// What of the chroot differs from the sources, logs and kept paths apart.
fn differences(world: &World, name: &str) -> String {
    let said = rsync_differences(&world.path("tree"), &world.root(name));
    let judged =
        |line: &&str| !["log", "kept"].iter().any(|dir| line.split_once(' ').unwrap().1.trim().starts_with(dir));
    said.lines().filter(judged).collect()
}

fn inodes(root: PathBuf) -> BTreeMap<PathBuf, (u64, i64)> {
    let look = |path: PathBuf| {
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        (path, (meta.ino(), meta.ctime() * 1_000_000_000 + meta.ctime_nsec()))
    };
    entries(&root).into_iter().map(look).collect()
}

#[test]
fn all_that_was_done_is_undone() {
    for (unknown, source) in
        [("keep", "directory = \"tree\""), ("remove", "directory = \"tree\""), ("keep", "archive = \"tree.tar\"")]
    {
        let Some(world) = world(unknown, source) else { return };
        world.ok(&["clone", "base", "w1", "--how", "copy"]);
        for name in ["base", "w1"] {
            let before = inodes(world.root(name));
            world.sh(&format!("cd home/{name}; {DAMAGE}"));
            let planned = world.run(&["reset", name, "--dry-run"]);
            assert!(
                planned.out.contains("\n* etc/a  content time\n") || planned.out.contains("* etc/a "),
                "{planned:?}"
            );
            assert_ne!(differences(&world, name), "");
            world.ok(&["reset", name]);
            assert_eq!(differences(&world, name), "", "{name} {source}");
            let read = |path: &str| fs::read_to_string(world.root(name).join(path)).unwrap();
            assert_eq!(
                (&*read("log/messages"), &*read("log/new"), &*read("kept/k")),
                ("log\nmore\n", "new\n", "changed\n")
            );
            let after = inodes(world.root(name));
            for path in ["usr/lib/f8", "usr/bin", "etc", "h1"] {
                let touched = path == "h1" || fs::metadata(world.root(name).join(path)).unwrap().is_dir();
                let same = before[&PathBuf::from(path)] == after[&PathBuf::from(path)];
                assert!(touched || same, "{path} was touched");
            }
            // The record is of what is there: nothing has to be read again, and nothing is to be done.
            let checked: Value = serde_json::from_str(&world.run(&["check", name, "--json"]).out).unwrap();
            let kept = checked["changes"].as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap());
            assert_eq!((&checked["read"], kept.collect()), (&0.into(), vec!["kept/k"]), "{checked}");
            assert!(world.run(&["check", name, "--hash"]).out.contains("\n1 of "));
            assert!(world.ok(&["reset", name]).contains("nothing to do"), "{name}");
        }
        world.assert_tidy();
    }
}

/// Where a content comes from: the base if it has it, else the sources; what nobody has is left and said.
#[test]
fn contents_are_taken_from_whoever_has_them() {
    let Some(world) = world("remove", "directory = \"tree\"") else { return };
    world.ok(&["clone", "base", "w1", "--how", "copy"]);
    // Only the base has a, only the source has f1, nobody has f7.
    world.sh(
        "echo A > tree/etc/a; echo edited > home/base/usr/lib/f1; echo F > tree/usr/lib/f7; rm home/base/usr/lib/f7",
    );
    world.sh("cd home/w1; echo x > etc/a; rm usr/lib/f1; echo lost > usr/lib/f7; chmod 600 usr/lib/f2");
    let said = world.run(&["reset", "w1"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains("left alone: usr/lib/f7: neither its base nor a source"), "{said:?}");
    let read = |path: &str| fs::read_to_string(world.root("w1").join(path)).unwrap();
    assert_eq!((&*read("etc/a"), &*read("usr/lib/f1"), &*read("usr/lib/f7")), ("a\n", "file 1\n", "lost\n"));
    assert_eq!(fs::metadata(world.root("w1").join("usr/lib/f2")).unwrap().mode() & 0o7777, 0o644);
    // Gone for good, and still said.
    world.sh("rm home/w1/usr/lib/f7");
    let said = world.run(&["reset", "w1", "--json"]);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (said.status, &value["left"][0]["path"], &value["left"][0]["why"]),
        (Some(2), &"usr/lib/f7".into(), &"lost".into())
    );
    // Without its base, and without its sources.
    world.ok(&["remove", "base"]);
    world.sh("echo 'file 7' > tree/usr/lib/f7; cd home/w1; echo y > usr/lib/f8");
    world.ok(&["reset", "w1"]);
    assert_eq!((&*read("usr/lib/f7"), &*read("usr/lib/f8")), ("file 7\n", "file 8\n"));
    world.sh("rm -r tree; echo y > home/w1/usr/lib/f8; chmod 644 home/w1/usr/bin/tool");
    assert_eq!(world.run(&["reset", "w1"]).status, Some(2));
    assert_eq!(fs::metadata(world.root("w1").join("usr/bin/tool")).unwrap().mode() & 0o7777, 0o4755);
    world.assert_tidy();
}

/// What was written through a clone made of links is mended in both, each from what it has.
#[test]
fn links_that_were_written_through_are_mended() {
    let Some(world) = world("remove", "directory = \"tree\"") else { return };
    world.ok(&["clone", "base", "w1", "--how", "link"]);
    world.sh("cd home/w1; echo through >> etc/a; chmod 777 usr/lib/f2; printf 'FILE 5\n' > usr/lib/f5; touch -d @1600000000.123456789 usr/lib/f5");
    for name in ["w1", "base"] {
        assert_eq!(world.run(&["check", name]).status, Some(2), "{name}");
        world.ok(&["reset", name]);
        assert_eq!(rsync_differences(&world.path("tree"), &world.root(name)), "", "{name}");
        world.ok(&["check", name, "--hash"]);
    }
    // Mended apart: the two no longer share what was mended, but the rest.
    let ino = |name: &str, path: &str| fs::metadata(world.root(name).join(path)).unwrap().ino();
    for (path, shared) in [("etc/a", false), ("usr/lib/f2", false), ("usr/lib/f5", false), ("usr/lib/f8", true)] {
        assert_eq!(ino("base", path) == ino("w1", path), shared, "{path}");
    }
}

/// An action that failed, or was never begun, is due until it is done.
#[test]
fn an_action_that_failed_is_run_again() {
    if !able(&["busybox", "strace"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "mkdir -p tree/bin tree/sbin tree/etc/ld.so.conf.d tree/proc tree/dev tree/tmp tree/sys tree/run; cp $(command -v busybox) tree/bin/busybox; ln -s busybox tree/bin/sh
        echo one > tree/etc/ld.so.conf.d/a
        printf '#!/bin/sh\\ntest ! -e /fail && echo run >> /etc/ld.so.cache\\n' > tree/sbin/ldconfig; chmod 755 tree/sbin/ldconfig",
    );
    world.write("recipe.toml", "devices = \"none\"\n[policy]\nkeep = [\"fail\"]\n[[source]]\ndirectory = \"tree\"\n");
    world.ok(&["build", "base", "-f", "./recipe.toml"]);
    let runs = || fs::read_to_string(world.root("base").join("etc/ld.so.cache")).unwrap().lines().count();
    let edit = "echo two > home/base/etc/ld.so.conf.d/a";
    assert_eq!(runs(), 1);
    world.ok(&["reset", "base"]);
    assert_eq!(runs(), 1, "nothing is due");
    world.sh(&format!("{edit}; : > home/base/fail"));
    world.refused(&["reset", "base"], &["action ldconfig"]);
    world.refused(&["reset", "base"], &["action ldconfig"]);
    world.sh("rm home/base/fail");
    world.ok(&["reset", "base"]);
    assert_eq!(runs(), 2);
    // Killed before the action is begun: its messages go through the first pipe.
    world.sh(edit);
    let mut command = std::process::Command::new("strace");
    command.args(["-qq", "-o"]).arg(world.path("log"));
    command.args(["-e", "inject=pipe2:signal=KILL:when=1", env!("CARGO_BIN_EXE_stockade"), "reset", "base"]);
    world.settle(&mut command);
    command.output().unwrap();
    assert_eq!(fs::read_to_string(world.root("base").join("etc/ld.so.conf.d/a")).unwrap(), "one\n");
    assert_eq!(runs(), 2);
    world.ok(&["reset", "base"]);
    world.ok(&["reset", "base"]);
    assert_eq!(runs(), 3);
    world.assert_tidy();
}

#[test]
fn a_great_loss_needs_a_word() {
    let Some(world) = world("keep", "directory = \"tree\"") else { return };
    world.sh("cd home/base; mkdir many; for i in $(seq 50); do : > many/$i; done");
    world.refused(&["reset", "base"], &["51 of ", "would be removed", "--yes"]);
    assert!(world.root("base").join("many/50").exists());
    assert!(world.ok(&["reset", "base", "--yes"]).contains("51 removed"));
    world.refused(&["reset", "nothing"], &["there is no such chroot"]);
}

#[test]
fn what_a_build_leaves_as_edited_is_taken_back() {
    let Some(world) = world("remove\"\nedited = [\"etc\"]\n#", "archive = \"tree.tar\"") else { return };
    world.sh("cd home/base/etc; echo edited > a; echo own > own");
    world.ok(&["build", "base"]);
    assert_eq!(world.sh("cat home/base/etc/a home/base/etc/own"), "edited\nown\n");
    world.ok(&["reset", "base"]);
    assert_eq!(differences(&world, "base"), "");
}
