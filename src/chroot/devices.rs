// SPDX-License-Identifier: ISC
//! The device set as one more layer of the wanted tree.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::bail;
use crate::error::Result;
use crate::path::TreePath;
use crate::sys;
use crate::tree::{Meta, Node};

/// The nodes of the device set `name`; `none` is the empty one.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] for an unknown set.
pub(crate) fn nodes(name: &str) -> Result<Vec<Node>> {
    if name == "none" {
        return Ok(Vec::new());
    }
    let Some(devices) = sys::device_set(name) else {
        bail!(Usage, "no such device set: {name}");
    };
    let origin: Arc<str> = format!("devices {name}").into();
    let node = |device: sys::Device| -> Result<Node> {
        let path = TreePath::new(device.path.as_bytes())?;
        let meta = Meta { mode: device.mode, gid: device.group, ..Meta::default() };
        Ok(Node { origin: Some(Arc::clone(&origin)), ..Node::new(path, meta, device.kind) })
    };
    devices.into_iter().map(node).collect()
}
