// SPDX-License-Identifier: ISC
//! `patch check` and `patch forget`: is everything still as the patches left it?
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::links::Links;
use super::order::{release_of, system_of};
use super::store::{self, Installed};
use super::target::Root;
use super::undo::no_patch;
use super::{follow, look, record};
use crate::chroot::areas;
use crate::chroot::open::Locking;
use crate::chroot::place::Home;
use crate::error::Result;
use crate::patch::resolve::{Ids, is_time};
use crate::patch::{Contents, FollowUp};
use crate::path::TreePath;
use crate::plan::Action;
use crate::select::packages::Owners;
use crate::tree::{Kind, Node, relink};
use crate::watch::Watch;

/// The patches of a root.
#[derive(Debug)]
pub struct Listed {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// The system that the root is of: `linux` or `openbsd`.
    pub system: String,
    /// The release that the root is of, if it says so.
    pub release: Option<String>,
    /// The patches, in the order in which they were applied.
    pub patches: Vec<Installed>,
    /// What is still to be done after them.
    pub due: Vec<FollowUp>,
}

/// How a patched path is not as its patch left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is gone.
    Missing,
    /// It is there, and the patch removes it.
    NotRemoved,
    /// Its content is another.
    Content,
    /// Its content is the one from before the patch: something put it back.
    Reverted,
    /// Its owner or mode is another.
    Metadata,
}

impl Checked {
    /// Is everything as the patches left it, and all done that they made necessary?
    pub fn is_well(&self) -> bool {
        self.faults.is_empty() && self.due.is_empty()
    }
}

impl Fault {
    /// The word that names it in reports.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Missing => "missing",
            Fault::NotRemoved => "not-removed",
            Fault::Content => "content",
            Fault::Reverted => "reverted",
            Fault::Metadata => "metadata",
        }
    }
}

/// What `patch check` found.
#[derive(Debug)]
pub struct Checked {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// How many patches it lists.
    pub patches: usize,
    /// How many paths they changed.
    pub paths: usize,
    /// Paths that are not as the last patch left them: the path, the patch, and how.
    pub faults: Vec<(TreePath, String, Fault)>,
    /// What is still to be done after the patches.
    pub due: Vec<FollowUp>,
    /// Package and version of those paths that are of one.
    pub packages: Owners,
}

/// The patches that the root `name` lists. If nobody else may use it meanwhile, what was interrupted is ended first.
///
/// # Errors
/// [`ErrorKind::BadInput`] naming what is malformed.
pub fn list(home: &Home, name: &OsStr, locking: Locking) -> Result<Listed> {
    let root = Root::open(home, name, locking)?;
    let (patches, system, release) =
        (store::installed(&root.dir, root.state.as_ref())?, system_of(&root)?.0, release_of(&root)?);
    let due = root.state.as_ref().map_or(Ok(Vec::new()), follow::due)?;
    Ok(Listed { patches, due, system, release, root: root.place.root })
}

/// Reads what the patches of the root `name` changed.
///
/// # Errors
/// As [`list`].
pub fn check(home: &Home, name: &OsStr, wait: bool, watch: &Watch) -> Result<Checked> {
    let root = Root::open(home, name, Locking { shared: true, wait, verb: "patch check" })?;
    let installed = store::installed(&root.dir, root.state.as_ref())?;
    let ids = Ids::parse(&root.text("etc/passwd")?, &root.text("etc/group")?);
    let mut last: BTreeMap<TreePath, Wanted<'_>> = BTreeMap::new();
    let links = Links::read(home, &root)?;
    let led: Vec<Contents> = installed.iter().map(|patch| links.contents(&patch.contents)).collect::<Result<_>>()?;
    for (patch, contents) in installed.iter().zip(&led) {
        let left = |path: &TreePath| {
            let noted = patch.undo.iter().flat_map(|undo| &undo.noted);
            noted.into_iter().any(|(word, at)| at == path && matches!(word.as_str(), "merged" | "not-empty"))
        };
        let passed_over = |path: &TreePath| {
            let mut noted = patch.undo.iter().flat_map(|undo| &undo.noted);
            noted.any(|(word, at)| at == path && word == "not-installed")
        };
        for change in contents.entries.iter().map(|entry| &entry.change) {
            let is_time =
                matches!((&change.before, &change.after), (Some(before), Some(after)) if is_time(before, after));
            if change.action() != Action::Touch && !is_time && !left(&change.path) {
                let absent = passed_over(&change.path);
                last.insert(
                    change.path.clone(),
                    Wanted { patch, before: &change.before, after: &change.after, absent },
                );
            }
        }
    }
    let mut paths: Vec<TreePath> = last.keys().cloned().collect();
    paths.extend(last.keys().filter_map(relink::source));
    let roots = areas::roots(&root.dir, &areas::below(&root.place, &paths)?)?;
    let here = look::look(&roots, &paths, watch)?;
    let fault = |(path, wanted): (&TreePath, &Wanted<'_>)| {
        // Its bytes are those of the last boot: its source is judged, which a patch brings along.
        let relinked = relink::source(path).is_some_and(|source| here.get(source.as_bytes()).is_some());
        let fault = wanted.fault(here.get(path.as_bytes()), &ids, relinked)?;
        Some((path.clone(), wanted.patch.contents.head.name.clone(), fault))
    };
    let faults: Vec<_> = last.iter().filter_map(fault).collect();
    let packages = look::packages(&root.dir, faults.iter().map(|(path, ..)| path));
    let due = root.state.as_ref().map_or(Ok(Vec::new()), follow::due)?;
    Ok(Checked { patches: installed.len(), paths: last.len(), faults, due, packages, root: root.place.root })
}

/// What the last patch made of a path.
struct Wanted<'a> {
    patch: &'a Installed,
    before: &'a Option<Node>,
    after: &'a Option<Node>,
    /// It was not installed here: it need not be.
    absent: bool,
}

impl Wanted<'_> {
    fn fault(&self, here: Option<&Node>, ids: &Ids, relinked: bool) -> Option<Fault> {
        let (after, here) = match (self.after, here) {
            (None, None) => return None,
            (None, Some(here)) if here.kind.is_dir() => return None,
            (None, Some(_)) => return Some(Fault::NotRemoved),
            (Some(_), None) => return (!self.absent).then_some(Fault::Missing),
            (Some(after), Some(here)) => (after, here),
        };
        let head = &self.patch.contents.head;
        let owner = head.users.get(&after.meta.uid).and_then(|name| ids.users.get(name)).unwrap_or(&after.meta.uid);
        let group = head.groups.get(&after.meta.gid).and_then(|name| ids.groups.get(name)).unwrap_or(&after.meta.gid);
        // Of metadata only what the patch changed.
        let was = self.before.as_ref().filter(|before| before.kind.same(&after.kind));
        let changed = |differs: fn(&Node, &Node) -> bool| was.is_none_or(|was| differs(was, after));
        let is_boots = relinked && matches!((&here.kind, &after.kind), (Kind::File { .. }, Kind::File { .. }));
        if !is_boots && !here.kind.same(&after.kind) {
            let reverted = self.before.as_ref().is_some_and(|before| here.kind.same(&before.kind));
            return Some(if reverted { Fault::Reverted } else { Fault::Content });
        }
        let mode = here.meta.mode != after.meta.mode && changed(|a, b| a.meta.mode != b.meta.mode);
        let owners = (here.meta.uid, here.meta.gid) != (*owner, *group)
            && changed(|a, b| (a.meta.uid, a.meta.gid) != (b.meta.uid, b.meta.gid));
        (mode || owners).then_some(Fault::Metadata)
    }
}

/// Gives up undoing the patch `patch` of the root `name`: what was set aside goes. Returns whether there was any.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such patch.
pub fn forget(home: &Home, name: &OsStr, patch: &str, wait: bool) -> Result<bool> {
    let root = Root::open(home, name, Locking { shared: false, wait, verb: "patch forget" })?;
    if store::read(&root.dir, patch)?.is_none() {
        return Err(no_patch(patch));
    }
    let found = store::forget(&root.dir, patch)?;
    // The patch stays, and builds still lay it over their sources.
    if let Some(noted) = record::noted(root.state()?, patch)? {
        record::note(&root, patch, &record::Digests { undo: None, ..noted })?;
    }
    Ok(found)
}
