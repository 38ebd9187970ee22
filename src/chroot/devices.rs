// SPDX-License-Identifier: ISC
//! The device set: one more layer of the wanted tree, or what fills a `dev` that is a filesystem of its own.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use super::place::bytes;
use crate::apply::make_entry;
use crate::error::{IoContext, Result};
use crate::path::{TreePath, escape};
use crate::recipe::Devices;
use crate::sys::{self, Calls, Device, Dir, FileType};
use crate::tree::{Meta, Node, Time};

/// The directory of devices.
pub(super) const DEV: &str = "dev";

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

/// Makes what is missing in a `dev` of the root that is a filesystem of its own, as it is where the root's is mounted nodev:
/// the one mount below a root that we fill (decision 29), again after each time that it was mounted. Returns how many nodes
/// were made.
///
/// # Errors
/// As mknod(2).
pub(crate) fn fill(root: &Dir, devices: Devices) -> Result<usize> {
    let Some(at) = own_mount(root)? else { return Ok(0) };
    if sys::effective_uid() != 0 || at.space().on("statfs", DEV)?.nodev {
        return Ok(0);
    }
    let mut made = 0;
    for mut node in nodes(devices)? {
        let place = node.path.strip(&TreePath::new(DEV.as_bytes())?).unwrap_or_default();
        let dir = at.walk_parent(&place).on("open", &node.path)?;
        if dir.find(place.name()).on("stat", &node.path)?.is_none() {
            node.meta.mtime = Time { sec: sys::change_clock().sec, nsec: 0 };
            make_entry(&dir, place.name(), &node)?;
            made += 1;
        }
    }
    Ok(made)
}

/// The `dev` of the root, if it is a filesystem of its own.
fn own_mount(root: &Dir) -> Result<Option<Dir>> {
    let found = root.find(DEV.as_bytes()).on("stat", DEV)?;
    let here = root.stat_self().on("stat", DEV)?.mount;
    match found {
        Some(stat) if stat.kind == FileType::Dir && stat.mount != here => {
            root.try_clone().on("dup", DEV)?.crossing().open_dir(DEV.as_bytes()).map(Some).on("open", DEV)
        }
        _ => Ok(None),
    }
}

/// How to give the root a `dev` where devices work; none if they work in it, it has one, or sessions bring their own.
///
/// # Errors
/// As statfs(2).
pub(crate) fn mount_line(root: &Dir, shown: &Path, devices: Devices) -> Result<Option<String>> {
    let own = sys::HAS_SESSIONS && root.calls() == Calls::Native;
    let works = own || devices == Devices::None || !root.space().on("statfs", bytes(shown))?.nodev;
    if works || own_mount(root)?.is_some() {
        return Ok(None);
    }
    Ok(Some(format!("{} {}", sys::MOUNT_DEV, escape(bytes(&shown.join(DEV))))))
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
