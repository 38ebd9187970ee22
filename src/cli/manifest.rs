// SPDX-License-Identifier: ISC
//! `stockade manifest`: what was built, as text.
#![forbid(unsafe_code)]

use crate::chroot::{Chroot, Home, Locking};
use crate::cli::args::{Format, Manifest};
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::tree::text::Dialect;

pub(super) fn run(args: &Manifest, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: true, verb: "manifest" };
    let tree = Chroot::open_record(&home, args.root.as_os_str(), locking)?.manifest()?;
    if out.json {
        tree.nodes().iter().try_for_each(|node| out.value(&json::node(node)))?;
        return Ok(Exit::Done);
    }
    let dialect = match args.format {
        Format::Stockade => Dialect::Stockade,
        Format::Mtree => Dialect::Mtree,
    };
    out.tree(&tree, dialect)?;
    Ok(Exit::Done)
}
