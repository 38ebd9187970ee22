// SPDX-License-Identifier: ISC
//! A synthetic release of OpenBSD: sets as they are on a mirror, in small, with programs that run here.
#![allow(dead_code, reason = "each test program uses what it needs")]

pub(crate) mod locate;

use std::fs;
use std::path::Path;

use crate::common::{Said, World};

/// What the tests need besides root.
pub(crate) const TOOLS: [&str; 7] = ["signify-openbsd", "tar", "sha256sum", "rsync", "busybox", "setfattr", "python3"];

/// The sets, unpacked: layout, owners and modes of 4.4BSD.dist; each program of the system that an action runs says so in
/// /var/log/actions and writes what the real one writes.
const SETS: &str = r#"
umask 022; mkdir sets; cd sets; mkdir base comp man etc xbase xetc xfont xshare
cd base
mkdir -p bin sbin dev tmp root mnt home altroot usr/bin usr/sbin usr/lib usr/libexec/auth usr/share/man usr/local usr/obj
mkdir -p usr/share/relink usr/share/misc var/run var/log var/tmp var/cron/tabs var/sysmerge var/empty var/games
mkdir -p var/syspatch var/db/pkg var/mail var/www/htdocs etc usr/ports usr/src usr/X11R6
chmod 1777 tmp; rmdir var/tmp; ln -s ../tmp var/tmp; chmod 0700 root var/sysmerge; chmod 0555 var/cron; chmod 0755 var/empty
chown 0:66 var/cron/tabs; chmod 1730 var/cron/tabs; chown 0:11 usr/libexec/auth; chmod 0750 usr/libexec/auth
chown 0:13 var/games; chmod 0775 var/games usr/src; chown 0:9 usr/src; chown 21:21 usr/obj; chmod 0770 usr/obj
ln -s usr/src/sys sys; ln -s /usr/share/misc/termcap etc/termcap
cp "$(command -v busybox)" bin/sh; ln bin/sh bin/ksh; echo cat > bin/cat; echo su > usr/bin/su; chmod 4555 usr/bin/su
echo ping > sbin/ping; ln sbin/ping sbin/ping6; chmod 4555 sbin/ping; echo termcap > usr/share/misc/termcap
echo libc > usr/lib/libc.so.100.1; echo libm > usr/lib/libm.so.10.1; echo libz > usr/lib/libz.so.7.0
echo ld.so > usr/libexec/ld.so; echo skey > usr/libexec/auth/login_skey; chown 0:11 usr/libexec/auth/login_skey
chmod 4555 usr/libexec/auth/login_skey; echo objects > usr/share/relink/kernel.tgz; echo gone > usr/bin/gone
mkdir etc/mtree; cat > etc/mtree/4.4BSD.dist <<'E'
#	a comment
/set type=dir uname=root gname=wheel mode=0755
.
    bin
    ..
    root		mode=0700
    ..
    tmp		mode=01777
    ..
    usr
        libexec
            auth	gname=auth mode=0750
            ..
        ..
        obj		uname=build gname=wobj mode=0770
        ..
        src		gname=wsrc mode=0775
        ..
    ..
    var
        cron	mode=0555
            tabs	gname=crontab mode=01730
            ..
        ..
        empty
        ..
        games	gname=games mode=0775
        ..
        sysmerge	mode=0700
        ..
        tmp		type=link link=../tmp
        ..
    ..
..
E
program() {
    printf '#!/bin/sh\necho "%s $*" >> /var/log/actions\n' "$1" > $2/$1; cat >> $2/$1; chmod 0555 $2/$1
}
program ldconfig sbin <<'E'
for f in /usr/lib/lib*.so.*; do echo "$f"; done > /var/run/ld.so.hints
E
program pwd_mkdb usr/sbin <<'E'
while IFS=: read -r user rest; do echo "$user"; done < /etc/master.passwd > /etc/pwd.db; echo secret > /etc/spwd.db
E
program dev_mkdb usr/sbin <<'E'
for f in /dev/*; do echo "$f"; done > /var/run/dev.db
E
program cap_mkdb usr/bin <<'E'
echo made > /etc/login.conf.db
E
program mailwrapper usr/sbin <<'E'
echo made > /etc/mail/aliases.db
E
ln -s /usr/sbin/mailwrapper usr/bin/newaliases
program makewhatis usr/sbin <<'E'
echo made > /usr/share/man/mandoc.db
E
printf '#!/bin/sh\necho "MAKEDEV $*" >> /var/log/actions\n' > dev/MAKEDEV; chmod 0555 dev/MAKEDEV bin/sh
cd ../etc
mkdir -p etc/mail etc/ssh root var/cron/tabs; chmod 0700 root; chmod 0555 var/cron; chown 0:66 var/cron/tabs
chmod 1730 var/cron/tabs
cat > etc/master.passwd <<'E'
root:*:0:0:daemon:0:0:Charlie &:/root:/bin/ksh
daemon:*:1:1::0:0:The devil himself:/root:/sbin/nologin
build:*:21:21:build:0:0:base and xenocara build:/var/empty:/bin/ksh
_dpb:*:54:54::0:0:dpb privsep:/var/empty:/sbin/nologin
_pbuild:*:55:55:pbuild:0:0:dpb build user:/nonexistent:/sbin/nologin
_pfetch:*:56:56::0:0:dpb fetch user:/nonexistent:/sbin/nologin
www:*:67:67::0:0:HTTP Server:/var/www:/sbin/nologin
E
awk -F: -v OFS=: '{print $1,"*",$3,$4,$8,$9,$10}' etc/master.passwd > etc/passwd; chmod 0600 etc/master.passwd
printf '%s\n' wheel:*:0:root daemon:*:1: wsrc:*:9: auth:*:11: games:*:13: wobj:*:21: _dpb:*:54: _pbuild:*:55: \
    _pfetch:*:56: crontab:*:66: www:*:67: > etc/group
echo 'default:path=/usr/bin' > etc/login.conf; echo 'root: me' > etc/mail/aliases; echo 'Port 22' > etc/ssh/sshd_config
echo '127.0.0.1 localhost' > etc/hosts; echo 'default motd' > etc/motd; echo 'export PATH' > root/.profile
: > var/cron/tabs/root; chmod 0600 var/cron/tabs/root
cd ../comp; mkdir -p usr/bin usr/include usr/lib; echo cc > usr/bin/cc; ln usr/bin/cc usr/bin/clang
for i in $(seq 30); do echo "int f$i(void);" > usr/include/h$i.h; done; echo '!<arch>' > usr/lib/libc.a
cd ../man; mkdir -p usr/share/man/man1; for i in $(seq 30); do echo ".Dd $i" > usr/share/man/man1/p$i.1; done
echo shipped > usr/share/man/mandoc.db
cd ../xbase; mkdir -p usr/X11R6/bin usr/X11R6/lib var/sysmerge; chmod 0700 var/sysmerge
echo xterm > usr/X11R6/bin/xterm; echo libX11 > usr/X11R6/lib/libX11.so.18.0
cd ../xetc; mkdir -p etc/X11; echo xinitrc > etc/X11/xinitrc
cd ../xfont; mkdir -p usr/X11R6/lib/X11/fonts; echo fixed > usr/X11R6/lib/X11/fonts/fixed
cd ../xshare; mkdir -p usr/X11R6/include; echo X.h > usr/X11R6/include/X.h
cd ..; signify-openbsd -G -n -p key.pub -s key.sec; signify-openbsd -G -n -p other.pub -s other.sec
"#;

/// What the project ships a while later: a library bumped, a file gone, defaults of /etc changed.
const SNAPSHOT: &str = r#"
cd sets/base
rm usr/lib/libc.so.100.1; echo libc2 > usr/lib/libc.so.100.2; rm usr/bin/gone; echo 'cat 2' > bin/cat
cd ../etc; echo 'Port 2222' > etc/ssh/sshd_config; echo 'a newer motd' > etc/motd; echo 'root: you' > etc/mail/aliases
echo '_new:*:99:99::0:0:new:/var/empty:/sbin/nologin' >> etc/master.passwd
echo '_new:*:99:99:new:/var/empty:/sbin/nologin' >> etc/passwd; echo '_new:*:99:' >> etc/group
"#;

/// Packs and signs the sets, and lays them over one another in `want` as tar(1) does.
const PACK: &str = r#"
cd sets; n=0
for s in etc base comp man xetc xbase xfont xshare; do
    case $s in base) cp etc.tgz base/var/sysmerge;; xbase) cp xetc.tgz xbase/var/sysmerge;; esac
    find $s -depth -newer stamped 2>/dev/null | while read -r f; do
        n=$((n + 61)); touch -h -d @$((1700000000 + n)) "$f"
    done
    t=${s}77.tgz; case $s in etc|xetc) t=$s.tgz;; esac
    tar --format=ustar --numeric-owner -C $s -czf $t .
done
touch -d @1700009000 stamped
sha256sum --tag *77.tgz | sort > SHA256
signify-openbsd -S -e -s key.sec -m SHA256 -x SHA256.sig
"#;

/// A world with the release in `sets`.
pub(crate) fn release() -> World {
    let world = World::new();
    world.sh(SETS);
    world.sh("cd sets; touch -d @1 stamped");
    pack(&world);
    world
}

/// Makes a newer release of it.
pub(crate) fn snapshot(world: &World) {
    world.sh(SNAPSHOT);
    pack(world);
}

/// Packs the sets as they are now.
pub(crate) fn pack(world: &World) {
    world.sh(PACK);
    locate_databases(world);
}

/// What mklocatedb would make of the sets, in `sets/src.db` and `sets/xorg.db`.
fn locate_databases(world: &World) {
    for (database, sets) in [("src.db", &["base", "comp", "etc", "man"][..]), ("xorg.db", &["xbase", "xetc", "xfont"])]
    {
        let mut lines = Vec::new();
        for set in sets {
            let found = world.sh(&format!("cd sets/{set}; find . -mindepth 1 | sed s,^.,{set}77:,"));
            lines.extend(found.lines().map(|line| line.as_bytes().to_vec()));
        }
        lines.sort();
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        fs::write(world.path("sets").join(database), locate::encode(&lines, i32::to_be_bytes)).unwrap();
    }
}

/// Lays the sets in `want`, as an administrator does by hand, then runs `more` there.
pub(crate) fn by_hand(world: &World, sets: &[&str], more: &str) {
    world.sh("rm -rf want; mkdir want");
    for set in sets {
        world.sh(&format!("tar --numeric-owner -C want -xzpf sets/{set}77.tgz"));
        let nested = match *set {
            "base" => "etc",
            "xbase" => "xetc",
            _ => continue,
        };
        world.sh(&format!("tar --numeric-owner -C want -xzpf want/var/sysmerge/{nested}.tgz"));
    }
    world.sh(&format!("umask 022; cd want; {more}"));
}

/// Reads the mtree(8) specification of the chroot `name` by itself, and says in what its directories are otherwise.
pub(crate) fn against_mtree(world: &World, name: &str) -> String {
    let script = r#"
import os, stat, sys
root = sys.argv[1]
ids = {k: {l.split(':')[0]: int(l.split(':')[2]) for l in open(f'{root}/etc/{f}')} for k, f in (('uname', 'passwd'), ('gname', 'group'))}
default, path, seen = {}, [], 0
for line in open(f'{root}/etc/mtree/4.4BSD.dist'):
    words = line.split()
    if not words or words[0].startswith('#'):
        continue
    if words[0] == '/set':
        default = dict(w.split('=') for w in words[1:])
        continue
    if words[0] == '..':
        path.pop()
        continue
    path.append(words[0])
    want = default | dict(w.split('=') for w in words[1:])
    at, seen = os.path.join(root, *path), seen + 1
    s = os.lstat(at)
    if want['type'] == 'link':
        good = stat.S_ISLNK(s.st_mode) and os.readlink(at) == want['link']
    else:
        found = (stat.S_ISDIR(s.st_mode), stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid)
        good = found == (True, int(want['mode'], 8), ids['uname'][want['uname']], ids['gname'][want['gname']])
    if not good:
        print(at, oct(s.st_mode), s.st_uid, s.st_gid, want)
print(seen)
"#;
    let mut command = std::process::Command::new("python3");
    let said = Said::of(command.args(["-c", script]).arg(world.root(name)).output().unwrap());
    assert_eq!((said.status, &*said.err), (Some(0), ""), "the reader of mtree");
    said.out
}

/// The devices that a Linux kernel knows, as a list of its own.
pub(crate) const DEVICES: &str = r#"
mkdir -m 755 dev/pts; mkdir -m 1777 dev/shm; chmod 1777 dev/shm
mk() { mknod -m $1 dev/$2 c $3 $4; chgrp $5 dev/$2; touch -d @0 dev/$2; }
mk 600 console 5 1 0; mk 666 full 1 7 0; mk 666 null 1 3 0; mk 666 ptmx 5 2 5; mk 666 random 1 8 0; mk 666 tty 5 0 5
mk 666 urandom 1 9 0; mk 666 zero 1 5 0
ln -s /proc/self/fd dev/fd; for n in 0.stdin 1.stdout 2.stderr; do ln -s /proc/self/fd/${n%.*} dev/${n#*.}; done
touch -h -d @0 dev/fd dev/stdin dev/stdout dev/stderr
"#;

/// What rsync would change in the chroot `name` to make it like `want`, `except` these paths; directories' times do not
/// count: making things by hand moves them.
pub(crate) fn differences(world: &World, name: &str, except: &[&str]) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let mut command = std::process::Command::new("rsync");
    command.args(["-aHAXcnOi", "--delete", "--numeric-ids", "--modify-window=-1"]);
    command.args(except.iter().map(|path| format!("--exclude=/{path}")));
    let said = Said::of(command.args([slash(&world.path("want")), slash(&world.root(name))]).output().unwrap());
    assert_eq!((said.status, &*said.err), (Some(0), ""), "rsync");
    said.out
}
