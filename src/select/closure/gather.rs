// SPDX-License-Identifier: ISC
//! Gathers a closure: a list of work in which each file that is found adds what it needs.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use super::owners::Owners;
use super::policy::{self, Policy};
use super::search::{Loader, Search};
use super::view::{View, absolute};
use super::{Closure, Reason, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath, escape};
use crate::select::elf::Machine;
use crate::select::packages::{MERGED, SECRETS};
use crate::sys::FileType;
use crate::watch::Watch;

/// No closure has more entries: more is a policy or a link gone wild.
const MAX_ENTRIES: usize = 2_000_000;
/// How much of a script is read.
pub(super) const MAX_SCRIPT: u64 = 1 << 20;
/// How deep trees may be.
const MAX_DEPTH: usize = 64;

/// How a path came to be wanted.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) reason: Reason,
    /// A program that the user names needs it: without it nothing works.
    pub(super) must: bool,
    /// It was found in a tree: it is there for completeness.
    pub(super) in_tree: bool,
}

impl Want {
    /// How much is at stake: what was looked into for less is looked into again.
    pub(super) fn weight(&self) -> u8 {
        if self.in_tree { 1 } else { 2 + u8::from(self.must) }
    }
}

/// A file to look into.
pub(super) struct Task {
    /// Its canonical path.
    pub(super) path: TreePath,
    /// The name that it was found by, absolute.
    pub(super) at: Vec<u8>,
    pub(super) want: Want,
}

/// A closure that is being gathered.
pub(super) struct Gatherer<'a> {
    pub(super) view: &'a View,
    pub(super) search: Search<'a>,
    pub(super) closure: Closure,
    pub(super) todo: VecDeque<Task>,
    /// Objects that were loaded, and with what weight.
    pub(super) loaded: HashMap<TreePath, u8>,
    /// Directories that were taken with what is in them.
    walked: HashSet<TreePath>,
    /// Modules that were read.
    pub(super) read: HashSet<TreePath>,
    /// Which loader loads what is for a machine.
    pub(super) loaders: BTreeMap<Machine, Loader>,
    /// Where each Python and Perl interpreter looks for modules.
    pub(super) interpreters: HashMap<TreePath, Vec<Vec<u8>>>,
    known: HashSet<(TreePath, Reason)>,
    /// Files that are or were in the list of work, and with what weight.
    pub(super) queued: HashMap<TreePath, u8>,
    pub(super) secrets: PathSet,
    pub(super) policies: Rc<[Policy]>,
    /// What the policies that applied leave out of trees.
    pub(super) except: Vec<String>,
    pub(super) owners: &'a Owners<'a>,
    /// Packages whose own files were looked at.
    pub(super) opened: HashSet<usize>,
    /// Interpreters of scripts in trees that were left out: the first script, and how many.
    pub(super) left_out: BTreeMap<Vec<u8>, (TreePath, usize)>,
    pub(super) request: &'a Request,
    watch: &'a Watch,
}

/// Gathers all that `request` needs of the host that `view` shows, where these packages own what they own.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a program or library that is missing, with the chain that wants it; what the system says.
pub fn gather(view: &View, owners: &Owners<'_>, request: &Request, watch: &Watch) -> Result<Closure> {
    let mut policies = policy::all()?;
    for name in request.with.iter().chain(&request.without) {
        if !policies.iter().any(|policy| policy.name == *name) {
            let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
            let error = Error::new(ErrorKind::Usage, format!("there is no policy {name:?}"));
            return Err(error.hint(format!("known: {}", names.join(", "))));
        }
    }
    policies.retain(|policy| !request.without.contains(&policy.name));
    let mut gatherer = Gatherer {
        view,
        search: Search::new(view)?,
        closure: Closure::default(),
        todo: VecDeque::new(),
        loaded: HashMap::new(),
        walked: HashSet::new(),
        read: HashSet::new(),
        queued: HashMap::new(),
        loaders: BTreeMap::new(),
        interpreters: HashMap::new(),
        known: HashSet::new(),
        secrets: PathSet::new(SECRETS)?,
        policies: policies.into(),
        except: Vec::new(),
        owners,
        opened: HashSet::new(),
        left_out: BTreeMap::new(),
        request,
        watch,
    };
    gatherer.wanted()?;
    gatherer.work()?;
    gatherer.preloads()?;
    gatherer.work()?;
    gatherer.merged()?;
    gatherer.note_left_out();
    Ok(gatherer.closure)
}

impl Gatherer<'_> {
    /// What the user names.
    fn wanted(&mut self) -> Result<()> {
        let request = self.request;
        let want = |why: &str, must| Want { reason: Reason { by: None, why: why.into() }, must, in_tree: false };
        for program in &request.programs {
            self.take_file(program.as_bytes(), &want("wanted program", true))?;
        }
        for path in &request.paths {
            self.take(path.as_bytes(), &want("wanted path", true))?;
        }
        for (path, package) in request.packaged.iter().filter(|(path, _)| !path.is_root()) {
            let tree = Want { in_tree: true, ..want(&format!("package {package}"), false) };
            self.one(path, &absolute(path), &tree)?;
        }
        for (path, by) in &request.traced {
            let by = self.view.follow(by.as_bytes())?.file().cloned();
            let why =
                if by.is_some() { "opened in the trace" } else { "opened in the trace by a program that is gone" };
            let reason = Reason { by, why: why.into() };
            // What was there while it was traced may be gone by now.
            self.traced(path.as_bytes(), &Want { reason, must: false, in_tree: false })?;
        }
        Ok(())
    }

    /// A path of a trace: of a directory only the directory itself.
    fn traced(&mut self, path: &[u8], want: &Want) -> Result<()> {
        match self.view.follow(path)?.dir().cloned() {
            Some(dir) => self.enter(&dir, path, want).map(drop),
            None => self.take(path, want).map(drop),
        }
    }

    /// The links of merged `/usr`: programs are called by either name.
    fn merged(&mut self) -> Result<()> {
        for name in MERGED {
            let found = self.view.follow(format!("/{name}").as_bytes())?;
            let Some(dir) = found.dir().filter(|_| !found.links.is_empty()).cloned() else { continue };
            let below = self.closure.entries.range(dir.clone()..).find(|(path, _)| **path != dir);
            let Some(first) = below.map(|(path, _)| path.clone()).filter(|path| path.is_within(&dir)) else { continue };
            let reason = Reason { by: Some(first), why: "another name of its directory".into() };
            self.enter_links(&found.links, &Want { reason, must: false, in_tree: false })?;
        }
        Ok(())
    }

    /// Does all the work that there is.
    fn work(&mut self) -> Result<()> {
        while let Some(task) = self.todo.pop_front() {
            self.watch.count(1, 0)?;
            self.look_into(&task)?;
        }
        Ok(())
    }

    /// Adds what `path` leads to, with the links on the way; of a directory all that is below it. False: it is not
    /// there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it must be there and is not.
    pub(super) fn take(&mut self, path: &[u8], want: &Want) -> Result<bool> {
        let found = self.view.follow(path)?;
        let Some((end, kind)) = &found.end else {
            if want.must {
                return Err(self.missing(path, want));
            }
            return Ok(false);
        };
        if self.secrets.covers(end) {
            self.closure.notes.push(format!("/{end}: a secret of the host is never taken"));
            return Ok(false);
        }
        self.enter_links(&found.links, want)?;
        match kind {
            FileType::Dir => self.tree(end, want, &PathSet::default(), 0)?,
            FileType::File => self.one(end, path, want)?,
            _ if want.must => {
                let error = Error::new(ErrorKind::Refused, "it is neither a file nor a directory");
                return Err(error.at(path).hint("sockets are put within reach with --socket"));
            }
            _ => {}
        }
        Ok(true)
    }

    /// As [`Gatherer::take`], of what only a file can be: a program or an interpreter. A directory there is as nothing.
    ///
    /// # Errors
    /// As that.
    pub(super) fn take_file(&mut self, path: &[u8], want: &Want) -> Result<bool> {
        match (self.view.follow(path)?.file().is_some(), want.must) {
            (true, _) => self.take(path, want),
            (false, true) => Err(self.missing(path, want)),
            (false, false) => Ok(false),
        }
    }

    pub(super) fn enter_links(&mut self, links: &[TreePath], want: &Want) -> Result<()> {
        for link in links {
            self.enter(link, &absolute(link), want)?;
        }
        Ok(())
    }

    /// Adds one file, to be looked into when it is new.
    pub(super) fn one(&mut self, path: &TreePath, at: &[u8], want: &Want) -> Result<()> {
        self.enter(path, at, want)?;
        if is_more(&mut self.queued, path, want) {
            let (path, at, want) = (path.clone(), at.to_vec(), want.clone());
            self.todo.push_back(Task { path, at, want });
        }
        Ok(())
    }

    /// Adds a directory with all below it but what `except` names, and what its links lead to.
    pub(super) fn tree(&mut self, dir: &TreePath, want: &Want, except: &PathSet, depth: usize) -> Result<()> {
        if dir.is_root() {
            let error = Error::new(ErrorKind::Refused, "the whole host is no part of a jail").at("/");
            return Err(error.hint("name the directories that are wanted"));
        }
        self.enter(dir, &absolute(dir), want)?;
        if !self.walked.insert(dir.clone()) && depth > 0 {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            self.closure.notes.push(format!("/{dir}: too deep; what is below is left out"));
            return Ok(());
        }
        let inside = Want { reason: Reason { by: Some(dir.clone()), why: "in it".into() }, must: false, in_tree: true };
        for name in self.view.names(&absolute(dir))? {
            let path = dir.join(&name)?;
            if except.covers(&path) || self.secrets.covers(&path) {
                continue;
            }
            match self.view.stat(&path)?.map(|stat| stat.kind) {
                Some(FileType::Dir) => self.tree(&path, &inside, except, depth + 1)?,
                Some(FileType::File) => self.one(&path, &absolute(&path), &inside)?,
                Some(FileType::Symlink) => self.link_in_tree(&path, &inside, (except, depth + 1))?,
                Some(_) => self.closure.notes.push(format!("/{path}: neither a file nor a directory; left out")),
                None => {}
            }
        }
        Ok(())
    }

    /// A link in a tree stays as it is; where it leads comes along, unless that is a directory that holds half the host.
    fn link_in_tree(&mut self, link: &TreePath, want: &Want, (except, depth): (&PathSet, usize)) -> Result<()> {
        let found = self.view.follow(&absolute(link))?;
        if found.circle {
            return Ok(());
        }
        self.enter(link, &absolute(link), want)?;
        let target = Want { reason: Reason { by: Some(link.clone()), why: "where it leads".into() }, ..want.clone() };
        match &found.end {
            Some((end, _)) if self.secrets.covers(end) => return Ok(()),
            Some((end, FileType::File)) => self.one(end, &absolute(end), &target)?,
            Some((end, FileType::Dir)) if end.depth() > 1 && !link.is_within(end) => {
                self.tree(end, &target, except, depth)?;
            }
            _ => return Ok(()),
        }
        self.enter_links(&found.links, &target)
    }

    /// Adds an entry, or one more reason for it. True: it is new.
    pub(super) fn enter(&mut self, path: &TreePath, at: &[u8], want: &Want) -> Result<bool> {
        let new = !self.closure.entries.contains_key(path);
        let reason = &want.reason;
        // The first reason is the one by which it was found: no chain goes in a circle along those.
        if reason.by.as_ref() != Some(path) && self.known.insert((path.clone(), reason.clone())) {
            self.closure.entries.entry(path.clone()).or_default().push(reason.clone());
        }
        if new {
            if self.closure.entries.len() > MAX_ENTRIES {
                return Err(Error::new(ErrorKind::Refused, "the closure has more than two million entries").at(at));
            }
            self.apply_policies(path)?;
        }
        Ok(new)
    }

    /// That `path` is missing, with the chain that wants it.
    pub(super) fn missing(&self, path: &[u8], want: &Want) -> Error {
        let chain = match &want.reason.by {
            Some(by) => format!("; the chain: {} -> {}", self.chain(by), escape(path)),
            None => String::new(),
        };
        let kind = kind_of(&want.reason.why);
        let reason = match self.view.follow(path) {
            Ok(found) if found.circle => format!("too many symbolic links{chain}"),
            Ok(found) if found.dir().is_some() => format!("a directory is no {kind}{chain}"),
            _ => format!("the host has no such {kind}{chain}"),
        };
        Error::new(ErrorKind::NotFound, reason).at(path)
    }

    /// The shortest known way from what the user named to `path`.
    fn chain(&self, path: &TreePath) -> String {
        let mut names = vec![path.clone()];
        while let Some(Reason { by: Some(by), .. }) =
            names.last().and_then(|last| self.closure.entries.get(last)).and_then(|reasons| reasons.first())
        {
            if names.contains(by) {
                break;
            }
            names.push(by.clone());
        }
        names.iter().rev().map(|path| format!("/{path}")).collect::<Vec<_>>().join(" -> ")
    }

    fn note_left_out(&mut self) {
        for (name, (first, count)) in &self.left_out {
            let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            let name = escape(name);
            self.closure
                .notes
                .push(format!("{name} is not taken for /{first}{more}; name it as a program if they are used"));
        }
    }
}

/// Is `path` wanted for more than `known` says? It is then known for that.
pub(super) fn is_more(known: &mut HashMap<TreePath, u8>, path: &TreePath, want: &Want) -> bool {
    match known.get_mut(path) {
        Some(weight) if *weight >= want.weight() => return false,
        Some(weight) => *weight = want.weight(),
        None => drop(known.insert(path.clone(), want.weight())),
    }
    true
}

/// The first word of a reason, as errors name what is missing.
fn kind_of(why: &str) -> &str {
    match why.split(' ').next().unwrap_or_default() {
        "wanted" => why.split(' ').nth(1).unwrap_or("path"),
        word => word,
    }
}
