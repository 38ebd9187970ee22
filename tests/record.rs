// SPDX-License-Identifier: ISC
//! `record`: what a command changed, exactly, whichever way it is found out.

mod common;

use std::fs;

use common::strike::{each, moments, trace};
use common::{Said, World, able, fingerprint, picture};
use serde_json::Value;

const TREE: &str = r#"
umask 022; mkdir -p tree/bin tree/etc tree/d/deep/er tree/e tree/proc tree/dev tree/tmp tree/var/cache tree/var/log
mkdir tree/usr tree/lib tree/lib64; cd tree; cp "$(command -v busybox)" bin/busybox
for name in sh cat rm ln mv mkdir chmod chown touch mkfifo mknod cp dd rmdir sleep kill setfattr truncate; do
    ln -s busybox bin/$name
done
echo root:x:0:0::/:/bin/sh > etc/passwd; echo root:x:0: > etc/group; echo root:SECRET:1:::::: > etc/shadow
echo one > d/f; ln d/f d/g; ln d/f e/far; echo x > d/deep/x; echo y > d/deep/er/y; ln d/deep/er/y d/deep/z
echo s > suid; chown 1:2 suid; chmod 6755 suid; setfattr -n user.a -v b d/deep/x; ln -s f d/link; mkfifo pipe
echo abcd > same; truncate -s 1M sparse; echo end >> sparse; mkdir empty; chmod 1777 tmp; echo c > conf
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 d/deep/x
find . -depth -exec touch -h -d @1600000000.123456789 {} +
"#;

/// A world with two chroots of one kind: `a` and `b`.
fn world(more: &str) -> Option<World> {
    if !able(&["setfattr", "setfacl", "busybox", "strace"]) {
        return None;
    }
    let world = World::new();
    world.sh(TREE);
    let policy = "[policy]\nunknown = \"remove\"\nvolatile = [\"var/log\", \"tmp\"]\n";
    let recipe =
        format!("devices = \"none\"\nactions = [\"-ldconfig\"]\n{policy}{more}\n[[source]]\ndirectory = \"tree\"\n");
    world.write("recipe.toml", &recipe);
    for name in ["a", "b"] {
        world.ok(&["build", name, "-f", "./recipe.toml"]);
    }
    Some(world)
}

/// What a recording says, as JSON; times of today are not told, nor inodes.
fn recorded(world: &World, arguments: &[&str], script: &str) -> (Option<i32>, Value) {
    let said = world.run(&[&["record", "--json"], arguments, &["--", "sh", "-c", script]].concat());
    assert_eq!(said.err, "", "{script}");
    let mut value: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    for change in value["changes"].as_array_mut().unwrap() {
        for side in ["before", "after"] {
            let today = |time: &&mut Value| time.as_str().unwrap() > "1650000000";
            if let Some(time) = change[side].get_mut("time").filter(today) {
                *time = "today".into();
            }
        }
    }
    (said.status, value)
}

fn letters(value: &Value) -> Vec<String> {
    let line = |change: &Value| format!("{}{}", change["change"].as_str().unwrap(), change["path"].as_str().unwrap());
    let only_time =
        |change: &&Value| change["differs"] == serde_json::json!(["time"]) && change["after"]["type"] == "dir";
    value["changes"].as_array().unwrap().iter().filter(|change| !only_time(change)).map(line).collect()
}

/// One line a case: what is done, and what it changes.
const CASES: &[(&str, &[&str])] = &[
    ("true", &[]),
    // Looked at, taken up and put back: nothing.
    ("cat /d/f /conf; chmod 600 /conf; chmod 644 /conf; touch -d @1600000000 /nothing; rm /nothing", &[]),
    ("mkdir /d/n; rmdir /d/n", &[]),
    ("cp /conf /conf.new; touch -r /conf /conf.new; mv /conf.new /conf", &[]),
    // A file with several names: written through one, all have it.
    ("echo two > /d/f", &["*d/f", "*d/g", "*e/far"]),
    ("chmod 600 /e/far", &["md/f", "md/g", "me/far"]),
    // Another file in its place, and only there.
    ("echo two > /d/new; mv /d/new /d/f", &["*d/f"]),
    ("rm /d/f", &["-d/f"]),
    ("rm /d/f /d/g /e/far", &["-d/f", "-d/g", "-e/far"]),
    ("ln /d/g /e/more", &["+e/more"]),
    ("ln /conf /conf2; ln /conf /e/conf3", &["+conf2", "+e/conf3"]),
    ("cp -p /d/f /d/n; mv /d/n /d/f; ln /conf /d/conf; rm /conf", &["-conf", "+d/conf", "md/f", "=d/g", "=e/far"]),
    // Deletions and renames, of files and of directories.
    ("rm -r /d", &["-d", "-d/deep", "-d/deep/er", "-d/deep/er/y", "-d/deep/x", "-d/deep/z", "-d/f", "-d/g", "-d/link"]),
    ("mv /conf /e/conf", &["-conf", "+e/conf"]),
    (
        "mv /d/deep /e/n",
        &[
            "-d/deep",
            "-d/deep/er",
            "-d/deep/er/y",
            "-d/deep/x",
            "-d/deep/z",
            "+e/n",
            "+e/n/er",
            "+e/n/er/y",
            "+e/n/x",
            "+e/n/z",
        ],
    ),
    ("mv /d/deep /d/n; echo w > /d/n/er/y; mv /d/n /d/deep", &["*d/deep/er/y", "*d/deep/z"]),
    (
        "mv /d/deep /d/n; mkdir /d/deep; mv /d/n /d/deep/n; rm /d/deep/n/x",
        &[
            "-d/deep/er",
            "-d/deep/er/y",
            "+d/deep/n",
            "+d/deep/n/er",
            "+d/deep/n/er/y",
            "+d/deep/n/z",
            "-d/deep/x",
            "-d/deep/z",
        ],
    ),
    ("rm -r /d/deep; mkdir /d/deep; echo x > /d/deep/x", &["-d/deep/er", "-d/deep/er/y", "md/deep/x", "-d/deep/z"]),
    ("rm -r /empty", &["-empty"]),
    ("mkdir -p /new/er/est /e/m; chmod 2750 /e/m", &["+e/m", "+new", "+new/er", "+new/er/est"]),
    // Metadata.
    (
        "chmod 4711 /conf; chown 3:4 /d/deep/x; touch -d @1500000000 /e/far",
        &["mconf", "md/deep/x", "md/f", "md/g", "me/far"],
    ),
    ("chmod 755 /suid; chown 5:6 /e; chown -h 7:8 /d/link", &["md/link", "me", "msuid"]),
    ("touch -h -d @1500000000 /d/link /pipe; touch -d @1500000000 /conf", &["mconf", "md/link", "mpipe"]),
    // Same size and time, another content.
    (": > /n; touch -r /same /n; echo ABCD > /same; touch -r /n /same; rm /n", &["*same"]),
    ("echo x > /n; touch -d @1400000000 /n; cp -p /n /d/n", &["+d/n", "+n"]),
    // Other types.
    ("rm /conf; mkdir /conf; echo c > /conf/c", &["!conf", "+conf/c"]),
    ("rm -r /d/deep; ln -s /e /d/deep", &["!d/deep", "-d/deep/er", "-d/deep/er/y", "-d/deep/x", "-d/deep/z"]),
    ("rm /d/link; ln -s /nowhere /d/link; rm /pipe; mkfifo /pipe2; echo p > /pipe", &["*d/link", "!pipe", "+pipe2"]),
    ("rm /conf; mkfifo -m 600 /conf", &["!conf"]),
    // Holes.
    ("dd if=/dev/zero of=/n bs=1 count=1 seek=3000000 2>/dev/null; echo more >> /sparse", &["+n", "*sparse"]),
    // What is left out.
    ("echo l > /var/log/l; mkdir -p /var/cache/c /usr/obj/x; echo h > /etc/ld.so.cache", &[]),
    ("mkdir -p /run/lock /usr/src/a; echo o > /usr/src/a/a.o; ln /usr/src/a/a.o /n", &["+n"]),
];

#[test]
fn both_ways_find_the_same() {
    let Some(world) = world("") else { return };
    for (name, reference) in [("a", "ra"), ("b", "rb")] {
        world.ok(&["clone", name, reference, "--how", "copy"]);
    }
    for (script, expect) in CASES {
        let before = fingerprint(&world.root("a"));
        let tried = recorded(&world, &["--discard", "a"], script);
        assert_eq!(fingerprint(&world.root("a")), before, "{script}: discarded");
        let (a, b) = (recorded(&world, &["a"], script), recorded(&world, &["--scan", "b"], script));
        assert_eq!((&a.1["mode"], &b.1["mode"]), (&"overlay".into(), &"scan".into()));
        assert_eq!(letters(&a.1), *expect, "{script}");
        for part in ["changes", "left_out", "accounts"] {
            assert_eq!(a.1[part], b.1[part], "{script}: {part}");
            assert_eq!(a.1[part], tried.1[part], "{script}: {part}, discarded");
        }
        let status = if expect.is_empty() { Some(2) } else { Some(0) };
        assert_eq!((a.0, b.0, tried.0), (status, status, status), "{script}");
        // What the one carried out is what the other did.
        let times = |picture: String| -> String {
            let today =
                |word: &str| word.split_once('.').and_then(|(sec, _)| sec.parse::<i64>().ok()) > Some(1_650_000_000);
            let words = picture.lines().map(|line| line.split(' ').filter(|w| !today(w)).collect::<Vec<_>>().join(" "));
            words.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(times(picture(&world.root("a"))), times(picture(&world.root("b"))), "{script}");
        for name in ["a", "b"] {
            let said = world.run(&["check", name, "--hash"]);
            assert_eq!(said.status, Some(0), "{script}: {name}: {}", said.out);
            world.ok(&["remove", name]);
            world.ok(&["clone", &format!("r{name}"), name, "--how", "copy"]);
        }
    }
    world.assert_tidy();
}

#[test]
fn access_lists_and_capabilities() {
    let Some(world) = world("") else { return };
    let script = "setfacl -m u:5:r /conf; setfacl -d -m g:6:rx /e; setfattr -x security.capability /d/deep/x
        setfattr -n user.n -v 1 /d/f; setfattr -n trusted.n -v 1 /e; setfattr -x user.a /d/deep/x
        setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 /same";
    // The host's programs, which the chroot has not.
    let host = ["--no-confine", "--bind=/usr:/usr:ro", "--bind=/lib:/lib:ro", "--bind=/lib64:/lib64:ro"];
    let (a, b) = (
        recorded(&world, &[&host[..], &["a"]].concat(), script),
        recorded(&world, &[&host[..], &["--scan", "b"]].concat(), script),
    );
    assert_eq!(letters(&a.1), ["mconf", "md/deep/x", "md/f", "md/g", "me", "me/far", "msame"]);
    assert_eq!(a.1["changes"], b.1["changes"]);
    assert_eq!(picture(&world.root("a")), picture(&world.root("b")));
    let names = a.1["changes"].to_string();
    for name in ["system.posix_acl_access", "system.posix_acl_default", "security.capability", "user.n", "trusted.n"] {
        assert!(names.contains(name), "{name}: {names}");
    }
}

#[test]
fn what_fails_changes_nothing() {
    let Some(world) = world("") else { return };
    let before = fingerprint(&world.root("a"));
    for (script, status) in [("echo x > /conf; rm -r /d; exit 7", 7), ("echo x > /conf; kill -9 $$", 137)] {
        let said = world.run(&["record", "a", "--", "sh", "-c", script]);
        assert_eq!((said.status, &*said.err), (Some(status), "stockade: record: nothing was changed\n"), "{script}");
        assert_eq!(fingerprint(&world.root("a")), before);
    }
    let said = world.run(&["record", "a", "--", "none"]);
    assert_eq!(said.status, Some(127), "{}", said.err);
    // In place, it stays, and that is said.
    let said = world.run(&["record", "b", "--scan", "--", "sh", "-c", "echo x > /conf; exit 7"]);
    assert!(said.status == Some(7) && said.err.contains("stockade reset"), "{}", said.err);
    assert_eq!(fs::read_to_string(world.root("b").join("conf")).unwrap(), "x\n");
    world.ok(&["reset", "b"]);
    world.refused(
        &["record", "b", "--scan", "--discard", "--", "true"],
        &["changes the chroot itself", "stockade clone"],
    );
    world.assert_tidy();
}

#[test]
fn who_would_be_changed_with_it_is_named() {
    let Some(world) = world("") else { return };
    world.ok(&["clone", "a", "w", "--how", "overlay"]);
    world.refused(&["record", "a", "--", "sh", "-c", "true"], &["clones by overlay would change with it", "/w"]);
    // The clone itself lies on an overlay: it is scanned.
    let (status, value) = recorded(&world, &["w"], "echo n > /n");
    assert_eq!((status, &value["mode"], letters(&value)), (Some(0), &"scan".into(), vec!["+n".to_owned()]));
    world.ok(&["check", "w"]);
    let mut inside = world.stockade(&["run", "b", "--", "sh", "-c", "echo ready; read line"]);
    let mut inside = inside.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(inside.stdout.as_mut().unwrap(), &mut ready).unwrap();
    world.refused(&["record", "b", "--no-wait", "--", "true"], &["in use by stockade run"]);
    drop(inside.stdin.take());
    inside.wait().unwrap();
}

#[test]
fn secrets_stay() {
    let Some(world) = world("[record]\nomit = [\"secret\"]\nkeep = [\"var/log/kept\"]") else { return };
    let key = "printf -- '-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\\n-----END' > ";
    let before = fingerprint(&world.root("a"));
    world.refused(&["record", "a", "--", "sh", "-c", &format!("{key} /e/key")], &["e/key: ", "private key", "omit"]);
    assert_eq!(fingerprint(&world.root("a")), before);
    let script = format!("mkdir /secret; {key} /secret/key; echo k > /var/log/kept; echo l > /var/log/l");
    let (_, value) = recorded(&world, &["a"], &script);
    assert_eq!(letters(&value), ["+var/log/kept"]);
    // Accounts are told, and no hash is.
    let script = "echo _w:x:67:67:W:/w:/sbin/nologin >> /etc/passwd; echo '_w:HASHED:1::::::' >> /etc/shadow
        echo _w:x:67: >> /etc/group; echo r:x:9:_w >> /etc/group";
    let (status, value) = recorded(&world, &["a"], script);
    assert_eq!((status, letters(&value)), (Some(0), vec![]));
    let told = value["accounts"].to_string();
    assert!(told.contains("\"home\":\"/w\"") && told.contains("\"member\":\"_w\""), "{told}");
    assert!(!value.to_string().contains("HASHED"));
    assert!(fs::read_to_string(world.root("a").join("etc/shadow")).unwrap().contains("HASHED"), "inside it is there");
    assert_eq!(value["left_out"][0]["rule"], "account files");
}

/// A program whose library is nowhere would not start on any target.
#[test]
fn a_program_without_its_library_is_refused() {
    let Some(world) = world("") else { return };
    let program = ["/bin/ls", "/usr/bin/env"].into_iter().find(|path| fs::metadata(path).is_ok()).unwrap();
    fs::copy(program, world.root("a").join("e/host")).unwrap();
    world.refused(&["record", "a", "--", "sh", "-c", "cp /e/host /e/tool"], &["e/tool: needs /", "--allow-unmet"]);
    let (status, value) = recorded(&world, &["--allow-unmet", "a"], "cp /e/host /e/tool");
    assert_eq!((status, letters(&value)), (Some(0), vec!["+e/tool".to_owned()]));
}

/// A chroot that is recorded again and again, and struck.
struct Stage {
    world: World,
    /// Before the command, and after it.
    old: String,
    new: String,
}

impl Stage {
    fn new() -> Stage {
        let world = world("").expect("the caller looked");
        let (old, stage) = (without_list(&picture(&world.root("a"))), String::new());
        let mut stage = Stage { world, old, new: stage };
        let said = stage.record("-etrace=none");
        assert_eq!(said.status, Some(0), "{said:?}");
        stage.new = without_list(&picture(&stage.world.root("a")));
        stage.again();
        stage
    }

    fn record(&self, option: &str) -> Said {
        const EDIT: &str =
            "set -e; echo two > /d/f; rm -r /d/deep; mkdir /n; echo n > /n/n; chmod 700 /e; ln /conf /n/c
            touch -d @1500000000 /d/f /n/n /n /d";
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.world.path("log")).arg(option).arg(env!("CARGO_BIN_EXE_stockade"));
        command.args(["record", "a", "-o", "p.tgz", "--unsigned", "--", "sh", "-c", EDIT]);
        self.world.settle(&mut command);
        Said::of(command.output().unwrap())
    }

    fn again(&self) {
        self.world.ok(&["remove", "a"]);
        self.world.ok(&["build", "a", "-f", "./recipe.toml"]);
        fs::remove_file(self.world.path("p.tgz")).unwrap();
    }

    /// After whatever happened it is done or not, and nothing is half there. Is it done?
    fn verdict(&self, how: &str, said: &Said) -> bool {
        let recovered = self.world.run(&["recover", "a"]);
        assert_eq!(recovered.status, Some(0), "{how}: {recovered:?}");
        let found = without_list(&picture(&self.world.root("a")));
        assert!(found == self.old || found == self.new, "{how}: neither: {said:?}\n{found}");
        self.world.ok(&["check", "a", "--hash"]);
        assert!(!self.world.path("home/.stockade/a/record").exists(), "{how}");
        let (done, file) = (found == self.new, self.world.path("p.tgz"));
        if file.exists() {
            self.world.ok(&["patch", "verify", "--unsigned", "p.tgz"]);
            // Of what the chroot has become the patch stays, whatever fails afterwards.
            let failed = said.status.is_some_and(|status| status != 0 && status <= 128);
            assert!(done || !failed, "{how}: it failed and left a patch: {said:?}");
            fs::remove_file(file).unwrap();
        }
        assert!(said.status != Some(0) || done, "{how}: it said that it was done: {said:?}");
        if done {
            fs::write(self.world.path("p.tgz"), "").unwrap();
            self.again();
        }
        done
    }
}

/// A picture without what lists the patches, in which there is the time of day.
fn without_list(picture: &str) -> String {
    let is_list = |line: &&str| line.contains("\"var") || line.starts_with("\"\" ") || line.starts_with("\".\" ");
    picture.lines().filter(|line| !is_list(line)).collect::<Vec<_>>().join("\n")
}

/// Killed, or failing for want of room or a bad disk, at many moments: it happened whole or not at all.
#[test]
fn a_recording_that_is_struck_is_there_or_not() {
    if !able(&["setfattr", "setfacl", "busybox", "strace"]) {
        return;
    }
    let stage = Stage::new();
    let said = stage.record(&trace());
    assert_eq!(said.status, Some(0), "{said:?}");
    let moments = moments(&fs::read_to_string(stage.world.path("log")).unwrap());
    // Not each: the test takes its time. In turn, which is as good as each at all of them.
    let ways = ["signal=KILL", "error=ENOSPC", "error=EIO"].into_iter().cycle();
    let some = moments.iter().step_by(moments.len() / 30 + 1);
    let cases: Vec<_> =
        some.zip(ways).map(|((call, n), way)| (call.clone(), format!("{call}:{way}:when={n}"))).collect();
    let done = each(&cases, Stage::new, |stage, _, how| {
        let said = stage.record(&format!("-einject={how}"));
        assert!(!said.err.contains("panicked"), "{how}: {said:?}");
        stage.verdict(how, &said)
    });
    assert!(done > 2 && done + 10 < cases.len(), "{done} of {} were done", cases.len());
}

/// A scan believes that nothing changed only of a root that is as the last scan left it.
#[test]
fn what_changed_between_two_scans_is_known() {
    let Some(world) = world("[record]\nkeep = [\"var/log/kept\"]") else { return };
    let scan = |script: &str| {
        let (status, value) = recorded(&world, &["--scan", "a"], script);
        (status, letters(&value))
    };
    let edit = |script: &str| drop(world.sh(&format!("cd home/a; {script}")));
    let nothing = (Some(2), vec![]);
    assert_eq!((scan("true"), scan("cat /conf")), (nothing.clone(), nothing.clone()));
    // Of each edit by somebody else: what was before is what he left.
    for (by_hand, script, expect) in [
        ("echo mine > conf", "true", &[][..]),
        ("true", "echo mine > /n; touch -r /conf /n; cat /n > /conf; touch -r /n /conf; rm /n", &[]),
        ("echo theirs > conf; echo x > unknown", "rm /unknown", &["-unknown"]),
        ("chmod 700 e; setfattr -n user.b -v 1 d", "chmod 755 /e", &["me"]),
        (
            "mv d/deep d/other",
            "mv /d/other /d/deep",
            &[
                "+d/deep",
                "+d/deep/er",
                "+d/deep/er/y",
                "+d/deep/x",
                "+d/deep/z",
                "-d/other",
                "-d/other/er",
                "-d/other/er/y",
                "-d/other/x",
                "-d/other/z",
            ],
        ),
    ] {
        edit(by_hand);
        let (_, found) = scan(script);
        assert_eq!(found, expect, "{by_hand}; {script}");
        assert_eq!(scan("true"), nothing, "{by_hand}; {script}");
    }
    // A damaged memory is none.
    world.sh("echo x > home/.stockade/a/scanned-fingerprint");
    assert_eq!(scan("true"), nothing);
    assert_eq!(scan("echo y > /conf").1, ["*conf"]);
    world.assert_tidy();
}

/// Where a patch cannot be written is said before the command runs, and what stands under its name stays.
#[test]
fn where_no_patch_can_be_nothing_is_run() {
    let Some(world) = world("") else { return };
    let before = fingerprint(&world.root("a"));
    world.sh("echo precious > kept.tgz; mkdir full");
    let run = ["--", "sh", "-c", "echo ran > /conf"];
    for (arguments, words) in [
        (&["-o", "home/a/e/p.tgz", "--unsigned"][..], &["in the chroot that it is made of"][..]),
        (&["-o", "none/p.tgz", "--unsigned"], &["No such file", "mkdir -p none"]),
        (&["-o", "kept.tgz"], &["no key is named", "--unsigned"]),
        (&["-o", "kept.tgz", "--name", "a b", "--unsigned"], &["the name of a patch", "--name"]),
        (&["-o", "a b.tgz", "--unsigned"], &["the name of a patch", "--name"]),
        (&["-o", "full/", "--unsigned"], &["no name"]),
        (&["-o", "kept.tgz", "-s", "none.sec"], &["none.sec"]),
        (&["--scan", "-o", "kept.tgz", "--unsigned", "--delta"], &["--delta"]),
    ] {
        world.refused(&[&["record", "a"], arguments, &run].concat(), words);
        assert_eq!(fingerprint(&world.root("a")), before, "{arguments:?}");
    }
    assert_eq!(fs::read_to_string(world.path("kept.tgz")).unwrap(), "precious\n");
    // A command that fails, or changes nothing, makes none either.
    assert_eq!(world.run(&["record", "a", "-o", "kept.tgz", "--unsigned", "--", "sh", "-c", "exit 3"]).status, Some(3));
    assert_eq!(world.run(&["record", "a", "-o", "kept.tgz", "--unsigned", "--", "cat", "/conf"]).status, Some(2));
    assert_eq!(fs::read_to_string(world.path("kept.tgz")).unwrap(), "precious\n");
    world.ok(&[
        &["record", "a", "-o", "full", "--name", "p", "--number", "3", "--series", "s", "--title", "T", "--unsigned"],
        &run[..],
    ]
    .concat());
    let shown = world.ok(&["patch", "show", "--unsigned", "full/p.tgz"]);
    assert!(shown.contains("title:      T\n") && shown.contains('s') && shown.contains("* "), "{shown}");
    world.assert_tidy();
}

/// A patch that was made of a chroot is listed there, and a later build does not revert it.
#[test]
fn what_became_a_patch_outlasts_a_build() {
    if !able(&["busybox"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "mkdir -p src/bin src/etc src/proc src/dev src/sys src/run src/tmp; cp $(command -v busybox) src/bin/busybox
        ln -s busybox src/bin/sh; echo old > src/etc/conf",
    );
    world.write("r.toml", "devices = \"none\"\n[policy]\nunknown = \"remove\"\n[[source]]\ndirectory = \"src\"\n");
    world.ok(&["build", "c", "-f", "r.toml"]);
    world.ok(&[
        "record",
        "c",
        "-o",
        "one.tgz",
        "--unsigned",
        "--",
        "/bin/sh",
        "-c",
        "echo new > /etc/conf; echo more > /etc/more",
    ]);
    assert_eq!(world.ok(&["patch", "list", "--root", "c"]).lines().count(), 1);
    assert!(world.ok(&["patch", "apply", "--unsigned", "one.tgz", "--root", "c"]).contains("is there already"));
    world.sh("echo other > src/etc/other");
    world.ok(&["build", "c"]);
    world.sh("grep -qx new home/c/etc/conf; grep -qx more home/c/etc/more; grep -qx other home/c/etc/other");
    world.ok(&["check", "c", "--hash"]);
    world.assert_tidy();
}

/// A text below /etc that was recorded and that a newer source changes, too, is not lost.
#[test]
fn a_recorded_text_stays_when_a_newer_source_has_another() {
    if !able(&["busybox"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "mkdir -p src/bin src/etc src/proc src/dev src/sys src/run src/tmp; cp $(command -v busybox) src/bin/busybox
        ln -s busybox src/bin/sh; printf 'one\\ntwo\\nthree\\n' > src/etc/conf; cp src/etc/conf src/etc/other",
    );
    world.write("r.toml", "devices = \"none\"\n[policy]\nunknown = \"remove\"\n[[source]]\ndirectory = \"src\"\n");
    world.ok(&["build", "c", "-f", "r.toml"]);
    let script = "echo mine >> /etc/conf; echo mine >> /etc/other; echo mine >> /bin/tool";
    world.ok(&["record", "c", "-o", "one.tgz", "--unsigned", "--", "/bin/sh", "-c", script]);
    world.sh("echo newer >> src/etc/conf; echo other > src/bin/tool");
    let said = world.run(&["build", "c"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains("left alone: etc/conf: edited\n"), "{said:?}");
    assert!(said.out.contains("from a newer source now, and as that has them: bin/tool\n"), "{said:?}");
    world.sh("grep -qx mine home/c/etc/conf; grep -qx mine home/c/etc/other; grep -qx other home/c/bin/tool");
    // As with what was edited by hand, that is said once; check shows it.
    let said = world.ok(&["build", "c"]);
    assert!(said.contains("nothing to do"), "{said}");
    world.sh("grep -qx mine home/c/etc/conf; ! $STOCKADE check c > said; grep -q etc/conf said");
    world.assert_tidy();
}
