// SPDX-License-Identifier: ISC
//! Release sets in a directory, as they lie on a mirror and as sysupgrade(8) leaves them (decision 30).
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::place::bytes;
use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::recipe::{Origin, Recipe, Verify};

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

/// The release sets of the project, by their names.
const NAMES: [&str; 8] = ["base", "comp", "man", "game", "xbase", "xfont", "xserv", "xshare"];

/// Refuses archives that are sets of two releases: what runs of the one does not run with the libraries of the other.
pub(super) fn one_release(recipe: &Recipe) -> Result<()> {
    let archives = recipe.sources.iter().filter_map(|source| match &source.origin {
        Origin::Archive { path, .. } => path.file_name()?.to_str(),
        _ => None,
    });
    let sets: Vec<_> = archives.filter_map(|name| Some((name, set_name(name)?))).collect();
    let sets: Vec<_> = sets.into_iter().filter(|(_, (set, _))| NAMES.contains(set)).collect();
    let Some((first, (_, digits))) = sets.first() else { return Ok(()) };
    match sets.iter().find(|(_, (_, others))| others != digits) {
        None => Ok(()),
        Some((other, _)) => {
            let error = Error::new(ErrorKind::Refused, format!("{first} and {other} are sets of two releases"));
            Err(error.hint("name those of one; where the recipe has others, say it anew: -f sets"))
        }
    }
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
    fn archives_of_two_releases_are_refused() {
        for (archives, refused) in [
            (&["base78.tgz", "comp78.tgz", "mine12.tgz"][..], None),
            (&["mine12.tgz", "base78.tgz", "site78.tgz", "man78.tgz"], None),
            (&["base78.tgz", "comp77.tgz"], Some("base78.tgz and comp77.tgz are sets of two releases")),
            (&["a/xbase79.tgz", "b/man79.tgz", "c/xfont710.tgz"], Some("xbase79.tgz and xfont710.tgz are")),
            (&["mine12.tgz", "yours13.tgz"], None),
        ] {
            let mut recipe = Recipe::default();
            archives.iter().for_each(|path| recipe.add_archive(PathBuf::from(path), None).unwrap());
            let said = one_release(&recipe).map_err(|error| error.to_string());
            match refused {
                None => assert_eq!(said, Ok(()), "{archives:?}"),
                Some(words) => assert!(said.as_ref().is_err_and(|said| said.starts_with(words)), "{said:?}"),
            }
        }
    }

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
