// SPDX-License-Identifier: ISC
//! `stockade graph`: which path of a jail needs which.
#![forbid(unsafe_code)]

use serde_json::json;

use super::args::Graph;
use crate::chroot::closure::explain;
use crate::chroot::{Chroot, Home, Locking};
use crate::cli::out::Out;
use crate::cli::{Exit, json};
use crate::error::Result;

pub(in crate::cli) fn run(args: &Graph, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let locking = Locking { shared: true, wait: true, verb: "graph" };
    let chroot = Chroot::open_record(&home, args.root.as_os_str(), locking)?;
    let graph = explain::graph(&chroot)?;
    if !out.json {
        return out.text(graph.dot().as_bytes()).map(|()| Exit::Done);
    }
    let edges = graph.reasons.iter().flat_map(|(path, reasons)| reasons.iter().map(move |reason| (path, reason)));
    let edge = |(path, reason): (&crate::path::TreePath, &crate::select::closure::Reason)| {
        json!({
            "path": json::path(path.as_bytes()),
            "why": &*reason.why,
            "by": reason.by.as_ref().map(|by| json::path(by.as_bytes())),
        })
    };
    out.value(&edges.map(edge).collect())?;
    Ok(Exit::Done)
}
