// SPDX-License-Identifier: ISC
//! Which package of the host a path is of, and what else is of it: the lists of files that dpkg keeps.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::error::Result;
use crate::path::TreePath;
use crate::select::packages::dpkg::{Dpkg, INFO, Package};
use crate::select::packages::{self, Host, MERGED};
use crate::sys::Dir;

/// The largest list of a package's files.
const MAX_LIST: u64 = 64 << 20;

/// The lists of all packages; none where there is no dpkg.
#[derive(Debug, Default)]
pub struct Lists {
    dpkg: Option<Dpkg>,
    /// By the index of the package: absolute paths, one a line, directories before what is in them.
    texts: Vec<Vec<u8>>,
}

/// Who owns what.
#[derive(Debug)]
pub struct Owners<'a> {
    lists: &'a Lists,
    /// The first owner of each path.
    first: HashMap<&'a [u8], usize, FixedState>,
    /// Further owners: of directories, mostly.
    more: HashMap<&'a [u8], Vec<usize>, FixedState>,
}

impl Lists {
    /// Reads dpkg's database below `root`.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn read(root: &Dir) -> Result<Lists> {
        let host = Host::new(root)?;
        let info = TreePath::new(INFO.as_bytes())?;
        if host.directory(&info)?.is_none() {
            return Ok(Lists::default());
        }
        let dpkg = Dpkg::open(root)?;
        let mut texts = Vec::with_capacity(dpkg.packages().len());
        for package in dpkg.packages() {
            let list = package.info.get("list").map(|list| info.join(list)).transpose()?;
            let text = list.map(|list| host.read(&list, MAX_LIST)).transpose()?.flatten();
            texts.push(text.unwrap_or_default());
        }
        Ok(Lists { dpkg: Some(dpkg), texts })
    }

    /// Is there no package?
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Who owns what.
    pub fn owners(&self) -> Owners<'_> {
        let count: usize = self.texts.iter().map(|text| memchr::memchr_iter(b'\n', text).count()).sum();
        // Root alone writes the lists: nobody chooses names that would collide.
        let first = HashMap::with_capacity_and_hasher(count, FixedState::default());
        let mut owners = Owners { lists: self, first, more: HashMap::default() };
        for (index, text) in self.texts.iter().enumerate() {
            for line in lines(text) {
                match owners.first.entry(line) {
                    std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(index)),
                    std::collections::hash_map::Entry::Occupied(_) => owners.more.entry(line).or_default().push(index),
                }
            }
        }
        owners
    }
}

impl<'a> Owners<'a> {
    /// The index of the package that a canonical path is of.
    pub fn of(&self, path: &TreePath) -> Option<usize> {
        let line = [b"/", path.as_bytes()].concat();
        // Packages of a host with merged /usr still list the old places.
        let old = || line.strip_prefix(b"/usr").filter(|old| is_merged(old));
        self.first.get(line.as_slice()).or_else(|| self.first.get(old()?)).copied()
    }

    /// Name and version of the package that each of these canonical paths is of; paths of none are left out.
    pub fn versions<'p>(&self, paths: impl Iterator<Item = &'p [u8]>) -> packages::Owners {
        let row = |path: &[u8]| {
            let path = TreePath::new(path).ok()?;
            let package = self.at(self.of(&path)?)?;
            Some((path, (package.name.clone(), package.version.clone())))
        };
        paths.filter_map(row).collect()
    }

    /// The package at an index.
    pub fn at(&self, index: usize) -> Option<&'a Package> {
        self.lists.dpkg.as_ref()?.packages().get(index)
    }

    /// The package at `index` with those that were cut from the same source for it.
    pub fn kin(&self, index: usize) -> Vec<usize> {
        self.lists.dpkg.as_ref().map(|dpkg| dpkg.kin(index)).unwrap_or_default()
    }

    /// What is of the package at `index`: absolute paths as it lists them, directories before what is in them.
    pub fn files(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        lines(self.lists.texts.get(index).map(Vec::as_slice).unwrap_or_default())
    }

    /// Is a path of a list of these packages, and of no other's?
    pub fn only(&self, line: &[u8], kin: &[usize]) -> bool {
        let owners = self.first.get(line).into_iter().chain(self.more.get(line).into_iter().flatten());
        owners.into_iter().all(|owner| kin.contains(owner))
    }
}

/// A path of a list as a host with merged `/usr` has it.
pub fn place(line: &[u8]) -> Result<TreePath> {
    TreePath::lenient(&if is_merged(line) { [b"usr", line].concat() } else { line.to_vec() })
}

fn is_merged(line: &[u8]) -> bool {
    let below = |dir: &&str| line.strip_prefix(b"/")?.strip_prefix(dir.as_bytes());
    MERGED.iter().filter_map(below).any(|rest| rest.starts_with(b"/"))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    let ends = memchr::memchr_iter(b'\n', text).chain((!text.ends_with(b"\n")).then_some(text.len()));
    let lines = ends.map(move |end| {
        let line = text.get(begin..end).unwrap_or_default();
        begin = end + 1;
        line
    });
    lines.filter(|line| line.len() > 1 && *line != b"/.")
}
