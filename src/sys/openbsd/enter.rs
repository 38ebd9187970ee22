// SPDX-License-Identifier: ISC
//! Entering a root by chroot(2). There are no namespaces: the guest is a plain child, and what it leaves running goes on.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::sys::guest::{EXEC, Ended, Guest, Launch, Stuck};
use crate::sys::{Dir, Held};

/// Where programs are looked for: for root, for others.
pub const SEARCH_PATH: [&str; 2] = [
    "/sbin:/usr/sbin:/bin:/usr/bin:/usr/X11R6/sbin:/usr/X11R6/bin:/usr/local/sbin:/usr/local/bin",
    "/usr/bin:/bin:/usr/sbin:/sbin:/usr/X11R6/bin:/usr/local/bin:/usr/local/sbin",
];

/// The directories that a root must have for us to mount on: nothing is ever mounted.
pub const MOUNT_POINTS: &[&str] = &[];

/// There are no user namespaces.
pub const USER_NAMESPACE_SETTINGS: &[(&str, &str, &str)] = &[];

/// chroot(2) is always allowed to root.
///
/// # Errors
/// None.
pub fn can_enter() -> Result<(), Stuck> {
    Ok(())
}

/// Runs `guest` in `root` and waits for its end. `hold` is kept until then.
///
/// # Errors
/// The step that failed.
pub fn enter(root: &Dir, guest: &Guest, hold: Option<Held>) -> Result<Ended, Stuck> {
    let launch = Launch::new(guest);
    let (reports, give_reports) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(at("pipe"))?;
    // SAFETY: the child allocates nothing before it executes or exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(reports);
        let failed = match inside(root) {
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
        return Err(Stuck { operation: "fork", place: "", error: io::Error::last_os_error() });
    };
    drop(give_reports);
    let ended = wait(pid)?;
    drop(hold);
    let mut report = [0_u8; 5];
    match rustix::io::read(&reports, &mut report[..]) {
        Ok(5) => {
            let error = io::Error::from_raw_os_error(i32::from_le_bytes([report[1], report[2], report[3], report[4]]));
            match STEPS.get(usize::from(report[0])).copied() {
                Some(EXEC) => Ok(Ended::NotRun(error)),
                step => Err(Stuck { operation: step.unwrap_or("enter"), place: "", error }),
            }
        }
        _ => Ok(ended),
    }
}

/// What can fail after the fork.
const STEPS: &[&str] = &[EXEC, "chroot", "setgroups", "setresgid", "setresuid", "chdir"];

fn at(operation: &'static str) -> impl FnOnce(Errno) -> Stuck {
    Stuck::new(operation, "")
}

fn inside(root: &Dir) -> Result<(), Stuck> {
    rustix::process::fchdir(root)
        .and_then(|()| rustix::process::chroot(c"."))
        .and_then(|()| rustix::process::chdir(c"/"))
        .map_err(at("chroot"))?;
    // SAFETY: marks nothing and frees nothing of ours: every descriptor of this process is close-on-exec; this is for
    // those that we were given.
    unsafe {
        for fd in 3..libc::getdtablesize() {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

/// Waits as a shell does: what is typed reaches the guest, not us; when it is stopped, we stop too.
fn wait(pid: Pid) -> Result<Ended, Stuck> {
    let ignored = [libc::SIGINT, libc::SIGQUIT];
    // SAFETY: ignoring a signal runs no code of ours.
    let before = ignored.map(|signal| unsafe { libc::signal(signal, libc::SIG_IGN) });
    let ended = loop {
        let status = match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) => status,
            Ok(None) | Err(Errno::INTR) => continue,
            Err(errno) => break Err(at("waitpid")(errno)),
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => break Ok(Ended::Exited(status as u8)),
            (_, Some(signal)) => break Ok(Ended::Killed(signal as u8)),
            // SAFETY: no memory is involved.
            _ => unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) },
        };
    };
    for (signal, handler) in ignored.into_iter().zip(before) {
        // SAFETY: the handler is the one that was there.
        unsafe { libc::signal(signal, handler) };
    }
    ended
}

/// Takes the guest's groups, group and user, in that order: each needs the privilege that the last one gives away.
pub(in crate::sys) fn set_credentials(guest: &Guest) -> Result<(), Stuck> {
    let (uid, gid) = (guest.uid, guest.gid);
    let groups = &guest.groups;
    let failed = |operation| Err(Stuck { operation, place: "", error: io::Error::last_os_error() });
    // SAFETY: the kernel reads `len` numbers of 32 bits; the others take none but numbers.
    unsafe {
        if libc::setgroups(groups.len() as libc::c_int, groups.as_ptr()) != 0 {
            return failed("setgroups");
        }
        if libc::setresgid(gid, gid, gid) != 0 {
            return failed("setresgid");
        }
        if libc::setresuid(uid, uid, uid) != 0 {
            return failed("setresuid");
        }
    }
    Ok(())
}
