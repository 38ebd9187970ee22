// SPDX-License-Identifier: ISC
//! `stockade patch show`: what a patch changes, for people and for programs.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::args::{Reading, trust};
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::patch::{Body, Bundle, Contents, Entry, Head};
use crate::path::{TreePath, escape};
use crate::plan::Action;
use crate::tree::{Kind, Node};
use crate::watch::Watch;

pub(super) fn run(args: &Reading, out: &mut Out) -> Result<Exit> {
    let keys = args.trust.keys()?;
    let watch = Watch::default();
    let name = args.file.as_os_str().as_bytes();
    let bundle =
        Bundle::open(super::open(&args.file, &watch)?, trust(keys.as_ref())).map_err(|error| error.at(name))?;
    let (contents, key) = (&bundle.contents, &bundle.key);
    if out.json {
        out.value(&value(contents, key.as_deref()))?;
        return Ok(Exit::Done);
    }
    head(contents, key.as_deref(), out)?;
    for entry in &contents.entries {
        if entry.change.action() != Action::Touch {
            out.line(format_args!("{}", line(entry)))?;
        }
    }
    let stats = contents.plan().stats();
    out.line(format_args!(
        "{} added, {} removed, {} changed, {} with other metadata; {} brought",
        stats.added,
        stats.removed,
        stats.modified,
        stats.metadata,
        HumanBytes(contents.bytes())
    ))?;
    Ok(Exit::Done)
}

/// What is said of the whole, a line each; what is not said has none.
fn head(contents: &Contents, key: Option<&str>, out: &mut Out) -> Result<()> {
    let Head { name, series, number, system, release, arch, title, note, .. } = &contents.head;
    let number = number.map(|number| number.to_string()).unwrap_or_default();
    let series = [series.as_str(), &number].join(" ");
    let target = [system.as_str(), release, arch].join(" ");
    let mut lines = vec![
        ("name", name.clone()),
        ("signed by", key.unwrap_or("nobody asked").to_owned()),
        ("digest", contents.digest().to_string()),
        ("title", title.clone()),
        ("series", series.trim().to_owned()),
        ("for", target.trim().to_owned()),
    ];
    let pairs = |patches: &[(String, crate::tree::Digest)]| patches.iter().map(|(name, _)| name.clone()).collect();
    let mut all = |label, values: Vec<String>| lines.extend(values.into_iter().map(|value| (label, value)));
    all("requires", pairs(&contents.head.requires));
    all("provides", pairs(&contents.head.provides));
    all("accounts", contents.head.accounts.clone());
    all("touches", services(contents));
    all("afterwards", contents.head.follow_ups.iter().map(ToString::to_string).collect());
    all("by hand", contents.head.commands.clone());
    for (label, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        out.line(format_args!("{:<12}{}", format!("{label}:"), escape(value.as_bytes())))?;
    }
    for line in note.lines() {
        out.line(format_args!("  {}", escape(line.as_bytes())))?;
    }
    Ok(())
}

/// A change: letter, how its content comes, size, path, and in what it differs.
fn line(entry: &Entry) -> String {
    let change = &entry.change;
    let size = change.after.as_ref().map_or(0, Node::size);
    let size = match entry.body {
        Body::None => String::new(),
        Body::Full => HumanBytes(size).to_string(),
        Body::Delta(bytes) => format!("{} of {}", HumanBytes(bytes), HumanBytes(size)),
    };
    let fields = change.differs_in().join(" ");
    let gap = if fields.is_empty() { "" } else { "  " };
    format!("{} {size:>24}  {}{gap}{fields}", change.action().letter(), change.path)
}

/// What is likely to run the changed files, or to be started anew: programs of services, their scripts, libraries.
fn services(contents: &Contents) -> Vec<String> {
    let changed = contents.entries.iter().filter(|entry| entry.body != Body::None);
    changed.filter_map(service).collect::<BTreeSet<_>>().into_iter().collect()
}

fn service(entry: &Entry) -> Option<String> {
    let node = entry.change.after.as_ref().filter(|node| matches!(node.kind, Kind::File { .. }))?;
    let name = || escape(entry.change.path.name());
    let parts: Vec<&[u8]> = entry.change.path.components().collect();
    let above = parts.split_last()?.1;
    let below = |dir: &[u8]| above.contains(&dir);
    let runs = node.meta.mode & 0o111 != 0;
    match above {
        [b"etc", b"rc.d" | b"init.d"] => Some(format!("service {}", name())),
        [.., b"systemd", b"system"] => Some(format!("service {}", name())),
        _ if runs && (below(b"sbin") || below(b"libexec")) => Some(format!("program {}", name())),
        _ if is_library(&entry.change.path) => Some(format!("all that uses {}", name())),
        _ => None,
    }
}

/// `libc.so.6`, `libcrypto.so.55.1`
fn is_library(path: &TreePath) -> bool {
    let name = path.name();
    name.starts_with(b"lib") && name.windows(4).any(|part| part == b".so.") || name.ends_with(b".so")
}

fn value(contents: &Contents, key: Option<&str>) -> Value {
    let head = &contents.head;
    let patch = |(name, digest): &(String, crate::tree::Digest)| json!({ "name": name, "digest": digest.to_string() });
    let entries = contents.entries.iter().filter(|entry| entry.change.action() != Action::Touch);
    json!({
        "name": head.name,
        "key": key,
        "digest": contents.digest().to_string(),
        "title": head.title,
        "note": head.note,
        "series": head.series,
        "number": head.number,
        "absent": head.absent,
        "system": head.system,
        "release": head.release,
        "arch": head.arch,
        "date": head.date,
        "requires": head.requires.iter().map(patch).collect::<Vec<_>>(),
        "provides": head.provides.iter().map(patch).collect::<Vec<_>>(),
        "follow_ups": head.follow_ups.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "commands": head.commands,
        "accounts": head.accounts,
        "touches": services(contents),
        "bytes": contents.bytes(),
        "changes": entries.map(entry).collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    let mut value = json::change(&entry.change);
    let (how, bytes) = match entry.body {
        Body::None => ("none", 0),
        Body::Full => ("full", entry.change.after.as_ref().map_or(0, Node::size)),
        Body::Delta(bytes) => ("delta", bytes),
    };
    value["body"] = json!({ "how": how, "bytes": bytes, "base": entry.base });
    value
}
