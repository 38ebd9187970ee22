// SPDX-License-Identifier: ISC
//! Loads objects as their loader would: breadth first, each name once a process.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::cache;
use super::gather::{Gatherer, Task, Want, is_more};
use super::search::{Loader, Object};
use super::view::absolute;
use super::{Reason, hints};
use crate::error::Result;
use crate::path::{TreePath, escape};
use crate::select::elf::{Elf, Late};

/// The longest list of libraries to preload, in bytes.
const MAX_PRELOAD: u64 = 64 << 10;

impl Gatherer<'_> {
    /// Adds the interpreter and the libraries of the object of `task`.
    pub(super) fn load(&mut self, task: &Task, elf: &Rc<Elf>) -> Result<()> {
        if !is_more(&mut self.loaded, &task.path, &task.want) {
            return Ok(());
        }
        let loader = match &elf.interpreter {
            Some(interpreter) => {
                let loader = Loader::of(interpreter);
                self.loaders.insert(elf.machine, loader);
                self.closure.loaders.insert(loader);
                self.closure.big = elf.machine.big;
                let reason = Reason { by: Some(task.path.clone()), why: "interpreter".into() };
                let found = self.take_file(interpreter, &Want { reason, in_tree: false, ..task.want.clone() })?;
                if !found {
                    self.lacks(&task.path, interpreter);
                }
                loader
            }
            None => self.loaders.get(&elf.machine).copied().unwrap_or(Loader::Glibc),
        };
        if elf.wx && self.closure.wx.is_none() {
            self.closure.wx = Some(task.path.clone());
        }
        if elf.program && task.want.must && elf.asks_origin() {
            let note = format!("/{} looks for libraries beside itself ($ORIGIN): that needs /proc inside", task.path);
            self.closure.notes.push(note);
        }
        // The kernel tells a program its real path; a library has the name it was found by.
        let at = if elf.program { absolute(&task.path) } else { task.at.clone() };
        match self.search.object(&at, &[])? {
            Some(object) => self.libraries(object, loader, &task.want),
            None => Ok(()),
        }
    }

    /// Adds the libraries of `first` and of those, all that one process has.
    fn libraries(&mut self, first: Object, loader: Loader, want: &Want) -> Result<()> {
        let mut names: HashMap<Vec<u8>, TreePath> = HashMap::new();
        let mut todo = VecDeque::from([first]);
        while let Some(object) = todo.pop_front() {
            for name in &object.elf.needed {
                if loader == Loader::Musl
                    && is_part_of_musl(name)
                    && self.search.library(name, &object, loader)?.is_none()
                {
                    continue;
                }
                let why = format!("library {}", escape(name)).into();
                let want =
                    Want { reason: Reason { by: Some(object.path.clone()), why }, in_tree: false, ..want.clone() };
                if let Some(known) = names.get(name) {
                    let known = known.clone();
                    self.enter(&known, name, &want)?;
                    continue;
                }
                let Some(library) = self.search.library(name, &object, loader)? else {
                    if want.must {
                        return Err(self.missing(name, &want));
                    }
                    self.lacks(&object.path, name);
                    continue;
                };
                self.library(name, &library, &want)?;
                names.insert(name.clone(), library.path.clone());
                todo.push_back(library);
            }
            for late in object.elf.late.clone() {
                self.late_of(&object, &late, loader, want)?;
            }
        }
        Ok(())
    }

    /// Adds a library that was found, with its copies for better processors.
    fn library(&mut self, name: &[u8], library: &Object, want: &Want) -> Result<()> {
        is_more(&mut self.queued, &library.path, want);
        self.take(&library.at, want)?;
        self.remember(name, &library.at, None);
        for (kind, at) in self.search.better(&library.at)? {
            let why = format!("{} for better processors ({})", want.reason.why, escape(&kind)).into();
            let better = Want { reason: Reason { why, ..want.reason.clone() }, must: false, in_tree: false };
            self.take(&at, &better)?;
            self.remember(name, &at, Some(kind));
        }
        Ok(())
    }

    /// For the loader's cache.
    fn remember(&mut self, name: &[u8], at: &[u8], hwcap: Option<Vec<u8>>) {
        if let Some(flags) = self.search.flags(name, at) {
            let entry = cache::Entry { name: name.to_vec(), flags, hwcap, path: at.to_vec() };
            if !self.closure.libraries.contains(&entry) {
                self.closure.libraries.push(entry);
            }
        }
    }

    /// Adds the first library there is of those that `object` says it loads later.
    fn late_of(&mut self, object: &Object, late: &Late, loader: Loader, want: &Want) -> Result<()> {
        let what = if late.feature.is_empty() { String::new() } else { format!(" for {}", late.feature) };
        for name in &late.soname {
            if let Some(library) = self.search.library(name.as_bytes(), object, loader)? {
                let why = format!("late library {name}{what}").into();
                let reason = Reason { by: Some(object.path.clone()), why };
                return self.found_late(name.as_bytes(), library, &Want { reason, must: false, in_tree: want.in_tree });
            }
        }
        if late.priority == "required" {
            self.lacks(&object.path, late.soname.join(" or ").as_bytes());
        }
        Ok(())
    }

    /// Adds a library that `path` is known to load later, with those that it needs.
    pub(super) fn late(&mut self, path: &TreePath, elf: &Elf, name: &[u8], want: &Want) -> Result<()> {
        let loader = self.loaders.get(&elf.machine).copied().unwrap_or(Loader::Glibc);
        let mut names = vec![name.to_vec()];
        if name == b"{nss}" {
            names = self.services()?.into_iter().map(String::into_bytes).collect();
        }
        let Some(object) = self.search.object(&absolute(path), &[])? else { return Ok(()) };
        for name in names {
            if let Some(library) = self.search.library(&name, &object, loader)? {
                self.found_late(&name, library, want)?;
            }
        }
        Ok(())
    }

    fn found_late(&mut self, name: &[u8], library: Object, want: &Want) -> Result<()> {
        let loader = self.loaders.get(&library.elf.machine).copied().unwrap_or(Loader::Glibc);
        self.library(name, &library, want)?;
        if is_more(&mut self.loaded, &library.path, want) { self.libraries(library, loader, want) } else { Ok(()) }
    }

    /// What the administrator has every program of glibc load first.
    pub(super) fn preloads(&mut self) -> Result<()> {
        const LIST: &str = "/etc/ld.so.preload";
        if !self.closure.loaders.contains(&Loader::Glibc) {
            return Ok(());
        }
        let Some(list) = self.view.read(LIST.as_bytes(), MAX_PRELOAD)? else { return Ok(()) };
        let want = |by, why: &str| Want { reason: Reason { by, why: why.into() }, must: false, in_tree: false };
        self.take(LIST.as_bytes(), &want(None, "libraries that every program loads first"))?;
        let by = self.view.follow(LIST.as_bytes())?.file().cloned();
        for name in list.split(|b| b.is_ascii_whitespace() || *b == b':').filter(|name| !name.is_empty()) {
            for at in hints::glob(self.view, name)? {
                self.take(&at, &want(by.clone(), "preloaded library"))?;
            }
        }
        Ok(())
    }

    /// Notes that something which can be done without is missing.
    fn lacks(&mut self, path: &TreePath, name: &[u8]) {
        let note = format!("/{path} needs {}, which is not where its loader looks", escape(name));
        if !self.closure.notes.contains(&note) {
            self.closure.notes.push(note);
        }
    }
}

/// Names of libraries that are musl itself, whatever files there are.
fn is_part_of_musl(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"lib") else { return false };
    let stem = rest.split(|&b| b == b'.').next().unwrap_or_default();
    [&b"c"[..], b"pthread", b"rt", b"m", b"dl", b"util", b"xnet"].contains(&stem)
}
