// SPDX-License-Identifier: ISC
//! What of a jail helps whoever breaks into its service, each finding with why it matters (decision 41).
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io::Read;

use super::CAPABILITIES;
use super::record::Record;
use crate::chroot::open::scan_root;
use crate::chroot::{Chroot, accounts, login};
use crate::error::{IoContext, Result};
use crate::path::{PathSet, TreePath};
use crate::select::closure::View;
use crate::sys::Dir;
use crate::tree::{Kind, Node};
use crate::watch::Watch;

/// Something in a chroot that is better mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: TreePath,
    /// What.
    pub what: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

const SETID: (&str, &str) = ("set-id bits or capabilities", "who breaks in gets by it what its owner may do");
const WORLD: (&str, &str) = ("writable by everybody", "whoever is inside can put there what others then trust");
const SERVICE: (&str, &str) = ("writable by the service", "a service that was broken into can change it, and stay");
const SECRET: (&str, &str) = ("a secret", "who breaks in reads it, and it may open more than this jail");
const DANGLING: (&str, &str) = ("a link to nothing", "what follows it fails, or somebody else puts something there");

/// Files with secrets in them, by their names.
const SECRETS: [&str; 9] = [
    "**/.pgpass",
    "**/.my.cnf",
    "**/.netrc",
    "**/*.keytab",
    "**/id_rsa",
    "**/id_ed25519",
    "**/id_ecdsa",
    "**/ssh_host_*_key",
    "etc/shadow-",
];
/// Where links lead that only a running system has.
const RUNNING: [&str; 6] = ["proc", "sys", "dev", "run", "var/run", "tmp"];
/// Keys are short.
const MAX_KEY: u64 = 64 << 10;

/// Looks at all of a chroot.
///
/// # Errors
/// As scanning it.
pub fn lint(chroot: &Chroot, watch: &Watch) -> Result<Vec<Finding>> {
    let tree = scan_root(&chroot.root, watch)?.tree;
    let (uids, gids) = services(chroot)?;
    let own = Record::read(&chroot.state)?.map(|record| record.own).unwrap_or_default();
    let is_own = |path: &TreePath| own.contains(path) || path.ancestors().any(|above| own.contains(&above));
    let (secrets, running) = (PathSet::new(SECRETS)?, PathSet::new(RUNNING)?);
    let view = View::new(&chroot.root)?;
    let mut findings = Vec::new();
    for node in tree.nodes() {
        let mut found = |(what, why)| findings.push(Finding { path: node.path.clone(), what, why });
        let (meta, file) = (&node.meta, matches!(node.kind, Kind::File { .. }));
        let xattrs = meta.xattrs.as_deref().map(Vec::as_slice).unwrap_or_default();
        if file && (meta.mode & 0o6000 != 0 || xattrs.iter().any(|(name, _)| &**name == CAPABILITIES)) {
            found(SETID);
        }
        if (file || node.kind.is_dir() && meta.mode & 0o1000 == 0) && meta.mode & 0o002 != 0 {
            found(WORLD);
        }
        let writes = uids.contains(&meta.uid) || gids.contains(&meta.gid) && meta.mode & 0o020 != 0;
        if (file || node.kind.is_dir()) && writes && !is_own(&node.path) {
            found(SERVICE);
        }
        if file && (secrets.names(&node.path) || is_key(&chroot.root, node)?) {
            found(SECRET);
        }
        if let Kind::Symlink(target) = &node.kind {
            let at = [b"/", node.path.as_bytes()].concat();
            let dangles = view.follow(&at).map_or(true, |found| found.end.is_none());
            let leads = target.strip_prefix(b"/").and_then(|target| TreePath::lenient(target).ok());
            if dangles && !is_own(&node.path) && !leads.is_some_and(|leads| running.covers(&leads)) {
                found(DANGLING);
            }
        }
    }
    Ok(findings)
}

/// Numbers of the accounts that services inside run as, and of their groups.
fn services(chroot: &Chroot) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    let passwd = login::read_below(&chroot.root, &TreePath::new(*b"etc/passwd")?)?.unwrap_or_default();
    let names = chroot.recipe()?.closure.map(|closure| closure.users).unwrap_or_default();
    let users = names.iter().filter_map(|name| accounts::find(&passwd, name.as_bytes())).filter(|user| user.uid != 0);
    Ok(users.map(|user| (user.uid, user.gid)).unzip())
}

/// Does the file hold a private key, or a password's hash?
fn is_key(root: &Dir, node: &Node) -> Result<bool> {
    let name = node.path.name();
    let likely = [&b".key"[..], b".pem", b"shadow"].iter().any(|end| name.ends_with(end));
    if !likely || node.size() > MAX_KEY {
        return Ok(false);
    }
    let dir = root.walk_parent(&node.path).on("open", &node.path)?;
    let Some(file) = dir.open_regular(name).on("open", &node.path)? else { return Ok(false) };
    let mut text = Vec::new();
    file.take(MAX_KEY).read_to_end(&mut text).on("read", &node.path)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.contains("PRIVATE KEY-----") || name == b"shadow" && text.contains(":$"))
}
