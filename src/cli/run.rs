// SPDX-License-Identifier: ISC
//! `stockade run`: a command or a login shell inside.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::chroot::{Chroot, Home, Locking, clone, closure};
use crate::cli::args::{Inside, Run};
use crate::cli::{Exit, options, out, progress};
use crate::error::{ErrorKind, IoContext, Result};
use crate::session::{self, Command, Entry, Options, Outcome, Status, ledger};
use crate::sys::{Calls, Dir};

/// How often, and how soon again, a lock is tried that is not to be waited for.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn run(args: &Run) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: !args.lock.no_wait, verb: "run" };
    let mut chroot = open(&home, args, locking)?;
    let recipe = chroot.recipe()?;
    let writes = !(args.writes.read_only || args.writes.ephemeral || args.writes.keep.is_some());
    if writes && recipe.closure.as_ref().is_some_and(|closure| !closure.clean.is_empty()) {
        drop(chroot);
        closure::before_session(&home, args.root.as_os_str())?;
        chroot = open(&home, args, locking)?;
    }
    let user = args.user.clone().or_else(options::caller);
    if args.user.as_deref() == Some("root") && options::is_bare() {
        out::warn("root inside is root outside: what configures the kernel and the network acts on the host");
    }
    let command = options::command(&args.command, user.as_deref(), &args.session, &recipe)?;
    let mut options = Options {
        read_only: args.writes.read_only,
        ephemeral: args.writes.ephemeral,
        keep: args.writes.keep.is_some(),
        ..options::options(&args.session, &recipe, || chroot.homes())?
    };
    options.mounts.extend(options::sockets(&recipe)?);
    if let Some(name) = &args.writes.keep {
        clone::may_be_called(&home, &chroot, name)?;
    }
    chroot.attach()?;
    let root = chroot.root.try_clone().on("dup", chroot.place.root.as_os_str().as_bytes())?;
    let session = session::prepare(&chroot.place.root, root, &command, &options)?;
    out::limits(session.limits(), args.json.json);
    let ledger = chroot.ledger()?;
    let (line, listed) = ledger::enter(&ledger, &Entry::new(&session, &options))?;
    if !(options.ephemeral || options.keep || options.read_only) {
        chroot.refuse_frozen(&home)?;
    }
    let lock = chroot.lock.try_clone().on("dup", "lock")?;
    let Outcome { status, left, kept } = session.run(vec![lock, listed])?;
    drop(line);
    out::left(&left, args.json.json);
    match (&status, kept, &args.writes.keep) {
        (Status::NotRun(error), ..) => out::report("run", error, args.json.json),
        (_, Some(root), Some(name)) => keep(&home, &Chroot { root, ..chroot }, name, args)?,
        _ => {}
    }
    Ok(Exit::Command(status.finish()))
}

/// Opens the chroot. Another session that begins has it alone while it cleans: that is not worth giving up.
fn open(home: &Home, args: &Run, locking: Locking) -> Result<Chroot> {
    for _ in 0..TRIES {
        match Chroot::open(home, args.root.as_os_str(), locking) {
            Err(error) if error.kind() == ErrorKind::Locked => std::thread::sleep(PAUSE),
            chroot => return chroot,
        }
    }
    Chroot::open(home, args.root.as_os_str(), locking)
}

/// Makes `view`, a chroot as a session left it, a new one.
fn keep(home: &Home, view: &Chroot, name: &OsStr, args: &Run) -> Result<()> {
    let base = view.place.root.clone().into_os_string();
    let request = clone::Request { base, name: name.to_owned(), how: None, dry_run: false, wait: !args.lock.no_wait };
    progress::watched(args.json.json, |watch| clone::clone_of(home, view, &request, watch)).map(drop)
}

/// An action of `build`: the caller holds the lock, and there may be no record yet.
pub(super) fn inside(args: &Inside) -> Result<Exit> {
    let command = Command { argv: options::argv(&args.command), ..Command::default() };
    let root = Dir::open(&args.root, Calls::from_env()).on("open", args.root.as_os_str().as_bytes())?;
    match session::prepare(&args.root, root, &command, &Options::default())?.run(Vec::new())?.status {
        Status::NotRun(error) => Err(error),
        status => Ok(Exit::Command(status.finish())),
    }
}
