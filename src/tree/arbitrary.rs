// SPDX-License-Identifier: ISC
//! Random trees for property tests: every kind of node that can be made, odd names, link groups, and the bodies.
//!
//! They can really exist: on a Linux filesystem, made by root.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest as _, Sha256};

use super::{Digest, Kind, Meta, Node, Stamp, Time, Tree, Xattrs};
use crate::path::TreePath;

/// A tree, and the content of each of its files.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) tree: Tree,
    pub(crate) bodies: HashMap<Digest, Vec<u8>>,
}

/// One entry before it is known where it lies: a name below some directory, or one more name of an earlier entry.
#[derive(Debug, Clone)]
struct Seed {
    parent: Index,
    name: Vec<u8>,
    what: What,
    meta: Meta,
}

#[derive(Debug, Clone)]
enum What {
    Plain(Kind),
    File(Vec<u8>),
    Link(Index),
}

/// Trees of up to `most` entries and the root. Few names occur, so that two trees have many paths in common.
pub(crate) fn trees(most: usize) -> impl Strategy<Value = Made> {
    (meta(), prop::collection::vec(seed(), 0..=most)).prop_map(|(root, seeds)| build(root, seeds))
}

/// The same tree with the fields that exist in manifests only: origins and stamps.
pub(crate) fn recorded(most: usize) -> impl Strategy<Value = Tree> {
    let stamp = || prop::option::of((time(), any::<u64>()).prop_map(|(ctime, ino)| Stamp { ctime, ino }));
    let extra = (prop::option::of("(base|bash 5\\.2-1|x as /y = #z|\\PC{0,5})"), stamp(), stamp(), any::<bool>());
    (trees(most), prop::collection::vec(extra, most + 1)).prop_map(|(mut made, extras)| {
        for (node, (origin, here, from, read)) in made.tree.nodes_mut().zip(extras) {
            node.origin = origin.map(Into::into);
            if let Kind::File { digest, .. } = &mut node.kind {
                (node.here, node.from) = (here, from);
                *digest = digest.filter(|_| read || node.group.is_some());
            }
        }
        made.tree
    })
}

fn build(root: Meta, seeds: Vec<Seed>) -> Made {
    let mut nodes = BTreeMap::from([(TreePath::root(), Node::new(TreePath::root(), unmarked(root), Kind::Dir))]);
    let mut dirs = vec![TreePath::root()];
    let mut bodies = HashMap::new();
    for Seed { parent, name, what, mut meta } in seeds {
        let path = parent.get(&dirs).join(&name).unwrap();
        if nodes.contains_key(&path) {
            continue;
        }
        let others: Vec<&Node> = nodes.values().filter(|n| !n.kind.is_dir()).collect();
        let kind = match what {
            What::Link(to) if !others.is_empty() => {
                let first = to.get(&others).path.clone();
                let first = nodes.get_mut(&first).unwrap();
                let group = first.group.get_or_insert(first.path.clone()).clone();
                let name = Node { path: path.clone(), group: Some(group), ..first.clone() };
                nodes.insert(path, name);
                continue;
            }
            What::Link(_) => Kind::Fifo,
            What::Plain(kind) => kind,
            What::File(body) => {
                let digest = Digest(Sha256::digest(&body).into());
                let size = body.len() as u64;
                bodies.insert(digest, body);
                Kind::File { size, digest: Some(digest) }
            }
        };
        match kind {
            Kind::Dir => dirs.push(path.clone()),
            Kind::Symlink(_) => meta = Meta { mode: 0o777, ..unmarked(meta) },
            Kind::File { .. } => {}
            _ => meta = unmarked(meta),
        }
        nodes.insert(path.clone(), Node::new(path, meta, kind));
    }
    Made { tree: Tree::new(nodes.into_values().collect()).unwrap(), bodies }
}

/// Only files and directories can have attributes of the user's; the root of a test is not ours to mark.
fn unmarked(meta: Meta) -> Meta {
    Meta { xattrs: None, ..meta }
}

fn seed() -> impl Strategy<Value = Seed> {
    let what = prop_oneof![
        4 => Just(What::Plain(Kind::Dir)),
        5 => body().prop_map(What::File),
        2 => any::<Index>().prop_map(What::Link),
        2 => name().prop_map(|target| What::Plain(Kind::Symlink(target.into()))),
        1 => Just(What::Plain(Kind::Fifo)),
        1 => (0..512u32, 0..0x10_0000u32).prop_map(|(major, minor)| What::Plain(Kind::Char(major, minor))),
        1 => (0..512u32, 0..0x10_0000u32).prop_map(|(major, minor)| What::Plain(Kind::Block(major, minor))),
    ];
    (any::<Index>(), name(), what, meta()).prop_map(|(parent, name, what, meta)| Seed { parent, name, what, meta })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd =
        [&b"a b"[..], b"n\nl", b"#h", b"=", b"b\\s", b"\xff\xfe", b"[z]", b"*", "ü".as_bytes(), b"-f", b"...", b"\x01"];
    prop_oneof![
        6 => prop::sample::select(&b"abcdef"[..]).prop_map(|letter| vec![letter]),
        3 => prop::sample::select(odd.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(prop_oneof![1..b'/', b'0'..=255], 3..8),
        1 => Just(vec![b'n'; crate::path::MAX_NAME]),
    ]
}

/// Short ones, and one of more than a block with a hole in it.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(prop::sample::select(&b"xyz"[..]), 0..3),
        1 => any::<u8>().prop_map(|end| [vec![b'x'; 5000], vec![0; 70_000], vec![end]].concat()),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let mode = prop_oneof![4 => prop::sample::select(vec![0o644, 0o755, 0o700]), 1 => 0..=0o7777u16];
    let id = || prop::sample::select(vec![0u32, 0, 0, 1000, 65_534, 4_000_000_000]);
    let xattr =
        (prop::sample::select(vec!["user.a", "user.b=c d", "user.ü"]), prop::collection::vec(any::<u8>(), 0..5));
    let xattrs = prop::collection::btree_map(xattr.0, xattr.1, 0..3).prop_map(|map| {
        let list: Xattrs = map.into_iter().map(|(name, value)| (name.as_bytes().into(), value.into())).collect();
        (!list.is_empty()).then(|| Box::new(list))
    });
    let xattrs = prop_oneof![4 => Just(None), 1 => xattrs];
    (mode, id(), id(), time(), xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| Meta {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
        flags: 0,
    })
}

/// Within what ext4 and tmpfs both hold.
fn time() -> impl Strategy<Value = Time> {
    let sec = prop_oneof![2 => Just(1_700_000_000), 1 => -2_000_000_000..8_000_000_000i64];
    (sec, prop_oneof![Just(0), 0..1_000_000_000u32]).prop_map(|(sec, nsec)| Time { sec, nsec })
}

proptest! {
    #[test]
    fn every_file_has_its_body(made in trees(30)) {
        for node in made.tree.nodes().iter().filter(|n| matches!(n.kind, Kind::File { .. })) {
            prop_assert_eq!(made.bodies[&node.digest().unwrap()].len() as u64, node.size());
        }
    }
}
