// SPDX-License-Identifier: ISC
//! A process that stays outside a user namespace. There it has the numbers mapped, by set-id programs that have no power
//! inside; and it says whose a file of the host is, since inside all who have no number there look alike.
//!
//! A question ends with NUL, its answer with a newline: `=` and what was asked for, or `!` and why not.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::io::FdFlags;

use super::enter::last_errno;
use super::user_namespace::id_map;
use crate::sys::guest::Stuck;
use crate::sys::ids::{Extent, IdMap};

/// Where this program, executed again, finds the descriptors.
pub(super) const VARIABLE: &str = "STOCKADE_OUTSIDE";

/// The question that has the numbers mapped; any other is a path.
pub(super) const MAP: &[u8] = b"";

/// What the kernel says where a user or group has no number.
const NOBODY: u32 = 65534;

/// Our end of it. The process ends with that.
#[derive(Debug)]
pub struct Outside {
    question: PipeWriter,
    answer: BufReader<PipeReader>,
}

impl Outside {
    /// Forks it. Call it while there is one thread.
    pub(super) fn start(map: &IdMap) -> Result<Outside, Stuck> {
        let failed = |error| Stuck { operation: "pipe", place: "", mount: None, error };
        let ((read, question), (answer, write)) = (io::pipe().map_err(failed)?, io::pipe().map_err(failed)?);
        // SAFETY: there is one thread, so the child may do whatever this process may.
        match unsafe { libc::fork() } {
            -1 => Err(Stuck::new("fork", "")(last_errno())),
            0 => {
                drop((question, answer));
                serve(map, BufReader::new(read), write)
            }
            _ => Ok(Outside { question, answer: BufReader::new(answer) }),
        }
    }

    /// That of the process which executed this program again, if there is one. Outside of user namespaces nobody is
    /// asked.
    pub fn find() -> Option<Outside> {
        id_map().ok().filter(|map| !map.is_everything())?;
        let numbers = std::env::var(VARIABLE).ok()?;
        let (question, answer) = numbers.split_once(' ')?;
        let copy = |number: &str| {
            let number = number.parse().ok().filter(|number| *number > 2)?;
            // SAFETY: copied only; a number that is no descriptor is an error.
            unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().ok()
        };
        let (question, answer) = (copy(question)?, copy(answer)?);
        Some(Outside { question: question.into(), answer: BufReader::new(answer.into()) })
    }

    /// Makes both ends outlive execve(2): the value of [`VARIABLE`].
    pub(super) fn keep(&self) -> io::Result<String> {
        let ends = [self.question.as_fd(), self.answer.get_ref().as_fd()];
        ends.iter().try_for_each(|end| rustix::io::fcntl_setfd(end, FdFlags::empty()))?;
        Ok(ends.map(|end| end.as_raw_fd().to_string()).join(" "))
    }

    /// The answer to `question`.
    pub(super) fn ask(&mut self, question: &[u8]) -> io::Result<String> {
        self.question.write_all(question).and_then(|()| self.question.write_all(b"\0"))?;
        let mut answer = String::new();
        self.answer.read_line(&mut answer)?;
        match answer.trim_end().split_at_checked(1) {
            Some(("=", answer)) => Ok(answer.to_owned()),
            Some((_, why)) => Err(io::Error::other(why.to_owned())),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Owner and group, outside, of what lies at `path`, an absolute one; inside they are `found`.
    ///
    /// # Errors
    /// As lstat(2).
    pub fn owner(&mut self, path: &[u8], found: (u32, u32)) -> io::Result<(u32, u32)> {
        if found.0 != NOBODY && found.1 != NOBODY {
            return Ok(found);
        }
        let answer = self.ask(path)?;
        let (user, group) = answer.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let number = |text: &str| text.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let (user, group) = (number(user)?, number(group)?);
        let either = |inside, outside| if inside == NOBODY { outside } else { inside };
        Ok((either(found.0, user), either(found.1, group)))
    }
}

/// The child: answers until nobody asks any more.
fn serve(map: &IdMap, mut questions: BufReader<PipeReader>, mut answers: PipeWriter) -> ! {
    let _ = std::env::set_current_dir("/"); // it shall be in nobody's way
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let mut question = Vec::new();
    while questions.read_until(0, &mut question).is_ok_and(|length| length > 0) {
        question.pop();
        let answer = match question.as_slice() {
            MAP => map_for(parent, map),
            path => {
                Path::new(OsStr::from_bytes(path)).symlink_metadata().map(|it| format!("{} {}", it.uid(), it.gid()))
            }
        };
        let line = answer.map_or_else(|why| format!("!{why}").replace('\n', " "), |answer| format!("={answer}"));
        if answers.write_all(format!("{line}\n").as_bytes()).is_err() {
            break;
        }
        question.clear();
    }
    // SAFETY: ends the process without what the parent had registered for its own end.
    unsafe { libc::_exit(0) }
}

fn map_for(process: i32, map: &IdMap) -> io::Result<String> {
    let process = process.to_string();
    run("newuidmap", &process, &map.users)?;
    run("newgidmap", &process, &map.groups)?;
    Ok(String::new())
}

fn run(program: &str, process: &str, extents: &[Extent]) -> io::Result<()> {
    let words = extents.iter().flat_map(|Extent { inside, outside, count }| [*inside, *outside, *count]);
    let output = Command::new(program).arg(process).args(words.map(|number| number.to_string())).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
