// SPDX-License-Identifier: ISC
use proptest::prelude::*;

use super::*;
use crate::tree::{Meta, arbitrary};

/// The whole text, header included.
fn written(tree: &Tree, dialect: Dialect) -> Vec<u8> {
    let mut text = Vec::new();
    write_tree(tree, &mut text, dialect).unwrap();
    text
}

/// All fields; `Node` itself compares only as the world sees it.
fn identical(a: &Node, b: &Node) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #[test]
    fn a_round_trip_is_the_identity(tree in arbitrary::recorded(40)) {
        let text = written(&tree, Dialect::Stockade);
        prop_assert!(text.iter().all(|b| b.is_ascii_graphic() || b" \n".contains(b)));
        let back = read_tree(&text).unwrap();
        prop_assert_eq!(tree.len(), back.len());
        for (a, b) in tree.nodes().iter().zip(back.nodes()) {
            prop_assert!(identical(a, b), "{:?}\n{:?}", a, b);
        }
    }

    #[test]
    fn plain_mtree_holds_what_mtree_knows(tree in arbitrary::recorded(20)) {
        let back = read_tree(&written(&tree, Dialect::Mtree)).unwrap();
        for (a, b) in tree.nodes().iter().zip(back.nodes()) {
            let meta = Meta { xattrs: None, ..a.meta.clone() };
            prop_assert!(identical(b, &Node::new(a.path.clone(), meta, a.kind.clone())));
        }
    }

    #[test]
    fn parts_are_the_whole(text in "[ab\n]{0,40}", count in 1usize..6) {
        let parts = read::parts(text.as_bytes(), count);
        prop_assert!(parts.len() <= count);
        let mut line = 3;
        for (first, part) in &parts {
            prop_assert_eq!(*first, line);
            line += part.split(|&b| b == b'\n').count();
        }
        let joined: Vec<&[u8]> = parts.iter().map(|(_, part)| *part).collect();
        prop_assert_eq!(joined.join(&b'\n'), text.as_bytes());
    }

    #[test]
    fn no_text_makes_it_panic(mut text in prop::collection::vec(any::<u8>(), 0..200), tree in arbitrary::recorded(3)) {
        let _ = read_node(&text, &mut Origins::default());
        let mut good = written(&tree, Dialect::Stockade);
        for (at, byte) in text.drain(..).enumerate().step_by(17) {
            let place = (at * 251 + usize::from(byte)) % good.len();
            good[place] = byte;
        }
        let _ = read_tree(&good);
    }
}

#[test]
fn lines_as_they_are_written() {
    let meta =
        |mode, sec, nsec| Meta { mode, uid: 0, gid: 4_294_967_295, mtime: Time { sec, nsec }, ..Meta::default() };
    let path = |p: &[u8]| TreePath::new(p).unwrap();
    let file = Kind::File { size: u64::MAX, digest: Some(crate::tree::Digest([0xa5; 32])) };
    let mut full = Node::new(path(b"a b\n#=\\\xff"), meta(0o4755, -2, 5), file);
    full.group = Some(path(b"[a]"));
    full.origin = Some("bash 5.2".into());
    full.meta.flags = 0o2;
    full.meta.xattrs = Some(Box::new(vec![(b"user.a=".as_slice().into(), b"v 1\0".as_slice().into())]));
    full.here = Some(Stamp { ctime: Time { sec: 1, nsec: 999_999_999 }, ino: 12 });
    full.from = Some(Stamp { ctime: Time { sec: i64::MIN, nsec: 0 }, ino: u64::MAX });
    let hex = "a5".repeat(32);
    let common = "uid=0 gid=4294967295";
    for (node, text) in [
        (
            Node::new(TreePath::root(), meta(0, 0, 0), Kind::Dir),
            format!(". type=dir mode=0000 {common} time=0.000000000"),
        ),
        (
            Node::new(path(b"l"), meta(0o777, 1, 0), Kind::Symlink(b"../x y".as_slice().into())),
            format!("./l type=link mode=0777 {common} link=../x\\040y time=1.000000000"),
        ),
        (
            Node::new(path(b"d/c"), meta(0o600, 1, 0), Kind::Char(4095, 1_048_575)),
            format!("./d/c type=char mode=0600 {common} device=native,4095,1048575 time=1.000000000"),
        ),
        (
            Node::new(path(b"s"), meta(0o600, 1, 0), Kind::Socket),
            format!("./s type=socket mode=0600 {common} time=1.000000000"),
        ),
        (
            full,
            format!(
                "./a\\040b\\012\\043\\075\\134\\377 type=file mode=04755 {common} size=18446744073709551615 \
                 time=-2.000000005 sha256={hex} hardlink=./\\133a\\135 flags=02 xattr.user.a\\075=v\\0401\\000 \
                 origin=bash\\0405.2 here=1.999999999,12 from=-9223372036854775808.000000000,18446744073709551615"
            ),
        ),
    ] {
        let mut line = Vec::new();
        write_node(&node, &mut line, Dialect::Stockade);
        assert_eq!(String::from_utf8(line.clone()).unwrap(), text);
        assert!(identical(&read_node(&line, &mut Origins::default()).unwrap(), &node));
    }
}

#[test]
fn hostile_lines() {
    let rest = "mode=0644 uid=0 gid=0 time=0.000000000";
    let long = format!("./{} type=fifo {rest}", "n/".repeat(40_000) + "n");
    let value = format!("./a type=fifo {rest} xattr.user.a={}", "v".repeat(65_537));
    let attribute = format!("./a type=fifo {rest} xattr.{}=v", "n".repeat(256));
    let line = "x".repeat(5 << 20);
    for (line, reason) in [
        ("", "bad path: \"\""),
        ("a type=fifo", "bad path: \"a\""),
        ("/a type=fifo", "bad path: \"/a\""),
        ("./ type=fifo", "bad path: \"./\""),
        ("./../a type=fifo", "bad path: \"./../a\""),
        ("./a/../b type=fifo", "bad path"),
        ("./a/\\056\\056 type=fifo", "bad path"),
        ("./a//b type=fifo", "bad path"),
        ("./a\\000 type=fifo", "bad path"),
        ("./a\\ type=fifo", "bad path"),
        ("./a\\12 type=fifo", "bad path"),
        ("./a\\400 type=fifo", "bad path"),
        ("./\u{fc} type=fifo", "bad path"),
        ("./a\t type=fifo", "bad path"),
        (&long, "bad path"),
        (&line, "line is too long"),
        ("./a", "fields are missing"),
        ("./a type=fifo mode=0644 uid=0 gid=0", "fields are missing"),
        ("./a type=file @", "fields are missing"),
        ("./a type=dir size=1 @", "fields are missing, or do not fit the type"),
        ("./a type=link @", "do not fit the type"),
        ("./a type=char @", "do not fit the type"),
        ("./a type=door @", "do not fit the type"),
        ("./a type=fifo  @", "not a keyword with a value: \"\""),
        ("./a optional", "not a keyword with a value: \"optional\""),
        ("./a nlink=1", "unknown keyword: \"nlink=1\""),
        ("./a type=file size=1 size=1", "given twice: \"size=1\""),
        ("./a mode=644", "malformed: \"mode=644\""),
        ("./a mode=0", "malformed"),
        ("./a mode=010000", "malformed"),
        ("./a mode=0778", "malformed"),
        ("./a mode=0777777777777777777", "malformed"),
        ("./a uid=-1", "malformed"),
        ("./a uid=4294967296", "malformed"),
        ("./a uid=", "malformed"),
        ("./a uid=01", "malformed"),
        ("./a size=18446744073709551616", "malformed"),
        ("./a time=1", "malformed"),
        ("./a time=1.5", "malformed"),
        ("./a time=1.0000000000", "malformed"),
        ("./a time=--1.000000000", "malformed"),
        ("./a time=-0.000000000", "malformed"),
        ("./a time=9223372036854775808.000000000", "malformed"),
        ("./a time=-9223372036854775809.000000000", "malformed"),
        ("./a sha256=00", "malformed"),
        ("./a device=8,1", "malformed"),
        ("./a device=linux,8,1", "malformed"),
        ("./a device=native,8,1,1", "malformed"),
        ("./a link=a\\000", "malformed"),
        ("./a hardlink=b", "malformed"),
        ("./a hardlink=./../b", "malformed"),
        ("./a origin=\\377", "malformed"),
        ("./a here=0.000000000", "malformed"),
        ("./a xattr.=1", "bad name: \"xattr.=1\""),
        ("./a xattr.a\\000=1", "bad name"),
        ("./a xattr.a=1 xattr.a=2", "extended attributes are not in order"),
        ("./a xattr.b=1 xattr.a=2", "extended attributes are not in order"),
        (&value, "malformed or too large"),
        (&attribute, "bad name"),
    ] {
        let error = read_node(line.replace('@', rest).as_bytes(), &mut Origins::default()).unwrap_err();
        let shown = &line[..line.len().min(80)];
        assert!(error.reason().contains(reason), "{shown}: {}", error.reason());
        assert!(error.reason().len() < 200, "{shown}");
    }
}

#[test]
fn hostile_files() {
    let a = "./a type=fifo mode=0644 uid=0 gid=0 time=0.000000000\n";
    let b = "./b type=fifo mode=0644 uid=0 gid=0 time=0.000000000 hardlink=./a\n";
    let other = "./c type=fifo mode=0600 uid=0 gid=0 time=0.000000000 hardlink=./a\n";
    let dirs = "./c type=dir mode=0755 uid=0 gid=0 time=0.000000000 hardlink=./c\n\
                ./d type=dir mode=0755 uid=0 gid=0 time=0.000000000 hardlink=./c\n";
    for (text, reason) in [
        (String::new(), "not a manifest, or one of another version: \"\""),
        ("#mtree\n# stockade manifest 2\n".to_owned(), "another version: \"#mtree\\012# stockade manifest 2"),
        (format!("@{}", a.trim_end()), "the last line is cut off: \"./a type=fifo"),
        (format!("@{a}\n"), "line 4: bad path: \"\""),
        (format!("@{a}# comment\n"), "line 4: bad path: \"#\""),
        (format!("@{a}/set uid=0\n"), "line 4: bad path: \"/set\""),
        (format!("@{a}{a}"), "the path occurs twice"),
        ("@./x/y type=fifo mode=0644 uid=0 gid=0 time=0.000000000\n".to_owned(), "its directory is missing"),
        (format!("@{}", a.replace("./a", ".")), "the root is not a directory"),
        (format!("@{b}{other}"), "names of one link group differ"),
        (format!("@{dirs}"), "names of one link group differ"),
    ] {
        let text = text.replace('@', "#mtree\n# stockade manifest 1\n");
        let error = read_tree(text.as_bytes()).unwrap_err();
        assert!(error.reason().contains(reason), "{text}: {}", error.reason());
    }
    assert!(read_tree(HEADER).unwrap().is_empty());
}

#[test]
fn some_entries_are_read_alone() {
    let text = b"#mtree\n# stockade manifest 1\n. type=dir mode=0755 uid=0 gid=0 time=1.000000000\n./a\\040b type=fifo mode=0600 uid=1 gid=2 time=1.000000000 origin=x\n./bad nonsense\n./c type=fifo mode=0600 uid=1 gid=2 time=1.000000000 origin=y\n";
    let some = |paths: &[&'static [u8]]| {
        let found = read_some(text, &paths.iter().copied().collect());
        found.map(|nodes| nodes.iter().map(|node| node.path.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(some(&[b"c", b"none"]).unwrap(), ["c"]);
    assert_eq!(some(&[b"", b"a b"]).unwrap().len(), 2);
    assert!(some(&[b"bad"]).is_err(), "what is wanted must be whole");
    assert!(read_some(b"no manifest", &[&b"c"[..]].into()).is_err());
}
