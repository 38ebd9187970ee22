// SPDX-License-Identifier: ISC
//! `stockade run`: a command or a login shell inside.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::chroot::{Chroot, Home, Locking};
use crate::cli::args::{Inside, Run};
use crate::cli::{Exit, out};
use crate::error::Result;
use crate::session::{self, Command, Status};

pub(super) fn run(args: &Run) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: !args.lock.no_wait, verb: "run" };
    let chroot = Chroot::open(&home, args.root.as_os_str(), locking)?;
    let environment = chroot.recipe()?.environment_of(args.user.as_deref().unwrap_or("root"));
    let command = Command { argv: argv(&args.command), user: args.user.clone(), environment };
    let Chroot { place, lock, .. } = chroot;
    let status = session::run(&place.root, &command, Some(lock))?;
    if let Status::NotRun(error) = &status {
        out::report("run", error, args.json.json);
    }
    Ok(Exit::Command(status.finish()))
}

/// An action of `build`: the caller holds the lock, and there may be no record yet.
pub(super) fn inside(args: &Inside) -> Result<Exit> {
    let command = Command { argv: argv(&args.command), ..Command::default() };
    match session::run(&args.root, &command, None)? {
        Status::NotRun(error) => Err(error),
        status => Ok(Exit::Command(status.finish())),
    }
}

fn argv(words: &[OsString]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}
