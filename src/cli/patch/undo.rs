// SPDX-License-Identifier: ISC
//! `stockade patch undo`: takes patches back.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::args::Undo;
use super::{followed_lines, followed_value, noted_lines, noted_value};
use crate::chroot::Home;
use crate::chroot::patch::Followed;
use crate::chroot::patch::undo::{Options, Undone, Which, undo};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;

pub(super) fn run(args: &Undo, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let which = match (&args.name, &args.to) {
        (_, Some(to)) => Which::To(to.clone()),
        (Some(name), None) => Which::Name(name.clone()),
        (None, None) => Which::Last,
    };
    let options = Options { trust_root: args.trust_root, dry_run: args.dry_run, wait: !args.lock.no_wait };
    let (undone, failed) = watched(out.json, |watch| undo(&home, args.root.as_os_str(), &which, options, watch))?;
    for one in &undone {
        if out.json { out.value(&value(one, args.dry_run))? } else { print(one, args.dry_run, out)? }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let whole = |one: &Undone| !one.has_conflicts() && one.followed.iter().all(Followed::done);
    Ok(if !undone.iter().all(whole) { Exit::Differs } else { Exit::Done })
}

fn print(undone: &Undone, dry_run: bool, out: &mut Out) -> Result<()> {
    if dry_run {
        out.plan(&undone.plan)?;
    }
    noted_lines(&undone.noted, out)?;
    let (root, name, stats) = (shown(&undone.root), &undone.name, undone.plan.stats());
    if undone.has_conflicts() {
        return out.line(format_args!(
            "{root}: {name}: nothing was changed; give up undoing it with: stockade patch forget {name}"
        ));
    }
    out.line(format_args!(
        "{root}: {name}: {}: {} put back, {} removed, {} changed, {} with other metadata",
        if dry_run { "would be undone" } else { "undone" },
        stats.added,
        stats.removed,
        stats.modified,
        stats.metadata,
    ))?;
    followed_lines(&undone.followed, out)?;
    undone.in_use.iter().try_for_each(|m| out.line(format_args!("still runs what was replaced: {}", m.process)))
}

fn value(undone: &Undone, dry_run: bool) -> Value {
    let stats = undone.plan.stats();
    let mut value = json!({
        "root": json::host_path(&undone.root),
        "name": undone.name,
        "dry_run": dry_run,
        "undone": !undone.has_conflicts() && !dry_run,
        "added": stats.added,
        "removed": stats.removed,
        "changed": stats.modified,
        "metadata": stats.metadata,
        "noted": noted_value(&undone.noted),
        "follow_ups": followed_value(&undone.followed),
        "in_use": undone.in_use.iter().map(|m| m.process.pid).collect::<Vec<_>>(),
    });
    if dry_run {
        value["changes"] = json::plan(&undone.plan);
    }
    value
}
