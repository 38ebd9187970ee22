// SPDX-License-Identifier: ISC
//! Real runs: what one opens of the host and the static closure missed, and what one does not find in a jail.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::ExitStatus;

use super::{made, request, versions};
use crate::chroot::accounts;
use crate::chroot::login::read_below;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{PathSet, TreePath, escape};
use crate::recipe::Closure;
use crate::select::closure::owners::Lists;
use crate::select::closure::{self, View};
use crate::sys::{self, Calls, Dir, FileType, Traced, Tracing};
use crate::watch::Watch;

/// What every system has of its own while it runs; nothing there is copied.
const ELSEWHERE: [&str; 8] = ["proc", "sys", "dev", "tmp", "run", "var/tmp", "var/run", "var/cache/ldconfig"];

/// Of those, what a jail that does not run cannot have.
const RUNNING: [&str; 4] = ["proc", "sys", "run", "var/run"];

/// What a traced run showed.
#[derive(Debug)]
pub struct Trace {
    /// How it ended.
    pub status: ExitStatus,
    /// Paths that the static closure missed: as they were named, and the program that opened each.
    pub missed: BTreeMap<String, String>,
    /// Files that the run opened.
    pub opened: usize,
    /// Files of the static closure that the run did not open.
    pub idle: usize,
    /// Paths that it wrote to.
    pub written: BTreeSet<String>,
}

/// Runs `argv` on the host and compares what it opens with the static closure of `wanted`. `aside`: what it says goes to
/// standard error.
///
/// # Errors
/// As [`sys::trace`]; as gathering the closure.
pub fn run(calls: Calls, wanted: &Closure, (argv, aside): (&[Vec<u8>], bool), watch: &Watch) -> Result<Trace> {
    let root = Dir::open(std::path::Path::new("/"), calls).on("open", "/")?.crossing();
    let mut seen: BTreeMap<Vec<u8>, Traced> = BTreeMap::new();
    let shown = argv.first().map(Vec::as_slice).unwrap_or_default();
    let stop = watch.stop_flag();
    let tracing = Tracing { argv, root: None, user: None, aside, stop: &stop };
    let status = sys::trace(&tracing, &mut |one| {
        seen.entry(one.path.clone()).and_modify(|known| known.written |= one.written).or_insert(one);
    });
    watch.check()?;
    let status = status.on("run", shown)?;
    let view = View::new(&root)?;
    let lists = Lists::read(&root)?;
    let known = closure::gather(&view, &lists.owners(), &request(&root, wanted, watch)?, watch)?.entries;
    let elsewhere = PathSet::new(ELSEWHERE)?;
    let (mut missed, mut written, mut opened) = (BTreeMap::new(), BTreeSet::new(), HashSet::new());
    for (path, one) in seen {
        let (Ok(name), Ok(program)) = (String::from_utf8(path), String::from_utf8(one.program)) else { continue };
        if one.written {
            written.insert(name);
            continue;
        }
        let found = match view.follow(name.as_bytes()) {
            Ok(found) if !one.missing => found,
            _ => continue,
        };
        let Some((end, kind)) = &found.end else { continue };
        let of_host = made::MADE.iter().any(|made| made.as_bytes() == end.as_bytes())
            || !wanted.host_nss && end.name().starts_with(b"libnss_");
        if of_host || elsewhere.covers(end) || !matches!(kind, FileType::File | FileType::Dir) || end.is_root() {
            continue;
        }
        if *kind == FileType::File {
            opened.insert(end.clone());
        }
        if !known.contains_key(end) || found.links.iter().any(|link| !known.contains_key(link)) {
            missed.insert(name, program);
        }
    }
    let idle = known.keys().filter(|path| !opened.contains(*path) && is_file(&view, path)).count();
    Ok(Trace { status, missed, opened: opened.len(), idle, written })
}

fn is_file(view: &View, path: &TreePath) -> bool {
    view.stat(path).is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == FileType::File))
}

/// What a run in a jail showed.
#[derive(Debug)]
pub struct Probe {
    /// How it ended.
    pub status: ExitStatus,
    /// What was not there and is on the host: the path, the program that asked, and the package that has it.
    pub lacking: Vec<(String, String, Option<String>)>,
}

/// Runs `argv` in the jail at `root` as its account `user`. `aside`: what it says goes to standard error.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an account that it does not have; as [`sys::trace`].
pub fn probe(
    calls: Calls,
    root: &Dir,
    user: Option<&str>,
    (argv, aside): (&[Vec<u8>], bool),
    watch: &Watch,
) -> Result<Probe> {
    let ids = match user {
        None => None,
        Some(name) => {
            let passwd = read_below(root, &TreePath::new(*b"etc/passwd")?)?.unwrap_or_default();
            let none = || Error::new(ErrorKind::NotFound, format!("the jail has no account {name}")).hint("add --user");
            let found = accounts::find(&passwd, name.as_bytes()).ok_or_else(none)?;
            Some((found.uid, found.gid))
        }
    };
    let mut missing: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut there: HashSet<Vec<u8>> = HashSet::new();
    let shown = argv.first().map(Vec::as_slice).unwrap_or_default();
    let stop = watch.stop_flag();
    let tracing = Tracing { argv, root: Some(root), user: ids, aside, stop: &stop };
    let status = sys::trace(&tracing, &mut |one| {
        if one.missing {
            missing.entry(one.path).or_insert(one.program);
        } else {
            there.insert(one.path);
        }
    });
    watch.check()?;
    let status = status.on("run", shown)?;
    let host = Dir::open(std::path::Path::new("/"), calls).on("open", "/")?.crossing();
    let view = View::new(&host)?;
    let elsewhere = PathSet::new(RUNNING)?;
    let mut lacking: Vec<(TreePath, String, String)> = Vec::new();
    for (path, program) in missing {
        if there.contains(&path) {
            continue;
        }
        // A path that makes no sense on the host either is nobody's lack.
        let Ok(found) = view.follow(&path) else { continue };
        let Some((end, _)) = &found.end else { continue };
        if !elsewhere.covers(end) {
            lacking.push((end.clone(), escape(&path), escape(&program)));
        }
    }
    let ends: HashSet<&[u8]> = lacking.iter().map(|(end, ..)| end.as_bytes()).collect();
    let owners = versions::of(&host, &ends)?;
    let owned = |end: &TreePath| owners.get(end).map(|(name, _)| name.clone());
    let lacking = lacking.iter().map(|(end, path, program)| (path.clone(), program.clone(), owned(end))).collect();
    Ok(Probe { status, lacking })
}
