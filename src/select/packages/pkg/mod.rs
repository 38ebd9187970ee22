// SPDX-License-Identifier: ISC
//! [`Pkg`] is what `pkg_add(1)` of OpenBSD knows of a system: a directory for each package, with its packing list and the
//! names of those it requires.
#![forbid(unsafe_code)]

pub mod contents;
mod files;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use contents::{PackingList, What};

use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};
use crate::select::packages::{Host, MAX_FILE, Owners, nearest};
use crate::sys::Dir;

/// Where the database is.
pub const DATABASE: &str = "var/db/pkg";
/// The packing list.
const CONTENTS: &str = "+CONTENTS";
/// The names of the packages that a package requires, one a line.
const REQUIRING: &str = "+REQUIRING";
/// The names of those that require it.
const REQUIRED_BY: &str = "+REQUIRED_BY";
/// What no package is: the base of OpenBSD comes in sets.
const BASE: &str = "@base";

/// The packages of a system.
#[derive(Debug)]
pub struct Pkg {
    host: Host,
    /// Sorted by name.
    packages: BTreeMap<String, Package>,
    /// Packages whose installation was interrupted.
    partial: Vec<String>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its whole name, which is its directory's: `gettext-runtime-0.22.5`; `.libs-NAME` for the libraries that one left
    /// behind when it was replaced.
    pub name: String,
    /// The name without version: `gettext-runtime`.
    pub stem: String,
    /// Version and flavours: `0.22.5`, `9.1.1706-gtk3`.
    pub version: String,
    /// `stem version`.
    pub origin: Arc<str>,
    /// The whole names of the packages that it requires.
    requires: Vec<String>,
}

impl Package {
    fn new(name: &str, requires: Vec<String>) -> Package {
        let (stem, version) = split(name);
        let origin = format!("{stem} {version}").trim_end().into();
        Package { name: name.to_owned(), stem: stem.to_owned(), version: version.to_owned(), origin, requires }
    }
}

/// Stem and version: that starts at the first dash before a digit.
fn split(name: &str) -> (&str, &str) {
    let dash = name.match_indices('-').find(|(at, _)| name[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    dash.map_or((name, ""), |(at, _)| (&name[..at], &name[at + 1..]))
}

impl Pkg {
    /// Reads the database of the system whose root is `root`.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the file and what is wrong in it.
    pub fn open(root: &Dir) -> Result<Pkg> {
        let mut pkg = Pkg { host: Host::new(root)?, packages: BTreeMap::new(), partial: Vec::new() };
        let database = TreePath::new(DATABASE.as_bytes())?;
        for directory in pkg.host.list(&database)? {
            let at = database.join(&directory)?;
            let Ok(name) = std::str::from_utf8(&directory) else { continue };
            if name.starts_with('.') && !name.starts_with(".libs") || pkg.host.directory(&at)?.is_none() {
                continue;
            }
            if let Some(partial) = name.strip_prefix("partial-") {
                pkg.partial.push(partial.to_owned());
                continue;
            }
            let requires = pkg.host.read(&at.join(REQUIRING.as_bytes())?, MAX_FILE)?.unwrap_or_default();
            let requires = String::from_utf8_lossy(&requires).lines().map(|line| line.trim_end().to_owned()).collect();
            pkg.packages.insert(name.to_owned(), Package::new(name, requires));
        }
        Ok(pkg)
    }

    /// The installed packages, by name.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// What `package` installed.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the list and what is wrong in it.
    pub fn list(&self, package: &Package) -> Result<PackingList> {
        let at = TreePath::new(DATABASE.as_bytes())?.join(package.name.as_bytes())?.join(CONTENTS.as_bytes())?;
        let mended = |error: Error| error.at(&at).hint(format!("pkg_delete {0}; pkg_add {0}", package.stem));
        let Some(text) = self.host.read(&at, MAX_FILE)? else {
            return Err(mended(Error::new(ErrorKind::BadInput, "the package has no packing list")));
        };
        let list = PackingList::parse(&text).map_err(mended)?;
        // What is left of a replaced package goes under that one's name.
        if list.name != package.name && !package.name.starts_with('.') {
            return Err(mended(Error::new(ErrorKind::BadInput, format!("it is the list of {}", list.name))));
        }
        Ok(list)
    }

    /// `names` with all that they require, sorted. A name is a stem, or whole.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for what is not installed, with the nearest names; [`ErrorKind::BadInput`] for a package
    /// that a chosen one requires and nobody installed.
    pub fn closure(&self, names: &[String]) -> Result<Vec<&Package>> {
        let mut chosen: BTreeMap<&str, &Package> = BTreeMap::new();
        let mut queue: VecDeque<&Package> = names.iter().map(|name| self.get(name)).collect::<Result<_>>()?;
        while let Some(package) = queue.pop_front() {
            if chosen.insert(&package.name, package).is_some() {
                continue;
            }
            for required in package.requires.iter().filter(|name| !name.is_empty()) {
                let Some(found) = self.packages.get(required) else {
                    let reason =
                        format!("{} requires {}, which is not installed", package.name, escape(required.as_bytes()));
                    return Err(Error::new(ErrorKind::BadInput, reason).at(DATABASE).hint("mend it there: pkg_check"));
                };
                queue.push_back(found);
            }
        }
        Ok(chosen.into_values().collect())
    }

    /// The installed package of this stem or whole name.
    fn get(&self, name: &str) -> Result<&Package> {
        if let Some(package) = self.packages.get(name) {
            return Ok(package);
        }
        let shown = escape(name.as_bytes());
        let of_stem: Vec<&Package> =
            self.packages.values().filter(|package| package.stem == name && !package.name.starts_with('.')).collect();
        match of_stem[..] {
            [package] => return Ok(package),
            [] => {}
            _ => {
                let names: Vec<&str> = of_stem.iter().map(|package| package.name.as_str()).collect();
                let error = Error::new(ErrorKind::Usage, format!("several packages are called {shown}"));
                return Err(error.hint(format!("name one of {}", names.join(", "))));
            }
        }
        if name == BASE {
            let error = Error::new(ErrorKind::Usage, "the base of OpenBSD is no package");
            return Err(error.hint("take it from sets, or by locate; the recipe openbsd-host does: -f openbsd-host"));
        }
        if self.partial.iter().any(|partial| partial == name || split(partial).0 == name) {
            let error = Error::new(ErrorKind::NotFound, format!("the installation of {shown} was interrupted"));
            return Err(error.hint(format!("finish it: pkg_add {shown}")));
        }
        let near = nearest(name, self.packages.values().map(|package| package.stem.as_str()));
        let error = Error::new(ErrorKind::NotFound, format!("package {shown} is not installed"));
        Err(match near.is_empty() {
            true => error.hint(format!("pkg_add {shown}")),
            false => error.hint(format!("did you mean {}?", near.join(", "))),
        })
    }

    /// Which packages these canonical paths are of.
    ///
    /// # Errors
    /// If a packing list is damaged.
    pub fn owners(&self, paths: &HashSet<&[u8]>) -> Result<Owners> {
        let mut owners = Owners::new();
        for package in self.packages.values().filter(|_| !paths.is_empty()) {
            for item in self.list(package)?.items {
                if item.what != What::Directory && paths.contains(item.path.as_bytes()) {
                    owners.insert(item.path, (package.stem.clone(), package.version.clone()));
                }
            }
        }
        Ok(owners)
    }

    /// What `+REQUIRED_BY` of each of `packages` says where there are no others: names of packages that are not there
    /// would keep `pkg_delete` from its work. By path; nothing for a package that none requires.
    ///
    /// # Errors
    /// None: the names are those of directories.
    pub fn required_by(&self, packages: &[&Package]) -> Result<Vec<(TreePath, String)>> {
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for package in packages {
            for required in packages.iter().filter(|other| package.requires.contains(&other.name)) {
                found.entry(&required.name).or_default().push_str(&format!("{}\n", package.name));
            }
        }
        let database = TreePath::new(DATABASE.as_bytes())?;
        let at = |name: &str| database.join(name.as_bytes())?.join(REQUIRED_BY.as_bytes());
        found.into_iter().map(|(name, text)| Ok((at(name)?, text))).collect()
    }
}

#[cfg(test)]
mod tests;
