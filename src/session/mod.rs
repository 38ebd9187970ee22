// SPDX-License-Identifier: ISC
//! Sessions: running things inside a chroot.
//!
//! [`prepare`] turns what the user asked for into a [`Guest`] (the account out of the chroot's own files, a clean
//! environment, a program) and the [`Terms`] that it is held to. The system then enters ([`sys::enter`]); nothing of a
//! session outlives it.
#![forbid(unsafe_code)]

mod account;
mod explain;
pub mod ledger;
mod limits;
mod occupants;
mod options;
mod rootless;
mod terms;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Calls, Dir, Ended, FileType, Guest, Held, IdMap, Occupant, Terms};

use account::Account;
use explain::within;
pub use ledger::Entry;
use limits::Holding;
pub use limits::{Applied, missing_controllers};
pub use occupants::{occupants, refuse_occupied};
pub use options::{Confine, Extra, HomeDir, Limits, Options};
pub use rootless::{become_root, forbidden, forbidding, lost};

/// What to run in a chroot, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The command and its arguments; empty for the user's login shell.
    pub argv: Vec<Vec<u8>>,
    /// Name or number of an account in the chroot's own `etc/passwd`; none for root.
    pub user: Option<String>,
    /// Where it starts; none for the account's home, or the root where that cannot be entered.
    pub dir: Option<Vec<u8>>,
    /// Variables of the recipe and the user, in the place of those that login(1) sets.
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
    /// By us, when its time was over.
    TimedOut,
    /// It could not be executed, for this reason.
    NotRun(Error),
}

/// The exit status of timeout(1).
const TIMED_OUT: u8 = 124;

impl Status {
    /// The exit status that a shell would give: 128 + N for signal N, 127 for a command that is not there, 126 for one
    /// that cannot be executed; and as timeout(1) has it, 124 if its time was over.
    pub fn code(&self) -> u8 {
        match self {
            Status::Exited(status) => *status,
            Status::Killed(signal) => 128 | signal,
            Status::Interrupted => 128 + 2,
            Status::TimedOut => TIMED_OUT,
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

/// What there is of a session when it has ended.
#[derive(Debug)]
pub struct Outcome {
    /// How its command ended.
    pub status: Status,
    /// What a plain one left running.
    pub left: Vec<Occupant>,
    /// The root with what was written to it in memory, if it was to be kept; it vanishes with this.
    pub kept: Option<Dir>,
}

/// A session that is ready to begin.
#[derive(Debug)]
pub struct Session {
    root: PathBuf,
    dir: Dir,
    guest: Guest,
    terms: Terms,
    plain: bool,
    limits: Holding,
    account: Account,
    keep: bool,
}

/// Prepares to run `command` in the chroot `dir`, which is shown as `root`: everything that can be known before is looked
/// at here. Another directory may have come to that path since the caller looked: it is not entered.
///
/// # Errors
/// The account is not there, the chroot is not fit to be entered, or something that was asked for cannot be had.
pub fn prepare(root: &Path, dir: Dir, command: &Command, options: &Options) -> Result<Session> {
    if sys::effective_uid() != 0 {
        return Err(rootless::forbidden().at(root.as_os_str().as_bytes()));
    }
    let plain = options.confine == Confine::Plain || !sys::HAS_SESSIONS;
    if plain {
        options.refuse_with_plain()?;
    } else {
        fit(root, &dir)?;
        options.refuse_impossible(root, &dir)?;
    }
    let account = account::find(&dir, command.user.as_deref())?;
    let numbers = sys::id_map().on("read", "/proc/self/uid_map")?;
    if !numbers.holds(account.uid, account.gid) {
        let reason = format!("user {} is not among your numbers ({numbers})", account.uid);
        let error = Error::new(ErrorKind::Unsupported, reason).at(root.as_os_str().as_bytes());
        return Err(error.hint("let root add a line for you to /etc/subuid and /etc/subgid, or run it as root"));
    }
    let guest = guest(&account, command, &numbers)?;
    let mut terms = terms::terms(options, &account)?;
    terms.rootless = !numbers.is_everything();
    let mut limits = limits::hold(&options.limits, account.uid)?;
    terms.limits = std::mem::take(&mut limits.limits);
    Ok(Session { root: root.to_owned(), dir, guest, terms, plain, limits, account, keep: options.keep })
}

impl Session {
    /// The limits that will hold.
    pub fn limits(&self) -> &[Applied] {
        &self.limits.applied
    }

    /// Runs it and waits for its end. Whatever the command leaves running ends with it, unless it is a plain one: then
    /// that is told.
    ///
    /// `locks` are the chroot's, taken shared (decision E13), and the session's own: the first process inside keeps them
    /// too. Call it from the main thread, before any other thread starts (decision S1).
    ///
    /// # Errors
    /// A step of entering failed; a command that cannot be executed is [`Status::NotRun`] instead.
    pub fn run(mut self, locks: Vec<Held>) -> Result<Outcome> {
        let keeper = self.keep.then(sys::handover).transpose().on("socketpair", self.root.as_os_str().as_bytes())?;
        let taker = keeper.map(|(giver, taker)| {
            self.terms.keep = Some(giver);
            taker
        });
        let ended = match self.plain {
            true => {
                let before = occupants(&self.root)?;
                let ended = sys::enter_plain(&self.dir, &self.guest, locks);
                let mut left = occupants(&self.root)?;
                left.retain(|one| !before.contains(one));
                ended.map(|ended| (ended, left))
            }
            false => sys::enter(&self.dir, &self.guest, &self.terms, locks).map(|ended| (ended, Vec::new())),
        };
        let (ended, left) = ended.map_err(|stuck| explain::stuck(&self, &stuck))?;
        let status = match ended {
            Ended::Exited(status) => Status::Exited(status),
            Ended::Killed(signal) => Status::Killed(signal),
            Ended::Interrupted => Status::Interrupted,
            Ended::TimedOut => Status::TimedOut,
            Ended::NotRun(error) => Status::NotRun(explain::not_run(&self, &error)),
        };
        let kept = match taker {
            Some(taker) => taker.take(Calls::from_env()).on("recvmsg", self.root.as_os_str().as_bytes())?,
            None => None,
        };
        Ok(Outcome { status, left, kept })
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

fn guest(account: &Account, command: &Command, numbers: &IdMap) -> Result<Guest> {
    let shell = account.shell();
    let mut variables = command.environment.clone();
    if let (true, Some(prompt)) = (command.argv.is_empty(), variables.get("PS1").cloned()) {
        variables.entry("PROMPT_COMMAND".to_owned()).or_insert_with(|| lasting(&prompt));
    }
    let (program, argv) = match command.argv.as_slice() {
        // A dash in front of its name makes a shell a login shell.
        [] => (shell, vec![[b"-", shell.rsplit(|&b| b == b'/').next().unwrap_or(shell)].concat()]),
        [program, ..] => (program.as_slice(), command.argv.clone()),
    };
    Ok(Guest {
        program: text(program.to_vec())?,
        argv: argv.into_iter().map(text).collect::<Result<_>>()?,
        env: environment(account, &variables).into_iter().map(text).collect::<Result<_>>()?,
        dir: text(command.dir.clone().unwrap_or_else(|| account.home.clone()))?,
        dir_optional: command.dir.is_none(),
        login: text(account.name.clone())?,
        class: text(account.class.clone())?,
        uid: account.uid,
        gid: account.gid,
        // Others that are not among the numbers there cannot be had; with one number none can.
        groups: (!numbers.is_single())
            .then(|| account.groups.iter().copied().filter(|&group| numbers.holds(0, group)).collect()),
    })
}

/// The files that a login shell reads at its start set a prompt of theirs. What bash(1) finds in `PROMPT_COMMAND` it does
/// later, before it shows one: this, once, so that the user may still change it.
fn lasting(prompt: &str) -> String {
    format!("PS1='{}'; unset PROMPT_COMMAND", prompt.replace('\'', r"'\''"))
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
