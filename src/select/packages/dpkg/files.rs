// SPDX-License-Identifier: ISC
//! [`Dpkg::files`]: which of the host's files the chosen packages are.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath};
use crate::select::packages::dpkg::{Conffile, Dpkg, INFO, Package};
use crate::select::packages::{FileOptions, Host, MAX_FILE, Owners, SECRETS, Selected, Selection, Skipped, Why};
use crate::sys::{FileType, Stat};
use crate::tree::Time;
use crate::watch::Watch;

/// Directories in the root that are links into `/usr` on a system with merged /usr. Package lists still name them;
/// as links they belong to no package.
pub const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"];

/// A selection being made.
struct Picker<'a> {
    host: Host,
    dpkg: &'a Dpkg,
    options: FileOptions,
    secrets: PathSet,
    /// Diverted names, canonical: where the file is, which package diverts it and whether that one is chosen.
    diverted: HashMap<TreePath, (TreePath, &'a str, bool)>,
    entries: BTreeMap<TreePath, (TreePath, Arc<str>)>,
    skipped: Vec<Skipped>,
    changed: Vec<TreePath>,
}

/// A package, and what is needed to judge its files.
struct Owner<'a> {
    package: &'a Package,
    conffiles: HashMap<&'a TreePath, &'a Conffile>,
    /// When it was installed: dpkg writes the list after the files, and gives files the times they were packed with.
    installed: Time,
    /// MD5 sums, read once they are needed.
    sums: OnceCell<HashMap<TreePath, String>>,
}

impl Dpkg {
    /// The paths of `packages`, with their files in dpkg's `info` directory.
    ///
    /// A directory that several packages own has the origin of the first, essential packages before others.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if the list of a package is missing or malformed; or as the system calls.
    pub fn files(&self, packages: &[&Package], options: FileOptions, watch: &Watch) -> Result<Selection> {
        let host = Host::new(&self.root)?;
        let diverted = self.diverted(&host, packages)?;
        let secrets = PathSet::new(SECRETS)?;
        let mut picker = Picker {
            host,
            dpkg: self,
            options,
            secrets,
            diverted,
            entries: BTreeMap::new(),
            skipped: Vec::new(),
            changed: Vec::new(),
        };
        let mut ordered = packages.to_vec();
        ordered.sort_by_key(|package| !package.essential);
        for package in ordered {
            picker.package(package, watch)?;
        }
        picker.changed.sort();
        picker.changed.dedup();
        picker.skipped.sort_by(|a, b| (a.why, &a.path, &a.origin).cmp(&(b.why, &b.path, &b.origin)));
        picker.skipped.dedup_by(|a, b| (a.why, &a.path) == (b.why, &b.path));
        let entries = picker.entries.into_iter();
        let entries = entries.map(|(path, (host, origin))| Selected { path, host, origin }).collect();
        let (skipped, changed) = (picker.skipped, picker.changed);
        Ok(Selection { entries, skipped, changed, ..Selection::default() })
    }

    /// Which packages these canonical paths are of.
    ///
    /// # Errors
    /// If the list of a package is too large.
    pub fn owners(&self, paths: &HashSet<&[u8]>) -> Result<Owners> {
        let host = Host::new(&self.root)?;
        let info = TreePath::new(INFO.as_bytes())?;
        let mut owners = Owners::new();
        for package in self.packages().iter().filter(|_| !paths.is_empty()) {
            let Some(list) = package.info.get("list") else { continue };
            let text = host.read(&info.join(list)?, MAX_FILE)?.unwrap_or_default();
            for line in text.split(|&b| b == b'\n') {
                let line = line.strip_prefix(b"/").unwrap_or(line);
                // Packages of a host with merged /usr still list the old places.
                let merged =
                    MERGED.iter().any(|dir| line.strip_prefix(dir.as_bytes()).is_some_and(|r| r.starts_with(b"/")));
                let line = if merged && !paths.contains(line) { [b"usr/", line].concat() } else { line.to_vec() };
                if paths.contains(line.as_slice()) {
                    owners.insert(TreePath::new(line)?, (package.name.clone(), package.version.clone()));
                }
            }
        }
        Ok(owners)
    }

    fn diverted(&self, host: &Host, packages: &[&Package]) -> Result<HashMap<TreePath, (TreePath, &str, bool)>> {
        let chosen: HashSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        let mut diverted = HashMap::new();
        for diversion in &self.diversions {
            if let (Some(from), Some(to)) = (host.place(&diversion.from)?, host.place(&diversion.to)?) {
                let by = diversion.package.as_deref().unwrap_or_default();
                diverted.insert(from, (to, by, chosen.contains(by)));
            }
        }
        Ok(diverted)
    }
}

impl Picker<'_> {
    fn package(&mut self, package: &Package, watch: &Watch) -> Result<()> {
        let info = TreePath::new(INFO.as_bytes())?;
        let Some(list) = package.info.get("list") else {
            let error =
                Error::new(ErrorKind::BadInput, format!("the list of the files of {} is missing", package.name));
            return Err(error.at(INFO).hint(format!("apt-get install --reinstall {}", package.name)));
        };
        let list = info.join(list)?;
        let text = self.host.read(&list, MAX_FILE)?.unwrap_or_default();
        let at = self.host.place(&list)?.unwrap_or_default();
        let installed = self.host.stat(&at)?.map(|stat| stat.mtime).unwrap_or_default();
        let conffiles = package.conffiles.iter().map(|conffile| (&conffile.path, conffile)).collect();
        let owner = Owner { package, conffiles, installed, sums: OnceCell::new() };
        for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            watch.count(1, 0)?;
            self.path(&owner, &TreePath::lenient(line).map_err(|e| Error::new(e.kind(), e.to_string()).at(&list))?)?;
        }
        for name in package.info.values() {
            self.path(&owner, &info.join(name)?)?;
        }
        Ok(())
    }

    fn path(&mut self, owner: &Owner<'_>, listed: &TreePath) -> Result<()> {
        let package = owner.package;
        let Some((path, mut source)) = self.locate(package, listed)? else { return Ok(()) };
        if self.secrets.covers(&path) {
            self.skip(listed, Why::Secret, package);
            return Ok(());
        }
        let Some(stat) = self.host.stat(&source)? else {
            self.lack(listed, package);
            return Ok(());
        };
        if stat.kind == FileType::Symlink && MERGED.iter().any(|name| path.as_bytes() == name.as_bytes()) {
            return Ok(());
        }
        match owner.conffiles.get(listed) {
            Some(_) if self.options.modified_conffiles => {}
            Some(conffile) => match self.pristine(&source, conffile)? {
                Some(pristine) => source = pristine,
                None => {
                    self.skip(listed, Why::Edited, package);
                    return Ok(());
                }
            },
            None if self.is_changed(owner, listed, &source, &stat)? => self.changed.push(path.clone()),
            None => {}
        }
        if let Entry::Vacant(entry) = self.entries.entry(path) {
            entry.insert((source, Arc::clone(&package.origin)));
        }
        Ok(())
    }

    /// Was the file written to after its package was installed, and differs from what that shipped? Only files that are
    /// newer than the package's list are read; `dpkg --verify` on the host reads them all.
    fn is_changed(&self, owner: &Owner<'_>, listed: &TreePath, source: &TreePath, stat: &Stat) -> Result<bool> {
        if stat.kind != FileType::File || stat.mtime <= owner.installed {
            return Ok(false);
        }
        if owner.sums.get().is_none() {
            let _ = owner.sums.set(self.sums(owner.package)?);
        }
        let Some(shipped) = owner.sums.get().and_then(|sums| sums.get(listed)) else { return Ok(false) };
        let content = self.host.read(source, MAX_FILE)?.unwrap_or_default();
        Ok(hex(&Md5::digest(&content)) != *shipped)
    }

    /// The MD5 sums that the package brought.
    fn sums(&self, package: &Package) -> Result<HashMap<TreePath, String>> {
        let Some(name) = package.info.get("md5sums") else { return Ok(HashMap::new()) };
        let text = self.host.read(&TreePath::new(INFO.as_bytes())?.join(name)?, MAX_FILE)?.unwrap_or_default();
        let read = |line: &[u8]| {
            let path = TreePath::lenient(line.get(32..)?.strip_prefix(b"  ")?).ok()?;
            Some((path, String::from_utf8_lossy(&line[..32]).into_owned()))
        };
        Ok(text.split(|&b| b == b'\n').filter_map(read).collect())
    }

    /// Where a path of `package` belongs and where the host has it.
    fn locate(&mut self, package: &Package, listed: &TreePath) -> Result<Option<(TreePath, TreePath)>> {
        let Some(path) = self.host.place(listed)? else {
            self.lack(listed, package);
            return Ok(None);
        };
        Ok(Some(match self.diverted.get(&path) {
            Some((to, by, kept)) if *by != package.name => (if *kept { to.clone() } else { path }, to.clone()),
            _ => (path.clone(), path),
        }))
    }

    /// Where the conffile is as the package ships it: in its place, or beside it, where dpkg put the new version.
    fn pristine(&self, source: &TreePath, conffile: &Conffile) -> Result<Option<TreePath>> {
        let parent = source.parent().unwrap_or_default();
        for suffix in [&b""[..], b".dpkg-dist", b".dpkg-new"] {
            let Ok(path) = parent.join(&[source.name(), suffix].concat()) else { continue };
            // A link in its place is an edit, whatever it leads to.
            let is_file = self.host.stat(&path)?.is_some_and(|stat| stat.kind == FileType::File);
            if is_file
                && let Some(content) = self.host.read(&path, MAX_FILE)?
                && hex(&Md5::digest(&content)) == conffile.md5
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn lack(&mut self, path: &TreePath, package: &Package) {
        let why = if self.dpkg.filters.excludes(path) { Why::Excluded } else { Why::Missing };
        self.skip(path, why, package);
    }

    fn skip(&mut self, path: &TreePath, why: Why, package: &Package) {
        self.skipped.push(Skipped { path: path.clone(), why, origin: Arc::clone(&package.origin) });
    }
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
