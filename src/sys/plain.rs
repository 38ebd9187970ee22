// SPDX-License-Identifier: ISC
//! Entering a root by chroot(2) alone. There are no namespaces: the guest is a plain child, and what it leaves running
//! goes on.

use std::io;
use std::mem::MaybeUninit;

use libc::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use super::guest::{EXEC, Ended, Guest, Launch, Stuck};
use super::{Dir, Held, platform};

/// Runs `guest` in `root` and waits for its end. `locks` are kept until then.
///
/// # Errors
/// The step that failed.
pub fn enter_plain(root: &Dir, guest: &Guest, locks: Vec<Held>) -> Result<Ended, Stuck> {
    let launch = Launch::new(guest);
    let (reports, give_reports) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(at("pipe"))?;
    let waiting = Waiting::begin();
    // SAFETY: the child allocates nothing before it executes or exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(reports);
        drop(waiting);
        let failed = match platform::take_class(guest).and_then(|()| inside(root)) {
            Ok(()) => launch.exec(),
            Err(failed) => failed,
        };
        let errno = failed.error.raw_os_error().unwrap_or(0);
        let step = STEPS.iter().position(|s| *s == failed.operation).map_or(u8::MAX, |s| s as u8);
        let e = errno.to_le_bytes();
        let _ = rustix::io::write(&give_reports, &[step, e[0], e[1], e[2], e[3]]);
        // SAFETY: does not return and touches no memory.
        unsafe { libc::_exit(127) }
    }
    let Some(pid) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else {
        return Err(Stuck { operation: "fork", place: "", mount: None, error: io::Error::last_os_error() });
    };
    drop(give_reports);
    let ended = waiting.wait(pid)?;
    drop(locks);
    let mut report = [0_u8; 5];
    match rustix::io::read(&reports, &mut report[..]) {
        Ok(5) => {
            let error = io::Error::from_raw_os_error(i32::from_le_bytes([report[1], report[2], report[3], report[4]]));
            match STEPS.get(usize::from(report[0])).copied() {
                Some(EXEC) => Ok(Ended::NotRun(error)),
                step => Err(Stuck { operation: step.unwrap_or("enter"), place: "", mount: None, error }),
            }
        }
        _ => Ok(ended),
    }
}

/// What can fail after the fork.
const STEPS: &[&str] = &[
    EXEC,
    "chroot",
    "close_range",
    "setgroups",
    "setresgid",
    "setresuid",
    "chdir",
    "getcwd",
    "login_getclass",
    "setusercontext",
    "setlogin",
];

fn at(operation: &'static str) -> impl FnOnce(Errno) -> Stuck {
    Stuck::new(operation, "")
}

fn inside(root: &Dir) -> Result<(), Stuck> {
    rustix::process::fchdir(root)
        .and_then(|()| rustix::process::chroot(c"."))
        .and_then(|()| rustix::process::chdir(c"/"))
        .map_err(at("chroot"))?;
    platform::mark_inherited().map_err(at("close_range"))
}

/// What is passed on to the guest.
const PASSED: [i32; 4] = [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];
/// What the terminal sends to the guest itself.
const TYPED: [i32; 2] = [SIGINT, SIGQUIT];

/// Signals as a caller that waits has them; as they were when dropped.
struct Waiting {
    mask: libc::sigset_t,
    waited: libc::sigset_t,
    typed: [libc::sighandler_t; 2],
    child: libc::sighandler_t,
}

/// SIGCHLD is only told to who handles it.
extern "C" fn heard(_: libc::c_int) {}

impl Waiting {
    fn begin() -> Waiting {
        let mut waited = MaybeUninit::uninit();
        let mut mask = MaybeUninit::uninit();
        // SAFETY: both sets are filled by the calls before they are read; the handlers run no code of ours that could
        // touch anything.
        unsafe {
            libc::sigemptyset(waited.as_mut_ptr());
            for signal in PASSED.into_iter().chain([SIGCHLD]) {
                libc::sigaddset(waited.as_mut_ptr(), signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, waited.as_ptr(), mask.as_mut_ptr());
            let typed = TYPED.map(|signal| libc::signal(signal, libc::SIG_IGN));
            let child = libc::signal(SIGCHLD, heard as extern "C" fn(libc::c_int) as libc::sighandler_t);
            Waiting { mask: mask.assume_init(), waited: waited.assume_init(), typed, child }
        }
    }

    /// Waits as a shell does: when the guest is stopped, we stop too.
    fn wait(&self, pid: Pid) -> Result<Ended, Stuck> {
        loop {
            match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED | WaitOptions::NOHANG) {
                Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
                    (Some(status), _) => return Ok(Ended::Exited(status as u8)),
                    (_, Some(signal)) => return Ok(Ended::Killed(signal as u8)),
                    // SAFETY: no memory is involved.
                    _ => drop(unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) }),
                },
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(at("waitpid")(errno)),
            }
            let mut signal = 0;
            // SAFETY: `waited` is a set, `signal` has room for one.
            unsafe {
                libc::sigwait(&raw const self.waited, &raw mut signal);
                if PASSED.contains(&signal) {
                    libc::kill(pid.as_raw_pid(), signal);
                }
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // SAFETY: handlers and mask are those that were there.
        unsafe {
            for (signal, handler) in TYPED.into_iter().zip(self.typed) {
                libc::signal(signal, handler);
            }
            libc::signal(SIGCHLD, self.child);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut());
        }
    }
}
