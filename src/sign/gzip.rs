// SPDX-License-Identifier: ISC
//! The comment of a signed gzip file, as `signify -z` makes it: an embedded signature of a message that names the hash
//! of each block of what follows the header.
//!
//! ```text
//! date=2026-11-22T10:00:00Z
//! key=/etc/signify/fleet-patch.sec
//! algorithm=SHA512/256
//! blocksize=65536
//!
//! HEX of SHA-512/256 of the first block, and so on
//! ```
#![forbid(unsafe_code)]

use sha2::{Digest as _, Sha512_256};

use super::{PublicKey, SecretKey, bad, verify_embedded};
use crate::error::Result;

/// Bytes of a block; signify always writes this.
pub const BLOCK: usize = 65536;
/// The largest block that is read.
const MAX_BLOCK: usize = 16 << 20;
const ALGORITHM: &str = "SHA512/256";

/// The hash of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHash([u8; 32]);

impl BlockHash {
    /// Hashes a block.
    pub fn of(block: &[u8]) -> BlockHash {
        BlockHash(Sha512_256::digest(block).into())
    }
}

/// What a signed comment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// When it was signed, as `YYYY-MM-DDThh:mm:ssZ`; empty if it does not say.
    pub date: String,
    /// The path of the secret key, as it was given to the signer. Trust does not come from it.
    pub key: String,
    /// Bytes of every block but the last.
    pub size: usize,
    /// A hash for each block.
    pub hashes: Vec<BlockHash>,
}

impl Blocks {
    /// Reads and verifies a comment, without the NUL that ends it.
    ///
    /// # Errors
    /// As [`verify_embedded`]; [`crate::ErrorKind::BadInput`] if what was signed is no list of blocks.
    pub fn verify(comment: &[u8], key: &PublicKey) -> Result<Blocks> {
        Blocks::parse(verify_embedded(comment, key)?)
    }

    /// The comment that signs these blocks; `comment` is that of the signature.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if date, key or comment are more than a line.
    pub fn sign(&self, key: &SecretKey, comment: &str) -> Result<Vec<u8>> {
        if [&self.date, &self.key].iter().any(|text| text.contains(['\n', '\0'])) {
            return Err(bad("the path of the key, or the date, is more than a line"));
        }
        let mut message =
            format!("date={}\nkey={}\nalgorithm={ALGORITHM}\nblocksize={}\n\n", self.date, self.key, self.size)
                .into_bytes();
        for hash in &self.hashes {
            message.extend_from_slice(&crate::tree::Digest(hash.0).hex());
            message.push(b'\n');
        }
        Ok([key.sign(&message, comment)?.into_bytes(), message].concat())
    }

    fn parse(message: &[u8]) -> Result<Blocks> {
        let text = std::str::from_utf8(message).map_err(|_| broken())?;
        let (head, hashes) = text.split_once("\n\n").ok_or_else(broken)?;
        let mut blocks = Blocks { date: String::new(), key: String::new(), size: 0, hashes: Vec::new() };
        let mut algorithm = "";
        for line in head.lines() {
            match line.split_once('=').ok_or_else(broken)? {
                ("date", date) => date.clone_into(&mut blocks.date),
                ("key", key) => key.clone_into(&mut blocks.key),
                ("algorithm", name) => algorithm = name,
                ("blocksize", size) => blocks.size = size.parse().map_err(|_| broken())?,
                _ => return Err(broken()),
            }
        }
        if algorithm != ALGORITHM || !(1..=MAX_BLOCK).contains(&blocks.size) {
            return Err(bad("its blocks are hashed in a way that is not known here"));
        }
        let hash = |line: &str| crate::tree::Digest::from_hex(line.as_bytes()).map(|digest| BlockHash(digest.0));
        blocks.hashes = hashes.lines().map(hash).collect::<Option<_>>().ok_or_else(broken)?;
        Ok(blocks)
    }
}

fn broken() -> crate::Error {
    bad("what is signed in it is no list of blocks")
}
