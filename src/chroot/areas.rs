// SPDX-License-Identifier: ISC
//! The filesystems that one change of a root spans: the root's own, and those mounted below it that the change names
//! (decisions E4, 19). Each has a work space of its own; state file `areas` has the list until the change is done.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::place::{Place, bytes};
use super::state::State;
use super::work::{Work, owners};
use crate::apply::{Area, Stage, Target};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{self, Dir};
use crate::tree::text;
use crate::watch::Watch;

/// The state file's name.
const AREAS: &str = "areas";

/// Filesystems that are no disk of this machine: nothing of a root that lasts is on one.
const FOREIGN: [&str; 18] = [
    "9p",
    "afs",
    "autofs",
    "ceph",
    "cifs",
    "devpts",
    "devtmpfs",
    "fuse.sshfs",
    "glusterfs",
    "mfs",
    "nfs",
    "nfs4",
    "proc",
    "smb3",
    "sysfs",
    "tmpfs",
    "virtiofs",
    "bpf",
];

/// The work spaces of a change.
pub(crate) struct Areas<'a> {
    list: Vec<Open<'a>>,
}

struct Open<'a> {
    at: TreePath,
    root: Dir,
    work: Work<'a>,
}

/// Where filesystems are mounted below the root that hold one of `paths`, or will.
///
/// # Errors
/// [`ErrorKind::Refused`] for one that is no local disk.
pub(crate) fn below(place: &Place, paths: &[TreePath]) -> Result<Vec<TreePath>> {
    let root = place.root.canonicalize().on("open", bytes(&place.root))?;
    let mut found = Vec::new();
    for mount in sys::mounts().on("read", "mounts")? {
        let target = Path::new(std::ffi::OsStr::from_bytes(&mount.target));
        let Some(at) = target.strip_prefix(&root).ok().and_then(|at| TreePath::lenient(bytes(at)).ok()) else {
            continue;
        };
        let used = |path: &TreePath| path.is_within(&at) && *path != at;
        if at.is_root() || found.contains(&at) || !paths.iter().any(used) {
            continue;
        }
        if place.root != Path::new("/") && mount.root != b"/" && mount.kind != "btrfs" {
            let error =
                Error::new(ErrorKind::Refused, "a directory from elsewhere is bound there, and would change too");
            return Err(error.at(&mount.target).hint("unmount it for the time being"));
        }
        if FOREIGN.contains(&mount.kind.as_str()) {
            let reason = format!("a filesystem of type {} is mounted there: it is no disk of this machine", mount.kind);
            return Err(Error::new(ErrorKind::Refused, reason).at(&mount.target).hint("unmount it for the time being"));
        }
        found.push(at);
    }
    found.sort();
    Ok(found)
}

/// The root's own filesystem and those mounted at `below`: where each is, and its root.
///
/// # Errors
/// As openat(2).
pub(crate) fn roots(root: &Dir, below: &[TreePath]) -> Result<Vec<(TreePath, Dir)>> {
    let again = || root.try_clone().on("open", TreePath::root());
    let mut roots = vec![(TreePath::root(), again()?)];
    for at in below {
        roots.push((at.clone(), again()?.crossing().walk(at).on("open", at)?.staying()));
    }
    Ok(roots)
}

impl<'a> Areas<'a> {
    /// Makes nothing yet: `roots` is what [`roots`] gives.
    pub(crate) fn new(place: &Place, state: &'a State, roots: &[(TreePath, Dir)]) -> Result<Areas<'a>> {
        let again = |dir: &Dir| dir.try_clone().on("open", bytes(&place.root));
        let open = |(number, (at, root)): (usize, &(TreePath, Dir))| {
            let work = match number {
                0 => Work::new(place, state, Some(root))?,
                _ => Work::on_mount(state, again(root)?, place.root.join(at.as_os_str()), number),
            };
            Ok(Open { at: at.clone(), root: again(root)?, work })
        };
        Ok(Areas { list: roots.iter().enumerate().map(open).collect::<Result<_>>()? })
    }

    /// Those that an earlier command wrote down.
    pub(crate) fn left(place: &Place, state: &'a State, root: &Dir) -> Result<Areas<'a>> {
        let text = state.read(AREAS)?.unwrap_or_default();
        let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        let below: Option<Vec<TreePath>> = lines.map(text::read_path).collect();
        let broken = || Error::new(ErrorKind::BadInput, "the list of filesystems is malformed");
        let below = below.ok_or_else(|| broken().at(bytes(&state.path.join(AREAS))))?;
        Areas::new(place, state, &roots(root, &below)?)
    }

    /// Writes them down, before anything is made in one.
    pub(crate) fn note(&self, state: &State) -> Result<()> {
        let mut text = Vec::new();
        for Open { at, .. } in &self.list[1..] {
            text::path(&mut text, at);
            text.push(b'\n');
        }
        if text.is_empty() { Ok(()) } else { state.write(AREAS, &text) }
    }

    /// Gives each root the time back that it had before its work space came or went.
    pub(crate) fn settle(&self) -> Result<()> {
        self.list.iter().try_for_each(|area| area.work.settle())
    }

    /// Have all of them a work space? Where a journal stands they have, unless it is of another root.
    pub(crate) fn exist(&self) -> Result<bool> {
        self.list.iter().try_fold(true, |all, area| Ok(area.work.exists()? && all))
    }

    /// All of them as one target.
    pub(crate) fn target(&self) -> Result<Target> {
        let area = |open: &Open<'_>| -> Result<Area> {
            let root = open.root.try_clone().on("open", &open.at)?;
            Ok(Area { at: open.at.clone(), root: root.into(), work: open.work.dir()? })
        };
        Ok(Target { areas: self.list.iter().map(area).collect::<Result<_>>()?, owners: owners() })
    }

    /// Their stages, in the target's order.
    pub(crate) fn stages(&self) -> Result<Vec<&Stage>> {
        self.list.iter().map(|area| area.work.stage()).collect()
    }

    /// Removes the work spaces with all that is in them.
    pub(crate) fn clear(&self, state: &State) -> Result<()> {
        // Not the caller's watch: a Ctrl-C shall not leave what it wants to be rid of.
        self.list.iter().try_for_each(|area| area.work.clear(&Watch::default()))?;
        state.discard(AREAS)
    }
}
