// SPDX-License-Identifier: ISC
//! A tree with one of everything, packed by the archivers that people use, read back and compared field by field with
//! the tree itself. Needs root, for owners and devices.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};
use stockade::path::{PathSet, TreePath};
use stockade::source::archive::{Archive, Body, Limits};
use stockade::source::dir::{self, ScanOptions};
use stockade::sys::{Calls, Dir};
use stockade::tree::{Digest, Kind, Node, Tree};
use stockade::watch::Watch;

/// One of everything; the last lines are for the times that making the rest would move.
const MAKE: &str = r#"
set -e; umask 022
mkdir -p d/empty d/closed d/sticky d/setgid d/acl long
printf hello > d/file; : > d/none; head -c 3000000 /dev/urandom > d/big; head -c 1048576 /dev/zero > d/mega
ln d/file d/hard; ln d/file a-hard; ln -s file d/link; ln d/link d/link-hard
ln -s "$(printf 'x%.0s' $(seq 300))" d/long-link; ln -s /etc/passwd d/absolute
n=$(printf 'n%.0s' $(seq 150)); mkdir -p long/$n; echo deep > long/$n/$n; ln long/$n/$n long/hard
touch "$(printf 'd/\377\376 latin')" "$(printf 'd/new\nline')" 'd/blank name' 'd/back\slash' 'd/%41=x' d/-dash
mkfifo d/pipe; mknod d/null c 1 3; mknod d/disk b 259 65536
truncate -s 8M d/hollow; truncate -s 5M d/sparse; truncate -s 300K d/many
printf middle | dd of=d/sparse bs=1 seek=2000000 conv=notrunc status=none
for i in $(seq 0 8 64); do printf $i | dd of=d/many bs=4096 seek=$i conv=notrunc status=none; done
setfattr -n user.plain -v value d/file; setfattr -n user.odd=%name -v 0x00ff3d0a d/file; setfattr -n user.on-dir -v x d/acl
setfattr -n trusted.too -v y d/none
setfacl -m u:54321:rw,g:54322:r d/big; setfacl -d -m u:54321:rwx d/acl
cp d/none d/able; setcap cap_net_raw+ep d/able
chown 3000000000:3000000001 d/none; chown 1234:5678 d/file; chown -h 7:8 d/link
chmod 4755 d/big; chmod 2755 d/setgid; chmod 1777 d/sticky; chmod 0555 d/closed; chmod 0 d/blank\ name
touch -d @1700000000.123456789 d/file; touch -d @0 d/none; touch -d @-1 d/pipe; touch -d @-1.5 d/big
touch -d @-86400.000000001 d/sparse; touch -d @5000000000.5 d/mega; touch -h -d @12345.678 d/link
touch -d @1000.000000001 d/acl; touch -d @2000 d long .
"#;

/// What an archive format cannot carry and the comparison leaves out.
#[derive(Default)]
struct Loses {
    nanoseconds: bool,
    /// Attributes whose names do not begin so.
    attributes_but: Option<&'static [&'static str]>,
    /// Fractions of seconds before 1970 are written in a way of its own.
    old_fractions: bool,
    /// Runs of zeros are not kept as holes.
    holes: bool,
}

#[test]
fn what_archivers_pack_is_read_back_exactly() {
    if !can() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("root");
    std::fs::create_dir(&root).unwrap();
    sh(&root, MAKE);
    let live = scan(&root);
    assert_eq!(live.len(), 34);
    let gnu = "tar --numeric-owner --sparse -C root -f";
    let all = "--xattrs --xattrs-include='*' --acls";
    let text: &[&str] = &["system."]; // without --xattrs the access lists are there as text only
    for (command, loses) in [
        (format!("{gnu} - --format=posix {all} -c . > x"), Loses::default()),
        (format!("{gnu} - --format=posix {all} --sparse-version=0.1 -c . > x"), Loses::default()),
        (format!("{gnu} - --format=posix {all} --sparse-version=0.0 -c . > x"), Loses::default()),
        (format!("{gnu} - --format=posix --acls -c . > x"), Loses { attributes_but: Some(text), ..Loses::default() }),
        (format!("{gnu} - --format=posix {all} -c . | gzip -c > x"), Loses::default()),
        (format!("{gnu} - --format=posix {all} -c . | zstd -q -c > x"), Loses::default()),
        (format!("{gnu} - --format=posix {all} -c . | xz -1 -c > x"), Loses::default()),
        (
            format!("{gnu} - --format=gnu -c . > x"),
            Loses { nanoseconds: true, attributes_but: Some(&[]), ..Loses::default() },
        ),
        ("bsdtar --format pax -C root -cf x .".into(), Loses { old_fractions: true, ..Loses::default() }),
        (
            "bsdtar --format pax --no-read-sparse -C root -czf x .".into(),
            Loses { old_fractions: true, holes: true, ..Loses::default() },
        ),
    ] {
        sh(work.path(), &command);
        let (packed, holes) = read(&work.path().join("x"));
        compare(&command, &live, &packed, &loses);
        assert_eq!(holes >= 3, !loses.holes, "{command}: {holes} files with holes");
    }
}

#[test]
fn a_package_is_read_as_dpkg_reads_it() {
    if !can() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    sh(work.path(), "mkdir -p p/DEBIAN p/usr/bin; echo x > p/usr/bin/x; ln -s x p/usr/bin/y; chmod 4755 p/usr/bin/x");
    sh(
        work.path(),
        "printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n' > p/DEBIAN/control",
    );
    for compression in ["none", "gzip", "xz", "zstd"] {
        sh(work.path(), &format!("rm -rf x root; dpkg-deb -Z{compression} -b p x >/dev/null; dpkg-deb -x x root"));
        let (packed, _) = read(&work.path().join("x"));
        compare(
            compression,
            &scan(&work.path().join("root")),
            &packed,
            &Loses { nanoseconds: true, ..Loses::default() },
        );
    }
}

fn can() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let tools = ["tar", "bsdtar", "setfattr", "setfacl", "setcap", "zstd", "xz", "dpkg-deb"];
    let tool = |t: &&str| Command::new(t).arg("--help").output().is_err();
    let missing: Vec<_> = tools.into_iter().filter(tool).collect();
    if root && missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "needs root and {missing:?}");
    eprintln!("SKIPPED: needs root and {missing:?}");
    false
}

fn sh(dir: &Path, script: &str) {
    let done = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

fn scan(root: &Path) -> Tree {
    let dir = Dir::open(root, Calls::Native).unwrap();
    let watch = Watch::default();
    let options = ScanOptions { xattrs: true, skip: PathSet::default() };
    let mut tree = dir::scan(&dir, &options, &watch).unwrap().tree;
    let all: Vec<usize> = (0..tree.len()).collect();
    dir::digest_files(&dir, &mut tree, &all, &watch).unwrap();
    tree
}

/// The archive as a tree with digests, and how many of its files have holes.
fn read(path: &Path) -> (Tree, usize) {
    let archive = Archive::open(File::open(path).unwrap(), "x", Limits::default()).unwrap();
    let (mut digests, mut holes) = (Vec::new(), 0);
    let visited = archive.read(
        &mut |_, node, body| {
            let bytes = expand(body, node.size(), &mut holes);
            digests.push(Digest(Sha256::digest(&bytes).into()));
            Ok(())
        },
        &Watch::default(),
    );
    let nodes = visited.unwrap().nodes.into_iter().map(|(mut node, body)| {
        if let (Kind::File { digest, .. }, Some(body)) = (&mut node.kind, body) {
            *digest = Some(digests[body as usize]);
        }
        node
    });
    (Tree::new(nodes.collect()).unwrap(), holes)
}

fn expand(body: Body<'_>, size: u64, holes: &mut usize) -> Vec<u8> {
    let (reader, map) = match body {
        Body::Small(bytes) => return bytes,
        Body::Stream { reader, map } => (reader, map),
    };
    let mut out = vec![0; usize::try_from(size).unwrap()];
    let map = map.unwrap_or_else(|| vec![(0, size)]);
    *holes += usize::from(map.iter().map(|(_, length)| length).sum::<u64>() < size);
    for (offset, length) in map {
        let start = usize::try_from(offset).unwrap();
        reader.read_exact(&mut out[start..start + usize::try_from(length).unwrap()]).unwrap();
    }
    out
}

fn compare(what: &str, live: &Tree, packed: &Tree, loses: &Loses) {
    let paths = |tree: &Tree| tree.nodes().iter().map(|n| n.path.clone()).collect::<Vec<TreePath>>();
    assert_eq!(paths(live), paths(packed), "{what}");
    for (want, have) in live.nodes().iter().zip(packed.nodes()) {
        let mut want = lessened(want, loses);
        if loses.old_fractions && want.meta.mtime.sec < 0 && want.meta.mtime.nsec != 0 {
            want.meta.mtime = have.meta.mtime;
        }
        assert_eq!(
            (&want.meta, &want.kind, &want.group),
            (&have.meta, &have.kind, &have.group),
            "{what}: {}",
            want.path
        );
    }
}

/// The node as a format that loses something keeps it.
fn lessened(node: &Node, loses: &Loses) -> Node {
    let mut node = node.clone();
    if loses.nanoseconds {
        node.meta.mtime.nsec = 0;
    }
    if let (Some(kept), Some(xattrs)) = (loses.attributes_but, &mut node.meta.xattrs) {
        xattrs.retain(|(name, _)| kept.iter().any(|prefix| name.starts_with(prefix.as_bytes())));
        if xattrs.is_empty() {
            node.meta.xattrs = None;
        }
    }
    node
}
