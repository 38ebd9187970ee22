// SPDX-License-Identifier: ISC
//! `stockade patch verify`: who signed a patch, and is all of it there.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use super::args::{Reading, trust};
use crate::cli::Exit;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::error::Result;
use crate::patch::{Bundle, verify_body};
use crate::watch::Watch;

pub(super) fn run(args: &Reading, out: &mut Out) -> Result<Exit> {
    let keys = args.trust.keys()?;
    let name = args.file.as_os_str().as_bytes();
    let read = |watch: &Watch| {
        let bundle = Bundle::open(super::open(&args.file, watch)?, trust(keys.as_ref()))?;
        Ok((bundle.key.clone(), bundle.read(&mut verify_body, watch)?))
    };
    let (key, contents) = watched(out.json, read).map_err(|error| error.at(name))?;
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
