// SPDX-License-Identifier: ISC
//! `stockade adopt`: records a directory that Stockade did not make.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::Home;
use crate::chroot::adopt::{self, How};
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
        let (how, entries) = match adopted.how {
            How::Recorded(entries) => ("recorded", entries),
            How::Renamed => ("renamed", 0),
            How::Restored(entries) => ("restored", entries),
        };
        let root = json::host_path(&adopted.root);
        out.value(&json!({ "root": root, "how": how, "entries": entries, "dry_run": args.dry_run }))?;
        return Ok(Exit::Done);
    }
    let would = if args.dry_run { "would be " } else { "" };
    match adopted.how {
        How::Recorded(entries) => out.line(format_args!("{root}: {would}recorded: {entries} entries"))?,
        How::Renamed => out.line(format_args!("{root}: {would}bound to its record"))?,
        How::Restored(entries) => {
            out.line(format_args!("{root}: {would}bound to the record of the directory that had its name"))?;
            out.line(format_args!(
                "recipe and manifest stay; {entries} entries are new to them and will be left alone"
            ))?;
        }
    }
    Ok(Exit::Done)
}
