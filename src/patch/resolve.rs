// SPDX-License-Identifier: ISC
//! What a patch means for a root: which of its changes are made there, and which cannot be. Pure.
//!
//! For each path three things are known: what the patch expects (*before*), what it makes of it (*after*), and what is
//! there (*here*). The wanted tree is what is here with the changes that are made; its difference from what is here is
//! the plan (decisions 2 to 5, 14, 23).
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::patch::contents::{Contents, Entry, Head};
use crate::path::TreePath;
use crate::plan::Change;
use crate::tree::{Kind, Meta, Node, Tree, relink};

/// What is done about a path that is not as the patch expects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Nothing at all is changed.
    #[default]
    Refuse,
    /// What is here stays.
    Keep,
    /// What the patch brings takes its place.
    Replace,
}

/// Numbers of the target's users and groups, by name.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// Users.
    pub users: HashMap<String, u32>,
    /// Groups.
    pub groups: HashMap<String, u32>,
}

impl Ids {
    /// Reads passwd(5) and group(5).
    pub fn parse(passwd: &[u8], group: &[u8]) -> Ids {
        let numbers = |file: &[u8]| {
            let line = |line: &[u8]| {
                let mut fields = std::str::from_utf8(line).ok()?.split(':');
                Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
            };
            file.split(|&b| b == b'\n').filter_map(line).collect()
        };
        Ids { users: numbers(passwd), groups: numbers(group) }
    }
}

/// The root as it is.
pub struct Here<'a> {
    /// The entries at all paths of the patch, and the directories above; files with digests.
    pub tree: &'a Tree,
    /// Whose names are what numbers.
    pub ids: &'a Ids,
    /// The names in a directory.
    pub names: &'a dyn Fn(&TreePath) -> Result<Vec<TreePath>>,
    /// What patches here left at a path, for which this one stands (decision 10).
    pub left: &'a dyn Fn(&TreePath) -> Vec<Node>,
}

/// Why a change is not made, or not as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The set or package that it belongs to is not installed here.
    NotInstalled,
    /// There is something else than what the patch expects; what, in words.
    Conflict(&'static str),
    /// As a conflict, and left as it is because that was asked for.
    Kept(&'static str),
    /// As a conflict, and overwritten because that was asked for.
    Replaced(&'static str),
    /// A directory that the patch removes holds what is not the patch's.
    NotEmpty,
    /// Owner or mode were changed here; they stay.
    LocalMeta,
    /// It was edited here; the changes of the patch are merged into it.
    Merged,
}

/// What a patch means for a root.
#[derive(Debug)]
pub struct Resolved {
    /// What the root shall be, at the paths of the patch. A file to be merged is in it as the patch would have it.
    pub want: Tree,
    /// What was noticed, in order of the paths.
    pub noted: Vec<(TreePath, Why)>,
}

impl Resolved {
    /// Paths where nothing was decided: as long as there are some, nothing may be changed.
    pub fn conflicts(&self) -> impl Iterator<Item = (&TreePath, &'static str)> {
        self.noted.iter().filter_map(|(path, why)| match why {
            Why::Conflict(reason) => Some((path, *reason)),
            _ => None,
        })
    }

    /// Files whose content is made by a merge.
    pub fn merges(&self) -> HashSet<TreePath> {
        let merged = self.noted.iter().filter(|(_, why)| *why == Why::Merged);
        merged.map(|(path, _)| path.clone()).collect()
    }
}

/// Works out what `contents` means for what is `here`.
///
/// # Errors
/// [`ErrorKind::Refused`] for an owner who has no number here; errors of [`Here::names`].
pub fn resolve(contents: &Contents, here: &Here<'_>, on_conflict: OnConflict) -> Result<Resolved> {
    let entries = owned(contents, here.ids)?;
    let absent = absent_origins(&entries, here.tree);
    let want: BTreeMap<TreePath, Node> = here.tree.nodes().iter().map(|n| (n.path.clone(), n.clone())).collect();
    let mut work = Work { contents, here, on_conflict, absent, want, noted: Vec::new() };
    for entry in &entries {
        work.take(entry);
    }
    // Directories go once all that is in them does: the deepest first.
    for entry in entries.iter().rev() {
        work.empty_dir(entry)?;
    }
    work.group(&entries);
    let Work { want, mut noted, .. } = work;
    noted.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Resolved { want: Tree::new(want.into_values().collect())?, noted })
}

/// The entries with the numbers that their owners' names have here.
fn owned(contents: &Contents, ids: &Ids) -> Result<Vec<Entry>> {
    let Head { users, groups, .. } = &contents.head;
    let number = |names: &BTreeMap<u32, String>, known: &HashMap<String, u32>, id: u32| match names.get(&id) {
        None => Ok(id),
        Some(name) => known.get(name).copied().ok_or_else(|| unknown_owner(name)),
    };
    let mut entries = contents.entries.clone();
    for entry in &mut entries {
        let change = &mut entry.change;
        for node in [&mut change.before, &mut change.after].into_iter().flatten() {
            node.meta.uid = number(users, &ids.users, node.meta.uid).map_err(|e| e.at(&node.path))?;
            node.meta.gid = number(groups, &ids.groups, node.meta.gid).map_err(|e| e.at(&node.path))?;
        }
    }
    Ok(entries)
}

fn unknown_owner(name: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("it belongs to {name}, whom nobody knows there"))
        .hint("make the account there first")
}

/// Sets and packages of which nothing is here that the patch expects.
fn absent_origins(entries: &[Entry], here: &Tree) -> HashSet<Arc<str>> {
    let mut found: HashMap<Arc<str>, bool> = HashMap::new();
    for before in entries.iter().filter_map(|entry| entry.change.before.as_ref()).filter(|n| !n.kind.is_dir()) {
        if let Some(origin) = &before.origin {
            *found.entry(Arc::clone(origin)).or_default() |= here.get(before.path.as_bytes()).is_some();
        }
    }
    found.into_iter().filter(|(_, here)| !here).map(|(origin, _)| origin).collect()
}

struct Work<'a> {
    contents: &'a Contents,
    here: &'a Here<'a>,
    on_conflict: OnConflict,
    absent: HashSet<Arc<str>>,
    want: BTreeMap<TreePath, Node>,
    noted: Vec<(TreePath, Why)>,
}

impl Work<'_> {
    fn take(&mut self, entry: &Entry) {
        let change = &entry.change;
        let here = self.here.tree.get(change.path.as_bytes());
        let untouched = |here: &Node| change.before.as_ref().is_some_and(|before| before.same(here));
        let step = here
            .filter(|here| !untouched(here))
            .and_then(|here| (self.here.left)(&change.path).into_iter().find(|node| node.kind.same(&here.kind)));
        if let Some(step) = step {
            // One of the patches that this one is made of is there.
            let change = Change { before: Some(step), ..change.clone() };
            return self.take_change(&Entry { change, ..*entry });
        }
        self.take_change(entry);
    }

    fn take_change(&mut self, entry: &Entry) {
        let change = &entry.change;
        let here = self.here.tree.get(change.path.as_bytes());
        if self.is_below_no_dir(&change.path) {
            return self.conflict(entry, self.above(&change.path));
        }
        match (&change.before, &change.after, here) {
            (Some(before), None, _) if before.kind.is_dir() => {} // later
            (Some(before), Some(after), Some(here)) if is_emptied(before, after, here) => {} // later
            (_, None, None) => {}
            (Some(before), Some(after), _) if is_time(before, after) => self.put_time(before, after, here),
            (Some(before), Some(after), Some(here)) if before.kind.same(&after.kind) && alike(before, here) => {
                self.put_meta(before, after, here);
            }
            (Some(before), None, Some(here)) if here.kind.same(&before.kind) => drop(self.want.remove(&change.path)),
            (Some(before), Some(after), Some(here)) if as_expected(here, before, after) => {
                self.put(Some(before), after, here);
            }
            (None, Some(after), Some(here)) if here.kind.same(&after.kind) => self.put(None, after, here),
            (None, Some(after), None) if self.has_room(after) => {
                drop(self.want.insert(after.path.clone(), after.clone()))
            }
            (None, Some(_), None) => self.note(entry, Why::NotInstalled),
            (Some(before), Some(_), None) if before.origin.as_ref().is_some_and(|o| self.absent.contains(o)) => {
                self.note(entry, Why::NotInstalled);
            }
            (_, Some(after), Some(here)) if entry.base && matches!(here.kind, Kind::File { .. }) => {
                self.put(change.before.as_ref(), after, here);
                self.note(entry, Why::Merged);
            }
            (before, after, here) => match (self.relinked(&change.path), before, after, here) {
                (Some(Linked::New), Some(before), Some(after), Some(here)) => self.put_meta(before, after, here),
                (Some(Linked::Old), Some(before), Some(after), Some(here)) => self.put(Some(before), after, here),
                (Some(Linked::Old), Some(_), None, Some(_)) => drop(self.want.remove(&change.path)),
                _ => self.conflict(entry, reason(before.as_ref(), here)),
            },
        }
    }

    /// Of a file that each boot links anew: what it is linked from here, if the patch knows that.
    fn relinked(&self, path: &TreePath) -> Option<Linked> {
        let is_file = |node: &Node| matches!(node.kind, Kind::File { .. });
        self.here.tree.get(path.as_bytes()).filter(|here| is_file(here))?;
        let source = relink::source(path)?;
        let change = &self.contents.get(&source)?.change;
        let here = self.here.tree.get(source.as_bytes()).filter(|here| is_file(here))?;
        let is = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.kind.same(&here.kind));
        if is(&change.after) { Some(Linked::New) } else { is(&change.before).then_some(Linked::Old) }
    }

    /// Times never conflict (decision 3): only what is as expected, or of its content, gets another.
    fn put_time(&mut self, before: &Node, after: &Node, here: Option<&Node>) {
        if let Some(here) = here.filter(|here| here.kind.same(&before.kind)) {
            self.put(Some(before), after, here);
        }
    }

    /// The patch brings no content: whatever content is here stays.
    fn put_meta(&mut self, before: &Node, after: &Node, here: &Node) {
        let same = here.kind.same(&before.kind);
        self.put(Some(before), &Node { kind: here.kind.clone(), ..after.clone() }, here);
        if let Some(node) = self.want.get_mut(&after.path).filter(|_| !same) {
            node.meta.mtime = here.meta.mtime;
        }
    }

    /// What is here as expected becomes what it shall be; of its metadata only what the patch changes.
    fn put(&mut self, before: Option<&Node>, after: &Node, here: &Node) {
        let (meta, local) = merge_meta(before.map(|node| &node.meta), after, here);
        if local {
            self.noted.push((after.path.clone(), Why::LocalMeta));
        }
        let content_stays = here.kind.same(&after.kind);
        let mut node = Node { meta, group: after.group.clone(), ..after.clone() };
        if content_stays {
            node.kind = here.kind.clone();
            node.group =
                after.group.clone().or_else(|| here.group.clone().filter(|_| before.is_none_or(|b| b.group.is_none())));
        }
        self.want.insert(after.path.clone(), node);
    }

    /// Nothing is written through a link that somebody put in the place of a directory (decision 23).
    fn is_below_no_dir(&self, path: &TreePath) -> bool {
        let above = path.ancestors().find_map(|above| self.here.tree.get(above.as_bytes()));
        let Some(above) = above.filter(|above| !above.kind.is_dir()) else { return false };
        // Unless it is the patch that puts it there, and did so already.
        let after = self.contents.get(&above.path).and_then(|entry| entry.change.after.as_ref());
        !after.is_some_and(|after| after.kind.same(&above.kind))
            && !self.want.get(&above.path).is_some_and(|node| node.kind.is_dir())
    }

    fn above(&self, path: &TreePath) -> &'static str {
        let above = path.ancestors().find_map(|above| self.here.tree.get(above.as_bytes()));
        match above.map(|above| &above.kind) {
            Some(Kind::Symlink(_)) => {
                "a directory above it is a link here; name that in `follow` of patch.toml to have it followed"
            }
            _ => "a directory above it is something else here",
        }
    }

    /// Is the directory there in which it shall be, or will it be?
    fn has_room(&self, after: &Node) -> bool {
        let parent = after.path.parent().unwrap_or_default();
        parent.is_root() || self.want.get(&parent).is_some_and(|node| node.kind.is_dir())
    }

    fn conflict(&mut self, entry: &Entry, reason: &'static str) {
        let change = &entry.change;
        let here = self.here.tree.get(change.path.as_bytes());
        let is_dir = |node: Option<&Node>| node.is_some_and(|node| node.kind.is_dir());
        // A directory may hold anything: nobody asked for that to go.
        let replaceable = !is_dir(here) && !is_dir(change.after.as_ref()) && !self.is_below_no_dir(&change.path);
        let why = match self.on_conflict {
            OnConflict::Keep => Why::Kept(reason),
            OnConflict::Replace if replaceable => {
                match &change.after {
                    Some(after) => drop(self.want.insert(change.path.clone(), after.clone())),
                    None => drop(self.want.remove(&change.path)),
                }
                Why::Replaced(reason)
            }
            _ => Why::Conflict(reason),
        };
        self.note(entry, why);
    }

    /// A directory goes, or becomes something else, if nothing stays in it.
    fn empty_dir(&mut self, entry: &Entry) -> Result<()> {
        let change = &entry.change;
        let here = self.here.tree.get(change.path.as_bytes()).filter(|here| here.kind.is_dir());
        let goes = match (&change.before, &change.after, here) {
            (Some(_), None, Some(_)) => true,
            (Some(before), Some(after), Some(here)) => is_emptied(before, after, here),
            _ => false,
        };
        if !goes {
            return Ok(());
        }
        let names = (self.here.names)(&change.path)?;
        let stays = |name: &TreePath| self.here.tree.get(name.as_bytes()).is_none() || self.want.contains_key(name);
        match &change.after {
            None if names.iter().any(stays) => self.note(entry, Why::NotEmpty),
            Some(_) if names.iter().any(stays) => self.conflict(entry, "it is not empty"),
            None => drop(self.want.remove(&change.path)),
            Some(after) => drop(self.want.insert(change.path.clone(), after.clone())),
        }
        Ok(())
    }

    /// Names that shall share an inode, with those that have it already; never two that differ.
    fn group(&mut self, entries: &[Entry]) {
        let groups = entries.iter().filter_map(|entry| entry.change.after.as_ref()?.group.clone());
        let mut firsts: HashMap<TreePath, Node> = HashMap::new();
        for group in groups {
            let Some(first) = self.want.get_mut(&group) else { continue };
            first.group = Some(group.clone());
            firsts.insert(group, first.clone());
        }
        for node in self.want.values_mut() {
            if node.group.as_ref().and_then(|group| firsts.get(group)).is_some_and(|first| !node.same(first)) {
                node.group = None;
            }
        }
    }

    fn note(&mut self, entry: &Entry, why: Why) {
        self.noted.push((entry.change.path.clone(), why));
    }
}

/// What a file is linked from.
enum Linked {
    /// What the patch expects.
    Old,
    /// What the patch brings.
    New,
}

/// Does nothing change but the time?
pub fn is_time(before: &Node, after: &Node) -> bool {
    let meta = Meta { mtime: after.meta.mtime, ..before.meta.clone() };
    before.kind.same(&after.kind) && meta == after.meta && before.group == after.group
}

/// Are both of the same kind, whatever their content?
fn alike(a: &Node, b: &Node) -> bool {
    std::mem::discriminant(&a.kind) == std::mem::discriminant(&b.kind)
}

/// Does a directory become something else?
fn is_emptied(before: &Node, after: &Node, here: &Node) -> bool {
    before.kind.is_dir() && here.kind.is_dir() && !after.kind.is_dir()
}

/// Is here what the patch expects, or what it makes of it already?
fn as_expected(here: &Node, before: &Node, after: &Node) -> bool {
    here.kind.same(&before.kind) || here.kind.same(&after.kind)
}

fn reason(before: Option<&Node>, here: Option<&Node>) -> &'static str {
    match (before, here) {
        (Some(_), None) => "it is missing",
        (None, _) => "something is there already",
        (Some(before), Some(here)) if before.kind.word() != here.kind.word() => "it is of another kind",
        _ => "it was changed here",
    }
}

/// The metadata that an entry shall have: a field that the patch changes is set, another stays as it is here. Was one
/// that the patch changes, or owner or mode of a file that it brings, changed here, too?
fn merge_meta(before: Option<&Meta>, after: &Node, here: &Node) -> (Meta, bool) {
    let (to, now) = (&after.meta, &here.meta);
    let Some(from) = before else { return (now.clone(), !same_but_time(now, to)) };
    let replaced = !here.kind.same(&after.kind);
    let meta = Meta {
        mode: pick(from.mode, to.mode, now.mode),
        uid: pick(from.uid, to.uid, now.uid),
        gid: pick(from.gid, to.gid, now.gid),
        xattrs: pick(&from.xattrs, &to.xattrs, &now.xattrs).clone(),
        flags: pick(from.flags, to.flags, now.flags),
        mtime: if replaced && !here.kind.is_dir() { to.mtime } else { time(from, to, now) },
    };
    let local = !same_but_time(now, from) && !same_but_time(now, to);
    (meta, local)
}

/// The time of what keeps its content. Plain tar, which may have unpacked it, knows whole seconds.
fn time(from: &Meta, to: &Meta, now: &Meta) -> crate::tree::Time {
    match now.mtime == from.mtime {
        false if to.mtime.sec == now.mtime.sec => now.mtime,
        _ => pick(from.mtime, to.mtime, now.mtime),
    }
}

fn pick<T: PartialEq>(from: T, to: T, now: T) -> T {
    if from == to { now } else { to }
}

fn same_but_time(a: &Meta, b: &Meta) -> bool {
    (a.mode, a.uid, a.gid, a.flags, &a.xattrs) == (b.mode, b.uid, b.gid, b.flags, &b.xattrs)
}
