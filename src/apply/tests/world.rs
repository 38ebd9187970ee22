// SPDX-License-Identifier: ISC
//! Random trees, and the plainest possible way to read a tree back from the disk.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use proptest::sample::select;

use crate::apply::body::digest;
use crate::apply::{Owners, Target};
use crate::path::TreePath;
use crate::sys::{Calls, Dir, FileType, effective_uid};
use crate::tree::{Digest, Kind, Meta, Node, Time, Tree, Xattrs};

/// A tree and the content of its files.
#[derive(Debug, Clone)]
pub(in crate::apply) struct World {
    pub(in crate::apply) tree: Tree,
    pub(in crate::apply) bodies: HashMap<Digest, Vec<u8>>,
}

/// What stands at a path, before the paths are known to make a tree.
#[derive(Debug, Clone)]
enum Thing {
    Dir(Meta),
    File(Meta, Vec<u8>),
    /// A name of inode 0, 1 or 2.
    Shared(usize),
    Other(Meta, Kind),
}

/// Trees out of few names, so that two of them meet in every way.
pub(in crate::apply) fn worlds() -> impl Strategy<Value = World> {
    let entries = prop::collection::vec((paths(), things()), 0..24);
    let inodes = prop::collection::vec((metas(), bodies()), 3);
    (metas(), entries, inodes).prop_map(|(root, entries, inodes)| {
        let mut things: BTreeMap<TreePath, Thing> = entries.into_iter().collect();
        for path in things.keys().cloned().collect::<Vec<_>>() {
            for parent in path.ancestors() {
                let parent = things.entry(parent).or_insert_with(|| Thing::Dir(Meta { mode: 0o755, ..root.clone() }));
                if !matches!(parent, Thing::Dir(_)) {
                    *parent = Thing::Dir(readable(root.clone()));
                }
            }
        }
        things.insert(TreePath::root(), Thing::Dir(Meta { mode: root.mode | 0o700, ..root }));
        world(things, &inodes)
    })
}

fn world(things: BTreeMap<TreePath, Thing>, inodes: &[(Meta, Vec<u8>)]) -> World {
    let mut bodies = HashMap::new();
    let mut file = |body: &[u8]| {
        bodies.insert(digest(body), body.to_vec());
        Kind::File { size: body.len() as u64, digest: Some(digest(body)) }
    };
    let nodes = things.into_iter().map(|(path, thing)| match thing {
        Thing::Dir(meta) => Node::new(path, meta, Kind::Dir),
        Thing::File(meta, body) => Node::new(path, meta, file(&body)),
        Thing::Other(meta, kind) => Node::new(path, meta, kind),
        Thing::Shared(which) => {
            let (meta, body) = &inodes[which];
            let mut node = Node::new(path, meta.clone(), file(body));
            node.group = Some(TreePath::new(format!("group{which}").into_bytes()).unwrap());
            node
        }
    });
    let nodes = nodes.collect();
    World { tree: Tree::new(nodes).unwrap(), bodies }
}

fn paths() -> impl Strategy<Value = TreePath> {
    let long = "n".repeat(255);
    let names = vec!["a".to_owned(), "b".into(), "libc.so.6".into(), "odd \n\u{1b}[0m".into(), long];
    prop::collection::vec(select(names), 1..4).prop_map(|names| TreePath::new(names.join("/").into_bytes()).unwrap())
}

fn things() -> impl Strategy<Value = Thing> {
    let devices = if effective_uid() == 0 { 2 } else { 0 };
    prop_oneof![
        3 => metas().prop_map(|meta| Thing::Dir(readable(meta))),
        4 => (metas(), bodies()).prop_map(|(meta, body)| Thing::File(meta, body)),
        4 => (0..3usize).prop_map(Thing::Shared),
        2 => (metas(), select(vec!["a", "/etc/passwd", "../..", "b/a"]))
            .prop_map(|(meta, to)| Thing::Other(Meta { mode: 0o777, ..plain(meta) }, Kind::Symlink(to.as_bytes().into()))),
        1 => metas().prop_map(|meta| Thing::Other(plain(meta), Kind::Fifo)),
        devices => (metas(), select(vec![Kind::Char(1, 3), Kind::Char(5, 0), Kind::Block(7, 1)]))
            .prop_map(|(meta, kind)| Thing::Other(plain(meta), kind)),
    ]
}

/// Whoever is not root could not read it back.
fn readable(meta: Meta) -> Meta {
    let needed = if effective_uid() == 0 { 0 } else { 0o500 };
    Meta { mode: meta.mode | needed, ..meta }
}

/// Only files and directories hold `user` attributes.
fn plain(meta: Meta) -> Meta {
    Meta { xattrs: None, ..meta }
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let sparse = [vec![0; 70_000], vec![7; 5000], vec![0; 9000]].concat();
    select(vec![vec![], b"x".to_vec(), b"y".to_vec(), vec![3; 40_000], sparse])
}

fn metas() -> impl Strategy<Value = Meta> {
    let root = effective_uid() == 0;
    let modes = if root {
        vec![0o755, 0o644, 0o4755, 0o2755, 0o1777, 0o000, 0o500]
    } else {
        vec![0o755, 0o644, 0o4755, 0o1777, 0o600, 0o500]
    };
    let owners = if root { vec![(0, 0), (1000, 0), (70_000, 5)] } else { vec![me()] };
    let times = vec![(0, 0), (1, 999_999_999), (1_700_000_000, 5), (-2, 1)];
    let values: Vec<Option<Box<Xattrs>>> =
        vec![None, None, None, Some(attribute(b"user.one", b"1")), Some(attribute(b"user.one", b"\0\xff"))];
    (select(modes), select(owners), select(times), select(values)).prop_map(
        |(mode, (uid, gid), (sec, nsec), xattrs)| Meta { mode, uid, gid, mtime: Time { sec, nsec }, xattrs, flags: 0 },
    )
}

/// Owner and group of what this process makes.
fn me() -> (u32, u32) {
    thread_local! {
        static PROBE: (u32, u32) = {
            let stat = std::fs::metadata(temp().path()).unwrap();
            (stat.uid(), stat.gid())
        };
    }
    PROBE.with(|probe| *probe)
}

fn attribute(name: &[u8], value: &[u8]) -> Box<Xattrs> {
    Box::new(vec![(name.into(), value.into())])
}

/// A directory for one test case: `root` and `work` in it are empty.
pub(in crate::apply) struct Place {
    _temp: tempfile::TempDir,
    pub(in crate::apply) target: Target,
    pub(in crate::apply) state: Dir,
}

impl Place {
    pub(in crate::apply) fn new() -> Place {
        let temp = temp();
        let dir = |name: &str| {
            std::fs::create_dir(temp.path().join(name)).unwrap();
            Dir::open(&temp.path().join(name), Calls::from_env()).unwrap()
        };
        let (root, work, state) = (dir("root"), dir("work"), dir("state"));
        work.set_mode(b".", 0o700).unwrap();
        Place { _temp: temp, target: Target::single(root, work, Owners::Set), state }
    }

    pub(in crate::apply) fn root(&self) -> &Dir {
        &self.target.areas[0].root
    }

    pub(in crate::apply) fn work(&self) -> &Dir {
        &self.target.areas[0].work
    }
}

/// In memory, where that holds what we want to see: nothing waits for a disk there.
pub(in crate::apply) fn temp() -> tempfile::TempDir {
    let shm = tempfile::tempdir_in("/dev/shm").ok().filter(|temp| {
        let dir = Dir::open(temp.path(), Calls::Native).unwrap();
        dir.set_xattrs(b".", FileType::Dir, &attribute(b"user.one", b"1")).is_ok()
    });
    shm.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// Reads a tree back: one thread, no shortcuts.
pub(in crate::apply) fn scan(root: &Dir) -> Tree {
    let mut nodes = vec![node(root, b".", TreePath::root())];
    let mut todo = vec![(root.try_clone().unwrap(), TreePath::root())];
    while let Some((dir, path)) = todo.pop() {
        for entry in dir.entries().unwrap() {
            let below = path.join(&entry.name).unwrap();
            let found = node(&dir, &entry.name, below.clone());
            if found.kind.is_dir() {
                todo.push((dir.open_dir(&entry.name).unwrap(), below));
            }
            nodes.push(found);
        }
    }
    Tree::new(nodes).unwrap()
}

fn node(dir: &Dir, name: &[u8], path: TreePath) -> Node {
    let stat = dir.stat(name).unwrap();
    let kind = match stat.kind {
        FileType::Dir => Kind::Dir,
        FileType::File => {
            let mut body = Vec::new();
            dir.open_file(name).unwrap().read_to_end(&mut body).unwrap();
            Kind::File { size: stat.size, digest: Some(digest(&body)) }
        }
        FileType::Symlink => Kind::Symlink(dir.read_link(name).unwrap()),
        FileType::Char => Kind::Char(stat.rdev.0, stat.rdev.1),
        FileType::Block => Kind::Block(stat.rdev.0, stat.rdev.1),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket | FileType::Other => Kind::Socket,
    };
    let xattrs = Some(dir.xattrs(name, stat.kind).unwrap()).filter(|x| !x.is_empty()).map(Box::new);
    let meta = Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs, flags: stat.flags };
    let mut node = Node::new(path, meta, kind);
    if stat.links > 1 && !node.kind.is_dir() {
        node.group = Some(TreePath::new(format!("{}", stat.ino).into_bytes()).unwrap());
    }
    node
}

/// The tree as text, for comparing: everything that a user can see, link groups included.
pub(in crate::apply) fn text(tree: &Tree) -> String {
    let line = |node: &Node| format!("{:?} {:?} {:?} {:?}\n", node.path, node.kind, node.meta, node.group);
    tree.nodes().iter().map(line).collect()
}
