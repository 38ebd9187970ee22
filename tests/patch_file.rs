// SPDX-License-Identifier: ISC
//! Patch files made of two trees, and looked into: by this program, by tar and by signify.

mod common;

use std::fs;

use common::{World, able, rsync_differences};

/// Two trees: text and programs edited, added, removed, another mode, links made and broken; whole seconds, so that
/// archives have them too. A key.
const TREES: &str = r#"
umask 022
mkdir -p before/etc before/usr/bin before/usr/sbin before/usr/lib before/usr/share/doc before/var/empty
printf 'root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n' > before/etc/passwd
printf 'root:x:0:\ndaemon:x:1:\n' > before/etc/group
echo welcome > before/etc/motd
head -c 3000000 /dev/urandom > before/usr/sbin/daemon; chmod 755 before/usr/sbin/daemon
head -c 200000 /dev/urandom > before/usr/bin/su; chmod 4755 before/usr/bin/su
head -c 100000 /dev/urandom > before/usr/lib/libx.so.1.0
for n in $(seq 50); do seq $n 900 > before/usr/share/doc/$n; done
ln before/usr/share/doc/1 before/usr/share/doc/linked
ln -s doc before/usr/share/man
find before -exec touch -h -d @1500000000 {} +
cp -a before after
echo hello > after/etc/motd
printf 'edited here' | dd of=after/usr/sbin/daemon bs=1 seek=1000000 conv=notrunc status=none
printf 'edited here' | dd of=after/usr/bin/su bs=1 seek=1000 conv=notrunc status=none
printf 'edited here' | dd of=after/usr/lib/libx.so.1.0 bs=1 seek=1000 conv=notrunc status=none
rm after/usr/share/doc/2 after/usr/share/man; ln -s ../doc after/usr/share/man
sed -i s/^100$/hundred/ after/usr/share/doc/linked
chmod 600 after/usr/share/doc/3; chown 1:1 after/usr/share/doc/3
mkdir after/usr/new; seq 5 > after/usr/new/file; ln after/usr/new/file after/usr/new/twin
find after -newermt @1500000001 -exec touch -h -d @1600000000 {} +
$STOCKADE key generate k-patch >/dev/null
"#;

fn world() -> World {
    let world = World::new();
    world.sh(TREES);
    world
}

#[test]
fn a_patch_of_two_trees() {
    if !able(&["signify-openbsd", "rsync"]) {
        return;
    }
    let world = world();
    let diff = "SOURCE_DATE_EPOCH=1700000000 $STOCKADE patch diff -s k-patch.sec --title 'what it mends'";
    world.sh(&format!("{diff} before after --name fix-1"));
    assert_eq!(
        world.ok(&["patch", "verify", "fix-1.tgz", "--key", "k-patch.pub"]).matches("signed by k-patch.pub").count(),
        1
    );
    world.sh("signify-openbsd -V -z -p k-patch.pub -x fix-1.tgz -m - > /dev/null");
    // The same from archives of the trees, byte for byte.
    world.sh(&format!(
        "tar czf before.tgz -C before . && tar cf after.tar -C after .
        {diff} before.tgz after.tar --name fix-1 -o again.tgz
        cmp fix-1.tgz again.tgz"
    ));
    // Plain tar brings all that comes; what goes it cannot take away.
    world.sh("cp -a before have && tar xzpf fix-1.tgz -C have && rm -r have/var/db have/usr/share/doc/2");
    world.sh("touch -d @1600000000 have/usr/share/doc have/usr/share have/usr have/usr/new; touch -d @1500000000 have/var; rmdir have/var/db 2>/dev/null || true");
    let left = rsync_differences(&world.path("after"), &world.path("have"));
    // Metadata alone has no member: chmod and chown are for stockade.
    assert_eq!(
        left.lines()
            .filter(|line| line.starts_with('>')
                || line.starts_with('<')
                || line.starts_with('c')
                || line.starts_with('h'))
            .count(),
        0,
        "{left}"
    );
    let shown = world.ok(&["patch", "show", "fix-1.tgz", "--key", "k-patch.pub"]);
    for words in [
        "title:      what it mends",
        "program daemon",
        "all that uses libx.so.1.0",
        "- ",
        "* ",
        "usr/share/doc/3  mode uid gid",
        "+ ",
    ] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&world.ok(&["patch", "show", "fix-1.tgz", "--json", "--unsigned"])).unwrap();
    let change = |path: &str| json["changes"].as_array().unwrap().iter().find(|c| c["path"] == path).unwrap().clone();
    assert_eq!(change("etc/motd")["body"]["base"], true);
    assert_eq!(change("usr/share/doc/2")["change"], "-");
    // Listings.
    world.sh("$STOCKADE patch diff before before && ! $STOCKADE patch diff before after > list && grep -q '^- usr/share/doc/2$' list");
}

#[test]
fn differences_are_small_and_never_of_what_must_come_whole() {
    if !able(&[]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "diff", "before", "after", "--name", "full", "--unsigned"]);
    world.ok(&["patch", "diff", "before", "after", "--name", "small", "--unsigned", "--delta"]);
    let size = |name: &str| fs::metadata(world.path(name)).unwrap().len();
    assert!(size("full.tgz") > 3_300_000, "{}", size("full.tgz"));
    // The set-id program comes whole: 200 KB.
    assert!(size("small.tgz") < 210_000, "{}", size("small.tgz"));
    let text = world.ok(&["patch", "show", "small.tgz", "--json", "--unsigned"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (path, how) in [
        ("usr/sbin/daemon", "delta"),
        ("usr/lib/libx.so.1.0", "delta"),
        ("usr/share/doc/linked", "delta"),
        ("usr/bin/su", "full"),
        ("etc/motd", "full"),
        ("usr/new/file", "full"),
        ("usr/share/doc/3", "none"),
    ] {
        let change = json["changes"].as_array().unwrap().iter().find(|change| change["path"] == path);
        assert_eq!(change.unwrap()["body"]["how"], how, "{path}");
    }
    world.ok(&["patch", "verify", "small.tgz", "--unsigned"]);
}

#[test]
fn what_is_refused() {
    if !able(&[]) {
        return;
    }
    let world = world();
    world.ok(&["key", "generate", "other-patch"]);
    world.ok(&["patch", "diff", "before", "after", "--name", "p", "-s", "k-patch.sec"]);
    world.ok(&["patch", "diff", "before", "after", "--name", "bare", "--unsigned"]);
    world.sh(
        "$STOCKADE run / --help >/dev/null 2>&1 || true; mkfifo pipe; head -c 100000 p.tgz > cut.tgz; cp p.tgz bent.tgz
        printf 'edited here' | dd of=bent.tgz bs=1 seek=200000 conv=notrunc status=none
        (cat p.tgz; echo more) > long.tgz",
    );
    for (arguments, words) in [
        (&["patch", "verify", "p.tgz", "--key", "other-patch.pub"][..], "signed by key"),
        (&["patch", "verify", "bare.tgz", "--key", "k-patch.pub"], "not signed"),
        (&["patch", "verify", "cut.tgz", "--key", "k-patch.pub"], "cut"),
        (&["patch", "verify", "bent.tgz", "--key", "k-patch.pub"], "not what was signed"),
        (&["patch", "verify", "long.tgz", "--key", "k-patch.pub"], "long.tgz"),
        (&["patch", "verify", "k-patch.pub", "--key", "k-patch.pub"], "no gzip file"),
        (&["patch", "show", "p.tgz", "--key", "other-patch.pub"], "signed by key"),
        (&["patch", "diff", "before", "after", "--name", "x"], "--secret"),
        (&["patch", "diff", "before", "after", "--name", "../x", "--unsigned"], "name of a patch"),
        (&["patch", "diff", "before", "after", "--name", "x", "--unsigned", "--title", "two\nlines"], "malformed"),
        (
            &["patch", "diff", "before", "after", "--name", "x", "--unsigned", "--requires", "k-patch.pub"],
            "k-patch.pub",
        ),
        (&["patch", "diff", "before", "nowhere", "--unsigned"], "nowhere"),
        (&["patch", "diff", "before", "after", "-o", "x"], "--secret"),
        (&["patch", "diff", "before", "after", "-o", ".", "--unsigned"], "no name"),
    ] {
        world.refused(arguments, &[words]);
    }
    for name in ["x", "x.tgz"] {
        assert!(!world.path(name).exists());
    }
    let litter: Vec<_> = fs::read_dir(world.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!litter.iter().any(|name| name.to_string_lossy().starts_with('.')), "{litter:?}");
}

/// Whatever is done to a patch on its way, a root is as it was, and so is what the host knows of it.
#[test]
fn nothing_of_what_was_touched_is_applied() {
    if !able(&["rsync", "tar"]) {
        return;
    }
    let world = world();
    world.sh("$STOCKADE key generate o-patch; $STOCKADE patch diff before after --name p -s k-patch.sec
        $STOCKADE patch diff before after --name o -s o-patch.sec; $STOCKADE patch diff before after --name bare --unsigned
        cp -a before root; $STOCKADE patch list --root ./root; mkdir bad");
    let good = fs::read(world.path("p.tgz")).unwrap();
    let data = 11 + good[10..].iter().position(|&b| b == 0).unwrap();
    let line = 11 + good[10..].iter().position(|&b| b == b'\n').unwrap();
    let flip = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 4;
        bad
    };
    let bad = [
        ("magic", flip(0)),
        ("flags", flip(3)),
        ("comment", flip(20)),
        ("signature", flip(line + 30)),
        ("hashes", flip(data - 9)),
        ("manifest", flip(data + 40)),
        ("body", flip(good.len() / 2)),
        ("last body", flip(good.len() - 2000)),
        ("trailer", flip(good.len() - 5)),
        ("cut", good[..good.len() - 70_000].to_vec()),
        ("cut to the signature", good[..data].to_vec()),
        ("longer", [&good[..], &[0; 512]].concat()),
        ("doubled", [&good[..], &good[..]].concat()),
        ("of another patch", [&good[..data], &fs::read(world.path("o.tgz")).unwrap()[data..]].concat()),
        ("another key", fs::read(world.path("o.tgz")).unwrap()),
        ("not signed", fs::read(world.path("bare.tgz")).unwrap()),
        ("empty", Vec::new()),
    ];
    let state = || world.sh("find root home | sort; find root -type f -exec sha256sum {} + | sort");
    let before = state();
    for (what, bytes) in bad {
        fs::write(world.path("bad/p.tgz"), bytes).unwrap();
        let said = world.run(&["patch", "apply", "bad/p.tgz", "--root", "./root", "--key", "k-patch.pub"]);
        assert_eq!(said.status, Some(1), "{what}: {said:?}");
        assert_eq!(state(), before, "{what}");
    }
    // What never ends, from standard input.
    for input in [
        "cat p.tgz /dev/zero",
        "yes",
        "cat /dev/zero",
        "(head -c 20 p.tgz; yes)",
        "(printf '\\037\\213\\010\\020'; yes)",
    ] {
        let apply = "$STOCKADE patch apply - --root ./root --key k-patch.pub";
        world.sh(&format!(
            "{{ {input} 2>/dev/null || true; }} | {{ ! {apply} 2> said; }}; grep -q '^stockade: patch apply' said"
        ));
        assert_eq!(state(), before, "{input}");
    }
    assert_eq!(rsync_differences(&world.path("before"), &world.path("root")), "");
    assert_eq!(world.sh("ls -A tmp"), "");
}

/// Patches in one bring what all do, wherever a root has some of them; what it really had comes back.
#[test]
fn rolled_up() {
    if !able(&["rsync", "tar"]) {
        return;
    }
    let world = world();
    world.sh("cp -a after last; seq 7 > last/usr/new/more; rm last/usr/new/file last/usr/new/twin
        printf 'edited there' | dd of=last/usr/sbin/daemon bs=1 seek=2000000 conv=notrunc status=none
        cp -a before/usr/share/doc/linked last/usr/share/doc/7; seq 3 > after/usr/bin/young; seq 4 > last/usr/bin/young
        $STOCKADE patch diff before after --name one --series s --number 1 -s k-patch.sec
        $STOCKADE patch diff after last --name two --series s --number 2 --requires one.tgz -s k-patch.sec --delta
        $STOCKADE patch squash one.tgz two.tgz --name both -s k-patch.sec --key k-patch.pub
        $STOCKADE patch verify both.tgz --key k-patch.pub");
    let apply = |file: &str| world.ok(&["patch", "apply", file, "--root", "./have", "--key", "k-patch.pub"]);
    // The list of patches apart; its directories leave their time in that above them.
    let differs = |tree: &str| {
        world.sh("rm -rf bare; cp -a have bare; rm -rf bare/var/db; touch -r before/var bare/var");
        rsync_differences(&world.path(tree), &world.path("bare"))
    };
    for (tree, first) in [("before", None), ("after", Some("one.tgz")), ("last", Some("both.tgz"))] {
        world.sh("rm -rf have; cp -a before have");
        first.map(apply);
        assert_eq!(differs(tree), "", "{first:?}");
        apply("both.tgz");
        assert_eq!(differs("last"), "", "{first:?}");
        world.ok(&["patch", "check", "--root", "./have"]);
        world.ok(&["patch", "undo", "both", "--root", "./have"]);
        let expect = if first == Some("both.tgz") { "before" } else { tree };
        assert_eq!(differs(expect), "", "{first:?}");
    }
    // Where plain tar brought the first of them, what it cannot take away goes, too.
    world.sh("rm -rf have; cp -a before have; tar xzpf one.tgz -C have");
    apply("both.tgz");
    assert_eq!(differs("last").lines().find(|line| !line.starts_with(".d..t......")), None);
    world.refused(
        &["patch", "squash", "two.tgz", "one.tgz", "--name", "x", "--unsigned", "--key", "k-patch.pub"],
        &["does not go on"],
    );
    assert!(!world.path("x.tgz").exists());
}

/// What a file was travels for merges only if it is text, and no key that goes.
#[test]
fn what_a_file_was_may_stay_at_home() {
    if !able(&["tar", "gzip"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "mkdir -p t0/etc; printf 'a\\nb\\n' > t0/etc/text; printf 'a\\0b' > t0/etc/data
        { echo '-----BEGIN PRIVATE KEY-----'; head -c 96 /dev/urandom | base64; echo '-----END PRIVATE KEY-----'; } > t0/etc/key
        cp -a t0 t1; echo c > t1/etc/text; printf 'a\\0c' > t1/etc/data; echo gone > t1/etc/key
        $STOCKADE patch diff t0 t1 --name p --unsigned -o p.tgz",
    );
    let listed = world.sh("tar tzf p.tgz | grep -c /base/");
    assert_eq!(listed, "1\n", "only that of the text");
    assert_eq!(world.sh("tar xzOf p.tgz --wildcards '*/base/*'"), "a\nb\n");
    assert_eq!(world.sh("gzip -dc p.tgz | grep -ac 'BEGIN PRIVATE' || true"), "0\n");
    world.sh("cp -a t0 root");
    world.ok(&["patch", "apply", "--unsigned", "p.tgz", "--root", "./root"]);
    assert_eq!(world.sh("cat root/etc/key root/etc/text"), "gone\nc\n");
    // The other way round it would come.
    let back = ["patch", "diff", "t1", "t0", "--name", "back", "--unsigned"];
    world.refused(&back, &["etc/key: it holds a private key", "leave it out"]);
    assert!(!world.path("back.tgz").exists());
}
