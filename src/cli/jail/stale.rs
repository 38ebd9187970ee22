// SPDX-License-Identifier: ISC
//! `stockade check --host`: what of a jail is no longer what the host has.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::Check;
use crate::chroot::Home;
use crate::chroot::closure::stale::{self, Stale};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::{ErrorKind, Result};

pub(in crate::cli) fn run(home: &Home, args: &Check, out: &mut Out) -> Result<Exit> {
    let roots: Vec<PathBuf> = match &args.root {
        Some(root) => vec![root.clone()],
        None => stale::jails(home)?,
    };
    let mut exit = Exit::Done;
    let mut values: Vec<Value> = Vec::new();
    for root in &roots {
        // One that cannot be looked at hides nothing of the others.
        match watched(out.json, |watch| stale::look(home, root.as_os_str(), !args.lock.no_wait, watch)) {
            Ok(found) if found.is_empty() && args.quiet => {}
            Ok(found) if found.is_empty() && !out.json => {
                out.line(format_args!("{}: as the host has it", shown(root)))?;
            }
            Ok(found) => {
                if !found.is_empty() {
                    exit = Exit::Differs;
                }
                tell(root, &found, out, &mut values)?;
            }
            Err(error) if args.all && error.kind() != ErrorKind::Cancelled => {
                exit = Exit::Differs;
                match out.json {
                    true => values.push(json!({ "root": json::host_path(root), "error": error.to_string() })),
                    false => out.line(format_args!("{}: {error}", shown(root)))?,
                }
            }
            Err(error) => return Err(error),
        }
    }
    if out.json {
        out.value(&values.into())?;
    }
    Ok(exit)
}

fn tell(root: &Path, found: &[Stale], out: &mut Out, values: &mut Vec<Value>) -> Result<()> {
    if out.json {
        let row = |stale: &Stale| {
            json!({
                "change": json::change(&stale.change),
                "package": stale.package,
                "jail": stale.jail,
                "host": stale.host,
            })
        };
        values.push(json!({ "root": json::host_path(root), "stale": found.iter().map(row).collect::<Vec<_>>() }));
        return Ok(());
    }
    out.line(format_args!("{}: {} entries are not as the host has them", shown(root), found.len()))?;
    for stale in found {
        let letter = stale.change.action().letter();
        let version = match (&stale.package, &stale.jail, &stale.host) {
            (Some(package), Some(jail), Some(host)) if jail != host => {
                format!(": {package} {jail}, the host has {host}")
            }
            (Some(package), _, Some(host)) => format!(": {package} {host} on the host"),
            (Some(package), Some(jail), None) => format!(": {package} {jail}, gone from the host"),
            _ => String::new(),
        };
        out.line(format_args!("  {letter} {}{version}", stale.change.path))?;
    }
    out.line(format_args!("  bring it up to date with: stockade build {}", shown(root)))
}
