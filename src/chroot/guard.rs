// SPDX-License-Identifier: ISC
//! What may become a chroot: never somebody's data (decision E17).
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::identity::{self, IDENTITY};
use super::open::WORK_INSIDE;
use super::place::{Home, Place, bytes};
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::Dir;

/// What is found where a chroot shall be.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing, or an empty directory.
    Room,
    /// The directory that the state records.
    Ours(Dir),
    /// A directory with something in it that the state does not record.
    Foreign(Dir, PathBuf),
}

/// Refuses `/`, homes, and the directories that hold Stockade's own state.
pub(crate) fn may_build(home: &Home, place: &Place) -> Result<()> {
    let root = &place.root;
    let refuse = |reason: &'static str| Err(Error::new(ErrorKind::Refused, reason).at(bytes(root)));
    if root == Path::new("/") {
        return refuse("the running system is no build target");
    }
    if home.path.starts_with(root) || place.state.starts_with(root) {
        return refuse("it holds Stockade's own state");
    }
    if homes().iter().any(|home| home == root) {
        return refuse("it is somebody's home");
    }
    Ok(())
}

/// The homes of root and of people that the host's passwd names, and the caller's; those of services, `/var/www`, are
/// normal places for a chroot.
fn homes() -> Vec<PathBuf> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let uid: u32 = fields.get(2)?.parse().ok()?;
        fields.get(5).copied().filter(|home| home.len() > 1 && (uid == 0 || uid >= 1000))
    });
    named.map(PathBuf::from).chain(std::env::var_os("HOME").map(PathBuf::from)).collect()
}

/// Looks at what is there.
pub(crate) fn look(home: &Home, place: &Place) -> Result<Found> {
    let shown = bytes(&place.root);
    match place.root.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Room),
        Err(e) => return Err(Error::io("stat", shown, &e)),
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Error::new(ErrorKind::Refused, "it is not a directory").at(shown)),
    }
    let root = Dir::open(&place.root, home.calls).on("open", shown)?;
    let state = State::open(home, place)?;
    let recorded = state.map(|s| s.read(IDENTITY)).transpose()?.flatten();
    if recorded.is_some_and(|was| identity::is(&was, &root).is_ok_and(|same| same)) {
        return Ok(Found::Ours(root));
    }
    let ignored = |name: &[u8]| name == WORK_INSIDE.as_bytes() || name == b"lost+found";
    let entries = root.entries().on("readdir", shown)?;
    if entries.iter().all(|entry| ignored(&entry.name)) {
        return Ok(Found::Room);
    }
    Ok(Found::Foreign(root, place.root.clone()))
}

impl Found {
    /// Refuses a directory with somebody's data in it, unless it is to be adopted.
    pub(crate) fn may_be_taken(&self, adopt: bool) -> Result<()> {
        match self {
            Found::Foreign(_, path) if !adopt => {
                let reason = "the directory is not empty and has no record of ours";
                let hint = format!("record it as it is, removing nothing: stockade adopt {}", escape(bytes(path)));
                Err(Error::new(ErrorKind::Refused, reason).at(bytes(path)).hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// The directory that exists already, for a dry run.
    pub(crate) fn into_existing(self) -> Option<Dir> {
        match self {
            Found::Ours(root) | Found::Foreign(root, _) => Some(root),
            Found::Room => None,
        }
    }

    /// The directory to change in place; none: one is built beside its name and renamed in.
    ///
    /// Where the state cannot lie beside the root, a missing root is made, for nobody but us, and filled in place.
    pub(crate) fn into_root(self, home: &Home, place: &Place) -> Result<Option<Dir>> {
        match self {
            Found::Ours(root) | Found::Foreign(root, _) => Ok(Some(root)),
            Found::Room if place.beside => Ok(None),
            Found::Room => {
                let (parent, name) = place.parent(home.calls)?;
                match parent.make_dir(&name, 0o700) {
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                    made => made.on("mkdir", bytes(&place.root))?,
                }
                parent.open_dir(&name).map(Some).on("open", bytes(&place.root))
            }
        }
    }
}
