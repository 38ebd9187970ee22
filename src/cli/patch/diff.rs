// SPDX-License-Identifier: ISC
//! `stockade patch diff`: a patch, or a listing, of what differs between two trees.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use indicatif::HumanBytes;
use serde_json::json;

use super::args::Diff;
use crate::chroot::release::is_openbsd;
use crate::cli::out::{Out, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::secrets::{holds_key, refused};
use crate::patch::{Bodies, Body, Contents, Side};
use crate::plan::Plan;
use crate::tree::diff::diff;
use crate::watch::Watch;

pub(super) fn run(args: &Diff, out: &mut Out) -> Result<Exit> {
    if !args.make.is_asked() {
        return list(args, out);
    }
    let draft = args.make.begin_named()?;
    let file = draft.file(&draft.head.name);
    let contents = watched(out.json, |watch| {
        let (mut before, mut after, plan) = compare(args, watch)?;
        if plan.is_empty() {
            return Err(Error::new(ErrorKind::Refused, "the two trees are the same: a patch would bring nothing"));
        }
        let mut contents = Contents::new(draft.head.clone(), plan);
        if is_openbsd(&after.tree) {
            contents.head.system = "openbsd".to_owned();
        }
        contents.name_owners(&after.text("etc/passwd")?, &after.text("etc/group")?);
        let nodes = |side: fn(&crate::plan::Change) -> Option<&crate::tree::Node>| -> HashSet<_> {
            let changes = contents.entries.iter().map(|entry| &entry.change).filter(|change| change.needs_body());
            changes.filter_map(side).filter_map(crate::tree::Node::digest).collect()
        };
        before.gather(&nodes(|change| change.before.as_ref()), &file, watch)?;
        after.gather(&nodes(|change| change.after.as_ref()), &file, watch)?;
        refuse_keys(&contents, &after, watch)?;
        let bodies = Bodies { before: &|node| before.content(node), after: &|node| after.content(node) };
        draft.write(contents, bodies, watch)
    })?;
    let stored = std::fs::metadata(&file).map_or(0, |file| file.len());
    if out.json {
        let (name, digest) = (&contents.head.name, contents.digest().to_string());
        out.value(&json!({ "file": json::host_path(&file), "name": name, "digest": digest, "size": stored }))?;
        return Ok(Exit::Done);
    }
    let stats = contents.plan().stats();
    out.line(format_args!(
        "{}: {} added, {} removed, {} changed, {} with other metadata; {}",
        shown(&file),
        stats.added,
        stats.removed,
        stats.modified,
        stats.metadata,
        HumanBytes(stored)
    ))?;
    Ok(Exit::Done)
}

/// What two trees differ in is taken as it is, so somebody has to look.
fn refuse_keys(contents: &Contents, after: &Side, watch: &Watch) -> Result<()> {
    let brought = contents.entries.iter().filter(|entry| entry.body != Body::None);
    for node in brought.filter_map(|entry| entry.change.after.as_ref()) {
        watch.check()?;
        if holds_key(after.content(node)?).on("read", &node.path)? {
            return Err(refused(&node.path, "leave it out of the trees, or make it on the target"));
        }
    }
    Ok(())
}

fn list(args: &Diff, out: &mut Out) -> Result<Exit> {
    let (.., plan) = watched(out.json, |watch| compare(args, watch))?;
    if out.json {
        out.value(&json!({ "changes": json::plan(&plan) }))?;
    } else {
        out.plan(&plan)?;
    }
    Ok(if plan.is_empty() { Exit::Done } else { Exit::Differs })
}

fn compare(args: &Diff, watch: &Watch) -> Result<(Side, Side, Plan)> {
    let (before, after) = (Side::open(&args.before, watch)?, Side::open(&args.after, watch)?);
    let plan = diff(&before.tree, &after.tree);
    Ok((before, after, plan))
}
