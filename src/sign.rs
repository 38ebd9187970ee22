// SPDX-License-Identifier: ISC
//! Signatures as signify(1) makes them, and checksum lists. Pure: bytes in, verdict out.
//!
//! A key or a signature is two lines of text: `untrusted comment: ...` and base64 of the letters `Ed`, a key number of 8
//! bytes and an Ed25519 key or signature. In an embedded signature the message follows as it is. Comments are free text
//! that anyone can change: nothing here reads them.
#![forbid(unsafe_code)]

pub mod gzip;
mod list;
mod secret;
#[cfg(test)]
mod tests;

use std::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::VerifyingKey;

use crate::error::{Error, ErrorKind, Result};

pub use list::CheckList;
pub use secret::{Passphrase, SecretKey};

/// Files with a key or a detached signature are read to this many bytes and no further.
pub const MAX_FILE: usize = 2047;
/// The longest message that signify handles.
pub const MAX_MESSAGE: usize = 1 << 30;
/// The longest comment, in bytes.
const MAX_COMMENT: usize = 1023;
const COMMENT: &[u8] = b"untrusted comment: ";
const ALGORITHM: &[u8] = b"Ed";

/// Tells which key made a signature: 8 random bytes made along with the key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyNumber([u8; 8]);

impl fmt::Display for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A public key.
#[derive(Debug, Clone)]
pub struct PublicKey {
    number: KeyNumber,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads the text of a `.pub` file.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is none.
    pub fn parse(file: &[u8]) -> Result<PublicKey> {
        let (number, key, _) = decode::<32>(limited(file)?, "public key")?;
        let key = VerifyingKey::from_bytes(&key).ok().filter(|key| !key.is_weak());
        let key = key.ok_or_else(|| bad("it is no usable Ed25519 key"))?;
        Ok(PublicKey { number, key })
    }

    /// The number that signatures by this key carry.
    pub fn number(&self) -> KeyNumber {
        self.number
    }
}

/// Verifies an embedded signature (`signify -S -e`, as in `SHA256.sig`) and returns its message.
///
/// # Errors
/// [`ErrorKind::Unverified`] if another key or another message was signed; [`ErrorKind::BadInput`] if it is no signed
/// file.
pub fn verify_embedded<'a>(signed: &'a [u8], key: &PublicKey) -> Result<&'a [u8]> {
    let (number, signature, message) = decode::<64>(signed, "signature")?;
    verify(key, number, &signature, message)?;
    Ok(message)
}

/// The number of the key that a signature, detached or embedded, says it is made by.
///
/// # Errors
/// [`ErrorKind::BadInput`] if it is no signature.
pub fn signer(signed: &[u8]) -> Result<KeyNumber> {
    Ok(decode::<64>(signed, "signature")?.0)
}

/// Verifies the detached signature of `message`.
///
/// # Errors
/// As for [`verify_embedded`].
pub fn verify_detached(signature: &[u8], message: &[u8], key: &PublicKey) -> Result<()> {
    let (number, signature, _) = decode::<64>(limited(signature)?, "signature")?;
    verify(key, number, &signature, message)
}

/// The key number is compared before any cryptography. `verify_strict` also refuses what only some verifiers accept:
/// points of small order and encodings that are not canonical.
fn verify(key: &PublicKey, number: KeyNumber, signature: &[u8; 64], message: &[u8]) -> Result<()> {
    if number != key.number {
        let reason = format!("it is signed by key {number}, and this is key {}", key.number);
        return Err(Error::new(ErrorKind::Unverified, reason).hint("name the public key that belongs to it"));
    }
    if message.len() > MAX_MESSAGE {
        return Err(bad("the signed message is larger than 1 GiB"));
    }
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    let held = key.key.verify_strict(message, &signature);
    held.map_err(|_| Error::new(ErrorKind::Unverified, "its signature does not hold"))
}

/// Splits a file into key number, `N` bytes of key or signature, and what follows its two lines.
fn decode<'a, const N: usize>(file: &'a [u8], what: &str) -> Result<(KeyNumber, [u8; N], &'a [u8])> {
    let broken = |reason: &str| bad(format!("not a signify {what}: {reason}"));
    let (first, rest) = line(file, COMMENT.len() + MAX_COMMENT).ok_or_else(|| broken("its first line does not end"))?;
    let comment = first.strip_prefix(COMMENT).filter(|c| !c.is_empty() && !c.contains(&0));
    comment.ok_or_else(|| broken("it does not begin with \"untrusted comment: \" and a comment"))?;
    let (text, rest) = line(rest, MAX_FILE).ok_or_else(|| broken("its second line does not end"))?;
    let text = std::str::from_utf8(text).ok().and_then(|text| Base64::decode_vec(text).ok());
    let bytes = text.ok_or_else(|| broken("its second line is not base64"))?;
    let body = bytes.strip_prefix(ALGORITHM).ok_or_else(|| broken("it is not Ed25519"))?;
    let parts = body.split_first_chunk::<8>();
    let parts = parts.and_then(|(number, body)| Some((KeyNumber(*number), body.try_into().ok()?)));
    let (number, bytes) = parts.ok_or_else(|| broken("its length is wrong"))?;
    Ok((number, bytes, rest))
}

/// The first line, at most `limit` bytes, and what follows its newline.
fn line(text: &[u8], limit: usize) -> Option<(&[u8], &[u8])> {
    let end = text.iter().take(limit + 1).position(|&b| b == b'\n')?;
    Some((&text[..end], &text[end + 1..]))
}

fn limited(file: &[u8]) -> Result<&[u8]> {
    match file.len() {
        0..=MAX_FILE => Ok(file),
        _ => Err(bad("a file of more than 2047 bytes is no key and no detached signature")),
    }
}

fn bad(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}
