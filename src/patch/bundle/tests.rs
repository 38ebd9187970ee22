// SPDX-License-Identifier: ISC
//! Patches as files: what is written is read, by others too, and what was touched is refused.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::process::Command;

use super::*;
use crate::error::ErrorKind;
use crate::patch::Keys;
use crate::patch::contents::{FollowUp, Head};
use crate::patch::signed::{Signer, sign_gzip};
use crate::sign::SecretKey;
use crate::tree::{Meta, Time, Tree};
use crate::watch::Watch;
use sha2::{Digest as _, Sha256};

/// Bodies by their digests.
type Store = HashMap<Digest, Vec<u8>>;

fn file(store: &mut Store, path: &str, body: &[u8], mode: u16) -> Node {
    let digest = Digest(Sha256::digest(body).into());
    store.insert(digest, body.to_vec());
    let meta = Meta { mode, mtime: Time { sec: 1_000_000_000, nsec: 5 }, ..Meta::default() };
    let kind = Kind::File { size: body.len() as u64, digest: Some(digest) };
    Node::new(TreePath::new(path.as_bytes().to_vec()).unwrap(), meta, kind)
}

/// A patch of every kind of change, and its bodies.
fn sample() -> (Contents, Store) {
    let mut store = Store::new();
    let long = format!("usr/share/{}/{}", "d".repeat(120), "f".repeat(120));
    let noise: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let mut file = |path: &str, body: &[u8], mode| file(&mut store, path, body, mode);
    let dirs = ["d etc", "d usr", "d usr/bin", "d usr/share"].map(crate::tree::tests::node);
    let mut before = vec![
        file("etc/motd", b"welcome\n", 0o644),
        file("usr/bin/ls", b"one", 0o755),
        file("usr/bin/gone", b"gone", 0o755),
        file("usr/bin/mode", b"mode", 0o755),
    ];
    let dir = crate::tree::tests::node(&format!("d usr/share/{}", "d".repeat(120)));
    let mut twin = file("usr/bin/dir", b"two", 0o755);
    let mut after = vec![
        file("etc/motd", b"hello\n", 0o644),
        file("usr/bin/ls", b"two", 0o755),
        file("usr/bin/empty", b"", 0o755),
        file("usr/bin/mode", b"mode", 0o700),
        file("usr/bin/noise", &noise, 0o4755),
        crate::tree::tests::node("l usr/bin/sh ../../bin/ksh"),
        dir,
        file(&long, b"long", 0o644),
    ];
    let first = TreePath::new(*b"usr/bin/dir").unwrap();
    twin.group = Some(first.clone());
    after.iter_mut().filter(|n| n.path.as_bytes() == b"usr/bin/ls").for_each(|n| n.group = Some(first.clone()));
    after.push(twin);
    before.extend(dirs.clone());
    after.extend(dirs);
    let plan = crate::tree::diff::diff(&Tree::new(before).unwrap(), &Tree::new(after).unwrap());
    let head = Head {
        name: "fix-7.8-001_ls-amd64".into(),
        series: "fix-7.8-amd64".into(),
        number: Some(1),
        system: "linux".into(),
        date: 1_700_000_000,
        title: "a title: of one line".into(),
        note: "two\n\nlines\n".into(),
        requires: vec![("fix-7.8-000_x-amd64".into(), Digest([1; 32]))],
        follow_ups: vec![FollowUp::Ldconfig, FollowUp::Restart("sshd".into())],
        commands: vec!["rcctl restart x # really".into()],
        users: [(0, "root".to_owned())].into(),
        ..Head::default()
    };
    (Contents::new(head, plan), store)
}

/// The patch, not signed.
fn pack(contents: &Contents, store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    let mut source = |member: &Member| -> Result<Box<dyn Read>> {
        Ok(Box::new(Cursor::new(store[&member.digest(contents).unwrap()].clone())))
    };
    write_bundle(contents, &mut source, (&mut out, b"out"), &Watch::default()).unwrap();
    out
}

fn key() -> SecretKey {
    SecretKey::new(*b"number 1", [7; 32])
}

fn signed(gzip: Vec<u8>, key: &SecretKey) -> Vec<u8> {
    let signer = Signer { key, comment: "verify with t.pub", path: "/k/t.sec", date: "2026-11-22T00:00:00Z" };
    let mut out = Vec::new();
    sign_gzip(&mut Cursor::new(gzip), &signer, &mut out).unwrap();
    out
}

/// Path, kind and content of a body.
type Unpacked = (String, What, Vec<u8>);

/// Reads a patch to its end; all bodies by path and kind.
fn unpack(file: &[u8], trust: Trust<'_>) -> Result<(Contents, Vec<Unpacked>)> {
    let mut bodies = Vec::new();
    let contents = Bundle::open(file, trust)?.read(
        &mut |contents, member, body| {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes).map_err(|_| crate::Error::new(ErrorKind::Io, "echo"))?;
            bodies.push((contents.entries[member.entry].change.path.to_string(), member.what, bytes));
            Ok(())
        },
        &Watch::default(),
    )?;
    Ok((contents, bodies))
}

#[test]
fn what_is_written_is_read() {
    let (contents, store) = sample();
    let keys = Keys(vec![("t".to_owned(), key().public())]);
    let file = signed(pack(&contents, &store), &key());
    let (read, bodies) = unpack(&file, Trust::Keys(&keys)).unwrap();
    assert_eq!(String::from_utf8(read.text()).unwrap(), String::from_utf8(contents.text()).unwrap());
    assert_eq!(read.digest(), contents.digest());
    let shown: Vec<String> =
        bodies.iter().map(|(path, what, body)| format!("{what:?} {} {path}", body.len())).collect();
    let long = format!("Whole 4 usr/share/{}/{}", "d".repeat(120), "f".repeat(120));
    let expect = [
        "Base 8 etc/motd",
        "Whole 6 etc/motd",
        "Whole 3 usr/bin/dir",
        "Whole 0 usr/bin/empty",
        "Whole 800000 usr/bin/noise",
        &long,
    ];
    assert_eq!(shown, expect);
    assert_eq!(pack(&contents, &store), pack(&sample().0, &store), "the same every time");
}

/// tar lists and unpacks it; signify verifies it.
#[test]
fn other_programs_read_it() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let (contents, store) = sample();
    let file = signed(pack(&contents, &store), &key());
    std::fs::write(at("p.tgz"), &file).unwrap();
    std::fs::write(at("t.pub"), key().public().to_file("t").unwrap()).unwrap();
    std::fs::create_dir(at("root")).unwrap();
    for tar in ["tar", "bsdtar"] {
        let done = Command::new(tar).args(["-xzpf"]).arg(at("p.tgz")).arg("-C").arg(at("root")).status().unwrap();
        assert!(done.success(), "{tar}");
        let root = at("root");
        assert_eq!(std::fs::read(root.join("usr/bin/dir")).unwrap(), b"two");
        assert_eq!(
            std::fs::read(root.join(manifest(&contents.head.name).unwrap().as_os_str())).unwrap(),
            contents.text()
        );
        let long = contents.entries.last().unwrap().change.path.as_os_str().to_owned();
        assert_eq!(std::fs::read(root.join(long)).unwrap(), b"long");
        assert_eq!(std::fs::read_link(root.join("usr/bin/sh")).unwrap().as_os_str(), "../../bin/ksh");
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::create_dir(&root).unwrap();
    }
    let Ok(out) =
        Command::new("signify-openbsd").args(["-Vz", "-p"]).arg(at("t.pub")).arg("-x").arg(at("p.tgz")).output()
    else {
        assert!(std::env::var_os("CI").is_none(), "signify-openbsd is missing");
        return eprintln!("SKIPPED: signify-openbsd is missing");
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// A file of whole blocks alone is one that signify refuses; ours has more.
#[test]
fn whole_blocks_alone_are_avoided() {
    let (contents, store) = sample();
    let gzip = pack(&contents, &store);
    for over in [0usize, 1, 65535] {
        // An empty member of the right length behind it, by its comment.
        let room = (10 + 65536 * 20 + over - gzip.len()) - 21;
        let mut padded = gzip.clone();
        padded.extend_from_slice(&[0x1f, 0x8b, 8, 16, 0, 0, 0, 0, 0, 3]);
        padded.extend(std::iter::repeat_n(b'x', room));
        padded.extend_from_slice(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((padded.len() - 10) % 65536, over);
        let file = signed(padded, &key());
        let keys = Keys(vec![("t".to_owned(), key().public())]);
        unpack(&file, Trust::Keys(&keys)).unwrap();
        let data = file.len() - file.iter().skip(10).position(|&b| b == 0).unwrap() - 11;
        assert_ne!(data % 65536, 0);
    }
}

/// Every class of byte of a patch, changed, cut, doubled: nothing of it is taken.
#[test]
fn what_was_touched_is_refused() {
    let (contents, store) = sample();
    let gzip = pack(&contents, &store);
    let file = signed(gzip.clone(), &key());
    let keys = Keys(vec![("t".to_owned(), key().public())]);
    let refused = |file: &[u8], what: &str| {
        let error = unpack(file, Trust::Keys(&keys)).map(drop).expect_err(what);
        assert!(matches!(error.kind(), ErrorKind::Unverified | ErrorKind::BadInput), "{what}: {error}");
    };
    let end_of_comment = 10 + file[10..].iter().position(|&b| b == 0).unwrap();
    let data = end_of_comment + 1;
    let signature = file[10..].iter().position(|&b| b == b'\n').unwrap() + 11;
    let places = [0, 1, 2, 3, signature, signature + 20, signature + 150, data - 70, end_of_comment, data, data + 9];
    for at in places.into_iter().chain((data..file.len()).step_by(9973)).chain([file.len() - 1, file.len() - 9]) {
        for bit in [1, 0x80] {
            let mut bad = file.clone();
            bad[at] ^= bit;
            refused(&bad, &format!("byte {at} changed"));
        }
    }
    for cut in (0..file.len()).step_by(4999).chain([data, data + 65536, file.len() - 1]) {
        refused(&file[..cut], &format!("cut at {cut}"));
    }
    refused(&[&file[..], b"x"].concat(), "a byte more");
    refused(&[&file[..], &file[..]].concat(), "doubled");
    let (one, two) = (data..data + 65536, data + 65536..data + 131_072);
    refused(&[&file[..data], &file[two.clone()], &file[one.clone()], &file[two.end..]].concat(), "blocks exchanged");
    refused(&[&file[..data], &file[one.clone()], &file[one.start..]].concat(), "a block twice");
    refused(&gzip, "not signed");
    refused(&signed(gzip.clone(), &SecretKey::new(*b"number 2", [7; 32])), "another key's number");
    refused(&signed(gzip.clone(), &SecretKey::new(*b"number 1", [8; 32])), "another key");
    assert!(unpack(&gzip, Trust::Anyone).is_ok() && unpack(&file, Trust::Anyone).is_ok());
}

/// Archives that a key signed, and that are still no patch: members that are not what the manifest says.
#[test]
fn members_are_what_the_manifest_says() {
    let (contents, store) = sample();
    let tar = |gzip: &[u8]| {
        let mut tar = Vec::new();
        crate::source::archive::Gunzip::new(gzip).read_to_end(&mut tar).unwrap();
        tar
    };
    let gz = |tar: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, tar).unwrap();
        out.finish().unwrap()
    };
    let good = tar(&pack(&contents, &store));
    assert!(unpack(&gz(&good), Trust::Anyone).is_ok());
    let find = |name: &[u8]| good.windows(name.len()).rposition(|window| window == name).unwrap() / 512 * 512;
    let (empty, noise) = (find(b"usr/bin/empty"), find(b"usr/bin/noise"));
    let swap = |from: &str, to: &str| {
        let text = String::from_utf8(good[512..].to_vec()[..contents.text().len()].to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        let mut bad = good.clone();
        let new = text.replacen(from, to, 1);
        assert_eq!(text.len(), new.len());
        bad[512..512 + new.len()].copy_from_slice(new.as_bytes());
        bad
    };
    let two = good.chunks(512).position(|block| block.starts_with(b"usr/bin/dir\0")).unwrap() * 512;
    let put = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    for (what, bad) in [
        ("members exchanged", [&good[..two], &good[empty..noise], &good[two..empty], &good[noise..]].concat()),
        ("a member added", [&good[..empty], &good[two..two + 1024], &good[empty..]].concat()),
        ("padding of the manifest", put(512 + contents.text().len(), b"x")),
        ("padding of a body", put(two + 512 + 3, b"x")),
        ("another header's name", put(two, b"usr/bin/dix")),
        ("a link target", put(find(b"../../bin/ksh") + 157, b"../../bin/csh")),
        ("a long name", put(find(b"ffff") + 200, b"9")),
        ("a size of a manifest without end", put(124, b"77777777777")),
        ("no size of a manifest", put(124, b"00000000000")),
        ("a member twice", [&good[..noise], &good[empty..empty + 512], &good[noise..]].concat()),
        ("a member gone", [&good[..empty], &good[empty + 512..]].concat()),
        ("no end", good[..good.len() - 1024].to_vec()),
        ("more after the end", [&good[..], &[0; 512]].concat()),
        ("no manifest", good[empty..].to_vec()),
        ("another path", swap("./usr/bin/empty ", "./usr/bin/emptz ")),
        ("a path that leaves", swap("./usr/bin/empty ", "./usr/../../pty ")),
        ("another mode", swap("mode=04755", "mode=06755")),
        ("an unknown word", swap("change replace body", "change replace bodx")),
        ("another name", swap("name fix-7.8-001", "name fix-7.8-002")),
        ("a name that leaves", swap("name fix-7.8-001", "name ../-7.8-001")),
    ] {
        assert!(unpack(&gz(&bad), Trust::Anyone).is_err(), "{what}");
    }
}

#[test]
fn manifests_that_are_none() {
    let text = String::from_utf8(sample().0.text()).unwrap();
    assert!(Contents::parse(text.as_bytes()).is_ok());
    for cut in 0..text.len() {
        assert!(Contents::parse(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
    for (from, to) in [
        ("stockade patch 1", "stockade patch 2"),
        ("stockade patch 1", "stockade 1"),
        ("number 1", "number 01"),
        ("number 1", "number one"),
        ("name fix-7.8-001_ls-amd64", "name fix/7"),
        ("name fix-7.8-001_ls-amd64", "name .fix"),
        ("name fix-7.8-001_ls-amd64\n", ""),
        ("name fix-7.8-001_ls-amd64\n", "name a\nname b\n"),
        ("title a title", "title \u{1b}[2J"),
        ("follow-up ldconfig", "follow-up rm"),
        ("follow-up restart sshd", "follow-up restart -x"),
        ("user 0 root", "user 0 ro ot"),
        ("change replace body base", "change replace base"),
        ("change replace body base", "change replace body body"),
        ("change replace body base", "change in-place body base"),
        ("./etc/motd ", "./var/db/stockade/patches/x "),
        ("./etc/motd ", "./zzz "),
        ("link=./usr/bin/dir", "link=/usr/bin/dir"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(Contents::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
    }
}

/// What plain tar leaves of odd entries is checked by what they are in the archive.
#[test]
fn headers_have_room_for_anything() {
    let path = TreePath::new(*b"dev/x").unwrap();
    let header = |kind, uid, mtime| Header { path: &path, kind, mode: 0o644, uid, gid: 0, user: "", group: "", mtime };
    let huge = header(Type::File(1 << 40), 3_000_000, -5).blocks();
    assert_eq!(huge.len(), 3 * 512);
    let pax = String::from_utf8_lossy(&huge[512..1024]).trim_end_matches('\0').to_owned();
    assert_eq!(pax, "15 uid=3000000\n22 size=1099511627776\n12 mtime=-5\n");
    assert_eq!(header(Type::Char(1, 3), 0, 0).blocks().len(), 512);
}
