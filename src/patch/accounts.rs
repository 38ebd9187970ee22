// SPDX-License-Identifier: ISC
//! Account files never travel: what travels are the accounts and groups that came. Pure.
//!
//! Read are passwd(5), group(5) and, where there is one, master.passwd(5), which alone knows login classes. Of its second
//! field, the password, nothing is looked at.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};
use crate::path::escape;

/// The texts of account files; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// `etc/passwd`.
    pub passwd: Vec<u8>,
    /// `etc/group`.
    pub group: Vec<u8>,
    /// `etc/master.passwd`, which goes before `etc/passwd`.
    pub master: Vec<u8>,
}

/// An account, a group or a membership that is to be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// A group.
    Group {
        /// Its name.
        name: Vec<u8>,
        /// Its number.
        gid: u32,
    },
    /// An account; it gets no password.
    User(User),
    /// A user is a member of a group, besides the primary one.
    Member {
        /// The group's name.
        group: Vec<u8>,
        /// The user's name.
        user: Vec<u8>,
    },
}

impl Account {
    /// Its line in the manifest of a patch: `group:NAME:GID`, `user:NAME:UID:GID:CLASS:GECOS:HOME:SHELL` or
    /// `member:GROUP:USER`.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is not UTF-8.
    pub fn line(&self) -> Result<String> {
        let (uid, gid);
        let fields: Vec<&[u8]> = match self {
            Account::Group { name, gid: number } => {
                gid = number.to_string();
                vec![b"group", name, gid.as_bytes()]
            }
            Account::User(user) => {
                (uid, gid) = (user.uid.to_string(), user.gid.to_string());
                let User { name, class, gecos, home, shell, .. } = user;
                vec![b"user", name, uid.as_bytes(), gid.as_bytes(), class, gecos, home, shell]
            }
            Account::Member { group, user } => vec![b"member", group, user],
        };
        String::from_utf8(fields.join(&b':'))
            .map_err(|error| Error::new(ErrorKind::BadInput, "an account is not UTF-8").at(error.into_bytes()))
    }

    /// Reads such a line.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for anything else.
    pub fn parse(line: &str) -> Result<Account> {
        let fields: Vec<&[u8]> = line.split(':').map(str::as_bytes).collect();
        let account = match fields[..] {
            [b"group", name, gid] => number(gid).map(|gid| Account::Group { name: name.to_vec(), gid }),
            [b"user", name, uid, gid, class, gecos, home, shell] => number(uid).zip(number(gid)).map(|(uid, gid)| {
                let [name, class, gecos] = [name, class, gecos].map(<[u8]>::to_vec);
                Account::User(User { name, uid, gid, class, gecos, home: home.to_vec(), shell: shell.to_vec() })
            }),
            [b"member", group, user] if is_name(user) => {
                Some(Account::Member { group: group.to_vec(), user: user.to_vec() })
            }
            _ => None,
        };
        account
            .filter(|_| is_name(fields[1]) && !line.contains('\n'))
            .ok_or_else(|| Error::new(ErrorKind::BadInput, "no account").at(line))
    }
}

/// What is known of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Login name.
    pub name: Vec<u8>,
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Login class (OpenBSD); empty for the default one.
    pub class: Vec<u8>,
    /// Full name and the like.
    pub gecos: Vec<u8>,
    /// Home directory.
    pub home: Vec<u8>,
    /// Login shell.
    pub shell: Vec<u8>,
}

/// What became of the accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// What came, groups first.
    pub added: Vec<Account>,
    /// Changes that no entry tells of: what went, and what is no longer as it was. In words.
    pub untold: Vec<String>,
}

impl Accounts {
    /// The difference of two states of the files.
    pub fn between(before: &Files, after: &Files) -> Accounts {
        let mut accounts = Accounts::default();
        let (old, new) = (groups(&before.group), groups(&after.group));
        for (name, (gid, members)) in &new {
            let known = old.get(name);
            match known {
                None => accounts.added.push(Account::Group { name: name.clone(), gid: *gid }),
                Some((was, _)) if was != gid => accounts.tell("group", name, "has another number"),
                Some(_) => {}
            }
            let had = known.map(|(_, members)| members);
            let came = members.iter().filter(|user| had.is_none_or(|had| !had.contains(*user)));
            accounts.added.extend(came.map(|user| Account::Member { group: name.clone(), user: user.clone() }));
            if had.is_some_and(|had| !had.is_subset(members)) {
                accounts.tell("group", name, "lost a member");
            }
        }
        old.keys().filter(|name| !new.contains_key(*name)).for_each(|name| accounts.tell("group", name, "went"));
        let (old, new) = (users(before), users(after));
        for (name, user) in &new {
            match old.get(name) {
                None => accounts.added.push(Account::User(user.clone())),
                Some(was) if was != user => accounts.tell("account", name, "is not as it was"),
                Some(_) => {}
            }
        }
        old.keys().filter(|name| !new.contains_key(*name)).for_each(|name| accounts.tell("account", name, "went"));
        // A member must be there, and an account's group: groups, accounts, memberships.
        let rank = |account: &Account| match account {
            Account::Group { .. } => 0,
            Account::User(_) => 1,
            Account::Member { .. } => 2,
        };
        accounts.added.sort_by_key(rank);
        accounts
    }

    fn tell(&mut self, what: &str, name: &[u8], how: &str) {
        self.untold.push(format!("{what} {} {how}", escape(name)));
    }

    /// Did nothing come, and nothing else change?
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.untold.is_empty()
    }
}

type Groups = BTreeMap<Vec<u8>, (u32, BTreeSet<Vec<u8>>)>;

/// `name:password:gid:user,user`; of two lines for one name the first counts, as for the C library.
fn groups(text: &[u8]) -> Groups {
    let mut groups = Groups::new();
    for line in text.split(|&b| b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, _, gid, members] = fields[..] else { continue };
        let Some(gid) = number(gid).filter(|_| is_name(name)) else { continue };
        let members = members.split(|&b| b == b',').filter(|user| is_name(user)).map(<[u8]>::to_vec).collect();
        groups.entry(name.to_vec()).or_insert((gid, members));
    }
    groups
}

/// `name:password:uid:gid:gecos:home:shell`, or with `class:change:expire` before the gecos.
fn users(files: &Files) -> BTreeMap<Vec<u8>, User> {
    let text = if files.master.is_empty() { &files.passwd } else { &files.master };
    let mut users = BTreeMap::new();
    for line in text.split(|&b| b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let (name, uid, gid, class, rest) = match fields[..] {
            [name, _, uid, gid, ref rest @ ..] if rest.len() == 3 => (name, uid, gid, &b""[..], rest),
            [name, _, uid, gid, class, _, _, ref rest @ ..] if rest.len() == 3 => (name, uid, gid, class, rest),
            _ => continue,
        };
        let (Some(uid), Some(gid), true) = (number(uid), number(gid), is_name(name)) else { continue };
        let [gecos, home, shell] = [rest[0].to_vec(), rest[1].to_vec(), rest[2].to_vec()];
        let user = User { name: name.to_vec(), uid, gid, class: class.to_vec(), gecos, home, shell };
        users.entry(user.name.clone()).or_insert(user);
    }
    users
}

/// Lines of YP (`+`, `-`) and comments name nobody.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !b"+-#".contains(&name[0]) && !name.contains(&0)
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: [&str; 3], after: [&str; 3]) -> Vec<String> {
        let files = |[passwd, group, master]: [&str; 3]| Files {
            passwd: passwd.into(),
            group: group.into(),
            master: master.into(),
        };
        let accounts = Accounts::between(&files(before), &files(after));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let added = accounts.added.iter().map(|account| match account {
            Account::Group { name, gid } => format!("group {} {gid}", text(name)),
            Account::Member { group, user } => format!("{} in {}", text(user), text(group)),
            Account::User(User { name, uid, gid, class, gecos, home, shell }) => {
                let words = [name, class, gecos, home, shell].map(|word| text(word)).join(":");
                format!("user {uid} {gid} {words}")
            }
        });
        added.chain(accounts.untold).collect()
    }

    #[test]
    fn lines() {
        for line in ["group:g:1", "user:u:1:2:c:G,,:/h:/bin/sh", "user:u:1:2::::", "member:g:u"] {
            assert_eq!(Account::parse(line).unwrap().line().unwrap(), line);
        }
        for bad in [
            "",
            "group:g",
            "group::1",
            "group:g:x",
            "group:g:-1",
            "user:u:1:2:c:g:/h",
            "member:g:+u",
            "x:a:b",
            "group:g:1\n",
        ] {
            assert!(Account::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn table() {
        let root = "root:x:0:0:root:/root:/bin/sh\n";
        let www = "root:x:0:0:root:/root:/bin/sh\n_w:*:67:67:W,,:/var/www:/sbin/nologin\n";
        let master = "root:HASH:0:0:daemon:0:0:Charlie:/root:/bin/ksh\n";
        let both = "root:OTHER:0:0:daemon:0:0:Charlie:/root:/bin/ksh\n_a:SECRET:90:90:web:0:0:A:/a:/bin/sh\n";
        for (before, after, expect) in [
            ([root, "", ""], [root, "", ""], &[][..]),
            (
                [root, "root:x:0:\n", ""],
                [www, "root:x:0:\n_w:x:67:\n", ""],
                &["group _w 67", "user 67 67 _w::W,,:/var/www:/sbin/nologin"],
            ),
            (["", "a:x:1:u\n", ""], ["", "a:x:1:u,v\n", ""], &["v in a"]),
            (["", "a:x:1:u\n", ""], ["", "a:x:2:\n", ""], &["group a has another number", "group a lost a member"]),
            (["", "a:x:1:u\n", ""], ["", "", ""], &["group a went"]),
            ([www, "", ""], [root, "", ""], &["account _w went"]),
            // The class comes from master.passwd, and a password, new or changed, is nothing to tell.
            ([root, "", master], [root, "", both], &["user 90 90 _a:web:A:/a:/bin/sh"]),
            // What makes no sense does not exist.
            (
                ["", "", ""],
                ["+::::::\n#a:x:1:1:::\nb:x:-1:1:::\nc:x:1\n:x:1:1:::\nd:x:99999999999:1:::", "+:*::\ne:x:q:", ""],
                &[],
            ),
            (["", "", ""], ["a:x:1:1::/a:\na:x:2:2::/b:", "", ""], &["user 1 1 a:::/a:"]),
        ] {
            assert_eq!(told(before, after), expect, "{after:?}");
        }
    }
}
