// SPDX-License-Identifier: ISC
//! `stockade why`: what brought a path.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::chroot::closure::explain;
use crate::chroot::{Chroot, Home, Locking, list};
use crate::cli::jail::args::Why;
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::{TreePath, escape};
use crate::tree::Kind;

pub(super) fn run(args: &Why, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: true, verb: "why" };
    let chroot = Chroot::open_record(&home, args.root.as_os_str(), locking)?;
    if args.unused {
        return unused(&chroot, out);
    }
    if args.sizes {
        return sizes(&chroot, out);
    }
    let path = args.path.as_ref().map(|path| path.as_bytes()).unwrap_or_default();
    let nodes = list::why(&chroot, path)?;
    let last = nodes.last().map(|node| node.path.clone()).unwrap_or_default();
    let (chains, more) = explain::chains(&chroot, &last)?;
    if out.json {
        let step = |(path, why): &(TreePath, Arc<str>)| json!({ "path": json::path(path.as_bytes()), "why": &**why });
        let shown: Vec<Value> = chains.iter().map(|chain| chain.iter().map(step).collect()).collect();
        out.value(&nodes.iter().map(json::node).chain(shown).collect())?;
        return Ok(Exit::Done);
    }
    for node in nodes {
        let target = match &node.kind {
            Kind::Symlink(target) => format!(" -> {}", escape(target)),
            _ => String::new(),
        };
        let origin = node.origin.as_deref().map_or("made by stockade".to_owned(), |origin| escape(origin.as_bytes()));
        out.line(format_args!("{}{target}: {origin}", node.path))?;
    }
    for chain in &chains {
        let step = |(path, why): &(TreePath, Arc<str>)| format!("/{path} ({})", escape(why.as_bytes()));
        out.line(format_args!("  {}", chain.iter().map(step).collect::<Vec<_>>().join(" -> ")))?;
    }
    if more {
        out.line(format_args!("  and more"))?;
    }
    Ok(Exit::Done)
}

fn unused(chroot: &Chroot, out: &mut Out) -> Result<Exit> {
    let unused = explain::unused(chroot)?;
    if out.json {
        out.value(&unused.iter().map(|path| json::path(path.as_bytes())).collect())?;
    } else {
        unused.iter().try_for_each(|path| out.line(format_args!("{path}")))?;
    }
    Ok(Exit::Done)
}

fn sizes(chroot: &Chroot, out: &mut Out) -> Result<Exit> {
    let sizes = explain::sizes(chroot)?;
    if out.json {
        let row = |(why, bytes, files): &(String, u64, usize)| json!({ "why": why, "bytes": bytes, "files": files });
        out.value(&sizes.iter().map(row).collect())?;
        return Ok(Exit::Done);
    }
    for (why, bytes, files) in sizes {
        out.line(format_args!("{:>11} {files:>6} files  {}", HumanBytes(bytes).to_string(), escape(why.as_bytes())))?;
    }
    Ok(Exit::Done)
}
