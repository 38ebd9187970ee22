// SPDX-License-Identifier: ISC
//! Selection from a system's packages: [`Database`] is what it knows of them, whoever manages them there.
#![forbid(unsafe_code)]

pub mod dpkg;
mod host;
pub mod pkg;
mod selection;

use std::collections::{BTreeMap, HashSet};

pub use dpkg::{Dpkg, MERGED};
pub use host::Host;
pub use pkg::Pkg;
pub(crate) use selection::SECRETS;
pub use selection::{Accounts, FileOptions, Selected, Selection, Skipped, Why};

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::sys::Dir;
use crate::watch::Watch;

/// The largest file of a database that is read. A desktop's status file of dpkg has 5 MB.
const MAX_FILE: u64 = 256 << 20;

/// Package and version of each path that is of a package.
pub type Owners = BTreeMap<TreePath, (String, String)>;

/// The package database of a system.
#[derive(Debug)]
pub enum Database {
    /// Debian's.
    Dpkg(Box<Dpkg>),
    /// OpenBSD's.
    Pkg(Pkg),
}

impl Database {
    /// Reads the database of the system whose root is `root`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none that we know; [`ErrorKind::BadInput`] naming the file and what is wrong.
    pub fn open(root: &Dir) -> Result<Database> {
        Database::find(root)?.ok_or_else(|| {
            let error = Error::new(ErrorKind::NotFound, "no package database, neither dpkg's nor OpenBSD's");
            error.at(dpkg::ADMIN).hint("build from an archive with --from")
        })
    }

    /// As [`Database::open`]; none if there is none that we know.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the file and what is wrong.
    pub fn find(root: &Dir) -> Result<Option<Database>> {
        let host = Host::new(root)?;
        let is = |path: &str| -> Result<bool> { Ok(host.directory(&TreePath::new(path.as_bytes())?)?.is_some()) };
        if is(dpkg::INFO)? {
            return Ok(Some(Database::Dpkg(Box::new(Dpkg::open(root)?))));
        }
        if is(pkg::DATABASE)? { Ok(Some(Database::Pkg(Pkg::open(root)?))) } else { Ok(None) }
    }

    /// The files of `names` and of all they depend on that is no part of the base. One of the base is only taken where it
    /// is named itself.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for what is not installed; [`ErrorKind::BadInput`] for a damaged database.
    pub fn beyond_base(&self, names: &[String], options: FileOptions, watch: &Watch) -> Result<Selection> {
        match self {
            Database::Dpkg(dpkg) => {
                let base: HashSet<&str> = dpkg.closure(&[])?.iter().map(|package| package.name.as_str()).collect();
                let mut packages = dpkg.closure(names)?;
                packages.retain(|package| !base.contains(package.name.as_str()) || names.contains(&package.name));
                dpkg.files(&packages, options, watch)
            }
            Database::Pkg(pkg) => pkg.files(&pkg.closure(names)?, options, watch),
        }
    }

    /// Which packages these canonical paths are of.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn owners(&self, paths: &HashSet<&[u8]>) -> Result<Owners> {
        match self {
            Database::Dpkg(dpkg) => dpkg.owners(paths),
            Database::Pkg(pkg) => pkg.owners(paths),
        }
    }
}

/// Up to three of `names` that `typed` may be a slip of, nearest first.
fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let allowed = (typed.len() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = names.map(|name| (strsim::levenshtein(typed, name), name)).collect();
    near.retain(|(distance, _)| *distance <= allowed);
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}
