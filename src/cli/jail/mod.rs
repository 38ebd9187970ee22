// SPDX-License-Identifier: ISC
//! `stockade jail`: a chroot of a few programs with all that they need.
#![forbid(unsafe_code)]

pub(super) mod args;
pub(super) mod graph;
pub(super) mod prove;
pub(super) mod refresh;
pub(super) mod stale;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::chroot::Home;
use crate::chroot::build::Request;
use crate::cli::out::Out;
use crate::cli::{Exit, build};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{Closure, Purpose};
use crate::select::closure::PROGRAM_DIRS;
use args::{Jail, Who};

pub(super) fn run(args: &Jail, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    if !(args.command.is_empty() || args.trace || args.probe || args.preload) {
        let error = Error::new(ErrorKind::Usage, "a command is run by --trace, --probe or --preload");
        return Err(error.hint("programs of the jail are named before the dashes"));
    }
    if args.hardening {
        return prove::hardening(&home, args, out);
    }
    if args.preload {
        return prove::preload(&home, args, out);
    }
    let mut wanted = closure(args)?;
    if args.trace {
        prove::trace(&home, args, &mut wanted, out)?;
    }
    if args.probe && prove::probe(&home, args, &wanted, out)? == Exit::Differs {
        return Ok(Exit::Differs);
    }
    let request = Request {
        name: args.root.clone().into_os_string(),
        closure: Some(wanted),
        yes: args.yes,
        dry_run: args.dry_run,
        wait: !args.lock.no_wait,
        ..Request::default()
    };
    build::carry_out(&home, &request, false, out)
}

/// What the command line wants.
fn closure(args: &Jail) -> Result<Closure> {
    let wanted = Closure {
        programs: args.programs.iter().map(|name| program(name)).collect::<Result<_>>()?,
        paths: args.paths.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
        packages: args.packages.clone(),
        with: args.with.clone(),
        without: args.without.clone(),
        users: args.users.clone(),
        keep_setid: args
            .keep_setid
            .iter()
            .map(|path| TreePath::lenient(absolute(path)?.as_bytes()))
            .collect::<Result<_>>()?,
        sockets: args.sockets.iter().map(|path| socket(path)).collect::<Result<_>>()?,
        host_nss: args.host_nss,
        purpose: args.purpose.map(|who| match who {
            Who::Sshd => Purpose::Sshd,
            Who::Systemd => Purpose::Systemd,
            Who::Httpd => Purpose::Httpd,
        }),
        ..Closure::default()
    };
    Ok(wanted)
}

/// The absolute path of a program: as it stands if it has a slash, else where programs are.
fn program(name: &OsStr) -> Result<String> {
    if name.as_bytes().contains(&b'/') {
        return absolute(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let mut places = PROGRAM_DIRS.iter().map(PathBuf::from).chain(own).map(|dir| dir.join(name));
    let found = places.find(|path| path.is_file());
    let none = || {
        Error::new(ErrorKind::NotFound, "the host has no such program")
            .at(name.as_bytes())
            .hint("install its package on the host, or name its path")
    };
    absolute(&found.ok_or_else(none)?)
}

/// The absolute path of a socket: its server need not run now, but its directory has to be there, for that is what
/// sessions reach.
fn socket(path: &Path) -> Result<String> {
    let text = absolute(path)?;
    let refused =
        |reason: &'static str, hint: &'static str| Err(Error::new(ErrorKind::Refused, reason).at(&text).hint(hint));
    let kind = std::fs::metadata(&text).map(|found| found.file_type());
    let dir = Path::new(&text).parent().filter(|dir| dir.parent().is_some());
    match (kind, dir) {
        (_, None) => {
            refused("all of the root would be shown inside", "let the server listen in a directory of its own")
        }
        (Ok(kind), _) if !kind.is_socket() => refused("it is no socket", "files and directories come with --path"),
        (Err(_), Some(dir)) if !dir.is_dir() => refused("there is no such directory", "start the server first"),
        _ => Ok(text),
    }
}

fn absolute(path: &Path) -> Result<String> {
    let shown = path.as_os_str().as_bytes();
    let path = std::path::absolute(path).on("getcwd", shown)?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::new(ErrorKind::Usage, "a path in a recipe must be UTF-8").at(shown))
}
