// SPDX-License-Identifier: ISC
//! Accounts in the wanted tree: what the sources bring, what was made inside, and what the recipe wants of the host,
//! merged; never overwritten. And the homes of the recipe's accounts.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::accounts::{self, Files, Wanted};
use super::host::Entries;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{Account, Recipe};
use crate::select::packages as selection;
use crate::sys::{self, Calls, Dir, FileType};
use crate::tree::{Digest, Kind, Meta, Node};

/// No account file and no dotfile is larger.
const MAX_FILE: u64 = 16 << 20;

/// The account files, and where each is in [`Files`].
pub(crate) const ACCOUNT_FILES: [&str; 5] =
    ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/master.passwd"];

/// Reads the account files, each by `read`.
pub(crate) fn files(mut read: impl FnMut(&TreePath) -> Result<Option<Vec<u8>>>) -> Result<Option<Files>> {
    let mut next = ACCOUNT_FILES.iter().map(|path| read(&TreePath::new(path.as_bytes())?));
    let mut one = || next.next().transpose().map(Option::flatten);
    let (passwd, group) = (one()?, one()?);
    let (shadow, gshadow, master) = (one()?, one()?, one()?);
    let Some(passwd) = passwd else { return Ok(None) };
    Ok(Some(Files { passwd, group: group.unwrap_or_default(), shadow, gshadow, master }))
}

/// A file below `root`, if it is a regular one; no symlink is followed.
pub(crate) fn read_below(root: &Dir, path: &TreePath) -> Result<Option<Vec<u8>>> {
    Ok(open_below(root, path, path)?.map(|(_, body)| body))
}

/// `shown` is its path for messages.
fn open_below(root: &Dir, path: &TreePath, shown: &TreePath) -> Result<Option<(crate::sys::Stat, Vec<u8>)>> {
    // A device would act on being opened: looked at first, and once more when it is open.
    let looked = root.walk_parent(path).and_then(|dir| Ok((dir.stat(path.name())?.kind, dir)));
    let (kind, dir): (FileType, Dir) = match looked {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        looked => looked.on("stat", shown)?,
    };
    if kind != FileType::File {
        return Err(Error::new(ErrorKind::Refused, "it is no regular file").at(shown));
    }
    let file: File = dir.open_file(path.name()).on("open", shown)?;
    let stat = dir.stat_file(&file).on("stat", shown)?;
    if stat.kind != FileType::File || stat.size > MAX_FILE {
        return Err(Error::new(ErrorKind::Refused, "it is no regular file of a sensible size").at(shown));
    }
    let mut body = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut body).on("read", shown)?;
    Ok(Some((stat, body)))
}

/// The account file `path` without its passwords: none fits any more.
pub(crate) fn without_passwords(path: &TreePath, text: &[u8]) -> Vec<u8> {
    // In passwd(5) the word says that another file has it.
    if path.as_bytes() == ACCOUNT_FILES[0].as_bytes() { text.to_vec() } else { accounts::without_passwords(text) }
}

/// Accounts that packages make when they are installed.
#[derive(Default)]
pub(crate) struct Named {
    /// Those of the system that the packages are of.
    pub(crate) theirs: Option<Files>,
    pub(crate) packages: Vec<selection::Accounts>,
}

impl Named {
    /// `source` with the accounts of the packages that it lacks; and what was done for each package.
    pub(crate) fn join(&self, source: &Files) -> (Files, Vec<String>) {
        let (mut files, mut notes) = (source.clone(), Vec::new());
        for package in &self.packages {
            if let Some(theirs) = &self.theirs {
                let (joined, more) = accounts::bring(&files, &accounts::part(theirs, &package.users, &package.groups));
                files = joined;
                notes.extend(more);
            }
            notes.extend(told(package, &files));
        }
        (files, notes)
    }
}

/// What a package has of its accounts, and what it lacks.
fn told(package: &selection::Accounts, files: &Files) -> Vec<String> {
    let users = package
        .users
        .iter()
        .map(|name| (format!("account {name}"), accounts::find(&files.passwd, name.as_bytes()).is_some()));
    let groups = package
        .groups
        .iter()
        .map(|name| (format!("group {name}"), accounts::find_group(&files.group, name.as_bytes()).is_some()));
    let (there, lacking): (Vec<_>, Vec<_>) = users.chain(groups).partition(|(_, there)| *there);
    let list = |all: Vec<(String, bool)>| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    let mut told = Vec::new();
    told.extend((!there.is_empty()).then_some(there).map(|all| format!("{} has {}", package.origin, list(all))));
    told.extend(
        (!lacking.is_empty())
            .then_some(lacking)
            .map(|all| format!("{} lacks {}: its system has none to take; add it inside", package.origin, list(all))),
    );
    told
}

/// Accounts as they shall be.
pub(crate) struct Merged {
    files: Files,
    pub(crate) notes: Vec<String>,
}

/// Merges: `have` is what the chroot has now, `source` what its sources bring.
pub(crate) fn merge(recipe: &Recipe, have: Option<&Files>, source: &Files) -> Result<Merged> {
    let (files, notes) = match have {
        Some(have) => accounts::bring(have, source),
        None => (source.clone(), Vec::new()),
    };
    if recipe.accounts.is_empty() {
        return Ok(Merged { files, notes });
    }
    let host = files_of_host()?;
    let wanted: Vec<Wanted> = recipe.accounts.iter().map(wanted).collect();
    Ok(Merged { files: accounts::merge(&files, &host, &wanted)?, notes })
}

fn wanted(account: &Account) -> Wanted {
    let (name, home, shell) = (account.name.clone(), account.home.clone(), account.shell.clone());
    Wanted { name, home, shell, ..Wanted::default() }
}

fn files_of_host() -> Result<Files> {
    let read = |path: &TreePath| {
        let path = Path::new("/").join(path.as_os_str());
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // The passwords are root's to read; nobody else's chroot has them.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
            body => body.map(Some).on("read", path.as_os_str().as_encoded_bytes()),
        }
    };
    files(read)?.ok_or_else(|| Error::new(ErrorKind::NotFound, "the host has no accounts").at("/etc/passwd"))
}

impl Merged {
    /// Number and group of an account.
    pub(crate) fn user(&self, name: &str) -> Option<(u32, u32)> {
        accounts::find(&self.files.passwd, name.as_bytes()).map(|user| (user.uid, user.gid))
    }

    /// The number of a group.
    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        accounts::find_group(&self.files.group, name.as_bytes())
    }

    /// The account files as entries: the metadata of `node`, which is the sources' entry for a path.
    pub(crate) fn entries(&self, node: impl Fn(&TreePath) -> Option<Node>) -> Result<Entries> {
        let Files { passwd, group, shadow, gshadow, master } = &self.files;
        let bodies = [Some(passwd), Some(group), shadow.as_ref(), gshadow.as_ref(), master.as_ref()];
        let mut entries = Vec::new();
        for (path, body) in ACCOUNT_FILES.iter().zip(bodies) {
            let Some(body) = body else { continue };
            let path = TreePath::new(path.as_bytes())?;
            let private = Meta { mode: 0o600, ..Meta::default() };
            let base = node(&path).unwrap_or_else(|| Node::new(path, private, Kind::Fifo));
            let digest = Some(Digest(Sha256::digest(body).into()));
            let kind = Kind::File { size: body.len() as u64, digest };
            entries.push((Node { kind, from: None, group: None, ..base }, body.clone()));
        }
        Ok(entries)
    }

    /// The homes of the recipe's accounts, with the dotfiles that it names.
    pub(crate) fn homes(&self, recipe: &Recipe, calls: Calls) -> Result<Entries> {
        let mut entries = Vec::new();
        for account in &recipe.accounts {
            let none = || Error::new(ErrorKind::NotFound, format!("no account {}", account.name));
            let user = accounts::find(&self.files.passwd, account.name.as_bytes()).ok_or_else(none)?;
            let home = TreePath::lenient(user.home)?;
            if home.is_root() {
                continue;
            }
            let origin: Arc<str> = format!("account {}", account.name).into();
            let meta = Meta { mode: 0o755, uid: user.uid, gid: user.gid, ..Meta::default() };
            let entry = |path, meta, kind| Node { origin: Some(Arc::clone(&origin)), ..Node::new(path, meta, kind) };
            entries.push((entry(home.clone(), meta, Kind::Dir), Vec::new()));
            let host_home = home_on_host(&account.name)?;
            let dir = if account.dotfiles.is_empty() { None } else { open_home(&host_home.1, calls)? };
            for dotfile in &account.dotfiles {
                let path = host_home.1.under(dotfile)?;
                let found = dir.as_ref().map_or(Ok(None), |dir| open_below(dir, dotfile, &path))?;
                let Some((stat, body)) = found else { continue };
                // Root reads here: a link or another's file in the home must not become readable inside.
                if Some(stat.uid) != host_home.0 {
                    return Err(Error::new(ErrorKind::Refused, "the dotfile belongs to somebody else").at(&path));
                }
                let meta = Meta { mode: stat.mode, uid: user.uid, gid: user.gid, mtime: stat.mtime, ..Meta::default() };
                let digest = Some(Digest(Sha256::digest(&body).into()));
                let kind = Kind::File { size: body.len() as u64, digest };
                entries.push((entry(home.under(dotfile)?, meta, kind), body));
            }
        }
        Ok(entries)
    }
}

/// Number, as files show it here, and home of an account of the host; no number if it has none here.
fn home_on_host(name: &str) -> Result<(Option<u32>, TreePath)> {
    let files = files_of_host()?;
    let none = || Error::new(ErrorKind::NotFound, format!("the host has no account {name}"));
    let user = accounts::find(&files.passwd, name.as_bytes()).ok_or_else(none)?;
    let number = sys::id_map().on("read", "/proc/self/uid_map")?.user(user.uid);
    Ok((number, TreePath::lenient(user.home)?))
}

/// Where the homes of the recipe's accounts are in the chroot: what is in them is their owners' (never removed).
pub(crate) fn homes_of(recipe: &Recipe) -> Result<Vec<TreePath>> {
    let home = |account: &Account| match &account.home {
        Some(home) => TreePath::lenient(home.as_bytes()),
        None => home_on_host(&account.name).map(|(_, home)| home),
    };
    let homes: Vec<TreePath> = recipe.accounts.iter().map(home).collect::<Result<_>>()?;
    Ok(homes.into_iter().filter(|home| !home.is_root()).collect())
}

/// A home on the host, if it is there. Its path is the administrator's word: links and mounts on the way are meant so.
fn open_home(home: &TreePath, calls: Calls) -> Result<Option<Dir>> {
    match Dir::open(&Path::new("/").join(home.as_os_str()), calls) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        dir => dir.map(Some).on("open", home),
    }
}
