// SPDX-License-Identifier: ISC
//! The journal of a change to a live tree: the plan itself, and the number of each file in it (decision E1).
//!
//! ```text
//! stockade journal 1
//! area . INODE-OF-ROOT INODE-OF-WORK
//! change NUMBER replace|in-place
//! - LINE-OF-MANIFEST
//! + LINE-OF-MANIFEST
//! end CHANGES
//! ```
//!
//! Its name is the phase: under [`FORWARD`] recovery goes on, under [`BACK`] it goes back. A rename needs no space.
#![forbid(unsafe_code)]

use std::io::{Read, Write};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::plan::text::{read_change, write_change};
use crate::plan::{Change, Plan};
use crate::sys::Dir;
use crate::tree::text::Origins;

use super::Target;
use super::prepare::Prepared;
use super::stage::Slot;

/// The journal while a change goes forward.
pub(super) const FORWARD: &[u8] = b"journal";
/// The journal while a change is taken back.
pub(super) const BACK: &[u8] = b"journal.back";
/// The journal while it is written.
pub(super) const NEW: &[u8] = b"journal.new";

const HEADER: &str = "stockade journal 1";

/// Writes the journal so that it is there whole or not at all, whenever the power fails.
pub(super) fn write(state: &Dir, target: &Target, prepared: &Prepared) -> Result<()> {
    let mut text = format!("{HEADER}\n").into_bytes();
    for line in areas(target)? {
        text.extend_from_slice(line.as_bytes());
    }
    for (change, slot) in prepared.plan.changes.iter().zip(&prepared.slots) {
        let how = if change.replace { "replace" } else { "in-place" };
        write_change(change, format!("{} {how}", slot.0).as_bytes(), &mut text);
    }
    text.extend_from_slice(format!("end {}\n", prepared.plan.changes.len()).as_bytes());
    remove(state, NEW)?;
    let mut file = state.create_file(NEW, 0o600).on("create", NEW)?;
    file.write_all(&text).on("write", NEW)?;
    file.sync_all().on("fsync", NEW)?;
    rename(state, NEW, FORWARD)
}

/// Reads the journal named `name`; none if there is no such journal.
pub(super) fn read(state: &Dir, name: &[u8], target: &Target) -> Result<Option<Prepared>> {
    let mut text = Vec::new();
    match state.open_file(name) {
        Ok(mut file) => file.read_to_end(&mut text).on("read", name)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", name, &error)),
    };
    parse(&text, target).map(Some).map_err(|error| error.at(name))
}

/// Turns a journal into one of the other phase.
pub(super) fn rename(state: &Dir, from: &[u8], to: &[u8]) -> Result<()> {
    state.rename(from, state, to).on("rename", from)?;
    state.sync().on("fsync", to)
}

/// Removes a file of the state directory, if it is there.
pub(super) fn remove(state: &Dir, name: &[u8]) -> Result<()> {
    match state.unlink(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("unlink", name, &error)),
        _ => Ok(()),
    }
}

/// Removes a journal for good.
pub(super) fn forget(state: &Dir, name: &[u8]) -> Result<()> {
    remove(state, name)?;
    state.sync().on("fsync", name)
}

/// By inodes alone: device numbers may be others after a reboot.
fn areas(target: &Target) -> Result<Vec<String>> {
    let line = |area: &super::Area| {
        let root = area.root.stat_self().on("stat", &area.at)?;
        let work = area.work.stat_self().on("stat", &area.at)?;
        Ok(format!("area ./{} {} {}\n", escape(area.at.as_bytes()), root.ino, work.ino))
    };
    target.areas.iter().map(line).collect()
}

fn parse(text: &[u8], target: &Target) -> Result<Prepared> {
    let mut lines = text.split(|&b| b == b'\n').peekable();
    if lines.next() != Some(HEADER.as_bytes()) {
        return Err(broken("not a journal of this version"));
    }
    for area in areas(target)? {
        if lines.next() != Some(area.trim_end().as_bytes()) {
            let hint = "move the one that was being changed back, then run `stockade recover`";
            return Err(broken("the journal is of another root").hint(hint));
        }
    }
    let (mut plan, mut slots, mut origins) = (Plan::default(), Vec::new(), Origins::default());
    while let Some((how, change)) = read_change(&mut lines, &mut origins)? {
        let (slot, replace) = heading(how).ok_or_else(|| broken("a line is malformed"))?;
        plan.changes.push(Change { replace, ..change });
        slots.push(slot);
    }
    if lines.next() != Some(format!("end {}", slots.len()).as_bytes()) {
        return Err(broken("the journal is cut off"));
    }
    if !plan.changes.is_sorted_by(|a, b| a.path < b.path) {
        return Err(broken("its paths are not in order"));
    }
    Ok(Prepared { plan, slots })
}

/// `12 replace`
fn heading(how: &[u8]) -> Option<(Slot, bool)> {
    let mut words = std::str::from_utf8(how).ok()?.split(' ');
    let slot = Slot(words.next()?.parse().ok()?);
    match (words.next()?, words.next()) {
        ("replace", None) => Some((slot, true)),
        ("in-place", None) => Some((slot, false)),
        _ => None,
    }
}

fn broken(reason: &'static str) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::Place;
    use crate::tree::diff::diff;
    use crate::tree::tests::tree;

    /// A journal as it is written, and where it belongs.
    fn journal() -> (Place, Vec<u8>) {
        let place = Place::new();
        let plan = diff(&tree(&["f a x", "d b", "f b/c x"]), &tree(&["f a y", "l b /etc", "f new x"]));
        let slots = (0..).take(plan.changes.len()).map(Slot).collect();
        write(&place.state, &place.target, &Prepared { plan, slots }).unwrap();
        let mut text = Vec::new();
        place.state.open_file(FORWARD).unwrap().read_to_end(&mut text).unwrap();
        (place, text)
    }

    #[test]
    fn what_is_written_is_read() {
        let (place, text) = journal();
        let read = read(&place.state, FORWARD, &place.target).unwrap().unwrap();
        assert_eq!(read.slots, [Slot(0), Slot(1), Slot(2), Slot(3)]);
        let paths: Vec<String> = read.plan.changes.iter().map(|c| c.path.to_string()).collect();
        assert_eq!(paths, ["a", "b", "b/c", "new"]);
        write(&place.state, &place.target, &read).unwrap();
        let mut again = Vec::new();
        place.state.open_file(FORWARD).unwrap().read_to_end(&mut again).unwrap();
        assert_eq!(text, again);
        assert!(super::read(&place.state, BACK, &place.target).unwrap().is_none());
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let (place, text) = journal();
        assert!(parse(&text, &place.target).is_ok());
        for cut in 0..text.len() - 1 {
            assert!(parse(&text[..cut], &place.target).is_err(), "cut at {cut}");
        }
        let other = Place::new();
        assert_eq!(parse(&text, &other.target).unwrap_err().reason(), "the journal is of another root");
        let text = String::from_utf8(text).unwrap();
        for (from, to) in [
            ("journal 1", "journal 2"),
            ("change 1 replace", "change x replace"),
            ("change 1 replace", "change 1 maybe"),
            ("change 1 replace", "change 1 replace more"),
            ("+ ./new ", "+ ./../new "),
            ("+ ./b ", "+ ./b2 "),
            ("- ./b/c ", "- ./A "),
            ("end 4", "end 3"),
        ] {
            assert!(text.contains(from), "{from}");
            let broken = text.replacen(from, to, 1);
            assert!(parse(broken.as_bytes(), &place.target).is_err(), "{from} -> {to}");
        }
    }
}
