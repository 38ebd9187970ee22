// SPDX-License-Identifier: ISC
//! [`Dpkg::files`]: which of the host's files the chosen packages are.
#![forbid(unsafe_code)]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use md5::{Digest as _, Md5};

use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath};
use crate::select::packages::{ADMIN, Conffile, Dpkg, Host, MAX_FILE, Package};
use crate::sys::FileType;
use crate::watch::Watch;

/// Directories in the root that are links into `/usr` on a system with merged /usr. Package lists still name them;
/// as links they belong to no package.
pub const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"];

/// What never leaves the host, whoever says that it owns it (rule 7 of the design).
const SECRETS: [&str; 14] = [
    "etc/shadow",
    "etc/shadow-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/ssh/ssh_host_*",
    "etc/ssl/private/*",
    "etc/krb5.keytab",
    "etc/apt/auth.conf",
    "etc/apt/auth.conf.d/*",
    "root/.ssh",
];

/// What the user may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileOptions {
    /// Take configuration files as the administrator left them; else pristine or not at all.
    pub modified_conffiles: bool,
}

/// One path to take from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Where it belongs in the chroot; canonical in the host's tree.
    pub path: TreePath,
    /// Where the host has it: another name where a diversion is undone or a pristine conffile lies beside an edited one.
    pub host: TreePath,
    /// `package version`.
    pub origin: Arc<str>,
}

/// Why a path of a package is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The host does not have it.
    Missing,
    /// dpkg was told not to unpack it (`path-exclude`).
    Excluded,
    /// A conffile that the administrator edited.
    Edited,
    /// It could hold a secret.
    Secret,
}

/// A path of a package that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// As the package names it.
    pub path: TreePath,
    /// Why.
    pub why: Why,
    /// `package version`.
    pub origin: Arc<str>,
}

/// What to take from the host.
#[derive(Debug, Default)]
pub struct Selection {
    /// Sorted by path, each path once.
    pub entries: Vec<Selected>,
    /// Sorted by reason and path.
    pub skipped: Vec<Skipped>,
}

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
        let mut picker =
            Picker { host, dpkg: self, options, secrets, diverted, entries: BTreeMap::new(), skipped: Vec::new() };
        let mut ordered = packages.to_vec();
        ordered.sort_by_key(|package| !package.essential);
        for package in ordered {
            picker.package(package, watch).map_err(|e| e.at(format!("{ADMIN}/info/{}.list", package.name)))?;
        }
        picker.skipped.sort_by(|a, b| (a.why, &a.path, &a.origin).cmp(&(b.why, &b.path, &b.origin)));
        picker.skipped.dedup_by(|a, b| (a.why, &a.path) == (b.why, &b.path));
        let entries = picker.entries.into_iter();
        let entries = entries.map(|(path, (host, origin))| Selected { path, host, origin }).collect();
        Ok(Selection { entries, skipped: picker.skipped })
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
        let info = TreePath::lenient(format!("{ADMIN}/info").as_bytes())?;
        let Some(list) = package.info.get("list") else {
            let error = Error::new(ErrorKind::BadInput, "the list of the package's files is missing");
            return Err(error.hint(format!("apt-get install --reinstall {}", package.name)));
        };
        let list = self.host.read(&info.join(list)?, MAX_FILE)?.unwrap_or_default();
        let conffiles: HashMap<&TreePath, &Conffile> = package.conffiles.iter().map(|c| (&c.path, c)).collect();
        for line in list.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            watch.count(1, 0)?;
            let path = TreePath::lenient(line)?;
            self.path(package, &path, conffiles.get(&path).copied())?;
        }
        for name in package.info.values() {
            self.path(package, &info.join(name)?, None)?;
        }
        Ok(())
    }

    fn path(&mut self, package: &Package, listed: &TreePath, conffile: Option<&Conffile>) -> Result<()> {
        let Some((path, source)) = self.locate(package, listed)? else { return Ok(()) };
        if self.secrets.covers(&path) {
            self.skip(listed, Why::Secret, package);
            return Ok(());
        }
        let Some(stat) = self.host.stat(&source)? else {
            let why = if self.dpkg.filters.excludes(listed) { Why::Excluded } else { Why::Missing };
            self.skip(listed, why, package);
            return Ok(());
        };
        if stat.kind == FileType::Symlink && MERGED.iter().any(|name| path.as_bytes() == name.as_bytes()) {
            return Ok(());
        }
        let source = match conffile {
            Some(conffile) if !self.options.modified_conffiles => match self.pristine(&source, conffile)? {
                Some(pristine) => pristine,
                None => {
                    self.skip(listed, Why::Edited, package);
                    return Ok(());
                }
            },
            _ => source,
        };
        if let Entry::Vacant(entry) = self.entries.entry(path) {
            entry.insert((source, Arc::clone(&package.origin)));
        }
        Ok(())
    }

    /// Where a path of `package` belongs and where the host has it.
    fn locate(&mut self, package: &Package, listed: &TreePath) -> Result<Option<(TreePath, TreePath)>> {
        let Some(path) = self.host.place(listed)? else {
            let why = if self.dpkg.filters.excludes(listed) { Why::Excluded } else { Why::Missing };
            self.skip(listed, why, package);
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

    fn skip(&mut self, path: &TreePath, why: Why, package: &Package) {
        self.skipped.push(Skipped { path: path.clone(), why, origin: Arc::clone(&package.origin) });
    }
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
