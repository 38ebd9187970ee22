// SPDX-License-Identifier: ISC
//! `stockade clone`: makes a chroot like another one.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::Home;
use crate::chroot::clone::{self, Request};
use crate::chroot::origin;
use crate::cli::args::{Clone, How};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::escape;

pub(super) fn run(args: &Clone, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let request = Request {
        base: args.root.clone().into_os_string(),
        name: args.new.clone().into_os_string(),
        how: match args.how {
            How::Auto => None,
            How::Reflink => Some(origin::How::Reflink),
            How::Overlay => Some(origin::How::Overlay),
            How::Link => Some(origin::How::Link),
            How::Copy => Some(origin::How::Copy),
        },
        dry_run: args.dry_run,
        wait: !args.lock.no_wait,
    };
    let report = watched(out.json, |watch| clone::clone(&home, &request, watch))?;
    if out.json {
        out.value(&json!({
            "root": json::host_path(&report.root),
            "base": json::host_path(&report.base),
            "how": report.how.word(),
            "dry_run": args.dry_run,
            "entries": report.entries,
            "notes": report.notes,
        }))?;
        return Ok(Exit::Done);
    }
    for note in &report.notes {
        out.line(format_args!("note: {}", escape(note.as_bytes())))?;
    }
    let did = if args.dry_run { "would be cloned" } else { "cloned" };
    let (root, base, how) = (shown(&report.root), shown(&report.base), report.how.word());
    let entries = report.entries.map_or_else(|| "all".to_owned(), |count| count.to_string());
    out.line(format_args!("{root}: {did} from {base} by {how}: {entries} entries"))?;
    Ok(Exit::Done)
}
