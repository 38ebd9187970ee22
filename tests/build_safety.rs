// SPDX-License-Identifier: ISC
//! Nothing that is not ours is touched: foreign directories, homes, mounts, planted state, renamed roots (decisions E12,
//! E16 and E17).

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use common::{World, able, fingerprint, native};

/// A world with two archives and `old.toml` and `new.toml`, which lay them and remove all else.
fn world() -> World {
    let world = World::new();
    world.sh(
        "umask 022; mkdir -p old/mnt old/etc new/etc; echo old > old/etc/f; echo s > old/etc/stale; echo new > new/etc/f
        for n in old new; do find $n -exec touch -d @1700000000 {} +; tar --numeric-owner -C $n -cf $n.tar .; done",
    );
    for name in ["old", "new"] {
        let source = format!("[[source]]\narchive = \"{name}.tar\"\n");
        world.write(&format!("{name}.toml"), &format!("devices = \"none\"\n[policy]\nunknown = \"remove\"\n{source}"));
    }
    world
}

#[test]
fn directories_that_are_not_ours_are_left_alone() {
    if !able(&["tar"]) {
        return;
    }
    let world = world();
    world.sh("mkdir -p data/sub me; echo precious > data/sub/file; echo x > file");
    let before = fingerprint(&world.path("data"));
    let mut home = world.stockade(&["build", "./me", "-f", "old.toml"]);
    let home = common::Said::of(home.env("HOME", world.path("me")).output().unwrap());
    assert_eq!((home.status, home.err.contains("home")), (Some(1), true), "{home:?}");
    let here = world.path("").display().to_string();
    for (root, words) in [
        ("./data", &["not empty", "hint: ", "adopt"][..]),
        ("/", &["running system"]),
        ("/root", &["home"]),
        (&here, &["state"]),
        ("./home", &["state"]),
        ("./file", &["not a directory"]),
        ("./nowhere/b0", &["No such file"]),
        ("..", &["not a name"]),
    ] {
        world.refused(&["build", root, "-f", "old.toml"], words);
    }
    for verb in ["check", "remove", "run", "manifest"] {
        world.refused(&[verb, "./data"], &["no record", "adopt"]);
    }
    assert_eq!(fingerprint(&world.path("data")), before);
    world.ok(&["adopt", "./data"]);
    assert_eq!(fingerprint(&world.path("data")), before);
    world.ok(&["check", "./data", "--hash"]);
    assert!(world.ok(&["why", "./data", "sub/file"]).contains("adopted"));

    world.sh("mkdir -p more; echo precious > more/file");
    world.ok(&["build", "./more", "-f", "old.toml", "--adopt"]);
    assert_eq!(fs::read_to_string(world.path("more/file")).unwrap(), "precious\n");
    assert_eq!(fs::read_to_string(world.path("more/etc/f")).unwrap(), "old\n");
}

#[test]
fn what_is_mounted_below_is_not_ours() {
    if !native("device numbers do not tell a bind mount") || !able(&["tar", "unshare", "mount"]) {
        return;
    }
    let world = world();
    world.ok(&["build", "b0", "-f", "old.toml"]);
    // The recipe no longer has mnt, and what is in it would be unknown.
    let said = world.sh_apart(
        "mkdir outside; echo precious > outside/f; mount --bind outside home/b0/mnt
        $STOCKADE build b0 -f new.toml && s=0 || s=$?; echo status $s
        cat home/b0/mnt/f home/b0/etc/f; ls home/b0/etc
        $STOCKADE check b0
        ! $STOCKADE remove b0 2>&1; cat outside/f",
    );
    for line in ["\nprecious\nnew\nf\n", "mounted below it: ", "/home/b0/mnt", "hint: umount ", "\nprecious\n"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(world.root("b0").join("mnt").exists(), "the mount point itself was removed");
    world.ok(&["build", "b0"]);
    assert!(!world.root("b0").join("mnt").exists(), "nothing holds it any longer");
    world.ok(&["remove", "b0"]);
    assert_eq!(fs::read_to_string(world.path("outside/f")).unwrap(), "precious\n");
}

#[test]
fn a_chroot_in_use_is_not_removed() {
    if !able(&["tar", "chroot", "busybox"]) {
        return;
    }
    let world = world();
    world.ok(&["build", "b0", "-f", "old.toml"]);
    world.sh("cp $(command -v busybox) home/b0/cat");
    let mut command = Command::new("chroot");
    command.arg(world.root("b0")).arg("/cat").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut guest = command.spawn().unwrap();
    let mut inside = guest.stdin.take().unwrap();
    std::io::Write::write_all(&mut inside, b"x").unwrap();
    std::io::Read::read_exact(guest.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let before = fingerprint(&world.root("b0"));
    world.refused(&["remove", "b0"], &["running in it: ", &format!("process {}", guest.id())]);
    world.refused(&["remove", "b0", "--dry-run"], &["running in it: "]);
    assert_eq!(fingerprint(&world.root("b0")), before);
    drop(inside);
    guest.wait().unwrap();
    assert!(world.ok(&["list"]).contains("b0"));
    world.ok(&["remove", "b0", "--dry-run"]);
    assert_eq!(fingerprint(&world.root("b0")), before);
    world.ok(&["remove", "b0"]);
    assert!(!world.root("b0").exists() && !world.path("home/.stockade/b0").exists());
    assert_eq!(world.ok(&["list"]), "");
    world.refused(&["check", "b0"], &["no such chroot", "stockade build b0"]);
}

#[test]
fn roots_are_exchanged_only_if_nobody_is_in_them() {
    let tools = ["tar", "unshare", "mount", "rsync", "chroot", "busybox"];
    if !native("nothing is exchanged") || !able(&tools) {
        return;
    }
    let world = world();
    world.ok(&["build", "b0", "-f", "old.toml", "--swap"]);
    let said = world.sh_apart(
        "mkdir outside; mount --bind outside home/b0/mnt; ! $STOCKADE build b0 -f new.toml --swap 2>&1; umount home/b0/mnt
        ! STOCKADE_PORTABLE=1 $STOCKADE build b0 -f new.toml --swap 2>&1
        mkdir -m 1777 open; ! $STOCKADE build ./open/b0 -f old.toml --swap 2>&1; ls open",
    );
    for (line, words) in said.lines().zip([
        "mounted below it",
        "hint: umount",
        "renameat2: Operation not supported",
        "hint: leave out --swap",
        "does not lie beside it",
        "hint: leave out --swap",
    ]) {
        assert!(line.contains(words), "{words}: {said}");
    }
    assert_eq!(said.lines().count(), 6, "{said}");
    world.sh("cp $(command -v busybox) home/b0/cat");
    let mut command = Command::new("chroot");
    command.arg(world.root("b0")).arg("/cat").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut guest = command.spawn().unwrap();
    std::io::Write::write_all(guest.stdin.as_mut().unwrap(), b"x").unwrap();
    std::io::Read::read_exact(guest.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    world.refused(&["build", "b0", "-f", "new.toml", "--swap", "--yes"], &["running in it: "]);
    drop(guest.stdin.take());
    guest.wait().unwrap();
    world.assert_tidy();

    let old = world.root("b0").metadata().unwrap().ino();
    drop(std::os::unix::net::UnixListener::bind(world.root("b0").join("socket")).unwrap());
    world.sh("mkdir home/b0/mnt/keep; ln home/b0/etc/f home/b0/mnt/keep/g; echo x >> home/b0/mnt/keep/x");
    let kept = "[policy]\nunknown = \"remove\"\nvolatile = [\"mnt\"]\n[[source]]\narchive = \"new.tar\"\n";
    world.write("kept.toml", &format!("devices = \"none\"\n{kept}"));
    let said = world.ok(&["build", "b0", "-f", "kept.toml", "--swap", "--yes"]);
    assert!(said.contains("socket: a socket is not kept") && !world.root("b0").join("socket").exists(), "{said}");
    let read = |path: &str| fs::read_to_string(world.root("b0").join(path)).unwrap();
    assert_eq!([read("mnt/keep/g"), read("mnt/keep/x"), read("etc/f")], ["old\n", "x\n", "new\n"]);
    let report: serde_json::Value = serde_json::from_str(&world.ok(&["check", "b0", "--json"])).unwrap();
    assert_eq!(report["read"], 0, "a stamp did not hold: {report}");
    world.ok(&["build", "b0", "-f", "new.toml", "--swap", "--yes"]);
    assert_ne!(old, world.root("b0").metadata().unwrap().ino());
    assert_eq!(common::rsync_differences(&world.path("new"), &world.root("b0")), "");
    assert!(world.ok(&["build", "b0", "--swap"]).contains("nothing to do"));
    assert!(world.ok(&["check", "b0"]).contains("as built (by stat)"));
    world.assert_tidy();
}

#[test]
fn where_others_may_write_the_state_is_in_the_home() {
    if !able(&["tar", "rsync"]) {
        return;
    }
    let world = world();
    fs::create_dir(world.path("open")).unwrap();
    fs::set_permissions(world.path("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    let root = world.path("open/b0");
    world.ok(&["build", "./open/b0", "-f", "old.toml"]);
    assert_eq!(common::rsync_differences(&world.path("old"), &root), "");
    assert_eq!(fs::read_dir(world.path("open")).unwrap().count(), 1, "state lies where others may write");
    world.ok(&["check", "./open/b0", "--hash"]);
    world.ok(&["build", "./open/b0", "-f", "new.toml"]);
    assert_eq!(common::rsync_differences(&world.path("new"), &root), "");
    assert!(world.ok(&["list"]).contains("open/b0"));
    world.ok(&["remove", "./open/b0"]);
    assert!(!root.exists());
    assert_eq!(world.ok(&["list"]), "");
}

#[test]
fn a_root_may_be_a_mount_point() {
    if !able(&["tar", "rsync", "unshare", "mount"]) {
        return;
    }
    let world = world();
    let said = world.sh_apart(
        "mkdir -m 755 m; mount -t tmpfs -o mode=755 none m; inode=$(stat -c %i m)
        same() { rsync -aHAXcni --delete --numeric-ids $1/ m/; }
        $STOCKADE build ./m -f old.toml >/dev/null; same old; $STOCKADE check ./m --hash
        $STOCKADE build ./m -f new.toml >/dev/null; same new; $STOCKADE check ./m --hash
        [ $(stat -c %i m) = $inode ]; $STOCKADE list; $STOCKADE remove ./m; ls -A m; $STOCKADE list",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "check twice, list, remove, and nothing else: {said}");
    assert!(lines[0].contains("as built") && lines[1].contains("as built") && lines[3].contains("removed"), "{said}");
}

/// Mounts and modes change from day to day; the record is where it was made.
#[test]
fn a_record_is_found_where_it_was_made() {
    if !able(&["tar", "unshare", "mount", "umount"]) {
        return;
    }
    let world = world();
    world.sh("mkdir -m 755 p; mkdir -m 1777 q");
    world.ok(&["build", "./p/b0", "-f", "old.toml"]);
    world.sh("chmod 777 p");
    for arguments in [&["check", "./p/b0"][..], &["build", "./p/b0", "--adopt"], &["remove", "./p/b0"]] {
        world.refused(arguments, &["/p/.stockade/b0: ", "others may write", "chmod go-w"]);
    }
    world.sh("chmod 755 p");
    world.ok(&["check", "./p/b0"]);

    world.ok(&["build", "./q/b0", "-f", "old.toml"]);
    world.sh("chmod 755 q");
    world.ok(&["check", "./q/b0"]);
    world.ok(&["build", "./q/b0", "-f", "new.toml"]);
    assert!(!world.path("q/.stockade").exists(), "a second record was made");
    world.sh("mkdir -m 700 q/.stockade; cp -a p/.stockade/b0 q/.stockade/b0");
    world.refused(&["check", "./q/b0"], &["two records", "/q/.stockade/b0", "/home/.stockade/@", "hint: "]);
}

#[test]
fn a_filesystem_that_is_not_mounted_is_not_taken_for_a_new_root() {
    if !able(&["tar", "unshare", "mount", "umount"]) {
        return;
    }
    let world = world();
    let said = world.sh_apart(
        "mkdir -m 755 x m; mount -t tmpfs -o mode=755 none x; mount --bind x m
        $STOCKADE build ./m -f old.toml >/dev/null; umount m
        for verb in 'build --yes' 'build --adopt' check remove adopt 'run' 'build -n'; do
            ! $STOCKADE $verb ./m 2>&1 </dev/null; ls -A m
        done
        $STOCKADE list; mount --bind x m; $STOCKADE check ./m --hash; $STOCKADE list",
    );
    assert_eq!(said.matches("which is not mounted\nhint: mount it first").count(), 7, "{said}");
    assert!(said.contains("missing") && said.contains("as built (by content)") && said.contains(" ok "), "{said}");
    assert_eq!(said.lines().count(), 7 * 2 + 3, "something was made in the mount point: {said}");
}

#[test]
fn a_dry_run_makes_nothing() {
    if !able(&["tar"]) {
        return;
    }
    let world = world();
    assert!(world.ok(&["build", "b0", "-f", "old.toml", "--dry-run"]).contains("would be made"));
    world.refused(&["check", "b0"], &["no such chroot"]);
    assert_eq!(world.ok(&["list"]), "");
    assert!(!world.path("home").exists(), "a home was made");
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_planted_state_is_an_attack() {
    if !able(&["tar"]) {
        return;
    }
    let world = world();
    for (plant, mend) in [
        ("mkdir -m 755 .stockade; chown 1000 .stockade", "rmdir .stockade"),
        ("mkdir -m 777 .stockade; chmod 777 .stockade", "rmdir .stockade"),
        ("mkdir -m 700 elsewhere; ln -s elsewhere .stockade", "rm .stockade; rmdir elsewhere"),
        ("mkdir -m 700 .stockade .stockade/b0; chown 1000 .stockade/b0", "rm -r .stockade"),
        ("mkdir -m 700 .stockade elsewhere; ln -s ../elsewhere .stockade/b0", "rm -r .stockade elsewhere"),
        ("echo x > .stockade", "rm .stockade"),
    ] {
        world.sh(&format!("mkdir -p p; cd p; {plant}"));
        world.refused(&["build", "./p/b0", "-f", "old.toml"], &["/p/.stockade"]);
        assert!(!world.path("p/b0").exists(), "{plant}");
        world.sh(&format!("cd p; {mend}"));
        assert_eq!(fs::read_dir(world.path("p")).unwrap().count(), 0, "{plant}");
    }
    // The home too.
    fs::create_dir(world.path("home")).ok();
    fs::set_permissions(world.path("home"), fs::Permissions::from_mode(0o777)).unwrap();
    world.refused(&["build", "b0", "-f", "old.toml"], &["others may write"]);
    fs::set_permissions(world.path("home"), fs::Permissions::from_mode(0o700)).unwrap();
    world.ok(&["build", "b0", "-f", "old.toml"]);
    assert_eq!(fs::metadata(world.path("home/.stockade")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_renamed_or_replaced_root_is_unknown_until_adopted() {
    if !able(&["tar", "rsync"]) {
        return;
    }
    let world = world();
    world.ok(&["build", "b0", "-f", "old.toml"]);
    world.sh("mv home/b0 home/b1");
    let before = fingerprint(&world.root("b1"));
    world.refused(&["check", "b1"], &["adopt"]);
    world.refused(&["build", "b1", "-f", "new.toml"], &["not empty", "adopt"]);
    assert!(world.ok(&["list"]).contains("missing"));
    world.ok(&["adopt", "b1"]);
    assert_eq!(fingerprint(&world.root("b1")), before);
    world.ok(&["check", "b1", "--hash"]);
    world.ok(&["build", "b1", "-f", "new.toml"]);
    world.assert_same(&world.path("new"), "b1");
    let list = world.ok(&["list"]);
    assert!(list.contains("b1") && !list.contains("b0"), "{list}");

    // Another directory under the name of a chroot.
    world.sh("mv home/b1 home/away; mkdir home/b1; echo precious > home/b1/f");
    for arguments in [&["check", "b1"][..], &["build", "b1"], &["remove", "b1"]] {
        world.refused(arguments, &["adopt"]);
    }
    assert!(world.ok(&["list"]).contains("replaced"));
    assert_eq!(fs::read_to_string(world.root("b1").join("f")).unwrap(), "precious\n");
}

/// A backup under the name of the chroot keeps its recipe, and nothing in it is removed or overwritten by `adopt`.
#[test]
fn a_restored_root_keeps_its_recipe() {
    if !able(&["tar"]) {
        return;
    }
    let world = world();
    world.ok(&["build", "b0", "-f", "old.toml"]);
    world.sh(
        "cp -a home/b0 backup; rm -r home/b0; cp -a backup home/b0
        cd home/b0; echo mine > mine; mkdir -p sub/dir; echo deep > sub/dir/f; rm etc/stale; mkdir etc/stale; echo x > etc/stale/x",
    );
    let before = fingerprint(&world.root("b0"));
    for verb in ["check", "remove"] {
        world.refused(&[verb, "b0"], &["renamed or replaced", "hint: ", "stockade adopt"]);
    }
    let said = world.ok(&["adopt", "b0", "--dry-run"]);
    assert!(said.contains("would be bound to the record"), "{said}");
    world.refused(&["check", "b0"], &["renamed or replaced"]);
    let said = world.ok(&["adopt", "b0"]);
    assert!(said.contains("recipe and manifest stay; 6 entries"), "{said}");
    assert_eq!(fingerprint(&world.root("b0")), before);
    assert!(world.ok(&["why", "b0", "mine"]).contains("adopted"));
    assert!(world.ok(&["why", "b0", "etc/f"]).contains("old.tar"));
    world.ok(&["check", "b0", "--hash"]);

    // The recipe removes what it does not know; what was adopted stays all the same.
    world.sh("echo edited > home/b0/etc/f");
    let said = world.run(&["build", "b0"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    let read = |path: &str| fs::read_to_string(world.root("b0").join(path)).unwrap();
    assert_eq!(
        [read("etc/f"), read("mine"), read("sub/dir/f"), read("etc/stale/x")],
        ["old\n", "mine\n", "deep\n", "x\n"]
    );
}
