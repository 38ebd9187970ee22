// SPDX-License-Identifier: ISC
//! A chroot out of signed release sets, as tar(1) would lay them one over another; and its refresh from a newer snapshot.

mod common;

use std::fs;

use common::{World, able, fingerprint};

const TOOLS: [&str; 7] = ["signify-openbsd", "tar", "sha256sum", "rsync", "mtree", "setfattr", "getfattr"];

/// The sets as they are on a release's server, in small: owners, set-id programs, links, closed and open directories.
const RELEASE: &str = r#"
umask 022; mkdir sets; cd sets; mkdir base comp man etc
cd base
mkdir -p bin sbin dev tmp root etc usr/bin usr/sbin usr/lib usr/libexec/auth usr/share/misc usr/share/doc/old home
mkdir -p var/cron/tabs var/log var/sysmerge var/empty var/mail altroot usr/share/nls/C
echo 'sh, static' > bin/sh; ln bin/sh bin/ksh; ln bin/sh bin/rksh; echo '[' > 'bin/['; ln 'bin/[' bin/test
echo init > sbin/init; echo ping > sbin/ping; ln sbin/ping sbin/ping6; chmod 4555 sbin/ping
head -c 300000 /dev/zero | tr '\0' c > usr/lib/libc.so.100.1; echo m > usr/lib/libm.so.10.1
echo passwd > usr/bin/passwd; chmod 4555 usr/bin/passwd; echo crontab > usr/bin/crontab; chown 0:66 usr/bin/crontab
chmod 6555 usr/bin/crontab; echo locate > usr/bin/locate; chown 0:28 usr/bin/locate; chmod 2555 usr/bin/locate
echo skey > usr/libexec/auth/login_skey; chown -R 0:11 usr/libexec/auth; chmod 0750 usr/libexec/auth
chmod 4555 usr/libexec/auth/login_skey; : > usr/share/misc/empty; echo old > usr/share/doc/old/README
echo table > usr/share/nls/C/table; echo gone > usr/bin/gone; ln -s ../lib/libc.so.100.1 usr/bin/link
ln -s usr/src/sys sys; ln -s /usr/share/misc usr/misc; ln -s "$(printf 'l%.0s' $(seq 99))" usr/share/long
mkdir -p "usr/share/$(printf 'p%.0s' $(seq 90))/$(printf 'q%.0s' $(seq 90))"
echo f > "usr/share/$(printf 'p%.0s' $(seq 90))/$(printf 'q%.0s' $(seq 90))/f"
echo log > var/log/messages; chmod 600 var/log/messages; : > 'usr/share/with blank'; echo '#!' > dev/MAKEDEV
chmod 1777 tmp; chmod 1730 var/cron/tabs; chown 0:66 var/cron/tabs; chmod 0555 var/empty altroot dev/MAKEDEV bin/*
chmod 0700 root; chmod 0775 var/mail; chown 1000:8 var/mail
cd ../etc
mkdir -p etc/ssh etc/rc.d root var/db
echo 'root:*:0:0::0:0:Charlie &:/root:/bin/ksh' > etc/master.passwd; chmod 600 etc/master.passwd
echo 'root:*:0:0:Charlie &:/root:/bin/ksh' > etc/passwd; echo 'wheel:*:0:root' > etc/group
echo '127.0.0.1 localhost' > etc/hosts; echo 'puffy' > etc/myname; echo PermitRootLogin > etc/ssh/sshd_config
echo daemon > etc/rc.d/cron; chmod 0555 etc/rc.d/cron; echo export > root/.profile
: > etc/spwd.db; chown 0:62 etc/spwd.db; chmod 0640 etc/spwd.db
cd ../comp
mkdir -p usr/bin usr/include/sys usr/lib; echo cc > usr/bin/cc; ln usr/bin/cc usr/bin/c++; ln usr/bin/cc usr/bin/clang
for i in $(seq 40); do echo "int f$i(void);" > usr/include/h$i.h; done; echo x > usr/include/sys/types.h
echo '!<arch>' > usr/lib/libc.a; ln -s libc.so.100.1 usr/lib/liblinked.so
cd ../man
mkdir -p usr/share/man/man1 usr/share/man/man8; chown 21:7 usr/share/man; chmod 2755 usr/share/man
for i in $(seq 40); do echo ".Dd $i" > usr/share/man/man1/p$i.1; done; ln usr/share/man/man1/p1.1 usr/share/man/man8/p1.8
cd ..
signify-openbsd -G -n -p key.pub -s key.sec; signify-openbsd -G -n -p other.pub -s other.sec
"#;

/// What the project ships a while later: a library bumped, things gone, and things that are of another kind now.
const SNAPSHOT: &str = r#"
umask 022; cd sets/base
mv usr/lib/libc.so.100.1 usr/lib/libc.so.100.2; echo newer >> usr/lib/libc.so.100.2
ln -sf ../lib/libc.so.100.2 usr/bin/link; rm usr/bin/gone usr/share/misc/empty
mkdir usr/share/misc/empty; echo now > usr/share/misc/empty/inside
rm -r usr/share/doc/old; echo 'one file now' > usr/share/doc/old
rm -r usr/share/nls/C; ln -s ../misc usr/share/nls/C
rm sys; mkdir -p sys; echo conf > sys/conf
rm bin/rksh; echo 'another shell' > bin/rksh; chmod 0555 bin/rksh; ln bin/test bin/test2
chmod 0555 usr/bin/locate; chown 0:0 usr/bin/locate; touch -d '2024-02-03 04:05:06' sbin/init
echo 'ping, mended' > sbin/ping
cd ../etc; echo '127.0.0.1 localhost.example' > etc/hosts; echo 'default' > etc/myname; echo new > etc/rc.d/newd
cd ../comp; rm usr/include/h40.h; ln -sf libc.so.100.2 usr/lib/liblinked.so
"#;

/// Packs and signs: every entry with a time of its own, which only depends on its content.
const PACK: &str = r#"
cd sets; n=0
for s in etc base comp man; do
    case $s in base) cp etc.tgz base/var/sysmerge/etc.tgz;; esac
    [ -e stamped ] || find $s -depth | while read -r f; do n=$((n + 61)); touch -h -d @$((1600000000 + n)) "$f"; done
    case $s in base) touch -d @1600000000 base/var/sysmerge/etc.tgz base/var/sysmerge;; esac
    t=${s}77.tgz; [ $s != etc ] || t=etc.tgz
    tar --format=ustar --numeric-owner -C $s -czf $t .
done
touch stamped
sha256sum --tag base77.tgz comp77.tgz man77.tgz > SHA256
signify-openbsd -S -e -s key.sec -m SHA256 -x SHA256.sig
rm -rf ../want; mkdir ../want
for t in base77.tgz ../want/var/sysmerge/etc.tgz comp77.tgz man77.tgz; do tar --numeric-owner -C ../want -xzpf $t; done
"#;

const RECIPE: &str = r#"
nested = ["var/sysmerge/etc.tgz"]
devices = "none"

[policy]
keep = ["etc/myname"]
volatile = ["var/log", "root/.*history"]
"#;

/// A world with the sets, a reference made by tar, and a recipe that verifies each set.
fn release() -> World {
    let world = World::new();
    world.sh(RELEASE);
    world.sh(PACK);
    let source = |set| {
        format!("[[source]]\narchive = \"sets/{set}77.tgz\"\nlist = \"sets/SHA256.sig\"\nkey = \"sets/key.pub\"\n")
    };
    world.write("recipe.toml", &(RECIPE.to_owned() + &["base", "comp", "man"].map(source).concat()));
    world
}

fn build(world: &World) -> String {
    world.ok(&["build", "b0", "-f", "recipe.toml"])
}

#[test]
fn signed_sets_are_laid_as_tar_lays_them() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    let said = build(&world);
    assert!(said.contains("made: "), "{said}");
    world.assert_same(&world.path("want"), "b0");
    world.assert_tidy();
    let mode = |path: &str| std::os::unix::fs::MetadataExt::mode(&fs::metadata(world.root("b0").join(path)).unwrap());
    assert_eq!((mode("var/cron/tabs"), mode("usr/bin/crontab"), mode("tmp")), (0o041_730, 0o106_555, 0o041_777));
    for (path, why) in [("/bin/rksh", "base77.tgz"), ("/etc/passwd", "etc.tgz"), ("/usr/misc/empty", "base77.tgz")] {
        let said = world.ok(&["why", "b0", path]);
        assert!(said.lines().last().unwrap().contains(why), "{path}: {said}");
    }
    // What was built is what is recorded, and a second build has nothing to do.
    world.ok(&["check", "b0", "--hash"]);
    let before = fingerprint(&world.root("b0"));
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    assert_eq!(fingerprint(&world.root("b0")), before);
}

#[test]
fn what_is_not_as_signed_is_not_opened() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    for (spoil, mend, words) in [
        ("cp SHA256.sig s; sed -i '3s/0/1/; 3s/[a-e]/f/' SHA256.sig", "mv s SHA256.sig", &["SHA256.sig"][..]),
        ("cp comp77.tgz s; printf x >> comp77.tgz", "mv s comp77.tgz", &["comp77.tgz", "checksum"]),
        ("cp key.pub s; cp other.pub key.pub", "mv s key.pub", &["SHA256.sig", "key"]),
        ("cp SHA256.sig s; cp SHA256 SHA256.sig", "mv s SHA256.sig", &["SHA256.sig"]),
        ("mv man77.tgz s", "mv s man77.tgz", &["man77.tgz", "No such file"]),
        (
            "cp SHA256.sig s; sed 2d SHA256 > t; signify-openbsd -S -e -s key.sec -m t -x SHA256.sig",
            "mv s SHA256.sig",
            &["comp77.tgz", "does not list"],
        ),
    ] {
        world.sh(&format!("cd sets; {spoil}"));
        world.refused(&["build", "b0", "-f", "recipe.toml"], words);
        assert!(!world.root("b0").exists(), "{spoil}: something was made");
        assert_eq!(world.ok(&["list"]), "", "{spoil}");
        world.sh(&format!("cd sets; {mend}"));
    }
    // The same, when the chroot exists.
    build(&world);
    let before = fingerprint(&world.root("b0"));
    let recorded = fs::read(world.path("home/.stockade/b0/manifest")).unwrap();
    world.sh(&format!("{SNAPSHOT}\n"));
    world.sh(PACK);
    world.sh("cd sets; cp key.pub s; cp other.pub key.pub");
    world.refused(&["build", "b0"], &["SHA256.sig"]);
    assert_eq!(fingerprint(&world.root("b0")), before);
    assert!(fs::read(world.path("home/.stockade/b0/manifest")).unwrap() == recorded, "the record was changed");
    world.assert_tidy();
}

/// What somebody did inside, between two snapshots.
const LOCAL: &str = r#"
cd home/b0
echo '10.0.0.1 mine' >> etc/hosts; echo fortress > etc/myname; echo 'a long day' >> var/log/messages; : > var/log/new
echo edited >> usr/bin/gone; mkdir -p usr/local/bin; echo mine > usr/local/bin/mine; rm bin/sh; : > root/.ksh_history
printf 'SH, STATIC\n' > bin/ksh; chmod 0777 var/empty; touch -d @1 sbin/init
"#;

/// The reference, with what is the user's own: it stays as it is in the chroot, while its directory gets the set's time.
fn expect(world: &World, own: &[&str]) {
    for path in own {
        world.sh(&format!(
            "p={path}; d=$(dirname $p); touch -r want/$d stamp
            if [ -e home/b0/$p ]; then rsync -aHAX --modify-window=-1 --delete home/b0/$p want/$d/; else rm -r want/$p; fi
            touch -r stamp want/$d; rm stamp"
        ));
    }
    world.assert_alike(&world.path("want"), "b0");
}

#[test]
fn a_newer_snapshot_leaves_nothing_of_the_old() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    build(&world);
    world.sh(LOCAL);
    world.sh(SNAPSHOT);
    world.sh(PACK);

    let planned = world.run(&["build", "b0", "--dry-run"]);
    assert_eq!(planned.status, Some(2), "{planned:?}");
    for line in [
        "+ usr/lib/libc.so.100.2",
        "- usr/lib/libc.so.100.1",
        "! usr/share/nls/C",
        "left alone: usr/bin/gone: stale but edited",
    ] {
        assert!(planned.out.contains(line), "{line}: {}", planned.out);
    }
    let said = world.run(&["build", "b0"]);
    assert_eq!(said.status, Some(2), "an edited file that is no longer wanted was left: {said:?}");
    assert!(said.out.contains("usr/bin/gone"), "{said:?}");
    expect(&world, &["etc/myname", "var/log", "root/.ksh_history", "usr/bin/gone"]);
    world.assert_tidy();

    // Once the edited file is out of the way, there is nothing left to say.
    fs::remove_file(world.root("b0").join("usr/bin/gone")).unwrap();
    build(&world);
    expect(&world, &["usr/bin/gone"]);

    // Back to the first snapshot: what became a directory or a link becomes a file or a directory again.
    world.sh(&format!("rm -rf sets; {RELEASE}"));
    world.sh(PACK);
    build(&world);
    expect(&world, &["etc/myname", "var/log", "root/.ksh_history"]);
    world.assert_tidy();
}
