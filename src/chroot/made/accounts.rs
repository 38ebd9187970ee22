// SPDX-License-Identifier: ISC
//! passwd, group, shadow and gshadow: the accounts of base-passwd's masters, and the system accounts that the chosen
//! packages have on the host. Nobody has a password.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use super::{Input, Output};
use crate::error::Result;
use crate::path::TreePath;
use crate::select::packages::dpkg::INFO;

/// A line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    /// Comment, home and shell, as they stand in the line.
    rest: String,
}

/// A line of group(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The accounts of a chroot.
#[derive(Debug)]
pub(super) struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Accounts {
    /// Picks the accounts that the wanted tree needs.
    pub(super) fn of(input: &Input<'_>) -> Result<Accounts> {
        let master = |kind: &str| input.text(&format!("usr/share/base-passwd/{kind}.master"));
        let mut users = users(&master("passwd")?);
        let mut groups = groups(&master("group")?);
        let host_groups = self::groups(&input.text("etc/group")?);
        let scripts = scripts(input)?;
        let uids: HashSet<u32> = input.wanted.nodes().map(|node| node.meta.uid).collect();
        let gids: HashSet<u32> = input.wanted.nodes().map(|node| node.meta.gid).collect();

        for user in self::users(&input.text("etc/passwd")?) {
            let needed = uids.contains(&user.uid) || mentions(&scripts, &user.name);
            let known = users.iter().any(|u| u.name == user.name || u.uid == user.uid);
            if is_system(user.uid) && needed && !known {
                users.push(user);
            }
        }
        for group in &host_groups {
            let primary = users.iter().any(|user| user.gid == group.gid);
            let needed = primary || gids.contains(&group.gid) || mentions(&scripts, &group.name);
            let known = groups.iter().any(|g| g.name == group.name || g.gid == group.gid);
            if is_system(group.gid) && needed && !known {
                groups.push(group.clone());
            }
        }
        for group in &mut groups {
            let on_host = host_groups.iter().find(|g| g.name == group.name);
            group.members = on_host.map(|g| g.members.clone()).unwrap_or_default();
            group.members.retain(|member| users.iter().any(|user| user.name == *member));
        }
        Ok(Accounts { users, groups })
    }

    pub(super) fn has_user(&self, name: &str) -> bool {
        name.starts_with('#') || self.users.iter().any(|user| user.name == name)
    }

    pub(super) fn has_group(&self, name: &str) -> bool {
        name.starts_with('#') || self.groups.iter().any(|group| group.name == name)
    }

    fn gid(&self, name: &str) -> u32 {
        self.groups.iter().find(|group| group.name == name).map_or(0, |group| group.gid)
    }
}

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let accounts = Accounts::of(input)?;
    let (mut passwd, mut shadow) = (String::new(), String::new());
    for User { name, uid, gid, rest } in &accounts.users {
        let _ = writeln!(passwd, "{name}:x:{uid}:{gid}:{rest}");
        // Without the day of the last change, so that the same host gives the same file on every day.
        let _ = writeln!(shadow, "{name}:*::0:99999:7:::");
    }
    let (mut group, mut gshadow) = (String::new(), String::new());
    for Group { name, gid, members } in &accounts.groups {
        let members = members.join(",");
        let _ = writeln!(group, "{name}:x:{gid}:{members}");
        let _ = writeln!(gshadow, "{name}:*::{members}");
    }
    let to_shadow = (0, accounts.gid("shadow"));
    output.file("etc/passwd", 0o644, passwd)?;
    output.file("etc/group", 0o644, group)?;
    output.owned_file("etc/shadow", to_shadow, 0o640, shadow)?;
    output.owned_file("etc/gshadow", to_shadow, 0o640, gshadow)?;
    strangers(input, &accounts, output);
    Ok(())
}

/// Notes owners that the chroot has no name for, each once.
fn strangers(input: &Input<'_>, accounts: &Accounts, output: &mut Output) {
    let mut found: BTreeMap<(u32, u32), (&TreePath, u32)> = BTreeMap::new();
    for node in input.wanted.nodes() {
        let (uid, gid) = (node.meta.uid, node.meta.gid);
        let named = accounts.users.iter().any(|user| user.uid == uid) && accounts.groups.iter().any(|g| g.gid == gid);
        if !named {
            found.entry((uid, gid)).or_insert((&node.path, 0)).1 += 1;
        }
    }
    for ((uid, gid), (path, count)) in found {
        output.note(format!("no names for the owner {uid}:{gid} of {count} paths, the first is {path}"));
    }
}

/// The texts that make accounts: the chosen packages' scripts and their files for systemd-sysusers.
fn scripts(input: &Input<'_>) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for package in input.packages {
        for kind in ["preinst", "postinst"] {
            if let Some(name) = package.info.get(kind) {
                texts.push(input.text(&format!("{INFO}/{}", String::from_utf8_lossy(name)))?);
            }
        }
    }
    for path in input.wanted_below("usr/lib/sysusers.d")? {
        texts.push(input.text(&path)?);
    }
    Ok(texts)
}

/// Does any of `texts` hold `name` as a word?
fn mentions(texts: &[String], name: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_-.".contains(c));
    let whole = |text: &str| {
        text.match_indices(name)
            .any(|(at, _)| !in_word(text[..at].chars().next_back()) && !in_word(text[at + name.len()..].chars().next()))
    };
    !name.is_empty() && texts.iter().any(|text| whole(text))
}

/// Reads passwd(5); lines of another form (NIS, comments) are passed over.
fn users(text: &str) -> Vec<User> {
    let read = |line: &str| {
        let mut fields = line.splitn(5, ':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let rest = fields.next().filter(|rest| rest.matches(':').count() == 2)?;
        is_name(name).then(|| User { name: name.to_owned(), uid, gid, rest: rest.to_owned() })
    };
    text.lines().filter_map(read).collect()
}

/// Reads group(5), likewise.
fn groups(text: &str) -> Vec<Group> {
    let read = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _password, gid, members] = fields[..] else { return None };
        let members = members.split(',').filter(|member| is_name(member)).map(str::to_owned).collect();
        is_name(name).then(|| Some(Group { name: name.to_owned(), gid: gid.parse().ok()?, members }))?
    };
    text.lines().filter_map(read).collect()
}

/// Is it an id of the system, and not of a person? Debian gives 60000 to 64999 to packages.
fn is_system(id: u32) -> bool {
    id < 1000 || (60_000..65_000).contains(&id)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_lines_are_passed_over() {
        let text =
            "root:hash:0:0:root:/root:/bin/bash\n+::::::\n#x:x:1:1::/:/\na:x:1:x::/:/\nb:x:1:1:/\n_c:x:2:3:,,:/h:/s\n";
        let names: Vec<String> = users(text).into_iter().map(|u| format!("{} {} {}", u.name, u.uid, u.rest)).collect();
        assert_eq!(names, ["root 0 root:/root:/bin/bash", "_c 2 ,,:/h:/s"]);
        let found = groups("a:x:1:b,,c\n+:::\nd:x:2\ne:x:x:\n");
        assert_eq!(found, [Group { name: "a".into(), gid: 1, members: vec!["b".into(), "c".into()] }]);
    }

    #[test]
    fn a_name_is_mentioned_as_a_word() {
        for (text, want) in [
            ("adduser sshd", true),
            ("USER=sshd\n", true),
            ("sshd-session", false),
            ("_sshd", false),
            ("\"sshd\"", true),
            ("", false),
        ] {
            assert_eq!(mentions(&[text.to_owned()], "sshd"), want, "{text}");
        }
    }
}
