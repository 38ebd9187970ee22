// SPDX-License-Identifier: ISC
//! apt's sources, keys, preferences and settings, as the host has them, so that `apt-get update` works inside
//! (decision E20). Files of packages come with their packages; what holds a password stays on the host.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::{Input, Output};
use crate::error::Result;
use crate::path::{TreePath, escape};
use crate::sys::FileType;

/// Files, or directories whose files are taken.
const TAKEN: [&str; 10] = [
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg",
    "etc/apt/trusted.gpg.d",
    "etc/apt/keyrings",
    "etc/apt/preferences",
    "etc/apt/preferences.d",
    "etc/apt/apt.conf",
    "etc/apt/apt.conf.d",
    "usr/share/keyrings",
];

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    // A conffile of a package that was not chosen may call programs of that package.
    let owned = input.dpkg.packages().iter().flat_map(|package| &package.conffiles).map(|conffile| &conffile.path);
    let owned: HashSet<&TreePath> = owned.collect();
    for taken in TAKEN {
        let taken = TreePath::new(taken.as_bytes())?;
        let names = input.host.list(&taken)?;
        let below = names.iter().map(|name| taken.join(name)).collect::<Result<Vec<_>>>()?;
        for path in std::iter::once(taken).chain(below) {
            if !owned.contains(&path) && input.wanted.get(&path).is_none() {
                take(input, output, &path)?;
            }
        }
    }
    Ok(())
}

fn take(input: &Input<'_>, output: &mut Output, path: &TreePath) -> Result<()> {
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
            ("deb http://deb.debian.org/debian bookworm main\n", false),
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
