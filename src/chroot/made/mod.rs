// SPDX-License-Identifier: ISC
//! What no package ships and a working Debian chroot needs (decision E20): files that maintainer scripts and
//! administrators' tools make. Each generator makes one kind of them out of the host and the packages chosen; none
//! runs a program.
//!
//! Generated files depend on the host's packages only, not on what its administrator made of them, wherever the
//! packages carry what it takes.
#![forbid(unsafe_code)]

mod accounts;
mod alternatives;
mod apt;
mod certificates;
mod defaults;
mod dpkg;
mod pam;
mod scripts;
mod shells;
pub mod status;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::path::TreePath;
use crate::recipe::Action;
use crate::select::packages::dpkg::Package;
use crate::select::packages::{Dpkg, Host, MERGED, Selection};
use crate::sys::FileType;
use crate::tree::overlay::Overlay;
use crate::tree::{Digest, Kind, Meta, Node, Time};

/// The largest file that a generator reads.
const MAX_FILE: u64 = 64 << 20;

/// What the generators work from.
pub struct Input<'a> {
    /// The host.
    pub host: &'a Host,
    /// Its package database.
    pub dpkg: &'a Dpkg,
    /// The packages chosen, sorted.
    pub packages: &'a [&'a Package],
    /// Their files, and which were left out.
    pub selection: &'a Selection,
    /// The tree so far: the links of [`links`], then the selection.
    pub wanted: &'a Overlay,
    /// The modification time that made files get.
    pub time: Time,
    /// The actions that the recipe leaves on.
    pub actions: &'a BTreeSet<Action>,
}

/// An entry that was made, with its content if it is a regular file.
#[derive(Debug, Clone)]
pub struct Made {
    /// The entry; its origin is `made GENERATOR`, and files have their digest.
    pub node: Node,
    /// The content; empty for anything but a regular file.
    pub body: Vec<u8>,
}

/// What the generators made.
#[derive(Debug, Default)]
pub struct Output {
    /// The entries, to be laid over the selection. Parents may be links of the tree so far.
    pub made: Vec<Made>,
    /// What was left out of the selection or could not be made, for people: one line each.
    pub notes: Vec<String>,
    generator: &'static str,
    time: Time,
}

/// A generator: the action in recipes that it is, the package without which there is nothing to do, and the work.
struct Generator {
    action: Option<Action>,
    package: Option<&'static str>,
    make: fn(&Input<'_>, &mut Output) -> Result<()>,
}

const GENERATORS: [Generator; 9] = [
    Generator { action: Some(Action::Accounts), package: Some("base-passwd"), make: accounts::make },
    Generator { action: Some(Action::Defaults), package: None, make: defaults::make },
    Generator { action: Some(Action::Shells), package: Some("debianutils"), make: shells::make },
    Generator { action: Some(Action::Pam), package: Some("libpam-runtime"), make: pam::make },
    Generator { action: Some(Action::Alternatives), package: None, make: alternatives::make },
    Generator { action: Some(Action::Certificates), package: Some("ca-certificates"), make: certificates::make },
    Generator { action: Some(Action::Apt), package: Some("apt"), make: apt::make },
    Generator { action: Some(Action::Dpkg), package: Some("dpkg"), make: dpkg::make },
    Generator { action: None, package: None, make: scripts::note },
];

/// The links into `/usr` of a host with merged /usr: the first layer of the wanted tree.
///
/// # Errors
/// As the system calls.
pub fn links(host: &Host, time: Time) -> Result<Vec<Made>> {
    let mut output = Output { generator: "merged-usr", time, ..Output::default() };
    for name in MERGED {
        let path = TreePath::new(name.as_bytes())?;
        if host.stat(&path)?.is_some_and(|stat| stat.kind == FileType::Symlink) {
            output.link(name, &host.read_link(&path)?)?;
        }
    }
    Ok(output.made)
}

/// Runs all generators.
///
/// # Errors
/// Naming the file of the host that is malformed; or as the system calls.
pub fn make(input: &Input<'_>) -> Result<Output> {
    let mut output = Output { time: input.time, notes: input.selection.notes(), ..Output::default() };
    for generator in GENERATORS {
        let wanted = generator.action.is_none_or(|action| input.actions.contains(&action));
        if wanted && generator.package.is_none_or(|name| input.has(name)) {
            output.generator = generator.action.map_or("scripts", Action::name);
            (generator.make)(input, &mut output)?;
        }
    }
    Ok(output)
}

impl Input<'_> {
    /// Is the package chosen?
    fn has(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }

    /// The entry of the wanted tree that `path` leads to.
    fn find(&self, path: &[u8]) -> Option<&Node> {
        let path = self.wanted.canonical(&TreePath::lenient(path).ok()?).ok()?;
        self.wanted.get(&path)
    }

    /// A file of the host; none if there is none.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.host.read(&TreePath::lenient(path.as_bytes())?, MAX_FILE)
    }

    /// A text file of the host, empty if there is none; bytes that are no UTF-8 are replaced.
    fn text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path)?.unwrap_or_default()).into_owned())
    }

    /// The paths directly below the directory `path` that are on the host and in the wanted tree.
    fn wanted_below(&self, path: &str) -> Result<Vec<String>> {
        let names = self.host.list(&TreePath::lenient(path.as_bytes())?)?;
        let paths = names.iter().filter_map(|name| Some(format!("{path}/{}", std::str::from_utf8(name).ok()?)));
        Ok(paths.filter(|path| self.find(path.as_bytes()).is_some()).collect())
    }
}

impl Output {
    fn put(
        &mut self,
        path: impl AsRef<[u8]>,
        owner: (u32, u32),
        mode: u16,
        (kind, body): (Kind, Vec<u8>),
    ) -> Result<()> {
        let (uid, gid) = owner;
        let meta = Meta { mode, uid, gid, mtime: self.time, ..Meta::default() };
        let mut node = Node::new(TreePath::lenient(path.as_ref())?, meta, kind);
        node.origin = Some(format!("made {}", self.generator).into());
        self.made.push(Made { node, body });
        Ok(())
    }

    /// Makes a regular file of `root`.
    fn file(&mut self, path: impl AsRef<[u8]>, mode: u16, body: impl Into<Vec<u8>>) -> Result<()> {
        self.owned_file(path, (0, 0), mode, body)
    }

    /// Makes a regular file of somebody else.
    fn owned_file(
        &mut self,
        path: impl AsRef<[u8]>,
        owner: (u32, u32),
        mode: u16,
        body: impl Into<Vec<u8>>,
    ) -> Result<()> {
        let body = body.into();
        let digest = Some(Digest(Sha256::digest(&body).into()));
        self.put(path, owner, mode, (Kind::File { size: body.len() as u64, digest }, body))
    }

    /// Makes a symlink.
    fn link(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Result<()> {
        self.put(path, (0, 0), 0o777, (Kind::Symlink(target.as_ref().into()), Vec::new()))
    }

    /// Makes a directory.
    fn dir(&mut self, path: &str, owner: (u32, u32), mode: u16) -> Result<()> {
        self.put(path, owner, mode, (Kind::Dir, Vec::new()))
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

#[cfg(test)]
mod tests;
