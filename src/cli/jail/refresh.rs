// SPDX-License-Identifier: ISC
//! `stockade build --jails`: every jail follows the host, one after the other.
#![forbid(unsafe_code)]

use crate::chroot::Home;
use crate::chroot::build::Request;
use crate::chroot::closure::stale;
use crate::cli::args::Build;
use crate::cli::out::{Out, report_of};
use crate::cli::{Exit, build};
use crate::error::{ErrorKind, Result};

/// One that cannot be brought up to date stays as it was, and keeps nobody from the others. 2 if there is such a one.
pub(in crate::cli) fn run(home: &Home, args: &Build, out: &mut Out) -> Result<Exit> {
    let mut exit = Exit::Done;
    for root in stale::jails(home)? {
        let request = Request {
            name: root.clone().into_os_string(),
            yes: args.yes,
            dry_run: args.dry_run,
            wait: !args.lock.no_wait,
            ..Request::default()
        };
        match build::carry_out(home, &request, args.quiet, out) {
            Ok(Exit::Done) => {}
            Ok(_) => exit = Exit::Differs,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                exit = Exit::Differs;
                report_of("build", root.as_os_str(), &error, out.json);
            }
        }
    }
    Ok(exit)
}
