// SPDX-License-Identifier: ISC
//! Runs a program under ptrace(2) and tells of each path that it, or what it starts, hands to the system. System calls are
//! read by `PTRACE_GET_SYSCALL_INFO` (Linux 5.3), which is the same on every machine; those of another kind of program
//! than ours (32 bits) are passed over.

mod calls;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, c_int};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::traced::{Traced, Tracing};

/// `ptrace_syscall_info.op`.
const ENTRY: u8 = 1;
const EXIT: u8 = 2;
/// A stop at a system call, with `PTRACE_O_TRACESYSGOOD`.
const AT_CALL: c_int = libc::SIGTRAP | 0x80;
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;
/// How soon a wish to stop is heard.
const SOON: Duration = Duration::from_millis(20);

/// Those that are traced, by number.
type Tracees = HashMap<c_int, Tracee>;

/// A thread that is traced.
#[derive(Default)]
struct Tracee {
    /// The one that made it has told of it.
    announced: bool,
    /// It has stopped before: its first stop is ptrace's own.
    known: bool,
    /// The call that it is in.
    call: Option<Traced>,
}

/// Runs a program and waits for it and all that it starts, and for nobody else.
///
/// # Errors
/// As spawning it; as ptrace(2); [`io::ErrorKind::Interrupted`] if it was stopped: then nothing of it is left.
pub fn trace(run: &Tracing<'_>, seen: &mut dyn FnMut(Traced)) -> io::Result<ExitStatus> {
    let first = spawn(run)?;
    let prefix = run.root.map(|root| place_of(root.as_fd().as_raw_fd())).transpose()?.unwrap_or_default();
    let ended = AtomicBool::new(false);
    let tracees = Mutex::new(Tracees::from([(first, Tracee { announced: true, ..Tracee::default() })]));
    let status = std::thread::scope(|scope| {
        // A blocking wait hears of no wish; of the end of a child it does.
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if run.stop.load(Ordering::Relaxed) {
                    hold(&tracees).keys().copied().for_each(kill);
                }
                std::thread::sleep(SOON);
            }
        });
        let status = follow(first, &prefix, &tracees, seen);
        ended.store(true, Ordering::Relaxed);
        status
    })?;
    match run.stop.load(Ordering::Relaxed) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => status.ok_or_else(|| io::ErrorKind::NotFound.into()),
    }
}

fn spawn(run: &Tracing<'_>) -> io::Result<c_int> {
    let words: Vec<&OsStr> = run.argv.iter().map(|word| OsStr::from_bytes(word)).collect();
    let (name, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command.args(arguments);
    if run.root.is_some() {
        // As a service finds it: nothing of ours.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    if run.aside {
        command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    }
    let (fd, user) = (run.root.map(|root| root.as_fd().as_raw_fd()), run.user);
    // SAFETY: between fork and exec only system calls are made; `fd` stays open as long as the root.
    unsafe { command.pre_exec(move || begin(fd, user)) };
    c_int::try_from(command.spawn()?.id()).map_err(io::Error::other)
}

/// Follows what it does until it and all that it started have ended. How it ended.
fn follow(
    first: c_int,
    prefix: &[u8],
    tracees: &Mutex<Tracees>,
    seen: &mut dyn FnMut(Traced),
) -> io::Result<Option<ExitStatus>> {
    let mut ended = None;
    // Those that ended before whoever made them told of them.
    let mut untold: HashSet<c_int> = HashSet::new();
    while !hold(tracees).is_empty() {
        let mut status = 0;
        // SAFETY: `status` has room for one.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid < 0 {
            match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => continue,
                e if e.raw_os_error() == Some(libc::ECHILD) => break,
                e => return Err(e),
            }
        }
        let mut tracees = hold(tracees);
        if !libc::WIFSTOPPED(status) {
            if tracees.remove(&pid).is_some_and(|tracee| !tracee.announced) {
                untold.insert(pid);
            }
            if pid == first {
                ended = Some(ExitStatus::from_raw(status));
            }
            continue;
        }
        let event = status >> 16;
        // Its first stop may come before that of its parent that tells of it.
        let tracee = tracees.entry(pid).or_default();
        let is_first_stop = !std::mem::replace(&mut tracee.known, true);
        if is_first_stop && pid == first {
            request(libc::PTRACE_SETOPTIONS, pid, OPTIONS as usize);
        }
        let signal = libc::WSTOPSIG(status);
        if signal == AT_CALL {
            step(pid, tracee, prefix, seen);
        }
        relate(pid, event, &mut tracees, &mut untold);
        // What ptrace itself stops for is not the program's to hear of.
        let ours =
            signal == AT_CALL || event != 0 || (is_first_stop && matches!(signal, libc::SIGTRAP | libc::SIGSTOP));
        request(libc::PTRACE_SYSCALL, pid, if ours { 0 } else { signal as usize });
    }
    Ok(ended)
}

/// Takes note of who comes and goes with an event: nobody is forgotten before he ends, nobody waited for who is no more.
fn relate(pid: c_int, event: c_int, tracees: &mut Tracees, untold: &mut HashSet<c_int>) {
    if event == 0 {
        return;
    }
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one number into `message`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut message) };
    let Some(other) = c_int::try_from(message).ok().filter(|_| got == 0) else { return };
    match event {
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            let is_over = untold.remove(&other);
            tracees.entry(other).or_default().announced = true;
            if is_over {
                tracees.remove(&other);
            }
        }
        // A thread that executes a program takes over the number of the first one.
        libc::PTRACE_EVENT_EXEC if other != pid => drop(tracees.remove(&other)),
        _ => {}
    }
}

/// Nobody panics with it in his hands.
fn hold(tracees: &Mutex<Tracees>) -> MutexGuard<'_, Tracees> {
    tracees.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill(pid: c_int) {
    // SAFETY: a plain system call; whoever is gone cannot be killed.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// What the child does before it executes the program.
fn begin(root: Option<c_int>, user: Option<(u32, u32)>) -> io::Result<()> {
    let done = |result: c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: plain system calls with numbers and a string that lasts.
    unsafe {
        if let Some(root) = root {
            done(libc::fchdir(root))?;
            done(libc::chroot(c".".as_ptr()))?;
            done(libc::chdir(c"/".as_ptr()))?;
        }
        if let Some((uid, gid)) = user {
            done(libc::setgroups(0, std::ptr::null()))?;
            done(libc::setresgid(gid, gid, gid))?;
            done(libc::setresuid(uid, uid, uid))?;
        }
        done(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) as c_int)
    }
}

/// The path of a directory that is open here.
fn place_of(fd: c_int) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{fd}");
    Ok(std::fs::read_link(link)?.into_os_string().into_vec())
}

/// Whoever is gone meanwhile is waited for all the same.
fn request(what: libc::c_uint, pid: c_int, data: usize) {
    // SAFETY: none of the requests that are made so reads or writes memory of ours.
    unsafe { libc::ptrace(what, pid, 0, data) };
}

/// A process enters or leaves a system call.
fn step(pid: c_int, tracee: &mut Tracee, prefix: &[u8], seen: &mut dyn FnMut(Traced)) {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes into `info`, and any bytes make one.
    let (got, info) = unsafe {
        let got = libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, info.as_mut_ptr());
        (got, info.assume_init())
    };
    if got <= 0 {
        return;
    }
    match info.op {
        ENTRY => {
            // SAFETY: `op` says that this is what is there.
            let entry = unsafe { info.u.entry };
            tracee.call =
                calls::is_native(info.arch).then(|| calls::call(pid, entry.nr, &entry.args, prefix)).flatten();
        }
        EXIT => {
            // SAFETY: as above.
            let exit = unsafe { info.u.exit };
            if let Some(mut call) = tracee.call.take()
                && (exit.is_error == 0 || exit.sval == -i64::from(libc::ENOENT))
            {
                call.missing = exit.is_error != 0;
                seen(call);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_program_and_of_what_it_starts() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path().to_str().unwrap();
        let script = format!("cd {at}; echo x > new; (cat new; cat none) 2>&1; exit 3");
        let words: Vec<Vec<u8>> = ["/bin/sh", "-c", &script].iter().map(|word| word.as_bytes().to_vec()).collect();
        let mut all = Vec::new();
        let stop = AtomicBool::new(false);
        let run = Tracing { argv: &words, root: None, user: None, aside: true, stop: &stop };
        let status = trace(&run, &mut |one| all.push(one)).unwrap();
        assert_eq!(status.code(), Some(3));
        let find = |name: &str| all.iter().find(|one| one.path == format!("{at}/{name}").as_bytes());
        assert!(find("new").unwrap().written);
        let none = find("none").unwrap();
        assert!(none.missing && none.program.ends_with(b"/cat"), "{none:?}");
        assert!(all.iter().any(|one| one.path.ends_with(b"/libc.so.6") && !one.missing), "{all:?}");
    }

    /// Everything that the program started is waited for, nothing else is.
    #[test]
    fn it_waits_for_its_own_and_ends_when_told() {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let words = |script: &str| ["/bin/sh", "-c", script].map(|word| word.as_bytes().to_vec());
        let stop = AtomicBool::new(false);
        let late = words("(sleep 0.2; cat /etc/passwd > /dev/null) & exit 4");
        let run = Tracing { argv: &late, root: None, user: None, aside: true, stop: &stop };
        let mut read = false;
        let status = trace(&run, &mut |one| read |= one.path == b"/etc/passwd").unwrap();
        assert_eq!((status.code(), read), (Some(4), true));
        // One that went into the background, and one that is deaf.
        for script in
            ["(setsid sleep 60 &) & exit 0", "trap '' INT TERM; (trap '' TERM; sleep 60 & sleep 60) & sleep 60"]
        {
            let (stop, deaf) = (AtomicBool::new(false), words(script));
            let run = Tracing { argv: &deaf, stop: &stop, ..run };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(200));
                    stop.store(true, Ordering::Relaxed);
                });
                assert_eq!(trace(&run, &mut |_| {}).unwrap_err().kind(), io::ErrorKind::Interrupted);
            });
        }
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
