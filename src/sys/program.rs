// SPDX-License-Identifier: ISC
//! The program that runs, and those that it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// What starts this very program again; an absolute path.
///
/// Some systems know no more than how it was called. Where its file was replaced since, it is the one that runs that is
/// started, as far as the system has a name for it.
///
/// # Errors
/// As readlink(2); [`io::ErrorKind::NotFound`] if it was called by a name that is not in `PATH`.
pub fn own_program() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = absolute(std::env::current_exe()?, std::env::split_paths(&path))?;
    let running = Path::new("/proc/self/exe");
    Ok(if !found.exists() && running.exists() { running.to_owned() } else { found })
}

/// Runs `command` to its end. What it prints goes to standard error: standard output is for what we report.
///
/// # Errors
/// As execve(2).
pub fn run_aside(command: &mut Command) -> io::Result<ExitStatus> {
    command.stdout(io::stderr()).status()
}

/// Starts `command` as the first of a group of processes of its own, for [`end_group`].
///
/// # Errors
/// As execve(2).
pub fn start_group(command: &mut Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    command.process_group(0).spawn()
}

/// Has the group of `first`, which was not waited for yet, end: asked, or with `force` at once.
///
/// # Errors
/// As kill(2).
pub fn end_group(first: &mut Child, force: bool) -> io::Result<()> {
    let Some(group) = i32::try_from(first.id()).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match rustix::process::kill_process_group(group, if force { Signal::KILL } else { Signal::TERM }) {
        Err(Errno::SRCH) => Ok(()),
        done => Ok(done?),
    }
}

/// Is there a process of this number, whosever it is?
pub fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

fn absolute(called: PathBuf, mut dirs: impl Iterator<Item = PathBuf>) -> io::Result<PathBuf> {
    if called.components().count() > 1 || called.is_absolute() {
        return std::path::absolute(called);
    }
    let found = dirs.find_map(|dir| std::path::absolute(dir.join(&called)).ok().filter(|path| path.is_file()));
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} is not in PATH", called.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_was_called() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("prog");
        std::fs::write(&file, "").unwrap();
        let here = std::env::current_dir().unwrap();
        for (called, expect) in [
            ("prog", Some(file.clone())),
            ("other", None),
            ("bin/prog", Some(here.join("bin/prog"))),
            ("./prog", Some(here.join("prog"))),
            ("/bin/prog", Some("/bin/prog".into())),
        ] {
            let dirs = ["/nowhere".into(), temp.path().to_owned()];
            assert_eq!(absolute(called.into(), dirs.into_iter()).ok(), expect, "{called}");
        }
    }
}
