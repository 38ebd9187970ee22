// SPDX-License-Identifier: ISC
//! Fetching what a repository has into the cache of the host. Nothing that comes from there is believed before the
//! signed list of it holds, and nothing has a name in the cache before its digest does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Seek, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::publish::MAX_TEXT;
use super::{INDEX, Index, LIST};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Keys, New, digest_of, scratch};
use crate::sign::{CheckList, PublicKey, verify_embedded};
use crate::tree::Digest;

/// The counters of repositories by key, in the cache.
const SEEN: &str = ".counters";

/// How the files begin that are not whole yet; their digests follow.
const PART: &str = ".part-";

/// Writes the file of that name in a repository to a writer: those bytes of it. More is an error.
pub type Fetch<'a> = dyn FnMut(&str, Range<u64>, &mut dyn Write) -> Result<()> + 'a;

/// Where the host keeps what it fetched.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    /// Locked while this lives.
    _lock: File,
}

impl Cache {
    /// Opens the cache in a directory, which is made if need be, and locks it. What an interrupted fetch left goes.
    ///
    /// # Errors
    /// As mkdir(2), open(2).
    pub fn open(dir: &Path) -> Result<Cache> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).on("mkdir", bytes(dir))?;
        let lock = File::open(dir).on("open", bytes(dir))?;
        lock.lock().on("flock", bytes(dir))?;
        for entry in fs::read_dir(dir).on("open", bytes(dir))? {
            let entry = entry.on("read", bytes(dir))?;
            let name = entry.file_name();
            let name = name.as_bytes();
            if name.starts_with(b".") && name != SEEN.as_bytes() && !name.starts_with(PART.as_bytes()) {
                fs::remove_file(entry.path()).on("unlink", bytes(&entry.path()))?;
            }
        }
        Ok(Cache { dir: dir.to_owned(), _lock: lock })
    }

    /// Fetches and verifies what a repository says that it has. One that is older than what was seen before is
    /// refused.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if it is not signed by one of `keys`, or does not fit together;
    /// [`ErrorKind::Refused`] for an old one; errors of `fetch`.
    pub fn look(&self, keys: &Keys, fetch: &mut Fetch<'_>) -> Result<Index> {
        let (list, public) = signed_list(keys, fetch)?;
        let listed = list.find(INDEX.as_bytes()).ok_or_else(|| {
            let error = Error::new(ErrorKind::BadInput, "it is no list of a repository of stockade").at(LIST);
            error.hint("a mirror for OpenBSD's syspatch is read with --layout syspatch")
        })?;
        let text = get(INDEX, fetch)?;
        let digest = digest_of(&mut &text[..]).on("read", INDEX)?;
        if listed != digest {
            let error = Error::new(ErrorKind::Unverified, "it is not the one that is signed").at(INDEX);
            return Err(error.hint("if it is being published just now, try again"));
        }
        let index = Index::parse(&text).map_err(|error| error.at(INDEX))?;
        self.note(&public.number().to_string(), &index, digest)?;
        Ok(index)
    }

    /// Compares the counter with the highest that was seen of this key, and remembers it.
    fn note(&self, key: &str, index: &Index, digest: Digest) -> Result<()> {
        let path = self.dir.join(SEEN);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.on("read", bytes(&path))?,
        };
        let hint =
            "without it, a repository that is older than it was would be taken: remove it if you know that none is";
        let broken = || Error::new(ErrorKind::BadInput, "a malformed line").at(bytes(&path)).hint(hint);
        let mut seen: BTreeMap<&str, (u64, Digest)> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [key, counter, digest] = words[..] else { return Err(broken()) };
            let digest = Digest::from_hex(digest.as_bytes()).ok_or_else(broken)?;
            seen.insert(key, (counter.parse().map_err(|_| broken())?, digest));
        }
        match seen.insert(key, (index.counter, digest)) {
            Some((counter, _)) if counter > index.counter => {
                let reason = format!("the repository is at {}, and was at {counter} before", index.counter);
                let error = Error::new(ErrorKind::Refused, reason).at(INDEX);
                return Err(error.hint("the mirror is behind, or somebody hides what was published since"));
            }
            Some((counter, other)) if counter == index.counter && other != digest => {
                let reason = format!("there are two different states {counter} of the repository");
                return Err(Error::new(ErrorKind::Refused, reason).at(INDEX));
            }
            Some((counter, _)) if counter == index.counter => return Ok(()),
            _ => {}
        }
        let text: String = seen.iter().map(|(key, (counter, digest))| format!("{key} {counter} {digest}\n")).collect();
        let mut new = New::create(&path, 0o600)?;
        new.file().write_all(text.as_bytes()).on("write", bytes(&path))?;
        new.commit()
    }

    /// A file with this digest, of at most so many bytes: from the cache, or fetched. Was it fetched?
    ///
    /// What an earlier fetch got before it was cut off is taken as a beginning; whether it is one shows at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if what comes has another digest; errors of `fetch`.
    pub fn bring(&self, name: &str, (sha256, limit): (Digest, u64), fetch: &mut Fetch<'_>) -> Result<(PathBuf, bool)> {
        let path = self.dir.join(name);
        let is_it = |from: &mut File| -> Result<bool> {
            from.rewind().on("seek", name)?;
            Ok(digest_of(from).on("read", name)? == sha256)
        };
        if File::open(&path).is_ok_and(|mut cached| is_it(&mut cached).unwrap_or(false)) {
            return Ok((path, false));
        }
        let made = self.dir.join(format!("{PART}{sha256}"));
        self.drop_parts(&made)?;
        loop {
            let mut options = OpenOptions::new();
            let part = options.read(true).append(true).create(true).mode(0o600).open(&made);
            let mut part = part.on("create", bytes(&made))?;
            let start = part.metadata().on("stat", bytes(&made))?.len();
            let fetched = fetch(name, start..limit, &mut part);
            let end = part.metadata().on("stat", bytes(&made))?.len();
            if is_it(&mut part)? {
                scratch::name(&part, &made, &path)?;
                return Ok((path, true));
            }
            match fetched {
                // It may go on from there.
                Err(error) if end > 0 && error.kind() != ErrorKind::BadInput => return Err(error),
                fetched => {
                    fs::remove_file(&made).on("unlink", bytes(&made))?;
                    fetched?;
                }
            }
            if start == 0 {
                return Err(Error::new(ErrorKind::Unverified, "it is not what the repository lists").at(name));
            }
        }
    }

    /// Only one file is ever in the making.
    fn drop_parts(&self, but: &Path) -> Result<()> {
        for entry in fs::read_dir(&self.dir).on("open", bytes(&self.dir))? {
            let path = entry.on("read", bytes(&self.dir))?.path();
            let is_part = path.file_name().is_some_and(|name| name.as_bytes().starts_with(PART.as_bytes()));
            if is_part && path != but {
                fs::remove_file(&path).on("unlink", bytes(&path))?;
            }
        }
        Ok(())
    }
}

/// The list of what a repository has, and the key that it is signed with.
///
/// # Errors
/// [`ErrorKind::Unverified`] if it is not signed by one of `keys`; errors of `fetch`.
pub fn signed_list<'a>(keys: &'a Keys, fetch: &mut Fetch<'_>) -> Result<(CheckList, &'a PublicKey)> {
    let signed = get(LIST, fetch)?;
    let (_, public) = keys.find(&signed).map_err(|error| error.at(LIST))?;
    let list = verify_embedded(&signed, public).and_then(CheckList::parse).map_err(|error| error.at(LIST))?;
    Ok((list, public))
}

fn get(name: &str, fetch: &mut Fetch<'_>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    fetch(name, 0..MAX_TEXT, &mut text)?;
    Ok(text)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
