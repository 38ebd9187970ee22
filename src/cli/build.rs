// SPDX-License-Identifier: ISC
//! `stockade build`: makes a chroot, or brings it up to date.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use serde_json::json;

use crate::chroot::Home;
use crate::chroot::build::{self, Report, Request};
use crate::cli::args::Build;
use crate::cli::jail::{prove, refresh};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::recipe::Verify;
use crate::recipe::proot::{self, Proot};
use crate::source::fetch::is_url;
use crate::tree::policy::Left;

/// How many of the entries that were left alone are named.
const MAX_NAMED: usize = 20;

pub(super) fn run(args: &Build, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    if args.jails {
        return refresh::run(&home, args, out);
    }
    let mut proot = args.proot.as_deref().map(proot::load).transpose()?;
    if let (Some(proot), Some(key), true) = (&mut proot, &args.key, args.from.is_empty()) {
        proot.recipe.sign_sets_by(absolute(key)?)?;
    }
    let told = !out.json && !args.print_recipe;
    for note in proot.iter().flat_map(|proot| &proot.notes).filter(|_| told) {
        out.line(format_args!("note: {}", escape(note.as_bytes())))?;
    }
    let request = request(args, proot.as_ref())?;
    if let (Some(proot), true) = (&proot, args.print_recipe) {
        return print_recipe(proot, out);
    }
    carry_out(&home, &request, args.quiet, out)
}

/// Builds, and tells of it; `quiet` if there was nothing to do.
pub(super) fn carry_out(home: &Home, request: &Request, quiet: bool, out: &mut Out) -> Result<Exit> {
    if !request.dry_run && prove::recipe(home, request, out)? == Exit::Differs {
        return Ok(Exit::Differs);
    }
    let report = watched(out.json, |watch| build::build(home, request, watch))?;
    let idle = report.left.is_empty() && report.actions.is_empty() && json::shown(&report.plan).next().is_none();
    if quiet && idle {
        return Ok(Exit::Done);
    }
    if out.json {
        out.value(&value(&report, request.dry_run))?;
    } else {
        print(&report, request.dry_run, out)?;
    }
    let conflict = report.left.iter().any(|(_, why)| is_conflict(*why));
    Ok(if conflict { Exit::Differs } else { Exit::Done })
}

/// Unknown entries and what is below a kept link are left because the recipe says so, mapped ones and what is below a mount
/// for now; the others although it says otherwise.
fn is_conflict(why: Left) -> bool {
    !matches!(why, Left::Unknown | Left::Linked | Left::Mapped | Left::Mounted)
}

/// The recipe, with what it does differently as comments.
fn print_recipe(proot: &Proot, out: &mut Out) -> Result<Exit> {
    for note in &proot.notes {
        out.line(format_args!("# {}", escape(note.as_bytes())))?;
    }
    out.line(format_args!("{}", proot.recipe.to_toml()?.trim_end()))?;
    Ok(Exit::Done)
}

fn request(args: &Build, proot: Option<&Proot>) -> Result<Request> {
    let verify = |list: &PathBuf| -> Result<Verify> {
        Ok(Verify { list: absolute(list)?, key: args.key.as_deref().map(absolute).transpose()? })
    };
    let of_sets = args.from.iter().any(|from| from.is_dir() || is_remote(from));
    let of_proot = proot.is_some() && args.from.is_empty();
    if args.key.is_some() && args.list.is_none() && !of_sets && !of_proot {
        let error = Error::new(ErrorKind::Usage, "a key needs the checksum list that it signed");
        return Err(error.hint("name it with --list, or with --from the directory of release sets"));
    }
    let place = |from: &PathBuf| if is_remote(from) { Ok(from.clone()) } else { absolute(from) };
    let root = args.root.clone().or_else(|| proot?.chroot.clone());
    Ok(Request {
        name: root.unwrap_or_else(|| PathBuf::from("base")).into_os_string(),
        recipe: args.file.clone(),
        given: proot.map(|proot| proot.recipe.clone()),
        from: args.from.iter().map(place).collect::<Result<_>>()?,
        verify: args.list.as_ref().map(verify).transpose()?,
        key: args.key.as_deref().map(absolute).transpose()?,
        unsigned: args.unsigned,
        packages: args.packages.clone(),
        closure: None,
        adopt: args.adopt,
        yes: args.yes,
        swap: args.swap,
        dry_run: args.dry_run,
        wait: !args.lock.no_wait,
    })
}

fn print(report: &Report, dry_run: bool, out: &mut Out) -> Result<()> {
    if dry_run {
        out.plan(&report.plan)?;
    }
    for note in &report.notes {
        out.line(format_args!("note: {}", escape(note.as_bytes())))?;
    }
    let left: Vec<_> = report.left.iter().filter(|(_, why)| is_conflict(*why)).collect();
    for (path, why) in left.iter().take(MAX_NAMED) {
        out.line(format_args!("left alone: {path}: {}", why.word()))?;
    }
    if left.len() > MAX_NAMED {
        out.line(format_args!("left alone: {} more; --json lists all", left.len() - MAX_NAMED))?;
    }
    let counted = [
        (Left::Unknown, "that no source brought"),
        (Left::Linked, "below a link that is kept"),
        (Left::Mounted, "below a mount"),
    ];
    for (which, what) in counted {
        let count = report.left.iter().filter(|(_, why)| *why == which).count();
        if count > 0 {
            out.line(format_args!("left alone: {count} entries {what}"))?;
        }
    }
    let root = shown(&report.root);
    if !report.actions.is_empty() {
        let did = if dry_run { "actions to run" } else { "actions run" };
        out.line(format_args!("{did}: {}", report.actions.join(", ")))?;
    }
    if json::shown(&report.plan).next().is_none() {
        return out.line(format_args!("{root}: nothing to do: {} entries are up to date", report.entries));
    }
    let stats = report.plan.stats();
    let did = match (report.new, dry_run) {
        (true, false) => "made",
        (true, true) => "would be made",
        (false, false) => "brought up to date",
        (false, true) => "would be brought up to date",
    };
    out.line(format_args!(
        "{root}: {did}: {} added, {} removed, {} changed, {} with other metadata; {} {}",
        stats.added,
        stats.removed,
        stats.modified,
        stats.metadata,
        HumanBytes(stats.bytes),
        if dry_run { "to write" } else { "written" }
    ))
}

fn value(report: &Report, dry_run: bool) -> serde_json::Value {
    let stats = report.plan.stats();
    let left =
        |(path, why): &(crate::path::TreePath, Left)| json!({ "path": json::path(path.as_bytes()), "why": why.word() });
    let mut value = json!({
        "root": json::host_path(&report.root),
        "new": report.new,
        "dry_run": dry_run,
        "entries": report.entries,
        "read": report.read,
        "added": stats.added,
        "removed": stats.removed,
        "changed": stats.modified,
        "metadata": stats.metadata,
        "bytes": stats.bytes,
        "left": report.left.iter().map(left).collect::<Vec<_>>(),
        "actions": report.actions,
        "notes": report.notes,
    });
    if dry_run {
        value["changes"] = json::plan(&report.plan);
    }
    value
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).on("open", path.as_os_str().as_encoded_bytes())
}

/// Is it on a mirror?
fn is_remote(from: &Path) -> bool {
    from.to_str().is_some_and(is_url)
}
