// SPDX-License-Identifier: ISC
//! Secret keys: making, reading, locking with a passphrase, signing.
#![forbid(unsafe_code)]

use std::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest as _, Sha512};

use super::{ALGORITHM, COMMENT, KeyNumber, MAX_COMMENT, PublicKey, bad, decode, limited};
use crate::error::{Error, ErrorKind, Result};

/// The one key derivation that signify knows: bcrypt_pbkdf.
const DERIVATION: &[u8] = b"BK";
/// How often it is repeated, as signify does.
const ROUNDS: u32 = 42;
/// More rounds would take minutes.
const MAX_ROUNDS: u32 = 10_000;
/// Seed and public key.
const SECRET: usize = 64;
/// Derivation, rounds, salt, checksum and secret: what follows `Ed`, but for the key number between the last two.
const BODY: usize = 2 + 4 + 16 + 8 + 8 + SECRET;

/// A secret key, unlocked. It is never shown.
pub struct SecretKey {
    number: KeyNumber,
    key: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.number)
    }
}

/// What locks a secret key.
#[derive(Clone, Copy)]
pub struct Passphrase<'a> {
    /// What is typed.
    pub text: &'a [u8],
    /// 16 random bytes.
    pub salt: [u8; 16],
}

impl SecretKey {
    /// Makes a key of 8 random bytes for its number and 32 for the key itself.
    pub fn new(number: [u8; 8], seed: [u8; 32]) -> SecretKey {
        SecretKey { number: KeyNumber(number), key: SigningKey::from_bytes(&seed) }
    }

    /// Does it take a passphrase to read the text of this `.sec` file?
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is no secret key.
    pub fn is_locked(file: &[u8]) -> Result<bool> {
        Ok(Stored::parse(file)?.rounds > 0)
    }

    /// Reads the text of a `.sec` file. The passphrase is not looked at if the key is not locked.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is no secret key; [`ErrorKind::Unverified`] for a wrong passphrase.
    pub fn parse(file: &[u8], passphrase: &[u8]) -> Result<SecretKey> {
        let mut stored = Stored::parse(file)?;
        mask(&mut stored.secret, passphrase, &stored.salt, stored.rounds)?;
        if stored.checksum != checksum(&stored.secret) {
            let reason = if stored.rounds > 0 { "the passphrase is wrong" } else { "its checksum is wrong" };
            return Err(Error::new(ErrorKind::Unverified, reason));
        }
        let key = SigningKey::from_keypair_bytes(&stored.secret);
        let key = key.map_err(|_| bad("its public half does not belong to its secret one"))?;
        Ok(SecretKey { number: stored.number, key })
    }

    /// The text of its `.sec` file.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a comment that has no room there.
    pub fn to_file(&self, comment: &str, lock: Option<Passphrase<'_>>) -> Result<String> {
        let mut secret = self.key.to_keypair_bytes();
        let checksum = checksum(&secret);
        let (rounds, salt) = lock.map_or((0, [0; 16]), |lock| (ROUNDS, lock.salt));
        mask(&mut secret, lock.map_or(&[], |lock| lock.text), &salt, rounds)?;
        let bytes = [ALGORITHM, DERIVATION, &rounds.to_be_bytes(), &salt, &checksum, &self.number.0, &secret].concat();
        wrap(comment, &bytes)
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey { number: self.number, key: self.key.verifying_key() }
    }

    /// The text of a signature of `message`: a detached one as it is; with the message behind it an embedded one.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a comment that has no room there.
    pub fn sign(&self, message: &[u8], comment: &str) -> Result<String> {
        let signature = self.key.sign(message).to_bytes();
        wrap(comment, &[ALGORITHM, &self.number.0, &signature].concat())
    }
}

impl PublicKey {
    /// The text of its `.pub` file.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a comment that has no room there.
    pub fn to_file(&self, comment: &str) -> Result<String> {
        wrap(comment, &[ALGORITHM, &self.number.0, self.key.as_bytes()].concat())
    }
}

/// A secret key as it is stored.
struct Stored {
    rounds: u32,
    salt: [u8; 16],
    checksum: [u8; 8],
    number: KeyNumber,
    secret: [u8; SECRET],
}

impl Stored {
    fn parse(file: &[u8]) -> Result<Stored> {
        // What `decode` takes for the number are the first eight bytes of the rest.
        let (head, rest, _) = decode::<{ BODY - 8 }>(limited(file)?, "secret key")?;
        let bytes = [&head.0[..], &rest].concat();
        let fields = || {
            let (derivation, rest) = bytes.split_first_chunk::<2>()?;
            let (rounds, rest) = rest.split_first_chunk::<4>()?;
            let (salt, rest) = rest.split_first_chunk::<16>()?;
            let (checksum, rest) = rest.split_first_chunk::<8>()?;
            let (number, secret) = rest.split_first_chunk::<8>()?;
            let rounds = u32::from_be_bytes(*rounds);
            let (number, secret) = (KeyNumber(*number), secret.try_into().ok()?);
            (derivation == DERIVATION).then_some(Stored { rounds, salt: *salt, checksum: *checksum, number, secret })
        };
        let stored = fields().ok_or_else(|| bad("not a signify secret key: its key derivation is unknown"))?;
        match stored.rounds {
            0..=MAX_ROUNDS => Ok(stored),
            rounds => Err(bad(format!("its passphrase takes {rounds} rounds, more than {MAX_ROUNDS}"))),
        }
    }
}

fn checksum(secret: &[u8; SECRET]) -> [u8; 8] {
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&Sha512::digest(secret)[..8]);
    checksum
}

/// Locks or unlocks.
fn mask(secret: &mut [u8; SECRET], passphrase: &[u8], salt: &[u8; 16], rounds: u32) -> Result<()> {
    if rounds == 0 {
        return Ok(());
    }
    let mut stream = [0; SECRET];
    let derived = bcrypt_pbkdf::bcrypt_pbkdf(passphrase, salt, rounds, &mut stream);
    derived.map_err(|_| Error::new(ErrorKind::Usage, "an empty passphrase"))?;
    secret.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    Ok(())
}

/// The two lines of any signify file.
fn wrap(comment: &str, bytes: &[u8]) -> Result<String> {
    if comment.is_empty() || comment.len() > MAX_COMMENT || comment.contains(['\n', '\0']) {
        return Err(bad("a comment must be one line of at most 1023 bytes"));
    }
    Ok(format!("{}{comment}\n{}\n", String::from_utf8_lossy(COMMENT), Base64::encode_string(bytes)))
}
