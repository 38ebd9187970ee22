// SPDX-License-Identifier: ISC
//! `stockade patch list`, `check` and `forget`: what a root knows of its patches.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::{Value, json};

use super::args::{Check, Forget, Listing};
use crate::chroot::patch::Installed;
use crate::chroot::patch::verify::{Fault, check, forget, list};
use crate::chroot::{Home, Locking};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::patch::FollowUp;
use crate::path::TreePath;

pub(super) fn list_patches(args: &Listing, out: &mut Out) -> Result<Exit> {
    let locking = Locking { shared: true, wait: !args.lock.no_wait, verb: "patch list" };
    let listed = list(&Home::from_env()?, args.root.as_os_str(), locking)?;
    if out.json {
        out.value(&json!({
            "root": json::host_path(&listed.root),
            "patches": listed.patches.iter().map(value).collect::<Value>(),
            "due": due_value(&listed.due),
        }))?;
        return Ok(Exit::Done);
    }
    for patch in &listed.patches {
        let head = &patch.contents.head;
        let not_fixed = kept(patch).count();
        let state = match (&patch.undo, not_fixed) {
            (None, _) => "  (no undo)".to_owned(),
            (Some(_), 0) => String::new(),
            (Some(_), count) => format!("  (NOT FIXED: {count} of its files were kept as they were)"),
        };
        let gap = if head.title.is_empty() { "" } else { "  " };
        out.line(format_args!("{}{gap}{}{state}", head.name, head.title))?;
    }
    due_lines(&listed.due, &listed.root, out)?;
    Ok(Exit::Done)
}

fn due_lines(due: &[FollowUp], root: &Path, out: &mut Out) -> Result<()> {
    let line = |what| out.line(format_args!("still to be done: {what}  (stockade recover {})", shown(root)));
    due.iter().try_for_each(line)
}

fn due_value(due: &[FollowUp]) -> Value {
    due.iter().map(ToString::to_string).collect()
}

/// Paths that stayed as they were although the patch changes them.
fn kept(patch: &Installed) -> impl Iterator<Item = &crate::path::TreePath> {
    let noted = patch.undo.iter().flat_map(|undo| &undo.noted);
    noted.filter(|(word, _)| word == "kept").map(|(_, path)| path)
}

fn value(patch: &Installed) -> Value {
    let head = &patch.contents.head;
    json!({
        "name": head.name,
        "digest": patch.digest.to_string(),
        "series": head.series,
        "number": head.number,
        "release": head.release,
        "arch": head.arch,
        "title": head.title,
        "applied": patch.undo.as_ref().map(|undo| undo.applied),
        "undo": patch.undo.is_some(),
        "not_fixed": kept(patch).map(|path| json::path(path.as_bytes())).collect::<Value>(),
        "paths": patch.contents.entries.len(),
    })
}

pub(super) fn check_patches(args: &Check, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let (root, wait) = (args.of.root.as_os_str(), !args.of.lock.no_wait);
    let checked = watched(out.json || args.quiet, |watch| check(&home, root, wait, watch))?;
    if out.json {
        let fault = |(path, patch, fault): &(TreePath, String, Fault)| {
            let package = checked.packages.get(path).map(|(name, version)| format!("{name} {version}"));
            json!({ "path": json::path(path.as_bytes()), "patch": patch, "fault": fault.word(), "package": package })
        };
        out.value(&json!({
            "root": json::host_path(&checked.root),
            "patches": checked.patches,
            "paths": checked.paths,
            "due": due_value(&checked.due),
            "faults": checked.faults.iter().map(fault).collect::<Value>(),
        }))?;
    } else {
        for (path, patch, fault) in &checked.faults {
            let package = checked.packages.get(path).map(|(name, version)| format!("  of {name} {version}"));
            out.line(format_args!("{}: {path}  ({patch}){}", fault.word(), package.unwrap_or_default()))?;
        }
        due_lines(&checked.due, &checked.root, out)?;
        if args.quiet && checked.is_well() {
            return Ok(Exit::Done);
        }
        let (root, faults) = (shown(&checked.root), checked.faults.len());
        out.line(format_args!(
            "{root}: {} patches, {} paths, {faults} not as patched",
            checked.patches, checked.paths
        ))?;
    }
    Ok(if checked.is_well() { Exit::Done } else { Exit::Differs })
}

pub(super) fn forget_undo(args: &Forget, out: &mut Out) -> Result<Exit> {
    let found = forget(&Home::from_env()?, args.root.as_os_str(), &args.name, !args.lock.no_wait)?;
    if out.json {
        out.value(&json!({ "name": args.name, "forgotten": found }))?;
    } else {
        let what = if found { "what would undo it is gone" } else { "nothing was kept of it" };
        out.line(format_args!("{}: {what}", args.name))?;
    }
    Ok(Exit::Done)
}
