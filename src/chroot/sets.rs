// SPDX-License-Identifier: ISC
//! Release sets in a directory, as they lie on a mirror and as sysupgrade(8) leaves them (decision 30).
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::place::bytes;
use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::recipe::{Origin, Verify};

/// Where a host has the keys of releases. Never in a chroot (decision 15).
pub(super) const KEYS: [&str; 2] = ["/etc/signify", "/usr/share/signify-openbsd-keys"];
/// How their names end.
const KEY_ENDING: &str = "-base.pub";
/// What lists and signs the sets.
pub(super) const LIST: &str = "SHA256.sig";

/// The sets that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sets {
    /// The release in their names: `7.8`.
    pub(crate) release: String,
    /// The archives, in the order of the recipe.
    pub(crate) archives: Vec<PathBuf>,
    /// What verifies each; none: they are trusted as they are.
    pub(crate) verify: Option<Verify>,
}

impl Sets {
    /// Finds the sets of `origin`; none if it is no such source.
    pub(crate) fn of(origin: &Origin) -> Result<Option<Sets>> {
        let Origin::Sets { directory, names, key, unsigned } = origin else { return Ok(None) };
        let mut found = Vec::new();
        let opened = std::fs::read_dir(directory).on("open", bytes(directory));
        for entry in opened.map_err(|error| error.hint("name the directory of the sets with --from"))? {
            let name = entry.on("getdents", bytes(directory))?.file_name();
            found.extend(name.to_str().and_then(set_name).map(|(set, digits)| (set.to_owned(), digits.to_owned())));
        }
        let digits = choose(&found, names).map_err(|error| error.at(bytes(directory)))?;
        let list = directory.join(LIST);
        let verify = match (unsigned, list.is_file()) {
            (true, _) => None,
            (false, true) => {
                let key = key.clone().map_or_else(|| key_of(&digits), Ok)?;
                Some(Verify { list, key: Some(key) })
            }
            (false, false) => {
                let error =
                    Error::new(ErrorKind::Unverified, "nobody signed the sets: there is no SHA256.sig beside them");
                return Err(error.at(bytes(directory)).hint("fetch it from the mirror, or trust them with --unsigned"));
            }
        };
        let archives = names.iter().map(|set| directory.join(format!("{set}{digits}.tgz"))).collect();
        Ok(Some(Sets { release: release(&digits), archives, verify }))
    }
}

/// The host's keys of releases.
pub(super) fn keys() -> Vec<PathBuf> {
    let entries = KEYS.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let is_base = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("openbsd-") && name.ends_with(KEY_ENDING)
    };
    entries.map(|entry| entry.path()).filter(is_base).collect()
}

/// The host's key of the release `78`.
fn key_of(digits: &str) -> Result<PathBuf> {
    let name = format!("openbsd-{digits}{KEY_ENDING}");
    KEYS.iter().map(|dir| Path::new(dir).join(&name)).find(|key| key.exists()).ok_or_else(|| {
        let reason = format!("the host has no key {name}, neither in {}", KEYS.join(" nor in "));
        Error::new(ErrorKind::NotFound, reason).hint("name the key that signed the sets with --key FILE")
    })
}

/// Takes `base78.tgz` apart.
pub(super) fn set_name(name: &str) -> Option<(&str, &str)> {
    let stem = name.strip_suffix(".tgz")?;
    let (set, digits) = stem.split_at(stem.find(|c: char| c.is_ascii_digit())?);
    let plain = !set.is_empty() && set.bytes().all(|b| b.is_ascii_lowercase());
    (plain && digits.len() >= 2 && digits.bytes().all(|b| b.is_ascii_digit())).then_some((set, digits))
}

/// The digits of the one release of which all `names` are `found`.
pub(super) fn choose(found: &[(String, String)], names: &[String]) -> Result<String> {
    let mut all: Option<&str> = None;
    for name in names {
        let mut digits = found.iter().filter(|(set, _)| set == name).map(|(_, digits)| digits.as_str());
        let Some(one) = digits.next() else {
            bail!(NotFound, "there is no set {name}: no {name}NN.tgz");
        };
        if let Some(other) = digits.next().or(all).filter(|other| *other != one) {
            let reason = format!("sets of two releases lie there: {other} and {one}");
            return Err(Error::new(ErrorKind::Refused, reason).hint("keep each release in a directory of its own"));
        }
        all = Some(one);
    }
    all.map(str::to_owned).ok_or_else(|| Error::new(ErrorKind::Usage, "the recipe names no set"))
}

/// `78` is 7.8, `100` is 10.0.
fn release(digits: &str) -> String {
    let (major, minor) = digits.split_at(digits.len() - 1);
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_is_found() {
        for (files, names, expect) in [
            (&["base78.tgz", "comp78.tgz", "bsd", "game77.tgz", "SHA256"][..], &["base", "comp"][..], Ok("78")),
            (&["base100.tgz"], &["base"], Ok("100")),
            (&["base78.tgz"], &["base", "man"], Err("there is no set man: no manNN.tgz")),
            (&["base78.tgz", "base79.tgz"], &["base"], Err("sets of two releases lie there: 79 and 78")),
            (&["base78.tgz", "man79.tgz"], &["base", "man"], Err("sets of two releases lie there: 78 and 79")),
            (
                &["base8.tgz", "base78.tar", "Base78.tgz", "78.tgz", "base78x.tgz"],
                &["base"],
                Err("there is no set base"),
            ),
            (&["base78.tgz"], &[], Err("the recipe names no set")),
        ] {
            let owned = |(set, digits): (&str, &str)| (set.to_owned(), digits.to_owned());
            let found: Vec<_> = files.iter().filter_map(|name| set_name(name)).map(owned).collect();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chosen = choose(&found, &names).map_err(|e| e.to_string());
            match expect {
                Ok(digits) => assert_eq!(chosen.as_deref(), Ok(digits)),
                Err(words) => assert!(chosen.as_ref().is_err_and(|said| said.starts_with(words)), "{chosen:?}"),
            }
        }
        assert_eq!([release("78"), release("100")], ["7.8", "10.0"]);
    }
}
