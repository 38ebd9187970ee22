// SPDX-License-Identifier: ISC
//! Archives built byte by byte: what is refused, with which words, and what is read out of the rest.

use std::io::Write;

use super::header::BLOCK;
use super::{Archive, Body, Contents, Limits};
use crate::error::{Error, IoContext, Result};
use crate::tree::{Kind, Tree};
use crate::watch::Watch;

/// A header block and what follows it.
#[derive(Clone)]
struct Made(Vec<u8>);

impl Made {
    /// A ustar header, its size that of `body`.
    fn new(flag: u8, name: &[u8], body: &[u8]) -> Made {
        let mut made = Made(vec![0; BLOCK]);
        made.0[..name.len()].copy_from_slice(name);
        made.0[156] = flag;
        made.0[257..265].copy_from_slice(b"ustar\x0000");
        let made = made.octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0);
        let mut made = made.octal(124, 12, body.len() as u64).octal(136, 12, 7);
        made.0.extend_from_slice(body);
        made.0.resize(made.0.len().next_multiple_of(BLOCK), 0);
        made
    }

    fn octal(self, at: usize, length: usize, value: u64) -> Made {
        self.set(at, format!("{value:0width$o}\0", width = length - 1).as_bytes())
    }

    /// Overwrites a field and mends the checksum.
    fn set(mut self, at: usize, bytes: &[u8]) -> Made {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0[..BLOCK].iter().map(|&b| u32::from(b)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn gnu(self) -> Made {
        self.set(257, b"ustar  \0")
    }

    /// Adds raw bytes behind.
    fn then(mut self, bytes: &[u8]) -> Made {
        self.0.extend_from_slice(bytes);
        self
    }

    /// This and the next as one.
    fn with(mut self, next: Made) -> Made {
        self.0.extend(next.0);
        self
    }
}

fn f(name: &str) -> Made {
    Made::new(b'0', name.as_bytes(), name.as_bytes())
}
fn d(name: &str) -> Made {
    Made::new(b'5', name.as_bytes(), b"")
}
fn link(flag: u8, name: &str, target: &str) -> Made {
    Made::new(flag, name.as_bytes(), b"").set(157, target.as_bytes())
}
fn s(name: &str, target: &str) -> Made {
    link(b'2', name, target)
}
fn h(name: &str, target: &str) -> Made {
    link(b'1', name, target)
}
/// A GNU long name or long link.
fn long(flag: u8, text: &str) -> Made {
    Made::new(flag, b"././@LongLink", &[text.as_bytes(), b"\0"].concat()).gnu()
}
/// An extended header.
fn x(flag: u8, pairs: &[(&str, &str)]) -> Made {
    let mut data = String::new();
    for (key, value) in pairs {
        let body = key.len() + value.len() + 3;
        let length = (1..10).map(|digits| body + digits).find(|n| body + n.to_string().len() == *n).unwrap();
        data.push_str(&format!("{length} {key}={value}\n"));
    }
    Made::new(flag, b"PaxHeaders/x", data.as_bytes())
}

fn tar(parts: &[Made]) -> Vec<u8> {
    let mut out: Vec<u8> = parts.iter().flat_map(|made| made.0.clone()).collect();
    out.extend([0; 2 * BLOCK]);
    out
}

fn read_with(bytes: &[u8], limits: Limits, visit: &mut super::Visit<'_>) -> Result<Contents> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Archive::open(file, "t", limits)?.read(visit, &Watch::default())
}

/// What an archive says, in one line: each node with its content, hard links with `=` and their first name.
fn told(bytes: &[u8], limits: Limits) -> Result<String> {
    let mut bodies = Vec::new();
    let contents = read_with(bytes, limits, &mut |index, node, body| {
        assert_eq!(index as usize, bodies.len());
        bodies.push(expand(body, node.size()).on("read", "")?);
        Ok(())
    })?;
    let nodes: Vec<_> = contents.nodes.iter().map(|(node, _)| node.clone()).collect();
    if nodes.iter().all(|n| n.path.depth() < 2) {
        Tree::new(nodes).unwrap();
    }
    let say = |(node, body): &(crate::tree::Node, Option<u32>)| {
        let content = match &node.kind {
            Kind::File { .. } => String::from_utf8_lossy(&bodies[body.unwrap() as usize]).into_owned(),
            Kind::Symlink(target) => format!("->{}", String::from_utf8_lossy(target)),
            Kind::Char(major, minor) | Kind::Block(major, minor) => format!("{}{major},{minor}", node.kind.word()),
            kind => kind.word().to_owned(),
        };
        let group = node.group.as_ref().map_or(String::new(), |g| format!("={g}"));
        format!("{}{group}:{content}", node.path)
    };
    Ok(contents.nodes.iter().map(say).collect::<Vec<_>>().join(" "))
}

/// The bytes of a body, its holes as dots.
fn expand(body: Body<'_>, size: u64) -> std::io::Result<Vec<u8>> {
    match body {
        Body::Small(bytes) => {
            assert_eq!(bytes.len() as u64, size);
            Ok(bytes)
        }
        Body::Stream { reader, map } => {
            let map = map.unwrap_or_else(|| vec![(0, size)]);
            let mut out = vec![b'.'; usize::try_from(size).unwrap()];
            for (offset, length) in map {
                let start = usize::try_from(offset).unwrap();
                reader.read_exact(&mut out[start..start + usize::try_from(length).unwrap()])?;
            }
            assert_eq!(reader.read(&mut [0])?, 0);
            Ok(out)
        }
    }
}

fn table(cases: Vec<(Vec<u8>, &str)>) {
    for (number, (bytes, expect)) in cases.into_iter().enumerate() {
        let limits = Limits { extents: 40, header: 5000, ..Limits::default() };
        let got = told(&bytes, limits).unwrap_or_else(|e| format!("! {e}"));
        assert_eq!(got, expect, "case {number}");
    }
}

#[test]
fn what_wins() {
    table(vec![
        (tar(&[]), ""),
        (tar(&[d("./"), d("a/"), f("a/b"), s("a/c", "../b")]), "/:dir a:dir a/b:a/b a/c:->../b"),
        (tar(&[f("a"), Made::new(b'0', b"./a", b"new")]), "a:new"),
        (tar(&[f("a"), d("a"), f("a/b")]), "a:dir a/b:a/b"),
        (tar(&[s("a", "/etc"), d("a"), f("a/b")]), "a:dir a/b:a/b"),
        (tar(&[d("a"), s("a", "/etc")]), "a:->/etc"),
        (tar(&[f("a/b")]), "a/b:a/b"),
        // hard links: to what the target was when they came; a body never reaches a shared inode
        (tar(&[f("a"), h("b", "a"), h("c", "./b")]), "a=a:a b=a:a c=a:a"),
        (tar(&[f("a"), h("b", "a"), Made::new(b'0', b"a", b"new")]), "a:new b:a"),
        (tar(&[f("a"), h("b", "a"), Made::new(b'0', b"b", b"new")]), "a:a b:new"),
        (tar(&[f("z"), h("b", "z"), h("c", "z"), d("z")]), "b=b:z c=b:z z:dir"),
        (tar(&[s("a", "/etc/passwd"), h("b", "a"), Made::new(b'0', b"b", b"x")]), "a:->/etc/passwd b:x"),
        (tar(&[s("a", "t"), h("b", "a")]), "a=a:->t b=a:->t"),
        (tar(&[f("a"), h("a", "a")]), "a:a"),
        (tar(&[Made::new(b'6', b"p", b""), h("q", "p")]), "p=p:fifo q=p:fifo"),
        // kinds and old spellings
        (tar(&[link(b'3', "c", "").octal(329, 8, 5).octal(337, 8, 1)]), "c:char5,1"),
        (tar(&[link(b'4', "c", "").octal(329, 8, 8).set(337, b"\x80\0\0\0\0\x01\0\0")]), "c:block8,65536"),
        (
            tar(&[x(b'x', &[("SCHILY.devmajor", "9"), ("SCHILY.devminor", "300000")]), link(b'3', "c", "")]),
            "c:char9,300000",
        ),
        (tar(&[Made::new(0, b"a", b"old").set(257, &[0; 8])]), "a:old"),
        (tar(&[Made::new(0, b"a/", b"").set(257, &[0; 8])]), "a:dir"),
        (tar(&[Made::new(b'7', b"a", b"x")]), "a:x"),
        (tar(&[f("b").set(345, b"a/a")]), "a/a/b:b"),
        (tar(&[f("b").gnu().set(345, b"a/a")]), "b:b"),
        // long names, and which of several counts
        (tar(&[long(b'L', "l/n"), f("short").gnu()]), "l/n:short"),
        (tar(&[long(b'K', "tar/get"), long(b'L', "n"), s("short", "x").gnu()]), "n:->tar/get"),
        (tar(&[x(b'x', &[("path", "p"), ("linkpath", "t")]), s("short", "x")]), "p:->t"),
        (tar(&[long(b'L', "l"), x(b'x', &[("path", "p")]), f("short")]), "p:short"),
        (tar(&[x(b'x', &[("path", "p")]), long(b'L', "l"), f("short")]), "p:short"),
        (tar(&[x(b'x', &[("path", "p")]), f("a"), f("b")]), "b:b p:a"),
        (tar(&[x(b'g', &[("comment", "hello")]), f("a")]), "a:a"),
        // the size that counts is the extended header's, and it is not that of a long name between
        (tar(&[x(b'x', &[("size", "3")]), Made::new(b'0', b"a", b"").then(&f("new").0[BLOCK..])]), "a:new"),
        (tar(&[x(b'x', &[("size", "3")]), long(b'L', "l"), Made::new(b'0', b"a", b"new").octal(124, 12, 0)]), "l:new"),
        (
            tar(&[x(b'x', &[("size", "600")]), Made::new(b'0', b"a", b"").then(&d("hidden").0).then(&[0; BLOCK])]),
            &shown(),
        ),
        (b"\0".repeat(512), ""),
        (tar(&[f("a")])[..1536].to_vec(), "a:a"),
    ]);
}

/// The bytes that an archive tried to smuggle past us as a body, read as what they are.
fn shown() -> String {
    format!("a:{}", String::from_utf8_lossy(&d("hidden").then(&[0; BLOCK]).0[..600]))
}

#[test]
fn hostile() {
    let big = "x".repeat(256);
    let deep = "d/".repeat(40_000);
    let nul = "16 path=a\0/../b\n";
    table(vec![
        // out of the tree
        (tar(&[f("../a")]), "! t: ../a: \"..\" in a path"),
        (tar(&[f("a/../../b")]), "! t: a/../../b: \"..\" in a path"),
        (tar(&[f("..")]), "! t: ..: \"..\" in a path"),
        (tar(&[f("/etc/passwd")]), "! t: /etc/passwd: an absolute name"),
        (tar(&[f("passwd").set(345, b"/etc")]), "! t: /etc/passwd: an absolute name"),
        (tar(&[x(b'x', &[("path", "/a")]), f("b")]), "! t: /a: an absolute name"),
        (tar(&[long(b'L', "../a"), f("b").gnu()]), "! t: ../a: \"..\" in a path"),
        (tar(&[f("a"), h("b", "/etc/shadow")]), "! t: b: hard link to /etc/shadow: an absolute name"),
        (tar(&[f("a"), h("b", "../shadow")]), "! t: b: hard link to ../shadow: \"..\" in a path"),
        (tar(&[Made::new(b'0', b"", b"x")]), "! t: : an empty name"),
        // through a link, or through anything that is no directory
        (tar(&[s("a", "/tmp"), f("a/b")]), "! t: a/b: it lies below a, which is a link in this archive"),
        (tar(&[s("a", "/tmp"), d("a/b/c")]), "! t: a/b/c: it lies below a, which is a link in this archive"),
        (tar(&[s("a", "."), s("a/b", "x")]), "! t: a/b: it lies below a, which is a link in this archive"),
        (tar(&[f("x"), s("a", "/"), h("a/b", "x")]), "! t: a/b: it lies below a, which is a link in this archive"),
        (tar(&[s("l", "/"), h("a", "l"), f("a/b")]), "! t: a/b: it lies below a, which is a link in this archive"),
        (tar(&[f("a"), f("a/b")]), "! t: a/b: it lies below a, which is a file in this archive"),
        (
            tar(&[d("a"), f("a/b"), s("a", "/")]),
            "! t: a: a link takes the place of a directory that has entries in this archive",
        ),
        (tar(&[f("a/b"), f("a")]), "! t: a: a file takes the place of a directory that has entries in this archive"),
        (
            tar(&[f("x"), f("a/b/c"), h("a", "x")]),
            "! t: a: a hard link takes the place of a directory that has entries in this archive",
        ),
        (tar(&[f("./")]), "! t: ./: it has a body and is no file"),
        (tar(&[s("./", "/")]), "! t: /: the root of the archive is a link"),
        (tar(&[f("a"), h(".", "a")]), "! t: /: the root of the archive is a hard link"),
        // hard links to nothing
        (tar(&[h("b", "a")]), "! t: b: it is a hard link to a, which the archive does not hold before it"),
        (tar(&[h("b", "a"), f("a")]), "! t: b: it is a hard link to a, which the archive does not hold before it"),
        (tar(&[f("a/b"), h("c", "a")]), "! t: c: it is a hard link to a, which the archive does not hold before it"),
        (tar(&[d("a"), h("b", "a")]), "! t: b: it is a hard link to a, a directory"),
        (tar(&[h("b", "")]), "! t: b: hard link to : an empty name"),
        // hidden entries: bodies where readers disagree, and what they disagree on else
        (tar(&[Made::new(b'5', b"d", &f("h").0)]), "! t: d: it has a body and is no file"),
        (tar(&[f("a"), Made::new(b'1', b"b", b"x").set(157, b"a")]), "! t: b: it has a body and is no file"),
        (tar(&[x(b'x', &[("size", "512")]), s("a", "b"), f("h")]), "! t: a: it has a body and is no file"),
        (tar(&[f("a"), Made(vec![0; BLOCK]), f("b")]), "! t: data after the end of the archive"),
        ([tar(&[f("a")]), tar(&[f("b")])].concat(), "! t: data after the end of the archive"),
        ([tar(&[f("a")]), b"x".to_vec()].concat(), "! t: data after the end of the archive"),
        (
            tar(&[x(b'x', &[("path", "a"), ("path", "b")]), f("c")]),
            "! t: PaxHeaders/x: its extended header has path twice",
        ),
        (tar(&[x(b'x', &[("path", "a")]), x(b'x', &[("path", "b")]), f("c")]), "! t: two extensions x for one entry"),
        (tar(&[long(b'L', "a"), long(b'L', "b"), f("c")]), "! t: two extensions L for one entry"),
        (tar(&[x(b'g', &[("path", "a")]), f("c")]), "! t: a global header sets path for all entries"),
        (tar(&[x(b'g', &[("size", "0")]), f("c")]), "! t: a global header sets size for all entries"),
        (
            tar(&[f("a"), x(b'x', &[("path", "b")])]),
            "! t: the archive ends with an extended header that belongs to no entry",
        ),
        (tar(&[Made::new(b'x', b"n", nul.as_bytes()), f("a")]), "! t: a\\000/../b: NUL byte in a path"),
        (tar(&[x(b'x', &[("linkpath", "a\0b")]), s("a", "b")]), "! t: a: NUL byte in the target of a symbolic link"),
        (tar(&[Made::new(b'x', b"n", b"99 path=a\n"), f("a")]), "! t: n: a record of its extended header is malformed"),
        (tar(&[Made::new(b'x', b"n", b"path=a\n"), f("a")]), "! t: n: a record of its extended header is malformed"),
        (
            tar(&[x(b'x', &[("path", "b")]).set(257, &[0; 8]), f("a")]),
            "! t: extension x in an archive older than extensions",
        ),
        (tar(&[Made::new(b'Z', b"a", b"")]), "! t: a: entry of an unknown type 'Z'"),
        (tar(&[Made::new(b'V', b"label", b"")]), "! t: label: entry of an unknown type 'V'"),
        (tar(&[Made::new(b's', b"sock", b"")]), "! t: sock: entry of an unknown type 's'"),
        (tar(&[s("a", "")]), "! t: a: a symbolic link to nothing"),
        // numbers
        (tar(&[f("a").octal(124, 12, 0o7_777_777)]), "! t: a: the archive is cut short"),
        (
            tar(&[f("a").set(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")]),
            "! t: a: with its 9223372036854775807 bytes the archive unpacks to more than 1099511627776",
        ),
        (
            tar(&[f("a").set(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")]),
            "! t: a: the size field holds no usable number",
        ),
        (tar(&[f("a").set(124, b"\x80\0\0\x01\0\0\0\0\0\0\0\x01")]), "! t: a: the size field holds no usable number"),
        (tar(&[f("a").set(124, b"0000000000x\0")]), "! t: a: the size field holds no usable number"),
        (tar(&[f("a").set(100, b"-000644\0")]), "! t: a: the mode field holds no usable number"),
        (tar(&[f("a").set(108, b"\x80\0\0\x01\0\0\0\0")]), "! t: a: the owner field holds no usable number"),
        (
            tar(&[f("a").set(116, b"\x80\0\0\0\xff\xff\xff\xff")]),
            "! t: a: an owner or group of -1, which chown(2) takes for \"leave it\"",
        ),
        (
            tar(&[x(b'x', &[("uid", "4294967295")]), f("a")]),
            "! t: a: an owner or group of -1, which chown(2) takes for \"leave it\"",
        ),
        (
            tar(&[x(b'x', &[("size", "99999999999999999999")]), f("a")]),
            "! t: PaxHeaders/x: its extended header has no usable size",
        ),
        (tar(&[x(b'x', &[("mtime", "now")]), f("a")]), "! t: PaxHeaders/x: its extended header has no usable mtime"),
        (
            tar(&[link(b'3', "c", "").set(329, b"\xff\xff\xff\xff\xff\xff\xff\xff")]),
            "! t: c: the device field holds no usable number",
        ),
        // too long
        (tar(&[x(b'x', &[("path", &big)]), f("a")]), &format!("! t: {big}: name is longer than 255 bytes")),
        (
            tar(&[x(b'x', &[("comment", &"x".repeat(6000))]), f("a")]),
            "! t: an extended header of 6014 bytes, more than 5000",
        ),
        (tar(&[long(b'L', &deep), f("a").gnu()]), "! t: an extended header of 80001 bytes, more than 5000"),
        (
            tar(&[Made::new(b'L', b"n", b"").gnu().set(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), f("a")]),
            "! t: an extended header of 9223372036854775807 bytes, more than 5000",
        ),
        // broken
        (Vec::new(), "! t: the archive is empty"),
        (vec![0; 100], "! t: the archive is cut short"),
        (b"hello".repeat(300), "! t: not a tar archive, neither plain nor in gzip, xz or zstd"),
        (tar(&[f("a"), Made(vec![7; BLOCK])]), "! t: bad checksum of the header at byte 1024"),
        (b"BZh91AY".repeat(300), "! t: bzip2 is not supported"),
        (b"PK\x03\x04".repeat(300), "! t: zip is not supported"),
    ]);
}

#[test]
fn sparse_maps() {
    let old = |ranges: &[(u64, u64)], size: u64, body: &[u8]| {
        let mut made = Made::new(b'S', b"s", body).gnu().octal(483, 12, size);
        for (index, (offset, length)) in ranges.iter().enumerate().take(4) {
            made = made.octal(386 + index * 24, 12, *offset).octal(398 + index * 24, 12, *length);
        }
        made
    };
    let key = |pairs: &[(&'static str, &'static str)], body: &[u8]| x(b'x', pairs).with(Made::new(b'0', b"s", body));
    let one = |map: &str, body: &[u8], size: &'static str| {
        let mut data = map.as_bytes().to_vec();
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        data.extend_from_slice(body);
        key(
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "n"),
                ("GNU.sparse.realsize", size),
            ],
            &data,
        )
    };
    let more = {
        // four ranges in the header, two in the block that follows
        let head = old(&[(0, 1), (2, 1), (4, 1), (6, 1)], 14, b"").octal(124, 12, 6).set(482, b"\x01");
        let mut block = vec![0; BLOCK];
        for (index, (offset, length)) in [(8, 1), (10, 1), (14, 0)].iter().enumerate() {
            block[index * 24..][..24].copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
        }
        let mut body = b"abcdef".to_vec();
        body.resize(BLOCK, 0);
        head.then(&block).then(&body)
    };
    let many = |n: usize| format!("{n}\n{}", "0\n0\n".repeat(n));
    table(vec![
        (tar(&[old(&[(1, 2), (5, 3)], 9, b"abcde"), f("z")]), "s:.ab..cde. z:z"),
        (tar(&[old(&[], 3, b""), f("z")]), "s:... z:z"),
        (tar(&[more, f("z")]), "s:a.b.c.d.e.f... z:z"),
        (
            tar(&[key(
                &[
                    ("GNU.sparse.size", "6"),
                    ("GNU.sparse.numblocks", "2"),
                    ("GNU.sparse.offset", "1"),
                    ("GNU.sparse.numbytes", "1"),
                    ("GNU.sparse.offset", "4"),
                    ("GNU.sparse.numbytes", "1"),
                ],
                b"ab",
            )]),
            "s:.a..b.",
        ),
        (
            tar(&[key(&[("GNU.sparse.size", "6"), ("GNU.sparse.name", "n"), ("GNU.sparse.map", "0,1,3,2")], b"abc")]),
            "n:a..bc.",
        ),
        (tar(&[one("2\n1\n2\n5\n0\n", b"ab", "5"), f("z")]), "n:.ab.. z:z"),
        (tar(&[one("0\n", b"", "2"), f("z")]), "n:.. z:z"),
        (tar(&[one(&format!("40\n{}", "1\n0\n".repeat(39) + "1\n1\n"), b"a", "2"), f("z")]), "n:.a z:z"),
        // hostile
        (tar(&[old(&[(5, 3), (1, 2)], 9, b"abcde")]), "! t: s: its map of a sparse file is malformed"),
        (tar(&[old(&[(1, 3), (3, 2)], 9, b"abcde")]), "! t: s: its map of a sparse file is malformed"),
        (tar(&[old(&[(1, 5)], 5, b"abcde")]), "! t: s: its map of a sparse file is malformed"),
        (tar(&[old(&[(0, 4)], 5, b"abcde")]), "! t: s: its map of a sparse file is malformed"),
        (
            tar(&[old(&[], 1 << 32, b"").set(483, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")]),
            "! t: s: with its 9223372036854775807 bytes the archive unpacks to more than 1099511627776",
        ),
        (
            tar(&[old(&[(1, 1)], 5, b"").set(386, b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")]),
            "! t: s: its map of a sparse file is malformed",
        ),
        (tar(&[Made::new(b'S', b"s", b"")]), "! t: s: a sparse file in an archive that is not GNU's"),
        (tar(&[key(&[("GNU.sparse.map", "0,1,3")], b"a")]), "! t: PaxHeaders/x: its map of a sparse file is malformed"),
        (tar(&[key(&[("GNU.sparse.map", "0,1")], b"a")]), "! t: s: its map of a sparse file is malformed"),
        (
            tar(&[key(&[("GNU.sparse.size", "1"), ("GNU.sparse.numbytes", "1")], b"a")]),
            "! t: PaxHeaders/x: its map of a sparse file is malformed",
        ),
        (
            tar(&[key(&[("GNU.sparse.size", "1"), ("GNU.sparse.offset", "0")], b"a")]),
            "! t: s: its map of a sparse file is malformed",
        ),
        (
            tar(&[key(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.size", "1")], b"a")]),
            "! t: s: it is sparse in a way that is not supported",
        ),
        (tar(&[one("1\n0\n", b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (tar(&[one("99999999999999999999\n", b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (tar(&[one(&many(41), b"", "1")]), "! t: n: it is sparse with more than 40 ranges"),
        (tar(&[one("18446744073709551615\n0\n0\n", b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (tar(&[one(&"1".repeat(2000), b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (
            tar(&[x(b'x', &[("SCHILY.realsize", "7")]), f("s")]),
            "! t: PaxHeaders/x: it is sparse in star's own way, which is not supported",
        ),
    ]);
}

/// The same archive in each packing.
fn packings(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let xz = |bytes: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let half = tar.len() / 2;
    let (front, back) = tar.split_at(half);
    vec![
        ("tar", tar.to_vec()),
        ("gz", gzip(tar)),
        ("gz twice", [gzip(front), gzip(back)].concat()),
        ("xz", xz(tar)),
        ("xz twice", [xz(front), xz(back)].concat()),
        ("zst", zstd(tar)),
        ("zst twice", [zstd(front), zstd(back)].concat()),
        ("deb", deb(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar", tar)])),
        ("deb gz", deb(&[("debian-binary", b"2.0\n"), ("_x/", b""), ("data.tar.gz/", &gzip(tar)), ("later", b"odd")])),
        ("deb zst", deb(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar.zst", &zstd(tar))])),
    ]
}

fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

/// Bytes that do not pack well, so that cutting them hits the middle of things.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_packing_reads_the_same_and_none_is_read_short() {
    let body = noise(1500);
    let made = tar(&[d("d"), Made::new(b'0', b"d/a", &body), s("d/l", "a"), h("d/h", "d/a"), f("z")]);
    let expect = told(&made, Limits::default()).unwrap();
    for (packing, bytes) in packings(&made) {
        assert_eq!(told(&bytes, Limits::default()).unwrap(), expect, "{packing}");
        let contents = read_with(&bytes, Limits::default(), &mut |_, _, _| Ok(())).unwrap();
        assert_eq!(contents.digest.0[..], <sha2::Sha256 as sha2::Digest>::digest(&bytes)[..], "{packing}");
        // Cut anywhere: an error, but where the second block of the end mark goes, which says nothing.
        let step = if packing == "tar" { BLOCK } else { 61 };
        let whole = if packing == "tar" { bytes.len() - BLOCK } else { bytes.len() };
        for end in (0..whole).step_by(step) {
            if packing == "deb gz" && end >= bytes.len() - 63 {
                break; // the member after the data does not count
            }
            let got = told(&bytes[..end], Limits::default());
            let error = got.map_or_else(|e| e.to_string(), |_| "read short".into());
            let words = ["cut short", "empty", "unfinished", "not a tar"];
            assert!(words.iter().any(|w| error.contains(w)), "{packing} cut at {end}: {error}");
        }
    }
}

#[test]
fn damage_is_found() {
    let made = tar(&[Made::new(b'0', b"a", &noise(5000))]);
    for (packing, bytes) in packings(&made).into_iter().filter(|(p, _)| !["tar", "deb"].contains(p)) {
        let at = bytes.len() / 2;
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        assert!(told(&broken, Limits::default()).is_err(), "{packing}");
        if !packing.starts_with("deb") {
            let error = told(&[&bytes[..], b"trailing"].concat(), Limits::default()).expect_err(packing).to_string();
            assert!(error.contains("damaged") || error.contains("cut short"), "{packing}: {error}");
        }
    }
}

#[test]
fn bombs_hit_a_limit() {
    let limits = || Limits { ratio: 20, floor: 1 << 20, ..Limits::default() };
    let zeros = vec![0; 4 << 20];
    let file = tar(&[Made::new(b'0', b"bomb", &zeros)]);
    let trailing = [tar(&[f("a")]), zeros].concat();
    for made in [file, trailing] {
        for (packing, bytes) in packings(&made).into_iter().filter(|(p, _)| !["tar", "deb"].contains(p)) {
            let error = told(&bytes, limits()).expect_err(packing).to_string();
            assert!(error.ends_with("more than 20 times its size, like a decompression bomb"), "{packing}: {error}");
            let error = told(&bytes, Limits { unpacked: 1 << 21, ..Limits::default() }).expect_err(packing).to_string();
            assert!(error.contains("unpacks to more than 2097152"), "{packing}: {error}");
        }
    }
    let many: Vec<Made> = (0..11).map(|n| f(&n.to_string())).collect();
    let error = told(&tar(&many), Limits { entries: 10, ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "t: more than 10 entries");
}

#[test]
fn a_window_beyond_ours_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&tar(&[f("a")])).unwrap();
    let error = told(&encoder.finish().unwrap(), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("the zstd data is damaged") && error.contains("memory"), "{error}");
}

#[test]
fn broken_packages() {
    let data = tar(&[f("a")]);
    let whole = deb(&[("debian-binary", b"2.0\n"), ("data.tar", &data)]);
    let mut mark = whole.clone();
    mark[8 + 58] = b'x';
    let mut size = whole.clone();
    size[8 + 48] = b'-';
    table(vec![
        (whole, "a:a"),
        (mark, "! t: the package has a broken member header"),
        (size, "! t: the package has a broken member header"),
        (deb(&[("debian-binary", b"3.0\n")]), "! t: a Debian package of another format than 2"),
        (deb(&[("x.o", b"")]), "! t: an ar archive that is no Debian package"),
        (deb(&[("debian-binary", b"2.0\n"), ("control.tar", b"")]), "! t: the package is cut short before its data"),
        (deb(&[("debian-binary", b"2.0\n"), ("data.tar.bz2", b"BZh9")]), "! t: bzip2 is not supported"),
        (deb(&[("debian-binary", b"2.0\n"), ("data.tar", &deb(&[]))]), "! t: a .deb inside a .deb"),
    ]);
}

#[test]
fn bodies_may_be_left_unread_and_a_visitor_may_stop() {
    let big = noise(3 << 20);
    let made = tar(&[Made::new(b'0', b"big", &big), f("a"), Made::new(b'0', b"big2", &big), f("b")]);
    let mut seen = String::new();
    let contents = read_with(&made, Limits::default(), &mut |index, node, body| {
        if let Body::Stream { reader, .. } = body {
            let mut some = vec![0; 1000];
            reader.read_exact(&mut some).unwrap();
            assert_eq!(some, big[..1000]);
        }
        seen.push_str(&format!("{index}:{} ", node.path));
        Ok(())
    });
    assert_eq!(contents.unwrap().nodes.len(), 4);
    assert_eq!(seen, "0:big 1:a 2:big2 3:b ");
    let stop = read_with(&made, Limits::default(), &mut |_, _, _| Err(Error::new(crate::ErrorKind::NoSpace, "full")));
    assert_eq!(stop.unwrap_err().to_string(), "t: big: full");
    // What a visitor makes of a broken stream does not hide the reason.
    let cut = read_with(&made[..1 << 20], Limits::default(), &mut |_, _, body| match body {
        Body::Stream { reader, .. } => {
            std::io::copy(reader, &mut std::io::sink()).map_err(|_| Error::new(crate::ErrorKind::Io, "write"))?;
            Ok(())
        }
        Body::Small(_) => Ok(()),
    });
    assert_eq!(cut.unwrap_err().to_string(), "t: big: the archive is cut short");
}

#[test]
fn only_a_file_is_an_archive() {
    let error = Archive::open(std::fs::File::open("/").unwrap(), "/", Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "/: an archive must be a regular file");
}

#[test]
fn a_file_that_shrinks_meanwhile_is_cut_short() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&tar(&[Made::new(b'0', b"a", &vec![7; 16 << 20])])).unwrap();
    let other = file.try_clone().unwrap();
    let archive = Archive::open(file, "t", Limits::default()).unwrap();
    // The decoder is at most a few buffers ahead of the first body.
    let got = archive.read(&mut |_, _, _| other.set_len(4096).on("truncate", "t"), &Watch::default());
    assert_eq!(got.unwrap_err().to_string(), "t: a: the archive is cut short");
}
