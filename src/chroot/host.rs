// SPDX-License-Identifier: ISC
//! What comes from the host: packages, a few files of /etc, accounts.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::login::{self, Named};
use super::made;
use super::made::status::{STATUS, merge};
use super::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{Action, Conffiles, Recipe};
use crate::select::packages::{Database, FileOptions, Host, Pkg, Selection};
use crate::source::dir::{ScanOptions, scan_paths};
use crate::sys::{Calls, Dir, Outside};
use crate::tree::overlay::Overlay;
use crate::tree::{Digest, Kind, Meta, Node, Time, Tree};
use crate::watch::Watch;

/// The word for the base in a recipe's list of packages.
const BASE: &str = "@base";

/// Entries that are made, with the content of the regular files among them.
pub(crate) type Entries = Vec<(Node, Vec<u8>)>;

/// Packages of a system that were chosen.
pub(crate) struct Packages {
    directory: PathBuf,
    root: Dir,
    host: Host,
    database: Database,
    names: Vec<String>,
    selection: Selection,
}

impl Packages {
    /// Chooses the named packages and all they depend on, of the system whose root is `directory`.
    pub(crate) fn choose(
        calls: Calls,
        (directory, names): (&Path, &[String]),
        modified: Conffiles,
        watch: &Watch,
    ) -> Result<Packages> {
        let root = Dir::open(directory, calls).on("open", bytes(directory))?.crossing();
        let database = Database::open(&root)?;
        let options = FileOptions { modified_conffiles: modified == Conffiles::Copy };
        let (names, selection) = match &database {
            Database::Dpkg(dpkg) => {
                // The base is part of every closure.
                let names: Vec<String> = names.iter().filter(|name| *name != BASE).cloned().collect();
                let selection = dpkg.files(&dpkg.closure(&names)?, options, watch)?;
                (names, selection)
            }
            Database::Pkg(pkg) => (names.to_vec(), pkg.files(&pkg.closure(names)?, options, watch)?),
        };
        Ok(Packages { directory: directory.to_owned(), host: Host::new(&root)?, root, database, names, selection })
    }

    /// The system's root directory.
    pub(crate) fn root(&self) -> Result<Dir> {
        self.root.try_clone().on("open", bytes(&self.directory))
    }

    /// The accounts that they make, and those of the system that they are of.
    pub(crate) fn accounts(&self) -> Result<Named> {
        let theirs = match self.selection.accounts.is_empty() {
            true => None,
            false => login::files(|path| login::read_below(&self.root, path))?,
        };
        Ok(Named { theirs, packages: self.selection.accounts.clone() })
    }

    /// The links of merged /usr, to be laid first.
    pub(crate) fn links(&self) -> Result<Entries> {
        Ok(made::links(&self.host, Time::default())?.into_iter().map(|made| (made.node, made.body)).collect())
    }

    /// The packages' files, and where those are on the host that are elsewhere than in the chroot.
    pub(crate) fn nodes(&self, watch: &Watch) -> Result<(Vec<Node>, HashMap<TreePath, TreePath>)> {
        let paths: Vec<TreePath> = self.selection.entries.iter().map(|entry| entry.host.clone()).collect();
        let scan = scan_paths(&self.root, &paths, &ScanOptions { xattrs: true, ..ScanOptions::default() }, watch)?;
        let mut outside = Outside::find();
        let mut moved = HashMap::new();
        let mut nodes = Vec::with_capacity(paths.len());
        for entry in &self.selection.entries {
            let gone = || {
                let error = Error::new(ErrorKind::Refused, "it went away while the host was read").at(&entry.host);
                error.hint("try again once no package is being installed")
            };
            let found = scan.tree.get(entry.host.as_bytes()).ok_or_else(gone)?;
            if entry.host != entry.path {
                moved.insert(entry.path.clone(), entry.host.clone());
            }
            let (path, origin) = (entry.path.clone(), Some(Arc::clone(&entry.origin)));
            let mut node = Node { path, origin, from: found.here, here: None, ..found.clone() };
            if let Some(outside) = &mut outside {
                let at = [bytes(&self.directory), b"/", entry.host.as_bytes()].concat();
                let owner = outside.owner(&at, (node.meta.uid, node.meta.gid)).on("stat", &entry.host)?;
                (node.meta.uid, node.meta.gid) = owner;
            }
            nodes.push(node);
        }
        Ok((nodes, moved))
    }

    /// What installing the packages would have made, over `wanted`; and what the user should know.
    pub(crate) fn made(&self, wanted: &Overlay, actions: &BTreeSet<Action>) -> Result<(Entries, Vec<String>)> {
        let (dpkg, packages) = match &self.database {
            Database::Dpkg(dpkg) => (dpkg, dpkg.closure(&self.names)?),
            Database::Pkg(pkg) => return Ok((required_by(pkg, &self.names)?, self.selection.notes())),
        };
        let time = time_of_making(wanted);
        let (host, selection) = (&self.host, &self.selection);
        let input = made::Input { host, dpkg, packages: &packages, selection, wanted, time, actions };
        let output = made::make(&input)?;
        let entries = output.made.into_iter().map(|made| (made.node, made.body));
        Ok((entries.collect(), output.notes))
    }
}

/// Which of the chosen packages of OpenBSD is required by which, for its database.
fn required_by(pkg: &Pkg, names: &[String]) -> Result<Entries> {
    let entry = |(path, text): (TreePath, String)| {
        let kind = Kind::File { size: text.len() as u64, digest: None };
        let node = Node::new(path, Meta { mode: 0o644, ..Meta::default() }, kind);
        (Node { origin: Some(Arc::from("made packages")), ..node }, text.into_bytes())
    };
    Ok(pkg.required_by(&pkg.closure(names)?)?.into_iter().map(entry).collect())
}

/// Keeps what was installed, upgraded or removed in the chroot since its last build in dpkg's status.
pub(crate) fn keep_installed(made: &mut Entries, inside: &Dir, recorded: Option<&Tree>) -> Result<()> {
    let never = Tree::default();
    for (node, body) in made.iter_mut().filter(|(node, _)| node.path.as_bytes() == STATUS.as_bytes()) {
        if let Some(lived_in) = login::read_below(inside, &node.path)? {
            *body = merge(&lived_in, recorded.unwrap_or(&never), body).map_err(|e| e.at(STATUS))?;
            let digest = Some(Digest(Sha256::digest(&*body).into()));
            node.kind = Kind::File { size: body.len() as u64, digest };
        }
    }
    Ok(())
}

/// The time that made files get: `SOURCE_DATE_EPOCH`, else that of the newest file so far, so that the same packages
/// give the same tree.
fn time_of_making(wanted: &Overlay) -> Time {
    let asked = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let sec = asked.unwrap_or_else(|| {
        let files = wanted.nodes().filter(|node| matches!(node.kind, Kind::File { .. }));
        files.map(|node| node.meta.mtime.sec).max().unwrap_or(0)
    });
    Time { sec, nsec: 0 }
}

/// The files of the host's /etc that the recipe names, with their content of now: a link to a resolver's own file
/// would dangle inside, unless the chroot has its target too.
pub(crate) fn etc_files(recipe: &Recipe, overlay: &Overlay) -> Result<(Entries, Vec<String>)> {
    let (mut made, mut notes) = (Vec::new(), Vec::new());
    for path in &recipe.etc {
        let host = Path::new("/").join(path.as_os_str());
        let Ok(data) = std::fs::metadata(&host) else {
            notes.push(format!("{}: the host has none", host.display()));
            continue;
        };
        let link = std::fs::read_link(&host).ok().filter(|target| leads_inside(path, target, overlay));
        let (kind, mode, body) = match link {
            Some(target) => (Kind::Symlink(bytes(&target).into()), 0o777, Vec::new()),
            None => {
                let body = std::fs::read(&host).on("read", bytes(&host))?;
                (Kind::File { size: body.len() as u64, digest: None }, 0o644, body)
            }
        };
        let mtime = Time { sec: data.mtime(), nsec: u32::try_from(data.mtime_nsec()).unwrap_or(0) };
        let meta = Meta { mode, mtime, ..Meta::default() };
        let origin = Some(Arc::from(format!("host /{path}")));
        made.push((Node { origin, ..Node::new(path.clone(), meta, kind) }, body));
    }
    Ok((made, notes))
}

/// Does the link `path` with this target lead to something in the chroot?
fn leads_inside(path: &TreePath, target: &Path, overlay: &Overlay) -> bool {
    let from = Path::new("/").join(path.as_os_str());
    let absolute = from.parent().unwrap_or(Path::new("/")).join(target);
    // A target with `..` is left to its content: only plain names can be looked up without following.
    TreePath::lenient(bytes(&absolute))
        .is_ok_and(|inside| overlay.canonical(&inside).is_ok_and(|found| overlay.get(&found).is_some()))
}
