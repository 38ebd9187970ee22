// SPDX-License-Identifier: ISC
//! Profiles of AppArmor that do not hold in a jail: they are attached to paths of the host, and what runs in a jail has
//! others (decision 37).
#![forbid(unsafe_code)]

use std::path::Path;

use super::Finding;
use crate::chroot::place::{Place, bytes};
use crate::error::Result;
use crate::path::{PathSet, TreePath, escape};
use crate::tree::Tree;

/// Where profiles are.
const PROFILES: &str = "/etc/apparmor.d";
/// No profile is longer.
const MAX_PROFILE: u64 = 1 << 20;

/// The profiles of programs in `tree`, the record of a jail at `place`, where they are in force on this machine.
pub(super) fn findings(place: &Place, tree: &Tree) -> Result<Vec<Finding>> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(PROFILES).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_PROFILE) {
            continue;
        }
        let text = std::fs::read(&path).unwrap_or_default();
        findings.extend(lost(&String::from_utf8_lossy(&text), tree).map(|program| {
            let (root, path) = (escape(bytes(&place.root)), escape(bytes(&path)));
            let why = format!("the profile in {path} is of the host's program: in the jail it does not hold");
            Finding::bad(format!("AppArmor for {root}/{program}"), why)
                .mend(format!("add a profile for {root}/{program}, or confine it by run or a unit (jail --hardening)"))
        }));
    }
    Ok(findings)
}

/// The programs in `tree` that a profile with this text is attached to: `PATH ... {` and `profile NAME PATH ... {`.
fn lost<'a>(text: &'a str, tree: &'a Tree) -> impl Iterator<Item = TreePath> + 'a {
    let heads = text.lines().map(str::trim).filter(|line| line.ends_with('{') && !line.starts_with('#'));
    let attached = heads.filter_map(|head| {
        head.split_whitespace().take(3).map(|word| word.trim_matches('"')).find(|word| word.starts_with('/'))
    });
    attached.flat_map(move |pattern| {
        let set = PathSet::new([pattern.trim_start_matches('/')]).unwrap_or_default();
        let files = tree.nodes().iter().filter(|node| !node.kind.is_dir());
        files.filter(move |node| set.names(&node.path)).map(|node| node.path.clone()).collect::<Vec<_>>()
    })
}

/// Is this a machine with AppArmor at all?
pub(super) fn is_there() -> bool {
    Path::new(PROFILES).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn profiles_of_what_is_inside() {
        let tree = tree(&["d usr", "d usr/sbin", "f usr/sbin/named x", "f usr/sbin/other y"]);
        for (text, want) in [
            ("/usr/sbin/named flags=(complain) {\n}", "usr/sbin/named"),
            ("profile named /usr/sbin/named {\n", "usr/sbin/named"),
            ("profile named \"/usr/sbin/*\" {\n", "usr/sbin/named usr/sbin/other"),
            ("  # /usr/sbin/named {\n", ""),
            ("/usr/sbin/absent {\n  /usr/sbin/named r,\n}\n", ""),
            ("profile unattached {\n", ""),
            ("/usr/sbin/[ {\n", ""),
        ] {
            let found: Vec<String> = lost(text, &tree).map(|path| path.to_string()).collect();
            assert_eq!(found.join(" "), want, "{text:?}");
        }
    }
}
