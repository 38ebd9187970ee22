// SPDX-License-Identifier: ISC
//! What OpenBSD's own tools take: mirrors for syspatch(8), and packages.
#![forbid(unsafe_code)]

mod package;
mod syspatch;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::resolve::is_time;
use super::{Body, Entry, Keys, New, Pen, digest_of};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::plan::Action;
use crate::sign::{CheckList, verify_embedded};
use crate::tree::{Kind, Node};

pub use package::publish_packages;
pub use syspatch::{Official, mirror, official, publish_syspatch};

/// The signed list of a directory.
const LIST: &str = "SHA256.sig";
/// Bytes of it.
const MAX_LIST: u64 = 16 << 20;

/// The release without its dot, if it is one of OpenBSD: `78`.
fn digits(release: &str) -> Option<String> {
    let (major, minor) = release.split_once('.')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(major) && number(minor)).then(|| format!("{major}{minor}"))
}

/// What a tool can do besides putting files and symlinks in their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Can {
    /// Nothing.
    Replace,
    /// It takes files away, too.
    Remove,
}

/// Can a tool make this change?
fn fits(entry: &Entry, can: Can) -> Result<()> {
    let change = &entry.change;
    let plain_dir = |node: &Node| (node.meta.mode, node.meta.uid, node.meta.gid) == (0o755, 0, 0);
    let is_dir = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.kind.is_dir());
    let reason = match (change.action(), &change.after) {
        (Action::Touch, _) => return Ok(()),
        _ if change.path.as_bytes().iter().any(u8::is_ascii_whitespace) => "it takes no names with blanks",
        (Action::Remove, _) if can == Can::Remove && !is_dir(&change.before) => return Ok(()),
        (Action::Remove, _) | (_, None) if can == Can::Remove => "it removes no directories",
        (Action::Remove, _) | (_, None) => "it removes nothing",
        (Action::Retype, _) => "it makes no file out of a directory, or the other way round",
        // Directories come with the files below them.
        (Action::Add, Some(node)) if node.kind.is_dir() && plain_dir(node) => return Ok(()),
        (_, Some(Node { kind: Kind::Dir, meta, .. })) => match &change.before {
            // Times alone are of no interest to anybody.
            Some(before)
                if before.meta.mode == meta.mode && (before.meta.uid, before.meta.gid) == (meta.uid, meta.gid) =>
            {
                return Ok(());
            }
            _ => "it gives directories no owners and modes",
        },
        (_, Some(after)) if change.before.as_ref().is_some_and(|before| is_time(before, after)) => return Ok(()),
        _ if change.link.is_some() => "it makes no hard links",
        (_, Some(Node { kind: Kind::Symlink(_), .. })) => return Ok(()),
        (_, Some(Node { kind: Kind::File { .. }, .. })) => match entry.body {
            Body::Full => return Ok(()),
            Body::Delta(_) => "it knows no differences",
            Body::None => "it changes no metadata alone",
        },
        _ => "it brings files and symlinks alone",
    };
    Err(Error::new(ErrorKind::Refused, format!("this layout cannot do it: {reason}")).at(&change.path))
}

/// What a list says whose signature holds; of one that is not there, nothing.
fn known(list: &Path, pen: &Pen, keys: &Keys) -> Result<CheckList> {
    let shown = list.as_os_str().as_bytes();
    if !list.try_exists().on("stat", shown)? {
        return Ok(CheckList::default());
    }
    let mut signed = Vec::new();
    crate::sys::open_regular(list).on("open", shown)?.take(MAX_LIST).read_to_end(&mut signed).on("read", shown)?;
    let keys = Keys([keys.0.clone(), vec![("the signing key".to_owned(), pen.key.public())]].concat());
    let (_, key) = keys.find(&signed).map_err(|error| error.at(shown))?;
    verify_embedded(&signed, key).and_then(CheckList::parse).map_err(|error| error.at(shown))
}

/// Signs the list of all archives in a directory whose names begin so: those that were `made` just now, and those that
/// are what the list that is there says, if it is signed by one of `keys` or the pen's own.
fn seal(dir: &Path, kind: &str, made: &[PathBuf], (pen, keys): (&Pen, &Keys)) -> Result<()> {
    let shown = dir.as_os_str().as_bytes();
    let known = known(&dir.join(LIST), pen, keys)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).on("open", shown)? {
        let name = entry.on("read", shown)?.file_name().to_string_lossy().into_owned();
        names.extend((name.starts_with(kind) && name.ends_with(".tgz")).then_some(name));
    }
    names.sort();
    let mut list = String::new();
    for name in names {
        let path = dir.join(&name);
        let bytes = path.as_os_str().as_bytes();
        let digest = digest_of(&mut crate::sys::open_regular(&path).on("open", bytes)?).on("read", bytes)?;
        if !made.contains(&path) && known.find(name.as_bytes()) != Some(digest) {
            let error = Error::new(ErrorKind::Unverified, "it is not what the signed list beside it says").at(bytes);
            return Err(error.hint("fetch it again with its SHA256.sig, or remove it"));
        }
        list.push_str(&format!("SHA256 ({name}) = {digest}\n"));
    }
    let mut new = New::create(&dir.join(LIST), 0o644)?;
    let signed = pen.key.sign(list.as_bytes(), &pen.comment())? + &list;
    new.file().write_all(signed.as_bytes()).on("write", shown)?;
    new.commit()
}
