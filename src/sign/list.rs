// SPDX-License-Identifier: ISC
//! Checksum lists: `SHA256 (NAME) = HEX`, as BSD's sha256(1) prints them and `signify -C` reads them, and `HEX  NAME`,
//! as sha256sum(1) does.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};

use base64ct::{Base64, Encoding};

use super::bad;
use crate::error::{Error, ErrorKind, Result};
use crate::path::escape;
use crate::tree::Digest;

/// What signify has room for.
const MAX_NAME: usize = 1023;
const MAX_LINES: usize = 1_000_000;

/// The SHA-256 digests of a list, by file name.
#[derive(Debug, Clone, Default)]
pub struct CheckList {
    digests: HashMap<Box<[u8]>, Digest>,
    others: BTreeSet<Box<[u8]>>,
}

impl CheckList {
    /// Reads a whole list; SHA512 lines are checked for their form and left out.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the first line that cannot be read: what is not understood might be what counts.
    /// [`ErrorKind::Unverified`] naming a file that is listed twice with different digests.
    pub fn parse(text: &[u8]) -> Result<CheckList> {
        let mut list = CheckList::default();
        let lines = text.strip_suffix(b"\n").unwrap_or(text).split(|&b| b == b'\n');
        for (index, line) in lines.enumerate().filter(|_| !text.is_empty()) {
            let number = index + 1;
            if number > MAX_LINES {
                return Err(bad(format!("a checksum list of more than {MAX_LINES} lines")));
            }
            let (name, digest) =
                entry(line).ok_or_else(|| bad(format!("line {number} is no line of a checksum list")))?;
            let Some(digest) = digest else {
                list.others.insert(name.into());
                continue;
            };
            if list.digests.insert(name.as_slice().into(), digest).is_some_and(|before| before != digest) {
                let reason = format!("line {number} gives another digest for {}", escape(&name));
                return Err(Error::new(ErrorKind::Unverified, reason));
            }
        }
        Ok(list)
    }

    /// The digest of the file listed as `name`, letter for letter.
    pub fn find(&self, name: &[u8]) -> Option<Digest> {
        self.digests.get(name).copied()
    }

    /// All names that it lists, sorted: those too of which it has only other digests.
    pub fn names(&self) -> BTreeSet<&[u8]> {
        self.digests.keys().chain(&self.others).map(|name| &**name).collect()
    }

    /// How many files it lists.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Does it list none?
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

/// Name and, if it is SHA-256, digest of a line in either form.
fn entry(line: &[u8]) -> Option<(Vec<u8>, Option<Digest>)> {
    // sha256sum marks a line whose name it had to escape, in both forms.
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (name, digest) = tagged(line).or_else(|| plain(line))?;
    let name = if escaped { unescape(name)? } else { name.to_vec() };
    let fits = (1..=MAX_NAME).contains(&name.len()) && !name.contains(&0);
    fits.then_some((name, digest))
}

/// `ALGORITHM (NAME) = HASH`: the name ends at the first parenthesis; the hash is hexadecimal, or base64 if its length is
/// another.
fn tagged(line: &[u8]) -> Option<(&[u8], Option<Digest>)> {
    let (length, rest) = match line.strip_prefix(b"SHA256 (") {
        Some(rest) => (32, rest),
        None => (64, line.strip_prefix(b"SHA512 (")?),
    };
    let end = rest.iter().position(|&b| b == b')')?;
    let hash = rest[end..].strip_prefix(b") = ")?;
    let bytes = match hash.len() == length * 2 {
        true => hex(hash)?,
        false => Base64::decode_vec(std::str::from_utf8(hash).ok()?).ok()?,
    };
    if bytes.len() != length {
        return None;
    }
    Some((&rest[..end], <[u8; 32]>::try_from(bytes).ok().map(Digest)))
}

/// `HEX  NAME` for text, `HEX *NAME` for binary, which are the same here.
fn plain(line: &[u8]) -> Option<(&[u8], Option<Digest>)> {
    let (hash, rest) = line.split_at_checked(64)?;
    let name = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
    Some((name, Some(Digest::from_hex(hash)?)))
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    text.chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()).collect()
}

/// Undoes `\\`, `\n` and `\r`.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(out)
}
