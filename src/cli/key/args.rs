// SPDX-License-Identifier: ISC
//! The command line of `stockade key`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::cli::args::Json;
use crate::cli::secret::PassphraseArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct Key {
    #[command(subcommand)]
    pub(in crate::cli) verb: KeyVerb,
}

/// What to do with keys: as signify(1), whose files these are.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeyVerb {
    /// Make a pair of keys: NAME.sec and NAME.pub
    Generate(Generate),
    /// Sign a file
    Sign(Sign),
    /// Verify a signature
    Verify(Verify),
}

impl KeyVerb {
    /// The verb as it is typed.
    pub(in crate::cli) fn name(&self) -> &'static str {
        match self {
            KeyVerb::Generate(_) => "key generate",
            KeyVerb::Sign(_) => "key sign",
            KeyVerb::Verify(_) => "key verify",
        }
    }

    /// Does the caller want JSON?
    pub(in crate::cli) fn json(&self) -> bool {
        match self {
            KeyVerb::Generate(args) => args.json.json,
            KeyVerb::Sign(args) => args.json.json,
            KeyVerb::Verify(args) => args.json.json,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Generate {
    /// The name of both files without their endings; patches are verified by keys named *-patch
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) name: PathBuf,
    /// Lock the secret key with a passphrase
    #[arg(long)]
    pub(in crate::cli) passphrase: bool,
    #[command(flatten)]
    pub(in crate::cli) source: PassphraseArgs,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Sign {
    /// The file to sign
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: PathBuf,
    /// The secret key
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) secret: PathBuf,
    /// Where the signature goes; without it to FILE.sig
    #[arg(short = 'x', long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Put the message behind the signature
    #[arg(short, long)]
    pub(in crate::cli) embed: bool,
    /// Put the signature into the header of a gzip file
    #[arg(short = 'z', long, conflicts_with = "embed", requires = "output")]
    pub(in crate::cli) gzip: bool,
    /// Store 1970 as the date of a gzip signature, so that the same file is signed the same
    #[arg(short = 'n', long, requires = "gzip")]
    pub(in crate::cli) no_date: bool,
    #[command(flatten)]
    pub(in crate::cli) passphrase: PassphraseArgs,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The file; with --embed, --gzip or --check the signed one
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: PathBuf,
    /// The files to compare with a list, without it all that it names
    #[arg(requires = "check", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) files: Vec<OsString>,
    /// The public key
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) public: PathBuf,
    /// Where a detached signature is; without it in FILE.sig
    #[arg(short = 'x', long, value_name = "FILE", conflicts_with_all = ["embed", "gzip", "check"], value_hint = ValueHint::FilePath)]
    pub(in crate::cli) signature: Option<PathBuf>,
    /// Write what was signed there, once it is verified
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) message: Option<PathBuf>,
    /// The file begins with its signature
    #[arg(short, long, conflicts_with_all = ["gzip", "check"])]
    pub(in crate::cli) embed: bool,
    /// The file is a gzip file with a signature in its header
    #[arg(short = 'z', long, conflicts_with = "check")]
    pub(in crate::cli) gzip: bool,
    /// The file is a signed checksum list; compare the files that it names
    #[arg(short = 'C', long, conflicts_with = "message")]
    pub(in crate::cli) check: bool,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}
