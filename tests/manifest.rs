// SPDX-License-Identifier: ISC
//! `--format mtree` text against the programs that read it: Debian's mtree (mtree-netbsd) and bsdtar.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use stockade::source::dir::{ScanOptions, digest_files, scan};
use stockade::sys::{Calls, Dir, effective_uid};
use stockade::tree::text::{Dialect, read_tree, write_tree};
use stockade::tree::{Kind, Tree};
use stockade::watch::Watch;

/// Root and the programs are there. Without them the test only says so; but not in CI.
fn is_possible() -> bool {
    let missing = ["mtree", "bsdtar"].into_iter().find(|p| !Path::new("/usr/bin").join(p).exists());
    let reason = missing.map(|p| format!("{p} is not installed")).or((effective_uid() != 0).then(|| "not root".into()));
    let Some(reason) = reason else { return true };
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    eprintln!("skipped: {reason}");
    false
}

fn scanned(path: &Path) -> Tree {
    let root = Dir::open(path, Calls::from_env()).unwrap();
    let mut tree = scan(&root, &ScanOptions::default(), &Watch::default()).unwrap().tree;
    let every: Vec<usize> = (0..tree.len()).collect();
    digest_files(&root, &mut tree, &every, &Watch::default()).unwrap();
    tree
}

fn text(tree: &Tree, dialect: Dialect) -> Vec<u8> {
    let mut text = Vec::new();
    write_tree(tree, &mut text, dialect).unwrap();
    text
}

/// A directory with everything in it that a manifest can name.
fn fill(root: &Path) {
    let odd: [&[u8]; 13] = [
        b"a b",
        b"n\nl",
        b"#hash",
        b"a=b",
        b"back\\slash",
        b"\xff\xfe",
        b"[z]",
        b"*",
        b"?x",
        b"-f",
        b"...",
        "ü".as_bytes(),
        b"\x01\x7f",
    ];
    for name in odd {
        let dir = root.join("odd").join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
        symlink(std::ffi::OsStr::from_bytes(name), dir.join("link")).unwrap();
    }
    fs::create_dir_all(root.join("deep").join("n".repeat(200)).join("m".repeat(255))).unwrap();
    fs::write(root.join("set-id"), vec![7; 100_000]).unwrap();
    chown(root.join("set-id"), Some(1000), Some(4_000_000_000)).unwrap();
    fs::set_permissions(root.join("set-id"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("set-id"), root.join("odd/second name")).unwrap();
    let dir = Dir::open(root, Calls::Native).unwrap();
    dir.make_node(b"null", &Kind::Char(1, 3), 0o666).unwrap();
    dir.make_node(b"big", &Kind::Char(300, 70_000), 0o600).unwrap();
    dir.make_node(b"disk", &Kind::Block(8, 1), 0o660).unwrap();
    dir.make_node(b"pipe", &Kind::Fifo, 0o644).unwrap();
    let old = fs::File::create(root.join("old")).unwrap();
    old.set_modified(UNIX_EPOCH - Duration::from_nanos(1_500_000_001)).unwrap();
    let new = fs::File::create(root.join("new")).unwrap();
    new.set_modified(UNIX_EPOCH + Duration::new(5_000_000_000, 1)).unwrap();
}

/// What mtree says of `root` against `text`: its exit status (0 the same, 2 it differs) and its report.
fn mtree(root: &Path, text: &[u8]) -> (Option<i32>, String) {
    let mut command = Command::new("mtree");
    let mut child = command.arg("-p").arg(root).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn mtree_verifies_it() {
    if !is_possible() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    fill(temp.path());
    let tree = scanned(temp.path());
    let plain = text(&tree, Dialect::Mtree);
    assert_eq!(mtree(temp.path(), &plain), (Some(0), String::new()));
    // and sees each kind of change
    for (change, what) in [
        ("chmod 0700 'odd/a b/a b'", "permissions"),
        ("chown 5 null", "user"),
        ("touch -h -d @77 odd/*z?/link", "modification time"),
        ("ln -sfn elsewhere odd/-f/link", "link ref"),
        ("rm disk && mknod disk b 8 2", "device"),
        ("printf X > 'odd/#hash/#hash'", "size"),
        ("printf X | dd of=set-id conv=notrunc status=none", "sha256"),
        ("rm pipe", "missing: ./pipe"),
        ("mkdir extra", "extra: extra"),
    ] {
        assert!(Command::new("sh").args(["-c", change]).current_dir(temp.path()).status().unwrap().success());
        let (status, report) = mtree(temp.path(), &plain);
        assert_eq!(status, Some(2), "{change}");
        assert!(report.contains(what), "{change}: {report}");
    }
}

#[test]
fn bsdtar_archives_by_it() {
    if !is_possible() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fill(&from);
    let tree = scanned(&from);
    fs::write(temp.path().join("list"), text(&tree, Dialect::Mtree)).unwrap();
    let bsdtar = |args: &[&str], at: &Path| {
        let output = Command::new("bsdtar").args(args).current_dir(at).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    bsdtar(&["--format=pax", "-cf", "../all.tar", "@../list"], &from);
    bsdtar(&["-xpf", "../all.tar"], &to);
    let back = scanned(&to);
    // mtree has no word for hard links; all else is the same
    let lines = |tree: &Tree| {
        let text = String::from_utf8(text(tree, Dialect::Mtree)).unwrap();
        // bsdtar leaves the time of the directory that it unpacks into
        text.lines().filter(|line| !line.starts_with(". ")).collect::<Vec<_>>().join("\n")
    };
    similar(&lines(&back), &lines(&tree));
}

/// Asserts line by line, so that a failure can be read.
fn similar(have: &str, want: &str) {
    for (have, want) in have.lines().zip(want.lines()) {
        assert_eq!(have, want);
    }
    assert_eq!(have.lines().count(), want.lines().count());
}

#[test]
fn a_real_tree_survives_its_text() {
    let root = Dir::open("/usr/share".as_ref(), Calls::from_env()).unwrap();
    let tree = scan(&root, &ScanOptions { xattrs: true, ..ScanOptions::default() }, &Watch::default()).unwrap().tree;
    let written = text(&tree, Dialect::Stockade);
    let back = read_tree(&written).unwrap();
    assert!(tree.nodes().iter().zip(back.nodes()).all(|(a, b)| a.same(b) && a.here == b.here && a.group == b.group));
    assert_eq!(text(&back, Dialect::Stockade), written);
}
