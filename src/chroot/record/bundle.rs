// SPDX-License-Identifier: ISC
//! What was recorded as the file of a patch.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::inspect::Files;
use super::{Means, Recorded, Recording};
use crate::chroot::login::read_below;
use crate::chroot::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Bodies, Contents, FollowUp, Head, Pen, Scratch, make, recording_of};
use crate::path::{PathSet, TreePath, escape};
use crate::plan::Plan;
use crate::sys::Dir;
use crate::tree::text::read_some;
use crate::tree::{Digest, Node};
use crate::watch::Watch;

/// The state file with the patches that were made here: name and digest of the manifest, a line each.
const MADE: &str = "made";

/// What has to be done again where these change, and the file that says whether a root has such a thing.
const FOLLOW_UPS: &[(FollowUp, &[&str], &[&str])] = &[
    (
        FollowUp::Ldconfig,
        &["**/lib*.so", "**/lib*.so.*", "etc/ld.so.conf", "etc/ld.so.conf.d"],
        &["sbin/ldconfig", "usr/sbin/ldconfig"],
    ),
    (FollowUp::CapMkdb, &["etc/login.conf", "etc/capabilities", "usr/share/misc/termcap"], &["usr/bin/cap_mkdb"]),
    (FollowUp::Newaliases, &["etc/aliases", "etc/mail/aliases"], &["usr/bin/newaliases", "usr/sbin/newaliases"]),
    (FollowUp::Makewhatis, &["usr/share/man", "usr/X11R6/man", "usr/local/man"], &["usr/sbin/makewhatis"]),
    (FollowUp::Relink, &["usr/share/relink"], &["usr/libexec/reorder_kernel"]),
];

impl Recording {
    /// Completes the head of a patch: who is to have what it needs, and what has to be done afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for an account whose name is no text; as read(2).
    pub fn contents(&self, recorded: &Recorded, head: Head) -> Result<Contents> {
        let view = self.view();
        let lines = recorded.accounts().added.iter().map(|account| account.line());
        let mut head = Head { accounts: lines.collect::<Result<_>>()?, ..head };
        let origins = self.origins(&recorded.plan)?;
        head.requires.extend(self.predecessors(&origins)?);
        for (follow_up, patterns, programs) in FOLLOW_UPS {
            let paths = PathSet::new(patterns.iter())?;
            let concerned = recorded.plan.changes.iter().any(|change| change.replace && paths.covers(&change.path));
            if concerned && programs.iter().any(|program| is_there(view, program)) {
                head.follow_ups.push(follow_up.clone());
            }
        }
        if !head.accounts.is_empty() && is_there(view, "etc/master.passwd") {
            head.follow_ups.push(FollowUp::PwdMkdb);
        }
        head.requires.sort();
        head.requires.dedup();
        head.follow_ups.sort();
        head.follow_ups.dedup();
        let mut plan = recorded.plan.clone();
        for node in plan.changes.iter_mut().flat_map(|change| [&mut change.before, &mut change.after]).flatten() {
            node.origin = origins.get(&node.path).cloned();
        }
        let mut contents = Contents::new(head, plan);
        let text = |path: &str| Ok(read_below(view, &TreePath::new(path.as_bytes())?)?.unwrap_or_default());
        contents.name_owners(&text("etc/passwd")?, &text("etc/group")?);
        Ok(contents)
    }

    /// Refuses a file that no patch can be written to, and `small` ones that cannot be made, before anything is done.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a file in the chroot, which would be recorded itself; [`ErrorKind::Unsupported`] for
    /// differences from what nobody will have any more; as open(2).
    pub fn refuse_output(&self, file: &Path, small: bool) -> Result<()> {
        if small && matches!(self.means, Means::Scan(_)) {
            let error = Error::new(ErrorKind::Unsupported, "without an overlay nobody has what files were before");
            return Err(error.hint("leave out --delta"));
        }
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let missing = |error: Error| error.hint(format!("make it with: mkdir -p {}", escape(bytes(dir))));
        let real = dir.canonicalize().on("open", bytes(dir)).map_err(missing)?;
        let root = self.chroot.place.root.canonicalize().on("open", bytes(&self.chroot.place.root))?;
        if real.starts_with(root) {
            let error = Error::new(ErrorKind::Refused, "the patch would be in the chroot that it is made of");
            return Err(error.at(bytes(file)).hint("write it elsewhere, with --output"));
        }
        Scratch::beside(file).map(drop)
    }

    /// Writes the patch to `file`, whole or not at all: with `small` files as differences, signed by `pen`. To be called
    /// before the changes become part of the chroot. Returns the manifest that it has.
    ///
    /// # Errors
    /// As [`make`].
    pub fn write(
        &self,
        contents: Contents,
        (small, pen): (bool, Option<&Pen>),
        file: &Path,
        watch: &Watch,
    ) -> Result<Contents> {
        let (old, new) = (Files::new(&self.chroot.root), Files::new(self.view()));
        let before = |node: &Node| -> Result<Box<dyn Read>> {
            match &self.means {
                Means::Overlay(_) => body(&old, &node.path),
                Means::Scan(before) => {
                    let text = before.text(&node.path).ok_or_else(|| gone(&node.path))?;
                    Ok(Box::new(std::io::Cursor::new(text.to_vec())))
                }
            }
        };
        let after = |node: &Node| body(&new, &node.path);
        make(contents, Bodies { before: &before, after: &after }, (small, pen), file, watch)
    }

    /// What the manifest says of where the paths of `plan` come from. It is not read for the others.
    fn origins(&self, plan: &Plan) -> Result<HashMap<TreePath, Arc<str>>> {
        let text = self.chroot.state.read("manifest")?.unwrap_or_default();
        let wanted = plan.paths().map(TreePath::as_bytes).collect();
        let known = read_some(&text, &wanted).map_err(|error| error.at(bytes(&self.chroot.state.path)))?;
        Ok(known.into_iter().filter_map(|node| Some((node.path, node.origin?))).collect())
    }

    /// The patches made here that touched what this one touches.
    fn predecessors(&self, origins: &HashMap<TreePath, Arc<str>>) -> Result<Vec<(String, Digest)>> {
        let made = self.made()?;
        let names = origins.values().filter_map(|origin| recording_of(origin).map(str::to_owned));
        let names: BTreeSet<String> = names.collect();
        Ok(names.into_iter().filter_map(|name| Some((name.clone(), *made.get(&name)?))).collect())
    }

    /// Notes that the patch was made here: later ones build on it.
    ///
    /// # Errors
    /// As write(2).
    pub fn note_made(&self, contents: &Contents) -> Result<()> {
        let mut made = self.made()?;
        made.insert(contents.head.name.clone(), contents.digest());
        let text: String = made.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
        self.chroot.state.write(MADE, text.as_bytes())
    }

    pub(super) fn made(&self) -> Result<BTreeMap<String, Digest>> {
        let text = self.chroot.state.read(MADE)?.unwrap_or_default();
        let line = |line: &str| {
            let (name, digest) = line.split_once(' ')?;
            Some((name.to_owned(), Digest::from_hex(digest.as_bytes())?))
        };
        let damaged =
            || Error::new(ErrorKind::BadInput, "the record is damaged").at(bytes(&self.chroot.state.path.join(MADE)));
        String::from_utf8_lossy(&text).lines().map(|text| line(text).ok_or_else(damaged)).collect()
    }
}

fn body(files: &Files<'_>, path: &TreePath) -> Result<Box<dyn Read>> {
    Ok(Box::new(files.open(path)?.ok_or_else(|| gone(path))?))
}

fn gone(path: &TreePath) -> Error {
    Error::new(ErrorKind::Unverified, "it is no longer what was recorded").at(path)
}

fn is_there(root: &Dir, path: &str) -> bool {
    let found = TreePath::new(path.as_bytes()).ok().and_then(|at| crate::chroot::copy::find_inside(root, &at).ok());
    found.flatten().is_some()
}
