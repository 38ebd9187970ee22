// SPDX-License-Identifier: ISC
//! What `stockade jail` shows by real runs: `--trace`, `--probe`, `--preload`; and what the jail's service is started with.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::json;

use super::args::Jail;
use crate::chroot::build::Request;
use crate::chroot::closure::{self, hardening, preload, probe, trace};
use crate::chroot::{Chroot, Home, Locking};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, options};
use crate::error::{Error, ErrorKind, Result};
use crate::recipe::{Closure, Recipe};

/// How many of the paths are named.
const MAX_NAMED: usize = 40;

/// Adds to `wanted` what the command opens on the host and the static closure misses.
pub(super) fn trace(home: &Home, args: &Jail, wanted: &mut Closure, out: &mut Out) -> Result<()> {
    let words = options::argv(&args.command);
    let known = known(home, &args.root, wanted)?.closure.unwrap_or_default();
    let trace = watched(out.json, |watch| trace::run(home.calls, &known, (&words, out.json), watch))?;
    if !trace.status.success() {
        let error = Error::new(ErrorKind::Refused, format!("the traced command failed: {}", trace.status));
        return Err(error.hint("it has to work on the host before it can work in a jail"));
    }
    let (opened, missed, idle) = (trace.opened, trace.missed.len(), trace.idle);
    if out.json {
        let traced =
            json!({ "opened": opened, "only_static": idle, "only_traced": trace.missed, "written": trace.written });
        out.value(&json!({ "trace": traced }))?;
    } else {
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
    wanted.written.extend(trace.written);
    Ok(())
}

/// What the jail will be made of: what it is made of now, and `more`.
fn known(home: &Home, root: &Path, more: &Closure) -> Result<Recipe> {
    let locking = Locking { shared: true, wait: true, verb: "jail" };
    let mut recipe = match Chroot::open_record(home, root.as_os_str(), locking) {
        Ok(chroot) => chroot.recipe()?,
        Err(error) if error.kind() == ErrorKind::NotFound => Recipe::default(),
        Err(error) => return Err(error),
    };
    closure::add(&mut recipe, more);
    Ok(recipe)
}

/// Runs the command of `--probe` in a jail beside the one that is meant: what is wrong shows before anything is changed.
/// 2 if the command failed.
pub(super) fn probe(home: &Home, args: &Jail, wanted: &Closure, out: &mut Out) -> Result<Exit> {
    prove(home, &args.root, known(home, &args.root, wanted)?, &options::argv(&args.command), out)
}

/// As [`probe`], with the probe of the recipe that `request` builds, if it has one and there is something to build.
pub(in crate::cli) fn recipe(home: &Home, request: &Request, out: &mut Out) -> Result<Exit> {
    let Some(recipe) = watched(out.json, |watch| probe::due(home, request, watch))? else { return Ok(Exit::Done) };
    let argv = recipe.closure.iter().flat_map(|closure| &closure.probe);
    let argv: Vec<Vec<u8>> = argv.map(|word| word.clone().into_bytes()).collect();
    prove(home, Path::new(&request.name), recipe, &argv, out)
}

fn prove(home: &Home, root: &Path, recipe: Recipe, argv: &[Vec<u8>], out: &mut Out) -> Result<Exit> {
    let probe = watched(out.json, |watch| probe::run(home, root, recipe, (argv, out.json), watch))?;
    let works = probe.status.success();
    if out.json {
        let row = |(path, program, package): &(String, String, Option<String>)| json!({ "path": path, "program": program, "package": package });
        let lacking: Vec<_> = probe.lacking.iter().map(row).collect();
        out.value(&json!({ "probe": probe.status.to_string(), "lacking": lacking }))?;
        return Ok(if works { Exit::Done } else { Exit::Differs });
    }
    for (path, program, package) in probe.lacking.iter().take(MAX_NAMED) {
        let mend = match package {
            Some(package) => format!("of package {package}: --path {path}, or --package {package}"),
            None => format!("--path {path}"),
        };
        out.line(format_args!("probe: {program} looked for {path}, which the host has; {mend}"))?;
    }
    if works {
        return Ok(Exit::Done);
    }
    out.line(format_args!("{}: left as it was: the probe failed: {}", shown(root), probe.status))?;
    Ok(Exit::Differs)
}

/// `--preload`: the libraries that the command loads late, as lines to start it with. 2 if that does not work.
pub(super) fn preload(home: &Home, args: &Jail, out: &mut Out) -> Result<Exit> {
    let argv = options::argv(&args.command);
    let found = watched(out.json, |watch| preload::find(home.calls, &argv, out.json, watch))?;
    let works = found.status.success() && found.unused.is_empty();
    if out.json {
        let lines: Vec<_> =
            preload::lines(&found).into_iter().map(|(at, line)| json!({ "for": at, "line": line })).collect();
        out.value(&json!({ "libraries": found.libraries, "lines": lines, "works": works, "unused": found.unused }))?;
    } else if found.libraries.is_empty() {
        out.line(format_args!("{}: loads no library late", found.program))?;
    } else {
        found.libraries.iter().try_for_each(|path| out.line(format_args!("{path}")))?;
        for (at, line) in preload::lines(&found) {
            out.line(format_args!("for {at}: {line}"))?;
        }
        for path in &found.unused {
            out.line(format_args!("{path}: was not loaded beforehand"))?;
        }
        if !found.status.success() {
            out.line(format_args!("with them, {} fails: {}", found.program, found.status))?;
        }
    }
    Ok(if works { Exit::Done } else { Exit::Differs })
}

/// `--hardening`: a fragment of a unit.
pub(super) fn hardening(home: &Home, args: &Jail, out: &mut Out) -> Result<Exit> {
    let locking = Locking { shared: true, wait: !args.lock.no_wait, verb: "jail" };
    let text = hardening::fragment(&Chroot::open_record(home, args.root.as_os_str(), locking)?)?;
    match out.json {
        true => out.value(&json!({ "unit": text }))?,
        false => out.text(text.as_bytes())?,
    }
    Ok(Exit::Done)
}
