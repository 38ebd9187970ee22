// SPDX-License-Identifier: ISC
//! The shape of a recipe file, as serde reads and writes it. What its values mean is checked in [`super::merge`].
//!
//! The doc comments of the fields are the descriptions in `stockade schema`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// A value that knows where it stands in its file.
pub(super) type Spot = Spanned<String>;
/// A list; in a recipe that extends another, `-NAME` takes an inherited entry away.
pub(super) type List = Vec<Spot>;
/// Names and values.
pub(super) type Table = BTreeMap<Spot, Spot>;

/// How a chroot is made and kept.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The recipe that this one changes: the name of a built-in one, or a file (with a slash or ending in `.toml`),
    /// relative to this file. Lists append, `-NAME` in a list takes an entry away, single values replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) extends: Option<Spot>,
    /// One line for `stockade list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// PS1 of the shells that `stockade run` starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) prompt: Option<Spot>,
    /// Files of the host's /etc to take, as names below /etc: resolv.conf, hosts, localtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) etc: List,
    /// Archives inside archives: where a source brings one of these paths, it is laid over that source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) nested: List,
    /// The release of OpenBSD that the chroot is, as uname(1) prints it: 7.8. Without it the sources tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) release: Option<Spot>,
    /// Paths where a file or link of a later source may take the place of a non-empty directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) replace: List,
    /// What is put into /dev.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) devices: Option<super::Devices>,
    /// The network of what `stockade run` starts: the host's (`host`, the default), or none but loopback (`none`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) net: Option<super::Net>,
    /// What is made after the sources are laid. All are on; `-NAME` switches one off, `+NAME` on again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) actions: List,
    /// What may be touched.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub(super) policy: Policy,
    /// What `stockade record` takes into a patch.
    #[serde(default, skip_serializing_if = "Record::is_default")]
    pub(super) record: Record,
    /// Variables for everything that `stockade run` starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) environment: Table,
    /// Programs of the host that come with all that they need. The sources are laid over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) closure: Option<Closure>,
    /// What the chroot is made of, in order: a later source wins.
    #[serde(default, rename = "source", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Source>")]
    pub(super) sources: Vec<Spanned<Source>>,
    /// Files, links and directories made of nothing but this recipe, laid over the sources in their order.
    #[serde(default, rename = "make", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Make>")]
    pub(super) made: Vec<Spanned<Make>>,
    /// Accounts of the host that exist in the chroot too, without their passwords.
    #[serde(default, rename = "account", skip_serializing_if = "Vec::is_empty")]
    pub(super) accounts: Vec<Account>,
}

/// One source: an archive, a directory, release sets, what locate databases list, or packages.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// A tar archive (plain, .gz, .xz, .zst) or a Debian package; relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) archive: Option<Spot>,
    /// The checksum list that names the archive: SHA256.sig, SHA256 or SHA256SUMS. Checked before the archive is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) list: Option<Spot>,
    /// The signify public key that the list must be signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) key: Option<Spot>,
    /// A directory of the host, or another chroot; where the release sets lie; the root of the system of which the locate
    /// databases or the packages are (/ where absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) directory: Option<Spot>,
    /// Release sets to take, by their names without digits: base, comp, man. A recipe has one such source: the sets of a
    /// recipe that extends another are added to it. With `locate`, which sets of the listed are taken (all where absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) sets: Option<List>,
    /// The release sets are trusted although nobody signed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<bool>")]
    pub(super) unsigned: Option<Spanned<bool>>,
    /// Files and directories (not what is in them) of the system in `directory` that are taken besides what `locate` lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) paths: Option<List>,
    /// Locate databases: of the system in `directory`, what they list is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) locate: Option<List>,
    /// Installed packages of the system in `directory`, with all that they depend on; on Debian, `@base` is the essential and
    /// required ones.
    /// A recipe has one such source: the packages of a recipe that extends another are added to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) packages: Option<List>,
    /// Configuration files of packages that were edited on the host: left out (`skip`, the default) or taken (`copy`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Conffiles>")]
    pub(super) modified_conffiles: Option<Spanned<super::Conffiles>>,
    /// Paths and globs in a directory that are left out, with all below them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) without: Option<List>,
    /// The directory of the chroot that receives an archive or directory; its root where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) into: Option<Spot>,
}

/// Programs of the host, with all that they need.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Closure {
    /// Absolute paths of programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) programs: List,
    /// Absolute paths of files and directories of the host that are wanted besides; programs among them bring what they
    /// need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) paths: List,
    /// Packages of which every file is wanted, with those they depend on that are no part of the base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) packages: List,
    /// Policies that apply only where they are named: locales, python-packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) with: List,
    /// Policies that do not apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) without: List,
    /// Accounts of the host that exist inside, besides root and the owners of what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) users: List,
    /// Programs that keep their set-id bits and capabilities; all others lose them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) keep_setid: List,
    /// Sockets of the host that sessions reach: their directories are shown inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) sockets: List,
    /// Take the host's nsswitch.conf and the modules that it names, instead of files and DNS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) host_nss: bool,
    /// What traces of real runs saw: the path, and the program that opened it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) traced: Table,
    /// Paths that traces of real runs saw written to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) written: List,
    /// A command and its arguments that have to work in the jail before a build changes the one that there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) probe: List,
    /// Patterns of files that services leave behind, as pid files and sockets: a build removes them while nothing runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) clean: List,
    /// Who makes the chroot a root by itself, and has rules for that: sshd, systemd, httpd.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub(super) purpose: Option<super::Purpose>,
}

/// What may be touched in a chroot that exists.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    /// Entries that no source brought, and edited ones: `remove` (the default: unknown entries go, edited ones are
    /// restored) or `keep` (both are left and reported).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<Unknown>,
    /// Paths and globs that are installed if absent and never changed afterwards, with all below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) keep: List,
    /// Paths and globs whose edited files stay as they are, whatever `unknown` says; those are reported whose default
    /// changed too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) edited: List,
    /// Kept paths of which `stockade check` says nothing: logs, caches, run-time state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) volatile: List,
}

impl Policy {
    fn is_default(&self) -> bool {
        self.unknown.is_none() && self.keep.is_empty() && self.edited.is_empty() && self.volatile.is_empty()
    }
}

/// What `stockade record` takes into a patch, besides what its own list says.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Paths and globs that are left out, with all below them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) omit: List,
    /// Paths and globs that are taken although the list, or `omit`, leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) keep: List,
}

impl Record {
    fn is_default(&self) -> bool {
        self.omit.is_empty() && self.keep.is_empty()
    }
}

/// What becomes of unknown and edited entries.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unknown {
    Keep,
    Remove,
}

/// A file with `text`, a symbolic `link`, or a directory if it is neither.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Make {
    /// Where it is in the chroot.
    #[schemars(with = "String")]
    pub(super) path: Spot,
    /// What is in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) text: Option<Spot>,
    /// Where the symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) link: Option<Spot>,
    /// Its mode in octal: 0644 for a file and 0755 for a directory where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) mode: Option<Spot>,
    /// Its owner, an account of the chroot or a number; root where absent. Directories above that nobody else makes are
    /// the owner's too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) owner: Option<Spot>,
    /// Its group, of the chroot or a number; that of its owner where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) group: Option<Spot>,
    /// All that sources bring below the directory has its owner and group too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) below: bool,
}

/// An account of the host, merged into the chroot's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    /// Its name on the host.
    #[schemars(with = "String")]
    pub(super) name: Spot,
    /// Its home in the chroot, if not the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) home: Option<Spot>,
    /// Its shell in the chroot, if not the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) shell: Option<Spot>,
    /// Files of its home on the host to take along: .profile, .config/git/config.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(super) dotfiles: List,
    /// PS1 of its shells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) prompt: Option<Spot>,
    /// Variables of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) environment: Table,
}
