// SPDX-License-Identifier: ISC
//! The command line. Help text is here; stockade(1) says the same at length, and a test compares the two.
#![forbid(unsafe_code)]

mod record;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub(super) use record::{Common, Errata, Record};

use super::jail::args::{Check, Graph, Jail, Why};
use super::key::args::Key;
use super::patch::args::Patch;

/// Builds chroots, keeps them true to a recipe and runs things in them.
#[derive(Debug, Parser)]
#[command(name = "stockade", bin_name = "stockade", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a chroot, or bring it up to date with its recipe
    Build(Build),
    /// Make a chroot of a few programs of the host with all that they need
    Jail(Jail),
    /// Show what differs from what was built
    Check(Check),
    /// Run a login shell or a command in a chroot
    Run(Run),
    /// Run a command in a chroot, and say exactly what it changed
    Record(Record),
    /// Build source patches in a chroot, and make binary patches of them
    Errata(Errata),
    /// List the sessions, or end some
    Sessions(Sessions),
    /// Make a chroot like another one
    Clone(Clone),
    /// Take a chroot back to what was built
    Reset(Reset),
    /// Copy files out of a chroot or into one
    Copy(Copy),
    /// Remove a chroot
    Remove(Change),
    /// List the chroots
    List(List),
    /// Say which source, package or step brought a path
    Why(Why),
    /// Print which path of a jail needs which, as a graph for dot(1)
    Graph(Graph),
    /// Print the manifest of a chroot
    Manifest(Manifest),
    /// Look for what will not work, with the command that mends it
    Doctor(Doctor),
    /// Finish or undo what an interrupted command began
    Recover(Rooted),
    /// Record a directory that Stockade did not make, or that was moved
    Adopt(Change),
    /// Make keys, sign and verify, as signify does
    Key(Key),
    /// Make patches, and look into them
    Patch(Patch),
    /// Print the JSON schema of recipes
    Schema,
    /// Print a completion script
    Completions(Completions),
    /// Run a step of `build` in a root that is not finished; `build` calls this itself
    #[command(hide = true)]
    Inside(Inside),
    /// Write what is at a URL to standard output; `patch sync` calls this itself
    #[command(hide = true)]
    Fetch(Fetch),
}

impl Verb {
    /// The verb as it is typed.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Verb::Build(_) => "build",
            Verb::Jail(_) => "jail",
            Verb::Graph(_) => "graph",
            Verb::Check(_) => "check",
            Verb::Run(_) => "run",
            Verb::Record(_) => "record",
            Verb::Errata(_) => "errata",
            Verb::Sessions(_) => "sessions",
            Verb::Clone(_) => "clone",
            Verb::Reset(_) => "reset",
            Verb::Copy(_) => "copy",
            Verb::Remove(_) => "remove",
            Verb::List(_) => "list",
            Verb::Why(_) => "why",
            Verb::Manifest(_) => "manifest",
            Verb::Doctor(_) => "doctor",
            Verb::Recover(_) => "recover",
            Verb::Adopt(_) => "adopt",
            Verb::Key(args) => args.verb.name(),
            Verb::Patch(args) => args.verb.name(),
            Verb::Schema => "schema",
            Verb::Completions(_) => "completions",
            Verb::Inside(_) => "inside",
            Verb::Fetch(_) => "fetch",
        }
    }

    /// Does the caller want JSON?
    pub(super) fn json(&self) -> bool {
        match self {
            Verb::Build(args) => args.json.json,
            Verb::Jail(args) => args.json.json,
            Verb::Graph(args) => args.json.json,
            Verb::Check(args) => args.json.json,
            Verb::Run(args) => args.json.json,
            Verb::Record(args) => args.common.json.json,
            Verb::Errata(args) => args.common.json.json,
            Verb::Sessions(args) => args.json.json,
            Verb::Clone(args) => args.json.json,
            Verb::Reset(args) => args.json.json,
            Verb::Copy(args) => args.json.json,
            Verb::Remove(args) | Verb::Adopt(args) => args.json.json,
            Verb::List(args) => args.json.json,
            Verb::Why(args) => args.json.json,
            Verb::Manifest(args) => args.json.json,
            Verb::Doctor(args) => args.json.json,
            Verb::Recover(args) => args.json.json,
            Verb::Key(args) => args.verb.json(),
            Verb::Patch(args) => args.verb.json(),
            Verb::Schema | Verb::Completions(_) | Verb::Inside(_) | Verb::Fetch(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Json {
    /// Print JSON, errors too
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Lock {
    /// Fail at once if another command works on the chroot, instead of waiting for it
    #[arg(long)]
    pub(super) no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Look at every entry, and say what each chroot takes on the disk
    #[arg(short, long)]
    pub(super) disk: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Rooted {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Change {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: Option<PathBuf>,
    /// Build what this configuration of proot says
    #[arg(long, value_name = "FILE", conflicts_with = "file", value_hint = ValueHint::FilePath)]
    pub(super) proot: Option<PathBuf>,
    /// Print the recipe that the configuration of proot amounts to, and do nothing
    #[arg(long, requires = "proot")]
    pub(super) print_recipe: bool,
    /// The recipe: a file, `host` or `sets`; without it the one that the chroot was built with
    #[arg(short = 'f', long = "file", value_name = "RECIPE", value_hint = ValueHint::FilePath)]
    pub(super) file: Option<String>,
    /// Lay this archive over the recipe's sources, or take its release sets from this directory; may be repeated
    #[arg(long, value_name = "ARCHIVE", value_hint = ValueHint::FilePath)]
    pub(super) from: Vec<PathBuf>,
    /// Add this package of the host, with what it depends on; may be repeated
    #[arg(long = "package", value_name = "PACKAGE")]
    pub(super) packages: Vec<String>,
    /// The checksum list that names the archives of --from
    #[arg(long, value_name = "FILE", requires = "from", value_hint = ValueHint::FilePath)]
    pub(super) list: Option<PathBuf>,
    /// The signify public key that the list, or the list of the release sets, is signed with
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) key: Option<PathBuf>,
    /// Trust the recipe's release sets without a signature
    #[arg(long, conflicts_with = "key")]
    pub(super) unsigned: bool,
    /// Take over a directory that is not empty; nothing in it is removed
    #[arg(long)]
    pub(super) adopt: bool,
    /// Go on although many entries would be removed
    #[arg(short = 'y', long)]
    pub(super) yes: bool,
    /// Make the change to a copy and exchange it with the chroot, which nobody may be in
    #[arg(long)]
    pub(super) swap: bool,
    /// Bring every jail up to date with the host, instead of one chroot
    #[arg(long, conflicts_with_all = ["root", "proot", "file", "from", "packages", "unsigned", "adopt", "swap"])]
    pub(super) jails: bool,
    /// Say nothing of what is up to date
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    /// The account of the chroot to run as; without it root
    #[arg(short, long, value_name = "USER", value_hint = ValueHint::Username)]
    pub(super) user: Option<String>,
    #[command(flatten)]
    pub(super) writes: Writes,
    #[command(flatten)]
    pub(super) session: Session,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
    /// The command and its arguments; a login shell without it
    #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

/// What becomes of what a session writes.
#[derive(Debug, Args)]
pub(super) struct Writes {
    /// The command cannot write to the chroot
    #[arg(long, conflicts_with = "ephemeral")]
    pub(super) read_only: bool,
    /// What the command writes to the chroot is gone when it ends
    #[arg(long)]
    pub(super) ephemeral: bool,
    /// As --ephemeral, and make what was written a new chroot of this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["read_only", "plain"], value_hint = ValueHint::DirPath)]
    pub(super) keep: Option<OsString>,
}

/// What a session is like.
#[derive(Debug, Args)]
pub(super) struct Session {
    /// Start in this directory of the chroot, not in the account's home
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<OsString>,
    /// Set a variable, over what the recipe says; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// Show a path of the host inside, read-only with `:ro`; may be repeated
    #[arg(long, value_name = "SRC[:DST][:ro]", value_hint = ValueHint::AnyPath)]
    pub(super) bind: Vec<OsString>,
    /// Mount an empty filesystem in memory there; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(super) tmpfs: Vec<OsString>,
    /// The home that the account finds: the chroot's own, one kept beside the chroot, or the host's
    #[arg(long, value_enum, default_value_t = HomeArg::None)]
    pub(super) home: HomeArg,
    /// The network: the host's, or none but loopback; without it as the recipe says
    #[arg(long, value_enum)]
    pub(super) net: Option<NetArg>,
    /// The host name inside
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// Limit the memory of the session: bytes, or with K, M, G or T
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// Limit the processors of the session: 2, or 0.5
    #[arg(long, value_name = "NUMBER")]
    pub(super) cpus: Option<String>,
    /// Limit the processes of the session
    #[arg(long, value_name = "NUMBER")]
    pub(super) pids: Option<u32>,
    /// End the session after this time: seconds, or with s, m, h or d
    #[arg(long, value_name = "TIME")]
    pub(super) timeout: Option<String>,
    /// Let set-id programs work
    #[arg(long)]
    pub(super) setuid: bool,
    /// Namespaces, but all capabilities and system calls
    #[arg(long, conflicts_with_all = ["setuid", "plain"])]
    pub(super) no_confine: bool,
    /// chroot(2) and nothing else
    #[arg(long, conflicts_with = "setuid")]
    pub(super) plain: bool,
}

/// Whose home it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HomeArg {
    None,
    Private,
    Host,
}

/// Which network there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetArg {
    Host,
    None,
}

#[derive(Debug, Args)]
pub(super) struct Sessions {
    #[command(subcommand)]
    pub(super) verb: Option<SessionsVerb>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionsVerb {
    /// End a session, or all in a chroot, and wait for that
    End {
        /// The number of a session, or a chroot
        which: OsString,
    },
}

#[derive(Debug, Args)]
pub(super) struct Clone {
    /// The chroot to clone: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    /// The clone to make: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) new: PathBuf,
    /// How it comes to its contents
    #[arg(long, value_enum, default_value_t = How::Auto)]
    pub(super) how: How,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
}

/// How a clone is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum How {
    Auto,
    Reflink,
    Overlay,
    Link,
    Copy,
}

#[derive(Debug, Args)]
pub(super) struct Reset {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    /// Go on although many entries would be removed
    #[arg(short = 'y', long)]
    pub(super) yes: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Copy {
    /// What to copy: ROOT:PATH, or a path of the host
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(super) from: PathBuf,
    /// Where to, a directory or a new name: a path of the host, or ROOT:PATH
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(super) to: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) lock: Lock,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Manifest {
    /// The chroot: a directory, or a name below the stockade home
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    /// The dialect: ours, or only what every mtree(8) reads
    #[arg(long, value_enum, default_value_t = Format::Stockade)]
    pub(super) format: Format,
    #[command(flatten)]
    pub(super) json: Json,
}

/// The dialect of a printed manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Stockade,
    Mtree,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The chroot to look at; without it the machine alone
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) root: Option<PathBuf>,
    /// Have apt say what a change of packages did to patches and jails
    #[arg(long, conflicts_with = "remove_hooks")]
    pub(super) install_hooks: bool,
    /// Have apt bring the jails up to date, instead of only naming those that are not
    #[arg(long, requires = "install_hooks")]
    pub(super) refresh_jails: bool,
    /// Remove what --install-hooks wrote
    #[arg(long)]
    pub(super) remove_hooks: bool,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Inside {
    pub(super) root: PathBuf,
    #[arg(last = true, required = true)]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Fetch {
    pub(super) url: String,
    pub(super) seconds: u64,
    pub(super) start: u64,
}

/// The shells that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Fish,
    Ksh,
    Zsh,
}
