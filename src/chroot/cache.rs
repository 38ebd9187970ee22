// SPDX-License-Identifier: ISC
//! The trees of archives that were read before: state directory `archives/`, each under the digest of its own text; an
//! archive inside another, whose digest that one tells, under that.
#![forbid(unsafe_code)]

use std::io::Write;

use super::state::State;
use crate::error::{IoContext, Result};
use crate::tree::text::{Dialect, Origins, read_node, write_node};
use crate::tree::{Digest, Node};

const ARCHIVES: &str = "archives";

/// The first line: the version of what the reader of archives makes, and how many lines follow.
const HEAD: &[u8] = b"# stockade archive 1, entries: ";

/// The nodes of the archive with this name; none if they are not known or cannot be read: then it is read again.
pub(crate) fn read(state: &State, id: Digest) -> Option<Vec<Node>> {
    let dir = state.subdir(ARCHIVES).ok()?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut dir.open_file(id.to_string().as_bytes()).ok()?, &mut text).ok()?;
    let mut origins = Origins::default();
    let mut lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let count: usize = std::str::from_utf8(lines.next()?.strip_prefix(HEAD)?).ok()?.parse().ok()?;
    let nodes: Vec<Node> = lines.map(|line| read_node(line, &mut origins).ok()).collect::<Option<_>>()?;
    (nodes.len() == count).then_some(nodes)
}

/// The nodes of an archive as they are remembered.
pub(crate) fn text(nodes: &[Node]) -> Vec<u8> {
    let mut text = [HEAD, nodes.len().to_string().as_bytes(), b"\n"].concat();
    for node in nodes {
        write_node(node, &mut text, Dialect::Stockade);
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
    }
    text
}

/// Remembers an archive.
pub(crate) fn write(state: &State, id: Digest, text: &[u8]) -> Result<()> {
    let dir = state.subdir(ARCHIVES)?;
    let name = id.to_string();
    let new = format!("{name}.new");
    match dir.unlink(new.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        done => done.on("unlink", &new)?,
    }
    let mut file = dir.create_file(new.as_bytes(), 0o600).on("create", &new)?;
    file.write_all(text).on("write", &new)?;
    // Half of it would read as an archive that lost entries.
    file.sync_all().on("fsync", &new)?;
    dir.rename(new.as_bytes(), &dir, name.as_bytes()).on("rename", &name)
}

/// Forgets all archives but these.
pub(crate) fn keep_only(state: &State, keep: &[String]) -> Result<()> {
    let dir = state.subdir(ARCHIVES)?;
    for entry in dir.entries().on("readdir", ARCHIVES)? {
        if !keep.iter().any(|name| name.as_bytes() == &*entry.name) {
            dir.unlink(&entry.name).on("unlink", &entry.name)?;
        }
    }
    Ok(())
}
