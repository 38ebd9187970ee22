// SPDX-License-Identifier: ISC
//! `errata`: from a signed source patch to a patch, in a chroot with a compiler.

mod common;

use std::fs;

use common::data::test_data;
use common::{Said, World, able, fingerprint, skip};
use serde_json::Value;

/// A program as OpenBSD's sources have them, and what make(1) does with it there.
const SOURCES: &str = r#"
cd home/dev; mkdir -p usr/src/usr.bin/hello usr/share/man/man1; cd usr/src/usr.bin/hello
cat > hello.c <<'C'
#include <stdio.h>

int
main(void)
{
	printf("helo\n");
	return 1;
}
C
printf '.Dd today\n' > hello.1
cat > Makefile <<'M'
.PHONY: all obj depend install
all: obj/hello
obj:
	mkdir -p /usr/obj/hello; ln -sfn /usr/obj/hello obj
depend: obj
	gcc -MM hello.c > obj/.depend
obj/hello: hello.c
	gcc -O1 -o obj/hello hello.c
install:
	install -m 4511 -o root -g root obj/hello /usr/bin/hello
	install -m 444 hello.1 /usr/share/man/man1/hello.1
M
"#;
const STEPS: &str = "And then rebuild and install hello:
    cd /usr/src/usr.bin/hello
    make obj
    make depend
    make
    make install
";

/// Signs with the one key of the world, by signify(1) itself.
fn erratum(world: &World, number: u32, name: &str, steps: &str, from: &str, to: &str) -> String {
    let file = format!("{number:03}_{name}.patch");
    let text = format!(
        "\nOpenBSD 5.8 errata {number}, Dec 3, 2015:\n\nIt is spelt wrong.\n\nApply by doing:
    signify -Vep /etc/signify/openbsd-58-base.pub -x {file}.sig \\
\t-m - | (cd /usr/src && patch -p0)\n\n{steps}\n\n{}",
        diff("usr.bin/hello/hello.c", from, to)
    );
    world.write(&file, &text);
    world.sh(&format!("signify-openbsd -S -e -s base.sec -m {file} -x {file}.sig; rm {file}"));
    format!("{file}.sig")
}

fn diff(path: &str, from: &str, to: &str) -> String {
    let same = if from.contains("return") { " \tprintf(\"hello\\n\");" } else { " {" };
    let (end, line) = if from.contains("return") { (" }", 6) } else { (" \treturn 1;", 5) };
    format!(
        "Index: {path}\n{}\nRCS file: /cvs/src/{path},v\nretrieving revision 1.1\ndiff -u -p -r1.1 hello.c\n--- {path}\t1 Jan 2015 00:00:00 -0000\t1.1\n+++ {path}\t3 Dec 2015 00:00:00 -0000\n@@ -{line},3 +{line},3 @@\n{same}\n-\t{from}\n+\t{to}\n{end}\n",
        "=".repeat(67)
    )
}

fn world() -> Option<World> {
    if !able(&["signify-openbsd", "make", "patch", "gcc"]) {
        return None;
    }
    let world = World::on_disk();
    world.ok(&[
        "build",
        "dev",
        "--package",
        "make",
        "--package",
        "patch",
        "--package",
        "gcc",
        "--package",
        "libc6-dev",
    ]);
    world.sh(SOURCES);
    world.sh("signify-openbsd -G -n -c test -p base.pub -s base.sec; signify-openbsd -G -n -c other -p other.pub -s other.sec");
    Some(world)
}

fn contents(world: &World, file: &str) -> Vec<String> {
    let text = world.sh(&format!("tar xzOf {file} --wildcards '*/+CONTENTS'"));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn from_a_source_patch_to_a_patch() {
    let Some(world) = world() else { return };
    let one = erratum(&world, 1, "spelling", STEPS, "printf(\"helo\\n\");", "printf(\"hello\\n\");");
    let two = erratum(&world, 3, "status", STEPS, "return 1;", "return 0;");
    // What it would do is shown, and nothing is done.
    let before = fingerprint(&world.root("dev"));
    let shown = world.ok(&["errata", "-n", "dev", &two, &one, "--key", "base.pub"]);
    for line in [
        "errata 001, Dec 3, 2015",
        "It is spelt wrong.",
        "changes /usr/src/usr.bin/hello/hello.c",
        "does /usr/src: patch -u -N -p0",
        "does /usr/src/usr.bin/hello: make depend",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    world.refused(&["errata", "dev", &one], &["is signed by key"]);
    world.refused(&["errata", "dev", &one, "--key", "other.pub"], &["which is not other.pub"]);
    world.sh(&format!("sed s/spelt/SPELT/ {one} > 009_bad.patch.sig"));
    world.refused(&["errata", "dev", "009_bad.patch.sig", "--key", "base.pub"], &["its signature does not hold"]);
    world.sh("rm 009_bad.patch.sig");
    world.refused(
        &["errata", "dev", &two, "--key", "base.pub", "--unsigned"],
        &["number 001 comes first", "--skip 001"],
    );
    assert_eq!(fingerprint(&world.root("dev")), before);

    // In whatever order they are named; a number that the directory does not have is none.
    let said = world.ok(&["errata", "dev", &two, &one, "--key", "base.pub", "--json", "-s", "other.sec", "--delta"]);
    let made: Vec<Value> =
        said.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    let machine = world.sh("uname -m");
    let files = ["001_spelling", "003_status"].map(|name| format!("errata-5.8-{name}-{}.tgz", machine.trim()));
    for (value, file) in made.iter().zip(&files) {
        assert_eq!(value["patch"], *file);
        let changes: Vec<_> = value["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| &change["path"])
            .filter(|path| *path != "usr/bin" && *path != "usr/share/man/man1" && *path != "")
            .collect();
        assert_eq!(changes, ["usr/bin/hello", "usr/share/man/man1/hello.1"], "no source, no object");
    }
    assert_eq!(world.ok(&["run", "dev", "--", "hello"]), "hello\n");
    let differs = world.run(&["check", "dev", "--hash"]).out;
    let ours = ["+ usr/src/usr.bin/hello/Makefile", "+ usr/src/usr.bin/hello/hello.1"];
    assert_eq!(differs.lines().collect::<Vec<_>>()[..2], ours, "only what was never recorded: {differs}");
    assert_eq!(differs.lines().count(), 3);
    let first = contents(&world, &files[0]);
    for line in [
        "series errata-5.8",
        "number 1",
        "release 5.8",
        "title OpenBSD 5.8 errata 001, Dec 3, 2015",
        "note It is spelt wrong.",
    ] {
        assert!(first.contains(&line.to_owned()), "{line}: {first:?}");
    }
    let second = contents(&world, &files[1]);
    let digest = world.sh(&format!("tar xzOf {} --wildcards '*/+CONTENTS' | sha256sum | cut -c1-64", files[0]));
    let requires = format!("requires errata-5.8-001_spelling-{} {}", machine.trim(), digest.trim());
    assert!(second.contains(&requires) && second.contains(&"absent 2".to_owned()), "{requires}: {second:?}");
    // Signed, as signify itself says, and on another root by plain tar.
    world.sh(&format!("signify-openbsd -V -z -p other.pub -x {} -m plain.tgz", files[1]));
    world
        .sh(&format!("mkdir other; tar xzpf {} -C other; test \"$(stat -c %a other/usr/bin/hello)\" = 4511", files[1]));
    world.refused(&["errata", "dev", &one, "--key", "base.pub", "--unsigned"], &["recorded in this chroot before"]);
}

#[test]
fn what_fails_changes_nothing() {
    let Some(world) = world() else { return };
    let before = fingerprint(&world.root("dev"));
    let cases = [
        (
            "broken",
            "printf(\"helo\\n\");",
            "printf(\"hello\\n\"",
            STEPS,
            "001_broken: it failed with status 2: /usr/src/usr.bin/hello: make",
        ),
        ("elsewhere", "printf(\"nothing\\n\");", "x", STEPS, "it failed with status 1: /usr/src: patch -u -N -p0"),
        (
            "nowhere",
            "printf(\"helo\\n\");",
            "printf(\"hello\\n\");",
            "And then build it:\n    cd /usr/none\n    make\n",
            "usr/none",
        ),
    ];
    for (name, from, to, steps, why) in cases {
        let file = erratum(&world, 1, name, steps, from, to);
        let said = world.run(&["errata", "dev", &file, "--key", "base.pub", "--unsigned"]);
        assert!(
            said.status.is_some_and(|status| status > 0) && said.err.contains(why),
            "{name}: {}{}",
            said.out,
            said.err
        );
        assert_eq!(fingerprint(&world.root("dev")), before, "{name}");
        world.sh(&format!("rm {file}; ! ls *.tgz* 2> /dev/null"));
    }
    // Without patch(1) there is nothing to apply it with.
    world.sh("rm home/dev/usr/bin/patch");
    let file = erratum(&world, 1, "spelling", STEPS, "printf(\"helo\\n\");", "printf(\"hello\\n\");");
    world.refused(
        &["errata", "dev", &file, "--key", "base.pub", "--unsigned"],
        &["the chroot has no patch", "--package patch"],
    );
}

/// As they were before they were signed, and without any text.
#[test]
fn old_ones_and_bare_diffs() {
    let Some(world) = world() else { return };
    let change = diff("usr.bin/hello/hello.c", "printf(\"helo\\n\");", "printf(\"hello\\n\");");
    let text = format!(
        "Apply by doing:\n\tcd /usr/src\n\tpatch -p0 < 001_hello.patch\n\nAnd then rebuild and install hello:\n\tcd usr.bin/hello\n\tmake -f Makefile obj\n\tmake\n\tmake install\n\n{change}"
    );
    world.write("001_hello.patch", &text);
    world.refused(&["errata", "dev", "001_hello.patch"], &["it is not signed", "--any"]);
    world.ok(&["errata", "dev", "001_hello.patch", "--any", "--unsigned", "-o", "tmp"]);
    let machine = world.sh("uname -m");
    assert!(world.path(&format!("tmp/001_hello-{}.tgz", machine.trim())).exists());
    world.sh("rm tmp/*");
    let change = diff("x/usr.bin/hello/hello.c", "return 1;", "return 0;");
    world.write("status.patch", &change);
    world.refused(&["errata", "dev", "status.patch", "--any"], &["--into and --step"]);
    let arguments = [
        "errata",
        "dev",
        "status.patch",
        "--any",
        "--unsigned",
        "--into",
        "usr/src",
        "--strip",
        "1",
        "--step",
        "cd usr.bin/hello",
        "--step",
        "make && make install",
    ];
    world.ok(&arguments);
    assert_eq!(world.ok(&["run", "dev", "--", "hello"]), "hello\n");
    assert!(fs::read_to_string(world.root("dev").join("usr/src/usr.bin/hello/hello.c")).unwrap().contains("return 0"));
    world.refused(
        &[&arguments[..6], &["usr/src", "--step", "rm -rf /"]].concat(),
        &["an unknown command", "stockade record"],
    );
    a_source_package_of_debian(&world);
}

/// Real sources and real patches, as Debian ships them: the diffs of a source package, built in a chroot and applied to a
/// root without a compiler.
fn a_source_package_of_debian(world: &World) {
    if !able(&["apt-get", "tar"]) {
        return;
    }
    // The host's own archives, with sources, in lists of the test's own.
    let mut fetch = std::process::Command::new("sh");
    fetch.args(["-euc",
        "mkdir -p parts state/lists/partial cache/archives/partial fetched
        for file in /etc/apt/sources.list.d/*.sources; do
            test ! -e $file || sed 's/^Types:.*/Types: deb-src/' $file > parts/$(basename $file)
        done
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null | sed -n 's/^deb /deb-src /p' > parts/more.list || true
        printf 'Dir::%s;\\n' 'State \"'$PWD'/state\"' 'State::status \"/var/lib/dpkg/status\"' 'Cache \"'$PWD'/cache\"' \\
            'Etc::SourceList \"/dev/null\"' 'Etc::SourceParts \"'$PWD'/parts\"' > apt.conf
        export APT_CONFIG=$PWD/apt.conf; apt-get -qq update --error-on=any; cd fetched; apt-get -qq source --download-only tree"]);
    world.settle(&mut fetch);
    let fetched = Said::of(fetch.output().unwrap());
    if fetched.status != Some(0) {
        return skip(&format!("apt-get found no source package: {}{}", fetched.out, fetched.err));
    }
    world.sh(
        "mkdir -p home/dev/usr/src/tree patches; cd home/dev/usr/src; tar xf ../../../../fetched/tree_*.orig.tar.* -C tree --strip-components=1
        cd ../../../..; tar xf fetched/tree_*.debian.tar.* -C fetched; number=2
        for name in $(grep -v '^#' fetched/debian/patches/series); do
            cp fetched/debian/patches/$name patches/$(printf %03d $number)_$name.patch; number=$((number+1))
        done
        chown -R 0:0 home/dev/usr/src/tree",
    );
    // As the package is before them: built by hand, and on a target.
    let place = "PREFIX=/usr MANDIR=/usr/share/man CFLAGS=-O0";
    world.sh(&format!(
        "$STOCKADE record dev -- make -C /usr/src/tree install {place}; mkdir -p target/usr/bin target/usr/share/man/man1 target/etc
        cp -p home/dev/etc/passwd home/dev/etc/group target/etc
        cp -p home/dev/usr/bin/tree target/usr/bin; cp -p home/dev/usr/share/man/man1/tree.1 target/usr/share/man/man1
        cp -a target before"
    ));
    let make = format!("make install {place}");
    let (how, to) =
        (["errata", "dev", "patches", "--any", "-s", "other.sec"], ["-o", "tmp/", "--into", "usr/src/tree"]);
    let arguments = [&how[..], &to, &["--strip", "1", "--step", &make]].concat();
    world.ok(&arguments);
    let made = world.sh("cd tmp; ls");
    assert_eq!(made.lines().count(), world.sh("ls patches").lines().count(), "{made}");
    world.refused(&arguments, &["recorded in this chroot before", "another series"]);
    world.ok(&["patch", "apply", "tmp", "--key", "other.pub", "--root", "./target"]);
    world.sh("cmp home/dev/usr/bin/tree target/usr/bin/tree; cmp home/dev/usr/share/man/man1/tree.1 target/usr/share/man/man1/tree.1
        ! cmp -s before/usr/bin/tree target/usr/bin/tree; target/usr/bin/tree --version");
    let names = made.lines().map(|name| name.trim_end_matches(".tgz")).collect::<Vec<_>>();
    world.ok(&["patch", "undo", "--to", names[0], "--root", "./target"]);
    world.sh("diff -r before target -x stockade -x db -x var; rm -r tmp/* fetched parts state cache");
}

/// Sources of which a published erratum knows its own lines alone, and what make(1) and config(8) do with them.
const PUBLISHED: &str = r##"
import os, re, sys
def put(name, text):
    path = os.path.join(sys.argv[1], "usr/src", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w", encoding="latin-1").write(text)
    return path
for erratum in sys.argv[2:]:
    files, old, line = {}, None, 0
    for text in open(erratum, encoding="latin-1"):
        if found := re.match(r"--- (\S+)\t", text):
            old = files.setdefault(found[1], [])
            left = 0
        elif old is not None and (found := re.match(r"@@ -(\d+)(?:,(\d+))? ", text)):
            old += ["/* between */\n"] * (int(found[1]) - 1 - len(old))
            left = int(found[2] or 1)
        elif old is not None and left and text[0] in " -":
            old.append(text[1:])
            left -= 1
    for name, lines in files.items():
        # What an earlier one changed it has changed already.
        if not os.path.exists(os.path.join(sys.argv[1], "usr/src", name)):
            put(name, "".join(lines))
all = "obj depend all:\ninstall:\n\t"
for name in "usr.bin/ssh", "lib/libssl", "usr.sbin/smtpd":
    at = "/usr/libexec/" + os.path.basename(name)
    put(name + "/Makefile", all + "mkdir -p /usr/libexec; find . -name '*.c' | sort | xargs cat > " + at + "\n")
put("sys/arch/amd64/compile/Makefile", all + "cat /usr/src/sys/*/*.c > /bsd\n")
put("sys/arch/amd64/conf/GENERIC.MP", "")
config = "#!/bin/sh\nmkdir -p ../compile/$1 && cp ../compile/Makefile ../compile/$1\n"
os.chmod(put("../sbin/config", config), 0o755)
"##;

/// Signed errata as they were published: verified with OpenBSD's own key, applied, built, recorded, and carried to a root
/// that has no sources.
#[test]
fn published_ones() {
    let Some(dir) = test_data("errata/5.8") else { return };
    if !able(&["signify-openbsd", "make", "patch", "python3"]) {
        return;
    }
    let world = World::new();
    world.ok(&["build", "dev", "--package", "make", "--package", "patch"]);
    world.write("sources.py", PUBLISHED);
    world.sh(&format!(
        "umask 022; mkdir target made; $STOCKADE key generate fleet-patch; python3 sources.py home/dev {}/*.sig
        mkdir -p home/dev/etc/signify; cp /usr/share/signify-openbsd-keys/openbsd-5[89]-base.pub home/dev/etc/signify
        mkdir -p target/etc target/usr/libexec home/dev/usr/libexec; cp -a home/dev/etc/passwd home/dev/etc/group home/dev/etc/signify target/etc
        for f in bsd usr/libexec/ssh usr/libexec/libssl usr/libexec/smtpd; do echo old > home/dev/$f; cp -p home/dev/$f target/$f; done",
        dir.display()
    ));
    // What is shown is what is done: the machine by the name that OpenBSD has for it.
    let shown = world.ok(&["errata", "-n", "dev", dir.to_str().unwrap()]);
    assert!(shown.contains("does /usr/src/sys/arch/amd64/conf: config KERNEL"), "{shown}");
    let shown = world.ok(&["errata", "-n", "dev", dir.to_str().unwrap(), "--arch", "arm64"]);
    assert!(shown.contains("does /usr/src/sys/arch/arm64/conf: config KERNEL"), "{shown}");
    world.ok(&["clone", "dev", "linked", "--how", "copy"]);
    let record = ["errata", "dev", dir.to_str().unwrap(), "-s", "fleet-patch.sec", "-o", "made/"];
    let said = world.refused(&record, &["which kernel", "--kernel GENERIC"]);
    assert!(!said.contains("made:"), "{said}");
    let said = world.ok(&[&record[..], &["--kernel", "GENERIC.MP"]].concat());
    assert_eq!(world.sh("ls made").lines().count(), 6, "{said}");
    world.ok(&["patch", "apply", "made", "--key", "fleet-patch.pub", "--root", "./target"]);
    world.sh("for f in bsd usr/libexec/ssh usr/libexec/libssl usr/libexec/smtpd; do cmp home/dev/$f target/$f; done; test ! -e target/usr/src
        grep -q 'filt_timer_timeout_add' target/bsd");
    // A kernel that is linked at boot is not recorded: that is said, and what records it.
    world.sh("mkdir -p home/linked/usr/share/relink/kernel made2");
    let kernel = dir.join("005_kevent.patch.sig");
    let skip = ["--skip", "1", "--skip", "2", "--skip", "4"];
    let record = ["errata", "linked", kernel.to_str().unwrap(), "-s", "fleet-patch.sec", "-o", "made2/"];
    let said = world.run(&[&record[..], &["--kernel", "GENERIC.MP"], &skip].concat());
    assert_eq!(said.status, Some(2), "{said:?}");
    for words in ["nothing was installed", "note: a kernel was installed, and is not recorded", "keep = [\"bsd\"]"] {
        assert!(said.out.contains(words), "{words}: {said:?}");
    }
    assert_eq!(world.sh("ls made2"), "");
}
