// SPDX-License-Identifier: ISC
//! apt's sources, keys, preferences and settings, as the host has them, so that `apt-get update` works inside
//! (decision E20). Files of packages come with their packages; what holds a password stays on the host.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::{Input, Made, Output};
use crate::error::Result;
use crate::path::{TreePath, escape};
use crate::sys::FileType;

/// Files, and directories with the endings of the files that apt reads there; without an ending, all are taken.
const TAKEN: [(&str, &[&str]); 9] = [
    ("etc/apt/sources.list", &[]),
    ("etc/apt/sources.list.d", &[".list", ".sources"]),
    ("etc/apt/trusted.gpg", &[]),
    ("etc/apt/trusted.gpg.d", &[".gpg", ".asc"]),
    ("etc/apt/keyrings", &[]),
    ("etc/apt/preferences", &[]),
    ("etc/apt/preferences.d", &[]),
    ("etc/apt/apt.conf", &[]),
    ("etc/apt/apt.conf.d", &[]),
];
/// Where other keys are: taken if a source names them.
const KEYRINGS: &str = "usr/share/keyrings";

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    // A conffile of a package that was not chosen may call programs of that package.
    let owned = input.dpkg.packages().iter().flat_map(|package| &package.conffiles).map(|conffile| &conffile.path);
    let owned: HashSet<&TreePath> = owned.collect();
    let start = output.made.len();
    for (taken, endings) in TAKEN {
        let taken = TreePath::new(taken.as_bytes())?;
        let mut names = input.host.list(&taken)?;
        names.retain(|name| endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending.as_bytes())));
        let below = names.iter().map(|name| taken.join(name)).collect::<Result<Vec<_>>>()?;
        for path in std::iter::once(taken).chain(below).filter(|path| !owned.contains(path)) {
            take(input, output, &path)?;
        }
    }
    let keyrings = TreePath::new(KEYRINGS.as_bytes())?;
    for name in input.host.list(&keyrings)? {
        let path = keyrings.join(&name)?;
        let named = |made: &Made| String::from_utf8_lossy(&made.body).contains(&format!("/{path}"));
        if output.made[start..].iter().any(named) {
            take(input, output, &path)?;
        }
    }
    Ok(())
}

/// Takes a file that no chosen package brings.
fn take(input: &Input<'_>, output: &mut Output, path: &TreePath) -> Result<()> {
    if input.wanted.get(path).is_some() {
        return Ok(());
    }
    let Some(at) = input.host.place(path)? else { return Ok(()) };
    let Some(stat) = input.host.stat(&at)? else { return Ok(()) };
    if !matches!(stat.kind, FileType::File | FileType::Symlink) {
        return Ok(());
    }
    let Some(body) = input.host.read(path, super::MAX_FILE)? else { return Ok(()) };
    if holds_password(&body) {
        output.note(format!("{path}: holds a password, not taken"));
        return Ok(());
    }
    // A link's target need not exist inside: its content is taken.
    let mode = if stat.kind == FileType::File { stat.mode & 0o755 } else { 0o644 };
    output.file(path, mode, body)
}

/// Is there a `scheme://user:password@host` in it?
fn holds_password(body: &[u8]) -> bool {
    let text = escape(body);
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(|c: char| c.is_whitespace() || "/\"';\\".contains(c)).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords() {
        for (text, want) in [
            ("deb http://mirror.example/debian bookworm main\n", false),
            ("deb https://u:p@host/x y z\n", true),
            ("deb https://u@host/x y z\n", false),
            ("# a@b:c\n", false),
            ("Acquire::http::Proxy \"http://u:p@proxy:3128\";", true),
            ("Acquire::http::Proxy \"http://proxy:3128\"; # me@here", false),
            ("deb http://a/ b\ndeb ftp://x:y@z/ b", true),
        ] {
            assert_eq!(holds_password(text.as_bytes()), want, "{text}");
        }
    }
}
