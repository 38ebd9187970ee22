// SPDX-License-Identifier: ISC
//! `stockade check`: what differs from what was built.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::check::{self, Report};
use crate::chroot::closure::lint::{self, Finding};
use crate::chroot::{Chroot, Home, Locking};
use crate::cli::jail::args::Check;
use crate::cli::jail::stale;
use crate::cli::out::Out;
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::{TreePath, escape};
use crate::sys::{Process, processes};

pub(super) fn run(args: &Check, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let Some(root) = args.root.as_ref().filter(|_| !args.host) else { return stale::run(&home, args, out) };
    let locking = Locking { shared: true, wait: !args.lock.no_wait, verb: "check" };
    let chroot = Chroot::open(&home, root.as_os_str(), locking)?;
    if args.lint {
        return lint(&chroot, out);
    }
    let policy = chroot.policy()?;
    let report = watched(args.json.json, |watch| check::check(&chroot, &policy, args.hash, watch))?;
    if out.json {
        let process = |process: &Process| json!({ "pid": process.pid, "name": escape(&process.name) });
        let row = |(path, users): (&TreePath, &Vec<Process>)| json!({ "path": json::path(path.as_bytes()), "processes": users.iter().map(process).collect::<Vec<_>>() });
        let in_use: Vec<_> = report.in_use.iter().map(row).collect();
        out.value(&json!({
            "root": json::host_path(&chroot.place.root),
            "entries": report.entries,
            "hashed": report.hashed,
            "read": report.read,
            "in_use": in_use,
            "changes": json::plan(&report.plan),
        }))?;
    } else {
        print(&report, out)?;
    }
    let same = json::shown(&report.plan).next().is_none();
    Ok(if same { Exit::Done } else { Exit::Differs })
}

fn lint(chroot: &Chroot, out: &mut Out) -> Result<Exit> {
    let findings = watched(out.json, |watch| lint::lint(chroot, watch))?;
    if out.json {
        let row = |found: &Finding| json!({ "path": json::path(found.path.as_bytes()), "what": found.what, "why": found.why });
        out.value(&findings.iter().map(row).collect())?;
    } else {
        for found in &findings {
            out.line(format_args!("{}: {}: {}", found.path, found.what, found.why))?;
        }
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Differs })
}

fn print(report: &Report, out: &mut Out) -> Result<()> {
    out.plan(&report.plan)?;
    for (path, users) in &report.in_use {
        match users.is_empty() {
            true => {
                out.line(format_args!("note: /{path}: no longer wanted, and no longer in use; a build removes it"))?
            }
            false => out.line(format_args!("note: /{path}: no longer wanted, but mapped by {}", processes(users)))?,
        }
    }
    let differ = json::shown(&report.plan).count();
    let how = if report.hashed { "by content" } else { "by stat" };
    match differ {
        0 => out.line(format_args!("{} entries are as built ({how})", report.entries)),
        _ => out.line(format_args!("{differ} of {} entries differ ({how})", report.entries)),
    }
}
