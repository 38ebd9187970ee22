// SPDX-License-Identifier: ISC
//! `stockade patch publish`: puts patches into a repository.
#![forbid(unsafe_code)]

use serde_json::json;

use super::args::{Layout, Publish};
use super::make::now;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::patch::repository::publish;
use crate::patch::{Keys, publish_syspatch};

pub(super) fn run(args: &Publish, out: &mut Out) -> Result<Exit> {
    let pen = args.passphrase.open(&args.secret)?;
    let mut keys = Keys::load(&args.keys)?;
    keys.0.push((pen.path.display().to_string(), pen.key.public()));
    if args.layout == Layout::Syspatch {
        let made = watched(out.json, |watch| publish_syspatch(&args.dir, &args.patches, (&pen, &keys), watch))?;
        for file in &made {
            match out.json {
                true => out.value(&json!({ "file": json::host_path(file) }))?,
                false => out.line(format_args!("+ {}", shown(file)))?,
            }
        }
        return Ok(Exit::Done);
    }
    let done = watched(out.json, |watch| publish(&args.dir, &args.patches, (&pen, &keys), now(), watch))?;
    let index = &done.index;
    if out.json {
        out.value(&json!({
            "directory": json::host_path(&args.dir),
            "counter": index.counter,
            "patches": index.patches.keys().collect::<Vec<_>>(),
            "added": done.added,
            "gone": done.gone,
        }))?;
        return Ok(Exit::Done);
    }
    for (letter, names) in [('+', &done.added), ('-', &done.gone)] {
        names.iter().try_for_each(|name| out.line(format_args!("{letter} {name}")))?;
    }
    let (dir, count) = (shown(&args.dir), index.patches.len());
    out.line(format_args!("{dir}: {count} patches, published for the {}. time", index.counter))?;
    Ok(Exit::Done)
}
