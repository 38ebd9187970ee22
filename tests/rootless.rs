// SPDX-License-Identifier: ISC
//! An ordinary user: owners inside are right, whatever they are outside; with ranges of numbers and with a single one.
//!
//! Needs root, to become that user, a static busybox and newuidmap(1). The accounts and ranges of the system are replaced
//! in a mount namespace of the test's own.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{World, able, skip};

/// The user that all is done by.
const ANN: u32 = 4711;

/// Her ranges, as a line of subuid(5); what is 1 inside is the first of them outside.
const RANGES: &str = "ann:200000:65536\n";

/// A world that belongs to ann, with an archive whose entries belong to root, daemon and www-data; none if this cannot
/// be tested here.
fn world(ranges: &str) -> Option<World> {
    if !able(&["busybox", "newuidmap", "newgidmap", "setpriv", "tar", "unshare"]) {
        return None;
    }
    if !Path::new("/etc/subuid").exists() || !Path::new("/etc/subgid").exists() {
        skip("it needs /etc/subuid and /etc/subgid to mount over");
        return None;
    }
    let world = World::new();
    fs::copy(env!("CARGO_BIN_EXE_stockade"), world.path("stockade")).unwrap();
    for name in ["subuid", "subgid"] {
        world.write(name, ranges);
    }
    world.sh(
        "umask 022; mkdir -p t/bin t/etc t/srv t/var/www t/root t/proc t/dev t/sys t/run t/tmp
        cp $(command -v busybox) t/bin/busybox
        for name in cat chmod chown id ls mkdir mv rm sh sleep stat touch; do ln -s busybox t/bin/$name; done
        printf '%s:x:%s:%s::/:/bin/sh\\n' root 0 0 daemon 1 1 www-data 33 33 > t/etc/passwd
        printf '%s:x:%s:%s\\n' root 0 '' daemon 1 '' www-data 33 '' staff 50 daemon > t/etc/group
        echo d > t/srv/d; chown -R 1:1 t/srv; chmod 4755 t/srv/d
        echo w > t/var/www/one; ln t/var/www/one t/var/www/two; ln -s one t/var/www/link; chown -hR 33:33 t/var/www
        chmod 2770 t/var/www; echo k > t/root/key; chmod 600 t/root/key; chmod 1777 t/tmp; echo h > t/high; chown 65534:50 t/high
        find t -exec touch -h -d @1700000000 {} +; tar --numeric-owner -C t -cf t.tar .
        printf '[policy]\\nunknown = \"remove\"\\n[[source]]\\narchive = \"t.tar\"\\n' > t.toml
        (cat /etc/passwd; echo ann:x:4711:4711::/none:/bin/sh) > passwd; (cat /etc/group; echo ann:x:4711:) > group
        chown 4711:4711 . tmp",
    );
    Some(world)
}

/// Runs a script as ann, who has the accounts and ranges of the world; `./stockade` is the program. What it printed.
fn ann(world: &World, script: &str) -> String {
    world.write("script", script);
    world.sh_apart(
        "for name in passwd group subuid subgid; do mount --bind $name /etc/$name; done
        exec setpriv --reuid 4711 --regid 4711 --clear-groups sh -eu script 2>&1",
    )
}

/// The path of an entry of the archive, and its owner and group in it.
const OWNERS: [(&str, u32, u32); 8] = [
    ("root/key", 0, 0),
    ("srv", 1, 1),
    ("srv/d", 1, 1),
    ("var/www", 33, 33),
    ("var/www/one", 33, 33),
    ("var/www/two", 33, 33),
    ("var/www/link", 33, 33),
    ("high", 65534, 50),
];

/// What is done to the chroot `m` by ann, the status it ends with, and words that are said.
type Case = (&'static str, i32, &'static [&'static str]);

const BOTH: [Case; 17] = [
    ("build m", 0, &["nothing to do: 33 entries"]),
    ("check m --hash", 0, &["33 entries are as built"]),
    ("why m /srv/d", 0, &["t.tar"]),
    ("manifest m", 0, &["srv/d"]),
    ("run m -- id -u", 0, &["0\n"]),
    ("run m -- cat /root/key", 0, &["k\n"]),
    ("run m --net none -- ls /sys/class/net", 0, &["lo\n"]),
    ("run m --read-only -- touch /srv/x", 1, &["Read-only file system"]),
    ("run m --bind $PWD/t:/srv:ro -- cat /srv/high", 0, &["h\n"]),
    ("run m --bind $PWD/t:/srv:ro -- touch /srv/x", 1, &["Read-only file system"]),
    ("run m --ephemeral -- sh -c 'rm -r /var; mkdir /var; ls /var; mv /srv /srv2; echo x >/high'", 0, &[]),
    ("run m --plain -- id -u", 0, &["0\n"]),
    ("run m -- sh -c 'echo gone >/dev/null; ls /dev/pts'", 0, &["ptmx\n"]),
    ("check m --hash", 0, &["33 entries are as built"]),
    ("clone m n", 0, &["copy: 33 entries"]),
    ("run n -- sh -c 'rm /srv/d; mkdir -m 700 /mine; touch /mine/x; chmod 4711 /high'", 0, &[]),
    ("copy t.toml m:/srv/in", 0, &["1 entries"]),
];

/// With ranges, all numbers can be had.
const MANY: [Case; 8] = [
    ("doctor m", 0, &["ok    who can reach"]),
    ("run m -- stat -c %u:%g /root/key /srv/d /var/www/link /high", 0, &["0:0\n1:1\n33:33\n65534:50\n"]),
    ("run m -u daemon -- id", 0, &["uid=1(daemon) gid=1(daemon) groups=1(daemon),50(staff)"]),
    ("run m -u daemon -- cat /root/key", 1, &["Permission denied"]),
    ("run m -u www-data -- touch /var/www/new", 0, &[]),
    ("check m", 2, &["+ var/www/new", "+ srv/in"]),
    ("run n -- chown -R 33:33 /mine", 0, &[]),
    ("check n", 2, &["- srv/d", "+ mine", "m high"]),
];

/// With one number, everybody is root.
const SINGLE: [Case; 4] = [
    ("run m -- stat -c %u:%g /root/key /srv/d /var/www/link /high", 0, &["0:0\n0:0\n0:0\n0:0\n"]),
    ("run m -u daemon -- id", 1, &["user 1 is not among your numbers", "hint: ", "/etc/subuid"]),
    ("check n", 2, &["- srv/d", "+ mine", "m high"]),
    ("doctor m", 2, &["wrong user numbers: ", "ok    access control lists"]),
];

const END: [Case; 8] = [
    ("run m --keep kept -- rm /srv/in", 0, &[]),
    ("reset n", 0, &["1 put back", "2 removed"]),
    ("check n --hash", 0, &["33 entries are as built"]),
    ("copy m:/var/www out", 0, &["copied: "]),
    ("list", 0, &["copy of ", "kept"]),
    ("remove n", 0, &["removed "]),
    ("remove kept", 0, &["removed "]),
    ("sessions", 0, &[]),
];

/// Does each case as ann.
fn play(world: &World, cases: &[Case]) {
    for (line, status, words) in cases {
        let said = ann(world, &format!("./stockade {line} && s=0 || s=$?; echo status $s"));
        let ends = format!("status {status}\n");
        assert!(said.ends_with(&ends) && words.iter().all(|word| said.contains(word)), "{line}: {words:?}:\n{said}");
    }
}

/// Every entry of `OWNERS` belongs outside to whom `outside` makes of the number inside.
fn assert_owners(world: &World, outside: fn(u32) -> u32) {
    for (path, user, group) in OWNERS {
        let meta = fs::symlink_metadata(world.root("m").join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (outside(user), outside(group)), "{path}");
    }
    let mode = |path: &str| fs::symlink_metadata(world.root("m").join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("srv/d"), mode("var/www"), mode("tmp")), (0o4755, 0o2770, 0o1777));
}

/// The end of every story: nothing is left, of whomever it was.
fn assert_gone(world: &World) {
    play(world, &[("remove m", 0, &["removed "]), ("list", 0, &[])]);
    assert!(!world.root("m").exists() && !world.path("home/.stockade/m").exists());
    world.assert_tidy();
}

#[test]
fn with_ranges_owners_inside_are_right() {
    let Some(world) = world(RANGES) else { return };
    play(&world, &[("build m -f t.toml", 0, &["made: 33 added"]), ("doctor", 0, &["ok    sessions", "overlays on"])]);
    let outside = |number| if number == 0 { ANN } else { 200_000 + number - 1 };
    assert_owners(&world, outside);
    play(&world, &BOTH);
    play(&world, &MANY);
    play(&world, &END);
    assert_owners(&world, outside);
    let new = fs::metadata(world.root("m").join("var/www/new")).unwrap();
    let out = fs::metadata(world.path("out/one")).unwrap();
    assert_eq!((new.uid(), out.uid(), out.nlink()), (outside(33), ANN, 2), "made inside, copied out");
    assert_gone(&world);
}

#[test]
fn with_a_single_number_everything_is_the_users() {
    let Some(world) = world("") else { return };
    play(&world, &[("build m -f t.toml", 0, &["made: 33 added", "note: ", "no ranges of numbers"])]);
    assert_owners(&world, |_| ANN);
    play(&world, &BOTH);
    play(&world, &SINGLE);
    play(&world, &END);
    assert_owners(&world, |_| ANN);
    assert_gone(&world);
}

/// What a user installs in her own chroot, with make(1), is a patch with the owners inside; root applies it elsewhere.
#[test]
fn a_recording_is_a_patch_for_everyone() {
    if !able(&["make"]) {
        return;
    }
    let Some(world) = world(RANGES) else { return };
    world.write(
        "t/srv/Makefile",
        "install:\n\tmkdir -p /opt/bin /opt/spool\n\tinstall -m 4755 -o daemon -g staff prog /opt/bin/prog
\tln /opt/bin/prog /opt/bin/alias\n\tln -s prog /opt/bin/link\n\tchown -h www-data:www-data /opt/bin/link /opt/spool
\tmkfifo /opt/spool/fifo\n\techo edited > /var/www/one\n\trm /srv/d\n\tchmod 640 /root/key\n",
    );
    world.sh(
        "make=$(command -v make); install=$(command -v install)
        for f in $make $install $(ldd $make $install | grep -o '/[^ ]*[^:]'); do mkdir -p t$(dirname $f); cp -L $f t$f; done
        for name in ln mkfifo; do ln -s busybox t/bin/$name; done; echo program > t/srv/prog
        tar --numeric-owner -C t -cf t.tar .; mkdir other; tar -xpf t.tar -C other",
    );
    let said = ann(
        &world,
        "./stockade build m -f t.toml; ./stockade record m -o p.tgz --unsigned -- make -C /srv install; ./stockade check m --hash",
    );
    for words in ["by two scans", "- srv/d\n", "+ opt/bin/prog\n", "m root/key  mode\n", "are as built"] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    world.sh("mkdir mine; STOCKADE_HOME=$PWD/mine $STOCKADE patch apply --unsigned p.tgz --root ./other");
    let found = world.sh(
        "cd other; stat -c '%n %F %a %u:%g %h' opt opt/bin/* opt/spool opt/spool/fifo var/www/* root/key; readlink opt/bin/link
        test ! -e srv/d; cat var/www/two opt/bin/alias",
    );
    let expect =
        "opt directory 755 0:0 4\nopt/bin/alias regular file 4755 1:50 2\nopt/bin/link symbolic link 777 33:33 1
opt/bin/prog regular file 4755 1:50 2\nopt/spool directory 755 33:33 2\nopt/spool/fifo fifo 644 0:0 1
var/www/link symbolic link 777 33:33 1\nvar/www/one regular file 644 33:33 2\nvar/www/two regular file 644 33:33 2
root/key regular file 640 0:0 1\nprog\nedited\nprogram\n";
    assert_eq!(found, expect);
    assert_gone(&world);
}

/// A chroot is for those numbers only that it was made with.
#[test]
fn other_numbers_are_refused() {
    let Some(world) = world(RANGES) else { return };
    play(&world, &[("build m -f t.toml", 0, &[])]);
    let before = common::fingerprint(&world.root("m"));
    for other in ["", "ann:300000:65536\n", "ann:200000:1000\n"] {
        world.write("subuid", other);
        world.write("subgid", other);
        for verb in ["build m", "check m", "run m -- id", "clone m n", "reset m", "remove m", "copy m:/srv/d d"] {
            let words =
                &["it was made with the numbers of users 0 4711 1, 1 200000 65536;", "hint: run it as the user"];
            play(&world, &[(verb, 1, words)]);
        }
    }
    for verb in ["build", "check", "remove"] {
        world.refused(&[verb, "m"], &["it belongs to somebody else", "hint: run it as the user whose home it is"]);
    }
    assert_eq!(common::fingerprint(&world.root("m")), before);
    world.write("subuid", RANGES);
    world.write("subgid", RANGES);
    assert_gone(&world);
}

/// The limit is that of a namespace around: the machine keeps its own.
#[test]
fn where_user_namespaces_are_forbidden_the_setting_is_named() {
    let Some(world) = world("") else { return };
    world.write("plain.toml", "devices = \"none\"\n[[source]]\narchive = \"t.tar\"\n");
    let said = ann(
        &world,
        "cat > inner <<'EOF'
        echo 0 > /proc/sys/user/max_user_namespaces
        exec setpriv --ambient-caps=-all --inh-caps=-all sh -c '
            ./stockade doctor || :; ! ./stockade check m; ./stockade build p -f plain.toml; ! ./stockade run p -- true'
EOF
        ./stockade build m -f t.toml; exec unshare -U --map-current-user --keep-caps sh -eu inner",
    );
    for words in [
        "stockade: check ",
        "/home/p: made: 33 added",
        "stockade: run ",
        "hint: run it as root, or let root allow them: sysctl user.max_user_namespaces=",
        "wrong user namespaces: ordinary users may make none: /proc/sys/user/max_user_namespaces is 0",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.matches("user namespaces are forbidden here").count(), 2, "{said}");
    assert_ne!(fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap().trim(), "0", "the machine's own");
}
