// SPDX-License-Identifier: ISC
//! What runs inside a root, and the last steps before it does: the same on both systems.

use std::ffi::{CStr, CString, c_char};
use std::io;

use super::platform;

/// A program to run inside a root, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// What to execute; without a slash it is looked for along the `PATH` in `env`.
    pub program: CString,
    /// Its arguments, its own name first.
    pub argv: Vec<CString>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<CString>,
    /// Where it starts; `/` where that cannot be entered.
    pub dir: CString,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

/// How a guest ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
    /// By SIGINT that was typed at the terminal that it shares with us.
    Interrupted,
    /// It never ran: execve(2) failed so.
    NotRun(io::Error),
}

/// Entering failed before the guest could run.
#[derive(Debug)]
pub struct Stuck {
    /// The system call.
    pub operation: &'static str,
    /// What it acted on: a path inside the root without leading slash; empty for the root itself.
    pub place: &'static str,
    /// Why.
    pub error: io::Error,
}

impl Stuck {
    pub(super) fn new(operation: &'static str, place: &'static str) -> impl FnOnce(rustix::io::Errno) -> Stuck {
        move |errno| Stuck { operation, place, error: errno.into() }
    }
}

/// The guest in the form that execve(2) wants, made before the fork so that nothing is allocated after it.
pub(super) struct Launch<'a> {
    guest: &'a Guest,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

impl<'a> Launch<'a> {
    pub(super) fn new(guest: &'a Guest) -> Launch<'a> {
        let list =
            |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const _>>();
        Launch { guest, argv: list(&guest.argv), env: list(&guest.env) }
    }

    /// Turns this process, which is inside the root already, into the guest. Returns only if that fails; allocates
    /// nothing, so that it may follow a fork.
    pub(super) fn exec(&self) -> Stuck {
        if let Err(stuck) = platform::set_credentials(self.guest) {
            return stuck;
        }
        let enter = |dir: &CStr| rustix::process::chdir(dir);
        if let Err(errno) = enter(&self.guest.dir).or_else(|_| enter(c"/")) {
            return Stuck::new("chdir", "")(errno);
        }
        // SAFETY: one thread; both lists end with a null pointer, and their strings live as long as `guest`.
        // `execvp` takes the search path from `environ`.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            environ = self.env.as_ptr();
            libc::execvp(self.guest.program.as_ptr(), self.argv.as_ptr());
        }
        Stuck { operation: EXEC, place: "", error: io::Error::last_os_error() }
    }
}

/// Ends this process by SIGINT, so that a shell script that waits for it ends too; returns if SIGINT is handled or
/// ignored here.
pub fn die_interrupted() {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
}

/// The operation that tells "the command could not be executed" from trouble with the root.
pub(super) const EXEC: &str = "execve";
