// SPDX-License-Identifier: ISC
//! Patches on roots: applied they give exactly the new tree, undone exactly the old one; what is not as expected is
//! never lost. Needs root.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Said, World, able, picture, rsync_differences};

/// A small system.
const OLD: &str = "
mkdir -p etc usr/bin usr/lib usr/share/doc var/log gone/deep
printf 'root:x:0:0::/root:/bin/sh\\nweb:x:80:80::/:/bin/sh\\n' > etc/passwd; printf 'root:x:0:\\nweb:x:80:\\n' > etc/group
printf 'one\\ntwo\\nthree\\nfour\\nfive\\nsix\\nseven\\n' > etc/conf; echo old > usr/bin/prog; echo old > usr/lib/libone.so.1
echo suid > usr/bin/suid; chown 0:80 usr/bin/suid; chmod 4750 usr/bin/suid
echo same > usr/bin/meta; echo doc > usr/share/doc/d; ln -s prog usr/bin/link; echo x > gone/deep/f; mkfifo gone/p
echo h > usr/bin/h1; ln usr/bin/h1 usr/bin/h2; echo three > usr/bin/h3; echo f > turns; mkdir turned; echo t > turned/f
setfattr -n user.a -v 1 usr/bin/meta
";

/// What is made of it.
const EDIT: &str = "
printf 'one\\nTWO\\nthree\\nfour\\nfive\\nsix\\nseven\\n' > etc/conf; echo newer > usr/bin/prog; echo new > usr/lib/libone.so.1
echo SUID > usr/bin/suid; chown 0:80 usr/bin/suid; chmod 4750 usr/bin/suid; chmod 700 usr/bin/meta
ln -sf other usr/bin/link; rm -r gone; mkdir -p new/deep; echo n > new/deep/n; mkfifo new/p; : > new/empty
echo H > usr/bin/h1; rm usr/bin/h3; ln usr/bin/h1 usr/bin/h3; rm turns; mkdir turns; echo g > turns/g
rm -r turned; ln -s elsewhere turned; setfattr -n user.b -v 2 usr/bin/meta; truncate -s 5000000 new/holes; echo end >> new/holes
chown 80 usr/share/doc/d
";

/// A world with `old` and `new`, and a patch `p.tgz` from the one to the other.
fn world() -> World {
    let world = World::new();
    world.sh(&format!(
        "umask 022; mkdir old; (cd old; {OLD}); find old -depth -exec touch -h -d @1000000000.000000007 {{}} +
        cp -a old new; (cd new; {EDIT})"
    ));
    make(&world, "p-1", &["--number", "1", "--series", "p"]);
    world
}

/// Makes the patch `NAME.tgz` from `old` to `new`.
fn make(world: &World, name: &str, more: &[&str]) {
    let file = format!("{name}.tgz");
    let args = [&["patch", "diff", "old", "new", "--unsigned", "--name", name, "-o", &file], more].concat();
    world.ok(&args);
}

/// Applies `p-1.tgz` to `root`, with these arguments.
fn apply(world: &World, root: &str, more: &[&str]) -> Said {
    world.run(&[&["patch", "apply", "--unsigned", "p-1.tgz", "--root", root], more].concat())
}

/// The directory of this name, as it is typed.
fn at(root: &str) -> String {
    format!("./{root}")
}

/// The tree at `root` without the list of patches.
fn seen(world: &World, root: &str) -> String {
    let path = world.path(root);
    let stored = path.join("var/db");
    let listed = stored.exists().then(|| {
        let aside = world.path("aside");
        let time = fs::metadata(path.join("var")).unwrap().modified().unwrap();
        fs::rename(&stored, &aside).unwrap();
        fs::File::open(path.join("var")).unwrap().set_modified(time).unwrap();
        (aside, time)
    });
    let picture = picture(&path);
    if let Some((aside, time)) = listed {
        fs::rename(aside, &stored).unwrap();
        fs::File::open(path.join("var")).unwrap().set_modified(time).unwrap();
    }
    picture
}

#[test]
fn applied_it_is_the_new_tree_and_undone_the_old_one() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    let (old, new) = (picture(&world.path("old")), picture(&world.path("new")));
    world.sh("cp -a old root");
    let said = apply(&world, "./root", &["--dry-run"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains("would be applied") && said.out.contains("+ new/deep/n"), "{said:?}");
    assert_eq!(picture(&world.path("root")), old, "a dry run does nothing");
    let said = apply(&world, "./root", &[]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(seen(&world, "root"), new);
    let list = world.ok(&["patch", "list", "--root", "./root"]);
    assert_eq!(list, "p-1\n");
    assert_eq!(world.run(&["patch", "check", "--root", "./root"]).status, Some(0));
    // What was set aside has no rights any more.
    for file in fs::read_dir(world.path("root/var/db/stockade/patches/p-1/undo")).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o6000, 0);
    }
    assert!(apply(&world, "./root", &[]).out.contains("is there already"));
    let said = world.run(&["patch", "undo", "--root", "./root", "--dry-run"]);
    assert_eq!((said.status, seen(&world, "root") == new), (Some(0), true), "{said:?}");
    world.ok(&["patch", "undo", "--root", "./root"]);
    assert_eq!(picture(&world.path("root")), old, "undone");
    assert_eq!(apply(&world, "./root", &[]).status, Some(0));
    assert_eq!(seen(&world, "root"), new, "and again");
}

/// The same with a chroot of ours: its record goes along, and a build that has nothing new reverts nothing.
#[test]
fn a_chroot_of_ours_stays_as_recorded() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    let new = picture(&world.path("new"));
    world.write("r.toml", "devices = \"none\"\n[policy]\nunknown = \"remove\"\n[[source]]\ndirectory = \"old\"\n");
    world.ok(&["build", "c", "-f", "r.toml"]);
    let said = apply(&world, "c", &[]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(seen(&world, "home/c"), new);
    let check = |when: &str| {
        let said = world.run(&["check", "c", "--hash"]);
        assert_eq!(said.status, Some(0), "{when}: {said:?}");
    };
    check("after the patch");
    assert_eq!(
        world.ok(&["why", "c", "usr/bin/prog"]).lines().next().map(|line| line.contains("patch p-1")),
        Some(true)
    );
    world.ok(&["build", "c"]);
    assert_eq!(seen(&world, "home/c"), new, "after a build");
    // A source that changed is read again, and the patch is still laid over it.
    world.sh("echo other > old/usr/share/doc/other");
    world.ok(&["build", "c"]);
    assert_eq!(fs::read_to_string(world.root("c").join("usr/bin/prog")).unwrap(), "newer\n");
    assert_eq!(fs::read_to_string(world.root("c").join("usr/share/doc/other")).unwrap(), "other\n");
    assert!(!world.root("c").join("gone").exists());
    check("after a build of a newer source");
    // A source that is newer than the patch counts.
    world.sh("echo newest > old/usr/bin/prog");
    let said = world.ok(&["build", "c"]);
    assert!(said.contains("p-1: from a newer source now, and as that has them: usr/bin/prog"), "{said}");
    assert_eq!(fs::read_to_string(world.root("c").join("usr/bin/prog")).unwrap(), "newest\n");
    assert_eq!(world.run(&["patch", "check", "--root", "c"]).status, Some(2));
    let said = world.run(&["patch", "undo", "--root", "c"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains("conflict: usr/bin/prog: it was changed here"), "{said:?}");
    world.ok(&["remove", "c"]);
}

/// What was done to the root before, how the patch is applied, its status, what it says, and what must hold then.
type Case = (&'static str, &'static [&'static str], i32, &'static str, &'static str);

const PROG: &str = "echo mine > usr/bin/prog";
const CASES: &[Case] = &[
    (PROG, &[], 2, "conflict: usr/bin/prog: it was changed here", "grep -q mine usr/bin/prog; grep -q two etc/conf"),
    (
        PROG,
        &["--keep"],
        2,
        "kept as it was, not fixed: usr/bin/prog",
        "grep -q mine usr/bin/prog; grep -q TWO etc/conf",
    ),
    (PROG, &["--replace"], 0, "replaced: usr/bin/prog", "grep -q newer usr/bin/prog"),
    (
        "rm usr/bin/prog",
        &[],
        2,
        "conflict: usr/bin/prog: it is missing",
        "test ! -e usr/bin/prog; grep -q two etc/conf",
    ),
    (
        "mkdir new; echo mine > new/empty",
        &[],
        2,
        "conflict: new/empty: something is there already",
        "grep -q mine new/empty",
    ),
    ("mkdir new; : > new/empty", &[], 0, "applied", "test ! -s new/empty; test -e new/deep/n"),
    // Text is merged.
    ("sed -i s/six/SIX/ etc/conf", &[], 0, "merged: etc/conf", "grep -q TWO etc/conf; grep -q SIX etc/conf"),
    (
        "sed -i s/two/2/ etc/conf",
        &[],
        2,
        "could not be merged: etc/conf.stockade-new",
        "grep -q '^2$' etc/conf; grep -q TWO etc/conf.stockade-new; grep -q old usr/bin/prog; test ! -e var/db",
    ),
    ("sed -i s/two/TWO/ etc/conf", &[], 0, "applied", "grep -q TWO etc/conf"),
    // Of owner and mode only what the patch changes.
    (
        "chmod 750 usr/bin/prog",
        &[],
        0,
        "owner or mode were changed here: usr/bin/prog",
        "test $(stat -c %a usr/bin/prog) = 750; grep -q newer usr/bin/prog",
    ),
    (
        "chmod u-s usr/bin/suid",
        &[],
        0,
        "usr/bin/suid",
        "test $(stat -c %a usr/bin/suid) = 750; grep -q SUID usr/bin/suid",
    ),
    ("touch usr/bin/prog etc usr", &[], 0, "applied", "grep -q newer usr/bin/prog"),
    // Directories.
    (
        "echo mine > gone/mine",
        &[],
        0,
        "not removed: gone: it is not empty",
        "grep -q mine gone/mine; test ! -e gone/deep",
    ),
    (
        "mv usr/bin usr/real; ln -s real usr/bin",
        &[],
        2,
        "a directory above it is a link here; name that in `follow` of patch.toml",
        "grep -q old usr/real/prog",
    ),
    ("rm turns; mkdir turns; echo mine > turns/mine", &[], 0, "applied", "grep -q mine turns/mine; test -e turns/g"),
    (
        "echo mine > turned/mine",
        &[],
        2,
        "conflict: turned: it is not empty",
        "grep -q mine turned/mine; test -e turned/f",
    ),
    (
        "echo mine > turned/mine",
        &["--replace"],
        2,
        "conflict: turned",
        "grep -q mine turned/mine; grep -q old usr/bin/prog",
    ),
    // The names of owners count, not their numbers.
    (
        "sed -i s/80:80/90:90/ etc/passwd; sed -i s/:80:/:90:/ etc/group; chown :90 usr/bin/suid; chmod 4750 usr/bin/suid",
        &[],
        0,
        "applied",
        "test $(stat -c %u:%g usr/share/doc/d) = 90:0; test $(stat -c %u:%g:%a usr/bin/suid) = 0:90:4750",
    ),
    // All of it was made by somebody else.
    ("rm -r * && cp -a ../new/* .", &[], 0, "its changes were there", "test -e var/db/stockade/patches/p-1/+CONTENTS"),
];
#[test]
fn what_is_not_as_expected() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    for (number, (before, args, status, says, then)) in CASES.iter().enumerate() {
        let root = format!("r{number}");
        world.sh(&format!("cp -a old {root}; cd {root}; {before}"));
        let was = picture(&world.path(&root));
        let would = apply(&world, &at(&root), &[*args, &["--dry-run"]].concat());
        assert_eq!(would.status, Some(*status), "{before} {args:?}: {would:?}");
        assert!(would.out.contains(says), "{before} {args:?}: {would:?}");
        assert_eq!(picture(&world.path(&root)), was, "{before} {args:?}: a dry run does nothing");
        let said = apply(&world, &at(&root), args);
        assert_eq!(said.status, Some(*status), "{before} {args:?}: {said:?}");
        assert!(said.out.contains(says), "{before} {args:?}: {said:?}");
        world.sh(&format!("cd {root}; {then}"));
        if said.out.contains(" applied: ") && !said.out.contains("gave up") {
            world.ok(&["patch", "undo", "--root", &at(&root)]);
            assert_eq!(picture(&world.path(&root)), was, "{before} {args:?}: undone");
        } else if said.out.contains("its changes were there") {
            world.refused(&["patch", "undo", "--root", &at(&root)], &["nothing was kept"]);
        }
    }
    let unknown = "./r99";
    world.sh("cp -a old r99; sed -i /web/d r99/etc/passwd");
    world.refused(&["patch", "apply", "--unsigned", "p-1.tgz", "--root", unknown], &["whom nobody knows there", "web"]);
}

/// Order, requirements, series, other systems and other machines.
#[test]
fn patches_come_in_order() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; mv old o1; mv new old; cp -a old new; echo third > new/usr/bin/prog");
    make(&world, "p-2", &["--number", "2", "--series", "p", "--requires", "p-1.tgz"]);
    world.sh("mv old o2; mv new old; cp -a old new; echo fourth > new/usr/bin/other");
    make(&world, "p-4", &["--number", "4", "--series", "p"]);
    make(&world, "x-1", &["--arch", "sparc64"]);
    make(&world, "x-2", &["--release", "99"]);
    world.sh("echo VERSION_ID=12 > root/etc/os-release");
    let go = |file: &str, more: &[&str]| {
        world.run(&[&["patch", "apply", "--unsigned", file, "--root", "./root"], more].concat())
    };
    let err = |said: Said, words: &str| assert!(said.status == Some(1) && said.err.contains(words), "{said:?}");
    err(go("p-2.tgz", &[]), "it needs p-1 first");
    for (file, words) in [("x-1.tgz", "it is for sparc64"), ("x-2.tgz", "it is for release 99, and this is 12")] {
        let said = go(file, &[]);
        assert!(said.status == Some(2) && said.out.contains(words), "{said:?}");
    }
    assert_eq!(go("p-1.tgz", &[]).status, Some(0));
    err(go("p-4.tgz", &[]), "number 002 of its series is missing");
    // A directory is taken in order.
    world.sh("mkdir all; cp p-1.tgz p-2.tgz p-4.tgz all");
    err(go("all", &[]), "number 003 of its series is missing");
    assert_eq!(world.ok(&["patch", "list", "--root", "./root"]), "p-1\np-2\n");
    assert_eq!(go("p-4.tgz", &["--skip", "3"]).status, Some(0));
    assert_eq!(fs::read_to_string(world.path("root/usr/bin/other")).unwrap(), "fourth\n");
    // Undone in reverse.
    let stop = |args: &[&str], words: &[&str]| {
        drop(world.refused(&[&["patch", "undo", "--root", "./root"], args].concat(), words))
    };
    stop(&["p-1"], &["p-2 came after it", "undo --to p-1"]);
    stop(&["nothing"], &["no such patch"]);
    world.ok(&["patch", "undo", "--root", "./root", "--to", "p-1"]);
    world.sh("rm root/etc/os-release; touch -r o1/etc root/etc");
    assert_eq!(rsync_differences(&world.path("o1"), &world.path("root")), "");
    stop(&[], &["no such patch"]);
}

/// Numbers from 900 begin anew, and neither wait for those of the project nor keep them away.
#[test]
fn patches_of_ones_own_are_counted_by_themselves() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; mv old o1; mv new old; cp -a old new; echo own > new/usr/bin/own");
    make(&world, "own-1", &["--number", "901", "--series", "p"]);
    world.sh("mv old o2; mv new old; cp -a old new; echo third > new/usr/bin/third");
    make(&world, "own-3", &["--number", "903", "--series", "p"]);
    let go = |file: &str| world.run(&["patch", "apply", "--unsigned", file, "--root", "./root"]);
    let said = go("own-3.tgz");
    assert!(said.status == Some(1) && said.err.contains("number 901 of its series is missing"), "{said:?}");
    for file in ["own-1.tgz", "p-1.tgz"] {
        let said = go(file);
        assert_eq!(said.status, Some(0), "{file}: {said:?}");
    }
    let said = go("own-3.tgz");
    assert!(said.status == Some(1) && said.err.contains("number 902 of its series is missing"), "{said:?}");
    assert_eq!(fs::read_to_string(world.path("root/usr/bin/own")).unwrap(), "own\n");
}

/// Patches of one second, whose names are in the wrong order: the last is what counts, and is undone first. A dry run says
/// what will happen, although each undo begins where the one before it ends.
#[test]
fn no_clock_decides_which_came_last() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.write("r.toml", "devices = \"none\"\n[[source]]\ndirectory = \"built\"\n");
    world.sh("cp -a old built; cp -a old root; mkdir all");
    for (name, edit) in [
        ("z", "echo 1 > usr/bin/prog; mkdir made; echo 1 > made/f; ln made/f made/g"),
        ("m", "echo 2 > usr/bin/prog; rm -r made; chmod 700 usr/bin/meta"),
        ("a", "echo 3 > usr/bin/prog; mkdir made; echo 3 > made/f; mv usr/bin/h1 usr/bin/h9"),
    ] {
        world.sh(&format!("rm -r new; cp -a old new; cd new; {edit}"));
        make(&world, name, &[]);
        world.sh(&format!("rm -r old; cp -a new old; cp {name}.tgz all"));
    }
    world.ok(&["build", "c", "-f", "r.toml"]);
    for (root, place) in [("c", "home/c"), ("./root", "root")] {
        let was = picture(&world.path(place));
        for name in ["z.tgz", "m.tgz", "a.tgz"] {
            world.ok(&["patch", "apply", "--unsigned", name, "--root", root]);
        }
        assert_eq!(world.ok(&["patch", "list", "--root", root]), "z\nm\na\n");
        world.ok(&["patch", "check", "--root", root]);
        if root == "c" {
            world.sh("echo other > built/other");
            world.ok(&["build", "c"]);
            world.sh("cd home/c; grep -qx 3 usr/bin/prog; grep -qx 3 made/f; test ! -e made/g; rm ../../built/other");
            world.ok(&["check", "c", "--hash"]);
        }
        world.refused(&["patch", "undo", "m", "--root", root], &["a came after it"]);
        let would = world.ok(&["patch", "undo", "--to", "z", "--root", root, "--dry-run"]);
        let done = world.ok(&["patch", "undo", "--to", "z", "--root", root]);
        let sums = would.lines().filter(|line| line.contains("would be undone"));
        let sums: String = sums.map(|line| line.replace("would be undone", "undone") + "\n").collect();
        assert_eq!(sums, done, "{would}");
        if root == "./root" {
            assert_eq!(picture(&world.path(place)), was, "undone");
        }
    }
    what_cannot_be_undone_is_seen_first(&world);
}

/// Of several, one of which cannot be undone, none is; what is seen only on the way leaves those before it undone and said.
fn what_cannot_be_undone_is_seen_first(world: &World) {
    let apply = || {
        for name in ["z.tgz", "m.tgz", "a.tgz"] {
            world.ok(&["patch", "apply", "--unsigned", name, "--root", "./root"]);
        }
    };
    apply();
    world.ok(&["patch", "forget", "z", "--root", "./root"]);
    let undo = ["patch", "undo", "--to", "z", "--root", "./root"];
    world.refused(&undo, &["z: nothing was kept"]);
    assert_eq!(world.ok(&["patch", "list", "--root", "./root"]), "z  (no undo)\nm\na\n");
    world.sh("rm -r root; cp -a built root");
    apply();
    world.sh("for f in root/var/db/stockade/patches/z/undo/*; do echo bad > $f; done");
    let said = world.run(&undo);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.out.contains(": a: undone: ") && said.out.contains(": m: undone: "), "{said:?}");
    assert!(said.err.contains("the recorded SHA-256") && !said.out.contains(": z: "), "{said:?}");
    assert_eq!(world.ok(&["patch", "list", "--root", "./root"]), "z\n");
}

/// A directory of patches is taken in the order of what they require, whatever their numbers are.
#[test]
fn what_is_required_comes_first() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.sh("mkdir all; cp -a old root; rm -r old; mv new old; cp -a old new; echo third > new/usr/bin/prog");
    make(&world, "first", &["--number", "1", "--series", "a", "--requires", "p-1.tgz"]);
    world.sh("mv p-1.tgz first.tgz all");
    world.ok(&["patch", "apply", "--unsigned", "all", "--root", "./root"]);
    assert_eq!(world.ok(&["patch", "list", "--root", "./root"]), "p-1\nfirst\n");
    assert_contents(&world.path("root/usr/bin/prog"), "third\n");
}

/// What the root keeps is not taken on trust, and can be given up.
#[test]
fn what_was_kept_is_verified() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    let undo = |root: &str| world.run(&["patch", "undo", "--root", &at(root)]);
    let kept = "var/db/stockade/patches/p-1";
    for (number, (harm, status, says)) in [
        (format!("sed -i 's/mode=04750/mode=04755/' {kept}/+UNDO"), 1, "what was kept to undo it was changed since"),
        (format!("for f in {kept}/undo/*; do echo bad > $f; done"), 1, "has "),
        (format!("rm -r {kept}/undo"), 1, "was not kept"),
        (format!("sed -i 's/p-1/p-3/' {kept}/+CONTENTS"), 1, "of another patch"),
        ("echo mine > usr/bin/prog".to_owned(), 2, "conflict: usr/bin/prog: it was changed here"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = format!("r{number}");
        world.sh(&format!("cp -a old {root}"));
        assert_eq!(apply(&world, &at(&root), &[]).status, Some(0));
        world.sh(&format!("cd {root}; {harm}"));
        let was = seen(&world, &root);
        let said = undo(&root);
        assert_eq!(said.status, Some(status), "{harm}: {said:?}");
        assert!(said.out.contains(says) || said.err.contains(says), "{harm}: {said:?}");
        assert_eq!(seen(&world, &root), was, "{harm}: something was changed");
    }
    world.sh("cp -a old other");
    assert_eq!(apply(&world, "./other", &[]).status, Some(0));
    world.ok(&["patch", "forget", "p-1", "--root", "./other"]);
    assert!(world.ok(&["patch", "list", "--root", "./other"]).contains("no undo"));
    world.refused(&["patch", "undo", "--root", "./other"], &["nothing was kept"]);
    // On another host nobody knows what was kept.
    world.sh("cp -a old far");
    assert_eq!(apply(&world, "./far", &[]).status, Some(0));
    world.sh("cp -a far moved");
    world.refused(&["patch", "undo", "--root", "./moved"], &["another host", "--trust-root"]);
    world.ok(&["patch", "undo", "--root", "./moved", "--trust-root"]);
    assert_eq!(rsync_differences(&world.path("old"), &world.path("moved")), "");
}

/// A user's own link to a program with a hole keeps no rights, and a name that stays keeps all of its own.
#[test]
fn rights_do_not_stay_behind() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; mkdir root/home; ln root/usr/bin/suid root/home/mine");
    assert_eq!(apply(&world, "./root", &[]).status, Some(0));
    let mode = |path: &str| fs::metadata(world.path(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("root/usr/bin/suid"), mode("root/home/mine")), (0o4750, 0o750));
    // In a chroot of ours just so, unless it has clones whose names they may be.
    world.write("r.toml", "devices = \"none\"\n[[source]]\ndirectory = \"old\"\n");
    for (clone, kept) in [("none", 0o750), ("copy", 0o750), ("link", 0o4750)] {
        world.ok(&["build", "c", "-f", "r.toml"]);
        world.sh("ln home/c/usr/bin/suid home/c/var/mine");
        if clone != "none" {
            world.ok(&["clone", "c", "d", "--how", clone]);
        }
        assert_eq!(apply(&world, "c", &[]).status, Some(0));
        assert_eq!((mode("home/c/usr/bin/suid"), mode("home/c/var/mine")), (0o4750, kept), "{clone}");
        world.ok(&["remove", "c"]);
        if clone != "none" {
            world.ok(&["remove", "d"]);
        }
    }
}

/// Plain tar unpacks a patch, on a root whose lib is a link, and what it could not do is seen.
#[test]
fn what_tar_unpacked_is_adopted() {
    if !able(&["setfattr", "getfattr", "rsync"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; ln -s usr/lib root/lib; tar xzpf p-1.tgz -C root || true");
    assert!(fs::symlink_metadata(world.path("root/lib")).unwrap().is_symlink());
    assert!(world.ok(&["patch", "list", "--root", "./root"]).contains("no undo"));
    let said = world.run(&["patch", "check", "--root", "./root"]);
    assert_eq!(said.status, Some(2));
    for line in ["not-removed: gone/deep/f", "metadata: usr/bin/meta"] {
        assert!(said.out.contains(line), "{said:?}");
    }
    assert_contents(&world.path("root/usr/bin/prog"), "newer\n");
    assert_contents(&world.path("root/usr/bin/h3"), "H\n");
}

fn assert_contents(path: &Path, text: &str) {
    assert_eq!(fs::read_to_string(path).unwrap(), text, "{}", path.display());
}

/// Who still runs what was replaced is named; what has to follow is done, or said.
#[test]
fn what_follows_is_done_or_said() {
    if !able(&["setfattr", "busybox"]) {
        return;
    }
    let world = world();
    world.sh("rm -r old new; mkdir -p old/bin old/sbin old/proc old/dev old/sys old/run old/tmp; cp $(command -v busybox) old/bin/busybox
        printf '#!/bin/busybox sh\\necho ran > /ran' > old/sbin/ldconfig; chmod 755 old/sbin/ldconfig
        cp -a old new; echo more >> new/bin/busybox; cp -a old root");
    let follow = ["ldconfig", "newaliases", "restart web", "relink"].map(|what| ["--follow-up", what]).concat();
    make(&world, "f", &follow);
    let mut runs =
        Command::new("chroot").arg(world.path("root")).args(["/bin/busybox", "sleep", "1000"]).spawn().unwrap();
    let seen = || fs::read_link(format!("/proc/{}/exe", runs.id())).is_ok_and(|exe| exe.ends_with("bin/busybox"));
    while !seen() {
        std::thread::yield_now();
    }
    let said = world.run(&["patch", "apply", "--unsigned", "f.tgz", "--root", "./root"]);
    runs.kill().unwrap();
    runs.wait().unwrap();
    assert_eq!(said.status, Some(0), "{said:?}");
    for line in [
        "done: ldconfig",
        "not applicable: newaliases",
        "not applicable: restart web",
        "not applicable: relink",
        &format!("still runs what was replaced: busybox (process {})", runs.id()),
    ] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    assert_contents(&world.path("root/ran"), "ran\n");
    what_is_due_is_not_forgotten(&world);
    what_follows_in_an_overlay(&world);
}

/// Programs run in the overlay of a clone after each of several patches, applied or undone by one command.
fn what_follows_in_an_overlay(world: &World) {
    world.write("r.toml", "devices = \"none\"\nactions = [\"-ldconfig\"]\n[[source]]\ndirectory = \"old\"\n");
    world.ok(&["build", "base", "-f", "r.toml"]);
    world.ok(&["clone", "base", "w", "--how", "overlay"]);
    world.sh("cp -a new newer; echo more >> newer/bin/busybox
        $STOCKADE patch diff new newer --unsigned --name g --follow-up ldconfig -o g.tgz");
    let done = |said: Said| {
        assert_eq!(said.status, Some(0), "{said:?}");
        assert_eq!(said.out.matches("done: ldconfig").count(), 2, "{said:?}");
    };
    done(world.run(&["patch", "apply", "--unsigned", "f.tgz", "g.tgz", "--root", "w"]));
    assert_eq!(world.ok(&["run", "w", "--", "/bin/busybox", "cat", "/ran"]), "ran\n");
    done(world.run(&["patch", "undo", "--to", "f", "--root", "w"]));
    assert_eq!(world.ok(&["patch", "list", "--root", "w"]), "");
    assert_eq!(fs::read_dir(world.root("w")).unwrap().count(), 0, "it is seen from outside");
}

fn json(world: &World, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&world.run(args).out).unwrap()
}

/// What fails, or is prevented, stays to be done: that is said, and the next command does it.
fn what_is_due_is_not_forgotten(world: &World) {
    let followed = json(world, &["patch", "undo", "--root", "./root", "--json"])["follow_ups"].clone();
    let outcomes: Vec<_> = followed.as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["done", "not-applicable", "not-applicable", "not-applicable"], "{followed}");
    let fails = "printf '#!/bin/busybox sh\\nexit 3' > root/sbin/ldconfig";
    let works = "printf '#!/bin/busybox sh\\necho again > /ran' > root/sbin/ldconfig; rm -f root/ran";
    let mends = |name: &str| match name {
        "recover" => world.run(&["recover", "./root"]),
        "undo" => world.run(&["patch", "undo", "--root", "./root"]),
        _ => world.run(&["patch", "apply", "--unsigned", "f.tgz", "--root", "./root"]),
    };
    for name in ["recover", "apply", "undo"] {
        world.sh(fails);
        let said = world.run(&["patch", "apply", "--unsigned", "f.tgz", "--root", "./root"]);
        assert!(said.status == Some(2) && said.out.contains("failed: ldconfig: "), "{said:?}");
        for verb in ["list", "check"] {
            let said = world.run(&["patch", verb, "--root", "./root"]);
            assert!(said.out.contains("still to be done: ldconfig  (stockade recover "), "{said:?}");
            assert_eq!(said.status, Some(if verb == "list" { 0 } else { 2 }));
            assert_eq!(json(world, &["patch", verb, "--root", "./root", "--json"])["due"][0], "ldconfig");
        }
        let said = world.run(&["recover", "./root"]);
        assert!(said.status == Some(2) && said.out.contains("failed: ldconfig: "), "{said:?}");
        world.sh(works);
        let said = mends(name);
        assert!(said.status == Some(0) && said.out.contains("done: ldconfig"), "{name}: {said:?}");
        assert_contents(&world.path("root/ran"), "again\n");
        assert_eq!(world.run(&["patch", "check", "--root", "./root"]).status, Some(0), "{name}");
        if name != "undo" {
            world.ok(&["patch", "undo", "--root", "./root"]);
        }
    }
    // The power goes while the program runs: all that is left is what was written down.
    world.sh("printf '#!/bin/busybox sh\\necho > /started; exec /bin/busybox sleep 1000' > root/sbin/ldconfig");
    let mut applies = world.stockade(&["patch", "apply", "--unsigned", "f.tgz", "--root", "./root"]).spawn().unwrap();
    while !world.path("root/started").exists() {
        std::thread::yield_now();
    }
    applies.kill().unwrap();
    applies.wait().unwrap();
    assert_eq!(world.run(&["patch", "check", "--root", "./root"]).status, Some(2));
    world.sh(works);
    assert!(world.ok(&["recover", "./root"]).contains("done: ldconfig"));
    assert_contents(&world.path("root/ran"), "again\n");
    // Half a change is not looked at.
    world.write(".stockade/root/journal", "");
    for verb in ["list", "check"] {
        world.refused(&["patch", verb, "--root", "./root"], &["was interrupted", "stockade recover"]);
    }
}

/// One patch for all chroots, each of which says what became of it; the running system is of another release.
#[test]
fn all_chroots_are_patched() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.write("r.toml", "devices = \"none\"\n[[source]]\ndirectory = \"old\"\n");
    world.sh("echo VERSION_ID=4711 > old/etc/os-release; cp old/etc/os-release new/etc/os-release");
    for name in ["a", "b", "c", "d", "e"] {
        world.ok(&["build", name, "-f", "r.toml"]);
    }
    make(&world, "q", &["--release", "4711"]);
    world.sh("echo mine > home/b/usr/bin/prog; echo VERSION_ID=4712 > home/c/etc/os-release
        sed -i /web/d home/e/etc/passwd");
    // Standard input can be read once.
    world.refused(&["patch", "apply", "--unsigned", "-", "--all-chroots"], &["can be read once"]);
    let said = world.sh("$STOCKADE patch apply --unsigned - --root d < q.tgz");
    let older =
        |name: &str| said.lines().find(|line| line.contains(&format!("home/{name}: this chroot holds older copies: ")));
    assert!(older("a").is_some_and(|line| line.contains(" usr/bin/prog ") && line.contains("--root a)")), "{said}");
    assert!(older("b").is_some() && older("c").is_some() && older("d").is_none(), "{said}");
    let said = world.run(&["patch", "apply", "--unsigned", "q.tgz", "--all-chroots"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    for line in [
        "/: q: passed over: it is for release 4711",
        "a: q: applied",
        "conflict: usr/bin/prog",
        "b: q: nothing was changed",
        "c: q: passed over: it is for release 4711, and this is 4712",
        "d: q: is there already",
    ] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    // An error names its root, whatever it is about.
    let named = format!("patch apply {}: ", world.root("e").display());
    assert!(said.err.contains(&named) && said.err.contains("whom nobody knows there"), "{said:?}");
    let said = world.run(&["patch", "apply", "--unsigned", "q.tgz", "--all-chroots", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(error["error"]["root"].as_str(), world.root("e").to_str(), "{said:?}");
    assert!(!Path::new("/var/db/stockade/patches/q").exists());
    assert!(!said.out.contains("home/a: this chroot holds"), "{said:?}");
}

/// Jails are made of the host's files: they are named, and not patched.
#[test]
fn jails_are_named_and_built_again() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.ok(&["jail", "j", "ls"]);
    world.sh("rm -r old new; mkdir -p old/bin; cp home/j/usr/bin/ls old/bin/ls; cp -a old new; echo >> new/bin/ls; cp -a old root");
    make(&world, "ls", &[]);
    let said = world.ok(&["patch", "apply", "--unsigned", "ls.tgz", "--root", "./root", "--allow-unmet"]);
    let line = said.lines().find(|line| line.contains("home/j: this jail holds older copies: usr/bin/ls  ")).unwrap();
    assert!(line.ends_with("(stockade build j)"), "{said}");
    let said = world.run(&["patch", "apply", "--unsigned", "ls.tgz", "--root", "j"]);
    assert!(
        said.status == Some(2) && said.out.contains("it is a jail, made of the files of the host: stockade build"),
        "{said:?}"
    );
}

/// What a patch says of accounts is added to the files of the root, whatever else is in them.
#[test]
fn accounts_are_added() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.write("r.toml", "devices = \"none\"\n[[source]]\ndirectory = \"old\"\n");
    world.sh("cp $(command -v busybox) old/usr/bin/busybox; ln -s usr/bin old/bin; ln -s busybox old/usr/bin/sh; mkdir old/proc old/dev old/sys old/run old/tmp");
    world.ok(&["build", "c", "-f", "r.toml"]);
    let edit = "echo _new:*:90: >> /etc/group; echo '_new:*:90:90:New,,:/new:/bin/false' >> /etc/passwd
        echo x > /usr/bin/serve; /usr/bin/busybox chown 90:90 /usr/bin/serve";
    world.ok(&["record", "c", "-o", "acc.tgz", "--unsigned", "--", "/bin/sh", "-c", edit]);
    world.sh("cp -a old root; echo 'mine:x:100:100::/:/bin/sh' >> root/etc/passwd");
    assert_eq!(world.run(&["patch", "apply", "--unsigned", "acc.tgz", "--root", "./root"]).status, Some(0));
    let passwd = fs::read_to_string(world.path("root/etc/passwd")).unwrap();
    assert!(passwd.contains("mine:x:100:100") && passwd.ends_with("_new:*:90:90:New,,:/new:/bin/false\n"), "{passwd}");
    assert!(fs::read_to_string(world.path("root/etc/group")).unwrap().ends_with("_new:*:90:\n"));
    assert_eq!(fs::metadata(world.path("root/usr/bin/serve")).unwrap().uid(), 90);
    // Undone, the account stays.
    world.ok(&["patch", "undo", "--root", "./root"]);
    assert!(!world.path("root/usr/bin/serve").exists());
    assert_eq!(fs::read_to_string(world.path("root/etc/passwd")).unwrap(), passwd);
    // Where the number is somebody else's, nothing is done.
    world.sh("echo 'other:x:90:90::/:/bin/sh' >> root/etc/passwd; sed -i /_new/d root/etc/passwd");
    world.refused(&["patch", "apply", "--unsigned", "acc.tgz", "--root", "./root"], &["90 of _new belongs to other"]);
}

/// A program whose libraries would be nowhere does not come; one that was as broken before may.
#[test]
fn a_program_without_its_libraries_does_not_come() {
    if !able(&["setfattr", "ldd"]) {
        return;
    }
    let world = world();
    world.sh("rm -r new; cp -a old new; cp /bin/ls new/usr/bin/ls; cp -a old other; cp -a old root");
    make(&world, "bare", &[]);
    world.sh("for lib in $(ldd /bin/ls | grep -o '/[^ ]*'); do mkdir -p new${lib%/*}; cp -L $lib new$lib; done");
    make(&world, "whole", &[]);
    world.sh("cp -a old broken; cp -a old new2; cp /bin/ls broken/usr/bin/prog; cp /bin/ls new2/usr/bin/prog; echo >> new2/usr/bin/prog
        $STOCKADE patch diff broken new2 --unsigned --name still -o still.tgz");
    let apply = |file: &str, root: &str| world.run(&["patch", "apply", "--unsigned", file, "--root", root]);
    let said = apply("bare.tgz", "./root");
    assert_eq!(said.status, Some(1), "{said:?}");
    for words in ["usr/bin/ls: needs /lib", "neither the root nor the change has that", "--allow-unmet"] {
        assert!(said.err.contains(words), "{said:?}");
    }
    assert!(!world.path("root/usr/bin/ls").exists() && !world.path("root/var/db").exists());
    assert_eq!(apply("whole.tgz", "./root").status, Some(0));
    assert_eq!(apply("still.tgz", "./broken").status, Some(0));
    world.ok(&["patch", "apply", "--unsigned", "bare.tgz", "--root", "./other", "--allow-unmet"]);
}

/// A link that the administrator put in the place of a directory is followed where the host's file says so, and there alone.
#[test]
fn links_are_followed_that_are_named() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.sh("for name in root other; do cp -a old $name; mkdir $name/data; mv $name/usr/bin $name/data/bin
        ln -s /data/bin $name/usr/bin; done; mkdir -m 700 -p home");
    let was = picture(&world.path("root"));
    let settings = |text: &str| world.write("home/patch.toml", text);
    let named = format!("follow = [\"/nowhere\", \"{}\"]\n", world.path("root/usr/bin").display());
    settings(&named);
    let said = apply(&world, "./root", &[]);
    assert_eq!(said.status, Some(0), "{said:?}");
    world.sh("cd root; test -L usr/bin; grep -qx newer data/bin/prog; test data/bin/h1 -ef data/bin/h2; test data/bin/h1 -ef data/bin/h3
        test $(stat -c %a data/bin/meta) = 700; grep -q TWO etc/conf");
    world.ok(&["patch", "check", "--root", "./root"]);
    assert_eq!(apply(&world, "./other", &[]).status, Some(2));
    // Undone without it: what was really changed is known.
    settings("");
    world.ok(&["patch", "undo", "--root", "./root"]);
    assert_eq!(picture(&world.path("root")), was);
    for (text, words) in [("follow = 1", "follow = ["), ("folow = []", "unknown field"), ("follow", "follow = [")] {
        settings(text);
        world.refused(&["patch", "apply", "--unsigned", "p-1.tgz", "--root", "./root"], &["home/patch.toml", words]);
    }
    settings(&named);
    world.sh("chmod 666 home/patch.toml");
    world.refused(&["patch", "apply", "--unsigned", "p-1.tgz", "--root", "./root"], &["others may write to it"]);
}

/// What a boot of OpenBSD does, as the root is before or after a patch, whether the patch is undone, and what its check says.
const BOOTS: &[(&str, &str, &str)] = &[
    // Rewritten before, after, before it is undone.
    ("echo b1 > usr/lib/libc.so.1.0; echo b1 > usr/sbin/sshd", "true", ""),
    ("true", "echo b2 > usr/lib/libc.so.1.0; echo b2 > usr/sbin/sshd", ""),
    // Its source was changed: that is no boot.
    ("true", "echo mine > usr/share/relink/usr/lib/libc.so.1.0.a", "content: usr/share/relink/usr/lib/libc.so.1.0.a"),
    (
        "true",
        "echo c1 > usr/lib/libc.so.1.0; echo a1 > usr/share/relink/usr/lib/libc.so.1.0.a",
        "reverted: usr/share/relink",
    ),
    ("true", "echo b2 > usr/lib/libc.so.1.0; chmod 777 usr/lib/libc.so.1.0", "metadata: usr/lib/libc.so.1.0"),
    // What has no source is judged by itself.
    ("true", "echo b2 > usr/lib/libz.so.1.0", "content: usr/lib/libz.so.1.0"),
];

#[test]
fn what_a_boot_links_anew_is_judged_by_its_source() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = World::new();
    world.sh("S=usr/share/relink/usr; mkdir -p old/etc old/usr/lib old/usr/sbin old/$S/lib old/$S/sbin/sshd; cd old
        echo c1 > usr/lib/libc.so.1.0; echo a1 > $S/lib/libc.so.1.0.a; echo s1 > usr/sbin/sshd; echo t1 > $S/sbin/sshd/sshd.tar
        echo z1 > usr/lib/libz.so.1.0; cp -a . ../new; cd ../new
        echo c2 > usr/lib/libc.so.1.0; echo a2 > $S/lib/libc.so.1.0.a; echo s2 > usr/sbin/sshd; echo t2 > $S/sbin/sshd/sshd.tar
        echo z2 > usr/lib/libz.so.1.0");
    world.ok(&["patch", "diff", "old", "new", "--unsigned", "--delta", "--name", "p-1", "-o", "p-1.tgz"]);
    for (before, after, fault) in BOOTS {
        world.sh(&format!("rm -rf root; cp -a old root; cd root; {before}"));
        let said = apply(&world, "./root", &[]);
        assert_eq!(said.status, Some(0), "{before}: {said:?}");
        world.sh("cd root; grep -qx c2 usr/lib/libc.so.1.0; grep -qx s2 usr/sbin/sshd");
        world.sh(&format!("cd root; {after}"));
        let said = world.run(&["patch", "check", "--root", "./root"]);
        assert_eq!(said.status, Some(if fault.is_empty() { 0 } else { 2 }), "{before}; {after}: {said:?}");
        assert!(said.out.contains(fault), "{before}; {after}: {said:?}");
        let said = world.run(&["patch", "undo", "--root", "./root"]);
        assert_eq!(said.status, Some(if fault.starts_with("content") { 2 } else { 0 }), "{after}: {said:?}");
    }
    // A chroot is checked like that, too.
    world.write("r.toml", "devices = \"none\"\n[[source]]\ndirectory = \"old\"\n");
    world.ok(&["build", "c", "-f", "r.toml"]);
    world.sh("echo b > home/c/usr/lib/libc.so.1.0; echo b > home/c/usr/sbin/sshd");
    world.ok(&["check", "c", "--hash"]);
    world.sh("echo b > home/c/usr/share/relink/usr/sbin/sshd/sshd.tar");
    assert_eq!(world.run(&["check", "c"]).status, Some(2));
}

/// While the package manager works, nothing is patched.
#[test]
fn the_package_manager_is_waited_for() {
    if !able(&["setfattr", "python3"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; mkdir -p root/var/lib/dpkg; touch root/var/lib/dpkg/lock-frontend");
    let said = world.sh("python3 -c 'import fcntl,subprocess,sys
f=open(\"root/var/lib/dpkg/lock-frontend\",\"w\"); fcntl.lockf(f,fcntl.LOCK_EX)
sys.exit(subprocess.call(sys.argv[1:]) != 1)' $STOCKADE patch apply --unsigned p-1.tgz --root ./root 2>&1");
    assert!(said.contains("the package manager is at work"), "{said}");
    assert_eq!(apply(&world, "./root", &[]).status, Some(0));
}

/// The name of the package that a path is of is said, and when a package puts a file back; whatever the hook finds, apt
/// ends as it would have.
#[test]
fn packages_that_revert_a_patch_are_named() {
    if !able(&["setfattr", "apt-config"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; mkdir -p root/var/lib/dpkg/info root/etc/apt/apt.conf.d
        mkdir -p root$(dirname $STOCKADE); : > root$STOCKADE; chmod 755 root$STOCKADE; cd root/var/lib/dpkg
        printf 'Package: prog\\nStatus: install ok installed\\nArchitecture: amd64\\nVersion: 1.2-3\\n\\n' > status
        printf '/.\\n/usr/bin/prog\\n' > info/prog.list");
    let said = apply(&world, "./root", &[]);
    assert!(said.out.contains("\nof the package prog 1.2-3: usr/bin/prog\n"), "{said:?}");
    let hook = world.path("root/etc/apt/apt.conf.d/95stockade");
    assert!(world.ok(&["doctor", "./root", "--install-hooks"]).ends_with("/etc/apt/apt.conf.d/95stockade: written\n"));
    // As apt reads it; what it says of the running system here is said of the root.
    let parts = format!("Dir::Etc::parts \"{}\";", world.path("root/etc/apt/apt.conf.d").display());
    let mut apt = Command::new("apt-config");
    apt.args(["dump", "DPkg::Post-Invoke"]).env("APT_CONFIG", world.write("apt.conf", &parts));
    let said = Said::of(apt.output().unwrap());
    let hooks: Vec<&str> = said.out.split('"').filter(|text| text.contains("stockade")).collect();
    let [command] = hooks[..] else { panic!("{said:?}") };
    assert!(command.contains(" patch check --quiet || true;"), "{command}");
    assert!(command.contains(" check --all --host --quiet || true;"), "{command}");
    let command = command.replace("patch check --quiet", "patch check --quiet --root ./root");
    assert_eq!(world.sh(&command), "");
    world.sh("echo old > root/usr/bin/prog");
    assert!(world.sh(&command).starts_with("reverted: usr/bin/prog  (p-1)  of prog 1.2-3\n"));
    assert_eq!(world.sh(&command.replace(env!("CARGO_BIN_EXE_stockade"), "/nowhere")), "");
    // Nobody gets root by it.
    world.sh("chmod 775 root$STOCKADE");
    world.refused(&["doctor", "./root", "--install-hooks"], &["others than root can change"]);
    world.sh("chmod 755 root$STOCKADE; chown 80 root$(dirname $STOCKADE)");
    world.refused(&["doctor", "./root", "--install-hooks"], &["others than root can change"]);
    world.sh("chown 0 root$(dirname $STOCKADE)");
    // Only what is ours is replaced or removed.
    world.ok(&["doctor", "./root", "--install-hooks"]);
    world.ok(&["doctor", "./root", "--remove-hooks"]);
    assert!(!hook.exists() && world.ok(&["doctor", "./root", "--remove-hooks"]).contains("no hook"));
    fs::write(&hook, "mine").unwrap();
    world.refused(&["doctor", "./root", "--install-hooks"], &["was not made by stockade"]);
    world.refused(&["doctor", "./root", "--remove-hooks"], &["was not made by stockade"]);
    world.refused(&["doctor", "./old", "--install-hooks"], &["no apt", "patch check"]);
}

/// What was done before the patch, how it is applied, what is done then; and what must hold after a build that has real work to do.
const LASTING: &[(&str, &[&str], &str, &str)] = &[
    ("", &[], "$STOCKADE patch forget p-1 --root c", "grep -qx newer usr/bin/prog; test ! -e gone"),
    ("chmod 700 home/c/usr/bin/prog", &[], "", "grep -qx newer usr/bin/prog; test $(stat -c %a usr/bin/prog) = 700"),
    ("echo mine > home/c/usr/bin/prog", &["--replace"], "", "grep -qx newer usr/bin/prog"),
    ("sed -i s/six/SIX/ home/c/etc/conf", &[], "", "grep -q TWO etc/conf; grep -q SIX etc/conf"),
    // What came between is neither put back nor vouched for.
    ("", &[], "echo evil > home/c/usr/bin/prog", "grep -qx evil usr/bin/prog; ! $STOCKADE check c > /dev/null"),
    ("", &[], "chmod 4777 home/c/usr/bin/prog", "test $(stat -c %a usr/bin/prog) = 644; $STOCKADE check c"),
    // Clones know what was applied to them.
    (
        "",
        &[],
        "$STOCKADE clone c d --how copy; $STOCKADE remove c; mv r.toml r2.toml; mv home/d home/c; $STOCKADE adopt c",
        "grep -qx newer usr/bin/prog",
    ),
];

#[test]
fn a_build_reverts_no_patch() {
    if !able(&["setfattr"]) {
        return;
    }
    for (before, args, then, expect) in LASTING {
        let world = world();
        world.write("r.toml", "devices = \"none\"\n[policy]\nunknown = \"remove\"\n[[source]]\ndirectory = \"old\"\n");
        world.ok(&["build", "c", "-f", "r.toml"]);
        world.sh(before);
        let said = apply(&world, "c", args);
        assert_eq!(said.status, Some(0), "{before} {args:?}: {said:?}");
        world.sh(then);
        world.sh("echo other > old/usr/share/doc/other");
        let said = world.run(&["build", "c", "--yes"]);
        assert!(matches!(said.status, Some(0 | 2)), "{before} {then}: {said:?}");
        world.sh(&format!("cd home/c; test -e usr/share/doc/other; {expect}"));
    }
}

/// The root's own word is not taken for what was applied, and cannot stand in the way.
#[test]
fn what_a_root_says_of_itself_is_not_believed() {
    if !able(&["setfattr", "tar"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; tar xzpf p-1.tgz -C root --wildcards '*/+CONTENTS'
        mkdir root/var/db/stockade/patches/x; echo hi > root/var/db/stockade/patches/x/+CONTENTS");
    assert_eq!(apply(&world, "./root", &[]).status, Some(0));
    assert_contents(&world.path("root/usr/bin/prog"), "newer\n");
    assert!(apply(&world, "./root", &[]).out.contains("is there already"));
    assert_eq!(world.run(&["patch", "check", "--root", "./root"]).status, Some(0));
}

/// A clone by links shares inodes with its base: patching the one takes nothing from the other.
#[test]
fn a_clone_by_links_is_patched_alone() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.write("r.toml", "devices = \"none\"\n[[source]]\ndirectory = \"old\"\n");
    world.ok(&["build", "c", "-f", "r.toml"]);
    world.ok(&["clone", "c", "d", "--how", "link"]);
    assert_eq!(apply(&world, "d", &[]).status, Some(0));
    world.ok(&["check", "c", "--hash"]);
    world.sh("test $(stat -c %a home/c/usr/bin/suid) = 4750; test $(stat -c %a home/d/usr/bin/suid) = 4750");
    world.ok(&["patch", "undo", "--root", "d"]);
    world.sh("test $(stat -c %a home/d/usr/bin/suid) = 4750; grep -qx suid home/d/usr/bin/suid");
}

/// What cannot be merged is decided by whoever asks, and a merge that somebody is at work on is not written over.
#[test]
fn what_cannot_be_merged_is_decided() {
    if !able(&["setfattr"]) {
        return;
    }
    let world = world();
    world.sh("cp -a old root; sed -i s/two/2/ root/etc/conf");
    assert_eq!(apply(&world, "./root", &[]).status, Some(2));
    world.sh("echo mine > root/etc/conf.stockade-new");
    assert_eq!(apply(&world, "./root", &[]).status, Some(2));
    assert_contents(&world.path("root/etc/conf.stockade-new"), "mine\n");
    world.sh("rm root/etc/conf.stockade-new; cp -a root other");
    let said = apply(&world, "./root", &["--keep"]);
    assert!(said.status == Some(2) && said.out.contains("kept as it was, not fixed: etc/conf"), "{said:?}");
    world.sh("grep -qx 2 root/etc/conf; grep -qx newer root/usr/bin/prog; $STOCKADE patch list --root ./root | grep -q 'NOT FIXED'");
    let said = apply(&world, "./other", &["--replace"]);
    assert!(said.status == Some(0) && said.out.contains("replaced: etc/conf"), "{said:?}");
    world.sh("grep -qx TWO other/etc/conf; $STOCKADE patch undo --root ./other; grep -qx 2 other/etc/conf");
}

/// What is bound into a root belongs to somebody else; a filesystem of its own does not hide what release the root is of.
#[test]
fn mounts_below_the_root() {
    if !able(&["setfattr", "unshare", "mkfs.ext4", "losetup"]) {
        return;
    }
    let world = world();
    make(&world, "other", &["--release", "99"]);
    world.sh_apart(
        "cp -a old root; cp -a old/usr elsewhere; mount --bind elsewhere root/usr
        if $STOCKADE patch apply --unsigned p-1.tgz --root ./root > said 2>&1; then exit 1; fi
        grep -q 'root/usr: a directory from elsewhere is bound there' said; grep -q '^hint: ' said
        grep -qx old elsewhere/bin/prog; grep -qx two root/etc/conf; umount root/usr
        truncate -s 24M img; mkfs.ext4 -qO ^has_journal img; mkdir root/usr.new; mount -o loop img root/usr.new
        cp -a old/usr/. root/usr.new; umount root/usr.new; rmdir root/usr.new; mount -o loop img root/usr
        mkdir -p root/usr/lib; echo VERSION_ID=12 > root/usr/lib/os-release
        $STOCKADE patch apply --unsigned other.tgz --root ./root > said 2>&1 && exit 1
        grep -q 'it is for release 99, and this is 12' said; grep -qx old root/usr/bin/prog",
    );
}

#[test]
fn standard_input_that_stalls_is_not_waited_for() {
    let world = world();
    world.sh("cp -a old root");
    let was = seen(&world, "root");
    let whole = fs::read(world.path("p-1.tgz")).unwrap();
    for length in [100, whole.len() - 10] {
        let mut command = world.stockade(&["patch", "apply", "--unsigned", "-", "--root", &at("root")]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(&whole[..length]).unwrap();
        until_caught(child.id(), 2);
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let open = child.stdin.take();
        let said = child.wait_with_output().unwrap();
        drop(open);
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && text.contains("stopped by the user"), "{text}");
        assert_eq!(seen(&world, "root"), was);
    }
}

/// Waits until the process catches this signal.
fn until_caught(pid: u32, signal: u32) {
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal - 1) & 1 == 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
