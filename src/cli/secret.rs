// SPDX-License-Identifier: ISC
//! Secret keys and passphrases, as the command line names them.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use crate::cli::out;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Pen, read_short};
use crate::sign::SecretKey;
use crate::sys;

/// The longest passphrase, with its newline.
const MAX_PASSPHRASE: u64 = 1024;

/// Where a passphrase comes from.
#[derive(Debug, Args)]
pub(super) struct PassphraseArgs {
    /// Read the passphrase of the secret key from this file, `-` for standard input, instead of the terminal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Reads a secret key; asks for its passphrase if it is locked.
    pub(super) fn open(&self, secret: &Path) -> Result<Pen> {
        let shown = secret.as_os_str().as_bytes();
        let text = read_short(secret)?;
        warn_if_shared(secret)?;
        let locked = SecretKey::is_locked(&text).map_err(|error| error.at(shown))?;
        let passphrase =
            if locked { self.ask(&format!("passphrase of {}: ", out::shown(secret)))? } else { Vec::new() };
        let key = SecretKey::parse(&text, &passphrase).map_err(|error| error.at(shown))?;
        Ok(Pen { key, path: secret.to_owned() })
    }

    /// A passphrase for a new key: typed twice.
    pub(super) fn ask_new(&self) -> Result<Vec<u8>> {
        let first = self.ask("passphrase: ")?;
        if first.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "an empty passphrase"));
        }
        if self.passphrase_file.is_none() && self.ask("the same again: ")? != first {
            return Err(Error::new(ErrorKind::Usage, "the passphrases differ"));
        }
        Ok(first)
    }

    fn ask(&self, prompt: &str) -> Result<Vec<u8>> {
        match &self.passphrase_file {
            Some(file) if file == Path::new("-") => first_line(io::stdin().lock(), b"standard input"),
            Some(file) => {
                let shown = file.as_os_str().as_bytes();
                first_line(fs::File::open(file).on("open", shown)?, shown)
            }
            None => {
                let typed = sys::ask_hidden(prompt)
                    .on("read", "/dev/tty")
                    .map_err(|error| error.hint("give the passphrase with --passphrase-file"))?;
                typed.ok_or_else(|| Error::new(ErrorKind::Cancelled, "no passphrase was given"))
            }
        }
    }
}

fn first_line(from: impl Read, shown: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_PASSPHRASE).read_to_end(&mut text).on("read", shown)?;
    let end = text.iter().position(|&b| b == b'\n').unwrap_or(text.len());
    text.truncate(end);
    Ok(text)
}

/// A secret that others can read is none.
fn warn_if_shared(secret: &Path) -> Result<()> {
    let found = fs::metadata(secret).on("stat", secret.as_os_str().as_bytes())?;
    if found.is_file() && found.mode() & 0o077 != 0 {
        out::warn(&format!("{}: others can read this secret key; mend it with: chmod 600", out::shown(secret)));
    }
    Ok(())
}
