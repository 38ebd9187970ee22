// SPDX-License-Identifier: ISC
//! Standard input: another one for what is started while this one waits, and one that does not wait for ever.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::watch::Watch;

/// How long a user waits at most for being heard.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The standard input as it was; it comes back when this is dropped.
#[derive(Debug)]
pub struct Stdin(OwnedFd);

impl Stdin {
    /// Puts `file` in the place of the standard input of this process.
    ///
    /// # Errors
    /// As dup2(2).
    pub fn replace(file: &File) -> io::Result<Stdin> {
        let was = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(file)?;
        Ok(Stdin(was))
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        // It was open, and so is what it came from: nothing can be in the way.
        let _ = rustix::stdio::dup2_stdin(&self.0);
    }
}

/// Standard input, waited for as long as nobody wants the work to stop.
#[derive(Debug)]
pub struct WatchedInput<'a>(pub &'a Watch);

impl Read for WatchedInput<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let stdin = rustix::stdio::stdin();
        loop {
            self.0.check().map_err(io::Error::other)?;
            match rustix::event::poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&TICK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(stdin, out)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
