// SPDX-License-Identifier: ISC
//! [`Dpkg`] is what dpkg knows of a host, [`Dpkg::closure`] picks packages with all that they need, [`Dpkg::files`] says
//! which of the host's files they are.
#![forbid(unsafe_code)]

pub mod alternatives;
mod closure;
pub mod control;
mod depends;
mod files;
mod kin;
pub mod tables;
mod version;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use files::MERGED;

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};
use crate::select::packages::dpkg::alternatives::Alternative;
use crate::select::packages::dpkg::control::Stanza;
use crate::select::packages::dpkg::depends::{Group, Wish};
use crate::select::packages::dpkg::tables::{Diversion, Filters, Override};
use crate::select::packages::{Host, MAX_FILE};
use crate::sys::Dir;

/// Where dpkg keeps its database.
pub const ADMIN: &str = "var/lib/dpkg";
/// Where in it the files of packages about themselves are.
pub const INFO: &str = "var/lib/dpkg/info";

/// dpkg's database of a host, as far as it matters for copying packages.
#[derive(Debug)]
pub struct Dpkg {
    root: Dir,
    /// The installed packages, sorted by name and architecture.
    packages: Vec<Package>,
    /// The host's architecture.
    native: String,
    /// Packages that are known, but not installed: their status word.
    unready: BTreeMap<String, String>,
    /// `diversions`.
    pub diversions: Vec<Diversion>,
    /// `statoverride`.
    pub overrides: Vec<Override>,
    /// `alternatives/*`.
    pub alternatives: Vec<Alternative>,
    filters: Filters,
}

/// An installed package.
#[derive(Debug)]
pub struct Package {
    /// Its name, without architecture.
    pub name: String,
    /// Its architecture: `amd64`, `all`.
    pub arch: String,
    /// Its version.
    pub version: String,
    /// Its paragraph of the status file.
    pub stanza: Box<[u8]>,
    /// Its configuration files.
    pub conffiles: Vec<Conffile>,
    /// Its files in `info/`, by what follows the last dot.
    pub info: BTreeMap<String, Box<[u8]>>,
    /// `name version`, with `:arch` where that is not the host's.
    pub origin: Arc<str>,
    base: bool,
    essential: bool,
    multi_arch: MultiArch,
    depends: Vec<Group>,
    provides: Vec<Wish>,
}

/// A file that belongs to the administrator once it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conffile {
    /// Where.
    pub path: TreePath,
    /// MD5 of the file as the package ships it, in hexadecimal; `newconffile` where dpkg has not got that far.
    pub md5: String,
}

/// The files in `info/`, by package (`name` or `name:arch`) and what follows the last dot.
type Info = HashMap<String, BTreeMap<String, Box<[u8]>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MultiArch {
    No,
    Same,
    Foreign,
    Allowed,
}

impl Dpkg {
    /// Reads the database of the host whose root is `root`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no dpkg; [`ErrorKind::BadInput`] naming the file and what is wrong in it.
    pub fn open(root: &Dir) -> Result<Dpkg> {
        let host = Host::new(root)?;
        let info = read_info(&host)?;
        let status = read(&host, "status")?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "no dpkg database: the host is not a Debian")
                .at(format!("{ADMIN}/status"))
                .hint("build from an archive with --from, or name another --host")
        })?;
        let mut dpkg = Dpkg::parse(root, &status, info).map_err(|e| e.at(format!("{ADMIN}/status")))?;
        dpkg.read_tables(&host)?;
        Ok(dpkg)
    }

    fn parse(root: &Dir, status: &[u8], info: Info) -> Result<Dpkg> {
        let stanzas = control::stanzas(status)?;
        let native = native_arch(&stanzas)?;
        let (mut packages, mut unready) = (Vec::new(), BTreeMap::new());
        for stanza in &stanzas {
            let (name, state) = (stanza.text("Package")?, stanza.text("Status")?);
            match state.split_ascii_whitespace().nth(2) {
                Some("installed") => packages.push(read_package(stanza, &native, &info)?),
                Some("not-installed") | None => {}
                Some(other) => {
                    unready.insert(name.to_owned(), other.to_owned());
                }
            }
        }
        packages.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        if let Some(pair) = packages.windows(2).find(|p| (&p[0].name, &p[0].arch) == (&p[1].name, &p[1].arch)) {
            bail!(BadInput, "package {} occurs twice", pair[0].name);
        }
        let root = root.try_clone().map_err(|e| Error::io("fcntl", "/", &e))?;
        let (diversions, overrides, alternatives) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Dpkg { root, packages, native, unready, diversions, overrides, alternatives, filters: Filters::default() })
    }

    fn read_tables(&mut self, host: &Host) -> Result<()> {
        let at = |name: &str| format!("{ADMIN}/{name}");
        let diversions = read(host, "diversions")?.unwrap_or_default();
        self.diversions = tables::diversions(&diversions).map_err(|e| e.at(at("diversions")))?;
        let overrides = read(host, "statoverride")?.unwrap_or_default();
        self.overrides = tables::overrides(&overrides).map_err(|e| e.at(at("statoverride")))?;
        let dir = TreePath::lenient(at("alternatives").as_bytes())?;
        for name in host.list(&dir)? {
            let path = dir.join(&name)?;
            if name.ends_with(b".dpkg-tmp") {
                continue; // left by an update-alternatives that was killed
            }
            let Some(file) = host.read(&path, MAX_FILE)? else { continue };
            self.alternatives.push(Alternative::parse(&name, &file).map_err(|e| e.at(&path))?);
        }
        for path in configuration(host)? {
            let file = host.read(&path, MAX_FILE)?.unwrap_or_default();
            self.filters.add(&file).map_err(|e| e.at(&path))?;
        }
        Ok(())
    }

    /// The installed packages, sorted by name and architecture.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The host's architecture, as dpkg names it.
    pub fn native(&self) -> &str {
        &self.native
    }

    /// The installed package `name`, which may end in `:arch`; without that, the host's own architecture is preferred.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.index_of(name).map(|index| &self.packages[index])
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        let (name, arch) = name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
        let start = self.packages.partition_point(|p| p.name.as_str() < name);
        let end = start + self.packages[start..].partition_point(|p| p.name == name);
        match arch {
            Some(arch) => (start..end).find(|&index| self.actual_arch(&self.packages[index]) == arch),
            None => (start..end).min_by_key(|&index| self.actual_arch(&self.packages[index]) != self.native),
        }
    }

    /// The architecture of a package; `all` counts as the host's own.
    fn actual_arch<'a>(&'a self, package: &'a Package) -> &'a str {
        if package.arch == "all" { &self.native } else { &package.arch }
    }
}

impl Package {
    /// The package's name, with its architecture if that is not `native`.
    fn label(&self, native: &str) -> String {
        if self.arch == native || self.arch == "all" {
            self.name.clone()
        } else {
            format!("{}:{}", self.name, self.arch)
        }
    }
}

/// dpkg's configuration files, in the order in which it reads them.
///
/// # Errors
/// If the directory cannot be read.
pub fn configuration(host: &Host) -> Result<Vec<TreePath>> {
    let dir = TreePath::new(*b"etc/dpkg/dpkg.cfg.d")?;
    let plain = |name: &[u8]| name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b));
    let fragments = host.list(&dir)?.into_iter().filter(|name| plain(name));
    let mut files = fragments.map(|name| dir.join(&name)).collect::<Result<Vec<_>>>()?;
    files.push(TreePath::new(*b"etc/dpkg/dpkg.cfg")?);
    Ok(files)
}

/// A file of the database.
fn read(host: &Host, name: &str) -> Result<Option<Vec<u8>>> {
    host.read(&TreePath::lenient(format!("{ADMIN}/{name}").as_bytes())?, MAX_FILE)
}

/// Lists `info/`.
fn read_info(host: &Host) -> Result<Info> {
    let mut info = Info::new();
    for name in host.list(&TreePath::new(INFO.as_bytes())?)? {
        let Ok(text) = std::str::from_utf8(&name) else { continue };
        if let Some((package, kind)) = text.rsplit_once('.') {
            info.entry(package.to_owned()).or_default().insert(kind.to_owned(), name.clone());
        }
    }
    Ok(info)
}

/// The host's architecture is that of dpkg itself.
fn native_arch(stanzas: &[Stanza<'_>]) -> Result<String> {
    for wanted in [Some("dpkg"), None] {
        for stanza in stanzas {
            let arch = stanza.text("Architecture")?;
            if !matches!(arch, "" | "all") && wanted.is_none_or(|name| stanza.bytes("Package") == Some(name.as_bytes()))
            {
                return Ok(arch.to_owned());
            }
        }
    }
    bail!(BadInput, "it names no architecture");
}

fn read_package(stanza: &Stanza<'_>, native: &str, info: &Info) -> Result<Package> {
    let (name, arch) = (stanza.text("Package")?.to_owned(), stanza.text("Architecture")?.to_owned());
    if !depends::is_name(&name) || !depends::is_name(&arch) {
        bail!(BadInput, "line {}: no name of a package and its architecture", stanza.line);
    }
    let said_of = |e: Error| Error::new(e.kind(), format!("package {name}: {}", e.reason()));
    let mut depends = depends::parse(stanza.text("Pre-Depends")?).map_err(said_of)?;
    depends.extend(depends::parse(stanza.text("Depends")?).map_err(said_of)?);
    let provides = depends::parse(stanza.text("Provides")?).map_err(said_of)?.into_iter().flatten().collect();
    let conffiles = read_conffiles(stanza.bytes("Conffiles").unwrap_or_default()).map_err(said_of)?;
    let yes = |field: &str| stanza.bytes(field).is_some_and(|value| value.eq_ignore_ascii_case(b"yes"));
    let essential = yes("Essential");
    let base = essential || yes("Protected") || yes("Important") || stanza.bytes("Priority") == Some(b"required");
    let multi_arch = match stanza.text("Multi-Arch")? {
        "same" => MultiArch::Same,
        "foreign" => MultiArch::Foreign,
        "allowed" => MultiArch::Allowed,
        _ => MultiArch::No,
    };
    let key = if multi_arch == MultiArch::Same { format!("{name}:{arch}") } else { name.clone() };
    let info = info.get(&key).cloned().unwrap_or_default();
    let version = stanza.text("Version")?.to_owned();
    let mut package = Package {
        stanza: stanza.text.into(),
        origin: Arc::default(),
        name,
        arch,
        version,
        conffiles,
        info,
        base,
        essential,
        multi_arch,
        depends,
        provides,
    };
    package.origin = format!("{} {}", package.label(native), package.version).into();
    Ok(package)
}

/// Reads ` /path md5 [obsolete]` lines. A path may hold blanks; the words after it cannot.
fn read_conffiles(field: &[u8]) -> Result<Vec<Conffile>> {
    let mut found = Vec::new();
    for line in field.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let mut words: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        while words.last().is_some_and(|word| matches!(*word, b"obsolete" | b"remove-on-upgrade")) {
            words.pop();
        }
        let md5 = words.pop().unwrap_or_default();
        if words.is_empty() || !words[0].starts_with(b"/") {
            bail!(BadInput, "not a conffile: {}", escape(line));
        }
        let path = TreePath::lenient(&words.join(&b' '))?;
        found.push(Conffile { path, md5: String::from_utf8_lossy(md5).into_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
