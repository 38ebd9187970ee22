// SPDX-License-Identifier: ISC
//! Trees and changes as JSON.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value, json};

use crate::plan::{Action, Change, Plan};
use crate::tree::{Kind, Node};

/// A path: a string, or `{"bytes": BASE64}` if it is not UTF-8.
pub(super) fn path(path: &[u8]) -> Value {
    match std::str::from_utf8(path) {
        Ok(text) => text.into(),
        Err(_) => json!({ "bytes": Base64::encode_string(path) }),
    }
}

/// A path of the host.
pub(super) fn host_path(host: &Path) -> Value {
    path(host.as_os_str().as_bytes())
}

/// An entry, in mtree's words.
pub(super) fn node(node: &Node) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    put("path", path(node.path.as_bytes()));
    put("type", node.kind.word().into());
    put("mode", format!("{:04o}", node.meta.mode).into());
    put("uid", node.meta.uid.into());
    put("gid", node.meta.gid.into());
    put("time", format!("{}.{:09}", node.meta.mtime.sec, node.meta.mtime.nsec).into());
    match &node.kind {
        Kind::File { size, .. } => drop(put("size", (*size).into())),
        Kind::Symlink(target) => drop(put("link", path(target))),
        Kind::Char(major, minor) | Kind::Block(major, minor) => drop(put("device", json!([major, minor]))),
        Kind::Dir | Kind::Fifo | Kind::Socket => {}
    }
    if let Some(digest) = node.digest() {
        put("sha256", digest.to_string().into());
    }
    if let Some(group) = &node.group {
        put("hardlink", path(group.as_bytes()));
    }
    if node.meta.flags != 0 {
        put("flags", format!("{:o}", node.meta.flags).into());
    }
    if let Some(xattrs) = &node.meta.xattrs {
        let pair = |(name, value): &(Box<[u8]>, Box<[u8]>)| json!([path(name), Base64::encode_string(value)]);
        put("xattrs", xattrs.iter().map(pair).collect());
    }
    if let Some(origin) = &node.origin {
        put("origin", (**origin).into());
    }
    map.into()
}

/// The changes that are shown.
pub(super) fn plan(plan: &Plan) -> Value {
    shown(plan).map(change).collect()
}

/// The changes of a plan that people want to see: all but directories that are only touched.
pub(super) fn shown(plan: &Plan) -> impl Iterator<Item = &Change> {
    plan.changes.iter().filter(|change| change.action() != Action::Touch)
}

/// A change.
pub(super) fn change(change: &Change) -> Value {
    json!({
        "change": change.action().letter().to_string(),
        "path": path(change.path.as_bytes()),
        "differs": change.differs_in(),
        "before": change.before.as_ref().map(node),
        "after": change.after.as_ref().map(node),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn entries_have_what_they_are() {
        let tree = tree(&["d d", "f d/a x", "l d/b a"]);
        let values: Vec<Value> = tree.nodes().iter().map(node).collect();
        assert_eq!(values[0]["type"], "dir");
        assert_eq!(values[1]["path"], "d/a");
        assert_eq!(values[1]["sha256"].as_str().map(str::len), Some(64));
        assert_eq!(values[2]["link"], "a");
        assert!(values[2].get("size").is_none());
    }

    #[test]
    fn odd_bytes_survive() {
        assert_eq!(path("ü".as_bytes()), json!("ü"));
        assert_eq!(path(b"a\xff"), json!({ "bytes": "Yf8=" }));
    }
}
