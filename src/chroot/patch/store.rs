// SPDX-License-Identifier: ISC
//! The list of patches in a root, and what undoes them.
//!
//! ```text
//! var/db/stockade/patches/NAME/
//!     +CONTENTS   the manifest of the patch
//!     +UNDO       what was really changed, and what was noticed
//!     undo/N      the files that were replaced or removed, by their number in +UNDO
//! ```
//! `+UNDO` begins with lines `KEYWORD VALUE`; then come the changes, as [`crate::plan::text`] writes them, with HOW
//! `replace` or `in-place` and `undo=N` where a file is kept.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::record;
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::resolve::Why;
use crate::patch::sequence::{self, Item};
use crate::patch::{CONTENTS, Contents, STORE, check_name, store};
use crate::path::TreePath;
use crate::plan::text::{read_change, write_change};
use crate::plan::{Change, Plan};
use crate::sys::{Dir, FileType};
use crate::tree::Digest;
use crate::tree::text::{Origins, path, read_path};
use crate::watch::Watch;

/// What undoes a patch, in its directory.
pub(crate) const UNDO: &str = "+UNDO";
/// The directory of the files that it needs.
pub(crate) const KEPT: &str = "undo";
const FIRST: &str = "stockade undo 1";
/// The largest text that is read from a root.
const MAX_TEXT: u64 = 512 << 20;

/// A patch that a root lists.
#[derive(Debug)]
pub struct Installed {
    /// Its manifest.
    pub contents: Contents,
    /// What identifies the manifest.
    pub digest: Digest,
    /// What was really changed; none: it was unpacked by tar, or what undoes it was forgotten.
    pub undo: Option<Undo>,
    /// The host noted just this manifest when it applied the patch. The root's own word is not enough: whoever is
    /// inside, or a tar that was interrupted, may have put it there.
    pub vouched: bool,
    /// Its place among those that were applied, from 1; 0: nobody knows. The host's word counts before the root's.
    pub(crate) place: u64,
}

/// What was really changed by a patch.
#[derive(Debug, Clone, Default)]
pub struct Undo {
    /// When it was applied: seconds since 1970. Clocks are set back: nothing is decided by it.
    pub applied: i64,
    /// Its place among those that were applied, from 1.
    pub(crate) place: u64,
    /// Numbers of the series that were passed over because somebody said so.
    pub skipped: Vec<u32>,
    /// Directories that were made for the list of patches.
    pub(crate) made: Vec<TreePath>,
    /// What was noticed: a word and the path.
    pub noted: Vec<(String, TreePath)>,
    /// The changes.
    pub plan: Plan,
    /// The number of the file that was there before, for changes that have one.
    pub kept: BTreeMap<TreePath, usize>,
}

impl Undo {
    /// Its text.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = format!("{FIRST}\napplied {}\nplace {}\n", self.applied, self.place).into_bytes();
        self.skipped.iter().for_each(|number| text.extend_from_slice(format!("skipped {number}\n").as_bytes()));
        let made = self.made.iter().map(|at| ("made", at));
        for (word, at) in made.chain(self.noted.iter().map(|(word, at)| (word.as_str(), at))) {
            text.extend_from_slice(format!("{word} ").as_bytes());
            path(&mut text, at);
            text.push(b'\n');
        }
        for change in &self.plan.changes {
            let kept = self.kept.get(&change.path).map(|number| format!(" undo={number}")).unwrap_or_default();
            let how = if change.replace { "replace" } else { "in-place" };
            write_change(change, format!("{how}{kept}").as_bytes(), &mut text);
        }
        text.extend_from_slice(format!("end {}\n", self.plan.changes.len()).as_bytes());
        text
    }

    /// Reads its text.
    fn parse(text: &[u8]) -> Result<Undo> {
        let broken = || Error::new(ErrorKind::BadInput, "what undoes the patch is malformed, or cut off");
        let body = text.strip_suffix(b"\n").ok_or_else(broken)?;
        let mut lines = body.split(|&b| b == b'\n').peekable();
        if lines.next() != Some(FIRST.as_bytes()) {
            return Err(broken());
        }
        let (mut undo, mut origins) = (Undo::default(), Origins::default());
        while let Some(line) = lines.next_if(|line| !line.starts_with(b"change ") && !line.starts_with(b"end ")) {
            let middle = line.iter().position(|&b| b == b' ').ok_or_else(broken)?;
            let (word, value) = (std::str::from_utf8(&line[..middle]).map_err(|_| broken())?, &line[middle + 1..]);
            let number = || std::str::from_utf8(value).ok()?.parse::<i64>().ok();
            match word {
                "applied" => undo.applied = number().ok_or_else(broken)?,
                "place" => undo.place = number().and_then(|n| n.try_into().ok()).ok_or_else(broken)?,
                "skipped" => undo.skipped.push(number().and_then(|n| n.try_into().ok()).ok_or_else(broken)?),
                "made" => undo.made.push(read_path(value).ok_or_else(broken)?),
                _ => undo.noted.push((word.to_owned(), read_path(value).ok_or_else(broken)?)),
            }
        }
        while let Some((how, change)) = read_change(&mut lines, &mut origins)? {
            let how = std::str::from_utf8(how).map_err(|_| broken())?;
            let (how, kept) = how.split_once(" undo=").map_or((how, None), |(how, number)| (how, Some(number)));
            if let Some(number) = kept {
                undo.kept.insert(change.path.clone(), number.parse().map_err(|_| broken())?);
            }
            undo.plan.changes.push(Change { replace: how == "replace", ..change });
        }
        let in_order = undo.plan.changes.is_sorted_by(|a, b| a.path < b.path);
        if !in_order || lines.next() != Some(format!("end {}", undo.plan.changes.len()).as_bytes()) {
            return Err(broken());
        }
        Ok(undo)
    }
}

/// How what was noticed is called in `+UNDO` and in reports.
pub fn word(why: &Why) -> &'static str {
    match why {
        Why::NotInstalled => "not-installed",
        Why::Conflict(_) => "conflict",
        Why::Kept(_) => "kept",
        Why::Replaced(_) => "replaced",
        Why::NotEmpty => "not-empty",
        Why::LocalMeta => "local-metadata",
        Why::Merged => "merged",
    }
}

/// The patches of a root, in the order in which they were applied; first those of which nobody knows.
///
/// # Errors
/// [`ErrorKind::BadInput`] naming what is malformed; as open(2).
pub fn installed(root: &Dir, state: Option<&State>) -> Result<Vec<Installed>> {
    let mut found = Vec::new();
    let Some(dir) = open(root, STORE)? else { return Ok(found) };
    for entry in dir.entries().on("readdir", STORE)? {
        let Some(name) = std::str::from_utf8(&entry.name).ok().filter(|name| check_name(name).is_ok()) else {
            continue;
        };
        let noted = state.map(|state| record::noted(state, name)).transpose()?.flatten();
        match (read(root, name), noted) {
            (Ok(Some(patch)), noted) => {
                let noted = noted.filter(|noted| noted.contents == patch.digest);
                let place = noted.as_ref().map_or(patch.place, |noted| noted.place);
                found.push(Installed { vouched: noted.is_some(), place, ..patch });
            }
            (Err(error), Some(_)) => return Err(error),
            // Nobody applied that.
            (Ok(None) | Err(_), _) => {}
        }
    }
    Ok(in_order(found))
}

fn in_order(mut found: Vec<Installed>) -> Vec<Installed> {
    // Plain tar may have unpacked several at once.
    let items = found.iter().map(|patch| {
        let head = &patch.contents.head;
        Item { key: (patch.place, &head.series, head.number, &head.name), head, digest: patch.digest }
    });
    let order = sequence::in_order(&items.collect::<Vec<_>>());
    let mut places = vec![0; order.len()];
    order.into_iter().enumerate().for_each(|(place, index)| places[index] = place);
    let mut places = places.into_iter();
    found.sort_by_cached_key(|_| places.next());
    found
}

/// The place of the patch that is applied next.
pub(crate) fn next_place(installed: &[Installed]) -> u64 {
    installed.iter().map(|patch| patch.place).max().unwrap_or(0).saturating_add(1)
}

/// The patch `name` of a root, if it lists one.
///
/// # Errors
/// As [`installed`].
pub(crate) fn read(root: &Dir, name: &str) -> Result<Option<Installed>> {
    let at = store(name)?;
    let Some(dir) = open(root, &format!("{STORE}/{name}"))? else { return Ok(None) };
    let Some(text) = text_of(&dir, CONTENTS)? else { return Ok(None) };
    let contents = Contents::parse(&text).map_err(|e| e.at(&at))?;
    if contents.head.name != name {
        return Err(Error::new(ErrorKind::BadInput, "the manifest is of another patch").at(&at));
    }
    let digest = Digest(Sha256::digest(&text).into());
    let undo = text_of(&dir, UNDO)?.map(|text| Undo::parse(&text)).transpose().map_err(|e| e.at(&at))?;
    let place = undo.as_ref().map_or(0, |undo| undo.place);
    Ok(Some(Installed { contents, digest, undo, vouched: false, place }))
}

/// The directory at `path` of a root, wherever it is mounted; none if there is none.
fn open(root: &Dir, path: &str) -> Result<Option<Dir>> {
    let path = TreePath::new(path.as_bytes())?;
    match root.try_clone().on("open", &path)?.crossing().walk(&path) {
        Err(e) if crate::sys::is_stale(&e) => Ok(None),
        dir => dir.map(|dir| Some(dir.staying())).on("open", &path),
    }
}

fn text_of(dir: &Dir, name: &str) -> Result<Option<Vec<u8>>> {
    match dir.find(name.as_bytes()).on("stat", name)? {
        None => return Ok(None),
        Some(stat) if stat.kind == FileType::File && stat.size <= MAX_TEXT => {}
        Some(_) => return Err(Error::new(ErrorKind::BadInput, "it is no file, or too large").at(name)),
    }
    let mut text = Vec::new();
    dir.open_file(name.as_bytes()).and_then(|file| file.take(MAX_TEXT).read_to_end(&mut text)).on("read", name)?;
    Ok(Some(text))
}

/// The digest of what undoes the patch `name`, and the directory of the files it needs.
pub(crate) fn kept(root: &Dir, name: &str) -> Result<(Option<Digest>, Option<Dir>)> {
    let Some(dir) = open(root, &format!("{STORE}/{name}"))? else { return Ok((None, None)) };
    let digest = text_of(&dir, UNDO)?.map(|text| Digest(Sha256::digest(text).into()));
    Ok((digest, open(root, &format!("{STORE}/{name}/{KEPT}"))?))
}

/// Takes set-id bits and capabilities from the files that were set aside, so that neither they nor a user's own link to
/// one keep a hole open (decision 20). What they had is in `+UNDO`. May be repeated.
pub(crate) fn disarm(root: &Dir) -> Result<()> {
    let Some(patches) = open(root, STORE)? else { return Ok(()) };
    for patch in patches.entries().on("readdir", STORE)? {
        let Ok(name) = std::str::from_utf8(&patch.name) else { continue };
        let Some(dir) = open(root, &format!("{STORE}/{name}/{KEPT}"))? else { continue };
        for file in dir.entries().on("readdir", KEPT)? {
            disarm_file(&dir, &file.name).on("disarm", &file.name)?;
        }
    }
    Ok(())
}

fn disarm_file(dir: &Dir, name: &[u8]) -> std::io::Result<()> {
    let Some(stat) = dir.find(name)?.filter(|stat| stat.kind == FileType::File) else { return Ok(()) };
    let mut xattrs = dir.xattrs(name, FileType::File)?;
    let before = xattrs.len();
    xattrs.retain(|(name, _)| **name != *b"security.capability");
    if xattrs.len() < before {
        dir.set_xattrs(name, FileType::File, &xattrs)?;
    }
    if stat.mode & 0o6000 != 0 {
        dir.set_mode(name, stat.mode & 0o1777)?;
    }
    Ok(())
}

/// Removes what undoes the patch `name`.
pub(crate) fn forget(root: &Dir, name: &str) -> Result<bool> {
    let Some(dir) = open(root, &format!("{STORE}/{name}"))? else { return Ok(false) };
    let found = dir.find(UNDO.as_bytes()).on("stat", UNDO)?.is_some();
    if found {
        dir.unlink(UNDO.as_bytes()).on("unlink", UNDO)?;
    }
    if dir.find(KEPT.as_bytes()).on("stat", KEPT)?.is_some() {
        crate::apply::remove_tree(&dir, KEPT.as_bytes(), &Watch::default())?;
    }
    Ok(found)
}
