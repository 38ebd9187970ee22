// SPDX-License-Identifier: ISC
//! The small files of a jail: accounts, name services, hosts, the loader's cache, and directories to write to.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::chroot::accounts::{self, User};
use crate::chroot::host::Entries;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};
use crate::recipe::{Closure, Purpose};
use crate::select::closure::search::Loader;
use crate::select::closure::{self, View, cache};
use crate::tree::{Digest, Kind, Meta, Node, Time};

/// No file that is read here is larger.
const MAX_FILE: u64 = 16 << 20;

/// Directories whose contents are the jail's own, besides those that policies name.
const OWN: [&str; 7] = ["tmp", "var/tmp", "run", "var/log", "root", "var/lib", "var/cache"];

/// Files that are made for a jail; the host's have more in them than it needs.
pub(super) const MADE: [&str; 6] =
    ["etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/hosts", "etc/resolv.conf", "etc/ld.so.cache"];

/// Directories of every jail: to write to, and to mount on.
const DIRECTORIES: [(&str, u16); 8] = [
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
    ("run", 0o755),
    ("root", 0o700),
    ("var/log", 0o755),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
];

const NAME_SERVICES: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
    protocols: files\nservices: files\nethers: files\nrpc: files\n";
const HOSTS: &str = "127.0.0.1 localhost\n";
const HOSTS_IPV6: &str = "::1 localhost ip6-localhost ip6-loopback\n";

/// What is being made.
struct Maker<'a> {
    entries: Entries,
    /// Paths that the closure brings: those are taken as they are.
    found: &'a closure::Closure,
    time: Time,
    /// Directories whose contents are the jail's own.
    own: BTreeSet<TreePath>,
}

/// The files and directories that a jail with these `nodes` gets, unless the closure brings them; and which of the
/// directories are for the jail itself to fill.
pub(super) fn files(
    view: &View,
    wanted: &Closure,
    found: &closure::Closure,
    nodes: &[Node],
) -> Result<(Entries, BTreeSet<TreePath>)> {
    // The same closure gives the same jail.
    let time = nodes.iter().filter(|node| !node.kind.is_dir()).map(|node| node.meta.mtime).max().unwrap_or_default();
    let own = OWN.iter().map(|own| TreePath::new(own.as_bytes())).collect::<Result<_>>()?;
    let mut maker = Maker { entries: Vec::new(), found, time, own };
    let read = |path: &str| view.read(path.as_bytes(), MAX_FILE).map(Option::unwrap_or_default);
    let (accounts, groups) = (read("/etc/passwd")?, read("/etc/group")?);
    let users = users(&accounts, wanted, found, nodes)?;
    let known = groups_of(&users, &groups, nodes);
    maker.file("etc/passwd", "accounts", passwd(&users, &shells(view, found, &users)?))?;
    maker.file("etc/group", "accounts", known)?;
    match wanted.host_nss {
        true => maker.host(view, "etc/nsswitch.conf")?,
        false => maker.file("etc/nsswitch.conf", "name services", NAME_SERVICES)?,
    }
    maker.file("etc/hosts", "hosts", hosts(&read("/etc/hostname")?, &read("/etc/hosts")?))?;
    maker.host(view, "etc/resolv.conf")?;
    if found.loaders.contains(&Loader::Glibc) {
        maker.file("etc/ld.so.cache", "the loader's cache", cache::write(&found.libraries, found.big))?;
    }
    for (dir, mode) in DIRECTORIES {
        maker.dir(dir, (0, 0), mode)?;
    }
    for dir in wanted.socket_dirs() {
        maker.dir(dir, (0, 0), 0o755)?;
    }
    if wanted.purpose != Some(Purpose::Httpd) {
        maker.link("var/run", "../run")?;
    }
    for user in users.iter().filter(|user| wanted.users.iter().any(|name| name.as_bytes() == user.name)) {
        let home = TreePath::lenient(user.home)?;
        // Some accounts of the system are at home where programs are: that is not theirs.
        let Some(dir) = view.follow(user.home)?.dir().cloned() else { continue };
        let is_own = view.stat(&dir)?.is_some_and(|stat| stat.uid == user.uid);
        if home.depth() > 1 && is_own {
            maker.dir(&home.to_string(), (user.uid, user.gid), 0o755)?;
            maker.own.insert(home);
        }
    }
    maker.temporary((&accounts, &groups))?;
    Ok((maker.entries, maker.own))
}

impl Maker<'_> {
    fn put(&mut self, path: &str, why: &str, mode: u16, (kind, body): (Kind, Vec<u8>)) -> Result<()> {
        let path = TreePath::lenient(path.as_bytes())?;
        if !self.found.entries.contains_key(&path) {
            let meta = Meta { mode, mtime: self.time, ..Meta::default() };
            let node = Node { origin: Some(format!("made: {why}").into()), ..Node::new(path, meta, kind) };
            self.entries.push((node, body));
        }
        Ok(())
    }

    fn file(&mut self, path: &str, why: &str, body: impl Into<Vec<u8>>) -> Result<()> {
        let body = body.into();
        let digest = Some(Digest(Sha256::digest(&body).into()));
        self.put(path, why, 0o644, (Kind::File { size: body.len() as u64, digest }, body))
    }

    /// A file with the content that the host's has now, whatever that is a link to (decision 35).
    fn host(&mut self, view: &View, path: &str) -> Result<()> {
        match view.read(format!("/{path}").as_bytes(), MAX_FILE)? {
            Some(body) => self.file(path, "the host's content", body),
            None => Ok(()),
        }
    }

    fn dir(&mut self, path: &str, (uid, gid): (u32, u32), mode: u16) -> Result<()> {
        let before = self.entries.len();
        self.put(path, "a directory of every jail", mode, (Kind::Dir, Vec::new()))?;
        for (node, _) in &mut self.entries[before..] {
            (node.meta.uid, node.meta.gid) = (uid, gid);
        }
        Ok(())
    }

    /// The directories that services find made for them.
    fn temporary(&mut self, (passwd, group): (&[u8], &[u8])) -> Result<()> {
        for dir in &self.found.temporary {
            let uid =
                dir.user.parse().ok().or_else(|| accounts::find(passwd, dir.user.as_bytes()).map(|user| user.uid));
            let gid = dir.group.parse().ok().or_else(|| accounts::find_group(group, dir.group.as_bytes()));
            // An account that is not there owns nothing.
            if let (Some(uid), Some(gid)) = (uid, gid) {
                self.dir(&dir.path.to_string(), (uid, gid), dir.mode)?;
                self.own.insert(dir.path.clone());
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.put(path, "as on the host", 0o777, (Kind::Symlink(target.as_bytes().into()), Vec::new()))
    }
}

/// hosts(5): this machine by its usual names, and its own at the address that the host's file has for it; by IPv6 only where
/// the host is, for that is tried first.
fn hosts(name: &[u8], of_host: &[u8]) -> String {
    let (name, of_host) = (String::from_utf8_lossy(name.trim_ascii()), String::from_utf8_lossy(of_host));
    let lines = || of_host.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    let address = |mut words: std::str::SplitWhitespace<'_>| words.next().map(str::to_owned);
    let six = if lines().filter_map(address).any(|address| address == "::1") { HOSTS_IPV6 } else { "" };
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    if !plain {
        return format!("{HOSTS}{six}");
    }
    let own = lines().find(|words| words.clone().skip(1).any(|word| word == name)).and_then(address);
    let own = own.filter(|own| own.parse::<std::net::IpAddr>().is_ok());
    format!("{HOSTS}{six}{} {name}\n", own.as_deref().unwrap_or("127.0.1.1"))
}

/// The accounts: root, those that are asked for or that policies name, and the owners of what is there.
fn users<'a>(passwd: &'a [u8], wanted: &Closure, found: &closure::Closure, nodes: &[Node]) -> Result<Vec<User<'a>>> {
    let owners: BTreeSet<u32> = nodes.iter().map(|node| node.meta.uid).collect();
    let mut users: Vec<User<'a>> = Vec::new();
    for user in accounts::users(passwd) {
        let is = |name: &String| name.as_bytes() == user.name;
        let named = wanted.users.iter().any(is) || found.users.iter().any(is);
        // Several names may have the number 0; only root has to be there.
        if user.name == b"root" || named || (user.uid != 0 && owners.contains(&user.uid)) {
            users.push(user);
        }
    }
    if let Some(name) = wanted.users.iter().find(|name| !users.iter().any(|user| user.name == name.as_bytes())) {
        return Err(Error::new(ErrorKind::NotFound, format!("the host has no account {name}")).at("/etc/passwd"));
    }
    Ok(users)
}

/// The groups of these users and of what is there, as a file.
fn groups_of(users: &[User<'_>], group: &[u8], nodes: &[Node]) -> String {
    let mut gids: BTreeSet<u32> = nodes.iter().map(|node| node.meta.gid).collect();
    gids.extend(users.iter().map(|user| user.gid));
    let mut groups = String::new();
    for line in String::from_utf8_lossy(group).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { continue };
        let inside = |member: &&str| users.iter().any(|user| user.name == member.as_bytes());
        let members: Vec<&str> = members.split(',').filter(inside).collect();
        if gid.parse().is_ok_and(|gid| gids.contains(&gid)) || !members.is_empty() {
            groups.push_str(&format!("{name}:*:{gid}:{}\n", members.join(",")));
        }
    }
    groups
}

/// The shell of each account: its own if the jail has it, else the plain one, else none that lets anybody in.
fn shells(view: &View, found: &closure::Closure, users: &[User<'_>]) -> Result<Vec<Vec<u8>>> {
    let has = |path: &[u8]| -> Result<bool> {
        let there = view.follow(path)?;
        let mut way = there.links.iter().chain(there.file());
        Ok(there.file().is_some() && way.all(|path| found.entries.contains_key(path)))
    };
    let plain = if has(b"/bin/sh")? { b"/bin/sh".to_vec() } else { b"/usr/sbin/nologin".to_vec() };
    let lets_nobody_in = |shell: &[u8]| shell.ends_with(b"/nologin") || shell.ends_with(b"/false");
    let shell = |user: &User<'_>| {
        // An empty one is /bin/sh.
        let kept = user.shell.is_empty() || lets_nobody_in(user.shell) || has(user.shell)?;
        Ok(if kept { user.shell.to_vec() } else { plain.clone() })
    };
    users.iter().map(shell).collect()
}

/// passwd(5), without anybody's password.
fn passwd(users: &[User<'_>], shells: &[Vec<u8>]) -> String {
    let line = |(user, shell): (&User<'_>, &Vec<u8>)| {
        let text = |bytes: &[u8]| escape(bytes);
        let (name, gecos, home, shell) = (text(user.name), text(user.gecos), text(user.home), text(shell));
        format!("{name}:*:{}:{}:{gecos}:{home}:{shell}\n", user.uid, user.gid)
    };
    users.iter().zip(shells).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_by_its_names() {
        let six = "::1 localhost ip6-localhost ip6-loopback\n";
        for (name, of_host, want) in [
            ("vm\n", "127.0.0.1 localhost\n127.0.0.1 vm\n", "127.0.0.1 localhost\n127.0.0.1 vm\n".to_owned()),
            ("vm", "::1 localhost # vm\n", format!("127.0.0.1 localhost\n{six}127.0.1.1 vm\n")),
            ("vm", "10.0.0.7\tx vm\n", "127.0.0.1 localhost\n10.0.0.7 vm\n".to_owned()),
            ("vm", "bad vm\n", "127.0.0.1 localhost\n127.0.1.1 vm\n".to_owned()),
            ("a b", "", "127.0.0.1 localhost\n".to_owned()),
            ("", "", "127.0.0.1 localhost\n".to_owned()),
        ] {
            assert_eq!(hosts(name.as_bytes(), of_host.as_bytes()), want, "{name:?} {of_host:?}");
        }
    }
}
