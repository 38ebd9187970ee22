// SPDX-License-Identifier: ISC
//! A chroot, and what is known of it, on a filesystem that nothing can be written to.

mod common;

use common::{World, able};

#[test]
fn a_chroot_is_looked_at_where_nothing_can_be_written() {
    if !able(&["unshare"]) {
        return;
    }
    let world = World::new();
    world.write("own.toml", "devices = \"none\"\nactions = []\n[[source]]\ndirectory = \"src\"\n");
    let said = world.sh_apart(
        "umask 022; mkdir -p src/etc; echo hello > src/etc/motd; mkdir -m 700 home; mount -t tmpfs -o mode=700 tmpfs home
        $STOCKADE build b0 -f own.toml > built; echo more >> home/b0/etc/motd; mount -o remount,ro home
        set +e; for verb in 'check b0' 'why b0 etc/motd' 'manifest b0' 'list'; do echo \"== $verb\"; $STOCKADE $verb 2>&1; echo \"status $?\"; done
        $STOCKADE build b0 2>&1; echo \"status $?\"",
    );
    for words in [
        "== check b0\n* etc/motd  size time\n",
        "status 2\n== why b0 etc/motd\n",
        "etc/motd: ",
        "type=file",
        "status 0\n== list\n",
        "Read-only file system",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.matches("status 0\n").count(), 3, "{said}");
    assert!(said.ends_with("status 1\n"), "{said}");
}
