// SPDX-License-Identifier: ISC
//! The command line of `stockade patch`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::make::Make;
use crate::cli::args::{Json, Lock};
use crate::cli::secret::PassphraseArgs;
use crate::error::Result;
use crate::patch::{Keys, Trust};

#[derive(Debug, Args)]
pub(in crate::cli) struct Patch {
    #[command(subcommand)]
    pub(in crate::cli) verb: PatchVerb,
}

/// What to do with patches.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PatchVerb {
    /// Apply patches to a root
    Apply(Apply),
    /// Take patches back
    Undo(Undo),
    /// List the patches of a root
    List(Listing),
    /// Look whether all is still as the patches left it
    Check(Check),
    /// Give up undoing a patch, and remove what was kept for that
    Forget(Forget),
    /// Show what a patch changes
    Show(Reading),
    /// Verify who signed a patch, and that all of it is there
    Verify(Reading),
    /// Make a patch of what differs between two trees, or list it
    Diff(Box<Diff>),
    /// Roll patches up into one
    Squash(Box<Squash>),
    /// Put patches into a repository, and sign what it has
    Publish(Publish),
    /// Fetch what is missing from a repository
    Sync(Sync),
}

impl PatchVerb {
    /// The verb as it is typed.
    pub(in crate::cli) fn name(&self) -> &'static str {
        match self {
            PatchVerb::Apply(_) => "patch apply",
            PatchVerb::Undo(_) => "patch undo",
            PatchVerb::List(_) => "patch list",
            PatchVerb::Check(_) => "patch check",
            PatchVerb::Forget(_) => "patch forget",
            PatchVerb::Show(_) => "patch show",
            PatchVerb::Verify(_) => "patch verify",
            PatchVerb::Diff(_) => "patch diff",
            PatchVerb::Squash(_) => "patch squash",
            PatchVerb::Publish(_) => "patch publish",
            PatchVerb::Sync(_) => "patch sync",
        }
    }

    /// Does the caller want JSON?
    pub(in crate::cli) fn json(&self) -> bool {
        match self {
            PatchVerb::Apply(args) => args.json.json,
            PatchVerb::Undo(args) => args.json.json,
            PatchVerb::List(args) => args.json.json,
            PatchVerb::Check(args) => args.of.json.json,
            PatchVerb::Forget(args) => args.json.json,
            PatchVerb::Show(args) => args.json.json,
            PatchVerb::Verify(args) => args.json.json,
            PatchVerb::Diff(args) => args.json.json,
            PatchVerb::Squash(args) => args.json.json,
            PatchVerb::Publish(args) => args.json.json,
            PatchVerb::Sync(args) => args.json.json,
        }
    }

    /// Does it touch roots, whose files are of several owners?
    pub(in crate::cli) fn needs_root(&self) -> bool {
        match self {
            PatchVerb::Apply(_)
            | PatchVerb::Undo(_)
            | PatchVerb::List(_)
            | PatchVerb::Check(_)
            | PatchVerb::Forget(_) => true,
            PatchVerb::Show(_) | PatchVerb::Verify(_) | PatchVerb::Squash(_) | PatchVerb::Publish(_) => false,
            PatchVerb::Diff(_) | PatchVerb::Sync(_) => true,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Apply {
    /// The patches, or a directory of some; `-` reads standard input
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// The root to patch: a directory, or a chroot's name below the stockade home; without it the running system
    #[arg(long, default_value = "/", value_name = "ROOT", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// Patch the running system and all chroots
    #[arg(long, conflicts_with = "root")]
    pub(in crate::cli) all_chroots: bool,
    /// Leave files as they are that are not as the patch expects them
    #[arg(long, conflicts_with = "replace")]
    pub(in crate::cli) keep: bool,
    /// Replace files that are not as the patch expects them
    #[arg(long)]
    pub(in crate::cli) replace: bool,
    /// Pass over this number of the series; may be repeated
    #[arg(long, value_name = "NUMBER")]
    pub(in crate::cli) skip: Vec<u32>,
    /// The release of the root, where it does not say itself
    #[arg(long, value_name = "RELEASE")]
    pub(in crate::cli) release: Option<String>,
    /// Apply patches too whose programs need libraries that are not there
    #[arg(long)]
    pub(in crate::cli) allow_unmet: bool,
    /// Keep nothing that would undo the patch
    #[arg(long)]
    pub(in crate::cli) no_undo: bool,
    /// Restart the services that the patch names, on the running system
    #[arg(long)]
    pub(in crate::cli) restart: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) trust: TrustArgs,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Undo {
    /// The patch; without it the one that was applied last
    #[arg(conflicts_with = "to")]
    pub(in crate::cli) name: Option<String>,
    /// Undo all patches that were applied after this one, and it
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) to: Option<String>,
    /// The root: a directory, or a chroot's name below the stockade home; without it the running system
    #[arg(long, default_value = "/", value_name = "ROOT", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// Take the word of the root for what was there before, if it was patched by another host
    #[arg(long)]
    pub(in crate::cli) trust_root: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Listing {
    /// The root: a directory, or a chroot's name below the stockade home; without it the running system
    #[arg(long, default_value = "/", value_name = "ROOT", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// Say nothing but what is not as it should be
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    #[command(flatten)]
    pub(in crate::cli) of: Listing,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Forget {
    /// The patch
    pub(in crate::cli) name: String,
    /// The root: a directory, or a chroot's name below the stockade home; without it the running system
    #[arg(long, default_value = "/", value_name = "ROOT", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

/// Whose patches are taken.
#[derive(Debug, Args)]
pub(in crate::cli) struct TrustArgs {
    /// Trust this public key, instead of those in /etc/signify; may be repeated
    #[arg(long = "key", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) keys: Vec<PathBuf>,
    /// Take a patch that nobody signed, or that somebody else did
    #[arg(long, conflicts_with = "keys")]
    pub(in crate::cli) unsigned: bool,
}

impl TrustArgs {
    /// The keys that count; none if any will do. [`trust`] makes of it what a [`crate::patch::Bundle`] is opened with.
    pub(in crate::cli) fn keys(&self) -> Result<Option<Keys>> {
        match (self.unsigned, self.keys.as_slice()) {
            (true, _) => Ok(None),
            (false, []) => Keys::of_host().map(Some),
            (false, files) => Keys::load(files).map(Some),
        }
    }
}

/// Trust in these keys, or in anyone.
pub(in crate::cli) fn trust(keys: Option<&Keys>) -> Trust<'_> {
    keys.map_or(Trust::Anyone, Trust::Keys)
}

/// A patch that is only read.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reading {
    /// The patch; `-` reads standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) trust: TrustArgs,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Diff {
    /// What was: a directory, an archive or a manifest
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) before: PathBuf,
    /// What will be: a directory or an archive; a manifest to list only
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) after: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) make: Make,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Publish {
    /// The repository: a directory that a web server serves
    #[arg(value_hint = ValueHint::DirPath)]
    pub(in crate::cli) dir: PathBuf,
    /// The patches to add; without any it is signed anew
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) patches: Vec<PathBuf>,
    /// The signify secret key to sign the repository with
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) secret: PathBuf,
    /// For whom it is: for `patch sync`, or for OpenBSD's syspatch or pkg_add
    #[arg(long, value_enum, default_value_t = Layout::Own)]
    pub(in crate::cli) layout: Layout,
    /// Take patches that this public key verifies, too; may be repeated
    #[arg(long = "key", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) keys: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) passphrase: PassphraseArgs,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

/// What a repository looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Layout {
    Own,
    Syspatch,
    Package,
}

/// What a repository that is read looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Source {
    Own,
    Syspatch,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Sync {
    /// The repository: http://, https://, file:// or a directory
    #[arg(value_hint = ValueHint::Url)]
    pub(in crate::cli) from: String,
    /// The root that lacks patches: a directory, or a chroot's name below the stockade home; without it the running system
    #[arg(long, default_value = "/", value_name = "ROOT", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// Apply what was fetched, in order
    #[arg(long)]
    pub(in crate::cli) apply: bool,
    /// What the repository looks like: ours, or a mirror for OpenBSD's syspatch
    #[arg(long, value_enum, default_value_t = Source::Own)]
    pub(in crate::cli) layout: Source,
    /// Warn if the repository was published longer ago than this many days
    #[arg(long, value_name = "DAYS")]
    pub(in crate::cli) max_age: Option<u32>,
    /// The release of the root, where it does not say itself
    #[arg(long, value_name = "RELEASE")]
    pub(in crate::cli) release: Option<String>,
    /// Show what is missing, and fetch no patch
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    /// Trust this public key, instead of those in /etc/signify; may be repeated
    #[arg(long = "key", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) keys: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Squash {
    /// The patches, in their order
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub(in crate::cli) patches: Vec<PathBuf>,
    /// Trust this public key, instead of those in /etc/signify; may be repeated
    #[arg(long = "key", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) keys: Vec<PathBuf>,
    /// Take patches that nobody signed, or that somebody else did
    #[arg(long, conflicts_with = "keys")]
    pub(in crate::cli) any: bool,
    #[command(flatten)]
    pub(in crate::cli) make: Make,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}
