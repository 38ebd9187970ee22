// SPDX-License-Identifier: ISC
//! dpkg's status file in a chroot where packages were installed since it was built: one file that two write to.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::error::Result;
use crate::select::packages::dpkg::INFO;
use crate::select::packages::dpkg::control::{Stanza, stanzas};
use crate::tree::Tree;

/// Where the file is.
pub const STATUS: &str = "var/lib/dpkg/status";

/// Merges the status file that is wanted with the one `inside`, package by package: one that is inside as it was
/// recorded becomes as wanted, or goes; one that was installed, upgraded or removed inside since stays so. That is what
/// the policy `keep` does with these packages' files.
///
/// `recorded` is what the last build wanted; the lists of packages in it bear their versions.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] if either file is malformed.
pub fn merge(inside: &[u8], recorded: &Tree, wanted: &[u8]) -> Result<Vec<u8>> {
    let recorded = recorded_versions(recorded);
    let (inside, wanted) = (packages(inside)?, packages(wanted)?);
    let is: HashMap<&str, &Package<'_>> = inside.iter().map(|package| (package.key.as_str(), package)).collect();
    let wants: HashMap<&str, &Package<'_>> = wanted.iter().map(|package| (package.key.as_str(), package)).collect();
    let mut text = Vec::new();
    // In the order of the file inside, so that nothing is written where nothing changed.
    let new = wanted.iter().filter(|package| !is.contains_key(package.key.as_str()));
    for key in inside.iter().chain(new).map(|package| package.key.as_str()) {
        let untouched = is.get(key).map(|package| package.version.as_str()) == recorded.get(key).copied();
        if let Some(package) = if untouched { wants.get(key) } else { is.get(key) } {
            text.extend_from_slice(package.text.trim_ascii_end());
            text.extend_from_slice(b"\n\n");
        }
    }
    Ok(text)
}

/// A package in a status file.
struct Package<'a> {
    /// The name that dpkg gives its files.
    key: String,
    /// If it is not installed, its state instead, which is no recorded version.
    version: String,
    text: &'a [u8],
}

/// The packages of a status file, in its order.
fn packages(file: &[u8]) -> Result<Vec<Package<'_>>> {
    stanzas(file)?.iter().map(read_package).collect()
}

fn read_package<'a>(stanza: &Stanza<'a>) -> Result<Package<'a>> {
    let (name, arch) = (stanza.text("Package")?, stanza.text("Architecture")?);
    let key = if stanza.text("Multi-Arch")? == "same" { format!("{name}:{arch}") } else { name.to_owned() };
    let state = stanza.text("Status")?;
    let version = if state.ends_with(" ok installed") { stanza.text("Version")? } else { state };
    Ok(Package { key, version: version.to_owned(), text: stanza.text })
}

/// What was recorded of packages: the origins of their lists.
fn recorded_versions(tree: &Tree) -> HashMap<&str, &str> {
    let mut found = HashMap::new();
    for node in tree.nodes() {
        let name = std::str::from_utf8(node.path.as_bytes()).ok().and_then(|path| path.strip_prefix(INFO));
        let package = name.and_then(|name| name.strip_prefix('/')?.strip_suffix(".list"));
        let version = node.origin.as_deref().and_then(|origin| origin.split(' ').nth(1));
        found.extend(package.zip(version));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::TreePath;
    use crate::tree::{Kind, Meta, Node};

    /// A status file of `name version [field]` words.
    fn status(packages: &[&str]) -> Vec<u8> {
        let stanza = |package: &&str| {
            let mut words = package.split(' ');
            let (name, version) = (words.next().unwrap(), words.next().unwrap());
            let (state, version) =
                if version == "-" { ("deinstall ok config-files", "1") } else { ("install ok installed", version) };
            let more: String = words.map(|word| format!("{}\n", word.replace('=', ": "))).collect();
            format!("Package: {name}\nStatus: {state}\nArchitecture: amd64\nVersion: {version}\n{more}\n")
        };
        packages.iter().map(stanza).collect::<String>().into_bytes()
    }

    /// What a build of these packages recorded.
    fn recorded(packages: &[&str]) -> Tree {
        let list = |package: &&str| {
            let (file, version) = package.split_once(' ').unwrap();
            let path = TreePath::new(format!("{INFO}/{file}.list").into_bytes()).unwrap();
            let mut node = Node::new(path, Meta::default(), Kind::File { size: 0, digest: None });
            node.origin = Some(format!("{} {version}", file.split(':').next().unwrap()).into());
            node
        };
        let dirs = ["var", "var/lib", "var/lib/dpkg", INFO].map(|dir| TreePath::new(dir.as_bytes()).unwrap());
        let dirs = dirs.into_iter().map(|path| Node::new(path, Meta::default(), Kind::Dir));
        Tree::new(dirs.chain(packages.iter().map(list)).collect()).unwrap()
    }

    #[test]
    fn table() {
        for (was, inside, wanted, want) in [
            // nothing happened inside: as wanted
            (&["a 1"][..], &["a 1"][..], &["a 2", "b 1"][..], &["a 2", "b 1"][..]),
            (&["a 1", "b 1"], &["a 1", "b 1"], &["a 1"], &["a 1"]),
            // installed, upgraded, removed inside: stays so
            (&["a 1"], &["a 1", "hello 3"], &["a 2"], &["a 2", "hello 3"]),
            (&["a 1"], &["a 3"], &["a 2"], &["a 3"]),
            (&["a 1"], &[], &["a 2"], &[]),
            (&["a 1"], &["a -"], &["a 2"], &["a -"]),
            (&["a 1"], &["a 3"], &[], &["a 3"]),
            // never built by us
            (&[], &["a 1"], &["a 2", "b 1"], &["a 1", "b 1"]),
            // the same name for two architectures
            (&["a:amd64 1"], &["a 1 Multi-Arch=same"], &["a 2 Multi-Arch=same"], &["a 2 Multi-Arch=same"]),
        ] {
            let merged = merge(&status(inside), &recorded(was), &status(wanted)).unwrap();
            assert_eq!(merged, status(want), "{was:?} {inside:?} {wanted:?}");
        }
        assert!(merge(b"x", &recorded(&[]), b"").is_err());
    }
}
