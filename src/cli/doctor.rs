// SPDX-License-Identifier: ISC
//! `stockade doctor`: what will not work, and what mends it.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::{Value, json};

use crate::chroot::doctor::{Finding, examine, hooks};
use crate::chroot::{Home, Place};
use crate::cli::args::Doctor;
use crate::cli::out::{Out, shown};
use crate::cli::{Exit, json};
use crate::error::{IoContext, Result};
use crate::sys::own_program;

pub(super) fn run(args: &Doctor, out: &mut Out) -> Result<Exit> {
    if args.install_hooks || args.remove_hooks {
        return hooks(args, out);
    }
    let findings = examine(&Home::from_env()?, args.root.as_ref().map(|root| root.as_os_str()))?;
    if out.json {
        out.value(&findings.iter().map(value).collect())?;
    } else {
        findings.iter().try_for_each(|finding| print(finding, out))?;
    }
    let well = findings.iter().all(|finding| finding.ok);
    Ok(if well { Exit::Done } else { Exit::Differs })
}

fn hooks(args: &Doctor, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let place = Place::find(&home, args.root.as_deref().unwrap_or(Path::new("/")).as_os_str())?;
    let (did, path) = if args.install_hooks {
        let program = own_program().on("readlink", "/proc/self/exe")?;
        ("written", Some(hooks::install(&home, &place, &program, args.refresh_jails)?))
    } else {
        ("removed", hooks::remove(&home, &place)?)
    };
    match path {
        _ if out.json => out.value(&json!({ did: path.as_deref().map(json::host_path) }))?,
        Some(path) => out.line(format_args!("{}: {did}", shown(&path)))?,
        None => out.line(format_args!("there was no hook"))?,
    }
    Ok(Exit::Done)
}

fn print(finding: &Finding, out: &mut Out) -> Result<()> {
    let Finding { what, why, mend, ok } = finding;
    out.line(format_args!("{} {what}: {why}", if *ok { "ok   " } else { "wrong" }))?;
    mend.as_ref().map_or(Ok(()), |mend| out.line(format_args!("      {mend}")))
}

fn value(finding: &Finding) -> Value {
    json!({ "what": finding.what, "why": finding.why, "mend": finding.mend, "ok": finding.ok })
}
