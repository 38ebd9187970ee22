// SPDX-License-Identifier: ISC
//! A root before and after: the parts of two trees in which alone there can be a difference.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::layer::Layer;
use super::upper::{find_dir, touched};
use crate::chroot::login::{ACCOUNT_FILES, read_below};
use crate::chroot::open::{Chroot, WORK_INSIDE};
use crate::chroot::proof::inherit;
use crate::error::{Error, ErrorKind, Result};
use crate::patch::accounts::{Accounts, Files};
use crate::path::{PathSet, TreePath};
use crate::source::dir::{ScanOptions, digest_files, fingerprint, scan, scan_paths};
use crate::sys::Dir;
use crate::tree::diff::diff;
use crate::tree::{Digest, Kind, Tree};
use crate::watch::Watch;

/// Two trees, and the account files that go with them. Every file that may differ has its digest; the stamps of `before`
/// hold for the root.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) before: Tree,
    pub(super) after: Tree,
    pub(super) accounts: Accounts,
}

impl Seen {
    /// What `layer` makes of the root `lower`.
    pub(super) fn through(layer: &Layer, lower: &Dir, watch: &Watch) -> Result<Seen> {
        watch.begin("looking at what was written", 0);
        let paths = touched(layer, lower, watch)?;
        let options = ScanOptions { xattrs: true, skip: PathSet::new([WORK_INSIDE])? };
        let tree = |root: &Dir| -> Result<Tree> {
            let mut tree = scan_paths(root, &paths, &options, watch)?.tree;
            read_rest(root, &mut tree, watch)?;
            Ok(tree)
        };
        let (before, mut after) = (tree(lower)?, tree(&layer.view)?);
        // Inodes of the overlay are none of the root's.
        after.nodes_mut().for_each(|node| node.here = None);
        let is_account = |path: &TreePath| ACCOUNT_FILES.iter().any(|name| name.as_bytes() == path.as_bytes());
        let accounts = match paths.iter().any(is_account) {
            true => Accounts::between(&account_files(lower)?, &account_files(&layer.view)?),
            false => Accounts::default(),
        };
        Ok(Seen { before, after, accounts })
    }
}

/// A root that will be changed in place.
#[derive(Debug)]
pub(super) struct Before {
    /// None if it is in the state.
    tree: Option<Tree>,
    /// While the root has it, nothing was changed.
    fingerprint: Option<Digest>,
    accounts: Files,
    /// What may be edited on a target, and is merged there: nobody has it afterwards.
    texts: HashMap<TreePath, Vec<u8>>,
}

/// The state files with the tree of a root as the last recording found it, and with the fingerprint that it had then: the
/// manifest does not know what is nobody's to judge, nor stamps of what was edited.
const SCANNED: &str = "scanned";
const FINGERPRINT: &str = "scanned-fingerprint";

/// The directory of such files, and the largest that is kept.
const TEXTS: &[u8] = b"etc";
const LARGEST: u64 = 1 << 20;

impl Before {
    /// Looks at the root of `chroot`. If it is as the last recording found it, one look at each entry tells; else what its
    /// record does not prove is read.
    pub(super) fn of(chroot: &Chroot, watch: &Watch) -> Result<Before> {
        // First: what is changed from here on moves it.
        let fingerprint = fingerprint(&chroot.root, watch)?;
        let text = fingerprint.map(|digest| digest.to_string().into_bytes());
        let known = text.is_some() && chroot.state.read(FINGERPRINT)? == text;
        let tree = (!known).then(|| scan_whole(chroot, watch)).transpose()?;
        if let (Some(tree), Some(text)) = (&tree, text) {
            chroot.state.discard(FINGERPRINT)?;
            chroot.state.write_tree(SCANNED, tree)?;
            chroot.state.write(FINGERPRINT, &text)?;
        }
        Ok(Before { tree, fingerprint, accounts: account_files(&chroot.root)?, texts: texts(&chroot.root, watch)? })
    }

    /// The content that the file of `/etc` at `path` had.
    pub(super) fn text(&self, path: &TreePath) -> Option<&[u8]> {
        self.texts.get(path).map(Vec::as_slice)
    }

    /// Looks again: what has another inode or change time than before is read.
    pub(super) fn compare(&self, chroot: &Chroot, watch: &Watch) -> Result<Seen> {
        if self.fingerprint.is_some() && fingerprint(&chroot.root, watch)? == self.fingerprint {
            return Ok(Seen::default());
        }
        let stored = if self.tree.is_none() { chroot.state.read_tree(SCANNED)? } else { None };
        let before = self.tree.as_ref().or(stored.as_ref());
        let before = before.ok_or_else(|| Error::new(ErrorKind::NotFound, "its scan is gone").at(SCANNED))?;
        let mut after = chroot.scan(before, watch)?.tree;
        inherit(&mut after, before, |node| node.here);
        read_rest(&chroot.root, &mut after, watch)?;
        let accounts = Accounts::between(&self.accounts, &account_files(&chroot.root)?);
        let concerned = concerned(before, &after);
        let part = |tree: &Tree| {
            Tree::new(tree.nodes().iter().filter(|node| concerned.contains(&node.path)).cloned().collect())
        };
        Ok(Seen { before: part(before)?, after: part(&after)?, accounts })
    }
}

/// All of a root, every file with its digest.
fn scan_whole(chroot: &Chroot, watch: &Watch) -> Result<Tree> {
    let known = chroot.manifest()?;
    let mut tree = chroot.scan(&known, watch)?.tree;
    inherit(&mut tree, &known, |node| node.here);
    read_rest(&chroot.root, &mut tree, watch)?;
    Ok(tree)
}

/// What may be edited on a target, with its content.
fn texts(root: &Dir, watch: &Watch) -> Result<HashMap<TreePath, Vec<u8>>> {
    let Some(dir) = find_dir(root, &TreePath::new(TEXTS)?)? else { return Ok(HashMap::new()) };
    let mut texts = HashMap::new();
    for node in scan(&dir, &ScanOptions::default(), watch)?.tree.nodes() {
        if matches!(node.kind, Kind::File { .. }) && node.size() <= LARGEST {
            let path = TreePath::new([TEXTS, b"/", node.path.as_bytes()].concat())?;
            texts.extend(read_below(root, &path)?.map(|text| (path, text)));
        }
    }
    Ok(texts)
}

/// The paths that differ, those above them, and all names of a file one name of which differs: of the rest nothing has to
/// be asked.
fn concerned(before: &Tree, after: &Tree) -> HashSet<TreePath> {
    let mut concerned: HashSet<TreePath> = HashSet::new();
    let mut groups: HashSet<&TreePath> = HashSet::new();
    for path in diff(before, after).paths() {
        concerned.extend(path.ancestors());
        concerned.insert(path.clone());
        let nodes = [before, after].map(|tree| tree.get(path.as_bytes()));
        groups.extend(nodes.into_iter().flatten().filter_map(|node| node.group.as_ref()));
    }
    if !groups.is_empty() {
        let nodes = before.nodes().iter().chain(after.nodes());
        for node in nodes.filter(|node| node.group.as_ref().is_some_and(|group| groups.contains(group))) {
            concerned.extend(node.path.ancestors());
            concerned.insert(node.path.clone());
        }
    }
    concerned
}

/// Reads the files of `tree` that have no digest.
fn read_rest(root: &Dir, tree: &mut Tree, watch: &Watch) -> Result<()> {
    let unread = |at: &usize| matches!(tree.nodes()[*at].kind, Kind::File { digest: None, .. });
    let which: Vec<usize> = (0..tree.len()).filter(unread).collect();
    digest_files(root, tree, &which, watch)
}

fn account_files(root: &Dir) -> Result<Files> {
    let text = |path: &str| Ok(read_below(root, &TreePath::new(path.as_bytes())?)?.unwrap_or_default());
    Ok(Files { passwd: text("etc/passwd")?, group: text("etc/group")?, master: text("etc/master.passwd")? })
}
