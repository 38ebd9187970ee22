// SPDX-License-Identifier: ISC
//! `stockade patch publish`: puts patches into a repository.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Layout, Publish};
use super::make::now;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::patch::repository::publish;
use crate::patch::{Keys, Pen, publish_packages, publish_syspatch};
use crate::watch::Watch;

/// What puts patches into a directory that other tools than ours read.
type Publisher = fn(&Path, &[PathBuf], (&Pen, &Keys), &Watch) -> Result<Vec<PathBuf>>;

pub(super) fn run(args: &Publish, out: &mut Out) -> Result<Exit> {
    let pen = args.passphrase.open(&args.secret)?;
    let mut keys = Keys::load(&args.keys)?;
    keys.0.push((pen.path.display().to_string(), pen.key.public()));
    let layout = match args.layout {
        Layout::Own => None,
        Layout::Syspatch => Some(publish_syspatch as Publisher),
        Layout::Package => Some(publish_packages as Publisher),
    };
    if let Some(publish) = layout {
        let made = watched(out.json, |watch| publish(&args.dir, &args.patches, (&pen, &keys), watch))?;
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
