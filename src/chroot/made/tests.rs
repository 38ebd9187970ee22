// SPDX-License-Identifier: ISC
//! A small made-up host, and a chroot of this machine's packages that is entered and used.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use super::*;
use crate::path::PathSet;
use crate::recipe::Action;
use crate::select::packages::FileOptions;
use crate::source::dir::{ScanOptions, scan_paths};
use crate::sys::{Calls, Dir};
use crate::watch::Watch;

/// A wanted tree, complete, and where its contents are.
struct Composed {
    overlay: Overlay,
    output: Output,
    selection: Selection,
    /// Paths whose file the host has under another name.
    renamed: HashMap<TreePath, TreePath>,
}

/// Lays the links, the selection and the made files of the host at `root` over each other.
fn compose(root: &Path, names: &[&str]) -> Composed {
    let (dir, watch, time) = (Dir::open(root, Calls::Native).unwrap(), Watch::default(), Time { sec: 9, nsec: 0 });
    let (host, dpkg) = (Host::new(&dir).unwrap(), Dpkg::open(&dir).unwrap());
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let packages = dpkg.closure(&names).unwrap();
    let selection = dpkg.files(&packages, FileOptions::default(), &watch).unwrap();
    let paths: Vec<TreePath> = selection.entries.iter().map(|entry| entry.host.clone()).collect();
    let scan = scan_paths(&dir, &paths, &ScanOptions { xattrs: true, ..ScanOptions::default() }, &watch).unwrap();
    let (mut nodes, mut renamed) = (Vec::new(), HashMap::new());
    for entry in &selection.entries {
        let mut node = scan.tree.get(entry.host.as_bytes()).unwrap().clone();
        node.path = entry.path.clone();
        node.origin = Some(entry.origin.clone());
        if entry.path != entry.host {
            renamed.insert(entry.path.clone(), entry.host.clone());
        }
        nodes.push(node);
    }
    let mut overlay = Overlay::default();
    let lay = |overlay: &mut Overlay, nodes| overlay.lay(nodes, &TreePath::root(), &PathSet::default()).unwrap();
    lay(&mut overlay, links(&host, time).unwrap().into_iter().map(|made| made.node).collect());
    lay(&mut overlay, nodes);
    let (wanted, actions) = (&overlay, &Action::ALL.into());
    let input = Input { host: &host, dpkg: &dpkg, packages: &packages, selection: &selection, wanted, time, actions };
    let output = make(&input).unwrap();
    lay(&mut overlay, output.made.iter().map(|made| made.node.clone()).collect());
    Composed { overlay, output, selection, renamed }
}

/// Writes the tree to `to`, which is empty: a plain copy, enough for a test.
fn write_out(composed: Composed, host: &Path, to: &Path) {
    let bodies: HashMap<TreePath, Vec<u8>> =
        composed.output.made.into_iter().map(|made| (made.node.path, made.body)).collect();
    let (tree, from) = composed.overlay.finish().unwrap();
    for (node, from) in tree.nodes().iter().zip(&from) {
        let path = to.join(node.path.as_os_str());
        match &node.kind {
            Kind::Dir if node.path.is_root() => {}
            Kind::Dir => std::fs::create_dir(&path).unwrap(),
            Kind::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
            Kind::File { .. } if from.layer == 2 => std::fs::write(&path, &bodies[&from.path]).unwrap(),
            Kind::File { .. } => {
                let source = composed.renamed.get(&from.path).unwrap_or(&from.path);
                std::fs::copy(host.join(source.as_os_str()), &path).unwrap();
            }
            other => panic!("{}: {}", node.path, other.word()),
        }
        lchown(&path, Some(node.meta.uid), Some(node.meta.gid)).unwrap();
        if !matches!(node.kind, Kind::Symlink(_)) {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(node.meta.mode.into())).unwrap();
        }
    }
}

#[test]
fn show() {
    let Some(to) = std::env::var_os("STOCKADE_OUT") else { return };
    let names = std::env::var("STOCKADE_NAMES").unwrap_or("apt".into());
    let composed = compose(Path::new("/"), &names.split(' ').collect::<Vec<_>>());
    composed.output.notes.iter().for_each(|note| eprintln!("{note}"));
    eprintln!("{:?}", composed.selection.skipped);
    eprintln!("{} made", composed.output.made.len());
    std::fs::create_dir(&to).unwrap();
    write_out(composed, Path::new("/"), Path::new(&to));
}
