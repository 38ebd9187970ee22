// SPDX-License-Identifier: ISC
//! `stockade patch squash`: rolls patches up into one.
#![forbid(unsafe_code)]

use indicatif::HumanBytes;
use serde_json::json;

use super::args::{Squash, trust};
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::patch::Keys;

pub(super) fn run(args: &Squash, out: &mut Out) -> Result<Exit> {
    let keys = match (args.any, args.keys.as_slice()) {
        (true, _) => None,
        (false, []) => Some(Keys::of_host()?),
        (false, files) => Some(Keys::load(files)?),
    };
    let draft = args.make.begin_named()?;
    let contents = watched(out.json, |watch| draft.squash(&args.patches, trust(keys.as_ref()), watch))?;
    let (file, count) = (draft.file(&draft.head.name), args.patches.len());
    let stored = std::fs::metadata(&file).map_or(0, |file| file.len());
    if out.json {
        let (name, digest) = (&contents.head.name, contents.digest().to_string());
        out.value(&json!({ "file": json::host_path(&file), "name": name, "digest": digest, "size": stored }))?;
    } else {
        let changes = contents.entries.len();
        out.line(format_args!("{}: {count} patches, {changes} paths; {}", shown(&file), HumanBytes(stored)))?;
    }
    Ok(Exit::Done)
}
