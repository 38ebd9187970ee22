// SPDX-License-Identifier: ISC
//! Which paths a layer says something of: a walk of what was written, whatever the size of the tree below it.
//!
//! Overlayfs's own format, <https://docs.kernel.org/filesystems/overlayfs.html>: a character device 0/0 is a whiteout; a
//! directory with one of two attributes hides the lower one of its path ([`sys::hides_lower`]); any other directory is
//! merged with it.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};

use super::layer::Layer;
use crate::error::{IoContext, Result};
use crate::path::TreePath;
use crate::sys::{self, Dir, Entry, FileType, Stat, is_stale};
use crate::watch::Watch;

/// The paths that may have changed in `layer`, which is in front of `lower`: all others are the lower ones untouched.
///
/// Of a file with several names all are among them if one is.
///
/// # Errors
/// As openat(2), getdents(2).
pub(super) fn touched(layer: &Layer, lower: &Dir, watch: &Watch) -> Result<Vec<TreePath>> {
    let mut walk = Walk { layer, lower, paths: BTreeSet::new(), linked: HashMap::new(), watch };
    let mut todo = vec![TreePath::root()];
    walk.paths.insert(TreePath::root());
    while let Some(path) = todo.pop() {
        todo.extend(walk.list(&path)?);
    }
    walk.other_names()?;
    Ok(walk.paths.into_iter().collect())
}

struct Walk<'a> {
    layer: &'a Layer,
    lower: &'a Dir,
    paths: BTreeSet<TreePath>,
    /// Lower inodes with several names: how many they are, and how many were met.
    linked: HashMap<u64, (u64, u64)>,
    watch: &'a Watch,
}

impl Walk<'_> {
    /// Notes what is in a directory of the upper layer. Returns the directories in it that are still to be listed.
    fn list(&mut self, path: &TreePath) -> Result<Vec<TreePath>> {
        let upper = self.layer.upper.walk(path).on("open", path)?;
        let lower = find_dir(self.lower, path)?;
        let mut below = Vec::new();
        for Entry { name, .. } in upper.entries().on("readdir", path)? {
            self.watch.count(1, 0)?;
            let at = path.join(&name)?;
            let stat = upper.stat(&name).on("stat", &at)?;
            let under = lower.as_ref().map(|dir| dir.find(&name)).transpose().on("stat", &at)?.flatten();
            let (is_dir, was_dir) =
                (stat.kind == FileType::Dir, under.as_ref().is_some_and(|s| s.kind == FileType::Dir));
            if let Some(under) = &under {
                self.met(under);
            }
            if is_dir && sys::hides_lower(&upper, &name).on("getxattr", &at)? {
                // What it shows may be a lower directory of another path.
                self.all_below(&self.layer.view, &at)?;
                self.all_below(self.lower, &at)?;
            } else if is_dir {
                below.push(at.clone());
            } else if was_dir {
                self.all_below(self.lower, &at)?;
            }
            self.paths.insert(at);
        }
        Ok(below)
    }

    /// Notes all that is below a directory of `root`; nothing, if it is none.
    fn all_below(&mut self, root: &Dir, path: &TreePath) -> Result<()> {
        let is_lower = std::ptr::eq(root, self.lower);
        let mut todo = vec![path.clone()];
        while let Some(path) = todo.pop() {
            let Some(dir) = find_dir(root, &path)? else { continue };
            for Entry { name, .. } in dir.entries().on("readdir", &path)? {
                self.watch.count(1, 0)?;
                let at = path.join(&name)?;
                let Some(stat) = dir.find(&name).on("stat", &at)? else { continue };
                if stat.kind == FileType::Dir {
                    todo.push(at.clone());
                } else if is_lower {
                    self.met(&stat);
                }
                self.paths.insert(at);
            }
        }
        Ok(())
    }

    fn met(&mut self, lower: &Stat) {
        if lower.kind != FileType::Dir && lower.links > 1 {
            self.linked.entry(lower.ino).or_insert((lower.links, 0)).1 += 1;
        }
    }

    /// Notes the names, wherever they are, of lower files that have more than were met: what is written through one of
    /// them is seen through all.
    fn other_names(&mut self) -> Result<()> {
        self.linked.retain(|_, (links, met)| met < links);
        let mount = self.lower.stat_self().on("stat", "")?.mount;
        let mut todo = if self.linked.is_empty() { Vec::new() } else { vec![TreePath::root()] };
        while let Some(path) = todo.pop() {
            let Some(dir) = find_dir(self.lower, &path)? else { continue };
            for Entry { name, kind, ino } in dir.entries().on("readdir", &path)? {
                self.watch.count(1, 0)?;
                if kind.is_some_and(|kind| kind != FileType::Dir) && !self.linked.contains_key(&ino) {
                    continue;
                }
                let at = path.join(&name)?;
                match dir.find(&name).on("stat", &at)? {
                    Some(stat) if stat.mount != mount => {}
                    Some(stat) if stat.kind == FileType::Dir => todo.push(at),
                    Some(stat) if self.linked.contains_key(&stat.ino) => drop(self.paths.insert(at)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Opens the directory at `path`; none if nothing is there, or something else.
pub(super) fn find_dir(root: &Dir, path: &TreePath) -> Result<Option<Dir>> {
    match root.walk(path) {
        Err(e) if is_stale(&e) => Ok(None),
        dir => dir.map(Some).on("open", path),
    }
}
