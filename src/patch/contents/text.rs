// SPDX-License-Identifier: ISC
//! `+CONTENTS`, the text of a patch's manifest.
//!
//! ```text
//! stockade patch 1
//! name errata-7.8-001_sshd-amd64
//! number 1
//! ...
//! change replace body
//! - ./usr/sbin/sshd type=file mode=0555 ...
//! + ./usr/sbin/sshd type=file mode=0555 ...
//! end 1
//! ```
//! The head has a line `KEYWORD VALUE` for each thing said, in the order of [`Head`]; what is empty has no line. Then
//! come the changes, as [`crate::plan::text`] writes them; their HOW is `replace` or `in-place`, and then, as it applies:
//!
//! | word | meaning |
//! | --- | --- |
//! | `body` | the archive has the content after the change |
//! | `delta=BYTES` | the archive has a zstd frame against the content before it |
//! | `base` | the archive has the content before it, too |
//! | `link=PATH` | the name joins the inode of that other name |
#![forbid(unsafe_code)]

use std::iter::Peekable;
use std::str::FromStr;

use super::{Body, Contents, Entry, FollowUp, Head, check_trees};
use crate::error::{Error, ErrorKind, Result};
use crate::patch::{check_name, is_stored};
use crate::plan::Change;
use crate::plan::text::{read_change, write_change};
use crate::tree::text::{Origins, path, read_path};
use crate::tree::{Digest, Kind};

const FIRST: &str = "stockade patch 1";
/// What begins every version of the first line.
const KIND: &str = "stockade patch ";
/// How many changes a patch may have: more than any release has files.
const MAX_CHANGES: usize = 4 << 20;
/// How many lines of one kind a head may have.
const MAX_LINES: usize = 100_000;

/// Writes it.
pub(super) fn write(contents: &Contents) -> Vec<u8> {
    let mut text = Vec::with_capacity(4096 + contents.entries.len() * 400);
    head(&contents.head, &mut text);
    for entry in &contents.entries {
        write_change(&entry.change, &how(entry), &mut text);
    }
    text.extend_from_slice(format!("end {}\n", contents.entries.len()).as_bytes());
    text
}

fn head(head: &Head, text: &mut Vec<u8>) {
    let mut line = |keyword: &str, value: &str| {
        if !value.is_empty() {
            text.extend_from_slice(format!("{keyword} {value}\n").as_bytes());
        }
    };
    line("stockade", "patch 1");
    line("name", &head.name);
    line("series", &head.series);
    line("number", &head.number.map(|n| n.to_string()).unwrap_or_default());
    head.absent.iter().for_each(|number| line("absent", &number.to_string()));
    line("system", &head.system);
    line("release", &head.release);
    line("arch", &head.arch);
    line("date", &head.date.to_string());
    line("title", &head.title);
    // An empty line of a note has its blank, too.
    head.note.lines().for_each(|note| line("note", if note.is_empty() { " " } else { note }));
    for (keyword, patches) in [("requires", &head.requires), ("provides", &head.provides)] {
        patches.iter().for_each(|(name, digest)| line(keyword, &format!("{name} {digest}")));
    }
    head.follow_ups.iter().for_each(|follow_up| line("follow-up", &follow_up.to_string()));
    head.commands.iter().for_each(|command| line("command", command));
    head.accounts.iter().for_each(|account| line("account", account));
    for (keyword, names) in [("user", &head.users), ("group", &head.groups)] {
        names.iter().for_each(|(number, name)| line(keyword, &format!("{number} {name}")));
    }
}

fn how(entry: &Entry) -> Vec<u8> {
    let mut how = if entry.change.replace { b"replace".to_vec() } else { b"in-place".to_vec() };
    match entry.body {
        Body::None => {}
        Body::Full => how.extend_from_slice(b" body"),
        Body::Delta(size) => how.extend_from_slice(format!(" delta={size}").as_bytes()),
    }
    if entry.base {
        how.extend_from_slice(b" base");
    }
    if let Some(link) = &entry.change.link {
        how.extend_from_slice(b" link=");
        path(&mut how, link);
    }
    how
}

/// Reads it.
pub(super) fn parse(text: &[u8]) -> Result<Contents> {
    let body = text.strip_suffix(b"\n").ok_or_else(|| broken("the manifest of the patch is cut off"))?;
    let mut lines = body.split(|&b| b == b'\n').peekable();
    match lines.next() {
        Some(line) if line == FIRST.as_bytes() => {}
        Some(line) if line.starts_with(KIND.as_bytes()) => {
            let error = Error::new(ErrorKind::Unsupported, "the patch is in a format newer than this program");
            return Err(error.hint("update stockade first"));
        }
        _ => return Err(broken("it holds no manifest of a patch")),
    }
    let head = read_head(&mut lines)?;
    let mut origins = Origins::default();
    let mut entries: Vec<Entry> = Vec::new();
    while let Some((how, change)) = read_change(&mut lines, &mut origins)? {
        if entries.len() == MAX_CHANGES {
            return Err(broken("a patch of too many changes"));
        }
        let entry = entry(how, change)?;
        if entries.last().is_some_and(|last| last.change.path >= entry.change.path) {
            return Err(broken("its paths are not in order").at(&entry.change.path));
        }
        entries.push(entry);
    }
    if lines.next() != Some(format!("end {}", entries.len()).as_bytes()) || lines.next().is_some() {
        return Err(broken("the manifest of the patch has a malformed line, or is cut off"));
    }
    check_trees(&entries)?;
    Ok(Contents { head, entries })
}

fn read_head<'a>(lines: &mut Peekable<impl Iterator<Item = &'a [u8]>>) -> Result<Head> {
    let mut head = Head::default();
    let mut count = 0;
    while let Some(line) = lines.next_if(|line| !line.starts_with(b"change ") && !line.starts_with(b"end ")) {
        count += 1;
        let said = std::str::from_utf8(line).ok().filter(|line| count <= MAX_LINES && is_text(line));
        let (keyword, value) = said.and_then(|line| line.split_once(' ')).ok_or_else(|| malformed(line))?;
        take(&mut head, keyword, value)
            .map_err(|error| if error.path().is_some() { error } else { malformed(line) })?;
    }
    check_name(&head.name)?;
    Ok(head)
}

fn take(head: &mut Head, keyword: &str, value: &str) -> Result<()> {
    match keyword {
        "name" => head.name = once(&head.name, value)?,
        "series" => head.series = once(&head.series, word(value)?)?,
        "number" => head.number = Some(number(value)?),
        "absent" => head.absent.push(number(value)?),
        "system" => head.system = once(&head.system, word(value)?)?,
        "release" => head.release = once(&head.release, word(value)?)?,
        "arch" => head.arch = once(&head.arch, word(value)?)?,
        "date" => head.date = number(value)?,
        "title" => head.title = once(&head.title, value)?,
        "note" => {
            head.note.push_str(if value == " " { "" } else { value });
            head.note.push('\n');
        }
        "requires" => head.requires.push(patch(value)?),
        "provides" => head.provides.push(patch(value)?),
        "follow-up" => head.follow_ups.push(FollowUp::from_str(value)?),
        "command" => head.commands.push(value.to_owned()),
        "account" => head.accounts.push(value.to_owned()),
        "user" => insert(&mut head.users, value)?,
        "group" => insert(&mut head.groups, value)?,
        _ => return Err(broken("an unknown keyword")),
    }
    Ok(())
}

fn once(before: &str, value: &str) -> Result<String> {
    if before.is_empty() { Ok(value.to_owned()) } else { Err(broken("given twice")) }
}

fn word(value: &str) -> Result<&str> {
    if is_name(value) { Ok(value) } else { Err(broken("not a word")) }
}

/// A name or word of the head: it may stand between blanks.
pub(super) fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// May people see it on a terminal?
fn is_text(line: &str) -> bool {
    !line.chars().any(|c| c.is_control() && c != '\t')
}

fn number<T: FromStr + ToString>(value: &str) -> Result<T> {
    let number: T = value.parse().map_err(|_| broken("not a number"))?;
    if number.to_string() == value { Ok(number) } else { Err(broken("a number in an unusual form")) }
}

fn patch(value: &str) -> Result<(String, Digest)> {
    let (name, digest) = value.split_once(' ').ok_or_else(|| broken("no digest"))?;
    check_name(name)?;
    Ok((name.to_owned(), Digest::from_hex(digest.as_bytes()).ok_or_else(|| broken("no digest"))?))
}

fn insert(names: &mut std::collections::BTreeMap<u32, String>, value: &str) -> Result<()> {
    let (id, name) = value.split_once(' ').ok_or_else(|| broken("no name"))?;
    match names.insert(number(id)?, word(name)?.to_owned()) {
        None => Ok(()),
        Some(_) => Err(broken("named twice")),
    }
}

fn entry(how: &[u8], change: Change) -> Result<Entry> {
    let mut entry = Entry { change, body: Body::None, base: false };
    let mut words = how.split(|&b| b == b' ');
    entry.change.replace = match words.next() {
        Some(b"replace") => true,
        Some(b"in-place") => false,
        _ => return Err(malformed(how)),
    };
    for word in words {
        match word {
            b"body" if entry.body == Body::None => entry.body = Body::Full,
            b"base" if !entry.base => entry.base = true,
            _ => match (word.strip_prefix(b"delta="), word.strip_prefix(b"link=")) {
                (Some(size), None) if entry.body == Body::None => {
                    let size = std::str::from_utf8(size).map_err(|_| malformed(how))?;
                    entry.body = Body::Delta(number(size)?);
                }
                (None, Some(link)) if entry.change.link.is_none() => {
                    entry.change.link = Some(read_path(link).ok_or_else(|| malformed(how))?);
                }
                _ => return Err(malformed(how)),
            },
        }
    }
    check_entry(&entry).map_err(|reason| broken(reason).at(&entry.change.path))?;
    Ok(entry)
}

/// Does what is brought fit what changes?
fn check_entry(entry: &Entry) -> Result<(), &'static str> {
    let change = &entry.change;
    let nodes = [&change.before, &change.after];
    if change.path.is_root() && nodes.iter().any(|node| node.is_none()) {
        return Err("the root itself neither comes nor goes");
    }
    if is_stored(&change.path) {
        return Err("a patch does not change the list of patches");
    }
    for node in nodes.into_iter().flatten() {
        match &node.kind {
            Kind::File { digest: None, .. } => return Err("a file without a digest"),
            Kind::Socket => return Err("a socket is of the program that listens on it"),
            _ if node.here.is_some() || node.from.is_some() => return Err("a stamp of another machine"),
            _ => {}
        }
    }
    let whole = nodes.iter().all(|node| node.as_ref().is_some_and(|node| node.digest().is_some()));
    match entry.body {
        _ if entry.base && (!whole || entry.body != Body::Full) => Err("what it was comes only with a whole body"),
        Body::None if change.needs_body() => Err("its content is missing"),
        Body::Full | Body::Delta(_) if !change.needs_body() => Err("a content that the change does not need"),
        Body::Delta(_) if !whole => Err("a difference from nothing"),
        _ => Ok(()),
    }
}

fn malformed(line: &[u8]) -> Error {
    const SHOWN: usize = 80;
    let shown = crate::path::escape(&line[..line.len().min(SHOWN)]);
    broken(format!("a malformed line in the manifest of the patch: \"{shown}\""))
}

fn broken(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}
