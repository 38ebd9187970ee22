// SPDX-License-Identifier: ISC
//! What is read out of entries, and what is refused with which words.

use super::*;

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
fn names_out_of_the_tree() {
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
    ]);
}

#[test]
fn paths_through_what_is_no_directory() {
    table(vec![
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
    ]);
}

#[test]
fn what_readers_would_disagree_on() {
    let nul = "16 path=a\0/../b\n";
    table(vec![
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
    ]);
}

#[test]
fn absurd_numbers() {
    table(vec![
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
    ]);
}

#[test]
fn too_long() {
    let big = "x".repeat(256);
    let deep = "d/".repeat(40_000);
    table(vec![
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
    ]);
}

#[test]
fn no_archive() {
    table(vec![
        // broken
        (Vec::new(), "! t: the archive is empty"),
        (vec![0; 100], "! t: the archive is cut short"),
        (b"hello".repeat(300), "! t: not a tar archive, neither plain nor in gzip, xz or zstd"),
        (tar(&[f("a"), Made(vec![7; BLOCK])]), "! t: bad checksum of the header at byte 1024"),
        (b"BZh91AY".repeat(300), "! t: bzip2 is not supported"),
        (b"PK\x03\x04".repeat(300), "! t: zip is not supported"),
    ]);
}

/// An old GNU sparse file.
fn old(ranges: &[(u64, u64)], size: u64, body: &[u8]) -> Made {
    let mut made = Made::new(b'S', b"s", body).gnu().octal(483, 12, size);
    for (index, (offset, length)) in ranges.iter().enumerate() {
        made = made.octal(386 + index * 24, 12, *offset).octal(398 + index * 24, 12, *length);
    }
    made
}

/// One with four ranges in the header and two, and an empty one, in the block that follows.
fn extended() -> Made {
    let head = old(&[(0, 1), (2, 1), (4, 1), (6, 1)], 14, b"").octal(124, 12, 6).set(482, b"\x01");
    let mut block = vec![0; BLOCK];
    for (index, (offset, length)) in [(8, 1), (10, 1), (14, 0)].iter().enumerate() {
        block[index * 24..][..24].copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    let mut body = b"abcdef".to_vec();
    body.resize(BLOCK, 0);
    head.then(&block).then(&body)
}

/// A sparse file by pax keys without their common prefix.
fn key(pairs: &[(&str, &str)], body: &[u8]) -> Made {
    let keys: Vec<_> = pairs.iter().map(|(key, value)| (format!("GNU.sparse.{key}"), *value)).collect();
    let keys: Vec<_> = keys.iter().map(|(key, value)| (&key[..], *value)).collect();
    x(b'x', &keys).with(Made::new(b'0', b"s", body))
}

/// One of version 1.0, its map before its body.
fn one(map: &str, body: &[u8], size: &str) -> Made {
    let mut data = map.as_bytes().to_vec();
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    data.extend_from_slice(body);
    key(&[("major", "1"), ("minor", "0"), ("name", "n"), ("realsize", size)], &data)
}

#[test]
fn sparse_maps() {
    table(vec![
        (tar(&[old(&[(1, 2), (5, 3)], 9, b"abcde"), f("z")]), "s:.ab..cde. z:z"),
        (tar(&[old(&[], 3, b""), f("z")]), "s:... z:z"),
        (tar(&[extended(), f("z")]), "s:a.b.c.d.e.f... z:z"),
        (
            tar(&[key(
                &[
                    ("size", "6"),
                    ("numblocks", "2"),
                    ("offset", "1"),
                    ("numbytes", "1"),
                    ("offset", "4"),
                    ("numbytes", "1"),
                ],
                b"ab",
            )]),
            "s:.a..b.",
        ),
        (tar(&[key(&[("size", "6"), ("name", "n"), ("map", "0,1,3,2")], b"abc")]), "n:a..bc."),
        (tar(&[one("2\n1\n2\n5\n0\n", b"ab", "5"), f("z")]), "n:.ab.. z:z"),
        (tar(&[one("0\n", b"", "2"), f("z")]), "n:.. z:z"),
        (tar(&[one(&format!("40\n{}", "1\n0\n".repeat(39) + "1\n1\n"), b"a", "2"), f("z")]), "n:.a z:z"),
    ]);
}

#[test]
fn hostile_sparse_maps() {
    let many = "0\n0\n".repeat(41);
    table(vec![
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
        (tar(&[key(&[("map", "0,1,3")], b"a")]), "! t: PaxHeaders/x: its map of a sparse file is malformed"),
        (tar(&[key(&[("map", "0,1")], b"a")]), "! t: s: its map of a sparse file is malformed"),
        (
            tar(&[key(&[("size", "1"), ("numbytes", "1")], b"a")]),
            "! t: PaxHeaders/x: its map of a sparse file is malformed",
        ),
        (tar(&[key(&[("size", "1"), ("offset", "0")], b"a")]), "! t: s: its map of a sparse file is malformed"),
        (
            tar(&[key(&[("major", "2"), ("minor", "0"), ("size", "1")], b"a")]),
            "! t: s: it is sparse in a way that is not supported",
        ),
        (tar(&[one("1\n0\n", b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (tar(&[one("99999999999999999999\n", b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (tar(&[one(&format!("41\n{many}"), b"", "1")]), "! t: n: it is sparse with more than 40 ranges"),
        (tar(&[one("18446744073709551615\n0\n0\n", b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (tar(&[one(&"1".repeat(2000), b"", "1")]), "! t: n: its map of a sparse file is malformed"),
        (
            tar(&[x(b'x', &[("SCHILY.realsize", "7")]), f("s")]),
            "! t: PaxHeaders/x: it is sparse in star's own way, which is not supported",
        ),
    ]);
}
