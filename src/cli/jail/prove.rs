// SPDX-License-Identifier: ISC
//! `stockade jail --trace` and `--probe`: a real run on the host, or in the jail.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Jail;
use crate::chroot::build::{self, Request};
use crate::chroot::closure::trace;
use crate::chroot::{Chroot, Home, Locking, remove};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, options};
use crate::error::{Error, ErrorKind, Result};
use crate::recipe::Closure;
use crate::watch::Watch;

/// How many of the paths are named.
const MAX_NAMED: usize = 40;

/// Adds to `wanted` what the command opens on the host and the static closure misses.
pub(super) fn trace(home: &Home, args: &Jail, wanted: &mut Closure, out: &mut Out) -> Result<()> {
    let words = options::argv(&args.command);
    let known = known(home, &args.root, wanted)?;
    let trace = watched(out.json, |watch| trace::run(home.calls, &known, &words, watch))?;
    if !trace.status.success() {
        let error = Error::new(ErrorKind::Refused, format!("the traced command failed: {}", trace.status));
        return Err(error.hint("it has to work on the host before it can work in a jail"));
    }
    if !out.json {
        let (opened, missed, idle) = (trace.opened, trace.missed.len(), trace.idle);
        out.line(format_args!(
            "trace: {opened} files opened; {missed} paths only by the trace, {idle} files only by the static closure"
        ))?;
        for (path, program) in trace.missed.iter().take(MAX_NAMED) {
            out.line(format_args!("  + {path}: opened by {program}"))?;
        }
        for path in trace.written.iter().take(MAX_NAMED) {
            out.line(format_args!("  w {path}: written to"))?;
        }
    }
    wanted.traced.extend(trace.missed);
    Ok(())
}

/// What the jail will be made of: what it is made of now, and `more`.
fn known(home: &Home, root: &Path, more: &Closure) -> Result<Closure> {
    let locking = Locking { shared: true, wait: true, verb: "jail" };
    let mut all = match Chroot::open_record(home, root.as_os_str(), locking) {
        Ok(chroot) => chroot.recipe()?.closure.unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => Closure::default(),
        Err(error) => return Err(error),
    };
    all.add(more);
    Ok(all)
}

/// Makes a jail beside the one that is meant, runs the command in it, and removes it: what is wrong shows before
/// anything is changed. 2 if the command failed.
pub(super) fn probe(home: &Home, args: &Jail, wanted: &Closure, out: &mut Out) -> Result<Exit> {
    let mut name = args.root.clone().into_os_string();
    name.push(format!(".probe-{}", std::process::id()));
    let beside = PathBuf::from(&name);
    let closure = Some(known(home, &args.root, wanted)?);
    let request = Request { name: name.clone(), closure, wait: true, ..Request::default() };
    watched(out.json, |watch| build::build(home, &request, watch))?;
    let probed = probe_in(home, &beside, args);
    remove::remove(home, &name, false, true, &Watch::default())?;
    let probe = probed?;
    if out.json && !probe.status.success() {
        let row = |(path, program, package): &(String, String, Option<String>)| json!({ "path": path, "program": program, "package": package });
        let lacking: Vec<_> = probe.lacking.iter().map(row).collect();
        out.value(&json!({ "probe": probe.status.to_string(), "lacking": lacking }))?;
        return Ok(Exit::Differs);
    }
    let said = if out.json { 0 } else { MAX_NAMED };
    for (path, program, package) in probe.lacking.iter().take(said) {
        let mend = match package {
            Some(package) => format!("of package {package}: --path {path}, or --package {package}"),
            None => format!("--path {path}"),
        };
        out.line(format_args!("probe: {program} looked for {path}, which the host has; {mend}"))?;
    }
    if probe.status.success() {
        return Ok(Exit::Done);
    }
    out.line(format_args!("{}: left as it was: the probe failed: {}", shown(&args.root), probe.status))?;
    Ok(Exit::Differs)
}

fn probe_in(home: &Home, root: &Path, args: &Jail) -> Result<trace::Probe> {
    let locking = Locking { shared: true, wait: true, verb: "jail" };
    let chroot = Chroot::open(home, root.as_os_str(), locking)?;
    trace::probe(home.calls, &chroot.root, args.users.first().map(String::as_str), &options::argv(&args.command))
}
