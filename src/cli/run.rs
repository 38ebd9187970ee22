// SPDX-License-Identifier: ISC
//! `stockade run`: a command or a login shell inside.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::chroot::{Chroot, Home, Locking};
use crate::cli::args::{Inside, Run};
use crate::cli::{Exit, options, out};
use crate::error::Result;
use crate::session::{self, Command, Entry, Options, Status, ledger};

pub(super) fn run(args: &Run) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: !args.lock.no_wait, verb: "run" };
    let chroot = Chroot::open(&home, args.root.as_os_str(), locking)?;
    let recipe = chroot.recipe()?;
    let mut environment = recipe.environment_of(args.user.as_deref().unwrap_or("root"));
    for word in &args.session.env {
        environment.extend([options::variable(word)?]);
    }
    let dir = args.session.cwd.as_ref().map(|dir| dir.as_bytes().to_vec());
    let command = Command { argv: argv(&args.command), user: args.user.clone(), dir, environment };
    let options = options::options(&args.session, false, || chroot.homes())?;
    let session = session::prepare(&chroot.place.root, &command, &options)?;
    out::limits(session.limits(), args.json.json);
    let ledger = chroot.ledger()?;
    let (line, listed) = ledger::enter(&ledger, &Entry::new(&session, &options))?;
    let (status, left) = session.run(vec![chroot.lock, listed])?;
    drop(line);
    out::left(&left, args.json.json);
    if let Status::NotRun(error) = &status {
        out::report("run", error, args.json.json);
    }
    Ok(Exit::Command(status.finish()))
}

/// An action of `build`: the caller holds the lock, and there may be no record yet.
pub(super) fn inside(args: &Inside) -> Result<Exit> {
    let command = Command { argv: argv(&args.command), ..Command::default() };
    match session::prepare(&args.root, &command, &Options::default())?.run(Vec::new())?.0 {
        Status::NotRun(error) => Err(error),
        status => Ok(Exit::Command(status.finish())),
    }
}

fn argv(words: &[OsString]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}
