// SPDX-License-Identifier: ISC
//! Ordinary users: root in a user namespace, with the numbers that subuid(5) and subgid(5) give them, else with their own
//! alone (decision S4).
#![forbid(unsafe_code)]

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Extent, IdMap, Stuck};

/// Where ranges are given away, and the programs that map them.
const RANGES: [(&str, &str); 2] = [("/etc/subuid", "newuidmap"), ("/etc/subgid", "newgidmap")];

/// Numbers above are of no use to any system.
const MOST: u32 = 1 << 31;

/// Turns the process of an ordinary user into root of a user namespace by executing it again there, with `home` as
/// `$STOCKADE_HOME`. Returns at once for root, and where user namespaces are forbidden. Call it while there is one
/// thread.
///
/// # Errors
/// The numbers cannot be mapped although the namespace is there.
pub fn become_root(home: &Path) -> Result<()> {
    if sys::effective_uid() == 0 {
        return Ok(());
    }
    match sys::enter_user_namespace(&map()) {
        Err(stuck) if stuck.operation == "unshare" => Ok(()),
        Err(Stuck { operation, error, .. }) => {
            let error = Error::io(operation, "", &error);
            Err(error.hint("look at /etc/subuid and /etc/subgid: a line is USER:FIRST:COUNT"))
        }
        Ok(outside) => Err(Error::io("execve", "/proc/self/exe", &sys::execute_again(home, outside))),
    }
}

/// The setting of [`sys::USER_NAMESPACE_SETTINGS`] that keeps ordinary users from making user namespaces, if one does.
pub fn forbidding() -> Option<&'static (&'static str, &'static str, &'static str)> {
    sys::USER_NAMESPACE_SETTINGS.iter().find(|(path, value, _)| read(path).trim() == *value)
}

/// Why an ordinary user cannot enter a chroot, with what allows it.
pub fn forbidden() -> Error {
    let error = Error::new(
        ErrorKind::Unsupported,
        "user namespaces are forbidden here: only root has the numbers of others and can enter a chroot",
    );
    match forbidding() {
        Some((_, _, allow)) => error.hint(format!("run it as root, or let root allow them: {allow}")),
        None => error.hint("run it with sudo or doas"),
    }
}

/// What is lost with a single number, if that is all there is.
pub fn lost() -> Option<String> {
    let single = sys::id_map().ok().filter(IdMap::is_single)?;
    let outside = single.users[0].outside;
    Some(format!(
        "user {outside} has no ranges of numbers: every entry belongs to it, whatever its owner should be; install uidmap, \
         and let root add lines for the user to /etc/subuid and /etc/subgid"
    ))
}

/// The numbers of this user: itself as root, then what it was given, in one row.
fn map() -> IdMap {
    let (user, group) = (sys::effective_uid(), sys::effective_gid());
    let name = user_name(&read("/etc/passwd"), user);
    let [users, groups] = RANGES.map(|(path, program)| match is_installed(program) {
        true => ranges(&read(path), name.as_deref(), user),
        false => Vec::new(),
    });
    if users.is_empty() || groups.is_empty() {
        return IdMap { users: row(user, &[]), groups: row(group, &[]) };
    }
    IdMap { users: row(user, &users), groups: row(group, &groups) }
}

fn read(path: &str) -> String {
    std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The user's own number is 0, the ranges follow from 1 on.
fn row(own: u32, ranges: &[(u32, u32)]) -> Vec<Extent> {
    let mut next = 1_u32;
    let mut extents = vec![Extent { inside: 0, outside: own, count: 1 }];
    for &(outside, count) in ranges {
        let count = count.min(MOST - next);
        if count > 0 {
            extents.push(Extent { inside: next, outside, count });
            next += count;
        }
    }
    extents
}

/// The lines of subuid(5) for a user, by name or number. Lines that make no sense are passed over, as the programs that
/// map numbers do.
fn ranges(text: &str, name: Option<&str>, user: u32) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let [who, first, count] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
        let (first, count): (u32, u32) = (first.trim().parse().ok()?, count.trim().parse().ok()?);
        let ours = Some(who) == name || who.parse() == Ok(user);
        (ours && count > 0 && first.checked_add(count - 1).is_some()).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

fn user_name(passwd: &str, user: u32) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(user))).map(|fields| fields[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_user() {
        const PASSWD: &str = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n\nbad\n";
        let name = user_name(PASSWD, 1000);
        assert_eq!((name.as_deref(), user_name(PASSWD, 7)), (Some("ann"), None));
        for (text, expect) in [
            ("", &[][..]),
            ("bob:100000:65536\n", &[]),
            ("ann:100000:65536\n", &[(100_000, 65536)]),
            ("bob:1:1\n1000:200000:5\nann:100000:65536\n", &[(200_000, 5), (100_000, 65536)]),
            ("ann:4294967295:2\nann:-1:5\nann:5:0\nann:5\nann:5:5:5\nann: 7 : 2 \n", &[(7, 2)]),
        ] {
            assert_eq!(ranges(text, name.as_deref(), 1000), expect, "{text:?}");
        }
    }

    #[test]
    fn ranges_make_a_row() {
        let shown = |ranges: &[(u32, u32)]| IdMap { users: row(9, ranges), groups: Vec::new() }.to_string();
        for (ranges, expect) in [
            (&[][..], "users 0 9 1; groups"),
            (&[(100, 5), (900, 2)], "users 0 9 1, 1 100 5, 6 900 2; groups"),
            (&[(0, u32::MAX), (7, 7)], "users 0 9 1, 1 0 2147483647; groups"),
        ] {
            assert_eq!(shown(ranges), expect);
        }
    }
}
