// SPDX-License-Identifier: ISC
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::TryRecvError;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::clock::settle;
use super::*;
use crate::error::ErrorKind;
use crate::sys::{Calls, FileType, change_clock, effective_uid};
use crate::tree::arbitrary::{self, Made};
use crate::tree::{Digest, Kind, Node, Time};

const BOTH: [Calls; 2] = [Calls::Native, Calls::Portable];

fn open(path: &Path, calls: Calls) -> Dir {
    Dir::open(path, calls).unwrap()
}

fn all() -> ScanOptions {
    ScanOptions { xattrs: true, skip: PathSet::default() }
}

fn scanned(path: &Path) -> Scan {
    scan(&open(path, Calls::from_env()), &all(), &Watch::default()).unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

/// `name:kind`, in order.
fn shown(tree: &Tree) -> String {
    tree.nodes().iter().map(|n| format!("{}:{}", n.path, n.kind.word())).collect::<Vec<_>>().join(" ")
}

fn index(tree: &Tree, name: &str) -> usize {
    tree.index_of(name.as_bytes()).unwrap()
}

/// Reads every file.
fn digested(root: &Dir, tree: &mut Tree) {
    let every: Vec<usize> = (0..tree.len()).collect();
    digest_files(root, tree, &every, &Watch::default()).unwrap();
}

/// Does `what` need root? Then, without it, the test only says so; but not in CI.
fn is_root(what: &str) -> bool {
    let root = effective_uid() == 0;
    assert!(root || std::env::var_os("CI").is_none(), "{what} needs root");
    if !root {
        eprintln!("skipped: {what} needs root");
    }
    root
}

/// Makes the tree below `root`.
fn make(root: &Dir, made: &Made) {
    for node in made.tree.nodes() {
        if node.path.is_root() {
            continue;
        }
        let dir = root.walk_parent(&node.path).unwrap();
        let name = node.path.name();
        match (&node.group, &node.kind) {
            (Some(group), _) if *group != node.path => {
                root.walk_parent(group).unwrap().link(group.name(), &dir, name).unwrap();
                continue;
            }
            (_, Kind::Dir) => dir.make_dir(name, 0o700).unwrap(),
            (_, Kind::File { digest, .. }) => {
                dir.create_file(name, 0o600).unwrap().write_all(&made.bodies[&digest.unwrap()]).unwrap();
            }
            (_, Kind::Symlink(target)) => dir.make_symlink(target, name).unwrap(),
            (_, kind) => dir.make_node(name, kind, 0o600).unwrap(),
        }
    }
    for node in made.tree.nodes().iter().rev() {
        let dir = if node.path.is_root() { root.try_clone() } else { root.walk_parent(&node.path) }.unwrap();
        let name = if node.path.is_root() { b"." } else { node.path.name() };
        let kind = dir.stat(name).unwrap().kind;
        dir.set_owner(name, node.meta.uid, node.meta.gid).unwrap();
        if kind != FileType::Symlink {
            dir.set_mode(name, node.meta.mode).unwrap();
        }
        dir.set_xattrs(name, kind, &node.meta.xattrs.as_deref().cloned().unwrap_or_default()).unwrap();
        dir.set_mtime(name, node.meta.mtime).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_scan_finds_exactly_what_was_made(made in arbitrary::trees(40)) {
        if !is_root("making devices and giving files away") {
            return Ok(());
        }
        let temp = tempfile::tempdir().unwrap();
        make(&open(temp.path(), Calls::Native), &made);
        for calls in BOTH {
            let root = open(temp.path(), calls);
            let mut found = scan(&root, &all(), &Watch::default()).unwrap();
            digested(&root, &mut found.tree);
            prop_assert!(found.mounts.is_empty());
            prop_assert_eq!(found.tree.len(), made.tree.len());
            for (have, want) in found.tree.nodes().iter().zip(made.tree.nodes()) {
                let fields = |n: &Node| format!("{:?} {:?} {:?} {:?}", n.path, n.kind, n.meta, n.group);
                prop_assert_eq!(fields(have), fields(want));
            }
        }
    }
}

#[test]
fn sockets_and_wide_directories() {
    let temp = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("s")).unwrap();
    for number in 0..3000 {
        let dir = temp.path().join(format!("d{}", number % 40));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{number}")), "").unwrap();
    }
    let (one, two) = (scanned(temp.path()).tree, scanned(temp.path()).tree);
    assert_eq!((one.len(), shown(&one)), (3042, shown(&two)));
    assert_eq!(one.get(b"s").unwrap().kind, Kind::Socket);
    Tree::new(one.into_nodes()).unwrap();
}

#[test]
fn what_is_skipped_is_not_entered() {
    let temp = tempfile::tempdir().unwrap();
    for dir in ["a/b/c", "a/d", "e/b"] {
        std::fs::create_dir_all(temp.path().join(dir)).unwrap();
    }
    let skip = PathSet::new(["a/b", "*/d"]).unwrap();
    let found =
        scan(&open(temp.path(), Calls::Native), &ScanOptions { xattrs: false, skip }, &Watch::default()).unwrap();
    assert_eq!(shown(&found.tree), "/:dir a:dir e:dir e/b:dir");
}

#[test]
fn only_the_paths_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(temp.path().join("usr/bin")).unwrap();
    symlink("usr/bin", temp.path().join("bin")).unwrap();
    for file in ["usr/bin/a", "usr/bin/b", "usr/c", "d"] {
        std::fs::write(temp.path().join(file), "x").unwrap();
    }
    std::fs::hard_link(temp.path().join("d"), temp.path().join("usr/e")).unwrap();
    for (asked, expect) in [
        (&[][..], "/:dir"),
        (&["usr/bin/a"][..], "/:dir usr:dir usr/bin:dir usr/bin/a:file"),
        (&["usr"], "/:dir usr:dir"),
        (&["usr/c", "usr/c", "usr", "d"], "/:dir d:file usr:dir usr/c:file"),
        (&["bin/a", "usr/c/x", "nothing", "no/thing"], "/:dir bin:link usr:dir usr/c:file"),
    ] {
        let asked: Vec<TreePath> = asked.iter().map(|p| path(p)).collect();
        let found = scan_paths(&open(temp.path(), Calls::from_env()), &asked, &all(), &Watch::default()).unwrap();
        assert_eq!(shown(&found.tree), expect);
        assert!(found.tree.nodes().iter().all(|n| n.group.is_none()), "the other name was not asked for");
    }
}

#[test]
fn stamps_are_for_files_that_rest() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("old"), "x").unwrap();
    std::fs::create_dir(temp.path().join("dir")).unwrap();
    settle();
    // Again, if the clock ticked between writing and looking.
    let found = std::iter::repeat_with(|| {
        let tick = change_clock();
        std::fs::write(temp.path().join("new"), "x").unwrap();
        (tick, scanned(temp.path()), change_clock())
    });
    let (_, found, _) = found.take(1000).find(|(before, _, after)| before == after).expect("a tick is long enough");
    let stamp = |name: &str| found.tree.get(name.as_bytes()).unwrap().here;
    let stat = open(temp.path(), Calls::Native).stat(b"old").unwrap();
    assert_eq!(stamp("old").map(|s| (s.ctime, s.ino)), Some((stat.ctime, stat.ino)));
    assert_eq!((stamp("new"), stamp("dir")), (None, None));
}

/// The same test once more, alone, in a shell that first does `setup`; true in there.
fn inside(setup: &str, test: &str) -> bool {
    if std::env::var_os("STOCKADE_INSIDE").is_some() {
        return true;
    }
    let me = std::env::current_exe().unwrap();
    let script = format!("{setup} && exec \"$0\" --exact source::dir::tests::{test} --nocapture");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(me).env("STOCKADE_INSIDE", "1");
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[test]
fn mounts_are_listed_and_not_entered() {
    if !is_root("mounting") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    if !inside("true", "mounts_are_listed_and_not_entered") {
        return;
    }
    let at = |name: &str| temp.path().join(name);
    for dir in ["from/below", "m/tmpfs", "m/bind", "z"] {
        std::fs::create_dir_all(at(dir)).unwrap();
    }
    for file in ["from/x", "file", "from/file"] {
        std::fs::write(at(file), "x").unwrap();
    }
    let mount = |args: &[&str], target: &str| {
        assert!(Command::new("mount").args(args).arg(at(target)).status().unwrap().success());
    };
    mount(&["-t", "tmpfs", "none"], "m/tmpfs");
    std::fs::write(at("m/tmpfs/x"), "x").unwrap();
    mount(&["--bind", at("from").to_str().unwrap()], "m/bind");
    mount(&["--bind", at("from/file").to_str().unwrap()], "file");
    let expect =
        "/:dir file:file from:dir from/below:dir from/file:file from/x:file m:dir m/bind:dir m/tmpfs:dir z:dir";
    let found = scan(&open(temp.path(), Calls::Native), &all(), &Watch::default()).unwrap();
    assert_eq!(shown(&found.tree), expect);
    assert_eq!(found.mounts, ["file", "m/bind", "m/tmpfs"].map(path));
    assert_eq!(found.tree.get(b"file").unwrap().group, None, "one inode, but not one of this tree's names");
    assert_eq!(fingerprint(&open(temp.path(), Calls::Native), &Watch::default()).unwrap(), None);
    // By device number alone, a bind of the same filesystem cannot be told from a directory.
    let found = scan(&open(temp.path(), Calls::Portable), &all(), &Watch::default()).unwrap();
    assert_eq!(found.mounts, [path("m/tmpfs")]);
    for calls in BOTH {
        let host = open(temp.path(), calls).crossing();
        let found = scan_paths(&host, &["m/tmpfs/x", "m/bind/below"].map(path), &all(), &Watch::default()).unwrap();
        assert_eq!(shown(&found.tree), "/:dir m:dir m/bind:dir m/bind/below:dir m/tmpfs:dir m/tmpfs/x:file");
        assert!(found.mounts.is_empty());
    }
    for name in ["file", "m/bind", "m/tmpfs"] {
        assert!(Command::new("umount").arg(at(name)).status().unwrap().success());
    }
}

/// Makes a chain of `depth` directories named `name`.
fn chain(root: &Path, name: &[u8], depth: usize) {
    let mut dir = open(root, Calls::Native);
    for _ in 0..depth {
        dir.make_dir(name, 0o755).unwrap();
        dir = dir.open_dir(name).unwrap();
    }
}

#[test]
fn a_deep_chain_needs_few_descriptors() {
    let temp = tempfile::tempdir().unwrap();
    if !inside("ulimit -n 40", "a_deep_chain_needs_few_descriptors") {
        return;
    }
    chain(temp.path(), b"a-name", 3000);
    chain(temp.path(), b"another", 3000);
    for calls in BOTH {
        let found = scan(&open(temp.path(), calls), &all(), &Watch::default()).unwrap();
        assert_eq!(found.tree.len(), 6001);
        assert_eq!(found.tree.nodes()[3000].path.as_bytes().len(), 3000 * 7 - 1);
    }
}

#[test]
fn a_path_that_is_too_long_is_named() {
    let temp = tempfile::tempdir().unwrap();
    chain(temp.path(), &[b'n'; 255], 257);
    let error = scan(&open(temp.path(), Calls::Native), &all(), &Watch::default()).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::BadInput, "path is longer than 64 KiB"));
    assert!(error.path().unwrap().starts_with(&[b'n'; 255]));
}

/// One thread turns the entries into other things while others scan and read.
#[test]
fn a_tree_that_changes_is_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    std::fs::create_dir_all(at("outside/secret")).unwrap();
    std::fs::create_dir_all(at("root/still/d")).unwrap();
    let (alive, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let names = ["root/a", "root/b", "root/still/c"].map(at);
            while ended.try_recv() == Err(TryRecvError::Empty) {
                for name in &names {
                    std::fs::create_dir_all(name.join("x/y")).unwrap();
                    std::fs::write(name.join("x/f"), "1").unwrap();
                    std::fs::rename(name.join("x"), name.join("z")).unwrap();
                    std::fs::remove_dir_all(name).unwrap();
                    symlink("../outside", name).unwrap();
                    std::fs::remove_file(name).unwrap();
                    std::fs::write(name, "file").unwrap();
                    std::fs::remove_file(name).unwrap();
                }
            }
        });
        let _alive = alive; // dropped at the end, however that comes
        for calls in BOTH.into_iter().cycle().take(300) {
            let found = scan(&open(&at("root"), calls), &all(), &Watch::default()).unwrap();
            assert!(found.tree.get(b"still/d").is_some());
            assert!(!shown(&found.tree).contains("secret"));
            Tree::new(found.tree.into_nodes()).unwrap();
        }
    });
}

#[test]
fn contents_are_read_as_they_are_now() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let large = vec![7; 300_000];
    std::fs::write(at("large"), &large).unwrap();
    std::fs::write(at("changed"), "before").unwrap();
    std::fs::hard_link(at("large"), at("other")).unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    let root = open(temp.path(), Calls::from_env());
    let mut tree = scan(&root, &all(), &Watch::default()).unwrap().tree;
    std::fs::write(at("changed"), "now longer").unwrap();
    digested(&root, &mut tree);
    let hash = |bytes: &[u8]| Some(Digest(Sha256::digest(bytes).into()));
    let node = |name: &str| tree.get(name.as_bytes()).unwrap();
    assert_eq!((node("large").digest(), node("other").digest()), (hash(&large), hash(&large)));
    assert_eq!((node("changed").digest(), node("changed").size()), (hash(b"now longer"), 10));
    assert!(node("changed").here.is_none() && node("large").here.is_some());
    assert_ne!(node("changed").meta.mtime, Time::default());
}

#[test]
fn nothing_but_a_file_is_opened() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let root = open(temp.path(), Calls::from_env());
    for (name, reason) in [
        ("fifo", "no longer a regular file"),
        ("link", "no longer a regular file"),
        ("gone", "No such file or directory"),
    ] {
        std::fs::write(at(name), "x").unwrap();
        let mut tree = scan(&root, &all(), &Watch::default()).unwrap().tree;
        std::fs::remove_file(at(name)).unwrap();
        match name {
            "fifo" => root.make_node(b"fifo", &Kind::Fifo, 0o644).unwrap(),
            "link" => symlink("/etc/passwd", at("link")).unwrap(),
            _ => {}
        }
        let which = [index(&tree, name)];
        let error = digest_files(&root, &mut tree, &which, &Watch::default()).unwrap_err();
        assert_eq!((error.reason(), error.path()), (reason, Some(name.as_bytes())));
    }
}

#[test]
fn a_user_can_stop_it() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("a"), "x").unwrap();
    let root = open(temp.path(), Calls::Native);
    let watch = Watch::default();
    let mut tree = scan(&root, &all(), &watch).unwrap().tree;
    watch.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(scan(&root, &all(), &watch).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(digest_files(&root, &mut tree, &[1], &watch).unwrap_err().kind(), ErrorKind::Cancelled);
}

/// What a stamp proves is taken from the tree; whatever was touched since, or is no file, is read.
#[test]
fn attributes_of_what_is_proved_are_not_read() {
    let temp = tempfile::tempdir().unwrap();
    let root = open(temp.path(), Calls::from_env());
    let set = |name: &str, value: &[u8]| {
        let list = vec![(b"user.a".as_slice().into(), value.into())];
        root.set_xattrs(name.as_bytes(), FileType::File, &list)
    };
    for name in ["same", "touched", "time", "dir/in"] {
        std::fs::create_dir_all(temp.path().join("dir")).unwrap();
        std::fs::write(temp.path().join(name), "x").unwrap();
    }
    if set("same", b"1").is_err() {
        eprintln!("skipped: no attributes here");
        return;
    }
    set("time", b"1").unwrap();
    settle();
    let mut known = scan(&root, &all(), &Watch::default()).unwrap().tree;
    // Told apart from what is there only where it is believed.
    for node in known.nodes_mut() {
        node.meta.xattrs = Some(Box::new(vec![(b"user.a".as_slice().into(), b"known".as_slice().into())]));
        node.meta.mtime.sec += i64::from(node.path == path("time"));
    }
    set("touched", b"2").unwrap();
    settle();
    let found = scan_known(&root, &all(), &known, &Watch::default()).unwrap().tree;
    let value = |name: &str| {
        let node = &found.nodes()[index(&found, name)];
        node.meta.xattrs.as_ref().map(|list| String::from_utf8_lossy(&list[0].1).into_owned())
    };
    let expect = [
        ("same", Some("known")),
        ("touched", Some("2")),
        ("time", Some("1")),
        ("dir", None),
        ("dir/in", Some("known")),
    ];
    for (name, expect) in expect {
        assert_eq!(value(name).as_deref(), expect, "{name}");
    }
    let trusting = scan_known(&root, &ScanOptions::default(), &known, &Watch::default()).unwrap().tree;
    assert!(trusting.nodes().iter().all(|node| node.meta.xattrs.is_none()));
}
