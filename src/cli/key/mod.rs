// SPDX-License-Identifier: ISC
//! `stockade key`: what signify(1) does, for those who have none.
#![forbid(unsafe_code)]

pub(super) mod args;
mod verify;

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::cli::out::{Out, shown};
use crate::cli::{Exit, json};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::New;
use crate::sign::{MAX_MESSAGE, Passphrase, SecretKey};
use crate::sys;
use args::{Generate, Key, KeyVerb, Sign};

pub(super) fn run(args: &Key, out: &mut Out) -> Result<Exit> {
    match &args.verb {
        KeyVerb::Generate(args) => generate(args, out),
        KeyVerb::Sign(args) => sign(args, out),
        KeyVerb::Verify(args) => verify::run(args, out),
    }
}

fn generate(args: &Generate, out: &mut Out) -> Result<Exit> {
    let (secret, public) = (ending(&args.name, ".sec"), ending(&args.name, ".pub"));
    for file in [&secret, &public] {
        if fs::symlink_metadata(file).is_ok() {
            return Err(
                Error::new(ErrorKind::Refused, "it exists, and may be all that opens something").at(bytes(file))
            );
        }
    }
    let typed = if args.passphrase { Some(args.source.ask_new()?) } else { None };
    let random = || -> std::io::Result<_> { Ok((sys::random()?, sys::random()?, sys::random()?)) };
    let (number, seed, salt) = random().on("getentropy", b"")?;
    let key = SecretKey::new(number, seed);
    let name = args.name.file_name().unwrap_or_default().to_string_lossy();
    let lock = typed.as_deref().map(|text| Passphrase { text, salt });
    create(&secret, 0o600, &key.to_file(&format!("{name} secret key"), lock)?)?;
    let written = key.public().to_file(&format!("{name} public key")).and_then(|text| create(&public, 0o644, &text));
    if let Err(error) = written {
        // Half a pair is of no use to anybody.
        let _ = fs::remove_file(&secret);
        return Err(error);
    }
    if out.json {
        let (secret, public) = (json::host_path(&secret), json::host_path(&public));
        out.value(&json!({ "secret": secret, "public": public, "number": key.public().number().to_string() }))?;
    } else {
        out.line(format_args!("{} and {}: key {}", shown(&secret), shown(&public), key.public().number()))?;
    }
    Ok(Exit::Done)
}

fn sign(args: &Sign, out: &mut Out) -> Result<Exit> {
    let pen = args.passphrase.open(&args.secret)?;
    let output = args.output.clone().unwrap_or_else(|| ending(&args.file, ".sig"));
    if args.gzip {
        let mut input = BufReader::new(File::open(&args.file).on("open", bytes(&args.file))?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let date = if args.no_date { 0 } else { i64::try_from(now).unwrap_or_default() };
        let mut new = New::create(&output, 0o644)?;
        let mut to = BufWriter::new(new.file());
        pen.sign_gzip(&mut input, date, &mut to).map_err(|error| error.at(bytes(&args.file)))?;
        to.flush().on("write", bytes(&output))?;
        drop(to);
        new.commit()?;
    } else {
        let message = read_message(&args.file)?;
        let mut text = pen.key.sign(&message, &pen.comment())?.into_bytes();
        if args.embed {
            text.extend_from_slice(&message);
        }
        write(&output, &text)?;
    }
    if out.json {
        out.value(&json!({ "file": json::host_path(&output), "number": pen.key.public().number().to_string() }))?;
    }
    Ok(Exit::Done)
}

/// Writes a file whole or not at all.
fn write(file: &Path, text: &[u8]) -> Result<()> {
    let mut new = New::create(file, 0o644)?;
    new.file().write_all(text).on("write", bytes(file))?;
    new.commit()
}

/// Reads what is signed, which is whole in memory.
fn read_message(file: &Path) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    let from = File::open(file).on("open", bytes(file))?;
    from.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut message).on("read", bytes(file))?;
    match message.len() {
        0..=MAX_MESSAGE => Ok(message),
        _ => Err(Error::new(ErrorKind::BadInput, "a message of more than 1 GiB").at(bytes(file))),
    }
}

fn create(file: &Path, mode: u32, text: &str) -> Result<()> {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).on("create", bytes(file))?;
    let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(file))).on("write", bytes(file))
}

/// The path with an ending more: names may have dots.
fn ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
