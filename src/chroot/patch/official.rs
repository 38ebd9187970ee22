// SPDX-License-Identifier: ISC
//! Patches of OpenBSD as syspatch(8) gets them: archives of whole files. Such a one is made a patch of ours for one root,
//! and applied as any.
//!
//! An archive says nothing of what it replaces. What the root has counts as that, whatever it is: nothing can be
//! compared, but it is kept, and comes back when the patch is undone.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use super::look;
use super::target::Root;
use crate::chroot::areas;
use crate::chroot::open::Locking;
use crate::chroot::place::Home;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Body, Contents, FollowUp, Head, Member, Side, write};
use crate::path::TreePath;
use crate::sys::is_stale;
use crate::tree::diff::diff;
use crate::tree::{Kind, Meta, Node, Tree};
use crate::watch::Watch;

/// Where syspatch(8) keeps what undoes its patches: a directory for each, with [`ROLLBACK`] in it.
const KEPT: &str = "var/syspatch";
const ROLLBACK: &[u8] = b"rollback.tgz";
/// Where the objects of kernels are, a directory for each flavour.
const KERNELS: &str = "usr/share/relink/kernel";
const NOTE: &str = "from a mirror for syspatch, which does not say what was there before: nothing was compared\n";

/// The names of the patches that syspatch(8) itself applied to the root `name`: `78-001_sshd`.
///
/// # Errors
/// As open(2).
pub fn by_syspatch(home: &Home, name: &OsStr, wait: bool) -> Result<HashSet<String>> {
    let root = Root::open(home, name, Locking { shared: true, wait, verb: "patch sync" })?;
    let at = TreePath::new(KEPT.as_bytes())?;
    let dir = match root.dir.crossing().walk(&at) {
        Err(error) if is_stale(&error) => return Ok(HashSet::new()),
        dir => dir.on("open", &at)?,
    };
    let mut names = HashSet::new();
    for entry in dir.entries().on("readdir", &at)? {
        let applied = dir.open_dir(&entry.name).is_ok_and(|patch| matches!(patch.find(ROLLBACK), Ok(Some(_))));
        names.extend(applied.then(|| String::from_utf8_lossy(&entry.name).into_owned()));
    }
    Ok(names)
}

/// Makes of an archive a patch for the root `name`, in the file `to`. None if the root has none of its files: their set
/// is not installed.
///
/// # Errors
/// [`ErrorKind::BadInput`] for an archive that syspatch(8) would not take; as open(2) and write(2).
pub fn adapt(
    (home, name): (&Home, &OsStr),
    archive: &Path,
    head: Head,
    to: &Path,
    watch: &Watch,
) -> Result<Option<Contents>> {
    let root = Root::open(home, name, Locking { shared: true, wait: true, verb: "patch sync" })?;
    let mut side = Side::open(archive, watch)?;
    let paths: Vec<TreePath> = side.tree.nodes().iter().map(|node| node.path.clone()).collect();
    let roots = areas::roots(&root.dir, &areas::below(&root.place, &paths)?)?;
    let here = look::look(&roots, &paths, watch)?;
    let is_file = |path: &TreePath| matches!(here.get(path.as_bytes()), Some(Node { kind: Kind::File { .. }, .. }));
    if !paths.iter().any(is_file) {
        return Ok(None);
    }
    let plan = diff(&here, &wanted(&side.tree, &here)?);
    let mut head = Head { note: NOTE.to_owned(), ..head };
    if plan.paths().any(|path| is_below(path, KERNELS)) {
        head.follow_ups.push(FollowUp::Relink);
    }
    let mut contents = Contents::new(head, plan);
    // There is nothing to merge with what is there.
    contents.entries.iter_mut().for_each(|entry| entry.base = false);
    Contents::parse(&contents.text())?;
    let brought = contents.entries.iter().filter(|entry| entry.body == Body::Full);
    side.gather(&brought.filter_map(|entry| entry.change.after.as_ref()?.digest()).collect(), to, watch)?;
    let missing = || Error::new(ErrorKind::NotFound, "it has no content");
    let mut source =
        |member: &Member| side.content(contents.entries[member.entry].change.after.as_ref().ok_or_else(missing)?);
    write(&contents, &mut source, None, to, watch)?;
    Ok(Some(contents))
}

/// What the root shall be: what is there, the files of the archive, and directories for them.
fn wanted(archive: &Tree, here: &Tree) -> Result<Tree> {
    let mut want: BTreeMap<TreePath, Node> = here.nodes().iter().map(|n| (n.path.clone(), n.clone())).collect();
    for node in archive.nodes().iter().filter(|node| !node.kind.is_dir() && !is_foreign_kernel(&node.path, here)) {
        let refused = |reason: &'static str| Err(Error::new(ErrorKind::BadInput, reason).at(&node.path));
        if !matches!(node.kind, Kind::File { .. } | Kind::Symlink(_)) {
            return refused("the archive brings what is neither a file nor a symlink");
        }
        if here.get(node.path.as_bytes()).is_some_and(|here| here.kind.is_dir()) {
            return refused("the archive has a file where the root has a directory");
        }
        for above in node.path.ancestors().filter(|above| !above.is_root()) {
            let meta = Meta { mode: 0o755, mtime: node.meta.mtime, ..Meta::default() };
            want.entry(above.clone()).or_insert_with(|| Node::new(above, meta, Kind::Dir));
        }
        want.insert(node.path.clone(), node.clone());
    }
    Tree::new(want.into_values().collect())
}

/// Is it part of a flavour of the kernel that the root does not have?
fn is_foreign_kernel(path: &TreePath, here: &Tree) -> bool {
    is_below(path, KERNELS)
        && path.ancestors().any(|above| is_below(&above, KERNELS) && here.get(above.as_bytes()).is_none())
}

fn is_below(path: &TreePath, dir: &str) -> bool {
    path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}
