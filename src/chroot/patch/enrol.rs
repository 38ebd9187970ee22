// SPDX-License-Identifier: ISC
//! The accounts that a patch needs, added to the account files of a root; those never travel themselves (decision 6).
#![forbid(unsafe_code)]

use super::target::Root;
use crate::apply::digest;
use crate::chroot::accounts::{Files, enrol};
use crate::error::Result;
use crate::patch::Contents;
use crate::patch::accounts::{Account, User};
use crate::path::TreePath;
use crate::tree::{Kind, Node, Tree};

/// Where the account files are.
pub(crate) const FILES: [&str; 5] = ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/master.passwd"];

/// The account files, if the patch needs accounts.
///
/// # Errors
/// Never.
pub(crate) fn paths(contents: &Contents) -> Result<Vec<TreePath>> {
    let needed: &[&str] = if contents.head.accounts.is_empty() { &[] } else { &FILES };
    needed.iter().map(|path| TreePath::new(path.as_bytes())).collect()
}

/// The account files that change, as nodes with their contents.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] for a number that somebody else has, naming both.
pub(crate) fn changed(root: &Root, contents: &Contents, here: &Tree) -> Result<Vec<(Node, Vec<u8>)>> {
    if contents.head.accounts.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<Account> =
        contents.head.accounts.iter().map(|line| Account::parse(line)).collect::<Result<_>>()?;
    let text = |path: &str| root.text(path);
    let there = |path: &str| here.get(path.as_bytes()).is_some();
    let optional = |path: &str| there(path).then(|| text(path)).transpose();
    let have = Files {
        passwd: text(FILES[0])?,
        group: text(FILES[1])?,
        shadow: optional(FILES[2])?,
        gshadow: optional(FILES[3])?,
        master: optional(FILES[4])?,
    };
    let members: Vec<(&[u8], &[u8])> = accounts.iter().filter_map(member).collect();
    let want = enrol(&have, &source(&accounts), &members)?;
    let files = [
        (Some(have.passwd), Some(want.passwd)),
        (Some(have.group), Some(want.group)),
        (have.shadow, want.shadow),
        (have.gshadow, want.gshadow),
        (have.master, want.master),
    ];
    let mut changed = Vec::new();
    for (path, (_, want)) in FILES.iter().zip(files).filter(|(_, (have, want))| have != want) {
        let (path, want) = (TreePath::new(path.as_bytes())?, want.unwrap_or_default());
        let Some(node) = here.get(path.as_bytes()) else { continue };
        let kind = Kind::File { size: want.len() as u64, digest: Some(digest(&want)) };
        changed.push((Node { kind, here: None, group: None, ..node.clone() }, want));
    }
    Ok(changed)
}

fn member(account: &Account) -> Option<(&[u8], &[u8])> {
    match account {
        Account::Member { group, user } => Some((user, group)),
        _ => None,
    }
}

/// Account files that have just these accounts.
fn source(accounts: &[Account]) -> Files {
    let (mut passwd, mut group, mut master) = (Vec::new(), Vec::new(), Vec::new());
    for account in accounts {
        match account {
            Account::Group { name, gid } => {
                group.extend([name, &b":*:"[..], gid.to_string().as_bytes(), b":\n"].concat());
            }
            Account::User(User { name, uid, gid, class, gecos, home, shell }) => {
                let (uid, gid) = (uid.to_string(), gid.to_string());
                let (uid, gid) = (uid.as_bytes(), gid.as_bytes());
                let line: [&[u8]; 7] = [name, b"*", uid, gid, gecos, home, shell];
                passwd.extend(line.join(&b':'));
                passwd.push(b'\n');
                let line: [&[u8]; 10] = [name, b"*", uid, gid, class, b"0", b"0", gecos, home, shell];
                master.extend(line.join(&b':'));
                master.push(b'\n');
            }
            Account::Member { .. } => {}
        }
    }
    Files { passwd, group, shadow: None, gshadow: None, master: Some(master) }
}
