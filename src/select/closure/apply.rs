// SPDX-License-Identifier: ISC
//! Applies policies: what programs and libraries need without saying so, and what their packages keep for them.
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::sync::Arc;

use super::gather::{Gatherer, MAX_SCRIPT, Want};
use super::policy::Policy;
use super::view::absolute;
use super::{Reason, hints, owners, tmpfiles};
use crate::error::Result;
use crate::path::{PathSet, TreePath};
use crate::select::elf::Elf;
use crate::select::packages::dpkg::INFO;

/// Where packages say what systemd shall make at boot.
const TMPFILES: [&[u8]; 2] = [b"/usr/lib/tmpfiles.d/", b"/lib/tmpfiles.d/"];

impl Gatherer<'_> {
    /// Adds what the policies want because of `path`.
    pub(super) fn apply_policies(&mut self, path: &TreePath) -> Result<()> {
        // What a policy brings may bring another: they stay in place while one applies.
        let policies = Rc::clone(&self.policies);
        let asked = |policy: &Policy| !policy.asked || self.request.with.contains(&policy.name);
        let applying: Vec<&Policy> = policies.iter().filter(|policy| asked(policy) && policy.applies(path)).collect();
        applying.into_iter().try_for_each(|policy| self.apply(policy, path))
    }

    fn apply(&mut self, policy: &Policy, path: &TreePath) -> Result<()> {
        // By a link as well as by its own name.
        let end = self.view.follow(&absolute(path))?.file().cloned();
        let elf = end.as_ref().map(|end| self.search.elf(end)).transpose()?.flatten();
        let why: Arc<str> = format!("policy {}: {}", policy.name, policy.reason).into();
        let want = Want { reason: Reason { by: Some(path.clone()), why }, must: false, in_tree: true };
        for pattern in &policy.excepted {
            if !self.except.contains(pattern) {
                self.except.push(pattern.clone());
            }
        }
        let wants = policy.wants(path, elf.as_ref().map(|elf| elf.machine));
        for pattern in &wants.paths {
            for at in hints::glob(self.view, pattern.as_bytes())? {
                let found = self.view.follow(&at)?;
                match found.dir() {
                    Some(dir) => {
                        self.enter_links(&found.links, &want)?;
                        self.tree(&dir.clone(), &want, &policy.except, 0)?;
                    }
                    None => drop(self.take(&at, &want)?),
                }
            }
        }
        if !policy.owned.is_empty() {
            self.owned(policy, path, &want)?;
        }
        let named = Want { in_tree: false, ..want.clone() };
        for name in &wants.programs {
            self.program(name.as_bytes(), &named)?;
        }
        for pattern in &wants.directories {
            for at in hints::glob(self.view, pattern.as_bytes())? {
                self.directory(&at, &want)?;
            }
        }
        self.closure.users.extend(wants.users);
        match elf {
            Some(elf) => self.libraries_of(path, &elf, &wants.libraries, &named),
            None => Ok(()),
        }
    }

    fn libraries_of(&mut self, path: &TreePath, elf: &Rc<Elf>, names: &[String], want: &Want) -> Result<()> {
        names.iter().try_for_each(|name| self.late(path, elf, name.as_bytes(), want))
    }

    /// A directory whose contents are made inside.
    fn directory(&mut self, at: &[u8], want: &Want) -> Result<()> {
        let found = self.view.follow(at)?;
        self.enter_links(&found.links, want)?;
        if let Some(dir) = found.dir() {
            self.enter(dir, at, want)?;
            self.closure.own.insert(dir.clone());
        }
        Ok(())
    }

    /// What the package of `path` keeps for it, and what those keep that were cut from the same source: directories that
    /// are nobody else's with all in them, for caches and settings in them are of no package, and files elsewhere.
    fn owned(&mut self, policy: &Policy, path: &TreePath, want: &Want) -> Result<()> {
        let Some(index) = self.owners.of(path).filter(|index| !self.opened.contains(index)) else { return Ok(()) };
        let except = PathSet::new(&self.except)?;
        let kin = self.owners.kin(index);
        for &index in &kin {
            if self.opened.insert(index) {
                self.package(index, &kin, (&policy.owned, &except), want)?;
            }
        }
        Ok(())
    }

    fn package(
        &mut self,
        index: usize,
        kin: &[usize],
        (owned, except): (&PathSet, &PathSet),
        want: &Want,
    ) -> Result<()> {
        let Some(package) = self.owners.at(index) else { return Ok(()) };
        if let Some(list) = package.info.get("list") {
            // It is what the closure depends on.
            self.view.stat(&TreePath::new(INFO.as_bytes())?.join(list)?)?;
        }
        let why = format!("{} ({})", want.reason.why, package.origin).into();
        let want = Want { reason: Reason { why, ..want.reason.clone() }, ..want.clone() };
        let mut whole: Option<TreePath> = None;
        for line in self.owners.files(index) {
            let place = owners::place(line)?;
            if TMPFILES.iter().any(|dir| line.starts_with(dir)) {
                self.temporary(line)?;
            }
            if !owned.covers(&place) || except.covers(&place) || whole.as_ref().is_some_and(|dir| place.is_within(dir))
            {
                continue;
            }
            let found = self.view.follow(line)?;
            match found.dir() {
                Some(_) if !self.owners.only(line, kin) => {}
                Some(_) if place.as_bytes().starts_with(b"var/") => self.directory(line, &want)?,
                Some(dir) => {
                    self.enter_links(&found.links, &want)?;
                    let dir = dir.clone();
                    self.tree(&dir, &want, except, 0)?;
                    self.python_package(&dir)?;
                    whole = Some(place);
                }
                None if place.as_bytes().starts_with(b"var/") => {}
                None if found.end.as_ref().is_some_and(|(end, _)| self.secrets.covers(end)) => {}
                None => drop(self.take(line, &want)?),
            }
        }
        Ok(())
    }

    /// The directories that systemd makes at boot for what is of a package.
    fn temporary(&mut self, path: &[u8]) -> Result<()> {
        let text = self.view.read(path, MAX_SCRIPT)?.unwrap_or_default();
        for directory in tmpfiles::directories(&String::from_utf8_lossy(&text)) {
            self.closure.users.insert(directory.user.clone());
            self.closure.temporary.push(directory);
        }
        Ok(())
    }

    /// The name services that the host's nsswitch.conf names.
    pub(super) fn services(&self) -> Result<Vec<String>> {
        if !self.request.host_nss {
            return Ok(Vec::new());
        }
        let text = self.view.text("/etc/nsswitch.conf", MAX_SCRIPT)?;
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let words = lines.filter_map(|line| line.split_once(':')).flat_map(|(_, rest)| rest.split_whitespace());
        let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let mut names: Vec<String> = words.filter(plain).map(|word| format!("libnss_{word}.so.2")).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}
