// SPDX-License-Identifier: ISC
//! `stockade adopt`: records a directory that Stockade did not make.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::{Home, adopt};
use crate::cli::args::Change;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;

pub(super) fn run(args: &Change, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let adopted =
        watched(out.json, |watch| adopt::adopt(&home, args.root.as_os_str(), args.dry_run, !args.lock.no_wait, watch))?;
    let root = shown(&adopted.root);
    if out.json {
        let root = json::host_path(&adopted.root);
        out.value(&json!({ "root": root, "entries": adopted.entries, "dry_run": args.dry_run }))?;
        return Ok(Exit::Done);
    }
    match (adopted.entries, args.dry_run) {
        (Some(entries), false) => out.line(format_args!("{root}: recorded: {entries} entries"))?,
        (Some(entries), true) => out.line(format_args!("{root}: would be recorded: {entries} entries"))?,
        (None, false) => out.line(format_args!("{root}: bound to its record"))?,
        (None, true) => out.line(format_args!("{root}: would be bound to its record"))?,
    }
    Ok(Exit::Done)
}
