// SPDX-License-Identifier: ISC
//! `stockade list`: the chroots and their condition.
#![forbid(unsafe_code)]

use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::chroot::Home;
use crate::chroot::list::{self, Listed};
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::escape;

pub(super) fn run(out: &mut Out) -> Result<Exit> {
    let listed = list::list(&Home::from_env()?)?;
    if out.json {
        out.value(&listed.iter().map(value).collect())?;
        return Ok(Exit::Done);
    }
    let names: Vec<String> = listed.iter().map(|one| escape(one.name.as_bytes())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (one, name) in listed.iter().zip(names) {
        let (condition, size) = (one.condition.word(), HumanBytes(one.bytes).to_string());
        let description = escape(one.description.as_deref().unwrap_or_default().as_bytes());
        let line = format!("{:width$}  {condition:11}  {:>7} entries  {size:>10}  {description}", name, one.entries);
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
    })
}
