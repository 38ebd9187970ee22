// SPDX-License-Identifier: ISC
//! User namespaces: an ordinary user is root among the numbers that belong to it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{DumpableBehavior, Pid, WaitOptions};

use super::enter::last_errno;
use crate::sys::guest::Stuck;
use crate::sys::ids::{Extent, IdMap};

/// The numbers of this process.
///
/// # Errors
/// As open(2), if /proc is not there.
pub fn id_map() -> io::Result<IdMap> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
    IdMap::parse(&read("uid_map")?, &read("gid_map")?).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Makes this process root in a user namespace of its own with the numbers of `map`, and in a mount namespace that
/// belongs to that. Several numbers need newuidmap(1) and newgidmap(1). Call it while there is one thread.
///
/// # Errors
/// `unshare` failed: nothing has happened. Anything else: this process has no numbers and can only end.
pub fn enter_user_namespace(map: &IdMap) -> Result<(), Stuck> {
    let mapper = if map.is_single() { None } else { Some(Mapper::start(map)?) };
    // SAFETY: no memory is involved; there is one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return Err(Stuck::new("unshare", "")(last_errno()));
    }
    match mapper {
        Some(mapper) => mapper.finish()?,
        None => map_myself(map).map_err(|error| Stuck { operation: "write", place: "uid_map", mount: None, error })?,
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Stuck::new("prctl", ""))
}

/// One number of its own may be mapped by anybody, who then has to do without setgroups(2).
fn map_myself(map: &IdMap) -> io::Result<()> {
    let lines = |extents: &[Extent]| extents.iter().map(line).collect::<String>();
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", lines(&map.users))?;
    std::fs::write("/proc/self/gid_map", lines(&map.groups))
}

fn line(Extent { inside, outside, count }: &Extent) -> String {
    format!("{inside} {outside} {count}\n")
}

/// A child that stays outside, where the set-id programs which map numbers have their power.
struct Mapper {
    child: Pid,
    go: std::io::PipeWriter,
    answer: std::io::PipeReader,
}

impl Mapper {
    fn start(map: &IdMap) -> Result<Mapper, Stuck> {
        let failed = |error| Stuck { operation: "pipe", place: "", mount: None, error };
        let ((wait, go), (answer, say)) = (io::pipe().map_err(failed)?, io::pipe().map_err(failed)?);
        // SAFETY: there is one thread, so the child may do whatever this process may.
        match unsafe { libc::fork() } {
            -1 => Err(Stuck::new("fork", "")(last_errno())),
            0 => {
                drop((go, answer));
                serve(map, wait, say)
            }
            child => Ok(Mapper { child: Pid::from_raw(child).unwrap_or(Pid::INIT), go, answer }),
        }
    }

    /// To be called from inside: has the numbers mapped.
    fn finish(self) -> Result<(), Stuck> {
        let Mapper { child, mut go, mut answer } = self;
        let failed = |error| Stuck { operation: "newuidmap", place: "", mount: None, error };
        let mut said = String::new();
        go.write_all(b"g").and_then(|()| answer.read_to_string(&mut said)).map_err(failed)?;
        let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
        if said == DONE { Ok(()) } else { Err(failed(io::Error::other(said))) }
    }
}

const DONE: &str = "done";

/// The child: waits until its parent is in its namespace, has it mapped and says how that went.
fn serve(map: &IdMap, mut wait: io::PipeReader, mut say: io::PipeWriter) -> ! {
    let mut byte = [0];
    if wait.read(&mut byte).is_ok_and(|read| read == 1) {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()).to_string();
        let done = run("newuidmap", &parent, &map.users).and_then(|()| run("newgidmap", &parent, &map.groups));
        let _ = say.write_all(done.err().map_or_else(|| DONE.into(), |error| error.to_string()).as_bytes());
    }
    // SAFETY: ends the process without what the parent had registered for its own end.
    unsafe { libc::_exit(0) }
}

fn run(program: &str, process: &str, extents: &[Extent]) -> io::Result<()> {
    let words = extents.iter().flat_map(|Extent { inside, outside, count }| [*inside, *outside, *count]);
    let output = Command::new(program).arg(process).args(words.map(|number| number.to_string())).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// Executes this program again with the same arguments and one more variable. Returns only if that fails.
pub fn execute_again(variable: &str, value: OsString) -> io::Error {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(variable, value).exec()
}
