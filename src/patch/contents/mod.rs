// SPDX-License-Identifier: ISC
//! [`Contents`]: the plan of a patch and all that is said of it; `+CONTENTS` is its text.
#![forbid(unsafe_code)]

mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::tree::{Digest, Kind, Node};

/// The manifest of a patch.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What is said of the whole.
    pub head: Head,
    /// The changes, in tree order, each path once.
    pub entries: Vec<Entry>,
}

/// What is said of a whole patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// Patches of one series are applied in the order of their numbers.
    pub series: String,
    /// Its place in the series.
    pub number: Option<u32>,
    /// Numbers below its own that the series does not have here: nobody waits for them.
    pub absent: Vec<u32>,
    /// What it is for: `linux` or `openbsd`.
    pub system: String,
    /// The release it is for, as [`crate::select`] or a recipe names it; empty: any.
    pub release: String,
    /// The architecture it is for, as uname(1) names it; empty: any.
    pub arch: String,
    /// When it was made, in seconds since 1970.
    pub date: i64,
    /// One line for people.
    pub title: String,
    /// What else people should know, of any number of lines.
    pub note: String,
    /// Earlier patches that must be there: name and digest of the manifest.
    pub requires: Vec<(String, Digest)>,
    /// Patches that this one is made of, and stands for.
    pub provides: Vec<(String, Digest)>,
    /// What has to be done afterwards.
    pub follow_ups: Vec<FollowUp>,
    /// What may have to be done and is for people to do: shown, never run.
    pub commands: Vec<String>,
    /// Accounts that it needs, a line each.
    pub accounts: Vec<String>,
    /// Names of the owners that the plan has as numbers.
    pub users: BTreeMap<u32, String>,
    /// Names of the groups that the plan has as numbers.
    pub groups: BTreeMap<u32, String>,
}

/// What is done after a patch is in place (decision 7).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FollowUp {
    /// The cache or hints of the runtime linker.
    Ldconfig,
    /// The databases of accounts.
    PwdMkdb,
    /// The databases of capabilities (termcap, login.conf).
    CapMkdb,
    /// The database of mail aliases.
    Newaliases,
    /// The database of manual pages.
    Makewhatis,
    /// What OpenBSD links anew at each boot.
    Relink,
    /// A service; only where the user asks for it.
    Restart(String),
}

impl fmt::Display for FollowUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FollowUp::Ldconfig => "ldconfig",
            FollowUp::PwdMkdb => "pwd_mkdb",
            FollowUp::CapMkdb => "cap_mkdb",
            FollowUp::Newaliases => "newaliases",
            FollowUp::Makewhatis => "makewhatis",
            FollowUp::Relink => "relink",
            FollowUp::Restart(name) => return write!(f, "restart {name}"),
        })
    }
}

impl FromStr for FollowUp {
    type Err = Error;

    fn from_str(text: &str) -> Result<FollowUp> {
        let service = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._@:-".contains(c);
            (!name.is_empty() && !name.starts_with('-') && name.chars().all(plain)).then(|| name.to_owned())
        };
        Ok(match text {
            "ldconfig" => FollowUp::Ldconfig,
            "pwd_mkdb" => FollowUp::PwdMkdb,
            "cap_mkdb" => FollowUp::CapMkdb,
            "newaliases" => FollowUp::Newaliases,
            "makewhatis" => FollowUp::Makewhatis,
            "relink" => FollowUp::Relink,
            _ => match text.strip_prefix("restart ").and_then(service) {
                Some(name) => FollowUp::Restart(name),
                None => return Err(Error::new(ErrorKind::BadInput, "no follow-up that is known").at(text)),
            },
        })
    }
}

/// A change and what the patch brings for it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The change.
    pub change: Change,
    /// The content of the file after it.
    pub body: Body,
    /// The content of the file before it comes too: the base of a merge with what was edited on the target.
    pub base: bool,
}

/// How the content of a file is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Not at all: the change needs none.
    None,
    /// Whole.
    Full,
    /// As the difference from the content before: so many bytes of a zstd frame.
    Delta(u64),
}

impl Contents {
    /// The manifest of a plan, all of whose bodies are full. Files of text under `/etc` bring what they were, too
    /// (decision 5). `users` and `groups` are the files that give its numbers names.
    pub fn new(head: Head, plan: Plan) -> Contents {
        let entry = |change: Change| {
            let body = if change.needs_body() { Body::Full } else { Body::None };
            let base = body == Body::Full && is_configuration(&change);
            Entry { change: plain(change), body, base }
        };
        Contents { head, entries: plan.changes.into_iter().map(entry).collect() }
    }

    /// Its plan.
    pub fn plan(&self) -> Plan {
        Plan { changes: self.entries.iter().map(|entry| entry.change.clone()).collect() }
    }

    /// What identifies it: SHA-256 of its text.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.text()).into())
    }

    /// Its text.
    pub fn text(&self) -> Vec<u8> {
        text::write(self)
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for anything but what [`Contents::text`] writes, or for a plan that is none.
    pub fn parse(text: &[u8]) -> Result<Contents> {
        text::parse(text)
    }

    /// The entry at `path`.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.change.path.cmp(path));
        found.ok().map(|index| &self.entries[index])
    }

    /// Bytes of the bodies that it brings, as they are stored.
    pub fn bytes(&self) -> u64 {
        let size = |entry: &Entry| {
            let after = entry.change.after.as_ref().map_or(0, Node::size);
            let before = entry.change.before.as_ref().map_or(0, Node::size);
            let base = if entry.base { before } else { 0 };
            base + match entry.body {
                Body::None => 0,
                Body::Full => after,
                Body::Delta(size) => size,
            }
        };
        self.entries.iter().map(size).sum()
    }

    /// Names for all owners that the plan has, from the account files of the root it was made in. Those without a name
    /// keep their number alone.
    pub fn name_owners(&mut self, passwd: &[u8], group: &[u8]) {
        let nodes = self.entries.iter().flat_map(|e| [&e.change.before, &e.change.after]).flatten();
        let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
        let (user_names, group_names) = (names(passwd), names(group));
        for node in nodes {
            if let Some(name) = user_names.get(&node.meta.uid) {
                users.insert(node.meta.uid, name.clone());
            }
            if let Some(name) = group_names.get(&node.meta.gid) {
                groups.insert(node.meta.gid, name.clone());
            }
        }
        (self.head.users, self.head.groups) = (users, groups);
    }
}

/// Number and name of each line of passwd(5) or group(5), in which both have their places alike; the first line counts.
fn names(file: &[u8]) -> BTreeMap<u32, String> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|&b| b == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let name = std::str::from_utf8(name).ok().filter(|name| text::is_name(name))?;
        Some((std::str::from_utf8(number).ok()?.parse().ok()?, name.to_owned()))
    };
    let mut names = BTreeMap::new();
    for (number, name) in file.split(|&b| b == b'\n').filter_map(line) {
        names.entry(number).or_insert(name);
    }
    names
}

/// Stamps say nothing on another machine.
fn plain(mut change: Change) -> Change {
    for node in [&mut change.before, &mut change.after].into_iter().flatten() {
        (node.here, node.from) = (None, None);
        node.origin = node.origin.as_deref().and_then(crate::patch::set_of).map(Into::into);
    }
    change
}

/// A file of text below `/etc` that replaces another: what a target may have edited.
fn is_configuration(change: &Change) -> bool {
    /// Larger ones are nobody's handiwork.
    const LARGEST: u64 = 1 << 20;
    let small = |node: &Option<Node>| node.as_ref().is_some_and(|n| n.size() <= LARGEST);
    let file = |node: &Option<Node>| matches!(node, Some(Node { kind: Kind::File { .. }, .. }));
    let within = change.path.components().next() == Some(b"etc");
    within && [&change.before, &change.after].iter().all(|node| file(node) && small(node))
}

/// Can there be trees before and after that have these entries?
fn check_trees(entries: &[Entry]) -> Result<()> {
    for side in [|c: &Change| c.before.clone(), |c: &Change| c.after.clone()] {
        let nodes: Vec<Node> = entries.iter().filter_map(|entry| side(&entry.change)).collect();
        check_tree(&nodes)?;
    }
    Ok(())
}

/// No entry lies below one that is no directory; names of one group are alike.
fn check_tree(nodes: &[Node]) -> Result<()> {
    let mut leaf: Option<&TreePath> = None;
    for node in nodes {
        if leaf.is_some_and(|leaf| node.path.is_within(leaf)) {
            return Err(Error::new(ErrorKind::BadInput, "it lies below what is no directory").at(&node.path));
        }
        if !node.kind.is_dir() {
            leaf = Some(&node.path);
        }
        let index = node.group.as_ref().and_then(|group| nodes.binary_search_by(|other| other.path.cmp(group)).ok());
        if index.is_some_and(|index| !nodes[index].same(node)) {
            return Err(Error::new(ErrorKind::BadInput, "names of one link group differ").at(&node.path));
        }
    }
    Ok(())
}
