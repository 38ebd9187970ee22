// SPDX-License-Identifier: ISC
//! `stockade patch`: one file a verb below it.
#![forbid(unsafe_code)]

mod apply;
pub(super) mod args;
mod diff;
mod list;
pub(super) mod make;
mod mirror;
mod publish;
mod renew;
mod show;
mod squash;
mod sync;
mod undo;
mod verify;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::chroot::patch::{Done, Followed, word};
use crate::cli::args::Fetch;
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::{IoContext, Result};
use crate::patch::Scratch;
use crate::patch::fetch::{fetch as fetch_url, is_url};
use crate::patch::resolve::Why;
use crate::path::TreePath;
use crate::sys::WatchedInput;
use crate::watch::Watch;
use args::{Patch, PatchVerb};

pub(super) fn run(args: &Patch, out: &mut Out) -> Result<Exit> {
    match &args.verb {
        PatchVerb::Apply(args) => apply::run(args, out),
        PatchVerb::Undo(args) => undo::run(args, out),
        PatchVerb::List(args) => list::list_patches(args, out),
        PatchVerb::Check(args) => list::check_patches(args, out),
        PatchVerb::Forget(args) => list::forget_undo(args, out),
        PatchVerb::Diff(args) => diff::run(args, out),
        PatchVerb::Squash(args) => squash::run(args, out),
        PatchVerb::Publish(args) => publish::run(args, out),
        PatchVerb::Sync(args) => sync::run(args, out),
        PatchVerb::Show(args) => show::run(args, out),
        PatchVerb::Verify(args) => verify::run(args, out),
    }
}

/// Prints what was noticed, a line each.
fn noted_lines(noted: &[(TreePath, Why)], out: &mut Out) -> Result<()> {
    for (path, why) in noted {
        match why {
            Why::Conflict(reason) => out.line(format_args!("conflict: {path}: {reason}"))?,
            Why::Kept(reason) => out.line(format_args!("kept as it was, not fixed: {path}: {reason}"))?,
            Why::Replaced(reason) => out.line(format_args!("replaced: {path}: {reason}"))?,
            Why::NotInstalled => out.line(format_args!("not installed here: {path}"))?,
            Why::NotEmpty => out.line(format_args!("not removed: {path}: it is not empty"))?,
            Why::LocalMeta => out.line(format_args!("owner or mode were changed here: {path}"))?,
            Why::Merged => out.line(format_args!("merged: {path}"))?,
        }
    }
    Ok(())
}

fn noted_value(noted: &[(TreePath, Why)]) -> Value {
    let reason = |why: &Why| match why {
        Why::Conflict(reason) | Why::Kept(reason) | Why::Replaced(reason) => Some(*reason),
        _ => None,
    };
    let value = |(path, why): &(TreePath, Why)| json!({ "path": json::path(path.as_bytes()), "what": word(why), "reason": reason(why) });
    noted.iter().map(value).collect()
}

/// Prints what was done after patches, a line each.
pub(super) fn followed_lines(followed: &[Followed], out: &mut Out) -> Result<()> {
    for Followed { what, result } in followed {
        match result {
            Ok(Done::Ran) => out.line(format_args!("done: {what}"))?,
            Ok(Done::Left) => out.line(format_args!("to be done: {what}"))?,
            Ok(Done::NotApplicable) => out.line(format_args!("not applicable: {what}"))?,
            Err(why) => out.line(format_args!("failed: {what}: {why}"))?,
        }
    }
    Ok(())
}

pub(super) fn followed_value(followed: &[Followed]) -> Value {
    let outcome = |f: &Followed| match f.result {
        Ok(Done::Ran) => "done",
        Ok(Done::Left) => "left",
        Ok(Done::NotApplicable) => "not-applicable",
        Err(_) => "failed",
    };
    let value =
        |f: &Followed| json!({ "what": f.what.to_string(), "outcome": outcome(f), "failed": f.result.as_ref().err() });
    followed.iter().map(value).collect()
}

/// What the child does that `patch sync` starts.
pub(super) fn fetch(args: &Fetch) -> Result<Exit> {
    crate::patch::fetch::child(&args.url, (args.seconds, args.start), &mut io::stdout().lock())?;
    Ok(Exit::Done)
}

/// The largest patch that is fetched for itself: what a signature covers.
const LARGEST: u64 = 16 << 30;

/// Opens a patch to be read forward; `-` is standard input. One in the network is fetched first, by a child without
/// rights.
fn open<'a>(file: &Path, watch: &'a Watch) -> Result<Box<dyn BufRead + Send + 'a>> {
    if let Some(url) = file.to_str().filter(|name| is_url(name)) {
        let mut whole = Scratch::beside(&std::env::temp_dir().join("stockade-patch"))?;
        fetch_url(url, 0..LARGEST, &mut whole, watch)?;
        return Ok(Box::new(BufReader::new(whole.rewound().on("seek", url)?)));
    }
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(WatchedInput(watch))));
    }
    Ok(Box::new(BufReader::new(File::open(file).on("open", file.as_os_str().as_bytes())?)))
}
