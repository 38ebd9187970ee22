// SPDX-License-Identifier: ISC
//! What an ordinary user can build: everything is his, and a second build has nothing to do.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::{World, able};

/// A user without rights.
const NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// A world of that user, with an archive whose entries belong to many.
fn world() -> World {
    let world = World::new();
    fs::copy(env!("CARGO_BIN_EXE_stockade"), world.path("stockade")).unwrap();
    world.sh(
        "umask 022; mkdir -p old/etc old/srv; echo f > old/etc/f; ln old/etc/f old/etc/g; ln -s f old/etc/l; echo s > old/srv/s
        chown 1:2 old/etc/f; chown -h 3:4 old/etc/l; chown 5:6 old/srv; chmod 2755 old/srv; chmod 4711 old/srv/s
        find old -exec touch -h -d @1700000000 {} +; tar --numeric-owner -C old -cf old.tar .
        printf 'devices = \"none\"\n[policy]\nunknown = \"remove\"\n[[source]]\narchive = \"old.tar\"\n' > old.toml
        chown 65534:65534 . tmp",
    );
    world
}

#[test]
fn a_second_build_has_nothing_to_do() {
    if !able(&["tar", "setpriv"]) {
        return;
    }
    let world = world();
    let run = |line: &str| world.sh(&format!("{NOBODY} ./stockade {line}"));
    let first = run("build b0 -f old.toml");
    assert!(first.contains(" made: ") && first.contains("only root sets owners"), "{first}");
    for path in ["", "etc/f", "etc/l", "srv", "srv/s"] {
        let meta = fs::symlink_metadata(world.root("b0").join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (65534, 65534), "{path:?}");
    }
    assert_eq!(fs::metadata(world.root("b0").join("srv/s")).unwrap().mode() & 0o7777, 0o4711);
    for _ in 0..2 {
        let again = run("build b0");
        assert!(again.contains("nothing to do") && !again.contains("note"), "{again}");
        assert!(run("check b0 --hash").contains("as built"));
    }
    // Without the key that stands for the whole wanted tree, each entry is compared.
    world.sh("touch old.tar");
    assert!(run("build b0").contains("nothing to do"));
    world.sh("echo other > home/b0/etc/l2; echo n > old/etc/n; tar --numeric-owner -C old -cf old.tar .");
    assert!(run("build b0").contains("brought up to date: 1 added, 1 removed"));
    assert!(run("build b0").contains("nothing to do"));
    assert!(run("check b0 --hash").contains("as built"));
    assert!(run("build b0 -n").contains("nothing to do"));
    world.assert_tidy();
}

#[test]
fn devices_are_left_out() {
    if !able(&["tar", "setpriv"]) {
        return;
    }
    let world = world();
    world.sh("sed -i 1d old.toml; mknod old/null c 1 3; tar --numeric-owner -C old -cf old.tar .");
    let said = world.sh(&format!("{NOBODY} ./stockade build b0 -f old.toml"));
    assert!(said.contains("devices left out: 1;"), "{said}");
}
