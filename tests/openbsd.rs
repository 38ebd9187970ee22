// SPDX-License-Identifier: ISC
//! The recipes of OpenBSD, built on Linux out of a synthetic release and compared with what an administrator makes by hand.

mod common;
mod openbsd_release;

use std::fs;

use common::{World, able};
use openbsd_release::{DEVICES, TOOLS, against_mtree, by_hand, differences, pack, release, snapshot};

/// Taken from the host, or written by actions.
const NOT_OF_SETS: [&str; 9] = [
    "etc/resolv.conf",
    "etc/hosts",
    "etc/localtime",
    "etc/installurl",
    "etc/*.db",
    "etc/mail/aliases.db",
    "usr/share/man/mandoc.db",
    "var/run/*",
    "var/log/actions",
];

/// On Linux a session mounts on this.
const MOUNTED_ON: [&str; 1] = ["proc"];

/// The recipe `name`, with the sets and the key of the test's release, and what its programs need to run on Linux.
fn recipe(world: &World, name: &str, more: &str) {
    let points = MOUNTED_ON.map(|path| format!("[[make]]\npath = \"{path}\"\n")).concat();
    let from = "[[source]]\nsets = []\ndirectory = \"sets\"\nkey = \"sets/key.pub\"\n";
    world.write(&format!("{name}.toml"), &format!("extends = \"{name}\"\n{more}\n{points}{from}"));
}

/// A world with the release, and the chroot b0 built of it by the recipe `name` with `more`; the log is empty.
fn built(name: &str, more: &str) -> World {
    let world = release();
    recipe(&world, name, more);
    build(&world, name);
    log(&world);
    world
}

fn build(world: &World, name: &str) -> String {
    world.ok(&["build", "b0", "-f", &format!("{name}.toml")])
}

/// What the actions said since this was asked last.
fn log(world: &World) -> Vec<String> {
    let path = world.root("b0").join("var/log/actions");
    let text = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, "").unwrap();
    text.lines().map(str::to_owned).collect()
}

const BUILD: [&str; 3] = ["base", "comp", "man"];

/// All actions of a new chroot, in their order: who wants databases of login.conf and aliases makes them once.
const ACTIONS: [&str; 4] = [
    "ldconfig /usr/lib /usr/X11R6/lib /usr/local/lib",
    "pwd_mkdb -p -d /etc /etc/master.passwd",
    "dev_mkdb ",
    "makewhatis /usr/share/man",
];

const DOAS: &str = r"mkdir proc; printf 'permit nopass keepenv :wheel\npermit nopass keepenv root\n' > etc/doas.conf; chmod 600 etc/doas.conf; touch -d @0 etc/doas.conf";

#[test]
fn a_place_to_build_in() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    recipe(&world, "openbsd-build", "");
    let planned = world.ok(&["build", "b0", "-f", "openbsd-build.toml", "--dry-run"]);
    assert!(planned.contains("actions to run: ldconfig-hints, pwd_mkdb, dev_mkdb, makewhatis\n"), "{planned}");
    let said = build(&world, "openbsd-build");
    assert!(said.contains("actions run: ldconfig-hints, pwd_mkdb"), "{said}");
    assert_eq!(log(&world), ACTIONS);
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}"));
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    assert_eq!(against_mtree(&world, "b0"), "16\n");
    let read = |path: &str| fs::read_to_string(world.root("b0").join(path)).unwrap();
    assert_eq!(read("var/run/ld.so.hints"), "/usr/lib/libc.so.100.1\n/usr/lib/libm.so.10.1\n/usr/lib/libz.so.7.0\n");
    assert_eq!(read("etc/pwd.db").lines().count(), 7);
    assert_eq!(read("etc/hosts"), fs::read_to_string("/etc/hosts").unwrap());
    // Nothing changed: nothing runs.
    let said = build(&world, "openbsd-build");
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(log(&world), Vec::<String>::new());
    world.ok(&["check", "b0"]);
    world.assert_tidy();
}

#[test]
fn a_newer_snapshot_and_what_was_edited() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-build", "");
    world.sh(
        "cd home/b0; : > etc/login.conf.db; : > etc/mail/aliases.db; $STOCKADE build b0; : > var/log/actions
        echo 'mine' > etc/motd; echo 'Port 23' >> etc/ssh/sshd_config; echo tuned >> etc/login.conf
        echo x > usr/bin/unknown; mkdir -p usr/local/bin; echo x > usr/local/bin/mine; echo alias >> root/.profile
        echo 'me:*:1000:1000::0:0:me:/home/me:/bin/ksh' >> etc/master.passwd; echo 'me:*:1000:1000:me:/home/me:/bin/ksh' >> etc/passwd
        echo 'edited' > bin/cat",
    );
    snapshot(&world);
    let planned = world.run(&["build", "b0", "--dry-run"]);
    assert!(planned.out.contains("actions to run: ldconfig-hints, pwd_mkdb, newaliases\n"), "{planned:?}");
    let said = world.run(&["build", "b0"]);
    // Edited here, and changed there: named, and left.
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains("left alone: etc/motd: edited\n"), "{said:?}");
    assert!(said.out.contains("left alone: etc/ssh/sshd_config: edited\n"), "{said:?}");
    assert!(!said.out.contains("login.conf") && !said.out.contains(".profile"), "{said:?}");
    let ran: Vec<String> = log(&world).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(ran, ["ldconfig", "pwd_mkdb", "mailwrapper"]);
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}"));
    world
        .sh("for p in etc/motd etc/ssh/sshd_config etc/login.conf root/.profile usr/local etc/passwd etc/master.passwd
        do rsync -aR home/b0/./$p want/; done");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    let read = |path: &str| fs::read_to_string(world.root("b0").join(path)).unwrap();
    for (path, has) in [
        ("var/run/ld.so.hints", "libc.so.100.2"),
        ("etc/passwd", "me:*:1000:"),
        ("etc/passwd", "_new:*:99:"),
        ("etc/master.passwd", "me:*:1000:"),
        ("etc/master.passwd", "_new:*:99:99::0:0:new:"),
        ("etc/motd", "mine"),
        ("etc/login.conf", "tuned"),
        ("etc/pwd.db", "me"),
    ] {
        assert!(read(path).contains(has), "{path}: {}", read(path));
    }
    world.assert_tidy();
}

#[test]
fn what_is_made_in_etc_stays_and_a_newer_time_is_no_conflict() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-build", "");
    // Made inside; edited, where the default only gets another time; edited to what will be the default; touched.
    world.sh(
        "cd home/b0; mkdir etc/own root/bin; echo mine > etc/own/file; echo mine > root/bin/tool; echo '* * * * *' > var/cron/tabs/me
        ln -s own/file etc/link; touch -h -d @1700000000 etc/link; echo tuned >> etc/login.conf; echo 'Port 2222' > etc/ssh/sshd_config; touch etc/mail/aliases
        mkdir usr/own; echo x > usr/own/file; rsync -aR etc/own etc/link root/bin var/cron/tabs/me etc/login.conf ../../own",
    );
    world.sh("touch sets/etc/etc/login.conf sets/etc/root/.profile");
    snapshot(&world);
    let said = world.ok(&["build", "b0"]);
    assert!(!said.contains("left alone"), "{said}");
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}"));
    world.sh("rsync -a own/ want/");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    // What a newer release brings in the place of something of one's own is left out, and named.
    world.sh("echo theirs > sets/etc/etc/link; echo more >> sets/etc/etc/motd");
    pack(&world);
    let said = world.run(&["build", "b0"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains("left alone: etc/link: edited\n"), "{said:?}");
    assert_eq!(world.sh("readlink home/b0/etc/link"), "own/file\n");
    world.assert_tidy();
}

#[test]
fn makedev_follows_its_source_and_devices_stay_devices() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-build", "");
    world.sh("cd home/b0/dev; rm null zero; echo x > null; mknod zero c 1 3; chown 9 tty; echo log > own");
    let said = world.run(&["check", "b0"]);
    let shown: Vec<&str> = said.out.lines().filter(|line| line.contains("dev/")).collect();
    assert_eq!(shown.len(), 2, "{said:?}");
    assert!(shown[0].starts_with("! dev/null") && shown[1].contains(" dev/zero"), "{said:?}");
    world.sh("echo newer >> sets/base/dev/MAKEDEV");
    snapshot(&world);
    world.ok(&["build", "b0"]);
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}\nchown 9 dev/tty; rsync -a ../home/b0/dev/own dev/"));
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    world.ok(&["check", "b0"]);
    world.assert_tidy();
}

#[test]
fn an_action_that_fails_is_due_again() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-build", "");
    world.sh(": > home/b0/etc/login.conf.db; $STOCKADE build b0; : > home/b0/var/log/actions");
    // Each reads something that changed; the second fails.
    world.sh(
        r#"cd sets; echo libz2 > base/usr/lib/libz.so.7.1; echo '_x:*:98:98::0:0:x:/:/sbin/nologin' >> etc/etc/master.passwd
        echo more >> etc/etc/login.conf; printf '#!/bin/sh\necho out of luck >&2; exit 3\n' > base/usr/sbin/pwd_mkdb"#,
    );
    world.sh("cd sets; tar --numeric-owner -C etc -czf base/var/sysmerge/etc.tgz .; tar --numeric-owner -C base -czf base77.tgz .
        sha256sum --tag *77.tgz > SHA256; signify-openbsd -S -e -s key.sec -m SHA256 -x SHA256.sig");
    world.refused(
        &["build", "b0"],
        &["action pwd_mkdb", "/usr/sbin/pwd_mkdb", "out of luck", "actions = [\"-pwd_mkdb\"]"],
    );
    let ran =
        |world: &World| log(world).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ran(&world), ["ldconfig"]);
    world.refused(&["build", "b0"], &["action pwd_mkdb"]);
    assert_eq!(ran(&world), Vec::<String>::new(), "what ran is done with, what comes later waits");
    // Left out, the others go on.
    recipe(&world, "openbsd-build", "actions = [\"-pwd_mkdb\"]");
    build(&world, "openbsd-build");
    assert_eq!(ran(&world), ["cap_mkdb"]);
    // A program that is not there is nothing to run.
    world.sh("cd sets; rm base/usr/sbin/pwd_mkdb; tar --numeric-owner -C base -czf base77.tgz .
        sha256sum --tag *77.tgz > SHA256; signify-openbsd -S -e -s key.sec -m SHA256 -x SHA256.sig");
    recipe(&world, "openbsd-build", "");
    build(&world, "openbsd-build");
    assert_eq!(ran(&world), Vec::<String>::new());
    world.assert_tidy();
}

#[test]
fn what_an_action_made_and_is_gone_is_made_again() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-build", "");
    let ran = || log(&world).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    for (gone, again) in [
        ("etc/spwd.db", &["pwd_mkdb"][..]),
        ("var/run/ld.so.hints var/run/dev.db", &["ldconfig", "dev_mkdb"]),
        ("usr/share/man/mandoc.db etc/pwd.db", &["pwd_mkdb", "makewhatis"]),
    ] {
        world.sh(&format!("cd home/b0; rm {gone}"));
        build(&world, "openbsd-build");
        assert_eq!(ran(), again, "{gone}");
        world.sh(&format!("cd home/b0; ls {gone}"));
        assert!(build(&world, "openbsd-build").contains("nothing to do"), "{gone}");
    }
    // Nobody asked for these: programs read the texts. Where one is there, it follows its text.
    assert_eq!(world.sh("cd home/b0/etc; ls *.db mail"), "pwd.db\nspwd.db\n\nmail:\naliases\n");
    world.sh("cd home/b0/etc; : > login.conf.db; : > mail/aliases.db");
    build(&world, "openbsd-build");
    assert_eq!(ran(), ["cap_mkdb", "mailwrapper"]);
    world.sh("test -s home/b0/etc/login.conf.db; rm home/b0/etc/login.conf.db");
    build(&world, "openbsd-build");
    assert_eq!(ran(), [""; 0]);
    world.assert_tidy();
}

#[test]
fn passwd_that_an_action_writes_anew_is_as_built() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    world.sh("cd sets/base/usr/sbin; chmod u+w pwd_mkdb; printf 'cp /etc/passwd /etc/ptmp; mv /etc/ptmp /etc/passwd\\n' >> pwd_mkdb");
    pack(&world);
    recipe(&world, "openbsd-build", "");
    build(&world, "openbsd-build");
    world.ok(&["check", "b0"]);
    snapshot(&world);
    build(&world, "openbsd-build");
    world.ok(&["check", "b0", "--hash"]);
    assert!(build(&world, "openbsd-build").contains("nothing to do"));
}

#[test]
fn an_action_that_is_stopped_ends_and_is_due_again() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-build", "");
    world.sh("cd sets/base/usr/sbin; cp pwd_mkdb ../../../keep; chmod u+w pwd_mkdb; printf 'sleep 1000\\necho late > /late\\n' >> pwd_mkdb");
    snapshot(&world);
    let mut build = world.stockade(&["build", "b0"]);
    let build = build.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let begun = || fs::read_to_string(world.root("b0").join("var/log/actions")).unwrap().contains("pwd_mkdb");
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    world.sh(&format!("kill -INT {}", build.id()));
    let said = build.wait_with_output().unwrap();
    let said = (said.status.code(), String::from_utf8(said.stderr).unwrap());
    assert!(
        said.0 == Some(1) && said.1.contains("stopped by the user; action pwd_mkdb is still to be done"),
        "{said:?}"
    );
    log(&world);
    world.sh("cat sets/keep > sets/base/usr/sbin/pwd_mkdb");
    pack(&world);
    world.ok(&["build", "b0"]);
    assert_eq!(log(&world), ["pwd_mkdb -p -d /etc /etc/master.passwd"]);
    assert!(!world.root("b0").join("late").exists());
    world.assert_tidy();
}

#[test]
fn sets_are_one_release_and_signed() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    recipe(&world, "openbsd-build", "");
    for (spoil, mend, words) in [
        ("mv SHA256.sig s", "mv s SHA256.sig", &["nobody signed the sets", "--unsigned"][..]),
        ("cp key.pub s; cp other.pub key.pub", "mv s key.pub", &["SHA256.sig", "key"]),
        ("cp base77.tgz s; echo x >> base77.tgz", "mv s base77.tgz", &["base77.tgz", "checksum"]),
        ("cp man77.tgz man76.tgz", "rm man76.tgz", &["two releases lie there"]),
        ("mv comp77.tgz s", "mv s comp77.tgz", &["there is no set comp"]),
        // Nobody writes to it: it must not be waited for.
        ("mv man77.tgz s; mkfifo man77.tgz", "mv s man77.tgz", &["man77.tgz", "it is no regular file"]),
    ] {
        world.sh(&format!("cd sets; {spoil}"));
        world.refused(&["build", "b0", "-f", "openbsd-build.toml"], words);
        assert!(!world.root("b0").exists(), "{spoil}: something was made");
        world.sh(&format!("cd sets; {mend}"));
    }
    recipe(&world, "openbsd-build", "release = \"9.9\"\n");
    world.refused(&["build", "b0", "-f", "openbsd-build.toml"], &["the recipe says release 9.9", "are of 7.7"]);
    world.assert_tidy();
}

/// A web server on the directory `mirror`, until it is dropped.
struct Mirror(std::process::Child, String);

impl Mirror {
    fn of(world: &World) -> Mirror {
        use std::io::BufRead;
        let mut command = std::process::Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "-d", "mirror"]);
        world.settle(&mut command);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let mut server = command.spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.split(['(', ')']).nth(1).unwrap().trim_end_matches('/').to_owned();
        Mirror(server, url)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn sets_come_from_a_mirror() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    world.sh("mkdir -p mirror/7.7; cp -r sets mirror/7.7/amd64; rm mirror/7.7/amd64/key.*; chmod -R a+rX .");
    let mirror = Mirror::of(&world);
    let url = format!("{}/7.7/amd64/", mirror.1);
    let from = |key: &str| format!("[[source]]\nsets = []\ndirectory = \"{url}\"\nkey = \"sets/{key}.pub\"\n");
    let text = |key: &str| format!("extends = \"openbsd-build\"\n[[make]]\npath = \"proc\"\n{}", from(key));
    world.write("far.toml", &text("other"));
    world.refused(&["build", "b0", "-f", "far.toml"], &["SHA256.sig", "signed by key"]);
    world.write("far.toml", &text("key"));
    // A set that is not what was signed never has its name.
    world.sh("cd mirror/7.7/amd64; mv man77.tgz keep; cp base77.tgz man77.tgz");
    world.refused(&["build", "b0", "-f", "far.toml"], &["man77.tgz", "not what the repository lists"]);
    assert!(!world.root("b0").exists());
    world.sh("cd mirror/7.7/amd64; mv keep man77.tgz; rm xbase77.tgz");
    world.ok(&["build", "b0", "-f", "far.toml"]);
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}"));
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    let cached = world.sh("cd home/sets/*; ls; stat -c %a .");
    assert_eq!(cached, "SHA256.sig\nbase77.tgz\ncomp77.tgz\nman77.tgz\n700\n");
    // The recipe that is remembered names the mirror; what is in the cache is not fetched again.
    world.sh("rm mirror/7.7/amd64/*.tgz");
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    snapshot(&world);
    world.sh("cp sets/*77.tgz sets/SHA256.sig mirror/7.7/amd64; chmod -R a+rX mirror");
    log(&world);
    let said = world.ok(&["build", "b1", "-f", "openbsd-build", "--from", &url, "--key", "sets/key.pub", "--dry-run"]);
    assert!(said.contains("usr/lib/libc.so.100.2"), "{said}");
    world.ok(&["build", "b0"]);
    assert!(world.root("b0").join("usr/lib/libc.so.100.2").exists());
    world.refused(&["build", "b0", "--unsigned"], &["not trusted without a signature", "--from"]);
    drop(mirror);
    world.refused(&["build", "b0"], &["fetching failed"]);
    world.sh("rm -r home/sets");
    world.assert_tidy();
}

/// Every entry that the recipe for ports adds: what proot makes for these users.
const PORTS: &str = r"
mkdir -p usr/ports/distfiles/build-stats usr/ports/logs usr/ports/packages usr/ports/plist usr/ports/pobj/locks
chown 56:56 usr/ports/distfiles; chown 55:55 usr/ports/distfiles/build-stats usr/ports/logs usr/ports/packages
chown -R 55:55 usr/ports/plist usr/ports/pobj
printf '# Made by stockade: put changes into the recipe.\n\nPORTS_PRIVSEP = Yes\nSUDO = doas\n' > etc/mk.conf
touch -d @0 etc/mk.conf";

#[test]
fn a_place_to_build_ports_in() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-ports", "");
    by_hand(&world, &["base", "comp", "man", "xbase", "xfont", "xshare"], &format!("{DEVICES}\n{DOAS}\n{PORTS}"));
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    // Between two bulks what was installed goes; what was fetched, built and written down stays.
    world.sh(
        "cd home/b0; mkdir -p usr/local/bin var/db/pkg/x-1; echo x > usr/local/bin/x; echo x > var/db/pkg/x-1/+CONTENTS
        echo d > usr/ports/distfiles/x.tgz; echo l > usr/ports/pobj/locks/cat.port; echo p > usr/ports/packages/x-1.tgz",
    );
    build(&world, "openbsd-ports");
    world.sh("for p in distfiles/x.tgz pobj/locks/cat.port packages/x-1.tgz; do rsync -aR home/b0/./usr/ports/$p want/; done");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    world.assert_tidy();
}

#[test]
fn a_tree_that_was_moved_and_linked_is_left_alone() {
    if !able(&TOOLS) {
        return;
    }
    let world = built("openbsd-ports", "");
    world.sh("cd home/b0; mv usr/ports home/ports; ln -s /home/ports usr/ports; rm -r home/ports/logs");
    snapshot(&world);
    for _ in 0..2 {
        let said = build(&world, "openbsd-ports");
        assert!(said.contains("left alone: 7 entries below a link that is kept\n"), "{said}");
    }
    assert_eq!(
        world.sh("cd home/b0; readlink usr/ports; ls home/ports"),
        "/home/ports\ndistfiles\npackages\nplist\npobj\n"
    );
    assert!(world.root("b0").join("usr/lib/libc.so.100.2").exists());
    world.assert_tidy();
}

#[test]
fn set_id_programs_on_a_filesystem_mounted_nosuid_are_noted() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    recipe(&world, "openbsd-build", "");
    let said = world.sh_apart(
        "mkdir -m 700 home; mount -t tmpfs -o nosuid,mode=700 tmpfs home; $STOCKADE build b0 -f openbsd-build.toml
        stat -c %a home/b0/sbin/ping; $STOCKADE build b0; $STOCKADE check b0",
    );
    let note = "note: set-id programs that get no rights, as the filesystem is mounted nosuid: 4, /sbin/ping first\n";
    assert!(said.matches(note).count() == 1 && said.contains("\n4555\n") && said.contains("nothing to do"), "{said}");
}

#[test]
fn a_place_to_build_errata_in() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    world.sh(
        "mkdir -p src/usr.sbin/httpd src2/sys/conf; echo main > src/usr.sbin/httpd/main.c; echo conf > src2/sys/conf/newvers.sh
        chown -R 21:9 src src2; tar --numeric-owner -C src -czf src.tar.gz .; tar --numeric-owner -C src2 -czf sys.tar.gz .",
    );
    let source = |name| format!("[[source]]\narchive = \"{name}.tar.gz\"\ninto = \"usr/src\"\n");
    recipe(&world, "openbsd-errata", "");
    world.sh("cat openbsd-errata.toml > own.toml");
    let own = fs::read_to_string(world.path("own.toml")).unwrap() + &source("src") + &source("sys");
    world.write("openbsd-errata.toml", &own);
    build(&world, "openbsd-errata");
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}"));
    world.sh("for s in src sys; do tar --numeric-owner -C want/usr/src -xzpf $s.tar.gz; done
        cd want/usr; chown 0:9 src; chmod 0775 src; chown 21:21 obj; chmod 0770 obj");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    // A tree that was patched and built in stays as it is.
    world.sh(
        "cd home/b0/usr; echo patched >> src/usr.sbin/httpd/main.c; mkdir obj/usr.sbin; echo o > obj/usr.sbin/main.o",
    );
    build(&world, "openbsd-errata");
    world.sh("for p in src/usr.sbin/httpd/main.c obj/usr.sbin; do rsync -aR home/b0/./usr/$p want/; done");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    world.assert_tidy();
}

#[test]
fn devices_lie_on_a_filesystem_of_their_own() {
    if !able(&["unshare"]) {
        return;
    }
    let world = World::new();
    world.write("own.toml", "devices = \"std\"\n[[make]]\npath = \"proc\"\n[[source]]\ndirectory = \"src\"\n");
    let said = world.sh_apart(
        r#"umask 022; mkdir -p src/bin src/dev src/etc; cp "$(command -v busybox)" src/bin/sh; mknod src/dev/odd c 1 3; mkdir -m 700 home
        mount -t tmpfs -o nodev,mode=700 tmpfs home
        export STOCKADE_PORTABLE=1; $STOCKADE build b0 -f own.toml; ls home/b0/dev
        mount -t tmpfs -o mode=755 tmpfs home/b0/dev
        $STOCKADE build b0; stat -c '%n %t,%T %a' home/b0/dev/null home/b0/dev/tty; readlink home/b0/dev/stdin
        echo ---; $STOCKADE build b0; $STOCKADE check b0 && echo same
        rm home/b0/dev/null; $STOCKADE run --plain b0 -- /bin/sh -c 'echo through > /dev/null && echo inside'; test -c home/b0/dev/null
        mknod home/b0/dev/tty1 c 5 0; $STOCKADE doctor b0 | grep ttyname || true"#,
    );
    let (first, later) = said.split_once("---").unwrap();
    for words in [
        "they do not work on a filesystem mounted nodev",
        "for devices, here and after each boot: mount -t tmpfs",
        "/home/b0/dev; then build again",
        "devices made in ",
        "home/b0/dev/null 1,3 666\nhome/b0/dev/tty 5,0 666\n/proc/self/fd/0\n",
    ] {
        assert!(first.contains(words), "{words}: {said}");
    }
    assert!(!later.contains("devices made") && !later.contains("for devices"), "{said}");
    assert!(later.contains("same\n") && later.contains("\ninside\n"), "{said}");
    assert!(later.contains("tty and tty1 are both 5,0"), "{said}");
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn what_is_wanted_below_a_mount_waits_until_it_is_gone() {
    if !able(&["unshare"]) {
        return;
    }
    for unknown in ["keep", "remove"] {
        let world = World::new();
        world.write(
            "own.toml",
            &format!("devices = \"std\"\n[[source]]\ndirectory = \"src\"\n[policy]\nunknown = \"{unknown}\"\n"),
        );
        let said = world.sh_apart(
            r#"umask 022; mkdir -p src/dev/sub src/proc src/sys src/tmp; echo 1 > src/dev/MAKEDEV; mkdir -m 700 home
            $STOCKADE build b0 -f own.toml; mount -t tmpfs -o mode=755 tmpfs home/b0/dev
            echo new > src/dev/sub/new; echo new > src/new; echo 2 > src/dev/MAKEDEV; $STOCKADE build b0
            cat home/b0/new; test -c home/b0/dev/null; ! test -e home/b0/dev/MAKEDEV; echo ---
            $STOCKADE build b0; $STOCKADE check b0 && echo same; $STOCKADE reset b0; $STOCKADE doctor b0 | grep /b0/dev
            echo ---; umount home/b0/dev; $STOCKADE build b0; cat home/b0/dev/sub/new home/b0/dev/MAKEDEV; $STOCKADE check b0"#,
        );
        let parts: Vec<&str> = said.split("---\n").collect();
        assert!(parts[0].contains("entries below a mount\n") && parts[0].contains("1 added, 0 removed"), "{said}");
        assert!(parts[1].contains("entries below a mount\n") && parts[1].contains("same\n"), "{said}");
        assert!(parts[1].contains("for the devices") && !parts[1].contains("neither removed"), "{said}");
        assert!(!parts[2].contains("left alone") && parts[2].contains("\nnew\n2\n"), "{said}");
    }
}

#[test]
fn what_a_web_server_sees() {
    if !able(&TOOLS) {
        return;
    }
    let world = World::new();
    world.sh("mkdir zone; echo TZ > zone/UTC");
    world.write(
        "web.toml",
        "extends = \"openbsd-web\"\n[[source]]\ndirectory = \"zone\"\ninto = \"usr/share/zoneinfo\"\n",
    );
    world.ok(&["build", "b0", "-f", "web.toml"]);
    world.sh(
        "umask 022; mkdir want; chgrp 1 want; cd want; mkdir acme bin cache cgi-bin conf htdocs logs run tmp; chgrp 1 *
        chown 67:1 cache; chmod 1700 cache; chown 0:0 tmp; chmod 1777 tmp
        mkdir -p usr/share; rsync -a /usr/share/zoneinfo usr/share/; rsync -a ../zone/ usr/share/zoneinfo/",
    );
    assert_eq!(differences(&world, "b0", &["etc"]), "");
    world.assert_tidy();
}

/// A running system in `host`: the sets by hand, with passwords, and things of its own.
fn host(world: &World) {
    by_hand(
        world,
        &["base", "comp", "man", "xbase", "xfont"],
        "sed -i 's/^root:\\*/root:$2b$10$secret/' etc/master.passwd; echo tuned >> etc/login.conf; echo own > usr/bin/own
        mkdir -p usr/local/bin; echo pkg > usr/local/bin/pkg; echo key > etc/ssh/ssh_host_rsa_key; mkfifo var/db/fifo",
    );
    world
        .sh("rm -rf host; mv want host; mkdir -p host/usr/lib/locate; cp sets/src.db sets/xorg.db host/usr/lib/locate");
}

#[test]
fn what_locate_databases_list_is_taken_from_a_system() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    host(&world);
    let locate = "locate = [\"host/usr/lib/locate/src.db\", \"host/usr/lib/locate/xorg.db\"]";
    let recipe = |sets: &str| {
        let text = format!(
            "devices = \"none\"\nactions = []\n[[make]]\npath = \"proc\"\n[[source]]\n{locate}\ndirectory = \"host\"\n{sets}"
        );
        world.write("listed.toml", &text);
    };
    recipe("");
    world.ok(&["build", "b0", "-f", "listed.toml"]);
    world.sh(
        "cp -a host want; cd want; rm -r usr/bin/own usr/local/bin etc/ssh/ssh_host_rsa_key var/db/fifo usr/lib/locate; mkdir proc
        touch -r etc/master.passwd ../stamp; sed -i 's/secret//; s/^root:[^:]*/root:*/' etc/master.passwd; touch -r ../stamp etc/master.passwd",
    );
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    // No inode of the host is in the chroot.
    let links = world.sh("cd home/b0; find . -type f -links +1 | sort | tr '\\n' ' '");
    assert_eq!(links, "./bin/ksh ./bin/sh ./sbin/ping ./sbin/ping6 ./usr/bin/cc ./usr/bin/clang ");
    let shadow = fs::read_to_string(world.root("b0").join("etc/master.passwd")).unwrap();
    assert!(shadow.starts_with("root:*:0:0:") && !shadow.contains("secret"), "{shadow}");
    // Fewer sets.
    recipe("sets = [\"base\", \"etc\"]\n");
    world.ok(&["build", "b0", "-f", "listed.toml", "--yes"]);
    world.sh("cd want; rm -r usr/bin/cc usr/bin/clang usr/include usr/lib/libc.a usr/share/man/* usr/X11R6/* etc/X11
        rm var/sysmerge/xetc.tgz");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    // A system that was built from source since has other libraries than its database says.
    world.sh("echo newer > host/usr/lib/libc.so.100.2");
    world.refused(&["build", "b0"], &["usr/lib/libc.so.100.1", "the system has libc.so.100.2", "locate database"]);
    world.sh("rm host/usr/lib/libc.so.100.2; head -c 5000 sets/src.db > host/usr/lib/locate/src.db; printf '\\035' >> host/usr/lib/locate/src.db");
    world.refused(&["build", "b0"], &["src.db", "not a locate database"]);
    world.assert_tidy();
}

#[test]
fn packages_of_a_system_come_with_what_they_require() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    host(&world);
    world.sh(
        r#"cd host; mkdir -p usr/local/lib usr/local/share/examples/tool etc/tool
        for p in tool-1.2 gmp-6.3 other-1; do mkdir var/db/pkg/$p; printf '@name %s\n@cwd /usr/local\n' $p > var/db/pkg/$p/+CONTENTS; done
        echo tool > usr/local/bin/tool; chown 0:7 usr/local/bin/tool; chmod 2755 usr/local/bin/tool; ln -s tool usr/local/bin/t
        echo libgmp > usr/local/lib/libgmp.so.11.0; echo other > usr/local/bin/other; echo key > etc/tool/key
        echo mine > etc/tool/rc; echo rc > usr/local/share/examples/tool/rc; echo tool > var/db/pkg/tool-1.2/+DESC
        echo gmp-6.3 > var/db/pkg/tool-1.2/+REQUIRING; printf 'tool-1.2\nother-1\n' > var/db/pkg/gmp-6.3/+REQUIRED_BY
        printf '%s\n' '@bin bin/tool' "@sha $(openssl sha256 -binary usr/local/bin/tool | base64)" '@size 5' bin/t '@symlink tool' \
            share/examples/tool/ share/examples/tool/rc '@sample /etc/tool/' '@sample /etc/tool/rc' '@extra /etc/tool/key' \
            >> var/db/pkg/tool-1.2/+CONTENTS
        echo '@lib lib/libgmp.so.11.0' >> var/db/pkg/gmp-6.3/+CONTENTS; echo '@bin bin/other' >> var/db/pkg/other-1/+CONTENTS"#,
    );
    world.write(
        "own.toml",
        "devices = \"none\"\n[[make]]\npath = \"proc\"\n[[source]]\nlocate = [\"host/usr/lib/locate/src.db\"]\ndirectory = \"host\"\n\
        sets = [\"base\", \"etc\"]\n[[source]]\npackages = [\"tool\"]\ndirectory = \"host\"\n",
    );
    world.ok(&["build", "b0", "-f", "own.toml"]);
    world.sh(
        "cp -a host want; cd want; rm -r usr/bin/own usr/bin/cc usr/bin/clang usr/include usr/lib/libc.a usr/share/man/* usr/X11R6/* etc/X11
        rm -r usr/local/bin/pkg usr/local/bin/other etc/ssh/ssh_host_rsa_key var/db/fifo usr/lib/locate var/sysmerge/xetc.tgz
        rm -r etc/tool/key var/db/pkg/other-1; mkdir proc; echo tool-1.2 > var/db/pkg/gmp-6.3/+REQUIRED_BY; chmod 644 var/db/pkg/gmp-6.3/+REQUIRED_BY
        touch -d @0 var/db/pkg/gmp-6.3/+REQUIRED_BY; cp -p usr/local/share/examples/tool/rc etc/tool/rc
        touch -r etc/master.passwd ../stamp; sed -i 's/^root:[^:]*/root:*/' etc/master.passwd; touch -r ../stamp etc/master.passwd",
    );
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    let hints = fs::read_to_string(world.root("b0").join("var/run/ld.so.hints")).unwrap();
    assert!(hints.contains("libc.so"), "{hints}");
    for (path, origin) in [("usr/local/bin/tool", "tool 1.2"), ("etc/tool/rc", "tool 1.2"), ("bin/cat", "listed in")] {
        let said = world.ok(&["why", "b0", path]);
        assert!(said.contains(&format!("{path}: {origin}")), "{said}");
    }
    world.refused(&["build", "b0", "--package", "tol"], &["package tol is not installed", "did you mean tool?"]);
    world.assert_tidy();
}

#[test]
fn a_configuration_of_proot_is_built() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    host(&world);
    let tail = world.path("tail");
    let at = tail.parent().unwrap().display();
    world.write("tail", "TAIL = 1\n");
    world.write(
        "proot.conf",
        &format!(
            "# ports\nchroot = {at}/home/b0\nsrcroot={at}/host\nsets = -xbase -xetc\n  -xfont -xshare\nactions = -devs -ldconfig -resolv\n\
            BUILD_USER=_pbuild\nLOCALDIR=/usr/local/work\nextra=/usr/bin/own\nextra=/proc\npreserve=/usr/kept\n\
            mkconf_lines=USE_CCACHE = Yes # mine\nmkconf_tail={at}/tail\n"
        ),
    );
    world.sh("mkdir host/proc; mkdir -m 700 home");
    let printed = world.ok(&["build", "--proot", "proot.conf", "--print-recipe"]);
    assert!(!world.root("b0").exists());
    world.write("same.toml", &printed);
    world.ok(&["build", "--proot", "proot.conf"]);
    world.sh(
        "umask 022; cp -a host want; cd want; rm -r usr/X11R6/* usr/share/man/* usr/local/bin etc/ssh/ssh_host_rsa_key
        rm -r var/db/fifo usr/lib/locate etc/X11 var/sysmerge/xetc.tgz; touch -r etc/master.passwd ../stamp
        sed -i 's/^root:[^:]*/root:*/' etc/master.passwd; touch -r ../stamp etc/master.passwd
        mkdir -p usr/ports/distfiles/build-stats usr/ports/logs usr/ports/packages usr/ports/plist usr/local/work/pobj
        mkdir usr/local/work/locks; chown 56:56 usr/ports/distfiles; chown 55:55 usr/ports/distfiles/build-stats
        chown -R 55:55 usr/ports/logs usr/ports/packages usr/ports/plist usr/local/work
        printf '# Made by stockade: put changes into the recipe.\\n\\nBUILD_USER = _pbuild\\nLOCKDIR = /usr/local/work/locks\\n' > etc/mk.conf
        printf 'PORTS_PRIVSEP = Yes\\nSUDO = doas\\nWRKOBJDIR = /usr/local/work/pobj\\n' >> etc/mk.conf
        printf '\\nUSE_CCACHE = Yes\\n\\n# %s/tail\\nTAIL = 1\\n' $(cd ..; pwd) >> etc/mk.conf; touch -d @0 etc/mk.conf",
    );
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    // Kept: what is preserved. Gone: what nobody knows. The recipe that was printed finds nothing to do.
    world.sh("cd home/b0; mkdir usr/kept; echo k > usr/kept/k; echo u > usr/unknown");
    world.ok(&["build", "b0", "-f", "same.toml"]);
    world.sh("rsync -aR home/b0/./usr/kept want/");
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    assert!(world.ok(&["build", "b0", "-f", "same.toml"]).contains("nothing to do"));
    world.write("bad.conf", "chrot = /x\n");
    world.refused(&["build", "--proot", "bad.conf"], &["bad.conf", "line 1", "did you mean `chroot`"]);
    world.write("bad.conf", "chroot=/x\n\nDISTDIR=/../x\n");
    world.refused(&["build", "--proot", "bad.conf"], &["bad.conf: line 3: DISTDIR=/../x: \"..\" in a path"]);
    world.assert_tidy();
}

#[test]
fn a_snapshot_inside_the_chroot_is_kept() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    world.sh("mkdir -m 700 home; mkdir -p home/points/proc");
    let conf = |snapshot: &str| {
        let at = world.path("home");
        let (home, snapshot) = (at.display(), world.path(snapshot));
        let text = format!(
            "chroot = {home}/b0\nsnapshot = {}\nactions = trusted_snapshot -devs -resolv\nsrcroot={home}/points\nextra=/proc\n",
            snapshot.display()
        );
        world.write("proot.conf", &text);
    };
    conf("sets");
    world.ok(&["build", "--proot", "proot.conf"]);
    // What was fetched into the chroot is still there when it was built of that, and when it is built again.
    snapshot(&world);
    world.sh("mkdir home/b0/snap; cp sets/*77.tgz sets/SHA256.sig home/b0/snap; echo x > home/b0/unknown");
    conf("home/b0/snap");
    for command in [&["build", "--proot", "proot.conf"][..], &["build", "b0"], &["reset", "b0", "--yes"]] {
        let said = world.run(command);
        assert!(matches!(said.status, Some(0 | 2)), "{said:?}");
        world.sh("for f in sets/*77.tgz sets/SHA256.sig; do cmp $f home/b0/snap/${f#*/}; done");
    }
    assert!(!world.root("b0").join("unknown").exists() && world.root("b0").join("usr/lib/libc.so.100.2").exists());
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    world.assert_tidy();
}

#[test]
fn a_signed_snapshot_is_built_by_a_configuration_of_proot() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    let at = world.path("sets");
    let sets = at.display();
    let home = world.path("home");
    let text = format!("chroot = {}/b0\nsnapshot = {sets}\nactions = -devs -resolv\nextra=/proc\n", home.display());
    world.write("proot.conf", &text);
    world.sh("mkdir -m 700 home; mkdir -p home/points/proc");
    world.refused(
        &["build", "--proot", "proot.conf"],
        &["no key openbsd-77-base.pub", "/etc/signify nor in /usr/share/signify-openbsd-keys", "--key FILE"],
    );
    world.refused(&["build", "--proot", "proot.conf", "--key", "sets/other.pub"], &["SHA256.sig", "signed by key"]);
    world.ok(&["build", "--proot", "proot.conf", "--key", "sets/key.pub"]);
    // What the actions said of themselves goes; then it is as it shall be.
    world.ok(&["build", "b0"]);
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    let printed = world.ok(&["build", "--proot", "proot.conf", "--key", "sets/key.pub", "--print-recipe"]);
    assert!(printed.contains("/sets/key.pub\""), "{printed}");
    world.refused(&["build", "b1", "-f", "openbsd-build", "--key", "sets/key.pub"], &["--from the directory"]);
    world.assert_tidy();
}

#[test]
fn copied_ports_belong_to_their_users() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    host(&world);
    let at = world.path("host");
    let at = at.parent().unwrap().display();
    world.write(
        "proot.conf",
        &format!(
            "chroot = {at}/home/b0\nsrcroot={at}/host\nactions = -devs -ldconfig -resolv copy_ports\nsets=-xbase -xetc -xfont -xshare\nignorecvs=1\n\
            PORT_USER=build\nextra=/proc\nDISTDIR=/usr/ports/dist*\n"
        ),
    );
    world.sh(
        "mkdir -m 700 home; mkdir host/proc; cd host/usr/ports; mkdir -p CVS devel/x/CVS devel/obj 'dist*/build-stats' logs/amd64 pobj/x plist
        mkdir packages; echo r > CVS/Root; echo m > devel/x/Makefile; echo e > devel/x/CVS/Entries; echo d > 'dist*/x.tgz'
        echo s > 'dist*/build-stats/amd64'; echo l > logs/amd64/x; echo o > pobj/x/x.o; echo p > plist/x; ln -s x devel/y
        chown -R 1234:1235 .; chmod 640 devel/x/Makefile",
    );
    world.ok(&["build", "--proot", "proot.conf"]);
    let found = world.sh("cd home/b0/usr; find ports -printf '%p %U:%G %m %y\\n' | LC_ALL=C sort");
    let (port, fetch, log) = ("21:21", "56:56", "55:55");
    let want = format!(
        "ports {port} 755 d\nports/devel {port} 755 d\nports/devel/obj {port} 755 d\nports/devel/x {port} 755 d\n\
        ports/devel/x/Makefile {port} 640 f\nports/devel/y {port} 777 l\nports/dist* {fetch} 755 d\n\
        ports/dist*/build-stats {log} 755 d\nports/dist*/build-stats/amd64 {log} 644 f\nports/dist*/x.tgz {fetch} 644 f\n\
        ports/logs {log} 755 d\nports/logs/amd64 {log} 755 d\nports/logs/amd64/x {log} 644 f\nports/packages {log} 755 d\n\
        ports/plist {log} 755 d\nports/plist/x {log} 644 f\nports/pobj {log} 755 d\nports/pobj/locks {log} 755 d\n"
    );
    assert_eq!(found, want);
    // What was built meanwhile stays as it is.
    world.sh("cd home/b0/usr/ports/pobj; echo new > new; chown 7:7 new");
    world.ok(&["build", "b0"]);
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    assert_eq!(world.sh("stat -c %u:%g home/b0/usr/ports/pobj/new"), "7:7\n");
    world.assert_tidy();
}

#[test]
fn sets_of_a_directory_are_a_place_to_build_in() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    // Nothing says what they are for: what they are for without a word.
    world.ok(&["build", "b0", "--from", "sets", "--key", "sets/key.pub"]);
    let recipe = fs::read_to_string(world.path("home/.stockade/b0/recipe")).unwrap();
    assert!(recipe.contains("sets = [\"base\", \"comp\", \"man\"]") && recipe.contains("etc/doas.conf"), "{recipe}");
    world.sh("cp sets/man77.tgz man76.tgz");
    let two = ["build", "b1", "--from", "sets/base77.tgz", "--from", "man76.tgz"];
    world.refused(&two, &["base77.tgz and man76.tgz are sets of two releases", "-f sets"]);
    assert!(!world.root("b1").exists());
    world.assert_tidy();
}

#[test]
fn actions_are_left_out_where_their_programs_do_not_run() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    let from = "[[source]]\nsets = []\ndirectory = \"sets\"\nkey = \"sets/key.pub\"\n";
    world.write("openbsd-build.toml", &format!("extends = \"openbsd-build\"\n{from}"));
    let said = build(&world, "openbsd-build");
    let note = "note: programs of OpenBSD do not run here, and actions are left out: ldconfig-hints, pwd_mkdb, dev_mkdb, \
        makewhatis; build it again on OpenBSD\n";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    assert!(!said.contains("actions run") && log(&world).is_empty(), "{said}");
    by_hand(&world, &BUILD, &format!("{DEVICES}\n{DOAS}; rmdir proc"));
    assert_eq!(differences(&world, "b0", &NOT_OF_SETS), "");
    assert!(world.ok(&["build", "b0"]).contains("nothing to do"));
    // Who makes room for a session means that they run, and they are still due.
    recipe(&world, "openbsd-build", "");
    let said = build(&world, "openbsd-build");
    assert!(said.contains("actions run: ldconfig-hints, pwd_mkdb") && !said.contains("left out"), "{said}");
    assert_eq!(log(&world), ACTIONS);
    world.assert_tidy();
}

#[test]
fn accounts_of_packages_come_with_them() {
    if !able(&TOOLS) {
        return;
    }
    let world = release();
    host(&world);
    world.sh(
        r#"cd host; echo '_tool:*:600:601:daemon:0:0:Tool:/var/empty:/sbin/nologin' >> etc/master.passwd
        echo '_tool:*:600:601:Tool:/var/empty:/sbin/nologin' >> etc/passwd; printf '_tool:*:601:\n_data:*:602:\n_other:*:603:\n' >> etc/group
        mkdir -p var/db/pkg/tool-1.2; echo tool > usr/local/bin/tool; chown 600:602 usr/local/bin/tool
        printf '%s\n' '@name tool-1.2' '@newgroup _data:602' '@newuser _tool:600:_tool:daemon:Tool:/var/empty:/sbin/nologin' \
            '@newuser _gone:604:_gone::Gone:/var/empty:/sbin/nologin' '@cwd /usr/local' '@bin bin/tool' > var/db/pkg/tool-1.2/+CONTENTS"#,
    );
    recipe(&world, "openbsd-build", "");
    let own = fs::read_to_string(world.path("openbsd-build.toml")).unwrap();
    build(&world, "openbsd-build");
    // They come to a chroot that there is as well as to a new one, and what was made inside stays.
    world.sh("echo '_mine:*:700:' >> home/b0/etc/group");
    world.write("openbsd-build.toml", &format!("{own}[[source]]\npackages = [\"tool\"]\ndirectory = \"host\"\n"));
    for name in ["b0", "b1"] {
        let said = world.ok(&["build", name, "-f", "openbsd-build.toml"]);
        for words in [
            "note: tool 1.2 has account _tool, group _data\n",
            "note: tool 1.2 lacks account _gone: its system has none to take; add it inside\n",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        for (file, line) in [
            ("passwd", "_tool:*:600:601:Tool:/var/empty:/sbin/nologin"),
            ("master.passwd", "_tool:*:600:601:daemon:0:0:Tool:/var/empty:/sbin/nologin"),
            ("group", "_tool:*:601:"),
            ("group", "_data:*:602:"),
        ] {
            let text = fs::read_to_string(world.root(name).join("etc").join(file)).unwrap();
            assert_eq!(text.lines().filter(|known| *known == line).count(), 1, "{name} {file} {line}: {text}");
            assert!(!text.contains("_other") && !text.contains("_gone"), "{name} {file}: {text}");
        }
    }
    assert!(fs::read_to_string(world.root("b0").join("etc/group")).unwrap().contains("_mine:*:700:"));
    assert!(world.ok(&["build", "b1"]).contains("nothing to do"));
    world.assert_tidy();
}
