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
    /// Where it starts.
    pub dir: CString,
    /// It starts in `/` where `dir` cannot be entered.
    pub dir_optional: bool,
    /// Its login name (OpenBSD).
    pub login: CString,
    /// Its login class; empty for the default one (OpenBSD).
    pub class: CString,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups; none where they cannot be set: it keeps ours.
    pub groups: Option<Vec<u32>>,
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
    /// It took longer than it may.
    TimedOut,
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
    /// Which of [`super::Terms::mounts`] it was for, if for one.
    pub mount: Option<usize>,
    /// Why.
    pub error: io::Error,
}

impl Stuck {
    pub(super) fn new(operation: &'static str, place: &'static str) -> impl FnOnce(rustix::io::Errno) -> Stuck {
        move |errno| Stuck { operation, place, mount: None, error: errno.into() }
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
        if let Err(stuck) = self.chdir() {
            return stuck;
        }
        // SAFETY: one thread; both lists end with a null pointer, and their strings live as long as `guest`.
        // `execvp` takes the search path from `environ`.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            environ = self.env.as_ptr();
            libc::execvp(self.guest.program.as_ptr(), self.argv.as_ptr());
        }
        Stuck { operation: EXEC, place: "", mount: None, error: io::Error::last_os_error() }
    }

    /// Enters the guest's directory, and makes sure that it lies in the root: a directory outside, that this process
    /// came from or that was left open for it, would be a way out.
    fn chdir(&self) -> Result<(), Stuck> {
        let enter = |dir: &CStr| rustix::process::chdir(dir);
        match enter(&self.guest.dir) {
            Err(_) if self.guest.dir_optional => enter(c"/"),
            entered => entered,
        }
        .map_err(Stuck::new("chdir", ""))?;
        let mut text = [0_u8; libc::PATH_MAX as usize];
        // SAFETY: `text` has room for `len` bytes.
        let path = unsafe { libc::getcwd(text.as_mut_ptr().cast(), text.len()) };
        if path.is_null() {
            let error = io::Error::last_os_error();
            return Err(Stuck { operation: "getcwd", place: "", mount: None, error });
        }
        // The kernel says "(unreachable)/..." of a place that is not below the root.
        if text[0] == b'/' { Ok(()) } else { Err(Stuck::new("getcwd", "")(rustix::io::Errno::NOENT)) }
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

/// Makes the ends of children known to this process, whoever started it: one that ignores SIGCHLD hands that on, and
/// would never hear of them.
pub fn expect_children() {
    // SAFETY: no handler is set, only the default.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}
