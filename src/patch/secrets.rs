// SPDX-License-Identifier: ISC
//! Private keys: what they look like.
#![forbid(unsafe_code)]

use std::io::Read;

use base64ct::{Base64, Encoding};

use crate::error::{Error, ErrorKind};
use crate::path::TreePath;

/// How a key in PEM begins and ends its first line: RFC 7468, and OpenSSH's own.
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"PRIVATE KEY-----";
/// signify(1): algorithm, KDF, rounds, salt, checksum, key number, key.
const SIGNIFY: (&[u8], usize) = (b"EdBK", 104);
/// No line of a key in PEM is shorter, but its last.
const LINE: usize = 40;
/// How much is read at a time.
const PIECE: u64 = 64 * 1024;
/// What is kept of one piece for the next: room for the first lines of a key.
const OVERLAP: usize = 1024;

/// Does a file hold a private key? Programs that make keys hold the words that a key begins with too; only in a key is something behind them.
///
/// # Errors
/// Those of `from`.
pub fn holds_key(mut from: impl Read) -> std::io::Result<bool> {
    let mut text = Vec::new();
    if from.by_ref().take(PIECE).read_to_end(&mut text)? > 0 && (is_pem_key(&text, 0) || is_signify_key(&text)) {
        return Ok(true);
    }
    loop {
        if (1..text.len()).any(|at| text[at] == BEGIN[0] && text[at - 1] == b'\n' && is_pem_key(&text, at)) {
            return Ok(true);
        }
        text.drain(..text.len().saturating_sub(OVERLAP));
        if from.by_ref().take(PIECE).read_to_end(&mut text)? == 0 {
            return Ok(false);
        }
    }
}

/// Nobody wants to ship the key at `path`; `hint` says what leaves it out.
pub fn refused(path: &TreePath, hint: &'static str) -> Error {
    let error = Error::new(ErrorKind::Refused, "it holds a private key, which would be in the patch");
    error.at(path).hint(hint)
}

/// Does a key begin at `at`, which is the beginning of a line?
fn is_pem_key(text: &[u8], at: usize) -> bool {
    let Some(rest) = text[at..].strip_prefix(BEGIN) else { return false };
    let mut lines = rest.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end);
    let is_first = lines.next().is_some_and(|line| line.len() < 64 && line.ends_with(END));
    // `Proc-Type: 4,ENCRYPTED` and the like may come before.
    let body =
        |line: &&[u8]| line.len() >= LINE && line.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b));
    is_first && lines.take(5).any(|line| body(&line))
}

fn is_signify_key(text: &[u8]) -> bool {
    if !text.starts_with(b"untrusted comment: ") {
        return false;
    }
    let second = text.split(|&b| b == b'\n').nth(1).and_then(|line| std::str::from_utf8(line).ok());
    let key = second.and_then(|line| Base64::decode_vec(line).ok()).unwrap_or_default();
    key.starts_with(SIGNIFY.0) && key.len() == SIGNIFY.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_what_looks_like_one() {
        let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n";
        let begin = |kind: &str| format!("-----BEGIN {kind}PRIVATE KEY-----\n");
        let secret = [b"EdBK".as_slice(), &[7; 100]].concat();
        let signify = |bytes: &[u8]| format!("untrusted comment: k\n{}\n", Base64::encode_string(bytes));
        let far = format!("{}\n{}{body}", "x".repeat(200_000), begin("OPENSSH "));
        for (text, expect) in [
            (begin("OPENSSH ") + body, true),
            (begin("") + body, true),
            (format!("a = b\n{}Proc-Type: 4,ENCRYPTED\nDEK-Info: AES,00\n\n{body}", begin("RSA ")), true),
            (begin("EC ").replace('\n', "\r\n") + body, true),
            (far, true),
            (signify(&secret), true),
            // A program that writes keys, a public key, a text about keys.
            (format!("{}\0{body}", begin("OPENSSH ").trim_end()), false),
            (begin("OPENSSH ") + "\0-----END OPENSSH PRIVATE KEY-----\n", false),
            (format!("-----BEGIN PUBLIC KEY-----\n{body}"), false),
            (format!("see {}{body}", begin("")), false),
            (signify(&[b"EdXX".as_slice(), &[7; 38]].concat()), false),
            (signify(&secret[..50]), false),
            (String::new(), false),
        ] {
            assert_eq!(holds_key(text.as_bytes()).unwrap(), expect, "{:.80}", text);
            // However it comes.
            assert_eq!(holds_key(Slow(text.as_bytes())).unwrap(), expect, "{:.80}", text);
        }
    }

    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let length = to.len().min(701);
            self.0.read(&mut to[..length])
        }
    }
}
