// SPDX-License-Identifier: ISC
//! Repositories: a directory that any web server serves, with patches, their [`Index`], and a signed list of all that.
//!
//! ```text
//! stockade repository 1
//! counter 12
//! date 1795000000
//! patch errata-7.8-001_sshd-amd64 size=81023 sha256=HEX digest=HEX series=errata-7.8-amd64 number=1 system=openbsd ...
//! end 1
//! ```
//! `SHA256.sig` is exactly what signify makes of a checksum list; it names `INDEX` and every `NAME.tgz`.
#![forbid(unsafe_code)]

mod publish;
mod sync;

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;

use super::{Contents, arch, check_name};
use crate::error::{Error, ErrorKind, Result};
use crate::tree::Digest;

pub use publish::{Published, publish};
pub use sync::{Cache, Fetch, signed_list};

/// The index, in a repository.
pub const INDEX: &str = "INDEX";
/// The signed list, in a repository.
pub const LIST: &str = "SHA256.sig";
const FIRST: &str = "stockade repository 1";
/// How many patches one may have.
const MAX_PATCHES: usize = 100_000;

/// What a repository has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Grows each time that the repository is published.
    pub counter: u64,
    /// When it was published, in seconds since 1970.
    pub date: i64,
    /// Its patches by name.
    pub patches: BTreeMap<String, Listed>,
}

/// What an index says of a patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file; none only while it is read.
    pub sha256: Option<Digest>,
    /// What identifies its manifest.
    pub digest: Option<Digest>,
    /// As in [`super::Head`].
    pub series: String,
    /// As in [`super::Head`].
    pub number: Option<u32>,
    /// As in [`super::Head`].
    pub system: String,
    /// As in [`super::Head`].
    pub release: String,
    /// As in [`super::Head`].
    pub arch: String,
    /// Manifests of those that must be there first.
    pub requires: Vec<Digest>,
    /// Manifests of those that it stands for.
    pub provides: Vec<Digest>,
}

/// What a root is. What it does not know, it takes all of.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// `linux` or `openbsd`.
    pub system: String,
    /// As patches name it.
    pub release: Option<String>,
    /// As uname(1) names it.
    pub arch: Option<String>,
}

impl Listed {
    /// What the index says of a patch with this manifest.
    pub fn of(contents: &Contents, size: u64, sha256: Digest) -> Listed {
        let head = &contents.head;
        let digests = |patches: &[(String, Digest)]| patches.iter().map(|(_, digest)| *digest).collect();
        Listed {
            size,
            sha256: Some(sha256),
            digest: Some(contents.digest()),
            series: head.series.clone(),
            number: head.number,
            system: head.system.clone(),
            release: head.release.clone(),
            arch: head.arch.clone(),
            requires: digests(&head.requires),
            provides: digests(&head.provides),
        }
    }

    fn is_for(&self, target: &Target) -> bool {
        let fits = |own: &str, theirs: Option<&str>| own.is_empty() || theirs.is_none_or(|theirs| theirs == own);
        fits(&self.system, Some(&target.system))
            && fits(&self.release, target.release.as_deref())
            && fits(arch(&self.arch), target.arch.as_deref().map(arch))
    }
}

/// What a root with these patches (by their manifests) lacks, in the order in which it is applied. A roll-up is taken in
/// place of what it provides.
pub fn missing<'a>(index: &'a Index, installed: &HashSet<Digest>, target: &Target) -> Vec<(&'a String, &'a Listed)> {
    let rolled_up: HashSet<Digest> = index.for_target(target).flat_map(|(_, p)| &p.provides).copied().collect();
    let lacks = |(_, patch): &(&String, &Listed)| {
        patch.digest.is_some_and(|digest| !installed.contains(&digest) && !rolled_up.contains(&digest))
    };
    let mut left: Vec<_> = index.for_target(target).filter(lacks).collect();
    left.sort_by_key(|(name, patch)| (&patch.series, patch.number, *name));
    let mut ordered = Vec::with_capacity(left.len());
    let mut waiting: HashSet<Digest> = left.iter().filter_map(|(_, patch)| patch.digest).collect();
    while !left.is_empty() {
        // Requirements name digests, so none goes round in a circle; the first one is only for the sake of an end.
        let ready = |(_, patch): &(&String, &Listed)| !patch.requires.iter().any(|digest| waiting.contains(digest));
        let next = left.remove(left.iter().position(ready).unwrap_or(0));
        waiting.retain(|digest| Some(*digest) != next.1.digest);
        ordered.push(next);
    }
    ordered
}

impl Index {
    /// The patches that are for this root.
    pub fn for_target(&self, target: &Target) -> impl Iterator<Item = (&String, &Listed)> {
        self.patches.iter().filter(|(_, patch)| patch.is_for(target))
    }

    /// Its text.
    pub fn text(&self) -> String {
        let mut text = format!("{FIRST}\ncounter {}\ndate {}\n", self.counter, self.date);
        for (name, patch) in &self.patches {
            text.push_str(&format!("patch {name} size={}", patch.size));
            let mut put = |key: &str, value: String| {
                if !value.is_empty() {
                    text.push_str(&format!(" {key}={value}"));
                }
            };
            let shown = |digest: &Digest| digest.to_string();
            put("sha256", patch.sha256.as_ref().map(shown).unwrap_or_default());
            put("digest", patch.digest.as_ref().map(shown).unwrap_or_default());
            put("series", patch.series.clone());
            put("number", patch.number.map(|number| number.to_string()).unwrap_or_default());
            put("system", patch.system.clone());
            put("release", patch.release.clone());
            put("arch", patch.arch.clone());
            patch.requires.iter().for_each(|digest| put("requires", digest.to_string()));
            patch.provides.iter().for_each(|digest| put("provides", digest.to_string()));
            text.push('\n');
        }
        text.push_str(&format!("end {}\n", self.patches.len()));
        text
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for anything but what [`Index::text`] writes; [`ErrorKind::Unsupported`] for one of a
    /// later version.
    pub fn parse(text: &[u8]) -> Result<Index> {
        let text = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(broken)?;
        let mut lines = text.split('\n');
        match lines.next() {
            Some(FIRST) => {}
            Some(line) if line.starts_with("stockade repository ") => {
                let error = Error::new(ErrorKind::Unsupported, "the repository is in a format newer than this program");
                return Err(error.hint("update stockade first"));
            }
            _ => return Err(broken()),
        }
        let mut value = |key: &str| lines.next().and_then(|line| line.strip_prefix(key)).ok_or_else(broken);
        let mut index =
            Index { counter: number(value("counter ")?)?, date: number(value("date ")?)?, ..Index::default() };
        loop {
            let line = lines.next().ok_or_else(broken)?;
            if let Some(count) = line.strip_prefix("end ") {
                let whole = number::<usize>(count)? == index.patches.len() && lines.next().is_none();
                return if whole { Ok(index) } else { Err(broken()) };
            }
            let (name, patch) = listed(line.strip_prefix("patch ").ok_or_else(broken)?)?;
            if index.patches.len() == MAX_PATCHES || index.patches.insert(name, patch).is_some() {
                return Err(broken());
            }
        }
    }
}

fn listed(line: &str) -> Result<(String, Listed)> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    check_name(name)?;
    let mut patch = Listed::default();
    let digest = |value: &str| Digest::from_hex(value.as_bytes()).ok_or_else(broken);
    for word in words {
        let (key, value) = word.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(broken)?;
        let plain = value.chars().all(|c| c.is_ascii_graphic());
        match key {
            _ if !plain => return Err(broken()),
            "size" => patch.size = number(value)?,
            "sha256" => patch.sha256 = Some(digest(value)?),
            "digest" => patch.digest = Some(digest(value)?),
            "series" => patch.series = value.to_owned(),
            "number" => patch.number = Some(number(value)?),
            "system" => patch.system = value.to_owned(),
            "release" => patch.release = value.to_owned(),
            "arch" => patch.arch = value.to_owned(),
            "requires" => patch.requires.push(digest(value)?),
            "provides" => patch.provides.push(digest(value)?),
            _ => return Err(broken()),
        }
    }
    let whole = patch.sha256.is_some() && patch.digest.is_some();
    if whole { Ok((name.to_owned(), patch)) } else { Err(broken()) }
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| broken())
}

fn broken() -> Error {
    Error::new(ErrorKind::BadInput, "it is no index of a repository")
}

/// The file of a patch, in a repository.
pub fn file_name(patch: &str) -> String {
    format!("{patch}.tgz")
}

#[cfg(test)]
mod tests;
