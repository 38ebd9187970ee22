// SPDX-License-Identifier: ISC
//! Signed gzip files as streams. Nothing of one is handed on before the signature holds, and no block of it before its
//! hash does (`signify -z`; see [`crate::sign::gzip`]).
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read, Seek, Write};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::Keys;
use crate::sign::SecretKey;
use crate::sign::gzip::{BLOCK, BlockHash, Blocks};

/// The fixed part of a gzip header (RFC 1952).
const HEADER: usize = 10;
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const FLAGS: usize = 3;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
/// The longest comment: that of a file of 16 GiB. It is read before anything is known of who made it.
const MAX_COMMENT: u64 = 17 << 20;
/// An empty gzip member: deflate's empty block, and no bytes.
const EMPTY: [u8; 20] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A signed gzip file that is being read: a gzip file again, without name and comment.
pub struct Signed<R> {
    input: R,
    blocks: Blocks,
    /// What the key is called that the signature holds for.
    pub key: String,
    /// A block that was verified.
    block: Vec<u8>,
    at: usize,
    next: usize,
    ended: bool,
}

impl<R: BufRead> Signed<R> {
    /// Reads the header and verifies the signature in it.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] without a signature of one of `keys`; [`ErrorKind::BadInput`] if it is no gzip file.
    pub fn open(mut input: R, keys: &Keys) -> Result<Signed<R>> {
        let (header, comment) = read_header(&mut input)?;
        let unsigned = || {
            let error = Error::new(ErrorKind::Unverified, "it is not signed");
            error.hint("sign it with: stockade key sign -z; or trust it with --unsigned")
        };
        let comment = comment.ok_or_else(unsigned)?;
        let (name, key) = keys.find(&comment)?;
        let blocks = Blocks::verify(&comment, key)?;
        let (key, block) = (name.clone(), plain(&header).to_vec());
        Ok(Signed { input, blocks, key, block, at: 0, next: 0, ended: false })
    }

    /// When it was signed, as the signer says.
    pub fn date(&self) -> &str {
        &self.blocks.date
    }

    /// Copies all of it; only what was verified is written, but an error may come after that.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] for a block that is not what was signed; as write(2).
    pub fn copy_to(&mut self, to: &mut dyn Write) -> Result<()> {
        loop {
            let block = self.fill_buf().map_err(why)?;
            let length = block.len();
            if length == 0 {
                return to.flush().on("write", &self.key);
            }
            to.write_all(block).on("write", &self.key)?;
            self.consume(length);
        }
    }

    /// Reads the next block whole, and hands it on only if its hash holds.
    fn fill(&mut self) -> io::Result<()> {
        self.block.clear();
        self.at = 0;
        (&mut self.input).take(self.blocks.size as u64).read_to_end(&mut self.block)?;
        let expected = self.blocks.hashes.get(self.next);
        self.next += 1;
        if self.block.is_empty() {
            // Some signers have a hash for an empty block at the end.
            let rest = self.blocks.hashes.get(self.next - 1..).unwrap_or_default();
            self.ended = rest.is_empty() || rest == [BlockHash::of(&[])];
            return if self.ended { Ok(()) } else { Err(unverified("it is cut short")) };
        }
        match expected {
            Some(hash) if *hash == BlockHash::of(&self.block) => Ok(()),
            Some(_) => Err(unverified("a block of it is not what was signed")),
            None => Err(unverified("there is more of it than was signed")),
        }
    }
}

impl<R: BufRead> BufRead for Signed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() && !self.ended {
            self.fill().inspect_err(|_| self.block.clear())?;
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl<R: BufRead> Read for Signed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// A block that is not what was signed, as an error of reading; [`why`] turns it back.
fn unverified(reason: &'static str) -> io::Error {
    io::Error::other(Error::new(ErrorKind::Unverified, reason))
}

/// Why reading a file failed: what [`Signed`] found, or that it is damaged, or the system's reason.
pub(super) fn why(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::BadInput, "it is cut short"),
        io::ErrorKind::InvalidData => Error::new(ErrorKind::BadInput, "its compression is damaged"),
        _ if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => match error.into_inner() {
            Some(inner) => *inner
                .downcast::<Error>()
                .unwrap_or_else(|other| Box::new(Error::new(ErrorKind::Io, other.to_string()))),
            None => Error::new(ErrorKind::Io, "reading failed"),
        },
        _ => Error::new(ErrorKind::Io, format!("read: {error}")),
    }
}

/// Reads a gzip header: its fixed part and its comment, without the NUL.
fn read_header(input: &mut impl BufRead) -> Result<([u8; HEADER], Option<Vec<u8>>)> {
    let bad = |reason: &'static str| Error::new(ErrorKind::BadInput, reason);
    let mut header = [0; HEADER];
    input.read_exact(&mut header).map_err(why)?;
    if header[..3] != MAGIC {
        return Err(bad("it is no gzip file"));
    }
    if header[FLAGS] & !(NAME | COMMENT) != 0 {
        return Err(bad("its gzip header has more than a name and a comment"));
    }
    let mut text = |what: &'static str| -> Result<Vec<u8>> {
        let mut text = Vec::new();
        input.by_ref().take(MAX_COMMENT).read_until(0, &mut text).map_err(why)?;
        if text.pop() == Some(0) { Ok(text) } else { Err(bad(what)) }
    };
    if header[FLAGS] & NAME != 0 {
        text("the name in its gzip header does not end")?;
    }
    let comment = header[FLAGS] & COMMENT != 0;
    let comment = comment.then(|| text("the comment in its gzip header does not end")).transpose()?;
    Ok((header, comment))
}

/// The header as signify writes it, but for flags and comment.
fn plain(header: &[u8; HEADER]) -> [u8; HEADER] {
    [MAGIC[0], MAGIC[1], MAGIC[2], 0, 0, 0, 0, 0, header[8], 3]
}

/// Who signs, and what the signature says besides.
#[derive(Debug)]
pub struct Signer<'a> {
    /// The key.
    pub key: &'a SecretKey,
    /// The comment of the signature: `verify with NAME.pub`.
    pub comment: &'a str,
    /// The path of the secret key, as it was given.
    pub path: &'a str,
    /// `YYYY-MM-DDThh:mm:ssZ`.
    pub date: &'a str,
}

/// Signs a gzip file: writes it to `out` with a header that holds the signature. All after the old header stays as it
/// is; signify itself cannot verify a file of whole blocks alone, so such a one gets an empty member behind it.
///
/// # Errors
/// [`ErrorKind::BadInput`] if `input` is no gzip file, or the text of the signer is more than a line; as read(2) and
/// write(2).
pub fn sign_gzip(input: &mut (impl BufRead + Seek), signer: &Signer<'_>, out: &mut dyn Write) -> Result<()> {
    input.rewind().on("seek", signer.path)?;
    let (header, _) = read_header(input)?;
    let start = input.stream_position().on("seek", signer.path)?;
    let mut hashes = Vec::new();
    let mut block = Vec::with_capacity(BLOCK);
    let whole = loop {
        block.clear();
        let length = input.by_ref().take(BLOCK as u64).read_to_end(&mut block).map_err(why)?;
        if length == 0 {
            break true;
        }
        hashes.push(BlockHash::of(&block));
        if length < BLOCK {
            break false;
        }
    };
    if whole {
        hashes.push(BlockHash::of(&EMPTY));
    }
    let (date, key) = (signer.date.to_owned(), signer.path.to_owned());
    let comment = Blocks { date, key, size: BLOCK, hashes }.sign(signer.key, signer.comment)?;
    let mut head = plain(&header);
    head[FLAGS] = COMMENT;
    input.seek(io::SeekFrom::Start(start)).on("seek", signer.path)?;
    let mut write = || -> io::Result<()> {
        out.write_all(&head)?;
        out.write_all(&comment)?;
        out.write_all(&[0])?;
        io::copy(input, out)?;
        out.write_all(if whole { &EMPTY } else { &[] })
    };
    write().on("write", "patch")
}
