// SPDX-License-Identifier: ISC
//! Changes as text: a line that says how, then what was (`- `) and what will be (`+ `) as lines of a manifest.
//!
//! ```text
//! change HOW
//! - ./etc/motd type=file mode=0644 ...
//! + ./etc/motd type=file mode=0644 ...
//! ```
#![forbid(unsafe_code)]

use std::iter::Peekable;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::Change;
use crate::tree::Node;
use crate::tree::text::{Dialect, Origins, read_node, write_node};

const HEAD: &[u8] = b"change ";

/// Appends a change; `how` is whatever the file that it belongs to says of it.
pub fn write_change(change: &Change, how: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(how);
    out.push(b'\n');
    for (sign, node) in [(b'-', &change.before), (b'+', &change.after)] {
        let Some(node) = node else { continue };
        out.extend_from_slice(&[sign, b' ']);
        write_node(node, out, Dialect::Stockade);
        out.push(b'\n');
    }
}

/// Reads the next change and what is said of it; none if another line comes next. The change's `replace` and `link` are
/// left for the caller, who knows what his HOW means.
///
/// # Errors
/// [`ErrorKind::BadInput`] for a malformed entry, a change of nothing, or of two paths.
pub fn read_change<'a>(
    lines: &mut Peekable<impl Iterator<Item = &'a [u8]>>,
    origins: &mut Origins,
) -> Result<Option<(&'a [u8], Change)>> {
    let Some(head) = lines.next_if(|line| line.starts_with(HEAD)) else { return Ok(None) };
    let mut node = |sign: &[u8]| -> Result<Option<Node>> {
        let line = lines.next_if(|line| line.starts_with(sign));
        line.map(|line| read_node(&line[sign.len()..], origins)).transpose()
    };
    let (before, after) = (node(b"- ")?, node(b"+ ")?);
    let broken = |reason: &'static str| Error::new(ErrorKind::BadInput, reason);
    let path = before.as_ref().or(after.as_ref()).map(|node| node.path.clone());
    let path = path.ok_or_else(|| broken("a change of nothing"))?;
    if after.as_ref().is_some_and(|node| node.path != path) {
        return Err(broken("a change of two paths"));
    }
    Ok(Some((&head[HEAD.len()..], Change { path, before, after, replace: false, link: None })))
}
