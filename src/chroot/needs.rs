// SPDX-License-Identifier: ISC
//! Programs and libraries among the changes whose own libraries are nowhere (decision 21).
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::copy::kind_of;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};
use crate::plan::{Change, Plan};
use crate::select::elf::{self, Root, Unmet};
use crate::sys::Dir;
use crate::tree::Kind;
use crate::tree::resolve::{Resolved, resolve};

/// A root as it is, or as it will be.
pub(crate) struct View<'a> {
    root: &'a Dir,
    coming: HashMap<&'a TreePath, &'a Change>,
    staged: &'a dyn Fn(&TreePath) -> Option<File>,
}

impl<'a> View<'a> {
    /// As it is.
    pub(crate) fn now(root: &'a Dir) -> View<'a> {
        View { root, coming: HashMap::new(), staged: &|_| None }
    }

    /// After a plan; `staged` has the contents that come.
    pub(crate) fn after(root: &'a Dir, plan: &'a Plan, staged: &'a dyn Fn(&TreePath) -> Option<File>) -> View<'a> {
        View { root, coming: plan.changes.iter().map(|change| (&change.path, change)).collect(), staged }
    }

    /// The canonical path of what is at `path`; `.` and `..` are taken as they are written: they come from lists of
    /// directories.
    fn find(&self, path: &Path) -> Option<TreePath> {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in path.as_os_str().as_bytes().split(|&b| b == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        match resolve(&TreePath::new(names.join(&b"/"[..])).ok()?, true, |at| self.kind(at), |_| Ok(())) {
            Ok(Resolved::Found(at)) => Some(at),
            _ => None,
        }
    }

    fn kind(&self, at: &TreePath) -> Option<Kind> {
        match self.coming.get(at) {
            Some(change) => change.after.as_ref().map(|node| node.kind.clone()),
            None => kind_of(self.root, at).ok()?,
        }
    }

    fn open(&self, path: &Path) -> Option<File> {
        let mut at = self.find(path)?;
        if let Some(link) = self.coming.get(&at).and_then(|change| change.link.clone()) {
            at = link;
        }
        if self.coming.get(&at).is_some_and(|change| change.needs_body()) {
            return (self.staged)(&at);
        }
        self.root.walk_parent(&at).ok()?.open_regular(at.name()).ok()?
    }

    fn names(&self, path: &Path) -> Vec<OsString> {
        let Some(at) = self.find(path) else { return Vec::new() };
        let there = self.root.walk(&at).and_then(|dir| dir.entries()).unwrap_or_default();
        let there = there.into_iter().filter_map(|entry| at.join(&entry.name).ok());
        let mut paths: Vec<TreePath> = there.filter(|path| !self.coming.contains_key(path)).collect();
        let comes = |change: &&&Change| change.after.is_some() && change.path.parent().as_ref() == Some(&at);
        paths.extend(self.coming.values().filter(comes).map(|change| change.path.clone()));
        paths.iter().map(|path| OsString::from_vec(path.name().to_vec())).collect()
    }

    /// What the program at `path` needs and the root does not have.
    fn unmet(&self, path: &Path) -> Vec<Unmet> {
        let open = |path: &Path| self.open(path);
        let names = |path: &Path| self.names(path);
        let root = Root { open: &open, names: &names, minors: true };
        open(path).and_then(elf::read_object).map(|program| elf::unmet(&program, path, &root)).unwrap_or_default()
    }
}

/// Refuses a plan that brings a program which the root has no libraries for after it, unless that `before` it lacked the
/// same.
///
/// # Errors
/// [`ErrorKind::Refused`] naming the first such program and what it lacks.
pub(crate) fn refuse_unmet(plan: &Plan, after: &View<'_>, before: Option<&View<'_>>, go_on: &str) -> Result<()> {
    let brings =
        |change: &&Change| change.replace && matches!(change.after, Some(ref n) if matches!(n.kind, Kind::File { .. }));
    for change in plan.changes.iter().filter(brings) {
        let path = Path::new("/").join(change.path.as_os_str());
        let mut unmet = after.unmet(&path);
        if let Some(before) = before.filter(|_| !unmet.is_empty()) {
            let known = before.unmet(&path);
            unmet.retain(|lacking| !known.contains(lacking));
        }
        let Some(unmet) = unmet.first() else { continue };
        let lacks = match unmet {
            Unmet::Interpreter(path) | Unmet::Library(path) => format!("needs {}", escape(path)),
            Unmet::Version { library, version, at } => {
                let (library, version) = (escape(library), escape(version));
                format!("needs {library} with {version}, which {} lacks", at.display())
            }
        };
        let reason = format!("{lacks}, and neither the root nor the change has that");
        return Err(Error::new(ErrorKind::Refused, reason)
            .at(&change.path)
            .hint(format!("install it too, or {go_on}: --allow-unmet")));
    }
    Ok(())
}
