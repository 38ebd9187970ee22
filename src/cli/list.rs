// SPDX-License-Identifier: ISC
//! `stockade list`: the chroots and their condition.
#![forbid(unsafe_code)]

use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::chroot::Home;
use crate::chroot::list::{self, Listed};
use crate::cli::args::List;
use crate::cli::out::{Out, shown};
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::escape;

pub(super) fn run(args: &List, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let listed = list::list(&home, args.disk)?;
    if out.json {
        out.value(&listed.iter().map(value).collect())?;
        return Ok(Exit::Done);
    }
    let names: Vec<String> = listed.iter().map(|one| escape(one.name.as_bytes())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (one, name) in listed.iter().zip(names) {
        let (condition, size) = (one.condition.word(), HumanBytes(one.bytes).to_string());
        let description = escape(one.description.as_deref().unwrap_or_default().as_bytes());
        let disk = match &one.disk {
            Some(disk) => format!("  {:>10} own  {:>10} shared", HumanBytes(disk.own), HumanBytes(disk.shared)),
            None => String::new(),
        };
        let origin = match &one.origin {
            Some(origin) => format!("  {} of {}", origin.how.word(), shown(&origin.base)),
            None => String::new(),
        };
        let line = format!(
            "{name:width$}  {condition:11}  {:>7} entries  {size:>10}{disk}  {description}{origin}",
            one.entries
        );
        out.line(format_args!("{}", line.trim_end()))?;
    }
    Ok(Exit::Done)
}

fn value(one: &Listed) -> Value {
    json!({
        "name": one.name,
        "root": json::host_path(&one.root),
        "condition": one.condition.word(),
        "description": one.description,
        "entries": one.entries,
        "bytes": one.bytes,
        "base": one.origin.as_ref().map(|origin| json::host_path(&origin.base)),
        "how": one.origin.as_ref().map(|origin| origin.how.word()),
        "disk": one.disk.as_ref().map(|disk| json!({ "own": disk.own, "shared": disk.shared })),
    })
}
