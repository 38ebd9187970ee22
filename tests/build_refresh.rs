// SPDX-License-Identifier: ISC
//! What a refresh does with what it finds (decision E9), what it does not even look at, and two commands at once.

mod common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use common::{Said, World, able, fingerprint, skip};

/// A world with the archives `one` and `two`, made by shell scripts, and `recipe.toml`, which lays `one`.
fn world(one: &str, two: &str, policy: &str) -> World {
    let world = World::new();
    for (name, script) in [("one", one), ("two", two)] {
        world.sh(&format!(
            "umask 022; mkdir {name}; cd {name}; {script}
            find . -exec touch -h -d @1700000000 {{}} +; tar --format=posix --numeric-owner -cf ../{name}.tar ."
        ));
    }
    lay(&world, "one", policy);
    world
}

/// From now on the recipe lays this archive.
fn lay(world: &World, name: &str, policy: &str) {
    let source = format!("[[source]]\narchive = \"{name}.tar\"\n");
    world.write("recipe.toml", &format!("devices = \"none\"\nnested = [\"in.tar\"]\n[policy]\n{policy}\n{source}"));
}

const BUILD: [&str; 4] = ["build", "b0", "-f", "recipe.toml"];

/// One row: path; what the first build brings; what somebody then does to it; what the second build brings; what is there in the
/// end under `keep`, and under `remove`. Nothing is `-`.
type Class = [&'static str; 6];
const CLASSES: [Class; 17] = [
    ["same", "v1", "", "v1", "v1", "v1"],
    ["changed", "v1", "", "v2", "v2", "v2"],
    ["new", "-", "", "v2", "v2", "v2"],
    ["stale", "v1", "", "-", "-", "-"],
    ["stale-edited", "v1", "echo local > $p", "-", "local", "local"],
    ["edited", "v1", "echo local > $p", "v2", "local", "v2"],
    ["edited-before", "v1", "echo local > $p", "v1", "local", "v1"],
    ["edited-secretly", "v1", "echo l1 > $p; touch -d @1700000000 $p", "v1", "l1", "v1"],
    ["edited-alike", "v1", "echo v2 > $p; touch -d @1700000000 $p", "v2", "v2", "v2"],
    ["deleted", "v1", "rm $p", "v1", "-", "v1"],
    ["unknown", "-", "echo local > $p", "-", "local", "-"],
    ["dir/unknown", "-", "echo local > $p", "-", "local", "-"],
    ["in-the-way", "-", "echo local > $p", "v2", "local", "v2"],
    ["kept/edited", "v1", "echo local > $p", "v2", "local", "local"],
    ["kept/deleted", "v1", "rm $p", "v2", "v2", "v2"],
    ["log/grown", "v1", "echo local > $p", "v2", "local", "local"],
    ["log/unknown", "-", "echo local > $p", "-", "local", "local"],
];

#[test]
fn each_class_of_path_has_its_fate() {
    if !able(&["tar"]) {
        return;
    }
    let brought = |column: usize| -> String {
        let made = CLASSES.iter().filter(|class| class[column] != "-");
        let make: String = made.map(|class| format!("echo {} > {}; ", class[column], class[0])).collect();
        format!("mkdir dir kept log; {make}: > dir/x")
    };
    for keep in [true, false] {
        let unknown = if keep { "keep" } else { "remove" };
        let policy = format!("unknown = \"{unknown}\"\nkeep = [\"kept\"]\nvolatile = [\"log\"]");
        let world = world(&brought(1), &brought(3), &policy);
        world.ok(&BUILD);
        for [path, _, local, ..] in CLASSES {
            world.sh(&format!("cd home/b0; p={path}; {local}"));
        }
        lay(&world, "two", &policy);
        let said = world.run(&BUILD);
        assert_eq!(said.status, Some(2), "{unknown}: what was left against the recipe is said: {said:?}");
        for [path, .., kept, removed] in CLASSES {
            let want = if keep { kept } else { removed };
            let have = fs::read_to_string(world.root("b0").join(path)).unwrap_or("-".into());
            assert_eq!(have.trim(), want, "{unknown}: {path}");
        }
        let told = |path: &str| said.out.contains(&format!("left alone: {path}: "));
        let all = ["edited", "edited-before", "edited-secretly", "deleted", "in-the-way"];
        assert!(told("stale-edited") && all.iter().all(|path| told(path) == keep), "{unknown}: {}", said.out);
        world.assert_tidy();
        // Doing it again changes nothing.
        let before = fingerprint(&world.root("b0"));
        let again = world.run(&BUILD);
        assert!(again.out.contains("nothing to do") && told("stale-edited"), "{unknown}: {again:?}");
        assert_eq!(fingerprint(&world.root("b0")), before, "{unknown}");
    }
}

#[test]
fn metadata_is_restored_without_a_word_about_content() {
    if !able(&["tar", "setfattr"]) {
        return;
    }
    let make = "mkdir d; for i in 1 2 3 4 5 6; do echo x > f$i; done; ln -s f1 l; chmod 4755 f3";
    let world = world(make, "", "unknown = \"remove\"");
    world.ok(&BUILD);
    let picture = common::picture(&world.root("b0"));
    world.sh("cd home/b0; touch f1; chmod 600 f2; chmod 755 f3; chown 5:6 f4; touch -h l; chmod 700 d .; chown -h 7 l");
    world.sh("cd home/b0; setfattr -n user.a -v b f5; ln f6 f7; rm f7");
    let found = world.run(&["check", "b0"]);
    assert_eq!(found.status, Some(2));
    for line in ["m f1 ", "m f2 ", "m f3 ", "m f4 ", "m f5 ", "m d ", "m l "] {
        assert!(found.out.contains(line), "{line}: {}", found.out);
    }
    assert!(!found.out.contains("f6"), "a file that is as it was: {}", found.out);
    world.ok(&BUILD);
    assert_eq!(common::picture(&world.root("b0")), picture);
    world.ok(&["check", "b0", "--hash"]);
}

/// The regular files below the chroot `b0` that the program opens to read, as strace(1) sees them.
fn opened(world: &World, arguments: &[&str]) -> (Said, Vec<String>) {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-e", "trace=open,openat,openat2", "-o"]).arg(world.path("log"));
    command.arg(env!("CARGO_BIN_EXE_stockade")).args(arguments);
    world.settle(&mut command);
    let said = Said::of(command.output().unwrap());
    let root = world.root("b0").display().to_string();
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.contains(&root), "the trace shows nothing of the chroot");
    let other = ["O_DIRECTORY", "O_PATH", " resumed>"];
    let reads = |line: &&str| line.contains(&root) && !other.iter().any(|word| line.contains(word));
    (said, log.lines().filter(reads).map(str::to_owned).collect())
}

#[test]
fn with_nothing_to_do_no_file_is_opened() {
    if !able(&["tar", "strace"]) {
        return;
    }
    let make =
        "mkdir -p a/b/c; for i in $(seq 50); do echo $i > a/b/f$i; ln -s f$i a/b/l$i; done; ln a/b/f1 a/h; mkfifo p";
    let world = world(make, "", "unknown = \"keep\"");
    world.ok(&BUILD);
    for arguments in [&["build", "b0"][..], &["build", "b0", "--dry-run"], &["check", "b0"]] {
        let (said, files) = opened(&world, arguments);
        assert_eq!((said.status, files), (Some(0), vec![]), "{arguments:?}");
        assert!(arguments[0] == "check" || said.out.contains("nothing to do"), "{said:?}");
    }
    assert_eq!(opened(&world, &["check", "b0", "--hash"]).1.len(), 50);
    // An edit that leaves size and mtime alone shows in ctime: that one file is read.
    world.sh("cd home/b0/a/b; printf X | dd of=f7 conv=notrunc status=none; touch -d @1700000000 f7");
    for hash in [&["check", "b0"][..], &["check", "b0", "--hash"]] {
        let (said, files) = opened(&world, hash);
        assert_eq!(said.status, Some(2));
        assert!(said.out.starts_with("* a/b/f7") && said.out.lines().count() == 2, "{said:?}");
        assert_eq!(files.len(), if hash.len() == 2 { 1 } else { 50 }, "{files:?}");
    }
}

#[test]
fn emptying_a_chroot_needs_a_yes() {
    if !able(&["tar"]) {
        return;
    }
    let world = world("for i in $(seq 60); do echo $i > f$i; done", "echo 1 > f1", "");
    world.ok(&BUILD);
    lay(&world, "two", "");
    let before = fingerprint(&world.root("b0"));
    world.refused(&BUILD, &["59 of 61 entries would be removed", "hint: ", "--yes"]);
    assert_eq!(fingerprint(&world.root("b0")), before);
    world.assert_tidy();
    world.ok(&["build", "b0", "-f", "recipe.toml", "--yes"]);
    world.assert_same(&world.path("two"), "b0");
}

#[test]
fn a_dry_run_changes_nothing_and_leaves_nothing() {
    if !able(&["tar"]) {
        return;
    }
    let nested = "mkdir in; echo n > in/nested; tar -cf in.tar -C in .; rm -r in";
    let world = world(
        &format!("{nested}; echo 1 > f; echo 1 > gone"),
        &format!("{nested}; echo 2 > f; mkdir d; echo new > d/new"),
        "unknown = \"remove\"",
    );
    let dry = ["build", "b0", "-f", "recipe.toml", "--dry-run"];
    let said = world.ok(&dry);
    assert!(said.contains("+ nested\n") && said.contains("would be made"), "{said}");
    assert!(!world.root("b0").exists() && world.ok(&["list"]).is_empty());
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0, "litter");

    world.ok(&BUILD);
    world.sh("echo local > home/b0/f; touch home/b0/unknown");
    lay(&world, "two", "unknown = \"remove\"");
    // Its lock is the one thing that a dry run writes.
    let look = || {
        let state = fingerprint(&world.path("home/.stockade"));
        let state: String = state.lines().filter(|line| !line.contains("/lock\"")).collect();
        (fingerprint(&world.root("b0")), state)
    };
    let before = look();
    let said = world.ok(&dry);
    for line in ["m /  time", "* f  ", "- gone", "- unknown", "+ d\n", "+ d/new", "would be brought up to date"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(look(), before);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0, "litter");
    // And what it said is what then happens.
    let planned: Vec<&str> = said.lines().filter(|l| !l.contains("would be")).collect();
    assert_eq!(planned.len(), 6, "{said}");
    world.ok(&BUILD);
    assert!(world.ok(&BUILD).contains("nothing to do"));
}

#[test]
fn the_second_of_two_commands_waits() {
    if !able(&["tar", "unshare"]) {
        return;
    }
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| fs::metadata(path).is_ok()) else {
        return skip("it needs a static busybox");
    };
    let make = format!("mkdir bin proc dev sys tmp; cp {busybox} bin/sh; ln bin/sh bin/cat");
    let world = world(&make, "", "unknown = \"keep\"");
    world.ok(&BUILD);
    let mut first = world.stockade(&["run", "b0", "--", "/bin/cat"]);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut inside = first.stdin.take().unwrap();
    inside.write_all(b"hello\n").unwrap();
    let mut answer = [0; 6];
    std::io::Read::read_exact(first.stdout.as_mut().unwrap(), &mut answer).unwrap();
    let holder = format!("stockade run, process {}", first.id());
    for verb in [&["build", "b0", "--no-wait"][..], &["remove", "b0", "--no-wait"], &["recover", "b0", "--no-wait"]] {
        world.refused(verb, &["in use by", &holder]);
    }
    world.ok(&["check", "b0", "--no-wait"]);
    // The kernel lists who waits for a lock.
    let waits = |pid: u32| {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.split_whitespace().any(|word| word == pid.to_string()))
    };
    let start = |arguments: &[&str]| {
        let mut child = world.stockade(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while !waits(child.id()) {
            assert!(child.try_wait().unwrap().is_none(), "it did not wait");
            std::thread::yield_now();
        }
        child
    };
    let second = start(&["build", "b0"]);
    drop(inside);
    assert!(first.wait().unwrap().success());
    assert_eq!(second.wait_with_output().unwrap().status.code(), Some(0));
    world.assert_tidy();

    // Who waited for a chroot that was then removed has no lock on what may be made in its place.
    let lock = fs::File::open(world.path("home/.stockade/b0/lock")).unwrap();
    lock.lock().unwrap();
    let remove = start(&["remove", "b0"]);
    let build = start(&["build", "b0"]);
    drop(lock);
    let (removed, built) = (remove.wait_with_output().unwrap(), Said::of(build.wait_with_output().unwrap()));
    let either = [(Some(0), ""), (Some(1), "removed or renamed meanwhile")];
    assert!(
        removed.status.success() && either.iter().any(|(s, t)| built.status == *s && built.err.contains(t)),
        "{built:?}"
    );
    assert!(!world.root("b0").exists(), "{built:?}");
}
