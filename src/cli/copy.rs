// SPDX-License-Identifier: ISC
//! `stockade copy`: files out of a chroot and into one.
#![forbid(unsafe_code)]

use indicatif::HumanBytes;
use serde_json::json;

use crate::chroot::Home;
use crate::chroot::copy::{self, Request};
use crate::cli::args::Copy;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::escape;

pub(super) fn run(args: &Copy, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let (from, to) = (args.from.clone().into_os_string(), args.to.clone().into_os_string());
    let request = Request { from, to, dry_run: args.dry_run, wait: !args.lock.no_wait };
    let report = watched(out.json, |watch| copy::copy(&home, &request, watch))?;
    let exit = if report.unmet.is_empty() { Exit::Done } else { Exit::Differs };
    if out.json {
        let unmet = report.unmet.iter();
        let unmet = unmet.map(|(path, what)| json!({ "path": json::host_path(path), "what": what.to_string() }));
        out.value(&json!({
            "to": json::path(&report.to),
            "dry_run": args.dry_run,
            "entries": report.entries,
            "bytes": report.bytes,
            "notes": report.notes,
            "unmet": unmet.collect::<Vec<_>>(),
        }))?;
        return Ok(exit);
    }
    for note in &report.notes {
        out.line(format_args!("note: {}", escape(note.as_bytes())))?;
    }
    let (to, did) = (escape(&report.to), if args.dry_run { "would be copied" } else { "copied" });
    out.line(format_args!("{to}: {did}: {} entries, {}", report.entries, HumanBytes(report.bytes)))?;
    for (path, what) in &report.unmet {
        out.line(format_args!("{}: {what}", shown(path)))?;
    }
    Ok(exit)
}
