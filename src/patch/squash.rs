// SPDX-License-Identifier: ISC
//! Rolling patches up into one (decision 10): [`squash`] is the algebra, [`squash_files`] the files.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Body, Bundle, Contents, Entry, Head, Member, Pen, Scratch, Trust, What, delta, verify_body, write};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::tree::{Digest, Node};
use crate::watch::Watch;

/// One patch that does what these do one after the other; `head` has its name and whatever else is said already.
///
/// A root may have some of them already: what comes in one and goes in a later one is taken away where it is. A file
/// comes as a difference only where a single patch has that; where several change it, its content must follow from what
/// one of them brings whole.
///
/// # Errors
/// [`ErrorKind::Refused`] if one does not go on where those before it stopped, if they are for different systems, or if
/// the content of a file is in none of them.
pub fn squash(members: &[Contents], head: Head) -> Result<Contents> {
    let head = join_heads(members, head)?;
    let (mut changes, between) = join_changes(members)?;
    anchor(&mut changes);
    changes.retain(|path, change| !comes_to_nothing(change) || turn_back(change, between.get(path)));
    drop_misplaced(&mut changes);
    let mut contents = Contents::new(head, Plan { changes: changes.into_values().collect() });
    let known = known(members);
    for entry in &mut contents.entries {
        let digest = |node: &Option<Node>| node.as_ref().and_then(Node::digest);
        entry.base &= digest(&entry.change.before).is_some_and(|before| bases(members).any(|base| base == before));
        if entry.body == Body::Full && !digest(&entry.change.after).is_some_and(|after| known.contains(&after)) {
            entry.body = single_delta(members, entry)?;
            entry.base = false;
        }
    }
    Ok(contents)
}

fn join_heads(members: &[Contents], mut head: Head) -> Result<Head> {
    let Some(last) = members.last() else {
        return Err(Error::new(ErrorKind::Usage, "there is nothing to roll up"));
    };
    let kind = |head: &Head| (head.series.clone(), head.system.clone(), head.release.clone(), head.arch.clone());
    for member in members {
        let own = &member.head;
        if kind(own) != kind(&last.head) {
            let reason = "they are of different series, systems, releases or architectures";
            return Err(Error::new(ErrorKind::Refused, reason).at(&own.name));
        }
        head.provides.extend(own.provides.iter().cloned().chain([(own.name.clone(), member.digest())]));
        head.requires.extend(own.requires.iter().cloned());
        head.absent.extend(own.absent.iter().copied().chain(own.number));
        extend(&mut head.follow_ups, &own.follow_ups);
        extend(&mut head.commands, &own.commands);
        extend(&mut head.accounts, &own.accounts);
        head.note.push_str(&own.note);
        for (ours, theirs) in [(&mut head.users, &own.users), (&mut head.groups, &own.groups)] {
            for (number, name) in theirs {
                if ours.insert(*number, name.clone()).is_some_and(|before| before != *name) {
                    let reason = format!("the number {number} has another name than in the patches before");
                    return Err(Error::new(ErrorKind::Refused, reason).at(&own.name));
                }
            }
        }
    }
    (head.series, head.system, head.release, head.arch) = kind(&last.head);
    head.number = head.number.or(last.head.number);
    head.absent.retain(|number| Some(*number) != head.number);
    head.absent.sort_unstable();
    head.absent.dedup();
    let provided: HashSet<Digest> = head.provides.iter().map(|(_, digest)| *digest).collect();
    head.requires.retain(|(_, digest)| !provided.contains(digest));
    head.requires.dedup();
    if head.title.is_empty() {
        let names: Vec<&str> = members.iter().map(|member| member.head.name.as_str()).collect();
        head.title = format!("{} in one", names.join(", "));
    }
    Ok(head)
}

/// Appends what is not there yet.
fn extend<T: Clone + PartialEq>(ours: &mut Vec<T>, theirs: &[T]) {
    for one in theirs {
        if !ours.contains(one) {
            ours.push(one.clone());
        }
    }
}

fn comes_to_nothing(change: &Change) -> bool {
    match (&change.before, &change.after) {
        (None, None) => true,
        (Some(before), Some(after)) => !before.kind.is_dir() && before.same(after) && before.group == after.group,
        _ => false,
    }
}

/// Makes a change that comes to nothing the way back from what was there `between`. Is there one?
fn turn_back(change: &mut Change, between: Option<&Node>) -> bool {
    let Some(between) = between.filter(|_| change.after.as_ref().is_none_or(|after| after.group.is_none())) else {
        return false;
    };
    change.replace = change.after.as_ref().is_none_or(|after| !after.kind.same(&between.kind));
    change.before = Some(Node { group: None, origin: None, ..between.clone() });
    change.link = None;
    true
}

/// Leaves out what was in a directory that is none in the state that the patch begins with.
fn drop_misplaced(changes: &mut BTreeMap<TreePath, Change>) {
    let is_leaf = |change: &Change| change.before.as_ref().is_some_and(|before| !before.kind.is_dir());
    let leaves: HashSet<TreePath> =
        changes.iter().filter(|(_, change)| is_leaf(change)).map(|(path, _)| path.clone()).collect();
    changes.retain(|path, change| change.after.is_some() || !path.ancestors().any(|above| leaves.contains(&above)));
}

type Changes = BTreeMap<TreePath, Change>;

/// What was before the first change of each path, and will be after the last; and what was there before the last of
/// several.
fn join_changes(members: &[Contents]) -> Result<(Changes, HashMap<TreePath, Node>)> {
    let (mut changes, mut between) = (Changes::new(), HashMap::new());
    for member in members {
        for Entry { change, .. } in &member.entries {
            let Some(earlier) = changes.get_mut(&change.path) else {
                changes.insert(change.path.clone(), change.clone());
                continue;
            };
            let goes_on = match (&earlier.after, &change.before) {
                (None, None) => true,
                (Some(left), Some(found)) => left.same_but_dir_time(found),
                _ => false,
            };
            if !goes_on {
                let reason = format!("{} does not go on where the patches before it stopped", member.head.name);
                return Err(Error::new(ErrorKind::Refused, reason).at(&change.path));
            }
            earlier.after.clone_from(&change.after);
            between.extend(change.before.clone().map(|node| (change.path.clone(), node)));
            // How the inode came to be is said where it was made.
            if change.replace {
                (earlier.replace, earlier.link) = (true, change.link.clone());
            }
        }
    }
    Ok((changes, between))
}

/// Names that join an inode which is gone again: the first of its group gets one, the others join that.
fn anchor(changes: &mut BTreeMap<TreePath, Change>) {
    let gone: HashSet<TreePath> =
        changes.iter().filter(|(_, change)| change.after.is_none()).map(|(path, _)| path.clone()).collect();
    let mut anchors: HashMap<TreePath, TreePath> = HashMap::new();
    for (path, change) in changes.iter_mut() {
        let Some(link) = change.link.take() else { continue };
        if gone.contains(&link) {
            change.link = anchors.get(&link).cloned();
            anchors.entry(link).or_insert_with(|| path.clone());
        } else {
            change.link = Some(link);
        }
    }
}

/// Contents that the patches bring whole, or that follow from those.
fn known(members: &[Contents]) -> HashSet<Digest> {
    let mut known: HashSet<Digest> = HashSet::new();
    for entry in members.iter().flat_map(|member| &member.entries) {
        let digest = |node: &Option<Node>| node.as_ref().and_then(Node::digest);
        let (before, after) = (digest(&entry.change.before), digest(&entry.change.after));
        let follows = match entry.body {
            Body::None => false,
            Body::Full => true,
            Body::Delta(_) => before.is_some_and(|before| known.contains(&before)),
        };
        known.extend(after.filter(|_| follows));
        known.extend(before.filter(|_| entry.base));
    }
    known
}

fn bases(members: &[Contents]) -> impl Iterator<Item = Digest> {
    let entries = members.iter().flat_map(|member| &member.entries).filter(|entry| entry.base);
    entries.filter_map(|entry| entry.change.before.as_ref()?.digest())
}

/// The difference that a single patch has between exactly these contents.
fn single_delta(members: &[Contents], wanted: &Entry) -> Result<Body> {
    let ends = |change: &Change| {
        let digest = |node: &Option<Node>| node.as_ref().and_then(Node::digest);
        (digest(&change.before), digest(&change.after))
    };
    let path = &wanted.change.path;
    let of = members.iter().filter_map(|member| member.get(path));
    let mut found = of.filter(|entry| ends(&entry.change) == ends(&wanted.change)).map(|entry| entry.body);
    found.rfind(|body| matches!(body, Body::Delta(_))).ok_or_else(|| {
        let error = Error::new(ErrorKind::Refused, "several patches bring it as a difference, and none whole").at(path);
        error.hint("roll up patches that were made without --delta")
    })
}

/// Rolls up patch files. Returns the manifest of the one that is written to `to`.
///
/// # Errors
/// As [`squash`], [`Bundle::read`] and [`write`].
pub fn squash_files(
    files: &[PathBuf],
    head: Head,
    (trust, pen): (Trust<'_>, Option<&Pen>),
    to: &Path,
    watch: &Watch,
) -> Result<Contents> {
    let mut store = Store { scratch: Scratch::beside(to)?, whole: HashMap::new(), deltas: HashMap::new() };
    let mut members = Vec::new();
    for file in files {
        let shown = file.as_os_str().as_bytes();
        let input = BufReader::new(File::open(file).on("open", shown)?);
        let bundle = Bundle::open(input, trust).map_err(|error| error.at(shown))?;
        let mut take = |contents: &Contents, member: &Member, body: &mut dyn Read| store.take(contents, member, body);
        members.push(bundle.read(&mut take, watch).map_err(|error| error.at(shown))?);
    }
    let contents = squash(&members, head)?;
    let mut source = |member: &Member| store.body(&contents, member);
    write(&contents, &mut source, pen, to, watch)?;
    Ok(contents)
}

/// The bodies of patches, on the disk.
struct Store {
    scratch: Scratch,
    whole: HashMap<Digest, Range<u64>>,
    /// Differences, by the contents before and after.
    deltas: HashMap<(Digest, Digest), Range<u64>>,
}

impl Store {
    fn take(&mut self, contents: &Contents, member: &Member, body: &mut dyn Read) -> Result<()> {
        let change = &contents.entries[member.entry].change;
        let range = self.scratch.add(body).on("write", &change.path)?;
        if let Some(digest) = member.digest(contents) {
            verify_body(contents, member, &mut self.scratch.read(range.clone()))?;
            self.whole.insert(digest, range);
            return Ok(());
        }
        let ends = [&change.before, &change.after].map(|node| node.as_ref().and_then(Node::digest));
        let ([Some(before), Some(after)], Some(node)) = (ends, &change.after) else { return Ok(()) };
        if let Some(old) = self.whole.get(&before).cloned() {
            let mut bytes = Vec::new();
            self.scratch.read(old).read_to_end(&mut bytes).on("read", &change.path)?;
            let frame = BufReader::new(self.scratch.read(range.clone()));
            let mut new = Vec::new();
            delta::patch(&bytes, frame, node.size())?.read_to_end(&mut new).on("decompress", &change.path)?;
            self.whole.insert(after, self.scratch.add(&mut &new[..]).on("write", &change.path)?);
        }
        self.deltas.insert((before, after), range);
        Ok(())
    }

    fn body(&self, contents: &Contents, member: &Member) -> Result<Box<dyn Read + '_>> {
        let change = &contents.entries[member.entry].change;
        let digest = |node: &Option<Node>| node.as_ref().and_then(Node::digest);
        let range = match (member.what, digest(&change.before), digest(&change.after)) {
            (What::Base, Some(before), _) => self.whole.get(&before),
            (What::Whole, _, Some(after)) => self.whole.get(&after),
            (What::Delta, Some(before), Some(after)) => self.deltas.get(&(before, after)),
            _ => None,
        };
        let missing = || Error::new(ErrorKind::NotFound, "none of the patches has its content").at(&change.path);
        Ok(Box::new(self.scratch.read(range.cloned().ok_or_else(missing)?)))
    }
}

#[cfg(test)]
mod tests;
