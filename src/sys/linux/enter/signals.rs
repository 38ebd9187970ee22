// SPDX-License-Identifier: ISC
//! Signals read as data: blocked, then taken from a descriptor.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
use rustix::io::Errno;
use rustix::process::Pid;

use super::last_errno;

/// What the caller passes on to the guest.
pub(super) const PASSED: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT, SIGWINCH];
/// What the leader looks at: its children, and what the terminal sends to the guest's group, which the leader is in.
pub(super) const LED: &[i32] = &[SIGCHLD, SIGINT, SIGQUIT, SIGTSTP];

/// The signal mask as it was; restored when dropped.
pub(super) struct Blocked(libc::sigset_t);

/// Blocks all that caller and leader read from descriptors, and SIGTTIN and SIGTTOU, so that both may hand the
/// terminal on from the background.
pub(super) fn block() -> Result<Blocked, Errno> {
    let all = set(PASSED.iter().chain(LED).chain(&[SIGTTIN, SIGTTOU]));
    let mut old = MaybeUninit::uninit();
    // SAFETY: `all` is a set, `old` has room for one and is filled on success.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, old.as_mut_ptr()) } {
        // SAFETY: filled, as said.
        0 => Ok(Blocked(unsafe { old.assume_init() })),
        _ => Err(last_errno()),
    }
}

impl Blocked {
    /// Sets the mask as it was.
    pub(super) fn restore(&self) {
        // SAFETY: the set was filled by sigprocmask.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.restore();
    }
}

fn set<'a>(signals: impl IntoIterator<Item = &'a i32>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set; the numbers are signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// A descriptor from which the given signals, blocked before, are read.
pub(super) struct Signals(pub(super) OwnedFd);

impl Signals {
    pub(super) fn open(signals: &[i32]) -> Result<Signals, Errno> {
        let set = set(signals);
        // SAFETY: `set` is a set.
        match unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) } {
            // SAFETY: a new descriptor, owned by nobody else.
            fd if fd >= 0 => Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) })),
            _ => Err(last_errno()),
        }
    }

    /// The next signal that waits.
    pub(super) fn next(&self) -> Option<libc::signalfd_siginfo> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` has room for `size` bytes; the kernel writes a whole record or nothing.
        unsafe {
            let read = libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size);
            (read == size as isize).then(|| info.assume_init())
        }
    }
}

/// kill(2) with plain numbers; a process that is gone needs no signal.
pub(super) fn send(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// getpgrp(2); none if the group's leader is outside our pid namespace, where it has no number.
pub(super) fn group() -> Option<Pid> {
    // SAFETY: no memory is involved.
    Pid::from_raw(unsafe { libc::getpgrp() })
}

/// getsid(2) with plain numbers, since a session whose leader is outside our pid namespace has the number 0; process 0
/// is the caller. Nothing if there is no such process.
pub(super) fn session(pid: i32) -> Option<i32> {
    // SAFETY: no memory is involved.
    let session = unsafe { libc::getsid(pid) };
    (session >= 0).then_some(session)
}
