// SPDX-License-Identifier: ISC
//! The caller's side: passes signals in, and lets job control work as if the guest were its own process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitOptions};

use super::signals::{self, Signals};
use super::{NO_MOUNT, Report, STEPS, TO_GROUP, receive};
use crate::sys::guest::{Ended, Stuck};

/// The standard descriptor that is our controlling terminal, if one is.
pub(super) fn terminal() -> Option<BorrowedFd<'static>> {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].into_iter().find(is_terminal)
}

fn is_terminal(fd: &BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetpgrp(fd).is_ok()
}

/// A terminal that is handed to the guest, which then is in a process group of its own.
pub(super) struct Terminal {
    pub(super) fd: BorrowedFd<'static>,
    /// Were we in its foreground?
    pub(super) foreground: bool,
    own: Pid,
    /// The group that had it when the guest was stopped.
    was: Option<Pid>,
}

impl Terminal {
    /// Our controlling terminal, if it is both our input and our output. Else we may be part of a pipeline, whose other
    /// processes need the terminal, and the guest stays in our group.
    pub(super) fn to_hand_on() -> Option<Terminal> {
        let fd = rustix::stdio::stdin();
        let own = signals::group()?;
        let holder = rustix::termios::tcgetpgrp(fd).ok()?;
        let foreground = holder == own;
        is_terminal(&rustix::stdio::stdout()).then_some(Terminal { fd, foreground, own, was: None })
    }

    fn holder(&self) -> Option<Pid> {
        rustix::termios::tcgetpgrp(self.fd).ok()
    }

    /// Takes the terminal back from what runs inside, if that has it.
    fn take(&mut self) {
        if self.foreground {
            self.was = self.holder();
            let _ = rustix::termios::tcsetpgrp(self.fd, self.own);
            self.foreground = false;
        }
    }

    /// Hands the terminal in again, if we were put into its foreground.
    fn give(&mut self, leader: Pid) {
        if !self.foreground && self.holder() == Some(self.own) {
            let inside = self.was.take().or_else(|| rustix::process::getpgid(Some(leader)).ok());
            let given = inside.map(|group| rustix::termios::tcsetpgrp(self.fd, group));
            self.foreground = matches!(given, Some(Ok(())));
        }
    }
}

/// What is left of a guest's time.
struct Alarm {
    at: Option<Instant>,
    rang: bool,
}

enum Ring {
    /// The guest is asked to end.
    First,
    /// It had its time for that.
    Last,
}

/// From the first ring to the last.
const GRACE: Duration = Duration::from_secs(5);

impl Alarm {
    fn set(timeout: Option<Duration>) -> Alarm {
        Alarm { at: timeout.and_then(|time| Instant::now().checked_add(time)), rang: false }
    }

    /// For poll(2), which may return a little early: rounded up.
    fn left(&self) -> Option<Timespec> {
        let left = self.at?.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(left).ok()
    }

    fn rings(&mut self) -> Option<Ring> {
        let now = Instant::now();
        if self.at? > now {
            return None;
        }
        self.at = Some(now + GRACE);
        if std::mem::replace(&mut self.rang, true) { Some(Ring::Last) } else { Some(Ring::First) }
    }
}

/// A caller that waits for its leader.
pub(super) struct Relay {
    pub(super) leader: Pid,
    pub(super) orders: OwnedFd,
    pub(super) reports: OwnedFd,
    pub(super) terminal: Option<Terminal>,
    /// The guest is not in our process group.
    pub(super) own_group: bool,
    /// Ctrl-C was typed.
    pub(super) interrupted: bool,
    /// The guest has a time: who stops would not see it pass.
    pub(super) timed: bool,
}

impl Relay {
    /// Serves until all that runs inside is gone.
    pub(super) fn run(mut self, timeout: Option<Duration>) -> Result<Ended, Stuck> {
        let ended = self.serve(Alarm::set(timeout));
        // The lifeline goes first: whatever went wrong above, the leader ends now. It is gone only after all others
        // in its namespace, and the mounts with it.
        drop(self.orders);
        let _ = rustix::process::waitpid(Some(self.leader), WaitOptions::empty());
        if let Some(terminal) = &mut self.terminal {
            terminal.take();
        }
        ended
    }

    fn serve(&mut self, mut alarm: Alarm) -> Result<Ended, Stuck> {
        let signals = Signals::open(signals::PASSED).map_err(Stuck::new("signalfd", ""))?;
        loop {
            let mut poll = [PollFd::new(&self.reports, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
            let _ = rustix::event::poll(&mut poll, alarm.left().as_ref());
            let told = !poll[0].revents().is_empty();
            match alarm.rings() {
                Some(Ring::First) => drop(rustix::io::write(&self.orders, &[libc::SIGTERM as u8, libc::SIGCONT as u8])),
                Some(Ring::Last) => return Ok(Ended::TimedOut),
                None => {}
            }
            while let Some(signal) = signals.next() {
                self.pass(&signal);
            }
            if !told {
                continue;
            }
            match receive(self.reports.as_fd()) {
                Some(Report::Stopped(signal)) => self.stop(signal),
                // As if the guest were in our own process group: a script that called us is told as well.
                Some(Report::Typed(signal)) => {
                    self.interrupted |= signal == libc::SIGINT;
                    signals::send(0, signal);
                }
                Some(Report::Exited(_) | Report::Killed(_)) if alarm.rang => return Ok(Ended::TimedOut),
                Some(Report::Exited(status)) => return Ok(Ended::Exited(status as u8)),
                Some(Report::Killed(libc::SIGINT)) if self.interrupted => return Ok(Ended::Interrupted),
                Some(Report::Killed(signal)) => return Ok(Ended::Killed(signal as u8)),
                Some(Report::NotRun(errno)) => return Ok(Ended::NotRun(io::Error::from_raw_os_error(errno))),
                Some(Report::Stuck(step, mount, errno)) => {
                    let (operation, place) = STEPS.get(usize::from(step)).copied().unwrap_or(("enter", ""));
                    let mount = (mount != NO_MOUNT).then_some(usize::from(mount));
                    return Err(Stuck { operation, place, mount, error: io::Error::from_raw_os_error(errno) });
                }
                // Killed from outside: by an administrator, or for want of memory.
                None => return Ok(Ended::Killed(libc::SIGKILL as u8)),
            }
        }
    }

    fn pass(&mut self, signal: &libc::signalfd_siginfo) {
        let number = signal.ssi_signo as i32;
        if signal.ssi_pid == std::process::id() {
            return; // our own, from `serve`
        }
        let typed = signal.ssi_code == libc::SI_KERNEL;
        self.interrupted |= typed && number == libc::SIGINT;
        if typed && !self.own_group {
            return; // the guest, in our group, has it already
        }
        if number == libc::SIGCONT
            && let Some(terminal) = &mut self.terminal
        {
            terminal.give(self.leader);
        }
        // What the terminal says it says to whole groups.
        let _ = rustix::io::write(&self.orders, &[number as u8 | if typed { TO_GROUP } else { 0 }]);
    }

    /// The guest was stopped: so are we, until somebody continues us. Where nobody would, because no shell with job
    /// control is above us, Ctrl-Z means nothing, as the kernel has it for orphaned process groups; nor where nobody sits
    /// at a terminal while a time runs.
    fn stop(&mut self, signal: i32) {
        let above = rustix::process::getppid().and_then(|parent| signals::session(parent.as_raw_nonzero().get()));
        if above != signals::session(0) || (self.timed && self.terminal.is_none()) {
            if signal == libc::SIGTSTP {
                let _ = rustix::io::write(&self.orders, &[libc::SIGCONT as u8]);
            }
            return;
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.take();
        }
        signals::send(std::process::id() as i32, libc::SIGSTOP);
    }
}
