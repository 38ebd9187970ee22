// SPDX-License-Identifier: ISC
//! [`Pkg::files`]: which of the system's files the chosen packages are.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::contents::{Item, Seal, What};
use super::{DATABASE, Package, Pkg, REQUIRED_BY};
use crate::error::Result;
use crate::path::{PathSet, TreePath};
use crate::select::packages::{Accounts, FileOptions, MAX_FILE, SECRETS, Selected, Selection, Skipped, Why};
use crate::sys::FileType;
use crate::tree::Digest;
use crate::watch::Watch;

/// A selection being made.
struct Picker<'a> {
    pkg: &'a Pkg,
    options: FileOptions,
    secrets: PathSet,
    entries: BTreeMap<TreePath, (TreePath, Arc<str>)>,
    selection: Selection,
    /// Packages with commands that are run when they are installed.
    with_commands: Vec<&'a str>,
}

impl Pkg {
    /// The paths of `packages`, with what the database has of them. A directory that several own has the origin of the
    /// first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a packing list that is missing or malformed; or as the system calls.
    pub fn files(&self, packages: &[&Package], options: FileOptions, watch: &Watch) -> Result<Selection> {
        let secrets = PathSet::new(SECRETS)?;
        let (entries, selection) = (BTreeMap::new(), Selection::default());
        let mut picker = Picker { pkg: self, options, secrets, entries, selection, with_commands: Vec::new() };
        for package in packages {
            picker.package(package, watch)?;
        }
        let mut selection = picker.selection;
        if !picker.with_commands.is_empty() {
            let names = picker.with_commands.join(", ");
            selection.more.push(format!("not run: commands of the installation of {names}"));
        }
        selection.changed.sort();
        selection.skipped.sort_by(|a, b| (a.why, &a.path, &a.origin).cmp(&(b.why, &b.path, &b.origin)));
        let entries = picker.entries.into_iter();
        selection.entries = entries.map(|(path, (host, origin))| Selected { path, host, origin }).collect();
        Ok(selection)
    }
}

impl<'a> Picker<'a> {
    fn package(&mut self, package: &'a Package, watch: &Watch) -> Result<()> {
        let list = self.pkg.list(package)?;
        if list.has_commands {
            self.with_commands.push(&package.name);
        }
        if !list.users.is_empty() || !list.groups.is_empty() {
            let (users, groups) = (list.users.into_iter().collect(), list.groups.into_iter().collect());
            self.selection.accounts.push(Accounts { origin: Arc::clone(&package.origin), users, groups });
        }
        for keyword in &list.unknown {
            self.selection.more.push(format!("{}: it is not known what @{keyword} of its list means", package.origin));
        }
        for item in &list.items {
            watch.count(1, 0)?;
            self.item(package, item)?;
        }
        let directory = TreePath::new(DATABASE.as_bytes())?.join(package.name.as_bytes())?;
        for name in self.pkg.host.list(&directory)? {
            // Whom it is required by is another matter there: `Pkg::required_by`.
            if *name != *REQUIRED_BY.as_bytes() {
                self.item(package, &Item { path: directory.join(&name)?, what: What::File(Seal::default()) })?;
            }
        }
        Ok(())
    }

    fn item(&mut self, package: &Package, item: &Item) -> Result<()> {
        let host = &self.pkg.host;
        let path = host.place(&item.path)?;
        let found = path.as_ref().map(|path| host.stat(path)).transpose()?.flatten();
        let (Some(path), Some(stat)) = (path, found) else {
            // A sample that the administrator deleted is not missed.
            if !matches!(item.what, What::Sample(_)) {
                self.skip(&item.path, Why::Missing, package);
            }
            return Ok(());
        };
        if self.secrets.covers(&path) {
            self.skip(&item.path, Why::Secret, package);
            return Ok(());
        }
        let mut source = path.clone();
        match &item.what {
            What::Sample(from) if !self.options.modified_conffiles => {
                let Some(from) = host.place(from)?.filter(|from| *from != path) else { return Ok(()) };
                if host.read(&path, MAX_FILE)? != host.read(&from, MAX_FILE)? {
                    source = from;
                }
            }
            What::File(seal) if stat.kind == FileType::File && self.is_changed(&path, seal, &stat)? => {
                self.selection.changed.push(path.clone());
            }
            _ => {}
        }
        if let Entry::Vacant(entry) = self.entries.entry(path) {
            entry.insert((source, Arc::clone(&package.origin)));
        }
        Ok(())
    }

    /// Is the file another than the package brought? One of the same size and time is not read.
    fn is_changed(&self, path: &TreePath, seal: &Seal, stat: &crate::sys::Stat) -> Result<bool> {
        let Seal { digest: Some(digest), size, time } = seal else { return Ok(false) };
        if size.is_some_and(|size| size != stat.size) {
            return Ok(true);
        }
        if *time == Some(stat.mtime.sec) {
            return Ok(false);
        }
        let content = self.pkg.host.read(path, MAX_FILE)?.unwrap_or_default();
        Ok(Digest(Sha256::digest(&content).into()) != *digest)
    }

    fn skip(&mut self, path: &TreePath, why: Why, package: &Package) {
        let origin = Arc::clone(&package.origin);
        self.selection.skipped.push(Skipped { path: path.clone(), why, origin });
    }
}
