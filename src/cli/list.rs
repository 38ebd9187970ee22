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

pub(super) fn run(out: &mut Out) -> Result<Exit> {
    let listed = list::list(&Home::from_env()?)?;
    if out.json {
        out.value(&listed.iter().map(value).collect())?;
        return Ok(Exit::Done);
    }
    let width = listed.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    for one in &listed {
        let (condition, size) = (one.condition.word(), HumanBytes(one.bytes).to_string());
        out.line(format_args!("{:width$}  {condition:11}  {:>7} entries  {size:>10}", one.name, one.entries))?;
    }
    Ok(Exit::Done)
}

fn value(one: &Listed) -> Value {
    json!({
        "name": one.name,
        "root": json::host_path(&one.root),
        "condition": one.condition.word(),
        "entries": one.entries,
        "bytes": one.bytes,
    })
}
