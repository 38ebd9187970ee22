// SPDX-License-Identifier: ISC
//! [`Selection`]: which of the host's files the chosen packages are, and which of theirs are left out.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::path::TreePath;

/// What never leaves the host, whoever says that it owns it (rule 7 of the design).
pub(crate) const SECRETS: [&str; 14] = [
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

/// Accounts that a package makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// `package version`.
    pub origin: Arc<str>,
    /// Names of accounts.
    pub users: Vec<String>,
    /// Names of groups.
    pub groups: Vec<String>,
}

/// What to take from the host.
#[derive(Debug, Default)]
pub struct Selection {
    /// Sorted by path, each path once.
    pub entries: Vec<Selected>,
    /// Sorted by reason and path.
    pub skipped: Vec<Skipped>,
    /// Taken, although not as their package ships them: changed on the host since. Conffiles are not among them.
    pub changed: Vec<TreePath>,
    /// Accounts and groups that packages make when they are installed, in the order of the packages.
    pub accounts: Vec<Accounts>,
    /// What else people should know, a line each.
    pub more: Vec<String>,
}

impl Selection {
    /// What people should know of it: one line for each edited conffile and each changed file, and a count where a
    /// package lacks many.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut lacking: BTreeMap<(Why, &str), Vec<&TreePath>> = BTreeMap::new();
        for Skipped { path, why, origin } in &self.skipped {
            match why {
                Why::Edited => notes.push(format!("{path}: edited on the host, left out ({origin})")),
                Why::Secret => notes.push(format!("{path}: may hold a secret, left out ({origin})")),
                Why::Missing | Why::Excluded => lacking.entry((*why, origin)).or_default().push(path),
            }
        }
        notes.extend(self.changed.iter().map(|path| format!("{path}: changed on the host, taken as it is there")));
        for ((why, origin), paths) in lacking {
            let why = if why == Why::Missing { "missing on the host" } else { "kept away by path-exclude" };
            notes.push(match paths[..] {
                [path] => format!("{path}: {why} ({origin})"),
                _ => format!("{origin}: {} paths {why}, the first is {}", paths.len(), paths[0]),
            });
        }
        notes.extend(self.more.iter().cloned());
        notes
    }
}
