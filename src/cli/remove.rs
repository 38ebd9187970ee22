// SPDX-License-Identifier: ISC
//! `stockade remove`: takes a chroot away.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::{Home, remove};
use crate::cli::args::Change;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;

pub(super) fn run(args: &Change, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let removed = watched(out.json, |watch| {
        remove::remove(&home, args.root.as_os_str(), args.dry_run, !args.lock.no_wait, watch)
    })?;
    if out.json {
        let root = json::host_path(&removed.root);
        out.value(&json!({ "root": root, "entries": removed.entries, "gone": removed.gone, "dry_run": args.dry_run }))?;
        return Ok(Exit::Done);
    }
    let did = match (removed.gone, args.dry_run) {
        (false, false) => "removed",
        (false, true) => "would remove",
        (true, false) => "was gone already; removed the record of",
        (true, true) => "is gone already; would remove the record of",
    };
    out.line(format_args!("{did} {}: {} entries", shown(&removed.root), removed.entries))?;
    Ok(Exit::Done)
}
