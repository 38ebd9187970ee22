// SPDX-License-Identifier: ISC
//! Other processes: which one a number means, and its end.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// What tells our pid namespace from all others of this kernel: its inode. None without `/proc`.
pub fn pid_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|found| found.ino())
}

/// When the process `pid` began, in ticks since the system did: with the number this is never the same again (proc(5),
/// `stat`, field 22). None if there is no such process, or none to be seen.
pub fn process_start(pid: u32) -> Option<u64> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let rest = &text[text.iter().rposition(|&b| b == b')')? + 1..];
    std::str::from_utf8(rest).ok()?.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// Has the process `pid` end: asked, or with `force` at once. `still` says whether that number is still the process that
/// is meant; nothing happens if not.
///
/// # Errors
/// As pidfd_open(2), pidfd_send_signal(2), kill(2).
pub fn end_process(pid: u32, force: bool, still: &dyn Fn() -> bool) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let signal = if force { Signal::KILL } else { Signal::TERM };
    // Opened first: after that the number cannot mean another one.
    let done = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) if still() => rustix::process::pidfd_send_signal(&process, signal),
        // Before Linux 5.3.
        Err(Errno::NOSYS) if still() => rustix::process::kill_process(pid, signal),
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    };
    match done {
        Err(Errno::SRCH) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_begins_once() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (first, later) = (process_start(own).unwrap(), process_start(child.id()).unwrap());
        assert!(first <= later && process_start(own) == Some(first), "{first} {later}");
        end_process(child.id(), true, &|| false).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it was not the one that was meant");
        end_process(child.id(), true, &|| true).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(process_start(child.id()), None);
        assert!(pid_namespace().is_some());
    }
}
