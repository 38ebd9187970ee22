// SPDX-License-Identifier: ISC
//! `stockade reset`: takes a chroot back to what was built.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::Home;
use crate::chroot::reset::{self, Options, Report};
use crate::cli::args::Reset;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;

pub(super) fn run(args: &Reset, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let options = Options { yes: args.yes, dry_run: args.dry_run, wait: !args.lock.no_wait };
    let report = watched(out.json, |watch| reset::reset(&home, args.root.as_os_str(), options, watch))?;
    if out.json {
        out.value(&value(&report, args.dry_run))?;
    } else {
        print(&report, args.dry_run, out)?;
    }
    let whole = report.left.is_empty() && report.lost.is_empty();
    Ok(if whole { Exit::Done } else { Exit::Differs })
}

fn print(report: &Report, dry_run: bool, out: &mut Out) -> Result<()> {
    if dry_run {
        out.plan(&report.plan)?;
    }
    for (path, why) in &report.left {
        out.line(format_args!("left alone: {path}: {}", why.word()))?;
    }
    for path in &report.lost {
        out.line(format_args!("left alone: {path}: neither its base nor a source has its content"))?;
    }
    let root = shown(&report.root);
    if json::shown(&report.plan).next().is_none() {
        return out.line(format_args!("{root}: nothing to do: {} entries", report.entries));
    }
    let stats = report.plan.stats();
    out.line(format_args!(
        "{root}: {}: {} put back, {} removed, {} changed, {} with other metadata",
        if dry_run { "would be reset" } else { "reset" },
        stats.added,
        stats.removed,
        stats.modified,
        stats.metadata,
    ))
}

fn value(report: &Report, dry_run: bool) -> serde_json::Value {
    let stats = report.plan.stats();
    let left = report.left.iter().map(|(path, why)| (path, why.word()));
    let left = left.chain(report.lost.iter().map(|path| (path, "lost")));
    let left = left.map(|(path, why)| json!({ "path": json::path(path.as_bytes()), "why": why }));
    let mut value = json!({
        "root": json::host_path(&report.root),
        "dry_run": dry_run,
        "entries": report.entries,
        "added": stats.added,
        "removed": stats.removed,
        "changed": stats.modified,
        "metadata": stats.metadata,
        "bytes": stats.bytes,
        "left": left.collect::<Vec<_>>(),
    });
    if dry_run {
        value["changes"] = json::plan(&report.plan);
    }
    value
}
