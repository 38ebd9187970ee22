// SPDX-License-Identifier: ISC
//! What holds of the parsers for any bytes whatever. Each function panics if it does not; the fuzz targets and
//! `tests/fuzz.rs` call them.
#![allow(unreachable_pub, dead_code, reason = "each program that includes this uses some of it")]

use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek, Write};

use stockade::patch::repository::Index;
use stockade::patch::{Bundle, Contents as Patch, Trust, verify_body};
use stockade::path::{PathSet, TreePath};
use stockade::sign::{self, CheckList, PublicKey};
use stockade::source::archive::{Archive, Body, Contents, Limits};
use stockade::tree::overlay::Overlay;
use stockade::tree::text::{Dialect, read_tree, write_tree};
use stockade::tree::{Kind, Node, Tree};
use stockade::watch::Watch;

/// An archive is refused, or what it holds makes a tree: each path once, nothing below anything but a directory, every
/// body as long as its file and inside the limits. Headers are read as they are and with their checksums mended, so that
/// a changed byte is not all that is noticed.
pub fn tar(data: &[u8]) {
    read_archive(data);
    read_archive(&mended(data));
}

fn read_archive(data: &[u8]) {
    thread_local!(static FILE: File = tempfile::tempfile().expect("a temporary file"));
    let file = FILE.with(|file| {
        let mut file = file.try_clone().expect("another descriptor");
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(data)).expect("written");
        file
    });
    let limits = Limits { unpacked: 8 << 20, floor: 1 << 20, ratio: 100, entries: 1000, ..Limits::default() };
    let unpacked = limits.unpacked;
    let Ok(archive) = Archive::open(file, "fuzz", limits) else { return };
    let (mut bodies, mut total) = (0, 0);
    let read = archive.read(
        &mut |index, node, body| {
            assert_eq!(index, bodies);
            bodies += 1;
            total += node.size();
            assert!(total <= unpacked);
            check_body(node.size(), body);
            Ok(())
        },
        &Watch::default(),
    );
    if let Ok(contents) = read {
        check_text(&check_contents(contents, bodies));
    }
}

fn check_body(size: u64, body: Body<'_>) {
    match body {
        Body::Small(bytes) => assert_eq!(bytes.len() as u64, size),
        Body::Stream { reader, map } => {
            let mut end = 0;
            let map = map.unwrap_or_else(|| vec![(0, size)]);
            for &(offset, length) in &map {
                assert!(offset >= end && length > 0);
                end = offset + length;
                assert!(end <= size);
            }
            let stored: u64 = map.iter().map(|(_, length)| length).sum();
            let mut bytes = Vec::new();
            if reader.read_to_end(&mut bytes).is_ok() {
                assert_eq!(bytes.len() as u64, stored);
            }
        }
    }
}

pub fn check_contents(contents: Contents, bodies: u32) -> Tree {
    let mut paths = HashSet::new();
    for (node, body) in &contents.nodes {
        assert!(paths.insert(node.path.clone()), "{} twice", node.path);
        assert!(!node.path.components().any(|name| name == b".." || name == b"."));
        assert_eq!(matches!(node.kind, Kind::File { .. }), body.is_some());
        assert!(body.is_none_or(|body| body < bodies));
        assert!(node.meta.mode <= 0o7777 && node.meta.mtime.nsec < 1_000_000_000);
        assert!(node.meta.uid != u32::MAX && node.meta.gid != u32::MAX);
    }
    let nodes: Vec<Node> = contents.nodes.into_iter().map(|(node, _)| node).collect();
    let mut overlay = Overlay::default();
    overlay.lay(nodes, &TreePath::root(), &PathSet::default()).expect("the contents of one archive make a tree");
    overlay.finish().expect("a tree").0
}

/// Recomputes the checksum of whatever looks like a header.
pub fn mended(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    for block in data.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    data
}

/// A manifest is refused, or it is a tree whose text reads back as the same text.
pub fn manifest(data: &[u8]) {
    if let Ok(tree) = read_tree(data) {
        check_text(&tree);
    }
}

pub fn text(tree: &Tree) -> Vec<u8> {
    let mut out = Vec::new();
    write_tree(tree, &mut out, Dialect::Stockade).expect("writing to memory");
    out
}

fn check_text(tree: &Tree) {
    let once = text(tree);
    let again = read_tree(&once).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&once)));
    assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&text(&again)));
}

/// A key whose secret half signed [`SIGNED`] and was then thrown away.
pub const KEY: &[u8] = b"untrusted comment: vector plain public key\n\
    RWSXfQ6Z2CRltHqNU3o52Eng/qiNlrsCy53DCd12Ub6pa8+tiYikrX2y\n";
const MESSAGE: &[u8] = b"hello chroot\n";
/// A message signed by that key.
pub const SIGNED: &[u8] = b"untrusted comment: verify with plain.pub\n\
    RWSXfQ6Z2CRltPhVVGK8JDDl4EgQAs2Gbz5NggKohzFpa+NtJGHY+u+wLRn56wRmeAWIGrgpcV/pFRXKYUM1rt6cbancY+QvWwY=\n\
    hello chroot\n";

/// Under a given key nothing verifies but the one message that its owner signed; no bytes make a key that signed it.
pub fn signify(data: &[u8]) {
    let key = PublicKey::parse(KEY).expect("a key");
    if let Ok(message) = sign::verify_embedded(data, &key) {
        assert_eq!(message, MESSAGE);
    }
    if sign::verify_detached(data, MESSAGE, &key).is_ok() {
        assert!(sign::verify_detached(data, b"hello", &key).is_err());
    }
    if let Ok(other) = PublicKey::parse(data) {
        let real = other.number() == key.number() && sign::verify_embedded(SIGNED, &other).is_ok();
        assert!(
            !real || String::from_utf8_lossy(data).contains("RWSXfQ6Z2CRltHqNU3o52Eng/qiNlrsCy53DCd12Ub6pa8+tiYikrX2y")
        );
    }
}

/// A checksum list is refused, or it lists no more files than it has lines, and twice the list is the same list.
pub fn checklist(data: &[u8]) {
    let Ok(list) = CheckList::parse(data) else { return };
    let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
    assert!(list.len() <= lines);
    let newline: &[u8] = if data.is_empty() || data.ends_with(b"\n") { b"" } else { b"\n" };
    let twice = CheckList::parse(&[data, newline, data].concat()).expect("equal duplicates");
    assert_eq!(twice.len(), list.len());
}

/// A recipe is refused with words, or what is remembered of it reads back as the same recipe. Recipes that extend
/// others are left out: they would read files.
pub fn recipe(data: &[u8]) {
    let Some(text) = std::str::from_utf8(data).ok().filter(|text| !text.contains("extends")) else { return };
    match stockade::recipe::parse(text, "/fuzz.toml") {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(recipe) => {
            let text = recipe.to_toml().expect("what came from text has a text");
            let again = stockade::recipe::parse(&text, "/other.toml").unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(again, recipe, "{text}");
        }
    }
}

/// The manifest of a patch, or the index of a repository, is refused, or says the same when it is written and read again.
/// A patch file is refused, or its manifest is one and its bodies are what that says.
pub fn patch(data: &[u8]) {
    if let Ok(contents) = Patch::parse(data) {
        let text = contents.text();
        assert_eq!(Patch::parse(&text).expect("what was read").text(), text);
        assert_eq!(contents.plan().changes.len(), contents.entries.len());
    }
    if let Ok(index) = Index::parse(data) {
        assert_eq!(Index::parse(index.text().as_bytes()).expect("what was read"), index);
    }
    if let Ok(bundle) = Bundle::open(data, Trust::Anyone)
        && let Ok(contents) = bundle.read(&mut verify_body, &Watch::default())
    {
        assert!(Patch::parse(&contents.text()).is_ok());
    }
}

/// What tells of libraries and interpreters is refused, or gives what a loader could use: bounded lists of names and
/// absolute paths.
pub fn loader(data: &[u8]) {
    use stockade::select::closure::{cache, hints, script};
    use stockade::select::elf;
    if let Some(entries) = cache::read(data) {
        assert!(entries.iter().all(|entry| entry.path.starts_with(b"/") && !entry.name.is_empty()));
        assert!(entries.len() * 24 <= data.len());
        // What is written is read back, whatever was in it.
        let written = cache::write(&entries, false);
        let back = cache::read(&written).expect("what was written");
        assert!(back.len() <= entries.len() && back.iter().all(|entry| entries.contains(entry)));
    }
    if let Some(dirs) = hints::directories(data) {
        assert!(dirs.iter().all(|dir| dir.starts_with(b"/")) && dirs.len() <= 1024);
    }
    if let Some(interpreter) = script::interpreter(data) {
        assert!(interpreter.path.starts_with(b"/") && interpreter.path.len() <= data.len());
    }
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(data).expect("written");
    if let Some(elf) = elf::read(file) {
        assert!(elf.needed.len() <= 4096 && elf.needed.iter().all(|name| name.len() < 4096));
    }
}

/// A packing list is refused, or it lists relative paths without `..`, and samples are of files in it.
pub fn packing_list(data: &[u8]) {
    use stockade::select::packages::pkg::contents::{PackingList, What};
    let Ok(list) = PackingList::parse(data) else { return };
    assert!(!list.name.is_empty() && !list.name.contains('/') && list.unknown.len() <= 8);
    assert!(list.items.len() <= data.split(|&byte| byte == b'\n').count());
    for item in &list.items {
        assert!(!item.path.is_root() && item.path.components().all(|name| name != b".." && name != b"."));
        if let What::Sample(of) = &item.what {
            assert!(list.items.iter().any(|item| item.path == *of));
        }
    }
}
