// SPDX-License-Identifier: ISC
//! A fleet on one machine: errata are built once, in the one chroot that has a compiler, published as signed patches, served
//! over HTTP on loopback, and applied by roots without compilers: one of another level, one without manuals and with
//! an edited file, one on three filesystems that loses power in the middle, one without room.

mod common;

use common::{World, able};

/// What the release has: sets, as a recipe's sources. Its one program is compiled on the host.
const RELEASE: &str = r#"
mkdir -p base/usr/bin base/etc base/var/games base/usr/lib base/usr/share man/usr/share/man/man1 src/usr/src/usr.bin/hello
cd src/usr/src/usr.bin/hello
printf '#include <stdio.h>\n\nint\nmain(void)\n{\n\tprintf("helo\\n");\n\treturn 1;\n}\n' > hello.c
printf '# of the release\ngreeting=helo\n# three\n# four\n# five\nlevel=0\n# end\n' > hello.conf
printf '.Dd today\n.Nm helo\n' > hello.1
printf 'all: hello\nobj depend:\n\t:\nhello: hello.c\n\tgcc -O1 -static -o hello hello.c\ninstall:\n\tinstall -m 755 hello /usr/bin/hello\n\tinstall -m 644 hello.conf /etc/hello.conf\n\tinstall -m 644 hello.1 /usr/share/man/man1/hello.1\n\tinstall -m 600 hello.conf /var/games/hello.save\n' > Makefile
make -s hello; cp hello "$OLDPWD"/base/usr/bin/hello; rm hello; cp hello.conf "$OLDPWD"/base/etc; cp hello.1 "$OLDPWD"/man/usr/share/man/man1
install -m 600 hello.conf "$OLDPWD"/base/var/games/hello.save; cd "$OLDPWD"
printf 'root:x:0:0::/root:/bin/sh\n' > base/etc/passwd; printf 'root:x:0:\n' > base/etc/group; chmod 755 base/usr/bin/hello
printf 'VERSION_ID=5.8\n' > base/etc/os-release
for set in base man src; do find $set -depth -exec touch -h -d @1000000000 {} +; tar --sort=name --numeric-owner --owner=0 --group=0 -C $set -czf $set.tgz .; done
"#;

/// The errata: name, file, what is there and what shall be.
const ERRATA: [(&str, &str, &str, &str); 4] = [
    ("spelling", "hello.c", "helo", "hello"),
    ("status", "hello.c", "return 1", "return 0"),
    ("greeting", "hello.conf", "greeting=helo", "greeting=hello"),
    ("manual", "hello.1", "helo", "hello"),
];

fn errata(world: &World) {
    for (index, (name, file, from, to)) in ERRATA.into_iter().enumerate() {
        let number = index + 1;
        world.sh(&format!(
            "rm -rf a b; cp -r now a; cp -r now b; sed -i 's/{from}/{to}/' b/usr.bin/hello/{file}
            {{ printf '\\nOpenBSD 5.8 errata {number}, Dec {number}, 2015:\\n\\nOne of four.\\n\\nApply by doing:\\n'
            printf '    signify -Vep /etc/signify/openbsd-58-base.pub -x x.sig \\\\\\n\\t-m - | (cd /usr/src && patch -p0)\\n\\n'
            printf 'And then rebuild and install hello:\\n    cd /usr/src/usr.bin/hello\\n    make\\n    make install\\n\\n\\n'
            diff -U3 a/usr.bin/hello/{file} b/usr.bin/hello/{file} | sed -e 's|^--- a/\\([^\\t]*\\).*|Index: \\1\\n--- \\1|' -e 's|^+++ b/\\([^\\t]*\\).*|+++ \\1|'
            }} > x; signify-openbsd -S -e -s base.sec -m x -x errata/{number:03}_{name}.patch.sig; rm -r now; mv b now"
        ));
    }
}

#[test]
fn a_fleet_without_compilers_is_kept_up_to_date() {
    let tools =
        ["signify-openbsd", "make", "patch", "gcc", "mkfs.ext4", "losetup", "unshare", "strace", "python3", "rsync"];
    if !able(&tools) {
        return;
    }
    let world = World::on_disk();
    world.sh(RELEASE);
    world.sh("signify-openbsd -G -n -c base -p base.pub -s base.sec; mkdir errata out; cp -r src/usr/src now
        $STOCKADE key generate fleet-patch");
    errata(&world);
    world.write(
        "dev.toml",
        "[[source]]\npackages = [\"@base\", \"make\", \"patch\", \"gcc\", \"libc6-dev\"]\n
        [[source]]\narchive = \"base.tgz\"\n[[source]]\narchive = \"man.tgz\"\n[[source]]\narchive = \"src.tgz\"\n",
    );
    world.ok(&["build", "dev", "-f", "dev.toml"]);
    world.ok(&["errata", "dev", "errata", "--key", "base.pub", "-s", "fleet-patch.sec", "-o", "out"]);

    for (name, sets) in [("t1", &["base", "man"][..]), ("t2", &["base"]), ("t4", &["base", "man"])] {
        let sources: String = sets.iter().map(|set| format!("[[source]]\narchive = \"{set}.tgz\"\n")).collect();
        world.write(&format!("{name}.toml"), &format!("devices = \"none\"\n{sources}"));
        world.ok(&["build", name, "-f", &format!("{name}.toml")]);
    }
    world.sh_apart(FLEET);
}

/// From here on nobody needs a compiler. Everything is in a mount namespace of its own.
const FLEET: &str = r#"
alike() { test -z "$(rsync -aHAXcni --delete --modify-window=-1 --exclude=/var/db --exclude=/var/lost+found --exclude=/usr/lost+found --exclude=/lost+found $1/ $2/)" || { rsync -aHAXcni --delete --exclude=/var/db $1/ $2/; exit 1; }; }
sync() { $STOCKADE patch sync $URL --key fleet-patch.pub --apply --root "$@"; }
fails() { expected=$1; shift; "$@" > said 2>&1 && status=0 || status=$?; test $status = $expected || { cat said; echo "status $status, not $expected: $*"; exit 1; }; }

mkdir repo; chmod 755 . repo
$STOCKADE patch publish repo out/*001* out/*002* -s fleet-patch.sec --key fleet-patch.pub
python3 -u -m http.server --bind 127.0.0.1 0 -d repo > server 2>&1 & server=$!
trap 'kill $server' EXIT
until grep -q 'port ' server; do sleep 0.05; done
URL=http://127.0.0.1:$(sed -n 's/.* port \([0-9]*\) .*/\1/p' server)/

# The first is at level 2 when two more come.
sync t1; fails 2 sync t1; grep -q . said || true
test "$(home/t1/usr/bin/hello)" = hello
$STOCKADE patch publish repo out/*003* out/*004* -s fleet-patch.sec --key fleet-patch.pub
sync t1
$STOCKADE patch list --root t1 | grep -c errata | grep -qx 4
$STOCKADE patch check --root t1; $STOCKADE check t1 --hash
grep -q 'Nm hello' home/t1/usr/share/man/man1/hello.1; grep -qx greeting=hello home/t1/etc/hello.conf

# The second has no manuals and its own idea of the level: the one is passed over, the other stays.
sed -i s/level=0/level=9/ home/t2/etc/hello.conf
sync t2 > said 2>&1 || { cat said; exit 1; }; grep -q 'merged: etc/hello.conf' said; grep -q 'not installed here: usr/share/man/man1/hello.1' said
grep -qx greeting=hello home/t2/etc/hello.conf; grep -qx level=9 home/t2/etc/hello.conf; test ! -e home/t2/usr/share/man
$STOCKADE patch check --root t2

# The third has / , /usr and /var on filesystems of their own, and loses power in the middle of each.
for fs in root usr var; do truncate -s 24M $fs.img; mkfs.ext4 -qO ^has_journal $fs.img; done
mkdir t3; mount -o loop root.img t3; mkdir t3/usr t3/var; mount -o loop usr.img t3/usr; mount -o loop var.img t3/var
rsync -aHAX home/t4/ t3/; cp -a home/t4 t4.old
for when in 3 9 14; do
    strace -f -qq -o log -e inject=renameat:signal=KILL:when=$when $STOCKADE patch sync $URL --key fleet-patch.pub --apply --root ./t3 > said 2>&1 || true
done
sync ./t3 > said || { test $? = 2; $STOCKADE patch list --root ./t3 | grep -c errata | grep -qx 4; }
alike home/t1 t3; ! ls -A t3 t3/usr t3/var | grep stockade-work; $STOCKADE patch check --root ./t3

# The fourth has no room, says so and stays as it is; with room it goes on.
mkdir t4; truncate -s 8M t4.img; mkfs.ext4 -qO ^has_journal t4.img; mount -o loop t4.img t4; rmdir t4/lost+found; rsync -aHAX t4.old/ t4/
dd if=/dev/zero of=t4/filler bs=64k 2> /dev/null || true; cp -a t4 t4.was
fails 1 sync ./t4; grep -q 'are free\|No space left' said; alike t4.was t4
rm t4/filler; touch -r t4.old t4; sync ./t4; alike home/t1 t4

# Two are taken back and come again.
third=$($STOCKADE patch list --root t1 | sed -n 's/^\(errata-5.8-003[^ ]*\).*/\1/p')
$STOCKADE patch undo --root t1 --to $third; grep -qx greeting=helo home/t1/etc/hello.conf; $STOCKADE check t1 --hash
sync t1; alike t3 home/t1; $STOCKADE check t1 --hash

# With base tools alone.
cp -a t4.old plain; cd repo; signify-openbsd -C -p ../fleet-patch.pub -x SHA256.sig *.tgz; for p in *.tgz; do tar xzpf $p -C ../plain; done; cd ..
test "$(plain/usr/bin/hello)" = hello; cmp plain/usr/bin/hello home/t1/usr/bin/hello
"#;
