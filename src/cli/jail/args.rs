// SPDX-License-Identifier: ISC
//! The command lines of `jail` and of the verbs that explain a jail.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::args::{Json, Lock};

#[derive(Debug, Args)]
pub(in crate::cli) struct Jail {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// Programs of the host, by name or path
    #[arg(value_hint = ValueHint::CommandName)]
    pub(in crate::cli) programs: Vec<OsString>,
    /// Take this file or directory of the host too; may be repeated
    #[arg(long = "path", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// Take every file of this package, and of those it depends on beyond the base; may be repeated
    #[arg(long = "package", value_name = "PACKAGE")]
    pub(in crate::cli) packages: Vec<String>,
    /// Have this account of the host inside; may be repeated
    #[arg(short, long = "user", value_name = "USER", value_hint = ValueHint::Username)]
    pub(in crate::cli) users: Vec<String>,
    /// Apply a policy that applies only where it is named; may be repeated
    #[arg(long, value_name = "POLICY")]
    pub(in crate::cli) with: Vec<String>,
    /// Do not apply a policy; may be repeated
    #[arg(long, value_name = "POLICY")]
    pub(in crate::cli) without: Vec<String>,
    /// Take set-id bits and capabilities off all programs that are not kept by name; this is the default
    #[arg(long)]
    pub(in crate::cli) strip_setid: bool,
    /// Let this program keep its set-id bits and capabilities; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) keep_setid: Vec<PathBuf>,
    /// Put this socket of the host within reach; may be repeated
    #[arg(long = "socket", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) sockets: Vec<PathBuf>,
    /// Look names up as the host does, with its nsswitch.conf and the modules that it names
    #[arg(long)]
    pub(in crate::cli) host_nss: bool,
    /// Who makes the jail a root by itself: its rules are kept
    #[arg(long = "for", value_enum, value_name = "WHO")]
    pub(in crate::cli) purpose: Option<Who>,
    /// Run the command on the host first, and take what it opens too
    #[arg(long, requires = "command")]
    pub(in crate::cli) trace: bool,
    /// Run the command in the jail, and keep the jail that there is if that fails
    #[arg(long, requires = "command", conflicts_with_all = ["trace", "dry_run"])]
    pub(in crate::cli) probe: bool,
    /// Run the command on the host, and print how to start it with the libraries that it loads late; make nothing
    #[arg(long, requires = "command", conflicts_with_all = ["trace", "probe"])]
    pub(in crate::cli) preload: bool,
    /// Print a fragment of a systemd unit for a service in the jail; make nothing
    #[arg(long, conflicts_with_all = ["trace", "probe", "preload", "programs"])]
    pub(in crate::cli) hardening: bool,
    /// Go on although many entries would be removed
    #[arg(short = 'y', long)]
    pub(in crate::cli) yes: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
    /// The command of --trace, --probe or --preload, and its arguments
    #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
    pub(in crate::cli) command: Vec<OsString>,
}

/// Who makes a jail its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Who {
    Sshd,
    Systemd,
    Httpd,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Graph {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath, required_unless_present = "all", conflicts_with = "all")]
    pub(in crate::cli) root: Option<PathBuf>,
    /// Read every file, instead of those whose stamps do not prove them unchanged
    #[arg(long)]
    pub(in crate::cli) hash: bool,
    /// Show what differs from the host of now instead, of a jail
    #[arg(long, conflicts_with = "hash")]
    pub(in crate::cli) host: bool,
    /// Show what helps whoever breaks in instead: set-id programs, what can be written to, secrets, links to nothing
    #[arg(long, conflicts_with_all = ["hash", "host", "all"])]
    pub(in crate::cli) lint: bool,
    /// All jails, instead of one
    #[arg(long, requires = "host")]
    pub(in crate::cli) all: bool,
    /// Say nothing of jails that are as the host has them
    #[arg(short, long, requires = "host")]
    pub(in crate::cli) quiet: bool,
    #[command(flatten)]
    pub(in crate::cli) lock: Lock,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Why {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(in crate::cli) root: PathBuf,
    /// The path inside
    #[arg(required_unless_present_any = ["unused", "sizes"], conflicts_with_all = ["unused", "sizes"])]
    pub(in crate::cli) path: Option<OsString>,
    /// List what no program of a jail needs
    #[arg(long, conflicts_with = "sizes")]
    pub(in crate::cli) unused: bool,
    /// List how many bytes of a jail are there for each reason
    #[arg(long)]
    pub(in crate::cli) sizes: bool,
    #[command(flatten)]
    pub(in crate::cli) json: Json,
}
