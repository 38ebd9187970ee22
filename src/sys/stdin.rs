// SPDX-License-Identifier: ISC
//! Another standard input for what is started, while this one waits.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

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
