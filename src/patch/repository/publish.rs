// SPDX-License-Identifier: ISC
//! Publishing: putting patches into a repository and signing what it has.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{INDEX, Index, LIST, Listed, file_name};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Bundle, Keys, New, Pen, Trust, digest_of, verify_body};
use crate::sign::{CheckList, verify_embedded};
use crate::watch::Watch;

/// The largest index and list that are read.
pub(super) const MAX_TEXT: u64 = 64 << 20;

/// What publishing did.
#[derive(Debug)]
pub struct Published {
    /// What the repository has now.
    pub index: Index,
    /// Patches that came.
    pub added: Vec<String>,
    /// Patches that are no longer listed, because their files are gone.
    pub gone: Vec<String>,
}

/// Adds `patches` to the repository in the directory `dir`, which may be empty, and signs it anew. Patches must be signed
/// by one of `keys`.
///
/// Each file is replaced by a rename, the signed list last: who fetches in between finds that they do not fit, and
/// comes again.
///
/// # Errors
/// [`ErrorKind::Unverified`] if a patch, or what the repository has, is not signed by who should have;
/// [`ErrorKind::Refused`] for another patch of the same name.
pub fn publish(
    dir: &Path,
    patches: &[PathBuf],
    (pen, keys): (&Pen, &Keys),
    date: i64,
    watch: &Watch,
) -> Result<Published> {
    fs::create_dir_all(dir).on("mkdir", bytes(dir))?;
    let lock = File::open(dir).on("open", bytes(dir))?;
    lock.lock().on("flock", bytes(dir))?;
    let mut index = current(dir, pen)?;
    let mut gone = Vec::new();
    index.patches.retain(|name, patch| {
        let there = fs::metadata(dir.join(file_name(name))).is_ok_and(|file| file.len() == patch.size);
        if !there {
            gone.push(name.clone());
        }
        there
    });
    let mut added = Vec::new();
    for patch in patches {
        let (name, listed) = look(patch, keys, watch).map_err(|error| error.at(bytes(patch)))?;
        match index.patches.get(&name) {
            Some(old) if old.sha256 == listed.sha256 => continue,
            Some(_) => {
                let error = Error::new(ErrorKind::Refused, format!("the repository has another patch {name}"));
                return Err(error
                    .at(bytes(patch))
                    .hint("who has it already would never get this one: give it another name"));
            }
            None => {}
        }
        put(patch, &dir.join(file_name(&name)), &listed)?;
        index.patches.insert(name.clone(), listed);
        added.push(name);
    }
    let highest = || Error::new(ErrorKind::Refused, "its counter cannot go higher").at(bytes(dir));
    index.counter = index.counter.checked_add(1).ok_or_else(highest)?;
    index.date = date;
    seal(dir, &index, pen)?;
    Ok(Published { index, added, gone })
}

/// What the repository says that it has, if it is one; by its own key.
fn current(dir: &Path, pen: &Pen) -> Result<Index> {
    let (list, index) = (dir.join(LIST), dir.join(INDEX));
    if fs::symlink_metadata(&list).is_err() && fs::symlink_metadata(&index).is_err() {
        return Ok(Index::default());
    }
    let signed = read(&list)?;
    let known = verify_embedded(&signed, &pen.key.public()).and_then(CheckList::parse);
    let known = known.map_err(|error| error.at(bytes(&list)))?;
    // The one that is to come is there if publishing was interrupted before the list was signed.
    let text = read(&index)?;
    let digest = digest_of(&mut text.as_slice()).on("read", INDEX)?;
    if known.find(INDEX.as_bytes()) != Some(digest) {
        let error = Error::new(ErrorKind::Unverified, "it is not the one that was signed").at(bytes(&index));
        return Err(error.hint("somebody changed it, or publishing was interrupted: take it back from a copy"));
    }
    Index::parse(&text).map_err(|error| error.at(bytes(&index)))
}

fn look(file: &Path, keys: &Keys, watch: &Watch) -> Result<(String, Listed)> {
    let open = || File::open(file).on("open", bytes(file));
    let bundle = Bundle::open(BufReader::new(open()?), Trust::Keys(keys))?;
    let contents = bundle.read(&mut verify_body, watch)?;
    let mut whole = open()?;
    let sha256 = digest_of(&mut whole).on("read", bytes(file))?;
    let size = whole.metadata().on("stat", bytes(file))?.len();
    Ok((contents.head.name.clone(), Listed::of(&contents, size, sha256)))
}

/// Copies a patch to its place. What is there already and is the same stays.
fn put(from: &Path, to: &Path, listed: &Listed) -> Result<()> {
    if File::open(to).is_ok_and(|mut there| digest_of(&mut there).is_ok_and(|found| Some(found) == listed.sha256)) {
        return Ok(());
    }
    let mut new = New::create(to, 0o644)?;
    io::copy(&mut File::open(from).on("open", bytes(from))?, new.file()).on("write", bytes(to))?;
    new.commit()
}

fn seal(dir: &Path, index: &Index, pen: &Pen) -> Result<()> {
    let text = index.text();
    let digest = digest_of(&mut text.as_bytes()).on("read", INDEX)?;
    let mut list = format!("SHA256 ({INDEX}) = {digest}\n");
    for (name, patch) in &index.patches {
        if let Some(sha256) = patch.sha256 {
            list.push_str(&format!("SHA256 ({}) = {sha256}\n", file_name(name)));
        }
    }
    let signed = pen.key.sign(list.as_bytes(), &pen.comment())? + &list;
    let ready = |name: &str, text: &str| -> Result<New> {
        let path = dir.join(name);
        let mut new = New::create(&path, 0o644)?;
        new.file().write_all(text.as_bytes()).on("write", bytes(&path))?;
        Ok(new)
    };
    // Both are whole before the first is renamed, so that little can come between.
    let (index, list) = (ready(INDEX, &text)?, ready(LIST, &signed)?);
    index.commit()?;
    list.commit()
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let from = File::open(file).on("open", bytes(file))?;
    from.take(MAX_TEXT).read_to_end(&mut text).on("read", bytes(file))?;
    Ok(text)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
