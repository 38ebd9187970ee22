// SPDX-License-Identifier: ISC
//! Fetching what a repository has into the cache of the host. Nothing that comes from there is believed before the
//! signed list of it holds, and nothing has a name in the cache before its digest does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::publish::MAX_TEXT;
use super::{INDEX, Index, LIST, Listed, file_name};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Keys, New, digest_of};
use crate::sign::{CheckList, verify_embedded};
use crate::tree::Digest;

/// The counters of repositories by key, in the cache.
const SEEN: &str = ".counters";

/// Writes the file of that name in a repository, at most so many bytes of it, to a writer.
pub type Fetch<'a> = dyn FnMut(&str, u64, &mut dyn Write) -> Result<()> + 'a;

/// Where the host keeps what it fetched.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    /// Locked while this lives.
    _lock: File,
}

/// An index that holds.
#[derive(Debug)]
pub struct Fresh {
    /// The index.
    pub index: Index,
    /// What the key is called that signed it.
    pub key: String,
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
            if name.as_bytes().starts_with(b".") && name.as_bytes() != SEEN.as_bytes() {
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
    pub fn look(&self, keys: &Keys, fetch: &mut Fetch<'_>) -> Result<Fresh> {
        let mut get = |name: &str| -> Result<Vec<u8>> {
            let mut text = Vec::new();
            fetch(name, MAX_TEXT, &mut text)?;
            Ok(text)
        };
        let signed = get(LIST)?;
        let (key, public) = keys.find(&signed).map_err(|error| error.at(LIST))?;
        let list = verify_embedded(&signed, public).and_then(CheckList::parse).map_err(|error| error.at(LIST))?;
        let text = get(INDEX)?;
        let digest = digest_of(&mut &text[..]).on("read", INDEX)?;
        if list.find(INDEX.as_bytes()) != Some(digest) {
            let error = Error::new(ErrorKind::Unverified, "it is not the one that is signed").at(INDEX);
            return Err(error.hint("if it is being published just now, try again"));
        }
        let index = Index::parse(&text).map_err(|error| error.at(INDEX))?;
        self.note(&public.number().to_string(), &index, digest)?;
        Ok(Fresh { index, key: key.clone() })
    }

    /// Compares the counter with the highest that was seen of this key, and remembers it.
    fn note(&self, key: &str, index: &Index, digest: Digest) -> Result<()> {
        let path = self.dir.join(SEEN);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.on("read", bytes(&path))?,
        };
        let broken = || Error::new(ErrorKind::BadInput, "a malformed line").at(bytes(&path));
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

    /// The file of a listed patch: from the cache, or fetched. Was it fetched?
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`] if what comes is not what is listed; errors of `fetch`.
    pub fn bring(&self, name: &str, patch: &Listed, fetch: &mut Fetch<'_>) -> Result<(PathBuf, bool)> {
        let file = file_name(name);
        let path = self.dir.join(&file);
        let is_it = |from: &mut dyn Read| digest_of(from).is_ok_and(|found| Some(found) == patch.sha256);
        if File::open(&path).is_ok_and(|mut cached| is_it(&mut cached)) {
            return Ok((path, false));
        }
        let mut new = New::create(&path, 0o600)?;
        fetch(&file, patch.size, new.file())?;
        std::io::Seek::rewind(new.file()).on("seek", &file)?;
        if new.file().metadata().on("stat", &file)?.len() != patch.size || !is_it(new.file()) {
            return Err(Error::new(ErrorKind::Unverified, "it is not what the repository lists").at(&file));
        }
        new.commit()?;
        Ok((path, true))
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
