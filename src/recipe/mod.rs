// SPDX-License-Identifier: ISC
//! Recipes: what a chroot is made of and how it is kept. TOML in ([`load`], [`parse`]), plain checked data out.
//!
//! A recipe says what it wants in the chroot's terms; it knows nothing of how that is done, and reading it opens no
//! file but recipes. stockade-recipe(5) describes the format.
#![forbid(unsafe_code)]

mod closure;
mod fault;
mod file;
mod merge;
mod named;
pub mod proot;
#[cfg(test)]
mod tests;
mod values;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath};
use crate::tree::policy::{Policy, Unknown};

pub use closure::{Closure, Purpose};
pub use merge::{load, parse};

/// The recipes in the program, by name.
pub const EMBEDDED: [(&str, &str); 7] = [
    ("host", include_str!("../../recipes/host.toml")),
    ("openbsd-build", include_str!("../../recipes/openbsd-build.toml")),
    ("openbsd-errata", include_str!("../../recipes/openbsd-errata.toml")),
    ("openbsd-host", include_str!("../../recipes/openbsd-host.toml")),
    ("openbsd-ports", include_str!("../../recipes/openbsd-ports.toml")),
    ("openbsd-web", include_str!("../../recipes/openbsd-web.toml")),
    ("sets", include_str!("../../recipes/sets.toml")),
];

/// A whole recipe: what it extends is in it, names are checked, host paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// One line for listings.
    pub description: Option<String>,
    /// What the chroot is made of, in order: a later source wins.
    pub sources: Vec<Source>,
    /// Programs of the host that come with all that they need, under the sources.
    pub closure: Option<Closure>,
    /// Archives inside archives: where a source brings one of these paths, it is laid over that source.
    pub nested: Vec<TreePath>,
    /// The release of OpenBSD that the chroot is, as uname(1) prints it; none: its sources tell.
    pub release: Option<String>,
    /// Files to take from the host, as paths in the chroot: `etc/hosts`.
    pub etc: Vec<TreePath>,
    /// Entries made of nothing but the recipe, in its order.
    pub made: Vec<Make>,
    /// Accounts of the host to merge in; each name once.
    pub accounts: Vec<Account>,
    /// What is put into /dev.
    pub devices: Devices,
    /// The network of what runs inside.
    pub net: Net,
    /// What is made after the sources are laid.
    pub actions: BTreeSet<Action>,
    /// What becomes of unknown and edited entries.
    pub unknown: Unknown,
    /// Patterns of paths that are installed if absent and never changed afterwards.
    pub keep: Vec<String>,
    /// Patterns of paths whose edited files stay, whatever becomes of unknown entries.
    pub edited: Vec<String>,
    /// Patterns of kept paths of which `check` says nothing.
    pub volatile: Vec<String>,
    /// What is recorded.
    pub record: Record,
    /// Paths where a file or link may take the place of a non-empty directory (decision E10).
    pub replace: Vec<TreePath>,
    /// PS1 of the shells inside.
    pub prompt: Option<String>,
    /// Variables for everything that runs inside.
    pub environment: BTreeMap<String, String>,
}

/// What of the changes in the chroot is taken into a patch, besides what the default list says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Patterns of paths that are left out.
    pub omit: Vec<String>,
    /// Patterns of paths that are taken although they are left out otherwise.
    pub keep: Vec<String>,
}

/// One source and the directory that receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is.
    pub origin: Origin,
    /// Where it is laid; the root for packages.
    pub into: TreePath,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A tar archive or a Debian package.
    Archive {
        /// The file.
        path: PathBuf,
        /// How it is verified before it is opened; none: it is trusted as it is.
        verify: Option<Verify>,
    },
    /// A directory of the host.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// Patterns of paths in it that are left out, with all below them.
        without: Vec<String>,
    },
    /// Release sets in a directory, as they lie on a mirror. At most one source of a recipe is this.
    Sets {
        /// Where they and their list lie.
        directory: PathBuf,
        /// Their names without the release's digits: `base`.
        names: Vec<String>,
        /// The signify public key of their list, SHA256.sig; none: that of the release, in /etc/signify.
        key: Option<PathBuf>,
        /// They are trusted without a signature.
        unsigned: bool,
    },
    /// What locate databases list, out of the system whose root is `directory`.
    Listed {
        /// The root of that system.
        directory: PathBuf,
        /// The databases.
        locate: Vec<PathBuf>,
        /// The sets to take; none: all.
        sets: Vec<String>,
        /// What is taken besides.
        paths: Vec<TreePath>,
    },
    /// Installed packages of the system whose root is `directory`. At most one source of a recipe is this.
    Packages {
        /// The root of that system.
        directory: PathBuf,
        /// Package names and `@base`.
        names: Vec<String>,
        /// Configuration files that were edited on the host.
        modified: Conffiles,
    },
}

/// The checksum list that names an archive, and who must have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// SHA256.sig, SHA256 or SHA256SUMS.
    pub list: PathBuf,
    /// The signify public key; none: the list is not signed.
    pub key: Option<PathBuf>,
}

/// An entry made of nothing but the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// Where.
    pub path: TreePath,
    /// What.
    pub what: Made,
    /// Its mode; none: 0644 for a file, 0755 for a directory.
    pub mode: Option<u16>,
    /// Its owner in the chroot; none: root. Directories above that nobody else makes are the owner's too.
    pub owner: Option<String>,
    /// Its group in the chroot; none: that of its owner.
    pub group: Option<String>,
    /// All that sources bring below it has its owner and group too.
    pub below: bool,
}

impl Make {
    /// A directory that belongs to `owner`; none: root.
    pub(crate) fn directory(path: TreePath, owner: Option<String>) -> Make {
        Make { path, what: Made::Directory, mode: None, owner, group: None, below: false }
    }
}

/// What is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A file with this text.
    File(String),
    /// A symbolic link to this.
    Link(String),
    /// A directory.
    Directory,
}

/// An account of the host to merge in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name on the host.
    pub name: String,
    /// Its home, if not the host's.
    pub home: Option<String>,
    /// Its shell, if not the host's.
    pub shell: Option<String>,
    /// Files of its home on the host, relative to it.
    pub dotfiles: Vec<TreePath>,
    /// PS1 of its shells.
    pub prompt: Option<String>,
    /// Variables of its own.
    pub environment: BTreeMap<String, String>,
}

/// What becomes of configuration files that were edited on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Conffiles {
    /// They are left out and named in the report.
    #[default]
    Skip,
    /// They are taken as they are.
    Copy,
}

/// What is put into /dev.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Devices {
    /// The devices that programs expect anywhere: null, zero, random, tty and the like.
    #[default]
    Std,
    /// On OpenBSD what the chroot's own MAKEDEV makes for `all`: it is run inside. On Linux those of `std`.
    All,
    /// Only what the sources bring.
    None,
}

/// The network of what runs inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// The host's.
    #[default]
    Host,
    /// None but loopback.
    None,
}

/// What is made because no package ships it and maintainer scripts would have made it (decision E20). All but
/// those that run a program of the chroot concern the packages of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The account files, from the package that has their masters.
    Accounts,
    /// The links of /etc/alternatives.
    Alternatives,
    /// The host's apt sources, keys and settings.
    Apt,
    /// The database of login classes (OpenBSD).
    CapMkdb,
    /// The bundle of certificate authorities.
    Certificates,
    /// Files of /etc that scripts make from their packages' own defaults.
    Defaults,
    /// The names of devices (OpenBSD).
    DevMkdb,
    /// The database of installed packages.
    Dpkg,
    /// The cache of shared libraries.
    Ldconfig,
    /// The index of the manual (OpenBSD).
    Makewhatis,
    /// The database of mail aliases (OpenBSD).
    Newaliases,
    /// The common files of PAM.
    Pam,
    /// The databases of accounts (OpenBSD).
    PwdMkdb,
    /// The list of login shells.
    Shells,
}

impl Action {
    /// Every action; all are on unless a recipe says otherwise.
    pub const ALL: [Action; 14] = [
        Action::Accounts,
        Action::Alternatives,
        Action::Apt,
        Action::CapMkdb,
        Action::Certificates,
        Action::Defaults,
        Action::DevMkdb,
        Action::Dpkg,
        Action::Ldconfig,
        Action::Makewhatis,
        Action::Newaliases,
        Action::Pam,
        Action::PwdMkdb,
        Action::Shells,
    ];

    /// The name in recipes and origins.
    pub fn name(self) -> &'static str {
        match self {
            Action::Accounts => "accounts",
            Action::Alternatives => "alternatives",
            Action::Apt => "apt",
            Action::CapMkdb => "cap_mkdb",
            Action::Certificates => "certificates",
            Action::Defaults => "defaults",
            Action::DevMkdb => "dev_mkdb",
            Action::Dpkg => "dpkg",
            Action::Ldconfig => "ldconfig",
            Action::Makewhatis => "makewhatis",
            Action::Newaliases => "newaliases",
            Action::Pam => "pam",
            Action::PwdMkdb => "pwd_mkdb",
            Action::Shells => "shells",
        }
    }
}

/// The recipe of an empty file.
impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            description: None,
            sources: Vec::new(),
            closure: None,
            nested: Vec::new(),
            release: None,
            etc: Vec::new(),
            made: Vec::new(),
            accounts: Vec::new(),
            devices: Devices::default(),
            net: Net::default(),
            actions: Action::ALL.into(),
            unknown: Unknown::Remove,
            keep: Vec::new(),
            edited: Vec::new(),
            volatile: Vec::new(),
            record: Record::default(),
            replace: Vec::new(),
            prompt: None,
            environment: BTreeMap::new(),
        }
    }
}

impl Recipe {
    /// The policy of the recipe; the mounts and our own paths are the caller's to add.
    ///
    /// # Errors
    /// Never for a recipe that was parsed: its patterns were checked.
    pub fn policy(&self) -> Result<Policy> {
        Ok(Policy {
            unknown: self.unknown,
            keep: PathSet::new(&self.keep)?,
            edited: PathSet::new(&self.edited)?,
            volatile: PathSet::new(&self.volatile)?,
            ..Policy::default()
        })
    }

    /// Adds a source as the last.
    fn lay(&mut self, origin: Origin, into: TreePath) {
        self.sources.push(Source { origin, into });
    }

    /// Adds an archive as the last source. One that is there already stays where it is, and verified if it was.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for a path that is not UTF-8: the recipe could not be remembered.
    pub fn add_archive(&mut self, path: PathBuf, verify: Option<Verify>) -> Result<()> {
        values::remembered(&path)?;
        let known = self.sources.iter_mut().find_map(|source| match &mut source.origin {
            Origin::Archive { path: known, verify } if *known == path => Some(verify),
            _ => None,
        });
        match known {
            Some(old) => *old = verify.or(old.take()),
            None => {
                self.lay(Origin::Archive { path, verify }, TreePath::root());
            }
        }
        Ok(())
    }

    /// Adds packages of the host to those of the recipe; what is there already stays once.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for a word that is no package name.
    pub fn add_packages(&mut self, more: &[String]) -> Result<()> {
        for name in more {
            values::check_package(name)?;
            let names = self.packages();
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Ok(())
    }

    /// Takes the release sets from a directory, their list signed by `key` if one is named.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for a recipe without sets, and for a path that is not UTF-8.
    pub fn take_sets_from(&mut self, from: PathBuf, by: Option<PathBuf>) -> Result<()> {
        values::remembered(&from)?;
        by.as_deref().map(values::remembered).transpose()?;
        let Origin::Sets { directory, key, .. } = self.sets()? else { return Ok(()) };
        *directory = from;
        *key = by.or(key.take());
        Ok(())
    }

    /// Has the list of the release sets signed by `key`.
    ///
    /// # Errors
    /// As [`Recipe::take_sets_from`].
    pub fn sign_sets_by(&mut self, by: PathBuf) -> Result<()> {
        values::remembered(&by)?;
        if let Origin::Sets { key, .. } = self.sets()? {
            *key = Some(by);
        }
        Ok(())
    }

    /// Trusts the release sets without a signature.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for a recipe without sets.
    pub fn trust_sets(&mut self) -> Result<()> {
        if let Origin::Sets { unsigned, .. } = self.sets()? {
            *unsigned = true;
        }
        Ok(())
    }

    fn sets(&mut self) -> Result<&mut Origin> {
        let origins = self.sources.iter_mut().map(|source| &mut source.origin);
        origins.into_iter().find(|origin| matches!(origin, Origin::Sets { .. })).ok_or_else(|| {
            let error = Error::new(ErrorKind::Usage, "the recipe takes no release sets out of a directory");
            error.hint("name an archive, or a recipe with sets: -f openbsd-build")
        })
    }

    /// The names of the packages source, which is made if there is none.
    fn packages(&mut self) -> &mut Vec<String> {
        let is_packages = |source: &Source| matches!(source.origin, Origin::Packages { .. });
        let at = self.sources.iter().position(is_packages).unwrap_or_else(|| {
            let directory = PathBuf::from("/");
            let origin = Origin::Packages { directory, names: Vec::new(), modified: Conffiles::default() };
            self.lay(origin, TreePath::root());
            self.sources.len() - 1
        });
        match &mut self.sources[at].origin {
            Origin::Packages { names, .. } => names,
            _ => unreachable!("the position is that of packages"),
        }
    }

    /// What `account` finds in its environment: the recipe's variables, its own over them, and the prompt as PS1.
    pub fn environment_of(&self, account: &str) -> BTreeMap<String, String> {
        let own = self.accounts.iter().find(|known| known.name == account);
        let mut all = self.environment.clone();
        all.extend(self.prompt.iter().map(|prompt| ("PS1".to_owned(), prompt.clone())));
        if let Some(own) = own {
            all.extend(own.environment.clone());
            all.extend(own.prompt.iter().map(|prompt| ("PS1".to_owned(), prompt.clone())));
        }
        all
    }
}

/// The JSON schema of recipe files, for editors.
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(file::File);
    schema.insert("title".to_owned(), "Stockade recipe".into());
    format!("{:#}", schema.as_value())
}
