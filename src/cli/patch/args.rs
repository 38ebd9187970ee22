// SPDX-License-Identifier: ISC
//! The command line of `stockade patch`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::cli::args::Json;
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
    /// Show what a patch changes
    Show(Show),
    /// Verify who signed a patch, and that all of it is there
    Verify(Verify),
}

impl PatchVerb {
    /// The verb as it is typed.
    pub(in crate::cli) fn name(&self) -> &'static str {
        match self {
            PatchVerb::Show(_) => "patch show",
            PatchVerb::Verify(_) => "patch verify",
        }
    }

    /// Does the caller want JSON?
    pub(in crate::cli) fn json(&self) -> bool {
        match self {
            PatchVerb::Show(args) => args.json.json,
            PatchVerb::Verify(args) => args.json.json,
        }
    }

    /// Does it touch roots, whose files are of several owners?
    pub(in crate::cli) fn needs_root(&self) -> bool {
        match self {
            PatchVerb::Show(_) | PatchVerb::Verify(_) => false,
        }
    }
}

/// Whose patches are taken.
#[derive(Debug, Args)]
pub(in crate::cli) struct TrustArgs {
    /// Trust this public key, instead of those in /etc/signify; may be repeated
    #[arg(long = "key", value_name = "FILE", value_hint = ValueHint::FilePath)]
    keys: Vec<PathBuf>,
    /// Take a patch that nobody signed, or that somebody else did
    #[arg(long, conflicts_with = "keys")]
    unsigned: bool,
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

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The patch; `-` reads standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) trust: TrustArgs,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The patch; `-` reads standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) trust: TrustArgs,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}
