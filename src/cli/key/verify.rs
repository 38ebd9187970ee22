// SPDX-License-Identifier: ISC
//! `stockade key verify`.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::json;

use super::args::Verify;
use super::{bytes, ending, read_message, write};
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Keys, New, Signed, digest_of, read_short};
use crate::path::escape;
use crate::sign::{CheckList, PublicKey, verify_detached, verify_embedded};
use crate::tree::Digest;

pub(super) fn run(args: &Verify, out: &mut Out) -> Result<Exit> {
    let key = PublicKey::parse(&read_short(&args.public)?).map_err(|error| error.at(bytes(&args.public)))?;
    let blame = |error: Error| error.at(bytes(&args.file));
    if args.gzip {
        gzip(args, key).map_err(blame)?;
    } else if args.check {
        return check(args, &key, out);
    } else if args.embed {
        let signed = read_message(&args.file)?;
        let message = verify_embedded(&signed, &key).map_err(blame)?;
        hand_over(args, message)?;
    } else {
        let signature = args.signature.clone().unwrap_or_else(|| ending(&args.file, ".sig"));
        let message = read_message(&args.file)?;
        verify_detached(&read_short(&signature)?, &message, &key).map_err(|error| error.at(bytes(&signature)))?;
        hand_over(args, &message)?;
    }
    if out.json {
        out.value(&json!({ "file": json::host_path(&args.file), "verified": true }))?;
    } else {
        out.line(format_args!("signature verified"))?;
    }
    Ok(Exit::Done)
}

fn hand_over(args: &Verify, message: &[u8]) -> Result<()> {
    args.message.as_ref().map_or(Ok(()), |file| write(file, message))
}

/// Nothing of a file that does not hold to its end gets a name.
fn gzip(args: &Verify, key: PublicKey) -> Result<()> {
    let keys = Keys(vec![(args.public.to_string_lossy().into_owned(), key)]);
    let input = BufReader::new(File::open(&args.file).on("open", bytes(&args.file))?);
    let mut signed = Signed::open(input, &keys)?;
    let mut copy = |to: &mut dyn Write| signed.copy_to(to);
    match &args.message {
        None => copy(&mut io::sink()),
        Some(file) => {
            let mut new = New::create(file, 0o644)?;
            copy(new.file())?;
            new.commit()
        }
    }
}

/// Compares files with a signed list: those that are named, or all that it lists.
fn check(args: &Verify, key: &PublicKey, out: &mut Out) -> Result<Exit> {
    let signed = read_message(&args.file)?;
    let list = verify_embedded(&signed, key).and_then(CheckList::parse).map_err(|error| error.at(bytes(&args.file)))?;
    let named: Vec<&[u8]> = match args.files.as_slice() {
        [] => list.names().into_iter().collect(),
        files => files.iter().map(|file| file.as_bytes()).collect(),
    };
    let mut failed = 0;
    for name in &named {
        let good = list.find(name).is_some_and(|listed| digest(name).is_ok_and(|found| found == listed));
        failed += usize::from(!good);
        match out.json {
            true => out.value(&json!({ "file": json::path(name), "ok": good }))?,
            false => out.line(format_args!("{}: {}", escape(name), if good { "OK" } else { "FAIL" }))?,
        }
    }
    match failed {
        0 => Ok(Exit::Done),
        _ => {
            let reason = format!("{failed} of {} files are not as it lists them", named.len());
            Err(Error::new(ErrorKind::Unverified, reason).at(bytes(&args.file)))
        }
    }
}

fn digest(name: &[u8]) -> Result<Digest> {
    let path = Path::new(OsStr::from_bytes(name));
    digest_of(&mut File::open(path).on("open", name)?).on("read", name)
}
