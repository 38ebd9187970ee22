// SPDX-License-Identifier: ISC
//! `stockade why`: what brought a path.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;

use crate::chroot::{Chroot, Home, Locking, list};
use crate::cli::args::Why;
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::path::escape;
use crate::tree::Kind;

pub(super) fn run(args: &Why, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: true, verb: "why" };
    let chroot = Chroot::open_record(&home, args.root.as_os_str(), locking)?;
    let chain = list::why(&chroot, args.path.as_bytes())?;
    if out.json {
        out.value(&chain.iter().map(json::node).collect())?;
        return Ok(Exit::Done);
    }
    for node in chain {
        let target = match &node.kind {
            Kind::Symlink(target) => format!(" -> {}", escape(target)),
            _ => String::new(),
        };
        let origin = node.origin.as_deref().map_or("made by stockade".to_owned(), |origin| escape(origin.as_bytes()));
        out.line(format_args!("{}{target}: {origin}", node.path))?;
    }
    Ok(Exit::Done)
}
