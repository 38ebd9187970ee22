// SPDX-License-Identifier: ISC
//! The invariants of the fuzz targets on a stable toolchain: seeds, and a few thousand changes of each, always the same.
//! `STOCKADE_ROUNDS=N` runs N times as many.
//! With `STOCKADE_CORPUS=fuzz/corpus` the seeds are written there for `cargo fuzz run TARGET`.

#[path = "../fuzz/invariants.rs"]
mod invariants;

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use stockade::source::archive::{Archive, Body, Limits};
use stockade::tree::Node;
use stockade::watch::Watch;

/// A generator that gives the same numbers everywhere (a linear congruence by Knuth).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides.max(1)
    }
}

/// Runs `check` on each seed and on `rounds` changed ones.
fn shake(target: &str, seeds: &[Vec<u8>], rounds: u32, check: fn(&[u8])) {
    if let Some(corpus) = std::env::var_os("STOCKADE_CORPUS") {
        let dir = Path::new(&corpus).join(target);
        std::fs::create_dir_all(&dir).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(dir.join(format!("seed{number}")), seed).unwrap();
        }
    }
    seeds.iter().for_each(|seed| check(seed));
    let mut dice = Dice(seeds.len() as u64);
    let times = std::env::var("STOCKADE_ROUNDS").map_or(1, |times| times.parse().unwrap());
    for _ in 0..rounds * times {
        let mut data = seeds[dice.roll(seeds.len())].clone();
        for _ in 0..=dice.roll(4) {
            change(&mut data, &seeds[dice.roll(seeds.len())], &mut dice);
        }
        check(&data);
    }
}

/// One change: a bit, a byte, a number, a piece taken out, doubled or brought from `other`, an end cut off.
fn change(data: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.roll(data.len());
    let end = (at + dice.roll(64)).min(data.len());
    match dice.roll(8) {
        0 if !data.is_empty() => data[at] ^= 1 << dice.roll(8),
        1 if !data.is_empty() => data[at] = *b"\0/.=\n7x\xff".get(dice.roll(8)).unwrap(),
        2 => data.splice(at..end, *b"18446744073709551615").for_each(drop),
        3 => data.drain(at..end).for_each(drop),
        4 => {
            let piece = data[at..end].to_vec();
            data.splice(at..at, piece).for_each(drop);
        }
        5 => {
            let from = dice.roll(other.len()) / 512 * 512;
            let piece = other[from..(from + 512).min(other.len())].to_vec();
            let block = (at / 512 * 512).min(data.len());
            data.splice(block..block, piece).for_each(drop);
        }
        6 => data.truncate(at),
        _ => data.push(u8::try_from(dice.roll(256)).unwrap()),
    }
}

/// A ustar or GNU header with its body.
fn entry(flag: u8, name: &str, link: &str, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000001");
    put(116, "0000002");
    put(124, &format!("{:011o}", body.len()));
    put(136, "00000000007");
    put(157, link);
    put(257, if b"LKS".contains(&flag) { "ustar  " } else { "ustar\x0000" });
    put(148, "        ");
    block[156] = flag;
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend_from_slice(body);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// A record of an extended header.
fn record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let length = if body + 2 < 100 { body + 2 } else { body + 3 };
    format!("{length} {key}={value}\n")
}

fn archives() -> Vec<Vec<u8>> {
    let pax = record("SCHILY.xattr.user.a", "b")
        + &record("mtime", "-1700000000.123456")
        + &record("LIBARCHIVE.xattr.b", "AAAA")
        + &record("SCHILY.acl.default", "user::rwx,user:7:rw-,group::r-x,mask::rwx,other::r-x");
    let sparse = record("GNU.sparse.major", "1")
        + &record("GNU.sparse.minor", "0")
        + &record("GNU.sparse.name", "s")
        + &record("GNU.sparse.realsize", "9");
    let mut map = b"1\n3\n2\n".to_vec();
    map.resize(512, 0);
    map.extend(b"ab");
    let mut old = entry(b'S', "old", "", b"abc");
    old[386..410].copy_from_slice(b"00000000002\x0000000000003\0");
    old[483..494].copy_from_slice(b"00000000011");
    let parts = [
        entry(b'5', "./", "", b""),
        entry(b'5', "d/", "", b""),
        entry(b'0', "d/file", "", b"body"),
        entry(b'1', "d/hard", "d/file", b""),
        entry(b'2', "link", "d", b""),
        entry(b'3', "char", "", b""),
        entry(b'6', "pipe", "", b""),
        entry(b'x', "x", "", pax.as_bytes()),
        entry(b'0', "attributes", "", b""),
        entry(b'g', "g", "", record("comment", "hello").as_bytes()),
        entry(b'L', "././@LongLink", "", b"long/name\0"),
        entry(b'0', "short", "", b"x"),
        entry(b'x', "x", "", sparse.as_bytes()),
        entry(b'0', "GNUSparseFile.1/s", "", &map),
        old,
        vec![0; 1024],
    ];
    let tar = invariants::mended(&parts.concat());
    let package = |name: &str, data: &[u8]| {
        let member = |name: &str, data: &[u8]| {
            let head = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, data.len());
            let mut out = [head.as_bytes(), data].concat();
            out.resize(out.len().next_multiple_of(2), b'\n');
            out
        };
        [b"!<arch>\n".to_vec(), member("debian-binary", b"2.0\n"), member(name, data)].concat()
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(&tar).unwrap();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    vec![package("data.tar.gz", &gzip), package("data.tar", &tar), tar, gzip, xz.finish().unwrap(), zstd]
}

/// The text of a seed's tree, which must be sound: a seed that is refused would make these tests empty.
fn manifest_of(archive: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    let mut bodies = 0;
    let archive = Archive::open(file, "seed", Limits::default()).unwrap();
    let mut count = |_: u32, _: &Node, _: Body<'_>| {
        bodies += 1;
        Ok(())
    };
    let contents = archive.read(&mut count, &Watch::default()).unwrap();
    invariants::text(&invariants::check_contents(contents, bodies))
}

#[test]
fn tar() {
    let seeds = archives();
    let texts: HashSet<Vec<u8>> = seeds.iter().map(|seed| manifest_of(seed)).collect();
    assert_eq!(texts.len(), 1, "all packings hold the same");
    shake("tar", &seeds, 1500, invariants::tar);
}

#[test]
fn manifest() {
    shake("manifest", &[manifest_of(&archives()[0])], 4000, invariants::manifest);
}

#[test]
fn signify() {
    let seeds = [invariants::KEY.to_vec(), invariants::SIGNED.to_vec()];
    shake("signify", &seeds, 100, invariants::signify);
}

#[test]
fn checklist() {
    let hex = "0123456789abcdef".repeat(4);
    let base64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let seeds = [
        format!("SHA256 (base.tgz) = {hex}\nSHA256 (comp.tgz) = {base64}\nSHA512 (x) = {hex}{hex}\n"),
        format!("{hex}  base.tgz\n{hex} *b\n\\{hex}  new\\nline\n"),
    ];
    shake("checklist", &seeds.map(String::into_bytes), 4000, invariants::checklist);
}

#[test]
fn recipe() {
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    shake("recipe", &seeds, 500, invariants::recipe);
}

/// A patch, its manifest and an index that lists it.
fn patches() -> Vec<Vec<u8>> {
    use stockade::patch::repository::{Index, Listed};
    use stockade::patch::{Contents, FollowUp, Head, write_bundle};
    use stockade::tree::diff::diff;
    use stockade::tree::text::read_tree;
    use stockade::tree::{Digest, Tree};
    let head = Head {
        name: "errata-7.8-001_x-amd64".into(),
        series: "errata".into(),
        number: Some(1),
        title: "a title".into(),
        note: "a\n\nnote\n".into(),
        requires: vec![("other".into(), Digest([1; 32]))],
        follow_ups: vec![FollowUp::Ldconfig],
        users: [(0, "root".to_owned())].into(),
        ..Head::default()
    };
    let tree = read_tree(&manifest_of(&archives()[0])).unwrap();
    let gone = diff(&tree, &Tree::default());
    let whole = Contents::new(head.clone(), diff(&Tree::default(), &tree));
    let bare = Contents::new(head, gone);
    let mut bundle = Vec::new();
    write_bundle(&bare, &mut |_| unreachable!("nothing comes"), (&mut bundle, b"out"), &Default::default()).unwrap();
    let listed = Listed::of(&whole, 7, Digest([2; 32]));
    let index = Index { counter: 1, date: 2, patches: [("a".to_owned(), listed)].into() };
    vec![whole.text(), bare.text(), index.text().into_bytes(), bundle]
}

#[test]
fn patch() {
    shake("patch", &patches(), 3000, invariants::patch);
}

#[test]
fn loaders() {
    use stockade::select::closure::cache::{Entry, write};
    let entry = |hwcap: Option<&str>| Entry {
        name: b"libx.so.1".to_vec(),
        flags: 0x303,
        hwcap: hwcap.map(|name| name.as_bytes().to_vec()),
        path: b"/usr/lib/libx.so.1".to_vec(),
    };
    let mut hints: Vec<u8> =
        [0o11_421_044_151_u64, 2, 64, 0, 64, 20, 0, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
    hints.extend(b"\0/usr/lib:/usr/local\0");
    let program = std::fs::read("/bin/sh").unwrap();
    let seeds = [
        write(&[entry(None), entry(Some("x86-64-v3"))], false),
        write(&[entry(None)], true),
        hints,
        b"#!/usr/bin/env -S python3 -I\n".to_vec(),
        program[..program.len().min(1 << 16)].to_vec(),
    ];
    shake("loader", &seeds, 1500, invariants::loader);
}

#[test]
fn packing_list() {
    let list = "@name bash-5.2.37\n@comment pkgpath=shells/bash ftp=yes\n@arch amd64\n+DESC\n\
        @sha AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n@size 12\n@depend devel/x:x-*:x-1\n@cwd /usr/local\n\
        @shell bin/bash\n@sha AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n@size 4\n@ts 1700000000\n\
        share/examples/bash/\nshare/examples/bash/bashrc\n@size 4\n@sample /etc/bashrc\n@extra /etc/x/*\n\
        @rcscript /etc/rc.d/x\n@symlink y\n@exec %D/bin/bash\n@mode 4555\n";
    assert!(stockade::select::packages::pkg::contents::PackingList::parse(list.as_bytes()).is_ok());
    shake("packing_list", &[list.into()], 3000, invariants::packing_list);
}
