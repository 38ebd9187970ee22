// SPDX-License-Identifier: ISC
//! The first process inside: builds the view, starts the guest, reaps, and dies with its caller.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};

use super::confine::Hold;
use super::signals::{self, Blocked, Signals};
use super::view::View;
use super::{Report, TO_GROUP, apart, fork, stuck};
use crate::sys::Held;
use crate::sys::guest::{EXEC, Launch, Stuck};
use crate::sys::terms::Mounted;

/// All that the leader has from its caller.
pub(super) struct Inside<'a> {
    pub(super) view: View<'a>,
    pub(super) orders: OwnedFd,
    pub(super) reports: OwnedFd,
    pub(super) blocked: Blocked,
    /// The guest gets a process group of its own, not the caller's.
    pub(super) own_group: bool,
    /// The terminal whose foreground that group shall have.
    pub(super) foreground: Option<BorrowedFd<'static>>,
    /// The locks that last as long as the session.
    pub(super) locks: Vec<Held>,
    /// What the guest is held in with.
    pub(super) walls: Option<Hold>,
    /// The descriptors of all this, from [`Inside::note`]: those that the view is built of too, and the others.
    pub(super) kept: [Vec<RawFd>; 2],
}

impl Inside<'_> {
    /// Notes which descriptors the leader needs: to be called before the fork, since it allocates.
    pub(super) fn note(&mut self) {
        let View { tree, console, terms } = &self.view;
        let binds = terms.mounts.iter().filter_map(|mounting| match &mounting.what {
            Mounted::Bind(bind) => Some(bind.tree.as_raw_fd()),
            Mounted::Tmpfs => None,
        });
        let maybe = [console.as_ref(), terms.limits.group.as_ref()].into_iter().flatten().map(AsFd::as_fd);
        let maybe = maybe.chain(terms.keep.as_ref().map(AsFd::as_fd)).map(|fd| fd.as_raw_fd());
        let locks = self.locks.iter().map(|lock| lock.as_fd().as_raw_fd());
        let pipes = [self.orders.as_raw_fd(), self.reports.as_raw_fd()];
        let lasting: Vec<RawFd> = pipes.into_iter().chain(locks).collect();
        let all = lasting.iter().copied().chain([tree.as_raw_fd()]).chain(maybe).chain(binds).collect();
        self.kept = [all, lasting];
        self.kept.iter_mut().for_each(|kept| kept.sort_unstable());
    }

    pub(super) fn lead(self, launch: &Launch<'_>) -> ! {
        let report = match self.start(launch) {
            Ok((guest, signals)) => self.watch(guest, &signals),
            Err(failed) => stuck(&failed),
        };
        report.send(self.reports.as_fd());
        exit()
    }

    fn start(&self, launch: &Launch<'_>) -> Result<(Pid, Signals), Stuck> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Stuck::new("prctl", ""))?;
        // Too late if the caller died before that call; the lifeline tells, before anything is mounted.
        if self.orphaned() {
            exit();
        }
        let [all, lasting] = &self.kept;
        close_all_but(all)?;
        apart::join(self.view.terms)?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Stuck::new("prctl", ""))?;
        let umask = rustix::process::umask(Mode::empty());
        self.view.build()?;
        // What lies below an overlay, and what was bound, is out of reach by now, and stays so.
        close_all_but(lasting)?;
        let signals = Signals::open(signals::LED).map_err(Stuck::new("signalfd", ""))?;
        if self.own_group {
            // A process group that exists inside: shells could not name the caller's. The leader is in it, to hear what
            // is typed and to keep it from being orphaned, and must be its leader: a first process that is in another's
            // group waits for ever in its own end for that number to become free.
            rustix::process::setpgid(None, None).map_err(Stuck::new("setpgid", ""))?;
        }
        let Some(guest) = fork(0).map_err(Stuck::new("fork", ""))? else { self.guest(launch, umask) };
        Ok((guest, signals))
    }

    fn orphaned(&self) -> bool {
        let mut poll = [PollFd::new(&self.orders, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(1)) && poll[0].revents().contains(PollFlags::HUP)
    }

    /// The forked child: takes the terminal if it is to have it, puts back what the caller had changed, and executes.
    fn guest(&self, launch: &Launch<'_>, umask: Mode) -> ! {
        if let Some(terminal) = self.foreground {
            let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp());
        }
        rustix::process::umask(umask);
        self.blocked.restore();
        let ready = close_range(3, i32::MAX, CLOEXEC)
            .map_err(Stuck::new("close_range", ""))
            .and_then(|()| apart::limit(self.view.terms))
            .and_then(|()| self.walls.as_ref().map_or(Ok(()), Hold::apply));
        let failed = match ready {
            Ok(()) => launch.exec(),
            Err(failed) => failed,
        };
        let report = match failed.error.raw_os_error() {
            Some(errno) if failed.operation == EXEC => Report::NotRun(errno),
            _ => stuck(&failed),
        };
        report.send(self.reports.as_fd());
        exit()
    }

    /// Serves until the guest has ended; returns its fate.
    fn watch(&self, guest: Pid, signals: &Signals) -> Report {
        loop {
            let mut poll = [PollFd::new(&self.orders, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
            let _ = rustix::event::poll(&mut poll, None);
            if !poll[0].revents().is_empty() {
                self.obey(guest);
            }
            while let Some(signal) = signals.next() {
                match signal.ssi_signo as i32 {
                    libc::SIGCHLD => {}
                    // Processes inside may send us signals too; they do not concern the caller.
                    typed if signal.ssi_code == libc::SI_KERNEL && self.own_group => {
                        Report::Typed(typed).send(self.reports.as_fd())
                    }
                    _ => {}
                }
            }
            if let Some(fate) = self.reap(guest) {
                return fate;
            }
        }
    }

    /// Delivers the signals that the caller passed on; its end is ours.
    fn obey(&self, guest: Pid) {
        let mut orders = [MaybeUninit::uninit(); 16];
        let Ok((orders, _)) = rustix::io::read(&self.orders, &mut orders[..]) else { return };
        if orders.is_empty() {
            exit();
        }
        for order in orders {
            let (signal, to_group) = (i32::from(*order & !TO_GROUP), *order & TO_GROUP != 0);
            if !to_group {
                signals::send(guest.as_raw_pid(), signal);
            }
            // What was stopped together goes on together.
            if to_group || (signal == libc::SIGCONT && self.own_group) {
                signals::send(0, signal);
            }
        }
    }

    fn reap(&self, guest: Pid) -> Option<Report> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        while let Ok(Some((pid, status))) = rustix::process::wait(options) {
            if pid != guest {
                continue;
            }
            match (status.exit_status(), status.terminating_signal(), status.stopping_signal()) {
                (Some(status), ..) => return Some(Report::Exited(status)),
                (_, Some(signal), _) => return Some(Report::Killed(signal)),
                (.., stopped) => Report::Stopped(stopped.unwrap_or(libc::SIGSTOP)).send(self.reports.as_fd()),
            }
        }
        None
    }
}

/// Closes all descriptors but the standard ones and `kept`, which are sorted: root inside could take them out of
/// `/proc/1/fd`, and a directory of the host is a way out.
fn close_all_but(kept: &[RawFd]) -> Result<(), Stuck> {
    let failed = || Stuck::new("close_range", "");
    let mut from = 3;
    for &fd in kept {
        if fd > from {
            close_range(from, fd - 1, 0).map_err(failed())?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, i32::MAX, 0).map_err(failed())
}

/// For close_range(2): mark the descriptors only; they go when the guest is executed.
pub(super) const CLOEXEC: libc::c_uint = 4;

/// Closes, or marks, the descriptors `first` to `last`.
pub(super) fn close_range(first: i32, last: i32, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: what is closed is used by nothing that this process will still run.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 { Ok(()) } else { Err(super::last_errno()) }
}

/// Ends this process without running what the caller registered for its own end.
pub(super) fn exit() -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(0) }
}
