// SPDX-License-Identifier: ISC
//! `stockade doctor`: what will not work, and what mends it.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use crate::chroot::Home;
use crate::chroot::doctor::{Finding, examine};
use crate::cli::Exit;
use crate::cli::args::Doctor;
use crate::cli::out::Out;
use crate::error::Result;

pub(super) fn run(args: &Doctor, out: &mut Out) -> Result<Exit> {
    let findings = examine(&Home::from_env()?, args.root.as_ref().map(|root| root.as_os_str()))?;
    if out.json {
        out.value(&findings.iter().map(value).collect())?;
    } else {
        findings.iter().try_for_each(|finding| print(finding, out))?;
    }
    let well = findings.iter().all(|finding| finding.ok);
    Ok(if well { Exit::Done } else { Exit::Differs })
}

fn print(finding: &Finding, out: &mut Out) -> Result<()> {
    let Finding { what, why, mend, ok } = finding;
    out.line(format_args!("{} {what}: {why}", if *ok { "ok   " } else { "wrong" }))?;
    mend.as_ref().map_or(Ok(()), |mend| out.line(format_args!("      {mend}")))
}

fn value(finding: &Finding) -> Value {
    json!({ "what": finding.what, "why": finding.why, "mend": finding.mend, "ok": finding.ok })
}
