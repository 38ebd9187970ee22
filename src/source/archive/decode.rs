// SPDX-License-Identifier: ISC
//! The decoding thread: the format is told by its magic, the unpacked stream goes down the pipe.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use sha2::{Digest as _, Sha256};

use super::gzip::Gunzip;
use super::pipe::{Sink, Stop};
use super::{Limits, bad, deb, refused};
use crate::error::{Error, Result};
use crate::tree::Digest;
use crate::watch::Watch;

/// The largest zstd window: 128 MiB, what `zstd -d` itself takes without being told to.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory for xz: a 128 MiB dictionary and liblzma's own needs; `xz -9` has 64 MiB.
const XZ_MEMORY: u64 = 160 << 20;
/// Bytes of one read of the stored file.
const READ: usize = 256 * 1024;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Tar,
    Gzip,
    Xz,
    Zstd,
    Deb,
}

const MAGICS: [(&[u8], Option<Format>, &str); 11] = [
    (b"\x1f\x8b", Some(Format::Gzip), "gzip"),
    (b"\xfd7zXZ\0", Some(Format::Xz), "xz"),
    (b"\x28\xb5\x2f\xfd", Some(Format::Zstd), "zstd"),
    (b"!<arch>\n", Some(Format::Deb), "deb"),
    (b"BZh", None, "bzip2"),
    (b"\x04\x22\x4d\x18", None, "lz4"),
    (b"LZIP", None, "lzip"),
    (b"\x5d\0\0", None, "lzma"),
    (b"\x1f\x9d", None, "compress"),
    (b"PK\x03\x04", None, "zip"),
    (b"7z\xbc\xaf\x27\x1c", None, "7z"),
];

/// Tells the format by the first bytes, never by a name; what has no magic of its own is tar.
pub(super) fn sniff(head: &[u8]) -> Result<Format> {
    if head.is_empty() {
        return Err(bad("the archive is empty"));
    }
    match MAGICS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        Some((_, Some(format), _)) => Ok(*format),
        Some((.., name)) => Err(refused(format!("{name} is not supported")).hint("unpack it and pack it as .tar.zst")),
        None => Ok(Format::Tar),
    }
}

/// The file as stored: every byte that is read is counted, and hashed if that is wanted.
pub(super) struct Stored<'a> {
    file: &'a File,
    count: Rc<Cell<u64>>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    hash: Option<Sha256>,
}

impl<'a> Stored<'a> {
    pub(super) fn new(file: &'a File, hashed: bool) -> Stored<'a> {
        let buffer = vec![0; READ].into_boxed_slice();
        Stored { file, count: Rc::default(), buffer, start: 0, end: 0, hash: hashed.then(Sha256::new) }
    }

    /// Reads on from where the last read ended.
    fn read_on(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(into, self.count.get()) {
                Ok(n) => {
                    self.hash.iter_mut().for_each(|hash| hash.update(&into[..n]));
                    self.count.set(self.count.get() + n as u64);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl BufRead for Stored<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.read_on(&mut buffer);
            self.buffer = buffer;
            (self.start, self.end) = (0, read?);
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && out.len() >= READ {
            return self.read_on(out); // a plain tar: straight into the pipe's buffer
        }
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// What bounds the unpacked stream.
struct Meter<'a> {
    limits: &'a Limits,
    watch: &'a Watch,
    stored: Rc<Cell<u64>>,
    told: u64,
    unpacked: u64,
}

impl Meter<'_> {
    fn add(&mut self, n: usize) -> Result<()> {
        let stored = self.stored.get();
        self.watch.count(0, stored - self.told)?;
        self.told = stored;
        self.unpacked += n as u64;
        if self.unpacked > self.limits.unpacked {
            return Err(refused(format!("it unpacks to more than {} bytes", self.limits.unpacked)));
        }
        if self.unpacked > self.limits.floor && self.unpacked / self.limits.ratio > stored {
            let Limits { ratio, .. } = self.limits;
            return Err(refused(format!("it unpacks to more than {ratio} times its size, like a decompression bomb")));
        }
        Ok(())
    }
}

/// Decodes all of `stored` into `sink`. None if that was not done to the end; else the digest of the stored bytes, if
/// they are hashed.
pub(super) fn run(mut stored: Stored<'_>, limits: &Limits, watch: &Watch, sink: Sink) -> Option<Option<Digest>> {
    let mut meter = Meter { limits, watch, stored: Rc::clone(&stored.count), told: 0, unpacked: 0 };
    match unpack(&mut stored, &mut meter, &sink) {
        Ok(()) => Some(stored.hash.map(|hash| Digest(hash.finalize().into()))),
        Err(Stop::Unwanted) => None,
        Err(Stop::Failed(error)) => {
            sink.fail(error);
            None
        }
    }
}

fn unpack(stored: &mut Stored<'_>, meter: &mut Meter<'_>, sink: &Sink) -> Result<(), Stop> {
    let head = stored.fill_buf().map_err(|e| Stop::Failed(damaged(Format::Tar, &e)))?;
    let format = sniff(head).map_err(Stop::Failed)?;
    if format != Format::Deb {
        return pour(format, stored, meter, sink);
    }
    let mut data = deb::data(stored).map_err(Stop::Failed)?;
    let head = data.fill_buf().map_err(|e| Stop::Failed(damaged(Format::Deb, &e)))?;
    let format = sniff(head).map_err(Stop::Failed)?;
    pour(format, &mut data, meter, sink)?;
    if data.limit() > 0 {
        return Err(Stop::Failed(bad("the package is cut short in its data")));
    }
    // Members after the data are ignored, as deb(5) asks, but belong to the digest.
    io::copy(stored, &mut io::sink()).map_err(|e| Stop::Failed(damaged(Format::Deb, &e)))?;
    Ok(())
}

/// Sends all that `reader` unpacks to.
fn pour(format: Format, reader: &mut dyn BufRead, meter: &mut Meter<'_>, sink: &Sink) -> Result<(), Stop> {
    let failed = |e: io::Error| damaged(format, &e);
    let mut decoder: Box<dyn Read + '_> = match format {
        Format::Tar => Box::new(reader),
        Format::Gzip => Box::new(Gunzip::new(reader)),
        Format::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED);
            Box::new(XzDecoder::new_stream(reader, stream.map_err(|e| Stop::Failed(failed(e.into())))?))
        }
        Format::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(reader).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            Box::new(decoder.map_err(|e| Stop::Failed(failed(e)))?)
        }
        Format::Deb => return Err(Stop::Failed(refused("a .deb inside a .deb"))),
    };
    loop {
        match sink.send(&mut decoder, &failed)? {
            0 => return Ok(()),
            n => meter.add(n).map_err(Stop::Failed)?,
        }
    }
}

/// Says what a read error of `format` means.
fn damaged(format: Format, error: &io::Error) -> Error {
    let name = MAGICS.iter().find(|(_, f, _)| *f == Some(format)).map_or("tar", |(.., name)| name);
    if error.raw_os_error().is_some() {
        return Error::new(crate::ErrorKind::Io, format!("read: {error}"));
    }
    match error.kind() {
        // Neither library has an error code for it that would get through.
        _ if error.to_string().contains("memory") => {
            refused(format!("the {name} data needs more than 128 MiB to unpack"))
                .hint("pack it again with a smaller window")
        }
        io::ErrorKind::UnexpectedEof => bad(format!("the {name} data is cut short")),
        _ => bad(format!("the {name} data is damaged: {error}")),
    }
}
