// SPDX-License-Identifier: ISC
//! From the decoding thread to the parsing one: a bounded queue of buffers that travel round and round.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use super::bad;
use crate::error::{Error, Result};

/// Bytes of a buffer: a few hundred KB amortise the hand-over and stay within the second-level cache.
const CHUNK: usize = 256 * 1024;
/// How many buffers the decoder may be ahead.
const AHEAD: usize = 8;

struct Chunk {
    bytes: Vec<u8>,
    used: usize,
}

/// The decoder's end.
pub(super) struct Sink {
    full: SyncSender<Result<Chunk>>,
    empty: Receiver<Vec<u8>>,
}

/// Why decoding ended early.
pub(super) enum Stop {
    /// The parser wants no more.
    Unwanted,
    /// It failed.
    Failed(Error),
}

/// The parser's end. Once a read of a [`Piece`] failed, [`Pipe::failure`] has the reason.
#[allow(missing_debug_implementations)]
pub struct Pipe {
    full: Receiver<Result<Chunk>>,
    empty: Sender<Vec<u8>>,
    now: Chunk,
    at: usize,
    position: u64,
    failure: Option<Error>,
}

pub(super) fn pair() -> (Sink, Pipe) {
    let (full, filled) = mpsc::sync_channel(AHEAD);
    let (back, empty) = mpsc::channel();
    let now = Chunk { bytes: Vec::new(), used: 0 };
    (Sink { full, empty }, Pipe { full: filled, empty: back, now, at: 0, position: 0, failure: None })
}

/// Gives `visit` what `from` yields, which a thread of its own reads beforehand; `failed` says what its errors mean.
pub fn read_ahead<T>(
    mut from: impl Read + Send,
    failed: impl Fn(io::Error) -> Error + Send,
    visit: impl FnOnce(&mut Pipe) -> T,
) -> T {
    let (sink, mut pipe) = pair();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                match sink.send(&mut from, &failed) {
                    Ok(0) | Err(Stop::Unwanted) => return,
                    Ok(_) => {}
                    Err(Stop::Failed(error)) => return sink.fail(error),
                }
            }
        });
        let done = visit(&mut pipe);
        // What is still read is unwanted.
        drop(pipe);
        done
    })
}

impl Sink {
    /// Fills one buffer from `reader` and sends it off; returns its length, 0 at the end of the input.
    ///
    /// `failed` turns a read error into the error to report.
    pub(super) fn send(&self, reader: &mut dyn Read, failed: &dyn Fn(io::Error) -> Error) -> Result<usize, Stop> {
        let mut bytes = self.empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let mut used = 0;
        let mut failure = None;
        while used < bytes.len() {
            match reader.read(&mut bytes[used..]) {
                Ok(0) => break,
                Ok(n) => used += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    failure = Some(failed(e));
                    break;
                }
            }
        }
        if used > 0 {
            self.full.send(Ok(Chunk { bytes, used })).map_err(|_| Stop::Unwanted)?;
        }
        failure.map_or(Ok(used), |e| Err(Stop::Failed(e)))
    }

    /// Tells the parser why there is no more.
    pub(super) fn fail(&self, error: Error) {
        let _ = self.full.send(Err(error)); // the parser may be gone, and then nobody wants to know
    }
}

impl Pipe {
    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Why the last read failed.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// The bytes at hand; empty only at the end.
    fn ahead(&mut self) -> Result<&[u8]> {
        if self.at == self.now.used {
            let next = match self.full.recv() {
                Ok(next) => next?,
                Err(_) => Chunk { bytes: Vec::new(), used: 0 },
            };
            let old = std::mem::replace(&mut self.now, next);
            self.at = 0;
            if !old.bytes.is_empty() {
                let _ = self.empty.send(old.bytes); // a decoder that has ended needs no buffer
            }
        }
        Ok(&self.now.bytes[self.at..self.now.used])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
        self.position += n as u64;
    }

    /// Fills `out`; returns how much of it there was.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < out.len() {
            let ahead = self.ahead()?;
            let n = ahead.len().min(out.len() - done);
            if n == 0 {
                break;
            }
            out[done..done + n].copy_from_slice(&ahead[..n]);
            self.consume(n);
            done += n;
        }
        Ok(done)
    }

    /// The next `length` bytes, which the caller has checked to be few.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if there are fewer; why reading failed.
    pub fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            let ahead = self.ahead()?;
            let n = ahead.len().min(length - out.len());
            if n == 0 {
                return Err(cut_short());
            }
            out.extend_from_slice(&ahead[..n]);
            self.consume(n);
        }
        Ok(out)
    }

    /// Passes over `length` bytes.
    ///
    /// # Errors
    /// As [`Pipe::take`].
    pub fn skip(&mut self, length: u64) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let n = self.ahead()?.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if n == 0 {
                return Err(cut_short());
            }
            self.consume(n);
            left -= n as u64;
        }
        Ok(())
    }

    /// Is nothing left?
    ///
    /// # Errors
    /// Why reading failed.
    pub fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.ahead()?.is_empty())
    }

    /// Reads to the end; false if any byte was not zero.
    pub(super) fn zeros_to_end(&mut self) -> Result<bool> {
        loop {
            let ahead = self.ahead()?;
            let n = ahead.len();
            if n == 0 {
                return Ok(true);
            }
            if ahead.iter().any(|&b| b != 0) {
                return Ok(false);
            }
            self.consume(n);
        }
    }
}

/// Reads a body: the caller sees an I/O error, the reason is kept in the pipe.
#[allow(missing_debug_implementations)]
pub struct Piece<'a> {
    /// Where it comes from.
    pub pipe: &'a mut Pipe,
    /// Bytes of it that are still to be read.
    pub left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let want = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.pipe.fill(&mut out[..want]);
        let read = read.and_then(|n| if n < want { Err(cut_short()) } else { Ok(n) });
        let n = read.map_err(|error| {
            let told = io::Error::other(error.reason().to_owned());
            self.pipe.failure = Some(error);
            told
        })?;
        self.left -= n as u64;
        Ok(n)
    }
}

pub(super) fn cut_short() -> Error {
    bad("the archive is cut short")
}
