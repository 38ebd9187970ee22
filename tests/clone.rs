// SPDX-License-Identifier: ISC
//! Clones: as faithful as cp(1) makes them, a record of their own, nothing left of one that did not come to be.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::{World, able, fingerprint, native, picture, rsync_differences};
use serde_json::Value;

/// Every kind of entry, and every kind of metadata.
const ZOO: &str = r#"
umask 022; mkdir -p zoo/a/b/c zoo/etc zoo/empty zoo/sticky zoo/private/in; cd zoo
echo one > a/one; ln a/one a/b/two; ln a/one zzz; echo x > a/b/c/x; printf 'a\nb' > 'odd
name'; : > none; head -c 300000 /dev/urandom > large; ln -s one a/link; ln -s /nowhere dangling; ln a/link a/b/link
mkfifo pipe; mknod null c 1 3; mknod disk b 8 0; chmod 640 disk
truncate -s 5M sparse; printf data | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none
echo s > suid; chown 1:2 suid; chmod 6755 suid; chmod 1777 sticky; chown 33:33 private; chmod 700 private; chmod 0 none
chmod 2775 empty; chown 0:5 empty; chown -h 7:8 dangling
setfattr -n user.a -v b a/one; setfattr -n user.d -v e a; setfattr -n trusted.t -v v large; setcap cap_net_raw+ep large
setfacl -m u:5:r etc; setfacl -d -m u:6:rwx a/b
find . -depth -exec touch -h -d @1600000000.123456789 {} +
"#;

const RECIPE: &str = "devices = \"none\"\nactions = [\"-ldconfig\"]\n[policy]\nunknown = \"remove\"\n\
    volatile = [\"log\"]\n[[source]]\ndirectory = \"zoo\"\n";

/// A world with the chroot `base`, built of the zoo; none if it cannot be made here.
fn world() -> Option<World> {
    if !able(&["setfattr", "setfacl", "setcap", "rsync", "strace"]) {
        return None;
    }
    let world = World::new();
    world.sh(ZOO);
    world.write("recipe.toml", RECIPE);
    world.ok(&["build", "base", "-f", "./recipe.toml"]);
    Some(world)
}

fn json(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&world.run(arguments).out).unwrap()
}

#[test]
fn a_copy_is_the_same_to_the_last_attribute() {
    let Some(world) = world() else { return };
    world.sh("cd home/base; echo edited > a/b/c/x; echo mine > unknown; rm -r private; echo day > log");
    let before = fingerprint(&world.root("base"));
    let said = world.ok(&["clone", "base", "w1", "--how", "copy"]);
    assert!(said.contains("/w1: cloned from ") && said.contains(" by copy: "), "{said}");
    assert_eq!(fingerprint(&world.root("base")), before, "the base is not touched");
    assert_eq!(rsync_differences(&world.root("base"), &world.root("w1")), "");
    assert_eq!(picture(&world.root("base")), picture(&world.root("w1")));
    let file = |name: &str| fs::metadata(world.root("w1").join(name)).unwrap();
    assert!(file("sparse").blocks() * 512 < 1_000_000, "holes stay holes");
    assert_eq!((file("a/one").nlink(), file("a/one").ino()), (3, file("zzz").ino()));
    assert_ne!(file("a/one").ino(), fs::metadata(world.root("base").join("a/one")).unwrap().ino());
    world.assert_tidy();
}

/// What the record of a clone says, and that a file which is proved in the base needs no reading in the clone.
#[test]
fn the_record_of_a_clone_is_that_of_its_base() {
    let Some(world) = world() else { return };
    world.sh("cd home/base; echo y > a/b/c/x; echo mine > unknown; rm -r private; echo day > log");
    let base = json(&world, &["check", "base", "--json"]);
    for how in ["copy", "link"] {
        world.ok(&["clone", "base", how, "--how", how]);
        let clone = json(&world, &["check", how, "--json"]);
        let paths = |report: &Value| -> Vec<(String, String)> {
            let changes = report["changes"].as_array().unwrap().iter();
            changes.map(|c| (c["change"].to_string(), c["path"].to_string())).collect()
        };
        assert_eq!(paths(&clone), paths(&base), "{how}");
        assert_eq!(clone["read"], 1, "{how}: only what was edited is read");
        assert_eq!(json(&world, &["check", "base", "--json"])["read"], 1, "{how}: nor is more of the base");
        let mut listed = json(&world, &["list", "--json"]);
        let listed = listed.as_array_mut().unwrap().iter_mut().find(|one| one["name"] == how).unwrap().take();
        assert_eq!((&listed["how"], listed["base"].as_str()), (&how.into(), world.root("base").to_str()));
    }
    // The clone is a chroot like any other: it is brought up to date, and goes, without its base.
    world.ok(&["remove", "base"]);
    world.ok(&["build", "copy", "--yes"]);
    world.ok(&["check", "copy", "--hash"]);
    assert_eq!(rsync_differences(&world.path("zoo"), &world.root("copy")), "*deleting   log\n");
    world.ok(&["remove", "copy"]);
    world.ok(&["remove", "link"]);
    assert_eq!(world.ok(&["list"]), "");
}

#[test]
fn links_share_inodes_and_check_sees_what_was_written_through() {
    let Some(world) = world() else { return };
    world.ok(&["clone", "base", "w1", "--how", "link"]);
    assert_eq!(picture(&world.root("base")), picture(&world.root("w1")));
    let ino = |chroot: &str, name: &str| fs::symlink_metadata(world.root(chroot).join(name)).unwrap().ino();
    for (name, shared) in [("a/one", true), ("large", true), ("dangling", true), ("pipe", false), ("null", false)] {
        assert_eq!(ino("base", name) == ino("w1", name), shared, "{name}");
    }
    for chroot in ["base", "w1"] {
        assert_eq!(json(&world, &["check", chroot, "--json"])["read"], 0, "{chroot}");
    }
    let listed = json(&world, &["list", "--json", "--disk"]);
    let (own, shared) = (&listed[1]["disk"]["own"], &listed[1]["disk"]["shared"]);
    assert!(shared.as_u64() > Some(300_000) && own.as_u64() < Some(200_000), "{listed}");
    world.sh("echo through > home/w1/a/b/c/x; chmod 600 home/w1/large");
    for chroot in ["base", "w1"] {
        let said = world.run(&["check", chroot]);
        assert_eq!(said.status, Some(2));
        assert!(said.out.contains("* a/b/c/x ") && said.out.contains("m large "), "{chroot}: {}", said.out);
    }
}

#[test]
fn what_cannot_be_a_clone_is_refused() {
    let Some(world) = world() else { return };
    world.sh("mkdir full; echo precious > full/data; mkdir -m 1777 open; echo x > file; mkdir room");
    world.ok(&["clone", "base", "taken", "--how", "copy"]);
    for (name, words) in [
        ("taken", &["something is there already", "stockade remove"][..]),
        ("base", &["would be part of it"]),
        ("home/base/in", &["would be part of it"]),
        ("./full", &["something is there already"]),
        ("./file", &["not a directory"]),
        ("./open/w1", &["others may write to the directory above it"]),
        ("/", &["running system"]),
        ("./no/w1", &["No such file"]),
    ] {
        let name = if name.starts_with("home") { format!("./{name}") } else { name.to_owned() };
        world.refused(&["clone", "base", &name], words);
    }
    world.refused(&["clone", "nothing", "w1"], &["there is no such chroot"]);
    world.refused(
        &["clone", "base", "w1", "--how", "reflink"],
        &["its blocks cannot be shared here", "hint: use --how copy"],
    );
    world.refused(&["clone", "base", "./w1", "--how", "reflink"], &["cannot be shared"]);
    assert_eq!(fs::read_to_string(world.path("full/data")).unwrap(), "precious\n");
    let said = world.ok(&["clone", "base", "w1", "--dry-run", "--how", "copy"]);
    assert!(said.contains("would be cloned") && said.contains(" by copy"), "{said}");
    assert!(!world.root("w1").exists() && !world.path("w1").exists());
    // An empty directory is room.
    world.ok(&["clone", "base", "./room", "--how", "copy"]);
    assert_eq!(picture(&world.root("base")), picture(&world.path("room")));
    world.assert_tidy();
}

/// A mount below the base is not entered, a socket is not made, and both are said.
#[test]
fn what_does_not_come_along_is_said() {
    let Some(world) = world() else { return };
    let said = world.sh_apart(
        "mount -t tmpfs none home/base/empty; echo in > home/base/empty/in
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"home/base/etc/s\")'
        $STOCKADE clone base w1 --how copy",
    );
    assert!(said.contains("note: empty: ") && said.contains("note: etc/s: a socket"), "{said}");
    assert_eq!(fs::read_dir(world.root("w1").join("empty")).unwrap().count(), 0);
    assert!(!world.root("w1").join("etc/s").exists());
}

/// Filesystems that share blocks, each in an image of its own: clones share, and what is written to one is not seen in
/// the other.
#[test]
fn clones_share_blocks_where_the_filesystem_can() {
    if !native("no blocks are shared") {
        return;
    }
    for (kind, how) in [("xfs", "reflink"), ("btrfs", "snapshot")] {
        if !able(&[&format!("mkfs.{kind}"), "rsync", "losetup"]) {
            return;
        }
        let Some(world) = world() else { return };
        let image = format!("truncate -s 400M image; mkfs.{kind} -q -f image; mkdir -p -m 700 fs");
        if world
            .sh_apart(&format!("{image}; mount -o loop image fs && echo mounted || echo refused"))
            .contains("refused")
        {
            eprintln!("skipped: this kernel mounts no image of {kind}");
            continue;
        }
        let said = world.sh_apart(&format!(
            "{image}; mount -o loop image fs; mkdir -m 700 fs/h
            export STOCKADE_HOME=$PWD/fs/h; $STOCKADE build base -f ./recipe.toml; before=$(find fs/h/base -printf '%p %i %c %m %s ')
            $STOCKADE clone base w1; $STOCKADE clone base w2 --how reflink; $STOCKADE clone base w3 --how copy
            test \"$before\" = \"$(find fs/h/base -printf '%p %i %c %m %s ')\"
            for w in w1 w2 w3; do
                rsync -aHAXcni --delete --numeric-ids --modify-window=-1 fs/h/base/ fs/h/$w/; $STOCKADE check $w --json
            done
            echo more >> fs/h/w1/large; $STOCKADE check base; $STOCKADE check w1 || echo differs
            $STOCKADE reset w1; $STOCKADE check w1 --hash; $STOCKADE list; $STOCKADE list --disk > /dev/null
            rm fs/h/w2/suid; echo x >> fs/h/w2/a/one; $STOCKADE build w2 --yes; $STOCKADE check w2 --hash
            rm fs/h/w3/suid; $STOCKADE build w3 --swap; $STOCKADE check w3 --hash; $STOCKADE build w3 --swap
            rsync -aHAXcni --delete --numeric-ids --modify-window=-1 zoo/ fs/h/w2/
            rsync -aHAXcni --delete --numeric-ids --modify-window=-1 zoo/ fs/h/w3/
            test -z \"$(find fs/h -maxdepth 3 -name '*work*' -o -maxdepth 3 -name new)\"
            for w in base w1 w2 w3; do $STOCKADE remove $w; done; find fs/h -mindepth 1 ! -path '*/roots*'"
        ));
        let lines = |words: &str| said.lines().filter(|line| line.contains(words)).count();
        assert_eq!((lines(&format!(" by {how}: ")), lines(" by copy: ")), (2, 1), "{kind}: {said}");
        assert_eq!(lines("\"read\":0"), 3, "{kind}: {said}");
        assert_eq!((lines("* large "), lines("differs"), lines("as built")), (1, 1, 4), "{kind}: {said}");
        assert_eq!(lines(&format!("{how} of ")), 2, "{kind}: {said}");
        assert_eq!(
            said.lines().last(),
            Some(&*format!("{}", world.path("fs/h/.stockade").strip_prefix(world.path("")).unwrap().display())),
            "{kind}: {said}"
        );
    }
}

/// A snapshot has an empty directory where a subvolume was: such a base is copied, blocks shared.
#[test]
fn a_base_with_subvolumes_is_cloned_whole() {
    if !native("there are no subvolumes") || !able(&["mkfs.btrfs", "btrfs", "losetup"]) {
        return;
    }
    let Some(world) = world() else { return };
    let said = world.sh_apart(
        "truncate -s 400M image; mkfs.btrfs -q -f image; mkdir -p -m 700 fs
        mount -o loop image fs || { echo refused; exit 0; }
        mkdir -m 700 fs/h; export STOCKADE_HOME=$PWD/fs/h; $STOCKADE build base -f ./recipe.toml
        btrfs -q subvolume create fs/h/base/empty/below; echo in > fs/h/base/empty/below/file
        $STOCKADE clone base w1; cat fs/h/w1/empty/below/file
        btrfs -q subvolume delete fs/h/base/empty/below; $STOCKADE clone base w2",
    );
    if said.ends_with("refused\n") {
        eprintln!("skipped: this kernel mounts no image of btrfs");
        return;
    }
    let shown: Vec<&str> = said.lines().filter(|line| line.contains(" by ") || *line == "in").collect();
    assert!(shown.len() == 3 && shown[0].contains(" by reflink: ") && shown[2].contains(" by snapshot: "), "{said}");
}

/// The record of a chroot that is gone is not written over: what was written to an overlay lies in it.
#[test]
fn the_record_of_what_is_gone_stays() {
    let Some(world) = world() else { return };
    for how in ["overlay", "copy"] {
        world.ok(&["clone", "base", "w1", "--how", how]);
        let record = world.path("home/.stockade/w1");
        if how == "overlay" {
            fs::write(record.join("upper/mine"), "mine").unwrap();
        }
        fs::rename(world.root("w1"), world.path("home/away")).unwrap();
        for arguments in [&["clone", "base", "w1", "--how", how][..], &["clone", "base", "w1", "--dry-run"]] {
            world.refused(arguments, &["the record of a chroot of this name is left", "stockade remove"]);
        }
        fs::rename(world.path("home/away"), world.root("w1")).unwrap();
        assert!(how != "overlay" || fs::read(record.join("upper/mine")).unwrap() == b"mine");
        let differs = world.run(&["check", "w1"]);
        assert_eq!(differs.out.contains("+ mine"), how == "overlay", "{differs:?}");
        fs::remove_dir_all(world.root("w1")).unwrap();
        world.refused(&["clone", "base", "w1"], &["stockade remove"]);
        world.ok(&["remove", "w1"]);
        world.ok(&["clone", "base", "w1", "--how", how]);
        world.ok(&["remove", "w1"]);
    }
    world.assert_tidy();
}
