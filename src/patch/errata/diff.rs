// SPDX-License-Identifier: ISC
//! What a unified diff changes. It is read to its end: patch(1) guesses what it is given, and an ed script would be
//! executed.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::bad;
use crate::error::Result;
use crate::path::TreePath;

const NOWHERE: &[u8] = b"/dev/null";

/// Where the diff begins: the first line that only a diff has.
pub(super) fn start(message: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in message.split_inclusive(|&b| b == b'\n') {
        if [&b"Index: "[..], b"diff ", b"--- "].iter().any(|word| line.starts_with(word)) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// The files that `diff` changes, `strip` names taken off.
pub(super) fn files(diff: &[u8], strip: u32) -> Result<Vec<TreePath>> {
    let mut lines = diff.strip_suffix(b"\n").unwrap_or(diff).split(|&b| b == b'\n').peekable();
    let (mut index, mut found) = (BTreeSet::new(), BTreeSet::new());
    let mut hunks = 0_usize;
    while let Some(line) = lines.next() {
        if let Some(path) = line.strip_prefix(b"Index: ") {
            index.insert(name(path, strip)?);
        } else if let Some(old) = line.strip_prefix(b"--- ") {
            let new = lines.next().and_then(|line| line.strip_prefix(b"+++ "));
            let new = new.ok_or_else(|| bad("a diff that is not unified"))?;
            let names = [old, new].map(|path| path.split(|&b| b == b'\t').next().unwrap_or_default());
            let named: Vec<TreePath> =
                names.iter().filter(|path| **path != NOWHERE).map(|path| name(path, strip)).collect::<Result<_>>()?;
            // patch takes whichever is there: they must be one.
            match named.as_slice() {
                [one] => drop(found.insert(one.clone())),
                [one, other] if one == other => drop(found.insert(one.clone())),
                _ => return Err(bad("a diff between files of two names")),
            }
            let mut any = false;
            while let Some(head) = lines.next_if(|line| line.starts_with(b"@@ ")) {
                hunk(head, &mut lines)?;
                (any, hunks) = (true, hunks + 1);
            }
            if !any {
                return Err(bad("a diff without a change"));
            }
        } else if !is_between(line) {
            return Err(bad(format!("a line that belongs to no diff: {:?}", String::from_utf8_lossy(line))));
        }
    }
    if hunks == 0 {
        return Err(bad("there is no change in it"));
    }
    if !index.is_empty() && index != found {
        let odd = index.symmetric_difference(&found).next().map(ToString::to_string).unwrap_or_default();
        return Err(bad(format!("what it says it changes is not what it changes: {odd}")));
    }
    Ok(found.into_iter().collect())
}

/// A path in a diff.
fn name(path: &[u8], strip: u32) -> Result<TreePath> {
    let mut rest = path.trim_ascii();
    for _ in 0..strip {
        let slash =
            rest.iter().position(|&b| b == b'/').ok_or_else(|| bad("a path too short for what is taken off"))?;
        rest = &rest[slash + 1..];
    }
    let rest = rest.strip_prefix(b"./").unwrap_or(rest);
    match TreePath::new(rest) {
        Ok(path) if !path.is_root() => Ok(path),
        _ => Err(bad("a path that leads out of the sources").at(path)),
    }
}

/// What stands between the parts of a diff; patch(1) takes nothing of it for an order.
fn is_between(line: &[u8]) -> bool {
    const WORDS: [&[u8]; 13] = [
        b"====",
        b"RCS file: ",
        b"retrieving revision ",
        b"diff ",
        b"cvs diff: ",
        b"index ",
        b"new file mode ",
        b"deleted file mode ",
        b"old mode ",
        b"new mode ",
        b"Only in ",
        b"file ",
        b"\\ No newline",
    ];
    line.trim_ascii().is_empty() || WORDS.iter().any(|word| line.starts_with(word))
}

/// `@@ -A,B +C,D @@`, and the lines that it announces.
fn hunk<'a>(head: &[u8], lines: &mut std::iter::Peekable<impl Iterator<Item = &'a [u8]>>) -> Result<()> {
    let broken = || bad(format!("a malformed hunk: {:?}", String::from_utf8_lossy(head)));
    let mut words = head.split(|&b| b == b' ').skip(1);
    let mut count = |sign: u8| -> Option<u64> {
        let range = std::str::from_utf8(words.next()?.strip_prefix(&[sign])?).ok()?;
        let (start, length) = range.split_once(',').unwrap_or((range, "1"));
        start.parse::<u64>().ok()?;
        length.parse().ok()
    };
    let (mut old, mut new) = count(b'-').zip(count(b'+')).ok_or_else(broken)?;
    if words.next() != Some(b"@@") {
        return Err(broken());
    }
    while old > 0 || new > 0 {
        let line = lines.next().ok_or_else(broken)?;
        let (less, more) = match line.first() {
            // A blank that ends a line gets lost at times.
            Some(b' ' | b'\t') | None => (1, 1),
            Some(b'-') => (1, 0),
            Some(b'+') => (0, 1),
            Some(b'\\') => (0, 0),
            _ => return Err(broken()),
        };
        old = old.checked_sub(less).ok_or_else(broken)?;
        new = new.checked_sub(more).ok_or_else(broken)?;
    }
    lines.next_if(|line| line.starts_with(b"\\"));
    Ok(())
}
