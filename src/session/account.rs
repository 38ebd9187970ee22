// SPDX-License-Identifier: ISC
//! Who runs a session: an account out of the chroot's own passwd(5) and group(5).
//!
//! Whoever is inside may have written those files: they are opened as plain files only, up to a size, and a line that
//! makes no sense does not exist, as for the C library.
#![forbid(unsafe_code)]

use std::io::Read;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, FileType};

/// More than any passwd or group file needs, in bytes.
const LIMIT: u64 = 8 << 20;

/// An account of a chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Login name.
    pub(super) name: Vec<u8>,
    /// User number.
    pub(super) uid: u32,
    /// Number of the primary group.
    pub(super) gid: u32,
    /// Numbers of all groups, the primary one first.
    pub(super) groups: Vec<u32>,
    /// Home directory.
    pub(super) home: Vec<u8>,
    /// Login shell; empty for the default one.
    pub(super) shell: Vec<u8>,
    /// Login class, where the system has them; empty for the default one.
    pub(super) class: Vec<u8>,
}

impl Account {
    /// Its login shell.
    pub(super) fn shell(&self) -> &[u8] {
        if self.shell.is_empty() { b"/bin/sh" } else { &self.shell }
    }
}

/// Finds `user`, a name or a number, in `root`; none means root, who exists even in a chroot without accounts.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an unknown account; [`ErrorKind::Refused`] for a file that is none, naming it.
pub(super) fn find(root: &Dir, user: Option<&str>) -> Result<Account> {
    let passwd = read(root, "etc/passwd")?;
    let wanted = user.unwrap_or("root");
    let Some(mut account) = lookup(&passwd, wanted).or_else(|| user.is_none().then(superuser)) else {
        let reason = format!("no account {wanted:?} in the chroot");
        return Err(Error::new(ErrorKind::NotFound, reason).at("etc/passwd"));
    };
    account.groups = groups(&read(root, "etc/group")?, &account);
    account.class = class(&read(root, "etc/master.passwd")?, &account.name).to_vec();
    Ok(account)
}

fn superuser() -> Account {
    let (name, home) = (b"root".to_vec(), b"/root".to_vec());
    Account { name, uid: 0, gid: 0, groups: Vec::new(), home, shell: Vec::new(), class: Vec::new() }
}

/// The bytes of a regular file; none of a missing one.
fn read(root: &Dir, path: &str) -> Result<Vec<u8>> {
    let place = TreePath::new(path.as_bytes())?;
    let dir = match root.walk_parent(&place) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.on("open", path)?,
    };
    let Some(found) = dir.find(place.name()).on("stat", path)? else { return Ok(Vec::new()) };
    let refuse = |reason: &'static str| Err(Error::new(ErrorKind::Refused, reason).at(path));
    if found.kind != FileType::File {
        return refuse("is not a regular file");
    }
    let file = dir.open_file(place.name()).on("open", path)?;
    // Asked again of what was opened: the name may have been given to something else.
    if dir.stat_file(&file).on("stat", path)?.kind != FileType::File {
        return refuse("is not a regular file");
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).on("read", path)?;
    if bytes.len() as u64 > LIMIT { refuse("is larger than 8 MiB") } else { Ok(bytes) }
}

/// `name:password:uid:gid:gecos:home:shell`; a name goes before a number.
fn lookup(passwd: &[u8], wanted: &str) -> Option<Account> {
    let accounts = || passwd.split(|&b| b == b'\n').filter_map(account);
    let by_name = accounts().find(|a| a.name == wanted.as_bytes());
    by_name.or_else(|| number(wanted.as_bytes()).and_then(|uid| accounts().find(|a| a.uid == uid)))
}

fn account(line: &[u8]) -> Option<Account> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    let home = if home.is_empty() { b"/" } else { home };
    (!name.is_empty()).then_some(())?;
    Some(Account {
        name: name.to_vec(),
        uid: number(uid)?,
        gid: number(gid)?,
        groups: Vec::new(),
        home: home.to_vec(),
        shell: shell.to_vec(),
        class: Vec::new(),
    })
}

/// `name:password:uid:gid:class:...` of master.passwd(5): the class of the account `name`.
fn class<'a>(master: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut lines = master.split(|&b| b == b'\n').map(|line| line.split(|&b| b == b':').collect::<Vec<_>>());
    lines.find(|fields| fields.len() == 10 && fields[0] == name).map_or(&[], |fields| fields[4])
}

/// `name:password:gid:member,member`.
fn groups(group: &[u8], account: &Account) -> Vec<u32> {
    let mut groups = vec![account.gid];
    for line in group.split(|&b| b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [_, _, gid, members] = fields[..] else { continue };
        let member = members.split(|&b| b == b',').any(|m| m == account.name);
        if let Some(gid) = number(gid)
            && member
            && !groups.contains(&gid)
        {
            groups.push(gid);
        }
    }
    groups
}

/// A user or group number. The largest is none: to the kernel it means "leave it as it is", which would leave a guest
/// with our own.
fn number(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&n| n != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n# a comment\nann:x:1000:100:Ann,,,:/home/ann:\n\
        +::::::\nbad:x:1001:100:short\nminus:x:4294967295:0::/:/bin/sh\nneg:x:-1:0::/:/bin/sh\n:x:7:7::/:/bin/sh\n\
        1000:x:5:5::/five:/bin/sh\nbare:x:6:6:::\nplus:x:+8:8::/:/bin/sh\n";
    const GROUP: &[u8] =
        b"root:x:0:\nusers:x:100:ann\nwheel:x:10:root,ann\nodd:x:11:anna,xann\nbad:x\nadm:x:4:ann,ann\n";

    #[test]
    fn classes() {
        let master =
            b"root:*:0:0:daemon:0:0:Charlie &:/root:/bin/ksh\nshort:*:1:1:x:0\n_pbuild:*:55:55:pbuild:0:0:x:/:/s\n\
            www:*:67:67::0:0:x:/:/s\n";
        for (name, want) in [("root", "daemon"), ("_pbuild", "pbuild"), ("www", ""), ("short", ""), ("none", "")] {
            assert_eq!(class(master, name.as_bytes()), want.as_bytes(), "{name}");
        }
    }

    #[test]
    fn lookups() {
        for (wanted, found) in [
            ("root", Some((0, "/root", "/bin/bash"))),
            ("0", Some((0, "/root", "/bin/bash"))),
            ("ann", Some((1000, "/home/ann", "/bin/sh"))),
            ("1000", Some((5, "/five", "/bin/sh"))),
            ("bare", Some((6, "/", "/bin/sh"))),
            ("bad", None),
            ("minus", None),
            ("4294967295", None),
            ("neg", None),
            ("plus", None),
            ("7", None),
            ("", None),
            ("+", None),
            ("nobody", None),
        ] {
            let got = lookup(PASSWD, wanted);
            let got = got.as_ref().map(|a| (a.uid, a.home.as_slice(), a.shell()));
            assert_eq!(
                got,
                found.map(|(uid, home, shell): (u32, &str, &str)| (uid, home.as_bytes(), shell.as_bytes())),
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn groups_begin_with_the_primary_one_and_repeat_none() {
        let ann = lookup(PASSWD, "ann").unwrap();
        assert_eq!(groups(GROUP, &ann), [100, 10, 4]);
    }
}
