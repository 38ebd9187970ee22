// SPDX-License-Identifier: ISC
//! The command lines of `record` and `errata`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{Json, Lock, Session};
use crate::cli::patch::make::Make;

#[derive(Debug, Args)]
pub(in crate::cli) struct Record {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// The account of the chroot to run as; without it root
    #[arg(short, long, value_name = "USER", value_hint = ValueHint::Username)]
    pub(in crate::cli) user: Option<String>,
    /// Leave the chroot as it was
    #[arg(long)]
    pub(in crate::cli) discard: bool,
    #[command(flatten)]
    pub(in crate::cli) common: Common,
    /// The command and its arguments
    #[arg(last = true, required = true, value_hint = ValueHint::CommandWithArguments)]
    pub(in crate::cli) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Errata {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// Source patches, NNN_NAME.patch.sig, or directories of them
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// The signify public key that they are signed with; may be repeated. Without it those of the host
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) key: Vec<PathBuf>,
    /// Take source patches that nobody signed, or that somebody else did
    #[arg(long, conflicts_with = "key")]
    pub(in crate::cli) any: bool,
    /// Go on without this number; may be repeated
    #[arg(long, value_name = "NUMBER")]
    pub(in crate::cli) skip: Vec<u32>,
    /// The kernel of the chroot, for errata that build one: GENERIC or GENERIC.MP
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) kernel: Option<String>,
    /// Take bare diffs, and apply them in this directory of the chroot
    #[arg(long, value_name = "DIR", requires = "step")]
    pub(in crate::cli) into: Option<String>,
    /// Take so many names off the paths in a bare diff
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "into")]
    pub(in crate::cli) strip: u32,
    /// Do this after a bare diff is applied; may be repeated
    #[arg(long, value_name = "COMMAND", requires = "into")]
    pub(in crate::cli) step: Vec<String>,
    /// Show what they say and what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) common: Common,
}

/// How commands are run, what they change is found, and a patch is made of it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Common {
    /// Compare two scans of the chroot, although an overlay would do
    #[arg(long)]
    pub(in crate::cli) scan: bool,
    /// Record programs too that need a library which is not there
    #[arg(long)]
    pub(in crate::cli) allow_unmet: bool,
    #[command(flatten)]
    pub(in crate::cli) make: Make,
    #[command(flatten)]
    pub(in crate::cli) session: Session,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}
