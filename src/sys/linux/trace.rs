// SPDX-License-Identifier: ISC
//! Runs a program under ptrace(2) and tells of each path that it, or what it starts, hands to the system. System calls are
//! read by `PTRACE_GET_SYSCALL_INFO` (Linux 5.3), which is the same on every machine; those of another kind of program
//! than ours (32 bits) are passed over.

use std::collections::HashMap;
use std::ffi::{OsStr, c_int, c_long};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use crate::sys::{Dir, Traced};

/// The longest path that the kernel takes.
const MAX_PATH: usize = 4096;
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

/// System calls with a directory and a path: number, and which argument the path is; the directory is the one before.
const AT: [(c_long, usize); 8] = [
    (libc::SYS_openat, 1),
    (libc::SYS_openat2, 1),
    (libc::SYS_newfstatat, 1),
    (libc::SYS_statx, 1),
    (libc::SYS_faccessat, 1),
    (libc::SYS_faccessat2, 1),
    (libc::SYS_readlinkat, 1),
    (libc::SYS_execveat, 1),
];
/// System calls with a path alone, as their first argument.
#[cfg(target_arch = "x86_64")]
const PLAIN: [c_long; 7] = [
    libc::SYS_execve,
    libc::SYS_chdir,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
];
#[cfg(not(target_arch = "x86_64"))]
const PLAIN: [c_long; 2] = [libc::SYS_execve, libc::SYS_chdir];

/// A process that is traced.
#[derive(Default)]
struct Tracee {
    /// The call that it is in.
    call: Option<Traced>,
}

/// Runs `argv` with the caller's environment, or in `root`, if there is one, with an empty one; as `user` (user and group).
/// Waits for it and all that it starts.
///
/// # Errors
/// As spawning it; as ptrace(2).
pub fn trace(
    argv: &[Vec<u8>],
    root: Option<&Dir>,
    user: Option<(u32, u32)>,
    seen: &mut dyn FnMut(Traced),
) -> io::Result<ExitStatus> {
    let words: Vec<&OsStr> = argv.iter().map(|word| OsStr::from_bytes(word)).collect();
    let (name, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command.args(arguments);
    if root.is_some() {
        // As a service finds it: nothing of ours.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    let fd = root.map(|root| std::os::fd::AsFd::as_fd(root).as_raw_fd());
    // SAFETY: between fork and exec only system calls are made; `fd` stays open as long as `root`.
    unsafe { command.pre_exec(move || begin(fd, user)) };
    let prefix = root.map(|_| place_of(fd)).transpose()?.unwrap_or_default();
    let first = c_int::try_from(command.spawn()?.id()).map_err(io::Error::other)?;
    let mut tracees: HashMap<c_int, Tracee> = HashMap::new();
    let mut ended = None;
    loop {
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
        if !libc::WIFSTOPPED(status) {
            tracees.remove(&pid);
            if pid == first {
                ended = Some(ExitStatus::from_raw(status));
            }
            continue;
        }
        let new = !tracees.contains_key(&pid);
        let tracee = tracees.entry(pid).or_default();
        if new {
            request(libc::PTRACE_SETOPTIONS, pid, OPTIONS as usize);
        }
        let signal = libc::WSTOPSIG(status);
        let is_event = status >> 16 != 0;
        if signal == AT_CALL {
            step(pid, tracee, &prefix, seen);
        }
        // What ptrace itself stops for is not the program's to hear of.
        let ours = signal == AT_CALL || is_event || (new && matches!(signal, libc::SIGTRAP | libc::SIGSTOP));
        request(libc::PTRACE_SYSCALL, pid, if ours { 0 } else { signal as usize });
    }
    ended.ok_or_else(|| io::ErrorKind::NotFound.into())
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
fn place_of(fd: Option<c_int>) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.unwrap_or(libc::AT_FDCWD));
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
            tracee.call = is_native(info.arch).then(|| call(pid, entry.nr, &entry.args, prefix)).flatten();
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

/// Is this the machine that we are for (`AUDIT_ARCH_*`)?
fn is_native(arch: u32) -> bool {
    let own = match std::env::consts::ARCH {
        "x86_64" => 0xc000_003e,
        "aarch64" => 0xc000_00b7,
        "riscv64" => 0xc000_00f3,
        "powerpc64" => 0xc000_0015,
        "s390x" => 0x8000_0016,
        _ => return true,
    };
    arch & !0x4000_0000 == own & !0x4000_0000
}

/// The path that a call is about; none for calls about something else.
fn call(pid: c_int, number: u64, args: &[u64; 6], prefix: &[u8]) -> Option<Traced> {
    let number = c_long::try_from(number).ok()?;
    let at = AT.iter().find(|(known, _)| *known == number).map(|(_, path)| *path);
    let path = match at {
        Some(path) => path,
        None if PLAIN.contains(&number) => 0,
        None => return None,
    };
    let text = string(pid, args[path])?;
    let dir = at.map_or(i64::from(libc::AT_FDCWD), |path| i64::from(args[path - 1] as i32));
    let whole = if text.starts_with(b"/") {
        text
    } else {
        let link = match i32::try_from(dir) {
            Ok(libc::AT_FDCWD) => format!("/proc/{pid}/cwd"),
            _ => format!("/proc/{pid}/fd/{dir}"),
        };
        let dir = std::fs::read_link(link).ok()?.into_os_string().into_vec();
        let dir = dir.strip_prefix(prefix).unwrap_or(&dir);
        if text.is_empty() { dir.to_vec() } else { [dir, b"/", &text].concat() }
    };
    let flags = match number {
        libc::SYS_openat => args[2] as c_int,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => args[1] as c_int,
        _ => libc::O_RDONLY,
    };
    let written = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string().into_vec();
    let program = program.strip_prefix(prefix).map_or(program.clone(), <[u8]>::to_vec);
    Some(Traced { program, path: whole, missing: false, written })
}

/// The string at this address of the process.
fn string(pid: c_int, address: u64) -> Option<Vec<u8>> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text = Vec::new();
    while text.len() < MAX_PATH {
        // Never beyond a page: the next one need not be there.
        let at = address + text.len() as u64;
        let mut page = [0; 4096];
        let room = 4096 - usize::try_from(at % 4096).unwrap_or(0);
        let read = memory.read_at(&mut page[..room], at).ok().filter(|&read| read > 0)?;
        let end = page[..read].iter().position(|&b| b == 0);
        text.extend_from_slice(&page[..end.unwrap_or(read)]);
        if end.is_some() {
            return Some(text);
        }
    }
    None
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
        let status = trace(&words, None, None, &mut |one| all.push(one)).unwrap();
        assert_eq!(status.code(), Some(3));
        let find = |name: &str| all.iter().find(|one| one.path == format!("{at}/{name}").as_bytes());
        assert!(find("new").unwrap().written);
        let none = find("none").unwrap();
        assert!(none.missing && none.program.ends_with(b"/cat"), "{none:?}");
        assert!(all.iter().any(|one| one.path.ends_with(b"/libc.so.6") && !one.missing), "{all:?}");
    }
}
