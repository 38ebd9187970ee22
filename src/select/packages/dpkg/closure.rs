// SPDX-License-Identifier: ISC
//! [`Dpkg::closure`]: the base and the named packages with all that they depend on, out of what is installed.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use crate::error::{Error, ErrorKind, Result};
use crate::path::escape;
use crate::select::packages::dpkg::depends::{Group, Wish, show};
use crate::select::packages::dpkg::version::Relation;
use crate::select::packages::dpkg::{Dpkg, MultiArch, Package};
use crate::select::packages::nearest;

/// The packages chosen so far and what is still to be looked at.
struct Search<'a> {
    dpkg: &'a Dpkg,
    /// Installed packages by the names that they bear or provide, in order of name and architecture.
    named: HashMap<&'a str, Vec<usize>>,
    /// For each chosen package, which one wanted it; none for those asked for.
    chosen: HashMap<usize, Option<usize>>,
    queue: VecDeque<usize>,
    /// Dependencies that several packages could meet: decided last, when what is chosen anyway may meet them.
    open: VecDeque<(usize, &'a Group)>,
}

impl Dpkg {
    /// The base (Essential, Protected, Priority required) and `names` with all their dependencies, sorted.
    ///
    /// Where several installed packages could meet a dependency, one that is chosen anyway does; else the first
    /// alternative as written, and among providers of a virtual package the first by name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a name that is not installed, with the nearest ones; [`ErrorKind::BadInput`] for a
    /// dependency that nothing installed meets, with the chain that wants it.
    pub fn closure(&self, names: &[String]) -> Result<Vec<&Package>> {
        let mut asked: Vec<usize> = (0..self.packages.len()).filter(|&index| self.packages[index].base).collect();
        for name in names {
            asked.push(self.index_of(name).ok_or_else(|| self.unknown(name))?);
        }
        // Sorted, so that the order of the names decides nothing.
        asked.sort_unstable();
        let mut search = Search::new(self);
        for index in asked {
            search.choose(index, None);
        }
        search.run()?;
        let mut chosen: Vec<usize> = search.chosen.into_keys().collect();
        chosen.sort_unstable();
        Ok(chosen.into_iter().map(|index| &self.packages[index]).collect())
    }

    fn unknown(&self, name: &str) -> Error {
        let shown = escape(name.as_bytes());
        if let Some(state) = self.unready.get(name) {
            let error = Error::new(ErrorKind::NotFound, format!("package {shown} is not installed but {state}"));
            return error.hint("mend it on the host: dpkg --configure -a");
        }
        let error = Error::new(ErrorKind::NotFound, format!("package {shown} is not installed on the host"));
        let provides = |p: &&Package| p.provides.iter().any(|wish| wish.name == name);
        let providers: Vec<&str> = self.packages.iter().filter(provides).map(|p| p.name.as_str()).collect();
        if !providers.is_empty() {
            return error.hint(format!("it is a virtual package; name one that provides it: {}", providers.join(", ")));
        }
        let near = nearest(name, self.packages.iter().map(|p| p.name.as_str()));
        match near.is_empty() {
            true => error.hint(format!("apt-get install {shown}")),
            false => error.hint(format!("did you mean {}?", near.join(", "))),
        }
    }
}

impl<'a> Search<'a> {
    fn new(dpkg: &'a Dpkg) -> Search<'a> {
        let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, package) in dpkg.packages.iter().enumerate() {
            let provided = package.provides.iter().map(|wish| wish.name.as_str());
            for name in std::iter::once(package.name.as_str()).chain(provided) {
                let bearers = named.entry(name).or_default();
                if bearers.last() != Some(&index) {
                    bearers.push(index);
                }
            }
        }
        Search { dpkg, named, chosen: HashMap::new(), queue: VecDeque::new(), open: VecDeque::new() }
    }

    fn choose(&mut self, index: usize, wanted_by: Option<usize>) {
        self.chosen.entry(index).or_insert_with(|| {
            self.queue.push_back(index);
            wanted_by
        });
    }

    fn run(&mut self) -> Result<()> {
        loop {
            while let Some(index) = self.queue.pop_front() {
                for group in &self.dpkg.packages[index].depends {
                    match self.candidates(index, group)[..] {
                        [] => return Err(self.unmet(index, group)),
                        [only] => self.choose(only, Some(index)),
                        _ => self.open.push_back((index, group)),
                    }
                }
            }
            let Some((index, group)) = self.open.pop_front() else { return Ok(()) };
            let candidates = self.candidates(index, group);
            if !candidates.iter().any(|found| self.chosen.contains_key(found)) {
                self.choose(candidates[0], Some(index));
            }
        }
    }

    /// The installed packages that meet `group` for the package `by`, best first.
    fn candidates(&self, by: usize, group: &[Wish]) -> Vec<usize> {
        let mut found = Vec::new();
        for wish in group {
            let bearers = self.named.get(wish.name.as_str()).map_or(&[][..], Vec::as_slice);
            let real = |index: &&usize| self.dpkg.packages[**index].name == wish.name;
            let ordered = bearers.iter().filter(real).chain(bearers.iter().filter(|index| !real(index)));
            for &index in ordered.filter(|&&index| self.meets(by, wish, index)) {
                if !found.contains(&index) {
                    found.push(index);
                }
            }
        }
        found
    }

    /// Does the installed package `index` meet `wish` of the package `by`?
    fn meets(&self, by: usize, wish: &Wish, index: usize) -> bool {
        let package = &self.dpkg.packages[index];
        if !self.arch_fits(by, wish, package) {
            return false;
        }
        let Some(bound) = &wish.bound else { return true };
        let own = package.name == wish.name && bound.admits(&package.version);
        // An unversioned provision meets no versioned dependency.
        let provided = |provided: &Wish| match &provided.bound {
            Some(is) => provided.name == wish.name && is.relation == Relation::Equal && bound.admits(&is.version),
            None => false,
        };
        own || package.provides.iter().any(provided)
    }

    /// The rules of multi-arch: a dependency is met by the depender's own architecture, by Multi-Arch: foreign, and,
    /// if it says `:any`, by Multi-Arch: allowed.
    fn arch_fits(&self, by: usize, wish: &Wish, package: &Package) -> bool {
        let (own, its) = (self.dpkg.actual_arch(&self.dpkg.packages[by]), self.dpkg.actual_arch(package));
        match wish.arch.as_deref() {
            None => its == own || package.multi_arch == MultiArch::Foreign,
            Some("any") => its == own || matches!(package.multi_arch, MultiArch::Allowed | MultiArch::Foreign),
            Some("native") => its == self.dpkg.native,
            Some(arch) => its == arch,
        }
    }

    fn unmet(&self, by: usize, group: &[Wish]) -> Error {
        let mut chain = vec![self.label(by)];
        let mut at = by;
        while let Some(Some(wanted_by)) = self.chosen.get(&at) {
            chain.push(self.label(*wanted_by));
            at = *wanted_by;
        }
        chain.reverse();
        let reason = format!("{} needs {}, which is not installed", chain.join(" -> "), show(group));
        Error::new(ErrorKind::BadInput, reason).hint("mend it on the host: apt-get --fix-broken install")
    }

    fn label(&self, index: usize) -> String {
        self.dpkg.packages[index].label(&self.dpkg.native)
    }
}
