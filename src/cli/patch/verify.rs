// SPDX-License-Identifier: ISC
//! `stockade patch verify`: who signed a patch, and is all of it there.
#![forbid(unsafe_code)]

use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use super::args::{Verify, trust};
use crate::cli::Exit;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Bundle, Contents, Member, digest_of};

pub(super) fn run(args: &Verify, out: &mut Out) -> Result<Exit> {
    let keys = args.trust.keys()?;
    let name = args.file.as_os_str().as_bytes();
    let bundle = Bundle::open(super::open(&args.file)?, trust(keys.as_ref())).map_err(|error| error.at(name))?;
    let key = bundle.key.clone();
    let contents = watched(out.json, |watch| bundle.read(&mut verify, watch)).map_err(|error| error.at(name))?;
    let (head, digest) = (&contents.head, contents.digest());
    if out.json {
        let value = json!({ "name": head.name, "digest": digest.to_string(), "key": key, "bytes": contents.bytes() });
        out.value(&value)?;
        return Ok(Exit::Done);
    }
    let said = match key {
        Some(key) => format!("signed by {key}"),
        None => "whole, whoever made it".to_owned(),
    };
    out.line(format_args!("{}: {} {digest}: {said}", shown(&args.file), head.name))?;
    Ok(Exit::Done)
}

/// A body must be what the manifest says. Of a difference only the file that it is made for can tell.
fn verify(contents: &Contents, member: &Member, body: &mut dyn Read) -> Result<()> {
    let Some(expected) = member.digest(contents) else { return Ok(()) };
    let path = &contents.entries[member.entry].change.path;
    if digest_of(body).on("read", path)? == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unverified, "its content is not what the manifest says").at(path))
}
