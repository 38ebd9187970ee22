// SPDX-License-Identifier: ISC
//! Sessions: running things inside a chroot.
//!
//! [`run`] turns what the user asked for into a [`Guest`]: the account out of the chroot's own files, a clean
//! environment, a program. The system then enters ([`sys::enter`]); nothing of a session outlives it.
#![forbid(unsafe_code)]

mod account;
mod occupants;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Calls, Dir, Ended, FileType, Guest, Held, Stuck};

use account::Account;
pub use occupants::{occupants, refuse_occupied};

/// What to run in a chroot, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The command and its arguments; empty for the user's login shell.
    pub argv: Vec<Vec<u8>>,
    /// Name or number of an account in the chroot's own `etc/passwd`; none for root.
    pub user: Option<String>,
    /// Variables of the recipe, in the place of those that login(1) sets.
    pub environment: BTreeMap<String, String>,
}

/// How the command ended.
#[derive(Debug)]
pub enum Status {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
    /// By Ctrl-C.
    Interrupted,
    /// It could not be executed, for this reason.
    NotRun(Error),
}

impl Status {
    /// The exit status that a shell would give: 128 + N for signal N, 127 for a command that is not there, 126 for one
    /// that cannot be executed.
    pub fn code(&self) -> u8 {
        match self {
            Status::Exited(status) => *status,
            Status::Killed(signal) => 128 | signal,
            Status::Interrupted => 128 + 2,
            Status::NotRun(error) if error.kind() == ErrorKind::NotFound => 127,
            Status::NotRun(_) => 126,
        }
    }

    /// For the very end of the program: [`Status::code`], but after Ctrl-C this process dies of SIGINT like the command.
    /// A shell shows the same status, and ends its loop only then.
    pub fn finish(&self) -> u8 {
        if matches!(self, Status::Interrupted) {
            sys::die_interrupted();
        }
        self.code()
    }
}

/// Runs `command` in the chroot `root` and waits for it. Whatever it leaves running ends with it.
///
/// `hold` is the chroot's lock, taken shared (decision E13): the first process inside keeps it too.
/// Call it from the main thread, before any other thread starts (decision S1).
///
/// # Errors
/// The account is not there, the chroot is not fit to be entered, or a step of entering failed; a command that cannot
/// be executed is [`Status::NotRun`] instead.
pub fn run(root: &Path, command: &Command, hold: Option<Held>) -> Result<Status> {
    if sys::effective_uid() != 0 {
        let error = Error::new(ErrorKind::Unsupported, "only root can enter a chroot").at(root.as_os_str().as_bytes());
        return Err(error.hint("run it with sudo or doas"));
    }
    let dir = Dir::open(root, Calls::from_env()).on("open", root.as_os_str().as_bytes())?;
    fit(root, &dir)?;
    let account = account::find(&dir, command.user.as_deref())?;
    let guest = guest(&account, command)?;
    match sys::enter(&dir, &guest, hold) {
        Ok(Ended::Exited(status)) => Ok(Status::Exited(status)),
        Ok(Ended::Killed(signal)) => Ok(Status::Killed(signal)),
        Ok(Ended::Interrupted) => Ok(Status::Interrupted),
        Ok(Ended::NotRun(error)) => Ok(Status::NotRun(not_run(&guest, &error))),
        Err(stuck) => Err(explain(root, &stuck)),
    }
}

/// Are the places there that a session needs? It makes none itself: what is not in the recipe does not appear.
fn fit(root: &Path, dir: &Dir) -> Result<()> {
    for &name in sys::MOUNT_POINTS {
        let path = within(root, name.as_bytes());
        match dir.find(name.as_bytes()).on("stat", &path)?.map(|s| s.kind) {
            Some(FileType::Dir) => {}
            None => {
                let error = Error::new(ErrorKind::NotFound, "the chroot has no such directory").at(&path);
                return Err(error.hint(format!("mkdir {}", escape(&path))));
            }
            Some(FileType::Symlink) => {
                let reason = "is a symlink; a session mounts here and follows none";
                return Err(Error::new(ErrorKind::Refused, reason).at(&path));
            }
            Some(_) => return Err(Error::new(ErrorKind::Refused, "is not a directory").at(&path)),
        }
    }
    Ok(())
}

fn guest(account: &Account, command: &Command) -> Result<Guest> {
    let shell = account.shell();
    let (program, argv) = match command.argv.as_slice() {
        // A dash in front of its name makes a shell a login shell.
        [] => (shell, vec![[b"-", shell.rsplit(|&b| b == b'/').next().unwrap_or(shell)].concat()]),
        [program, ..] => (program.as_slice(), command.argv.clone()),
    };
    Ok(Guest {
        program: text(program.to_vec())?,
        argv: argv.into_iter().map(text).collect::<Result<_>>()?,
        env: environment(account, &command.environment).into_iter().map(text).collect::<Result<_>>()?,
        dir: text(account.home.clone())?,
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    })
}

/// The whole environment of a guest: what login(1) sets, the caller's TERM, and the recipe's variables over them.
fn environment(account: &Account, recipe: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    let path = sys::SEARCH_PATH[usize::from(account.uid != 0)];
    let term = std::env::var_os("TERM").map(OsStringExt::into_vec);
    let mut set: BTreeMap<&str, &[u8]> = BTreeMap::from([
        ("HOME", account.home.as_slice()),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", account.shell()),
        ("PATH", path.as_bytes()),
    ]);
    set.extend(term.as_deref().map(|term| ("TERM", term)));
    set.extend(recipe.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    set.into_iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat()).collect()
}

fn text(bytes: Vec<u8>) -> Result<CString> {
    CString::new(bytes).map_err(|e| Error::new(ErrorKind::Usage, "an argument holds a NUL byte").at(e.into_vec()))
}

fn not_run(guest: &Guest, error: &io::Error) -> Error {
    let program = guest.program.as_bytes();
    if error.kind() == io::ErrorKind::NotFound {
        // The kernel says the same when the program is there and its interpreter is not.
        let reason = if program.contains(&b'/') {
            "no such program, or no interpreter for it, in the chroot"
        } else {
            "command not found in the chroot"
        };
        return Error::new(ErrorKind::NotFound, reason).at(program);
    }
    Error::io("execve", program, error)
}

fn explain(root: &Path, stuck: &Stuck) -> Error {
    let error = Error::io(stuck.operation, within(root, stuck.place.as_bytes()), &stuck.error);
    match (stuck.operation, stuck.error.kind()) {
        ("clone", io::ErrorKind::PermissionDenied) => {
            error.hint("making namespaces is forbidden here; in a container, start it with CAP_SYS_ADMIN")
        }
        ("open_tree" | "mount_setattr", io::ErrorKind::Unsupported) => error.hint("sessions need Linux 5.12 or newer"),
        _ => error,
    }
}

fn within(root: &Path, name: &[u8]) -> Vec<u8> {
    root.join(std::ffi::OsStr::from_bytes(name)).into_os_string().into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_decides_over_login() {
        let recipe = [("PATH", "/opt"), ("LANG", "C"), ("TERM", "dumb")];
        let recipe = recipe.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let root = account::find(&Dir::open(Path::new("/"), Calls::Native).unwrap(), Some("0")).unwrap();
        let set: Vec<String> =
            environment(&root, &recipe).into_iter().map(|var| String::from_utf8(var).unwrap()).collect();
        assert_eq!(set[..4], ["HOME=/root", "LANG=C", "LOGNAME=root", "PATH=/opt"]);
        assert!(set.contains(&"TERM=dumb".to_owned()) && set.len() == 7, "{set:?}");
    }
}
