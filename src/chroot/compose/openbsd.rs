// SPDX-License-Identifier: ISC
//! What recipes of OpenBSD take: release sets, what locate databases list, entries that are made.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Composer;
use crate::chroot::layer::Content;
use crate::chroot::login::{self, Merged};
use crate::chroot::place::bytes;
use crate::chroot::sets::Sets;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{PathSet, TreePath};
use crate::recipe::{Made, Make};
use crate::select::locate::{self, Listing};
use crate::select::packages::Host;
use crate::source::dir::{ScanOptions, scan_paths};
use crate::sys::{self, Dir};
use crate::tree::{Kind, Meta, Node, Tree};

/// What a system keeps to itself, and what is made anew of the chroot's own files.
const NEVER_TAKEN: [&str; 10] = [
    "etc/pwd.db",
    "etc/spwd.db",
    "etc/random.seed",
    "etc/soii.key",
    "etc/hostname.*",
    "etc/ssh/ssh_host_*",
    "etc/ssl/private/*",
    "etc/iked/private/*",
    "etc/isakmpd/private/*",
    "var/db/host.random",
];
/// The origin of what the recipe makes.
const RECIPE: &str = "recipe";
/// Where a system has its libraries.
const LIBRARIES: [&str; 2] = ["usr/lib", "usr/X11R6/lib"];

impl Composer<'_> {
    /// Lays the release sets, one after the other.
    pub(super) fn sets(&mut self, sets: &Sets, into: &TreePath) -> Result<()> {
        match &self.recipe.release {
            Some(said) if sets.verify.is_some() && *said != sets.release => {
                let reason =
                    format!("the recipe says release {said}, and the sets that were signed are of {}", sets.release);
                let hint = "leave release out: the sets tell; or take the sets of that release";
                return Err(Error::new(ErrorKind::Refused, reason).hint(hint));
            }
            _ => drop(self.release.get_or_insert_with(|| sets.release.clone())),
        }
        sets.archives.iter().try_for_each(|archive| self.archive(archive, sets.verify.as_ref(), into))
    }

    /// Takes what the databases list out of the system at `directory`.
    ///
    /// Passwords stay behind, and nothing is hard-linked: a write inside never reaches the system.
    pub(super) fn listed(
        &mut self,
        directory: &Path,
        from: (&[PathBuf], &[String], &[TreePath]),
        into: &TreePath,
    ) -> Result<()> {
        let (databases, sets, more) = from;
        let root = Dir::open(directory, self.calls).on("open", bytes(directory))?.crossing();
        let mut listing = Listing::default();
        for database in databases {
            let one = Listing::parse(&read_database(database)?).and_then(|one| listing.join(one));
            one.map_err(|error| error.at(bytes(database)))?;
        }
        if let Some(release) = &listing.release {
            self.release.get_or_insert_with(|| release.clone());
        }
        let mut present = Vec::new();
        let host = Host::new(&root)?;
        for library in LIBRARIES {
            let at = TreePath::new(library.as_bytes())?;
            for name in host.list(&at)? {
                present.push(at.join(&name)?);
            }
        }
        listing.check_libraries(&present)?;
        let never = PathSet::new(NEVER_TAKEN)?;
        let mut paths = listing.select(sets)?;
        paths.extend_from_slice(more);
        paths.retain(|path| !never.covers(path));
        self.take(directory, root, &paths, into)
    }

    /// Lays `paths` of the system at `directory`, whose root is `root`.
    fn take(&mut self, directory: &Path, root: Dir, paths: &[TreePath], into: &TreePath) -> Result<()> {
        self.watch.begin("scanning the source", 0);
        let scan = scan_paths(&root, paths, &ScanOptions { xattrs: true, ..ScanOptions::default() }, self.watch)
            .map_err(|error| error.at(bytes(directory)))?;
        let missing = paths.iter().filter(|path| scan.tree.get(path.as_bytes()).is_none()).count();
        if missing > 0 {
            self.notes.push(format!("{missing} listed paths are not there, or lie below a link, and are left out"));
        }
        let origin: Arc<str> = format!("listed in {}", directory.display()).into();
        let mut nodes = Vec::with_capacity(scan.tree.len());
        let (mut accounts, mut odd) = (Vec::new(), 0);
        for node in scan.tree.into_nodes() {
            let node = Node { from: node.here, here: None, origin: Some(Arc::clone(&origin)), ..node };
            match node.kind {
                Kind::File { .. } if is_account_file(&node.path) => {
                    let body = login::read_below(&root, &node.path)?.unwrap_or_default();
                    let body = login::without_passwords(&node.path, &body);
                    let kind = Kind::File { size: body.len() as u64, digest: None };
                    accounts.push((Node { kind, from: None, group: None, ..node }, body));
                }
                Kind::Dir | Kind::File { .. } | Kind::Symlink(_) => nodes.push(node),
                _ => odd += 1,
            }
        }
        if odd > 0 {
            self.notes.push(format!("{odd} listed paths are devices, pipes or sockets, and are left out"));
        }
        self.lay(nodes, Content::Directory { root, moved: HashMap::new() }, into)?;
        self.lay_made(accounts)
    }

    /// Lays what the recipe makes. Names are those of the chroot's own accounts.
    pub(super) fn made(&mut self, accounts: Option<&Merged>) -> Result<()> {
        let recipe = self.recipe;
        let mut entries = Vec::new();
        let mut known: HashSet<TreePath> = HashSet::new();
        for make in &recipe.made {
            let (uid, gid) = owner_of(make, accounts)?;
            let origin: Arc<str> = Arc::from(RECIPE);
            let node = |path, mode, kind| {
                let meta = Meta { mode, uid, gid, ..Meta::default() };
                Node { origin: Some(Arc::clone(&origin)), ..Node::new(path, meta, kind) }
            };
            for above in make.path.ancestors().filter(|above| !above.is_root()) {
                let at = self.overlay.canonical(&above).unwrap_or_else(|_| above.clone());
                if self.overlay.get(&at).is_none() && known.insert(above.clone()) {
                    entries.push((node(above, 0o755, Kind::Dir), Vec::new()));
                }
            }
            known.insert(make.path.clone());
            if make.below {
                let at = self.overlay.canonical(&make.path).unwrap_or_else(|_| make.path.clone());
                self.given.push((at, (uid, gid)));
            }
            let path = make.path.clone();
            entries.push(match &make.what {
                Made::Directory => (node(path, make.mode.unwrap_or(0o755), Kind::Dir), Vec::new()),
                Made::Link(target) => (node(path, 0o777, Kind::Symlink(target.as_bytes().into())), Vec::new()),
                Made::File(text) => {
                    let kind = Kind::File { size: text.len() as u64, digest: None };
                    (node(path, make.mode.unwrap_or(0o644), kind), text.clone().into_bytes())
                }
            });
        }
        self.lay_made(entries)
    }
}

/// Gives what sources brought below each directory to its owner; what the recipe makes there has an owner of its own.
pub(super) fn give(tree: &mut Tree, given: &[(TreePath, (u32, u32))]) {
    if given.is_empty() {
        return;
    }
    for node in tree.nodes_mut().filter(|node| node.origin.as_deref() != Some(RECIPE)) {
        if let Some((_, owner)) = given.iter().rev().find(|(path, _)| node.path.is_within(path)) {
            (node.meta.uid, node.meta.gid) = *owner;
        }
    }
}

fn is_account_file(path: &TreePath) -> bool {
    login::ACCOUNT_FILES.iter().any(|file| file.as_bytes() == path.as_bytes())
}

/// The numbers of an entry's owner and group.
fn owner_of(make: &Make, accounts: Option<&Merged>) -> Result<(u32, u32)> {
    let unknown = |what: &str, name: &str| {
        let error = Error::new(ErrorKind::NotFound, format!("the chroot has no {what} {name}")).at(&make.path);
        error.hint(format!("the sources bring no such {what}; name another, or a number"))
    };
    let (uid, own) = match make.owner.as_deref() {
        None | Some("root") => (0, 0),
        Some(name) => match (name.parse(), accounts.and_then(|all| all.user(name))) {
            (Ok(number), _) => (number, number),
            (_, Some(found)) => found,
            _ => return Err(unknown("account", name)),
        },
    };
    let gid = match make.group.as_deref() {
        None => own,
        Some(name) => match (name.parse(), accounts.and_then(|all| all.group(name))) {
            (Ok(number), _) => number,
            (_, Some(number)) => number,
            _ => return Err(unknown("group", name)),
        },
    };
    Ok((uid, gid))
}

fn read_database(path: &Path) -> Result<Vec<u8>> {
    let mut database = Vec::new();
    let file = sys::open_regular(path).on("open", bytes(path))?;
    file.take(locate::MAX_FILE + 1).read_to_end(&mut database).on("read", bytes(path))?;
    if database.len() as u64 > locate::MAX_FILE {
        return Err(Error::new(ErrorKind::BadInput, "a locate database of more than 64 MiB").at(bytes(path)));
    }
    Ok(database)
}
