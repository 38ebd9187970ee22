// SPDX-License-Identifier: ISC
//! What is remembered of a closure: the state files `asked` (what it depends on) and `reasons` (why each path is there).
//!
//! `asked` has a line for each path of the host that was asked for: `-` and the path, `+` for a directory whose names
//! were; and one with `=` for each directory of the jail whose contents are its own. Paths are escaped.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::versions::{self, VERSIONS};
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::select::closure::graph::Graph;
use crate::select::packages::Owners;
use crate::source::dir::fingerprint_paths;
use crate::sys::{Calls, Dir, change_clock};
use crate::tree::{Digest, Time};
use crate::watch::Watch;

/// The state file of what the closure depends on.
pub(crate) const ASKED: &str = "asked";
/// The state file of why each path is there.
pub(crate) const REASONS: &str = "reasons";

/// What is remembered of a closure.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Canonical paths of the host that decide the closure; true where the names in a directory do.
    pub(crate) asked: BTreeMap<TreePath, bool>,
    /// Directories of the jail whose contents are its own.
    pub(crate) own: BTreeSet<TreePath>,
    /// When looking began: what was changed since may have been missed.
    pub(crate) since: Time,
    /// Why each path is there.
    pub(crate) graph: Graph,
    /// A program that writes to memory which it executes; not remembered.
    pub(crate) wx: Option<TreePath>,
    /// Packages and their versions.
    pub(crate) versions: Owners,
}

impl Record {
    /// Reads what the last build remembered; none of a chroot without closure. The reasons are left out.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is damaged.
    pub(crate) fn read(state: &State) -> Result<Option<Record>> {
        let Some(text) = state.read(ASKED)? else { return Ok(None) };
        let damaged = || Error::new(ErrorKind::BadInput, "the record of the closure is damaged");
        let mut record = Record { since: change_clock(), ..Record::default() };
        for line in String::from_utf8(text).map_err(|_| damaged())?.lines() {
            let path = crate::path::unescape(line.get(1..).unwrap_or_default()).ok_or_else(damaged)?;
            let path = TreePath::lenient(&path)?;
            match line.as_bytes().first() {
                Some(b'-') => drop(record.asked.insert(path, false)),
                Some(b'+') => drop(record.asked.insert(path, true)),
                Some(b'=') => drop(record.own.insert(path)),
                _ => return Err(damaged()),
            }
        }
        Ok(Some(record))
    }

    /// Reads the reasons.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a chroot without closure; [`ErrorKind::BadInput`] if they are damaged.
    pub(crate) fn reasons(state: &State) -> Result<Graph> {
        let none = || Error::new(ErrorKind::NotFound, "it has no closure").hint("make one with: stockade jail");
        let text = state.read(REASONS)?.ok_or_else(none)?;
        Graph::read(&String::from_utf8_lossy(&text))
    }

    /// Writes both files, with this ending.
    pub(crate) fn write(&self, state: &State, ending: &str) -> Result<()> {
        let mut text = String::new();
        let asked = self.asked.iter().map(|(path, names)| (if *names { '+' } else { '-' }, path));
        for (mark, path) in asked.chain(self.own.iter().map(|path| ('=', path))) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mark}{path}");
        }
        state.write(&format!("{ASKED}{ending}"), text.as_bytes())?;
        state.write(&format!("{REASONS}{ending}"), self.graph.text().as_bytes())?;
        state.write(&format!("{VERSIONS}{ending}"), versions::text(&self.versions).as_bytes())
    }

    /// One digest for all of the host that decides the closure; none if something there was changed since looking began.
    pub(crate) fn fingerprint(&self, calls: Calls, watch: &Watch) -> Result<Option<Digest>> {
        let root = Dir::open(std::path::Path::new("/"), calls).on("open", "/")?.crossing();
        fingerprint_paths(&root, self.asked.iter().map(|(path, names)| (path, *names)), self.since, watch)
    }
}
