// SPDX-License-Identifier: ISC
//! Gzip of any number of members. Not flate2's own reader: that one takes no header of more than 64 KiB, and the
//! comment of a signed archive (`signify -z`) has 65 bytes for each 64 KiB of it.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read};

use flate2::{Decompress, FlushDecompress, Status};

/// log2 of deflate's window.
const WINDOW_BITS: u8 = 15;

/// Unpacks gzip as it is read.
pub struct Gunzip<R> {
    input: R,
    inflate: Decompress,
    /// Between members, where the input may end.
    between: bool,
}

impl<R: BufRead> Gunzip<R> {
    /// Reads members up to the end of `input`.
    pub fn new(input: R) -> Gunzip<R> {
        Gunzip { input, inflate: Decompress::new_gzip(WINDOW_BITS), between: false }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !out.is_empty() {
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                return if self.between { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if self.between {
                self.inflate.reset(true);
                self.between = false;
            }
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, out, FlushDecompress::None);
            let status = status.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let (taken, made) = (self.inflate.total_in() - taken, self.inflate.total_out() - made);
            self.input.consume(usize::try_from(taken).unwrap_or(usize::MAX));
            match status {
                Status::StreamEnd => self.between = true,
                _ if taken == 0 && made == 0 => return Err(io::ErrorKind::InvalidData.into()),
                _ => {}
            }
            if made > 0 {
                return Ok(usize::try_from(made).unwrap_or(usize::MAX));
            }
        }
        Ok(0)
    }
}
