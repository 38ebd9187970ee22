// SPDX-License-Identifier: ISC
//! Entering a root: three processes.
//!
//! - The *caller* forks the leader into namespaces of its own, relays signals to it and waits ([`relay`]).
//! - The *leader* is process 1 in there: it builds the view of the root ([`view`]), forks the guest, reaps orphans and
//!   passes the guest's fate on ([`leader`]). It dies with the caller, and everything inside dies with it.
//! - The *guest* takes its credentials and executes the command.
//!
//! Two pipes join caller and leader: orders (signals to deliver) one way, reports the other. The order pipe is the
//! lifeline: its end means that the caller is gone.
//!
//! Between fork and exec nothing is allocated, so that a lock held by another thread at the fork does no harm.

mod apart;
mod confine;
mod dev;
mod leader;
mod masks;
pub(super) mod mounting;
mod overlay;
mod probe;
mod relay;
mod seccomp;
mod signals;
mod syscalls;
mod view;

pub(super) use mounting::{attach, make};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use crate::sys::guest::{Ended, Guest, Launch, Stuck};
use crate::sys::terms::Terms;
use crate::sys::{Dir, Held};

pub use probe::{Overlays, can_enter, can_overlay};
pub use view::{Bind, take_bind};

/// Where programs are looked for: for root, for others.
pub const SEARCH_PATH: [&str; 2] =
    ["/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/usr/local/bin:/usr/bin:/bin"];

const NAMESPACES: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// A guest can be held in, and see what it shall.
pub const HAS_SESSIONS: bool = true;

/// The directories that a root must have, for us to mount on.
pub const MOUNT_POINTS: &[&str] = &["proc", "dev"];

/// Runs `guest` in `root` on these `terms`, in mount, process, IPC, host-name and control-group namespaces of its own,
/// and waits for its end. Nothing of it outlives the call or this process. `locks` are kept by the first process inside
/// as well.
///
/// Call it from the main thread: the kernel ends the session when the *thread* that called ends.
///
/// # Errors
/// The step that failed; what was mounted is gone by then.
pub fn enter(root: &Dir, guest: &Guest, terms: &Terms, locks: Vec<Held>) -> Result<Ended, Stuck> {
    refuse_directories()?;
    let tree = view::take(root, terms.read_only)?;
    let console = relay::terminal().and_then(view::console);
    let terminal = relay::Terminal::to_hand_on();
    // In our group the guest reaches whoever else is in it: only where keys that are typed shall reach it as they do the
    // rest of a pipeline.
    let own_group = terminal.is_some() || relay::terminal().is_none();
    let launch = Launch::new(guest);
    let (orders, give_orders) = pipe()?;
    let (reports, give_reports) = pipe()?;
    let blocked = signals::block().map_err(Stuck::new("sigprocmask", ""))?;
    let foreground = terminal.as_ref().filter(|t| t.foreground).map(|t| t.fd);
    let view = view::View { tree, console, terms };
    let (walls, kept) = (confine::Hold::new(terms), Default::default());
    let reported = give_reports;
    let mut inside =
        leader::Inside { view, orders, reports: reported, blocked, own_group, foreground, locks, walls, kept };
    inside.note();
    let offline = if terms.offline { libc::CLONE_NEWNET } else { 0 };
    let Some(leader) = fork(NAMESPACES | offline).map_err(Stuck::new("clone", ""))? else {
        drop((give_orders, reports));
        inside.lead(&launch)
    };
    let leader::Inside { view, orders: theirs, reports: also_theirs, blocked, locks, .. } = inside;
    drop((view, theirs, also_theirs));
    let timed = terms.limits.timeout.is_some();
    let relay = relay::Relay { leader, orders: give_orders, reports, terminal, own_group, interrupted: false, timed };
    let ended = relay.run(terms.limits.timeout);
    drop((locks, blocked));
    ended
}

/// A directory that a guest has open is a way out of its root.
fn refuse_directories() -> Result<(), Stuck> {
    let is_directory = |fd: BorrowedFd<'_>| {
        rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    match [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].into_iter().any(is_directory) {
        true => Err(Stuck::new("inherit", "")(Errno::ISDIR)),
        false => Ok(()),
    }
}

/// Settings that keep ordinary users from making namespaces: where, the value that does, the command that allows it.
pub const USER_NAMESPACE_SETTINGS: &[(&str, &str, &str)] = &[
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

fn pipe() -> Result<(OwnedFd, OwnedFd), Stuck> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Stuck::new("pipe", ""))
}

/// fork(2), with namespaces; none in the child. Bypasses the C library's handlers: the child must not need them.
fn fork(flags: libc::c_int) -> Result<Option<Pid>, Errno> {
    let flags = (flags | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: without CLONE_VM the child has its own copy of everything, stack included.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    if pid < 0 { Err(last_errno()) } else { Ok(Pid::from_raw(pid as i32)) }
}

/// Has the descriptors that we were given closed when the guest is executed; ours are marked already.
pub(in crate::sys) fn mark_inherited() -> Result<(), Errno> {
    leader::close_range(3, i32::MAX, leader::CLOEXEC)
}

pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// What the leader tells the caller.
#[derive(Debug, Clone, Copy)]
enum Report {
    /// A step of entering failed: its number in [`STEPS`], of [`Terms::mounts`] (or [`NO_MOUNT`]), the errno.
    Stuck(u8, u8, i32),
    /// The guest could not be executed: the errno.
    NotRun(i32),
    /// The guest was stopped by this signal.
    Stopped(i32),
    /// The terminal sent this signal to the guest's process group.
    Typed(i32),
    /// The guest exited with this status.
    Exited(i32),
    /// The guest died of this signal.
    Killed(i32),
}

const REPORT_SIZE: usize = 7;

/// In the place of a mount's number.
const NO_MOUNT: u8 = u8::MAX;

impl Report {
    fn encode(self) -> [u8; REPORT_SIZE] {
        let (tag, step, mount, value) = match self {
            Report::Stuck(step, mount, errno) => (0, step, mount, errno),
            Report::NotRun(errno) => (1, 0, 0, errno),
            Report::Stopped(signal) => (2, 0, 0, signal),
            Report::Typed(signal) => (3, 0, 0, signal),
            Report::Exited(status) => (4, 0, 0, status),
            Report::Killed(signal) => (5, 0, 0, signal),
        };
        let v = value.to_le_bytes();
        [tag, step, mount, v[0], v[1], v[2], v[3]]
    }

    fn decode(bytes: [u8; REPORT_SIZE]) -> Option<Report> {
        let [tag, step, mount, value @ ..] = bytes;
        let value = i32::from_le_bytes(value);
        Some(match tag {
            0 => Report::Stuck(step, mount, value),
            1 => Report::NotRun(value),
            2 => Report::Stopped(value),
            3 => Report::Typed(value),
            4 => Report::Exited(value),
            5 => Report::Killed(value),
            _ => return None,
        })
    }

    /// Sends it; a caller that is gone ends us anyway. Shorter than PIPE_BUF, so it arrives whole.
    fn send(self, to: BorrowedFd<'_>) {
        let _ = rustix::io::write(to, &self.encode());
    }
}

/// Added to an order, which is the number of a signal: it is for the whole process group of the guest.
const TO_GROUP: u8 = 0x80;

/// The steps that can fail after the fork: a number fits a report, two pointers do not.
const STEPS: &[(&str, &str)] = &[
    ("prctl", ""),
    ("close_range", ""),
    ("write", "cgroup.procs"),
    ("unshare", ""),
    ("sethostname", ""),
    ("ioctl", "loopback"),
    ("mount", ""),
    ("move_mount", ""),
    ("mount", "tmpfs"),
    ("mkdir", "tmpfs"),
    ("chown", "tmpfs"),
    ("mount", "overlay"),
    ("move_mount", "overlay"),
    ("sendmsg", "overlay"),
    ("open", "proc"),
    ("mount", "proc"),
    ("mask", "proc"),
    ("open", "dev"),
    ("mount", "dev"),
    ("mknod", "dev"),
    ("mount", "dev/pts"),
    ("mount", "dev/shm"),
    ("mount", "dev/console"),
    ("mount", "sys"),
    ("mount", "run"),
    ("mount", "tmp"),
    ("pivot_root", ""),
    ("umount", ""),
    ("signalfd", ""),
    ("setpgid", ""),
    ("fork", ""),
    ("setrlimit", ""),
    ("sched_setaffinity", ""),
    ("seccomp", ""),
    ("capset", ""),
    ("setgroups", ""),
    ("setresgid", ""),
    ("setresuid", ""),
    ("chdir", ""),
    ("getcwd", ""),
];

/// The report for a failed step.
fn stuck(stuck: &Stuck) -> Report {
    let step = STEPS.iter().position(|s| *s == (stuck.operation, stuck.place));
    debug_assert!(step.is_some(), "{} of {} is no known step", stuck.operation, stuck.place);
    let mount = stuck.mount.and_then(|index| u8::try_from(index).ok()).unwrap_or(NO_MOUNT);
    Report::Stuck(step.map_or(u8::MAX, |s| s as u8), mount, stuck.error.raw_os_error().unwrap_or(0))
}

/// There are no login classes.
#[allow(clippy::unnecessary_wraps)] // as on the other system
pub(in crate::sys) fn take_class(_: &Guest) -> Result<(), Stuck> {
    Ok(())
}

/// Takes the guest's groups, group and user, in that order: each needs the privilege that the last one gives away.
pub(in crate::sys) fn set_credentials(guest: &Guest) -> Result<(), Stuck> {
    use rustix::fs::{Gid, Uid};
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Some(Uid::from_raw(guest.uid)), Some(Gid::from_raw(guest.gid)));
    if let Some(groups) = &guest.groups {
        // SAFETY: the kernel reads `len` numbers of 32 bits. The C library's own wrappers would try to tell threads that
        // a raw fork did not bring along.
        let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        if done != 0 {
            return Err(Stuck::new("setgroups", "")(last_errno()));
        }
    }
    set_thread_res_gid(gid, gid, gid).map_err(Stuck::new("setresgid", ""))?;
    set_thread_res_uid(uid, uid, uid).map_err(Stuck::new("setresuid", ""))
}

/// Reads exactly one record, or none at the end of the pipe.
fn receive(from: BorrowedFd<'_>) -> Option<Report> {
    let mut bytes = [MaybeUninit::uninit(); REPORT_SIZE];
    let (read, _) = rustix::io::read(from, &mut bytes[..]).ok()?;
    Report::decode(<[u8; REPORT_SIZE]>::try_from(&*read).ok()?)
}
