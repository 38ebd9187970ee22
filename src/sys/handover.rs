// SPDX-License-Identifier: ISC
//! Handing a directory from one process to another.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::{Calls, Dir};

/// The end that gives.
#[derive(Debug)]
pub struct Giver(UnixDatagram);

/// The end that takes.
#[derive(Debug)]
pub struct Taker(UnixDatagram);

/// Both ends. What is given waits in between, and is closed if nobody takes it.
///
/// # Errors
/// As socketpair(2).
pub fn handover() -> io::Result<(Giver, Taker)> {
    let (giver, taker) = UnixDatagram::pair()?;
    taker.set_nonblocking(true)?;
    Ok((Giver(giver), Taker(taker)))
}

impl AsFd for Giver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Giver {
    /// Gives `directory`; allocates nothing.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn give(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let given = [directory];
        control.push(SendAncillaryMessage::ScmRights(&given));
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).map(drop)
    }
}

impl Taker {
    /// Takes what was given; none if nothing was.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn take(&self, calls: Calls) -> io::Result<Option<Dir>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::AGAIN) => return Ok(None),
            received => received?,
        };
        let given = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let given: OwnedFd = given.ok_or(io::ErrorKind::UnexpectedEof)?;
        // What is given may be fit for naming only.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Some(Dir::from_fd(rustix::fs::openat(&given, c".", flags, Mode::empty())?, calls)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_given_is_the_one_taken() {
        let (giver, taker) = handover().unwrap();
        assert!(taker.take(Calls::Native).unwrap().is_none());
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("f"), "x").unwrap();
        giver.give(Dir::open(temp.path(), Calls::Native).unwrap().as_fd()).unwrap();
        drop(giver);
        let names: Vec<_> =
            taker.take(Calls::Native).unwrap().unwrap().entries().unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, [Box::from(&b"f"[..])]);
    }
}
