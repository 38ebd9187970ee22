// SPDX-License-Identifier: ISC
//! Accounts of the host merged into a chroot's files: passwd(5), group(5), shadow(5), gshadow(5), master.passwd(5).
//!
//! Text in, text out. What is there stays byte for byte and in its order; what is new is appended in the order it was
//! asked for. An account or group that the chroot has under the same name is the chroot's own and is left alone; a
//! number that it gave to another name is a conflict.
#![forbid(unsafe_code)]

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::escape;

/// The account files of one system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// `etc/passwd`.
    pub passwd: Vec<u8>,
    /// `etc/group`.
    pub group: Vec<u8>,
    /// `etc/shadow`, if the system has one.
    pub shadow: Option<Vec<u8>>,
    /// `etc/gshadow`, if the system has one.
    pub gshadow: Option<Vec<u8>>,
    /// `etc/master.passwd` (OpenBSD), if the system has one.
    pub master: Option<Vec<u8>>,
}

/// An account of the host that the chroot shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its name on the host, and in the chroot.
    pub name: String,
    /// Its home, if not the host's.
    pub home: Option<String>,
    /// Its shell, if not the host's.
    pub shell: Option<String>,
    /// Groups of the host that it shall be a member of, besides its primary one.
    pub groups: Vec<String>,
    /// Take its password hash along. Without this no password fits.
    pub password: bool,
}

/// What passwd(5) says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User<'a> {
    /// Login name.
    pub name: &'a [u8],
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Full name and the like.
    pub gecos: &'a [u8],
    /// Home directory.
    pub home: &'a [u8],
    /// Login shell.
    pub shell: &'a [u8],
}

/// What no password hashes to.
const NO_PASSWORD: &[u8] = b"*";

/// The account `name` in the text of a passwd file.
pub fn find<'a>(passwd: &'a [u8], name: &[u8]) -> Option<User<'a>> {
    users(passwd).find(|user| user.name == name)
}

/// The number of the group `name` in the text of a group file.
pub fn find_group(group: &[u8], name: &[u8]) -> Option<u32> {
    groups(group).find(|group| group.name == name).map(|group| group.gid)
}

/// A file with passwords in its second fields without them: what no password hashes to stands there.
pub fn without_passwords(text: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| {
        let mut fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        if let [_, password, _, ..] = &mut fields[..] {
            *password = NO_PASSWORD;
        }
        fields.join(&b':')
    };
    lines(text).map(line).collect::<Vec<_>>().join(&b'\n')
}

/// The files of the chroot, `have`, with the accounts `wanted` from `host`.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an account or group that the host lacks; [`ErrorKind::Refused`] where the chroot gave a
/// number to another name, naming both; [`ErrorKind::Usage`] for a home or shell that cannot stand in a line.
pub fn merge(have: &Files, host: &Files, wanted: &[Wanted]) -> Result<Files> {
    let mut files = have.clone();
    for want in wanted {
        add(&mut files, host, want)?;
    }
    Ok(files)
}

/// The files of the chroot, `have`, with whatever accounts and groups its sources bring that it lacks; what cannot be
/// added is returned in words.
pub fn bring(have: &Files, source: &Files) -> (Files, Vec<String>) {
    let (mut files, mut notes) = (have.clone(), Vec::new());
    for group in groups(&source.group) {
        if let Err(error) = have_group(&mut files, &group) {
            notes.push(format!("group {} is not added: {}", escape(group.name), error.reason()));
        }
    }
    for user in users(&source.passwd) {
        let want = Wanted { name: String::from_utf8_lossy(user.name).into_owned(), ..Wanted::default() };
        if let Err(error) = add(&mut files, source, &want) {
            notes.push(format!("account {} is not added: {}", want.name, error.reason()));
        }
    }
    (files, notes)
}

/// The part of `files` that the accounts and groups with these names are, primary groups with them.
pub fn part(files: &Files, named: &[String], named_groups: &[String]) -> Files {
    let is_named = |names: &[String], name: &[u8]| names.iter().any(|known| known.as_bytes() == name);
    let primary: Vec<u32> =
        users(&files.passwd).filter(|user| is_named(named, user.name)).map(|user| user.gid).collect();
    let with = |group: &Group<'_>| is_named(named_groups, group.name) || primary.contains(&group.gid);
    let in_groups: Vec<&[u8]> = groups(&files.group).filter(with).map(|group| group.name).collect();
    let only = |text: &[u8], keep: &dyn Fn(&[u8]) -> bool| {
        let name = |line: &[u8]| line.split(|&b| b == b':').next().is_some_and(keep);
        lines(text).filter(|line| name(line)).map(|line| [line, b"\n"].concat()).collect::<Vec<_>>().concat()
    };
    let (of_user, of_group) = (|name: &[u8]| is_named(named, name), |name: &[u8]| in_groups.contains(&name));
    Files {
        passwd: only(&files.passwd, &of_user),
        group: only(&files.group, &of_group),
        shadow: None,
        gshadow: None,
        master: files.master.as_ref().map(|text| only(text, &of_user)),
    }
}

/// The files of a root, `have`, with all accounts and groups of `source`, and these members (user, group).
///
/// # Errors
/// [`ErrorKind::Refused`] where the root gave a number to another name, naming both; [`ErrorKind::NotFound`] for a member
/// of a group that is nowhere.
pub fn enrol(have: &Files, source: &Files, members: &[(&[u8], &[u8])]) -> Result<Files> {
    let mut files = have.clone();
    for group in groups(&source.group) {
        have_group(&mut files, &group)?;
    }
    for user in users(&source.passwd) {
        let want = Wanted { name: String::from_utf8_lossy(user.name).into_owned(), ..Wanted::default() };
        add(&mut files, source, &want)?;
    }
    for (user, group) in members {
        join(&mut files, source, user, &String::from_utf8_lossy(group))?;
    }
    Ok(files)
}

fn add(files: &mut Files, host: &Files, want: &Wanted) -> Result<()> {
    let name = want.name.as_bytes();
    if find(&files.passwd, name).is_some() {
        return Ok(());
    }
    let Some(mut user) = find(&host.passwd, name) else {
        return Err(Error::new(ErrorKind::NotFound, format!("the host has no account {}", want.name)).at("etc/passwd"));
    };
    if let Some(other) = users(&files.passwd).find(|other| other.uid == user.uid) {
        return Err(taken("etc/passwd", ("user", user.uid), name, other.name));
    }
    for (place, text) in [(&mut user.home, &want.home), (&mut user.shell, &want.shell)] {
        if let Some(text) = text {
            *place = plain(text)?;
        }
    }
    if let Some(group) = groups(&host.group).find(|group| group.gid == user.gid) {
        // By name: where the chroot has it under another number, that number is the right one in there.
        user.gid = have_group(files, &group)?;
    }
    append_user(files, host, &user, want.password)?;
    want.groups.iter().try_for_each(|group| join(files, host, name, group))
}

/// Appends the lines of a new account, but none that a file has already.
fn append_user(files: &mut Files, host: &Files, user: &User<'_>, password: bool) -> Result<()> {
    if password && files.shadow.is_none() && files.master.is_none() {
        bail!(Refused, "the chroot has no shadow file to hold the password of {}", escape(user.name));
    }
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    if let Some(shadow) = files.shadow.as_mut().filter(|text| entry(text, user.name).is_none()) {
        match host.shadow.as_deref().filter(|_| password).and_then(|text| entry(text, user.name)) {
            Some(line) => append(shadow, &[line]),
            None => append(shadow, &[user.name, NO_PASSWORD, b"::::::"]),
        }
    }
    if let Some(master) = files.master.as_mut().filter(|text| entry(text, user.name).is_none()) {
        let line = host.master.as_deref().and_then(|text| entry(text, user.name));
        let field = |n| line.and_then(|line| line.split(|&b| b == b':').nth(n));
        let hash = field(1).filter(|_| password).unwrap_or(NO_PASSWORD);
        let class = field(4).unwrap_or_default();
        let (uid, gid) = (uid.as_bytes(), gid.as_bytes());
        append(master, &[user.name, hash, uid, gid, class, b"0", b"0", user.gecos, user.home, user.shell]);
    }
    // Where another file holds the password, passwd says so.
    let mark = if files.shadow.is_some() { b"x" } else { NO_PASSWORD };
    let line = [user.name, mark, uid.as_bytes(), gid.as_bytes(), user.gecos, user.home, user.shell];
    append(&mut files.passwd, &line);
    Ok(())
}

/// Makes sure that the chroot has `group`; its number there.
fn have_group(files: &mut Files, group: &Group<'_>) -> Result<u32> {
    if let Some(own) = groups(&files.group).find(|own| own.name == group.name) {
        return Ok(own.gid);
    }
    if let Some(other) = groups(&files.group).find(|other| other.gid == group.gid) {
        return Err(taken("etc/group", ("group", group.gid), group.name, other.name));
    }
    let mark = if files.gshadow.is_some() { b"x" } else { NO_PASSWORD };
    append(&mut files.group, &[group.name, mark, group.gid.to_string().as_bytes(), b""]);
    if let Some(gshadow) = files.gshadow.as_mut().filter(|text| entry(text, group.name).is_none()) {
        append(gshadow, &[group.name, NO_PASSWORD, b"", b""]);
    }
    Ok(group.gid)
}

/// Makes the account `name` a member of `group`.
fn join(files: &mut Files, host: &Files, name: &[u8], group: &str) -> Result<()> {
    let known = groups(&files.group).any(|own| own.name == group.as_bytes());
    if !known {
        let Some(found) = groups(&host.group).find(|found| found.name == group.as_bytes()) else {
            return Err(Error::new(ErrorKind::NotFound, format!("the host has no group {group}")).at("etc/group"));
        };
        have_group(files, &found)?;
    }
    for text in [Some(&mut files.group), files.gshadow.as_mut()].into_iter().flatten() {
        add_member(text, group.as_bytes(), name);
    }
    Ok(())
}

/// Appends `name` to the members, the last field of the line of `group`.
fn add_member(text: &mut Vec<u8>, group: &[u8], name: &[u8]) {
    let Some(line) = entry(text, group) else { return };
    let members = line.rsplit(|&b| b == b':').next().unwrap_or_default();
    if members.split(|&b| b == b',').any(|member| member == name) {
        return;
    }
    let end = line.as_ptr() as usize - text.as_ptr() as usize + line.len();
    let more = if members.is_empty() { name.to_vec() } else { [b",", name].concat() };
    text.splice(end..end, more);
}

/// Appends a line made of `fields`; a last line without its end gets one first.
fn append(text: &mut Vec<u8>, fields: &[&[u8]]) {
    if text.last().is_some_and(|&b| b != b'\n') {
        text.push(b'\n');
    }
    text.extend(fields.join(&b':'));
    text.push(b'\n');
}

fn taken(path: &str, (what, number): (&str, u32), name: &[u8], other: &[u8]) -> Error {
    let (name, other) = (escape(name), escape(other));
    let reason = format!("{what} number {number} of {name} belongs to {other} in the chroot");
    let hint = format!("leave {name} out of the recipe's accounts, or give {other} another number inside");
    Error::new(ErrorKind::Refused, reason).at(path).hint(hint)
}

/// A home or shell out of a recipe.
fn plain(text: &str) -> Result<&[u8]> {
    if !text.starts_with('/') || text.contains(|c: char| c == ':' || c.is_control()) {
        bail!(Usage, "{text:?} cannot be a home or a shell: an absolute path without colon is needed");
    }
    Ok(text.as_bytes())
}

/// A line of group(5).
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n')
}

/// The line whose first field is `name`.
fn entry<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(text).find(|line| line.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b':')))
}

/// The accounts in a passwd file; lines of another form (comments, NIS) are none.
pub(crate) fn users(text: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(text).filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, _, uid, gid, gecos, home, shell] = fields[..] else { return None };
        Some(User { name, uid: number(uid)?, gid: number(gid)?, gecos, home, shell })
    })
}

fn groups(text: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(text).filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let [name, _, gid, _] = fields[..] else { return None };
        Some(Group { name, gid: number(gid)? })
    })
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Files {
        Files {
            passwd: b"root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann B,,,:/home/ann:/bin/zsh\n\
                bob:x:1001:100:Bob:/home/bob:/bin/sh\neve:x:1002:4711::/home/eve:\n"
                .into(),
            group: b"root:x:0:\nann:x:1000:\nusers:x:100:bob\nsrc:x:40:\nvideo:x:44:ann,bob\n".into(),
            shadow: Some(b"root:$y$secret:1:0:99999:7:::\nann:$y$hash:19000:0:99999:7:::\n".into()),
            gshadow: Some(b"root:*::\nann:!::\n".into()),
            master: None,
        }
    }

    fn chroot() -> Files {
        Files {
            passwd: b"root:x:0:0:root:/root:/bin/bash\n# odd line \xff\n+::::::".into(),
            group: b"root:x:0:\nusers:x:100:\nvideo:x:44:carl\n".into(),
            shadow: Some(b"root:*:19000:0:99999:7:::\n".into()),
            gshadow: Some(b"root:*::\nusers:*::\nvideo:*::carl\n".into()),
            master: None,
        }
    }

    fn want(name: &str) -> Wanted {
        Wanted { name: name.into(), ..Wanted::default() }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn sources_bring_what_the_chroot_lacks() {
        let source = Files {
            passwd: b"root:x:0:0:other:/:/bin/sh\nnew:x:5:6::/new:/bin/sh\n".into(),
            group: b"clash:x:100:\nnew:x:6:\n".into(),
            ..Files::default()
        };
        let (files, notes) = bring(&chroot(), &source);
        assert_eq!(text(&files.passwd), text(&[&*chroot().passwd, b"\nnew:x:5:6::/new:/bin/sh\n"].concat()));
        assert!(text(&files.group).ends_with("new:x:6:\n"));
        assert_eq!(notes, ["group clash is not added: group number 100 of clash belongs to users in the chroot"]);
        assert_eq!(bring(&files, &source).0, files);
    }

    #[test]
    fn what_is_there_stays_and_what_is_new_follows() {
        let asked = [
            Wanted { groups: vec!["video".into(), "src".into(), "video".into()], ..want("ann") },
            Wanted { home: Some("/h".into()), shell: Some("/bin/ksh".into()), ..want("bob") },
            want("eve"),
            want("ann"),
            want("root"),
        ];
        let (have, got) = (chroot(), merge(&chroot(), &host(), &asked).unwrap());
        let passwd = "\nann:x:1000:1000:Ann B,,,:/home/ann:/bin/zsh\nbob:x:1001:100:Bob:/h:/bin/ksh\neve:x:1002:4711::/home/eve:\n";
        assert_eq!(got.passwd, [have.passwd.as_slice(), passwd.as_bytes()].concat());
        assert_eq!(text(&got.group), "root:x:0:\nusers:x:100:\nvideo:x:44:carl,ann\nann:x:1000:\nsrc:x:40:ann\n");
        let shadow = "ann:*:::::::\nbob:*:::::::\neve:*:::::::\n";
        assert_eq!(
            got.shadow.as_deref(),
            Some([have.shadow.as_deref().unwrap(), shadow.as_bytes()].concat().as_slice())
        );
        assert_eq!(text(&got.gshadow.unwrap()), "root:*::\nusers:*::\nvideo:*::carl,ann\nann:*::\nsrc:*::ann\n");
        assert_eq!(merge(&have, &host(), &[]).unwrap(), have);
    }

    #[test]
    fn merging_twice_changes_nothing_more() {
        let asked = [Wanted { groups: vec!["src".into()], ..want("ann") }, want("bob")];
        let once = merge(&chroot(), &host(), &asked).unwrap();
        assert_eq!(merge(&once, &host(), &asked).unwrap(), once);
    }

    #[test]
    fn the_chroots_own_win() {
        let have = Files {
            passwd: b"ann:x:5000:5::/own:/bin/own\n".into(),
            group: b"users:x:900:\nmine:x:1000:\n".into(),
            ..Files::default()
        };
        let got = merge(&have, &host(), &[want("ann"), want("bob")]).unwrap();
        // Bob's group has another number inside.
        assert_eq!(text(&got.passwd), "ann:x:5000:5::/own:/bin/own\nbob:*:1001:900:Bob:/home/bob:/bin/sh\n");
        assert_eq!((got.group, got.shadow), (have.group, None));
    }

    #[test]
    fn passwords_are_taken_out() {
        for (with, without) in [
            ("root:$2b$x:0:0:daemon:0:0:C &:/root:/bin/ksh\n", "root:*:0:0:daemon:0:0:C &:/root:/bin/ksh\n"),
            ("a::1:2\nb:*:3:4", "a:*:1:2\nb:*:3:4"),
            ("# comment\n+\na:b\n\n", "# comment\n+\na:b\n\n"),
        ] {
            assert_eq!(text(&without_passwords(with.as_bytes())), without);
        }
        assert_eq!(find_group(b"a:*:1:\nbc:*:22:x\n", b"bc"), Some(22));
    }

    #[test]
    fn passwords_only_when_asked() {
        let asked = [Wanted { password: true, ..want("ann") }, Wanted { password: true, ..want("bob") }];
        let got = merge(&chroot(), &host(), &asked).unwrap();
        assert!(text(&got.shadow.unwrap()).ends_with("\nann:$y$hash:19000:0:99999:7:::\nbob:*:::::::\n"));
        let bare = Files { shadow: None, ..chroot() };
        assert_eq!(merge(&bare, &host(), &asked).unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn openbsd_has_the_password_in_the_master() {
        let host = Files {
            passwd: b"ann:*:1000:1000:Ann:/home/ann:/bin/ksh\n".into(),
            group: b"ann:*:1000:\n".into(),
            master: Some(b"ann:$2b$10$hash:1000:1000:staff:0:0:Ann:/home/ann:/bin/ksh\n".into()),
            ..Files::default()
        };
        let have = Files { master: Some(b"root:*:0:0:daemon:0:0::/root:/bin/ksh\n".into()), ..Files::default() };
        for (password, hash) in [(false, "*"), (true, "$2b$10$hash")] {
            let got = merge(&have, &host, &[Wanted { password, ..want("ann") }]).unwrap();
            let line = format!(
                "root:*:0:0:daemon:0:0::/root:/bin/ksh\nann:{hash}:1000:1000:staff:0:0:Ann:/home/ann:/bin/ksh\n"
            );
            assert_eq!(text(&got.master.unwrap()), line);
            assert_eq!((text(&got.passwd), text(&got.group)), (text(&host.passwd), text(&host.group)));
        }
    }

    #[test]
    fn conflicts_and_mistakes() {
        let uid = Files { passwd: b"zoe:x:1000:7::/:\n".into(), ..Files::default() };
        let gid = Files { group: b"zoe:x:1000:\n".into(), ..Files::default() };
        let src = Files { group: b"zoe:x:40:\n".into(), ..Files::default() };
        let grouped = |group: &str| Wanted { groups: vec![group.into()], ..want("ann") };
        for (have, want, kind, says) in [
            (&uid, want("ann"), ErrorKind::Refused, "user number 1000 of ann belongs to zoe in the chroot"),
            (&gid, want("ann"), ErrorKind::Refused, "group number 1000 of ann belongs to zoe in the chroot"),
            (&src, grouped("src"), ErrorKind::Refused, "group number 40 of src belongs to zoe in the chroot"),
            (&chroot(), want("nobody"), ErrorKind::NotFound, "the host has no account nobody"),
            (&chroot(), grouped("none"), ErrorKind::NotFound, "the host has no group none"),
            (&chroot(), Wanted { home: Some("/a:b".into()), ..want("ann") }, ErrorKind::Usage, "\"/a:b\" cannot be"),
            (
                &chroot(),
                Wanted { shell: Some("/a\nb".into()), ..want("ann") },
                ErrorKind::Usage,
                "\"/a\\nb\" cannot be",
            ),
            (&chroot(), Wanted { home: Some("rel".into()), ..want("ann") }, ErrorKind::Usage, "\"rel\" cannot be"),
        ] {
            let error = merge(have, &host(), &[want]).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.reason().starts_with(says), "{error}");
        }
    }

    #[test]
    fn stale_lines_are_not_doubled() {
        let stale = b"ann:!old:1::::::\n".to_vec();
        let got = merge(&Files { shadow: Some(stale.clone()), ..Files::default() }, &host(), &[want("ann")]).unwrap();
        assert_eq!(got.shadow, Some(stale));
    }

    #[test]
    fn odd_lines_are_no_accounts() {
        for line in ["", "a:x:1:2::/", "a:x:-1:2::/:", "a:x:+1:2::/:", "a:x::2::/:", "a:x:4294967296:2::/:", "+a::::::"]
        {
            assert_eq!(users(line.as_bytes()).count(), 0, "{line}");
        }
        assert!(entry(b"annab:x:1\n", b"ann").is_none());
    }
}
