// SPDX-License-Identifier: ISC
//! The device set as one more layer of the wanted tree.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::error::Result;
use crate::path::TreePath;
use crate::recipe::Devices;
use crate::sys::{self, Device};
use crate::tree::{Meta, Node};

/// The nodes that are made as entries; none where the system has no table of them.
///
/// # Errors
/// None: the tables' paths are paths.
pub(crate) fn nodes(devices: Devices) -> Result<Vec<Node>> {
    let origin: Arc<str> = format!("devices {}", name(devices)).into();
    let node = |device: Device| -> Result<Node> {
        let path = TreePath::new(device.path.as_bytes())?;
        let meta = Meta { mode: device.mode, gid: device.group, ..Meta::default() };
        Ok(Node { origin: Some(Arc::clone(&origin)), ..Node::new(path, meta, device.kind) })
    };
    table(devices).unwrap_or_default().into_iter().map(node).collect()
}

/// Does the chroot's own MAKEDEV make them, for want of a table?
pub(crate) fn by_script(devices: Devices) -> bool {
    devices != Devices::None && table(devices).is_none()
}

fn table(devices: Devices) -> Option<Vec<Device>> {
    sys::device_set(name(devices))
}

fn name(devices: Devices) -> &'static str {
    match devices {
        Devices::Std => "std",
        Devices::All => "all",
        Devices::None => "none",
    }
}
