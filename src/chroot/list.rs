// SPDX-License-Identifier: ISC
//! `list` and `why`: what chroots there are, and why a file is in one.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::disk::{self, Disk};
use super::identity::{self, IDENTITY};
use super::layers;
use super::open::Chroot;
use super::origin::Origin;
use super::place::{Home, Place, bytes};
use super::recorded;
use super::register;
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::Dir;
use crate::tree::Node;
use crate::tree::resolve::{Resolved, resolve};

/// One chroot in the list.
#[derive(Debug)]
pub struct Listed {
    /// Its name, if it lives under the home; else its path.
    pub name: String,
    /// Its path.
    pub root: PathBuf,
    /// What condition it is in.
    pub condition: Condition,
    /// The one line that its recipe says of it.
    pub description: Option<String>,
    /// Entries in its manifest.
    pub entries: usize,
    /// Bytes in its manifest.
    pub bytes: u64,
    /// Where it comes from, if it is a clone.
    pub origin: Option<Origin>,
    /// What it takes on the disk, if that was asked for.
    pub disk: Option<Disk>,
}

/// The condition of a chroot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// All is well.
    Ok,
    /// The directory is gone, or the filesystem that it is is not mounted.
    Missing,
    /// Another directory is in its place.
    Replaced,
    /// A command was interrupted; `recover` finishes it.
    Interrupted,
    /// Its state cannot be read.
    Broken,
}

impl Condition {
    /// The word shown.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Ok => "ok",
            Condition::Missing => "missing",
            Condition::Replaced => "replaced",
            Condition::Interrupted => "interrupted",
            Condition::Broken => "broken",
        }
    }
}

/// All registered chroots, by path; with what they take on the `disk`, for which every entry is looked at.
///
/// # Errors
/// If the register cannot be read.
pub fn list(home: &Home, disk: bool) -> Result<Vec<Listed>> {
    register::all(home)?.into_iter().map(|root| Ok(describe(home, &root, disk))).collect()
}

/// The name by which the user knows a chroot.
pub(crate) fn name_of(home: &Home, root: &Path) -> String {
    root.strip_prefix(&home.path).unwrap_or(root).display().to_string()
}

fn describe(home: &Home, root: &std::ffi::OsStr, disk: bool) -> Listed {
    let root = PathBuf::from(root);
    let mut listed = Listed {
        name: name_of(home, &root),
        root,
        condition: Condition::Broken,
        description: None,
        entries: 0,
        bytes: 0,
        origin: None,
        disk: None,
    };
    // What cannot be read stays as it stands there: the list names it as broken, and goes on.
    let _ = examine(home, &mut listed, disk);
    listed
}

fn examine(home: &Home, listed: &mut Listed, disk: bool) -> Result<()> {
    let Ok(dir) = Dir::open(&listed.root, home.calls) else {
        listed.condition = Condition::Missing;
        return Ok(());
    };
    let place = match Place::find(home, listed.root.as_os_str()) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            listed.condition = Condition::Missing;
            return Ok(());
        }
        place => place?,
    };
    let Some(state) = State::open(home, &place)? else { return Ok(()) };
    listed.origin = Origin::read(&state)?;
    if disk {
        // Of an overlay clone, what was written to it.
        let upper = layers::base_of(&state)?.and_then(|_| state.dir.open_dir(layers::UPPER.as_bytes()).ok());
        listed.disk = Some(disk::used(upper.as_ref().unwrap_or(&dir))?);
    }
    listed.description = recorded::remembered(&state)?.and_then(|recipe| recipe.description);
    let tree = state.read_tree("manifest")?.unwrap_or_default();
    (listed.entries, listed.bytes) = (tree.len(), tree.bytes());
    listed.condition = match state.read(IDENTITY)? {
        _ if state.is_interrupted() => Condition::Interrupted,
        Some(was) if identity::is(&was, &dir).on("stat", bytes(&listed.root))? => Condition::Ok,
        _ => Condition::Replaced,
    };
    Ok(())
}

/// Why `path` is in the chroot: the entry, and the entries that lead to it through symlinked directories.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the manifest has no such entry.
pub fn why(chroot: &Chroot, path: &[u8]) -> Result<Vec<Node>> {
    let tree = chroot.manifest()?;
    let path = TreePath::lenient(path.strip_prefix(bytes(&chroot.place.root)).unwrap_or(path))?;
    let node = |at: &TreePath| tree.get(at.as_bytes());
    let mut chain: Vec<Node> = Vec::new();
    let through = |link: &TreePath| {
        chain.extend(node(link).cloned());
        Ok(())
    };
    let found = resolve(&path, false, |at| node(at).map(|n| &n.kind), through)?;
    let Resolved::Found(found) = found else {
        return Err(Error::new(ErrorKind::NotFound, "the manifest has no such entry").at(&path));
    };
    chain.extend(node(&found).cloned());
    Ok(chain)
}
