// SPDX-License-Identifier: ISC
//! The closure of a recipe as a layer: the host's files that its programs need, and the small files that are made for a
//! jail instead of taken.
#![forbid(unsafe_code)]

mod clean;
pub mod explain;
pub mod hardening;
pub mod lint;
mod made;
pub mod preload;
pub mod probe;
pub(crate) mod purpose;
mod record;
pub mod stale;
pub mod trace;
pub(crate) mod versions;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::host::Entries;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::secrets;
use crate::path::TreePath;
use crate::recipe::{Action, Closure, Recipe};
use crate::select::closure::binfmt::Format;
use crate::select::closure::graph::Graph;
use crate::select::closure::owners::Lists;
use crate::select::closure::{self, Reason, Request, View};
use crate::select::packages::{Database, FileOptions};
use crate::source::dir::{ScanOptions, scan_paths};
use crate::sys::{Calls, Dir, Outside, change_clock};
use crate::tree::{Kind, Node, Policy, Time, Tree};
use crate::watch::Watch;

pub use clean::before_session;
pub(crate) use clean::clear;
pub(crate) use record::{ASKED, REASONS, Record};
pub(crate) use versions::VERSIONS;

/// How often the host is looked at before it is said that it does not hold still.
const TRIES: usize = 3;
/// No file with a key is longer, in bytes.
const MAX_KEY: u64 = 1 << 20;
/// Extended attribute of file capabilities.
const CAPABILITIES: &[u8] = b"security.capability";

/// What a closure brings.
pub(crate) struct Selected {
    /// The host's root.
    pub(crate) root: Dir,
    /// Files, directories and links of the host.
    pub(crate) nodes: Vec<Node>,
    /// What is made instead of taken, to be laid over that.
    pub(crate) made: Entries,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// What is to be remembered.
    pub(crate) record: Record,
}

/// The recipe with the closure that `more` adds to. What the base's packages make has no place in a jail.
pub fn add(recipe: &mut Recipe, more: &Closure) {
    if recipe.closure.is_none() {
        recipe.actions = BTreeSet::<Action>::new();
    }
    recipe.closure.get_or_insert_default().add(more);
}

/// Selects all that `wanted` needs of the host.
///
/// # Errors
/// [`ErrorKind::NotFound`] for what is missing, with the chain that wants it; what the system says.
pub(crate) fn select(calls: Calls, wanted: &Closure, watch: &Watch) -> Result<Selected> {
    for _ in 1..TRIES {
        if let Ok(selected) = attempt(calls, wanted, watch)? {
            return Ok(selected);
        }
    }
    attempt(calls, wanted, watch)?.map_err(|path| {
        let error = Error::new(ErrorKind::Refused, "it changed while the host was read").at(&path);
        error.hint("try again once no package is being installed")
    })
}

/// As [`select`]; or what of the host changed meanwhile, so that what was read of it fits no more.
fn attempt(calls: Calls, wanted: &Closure, watch: &Watch) -> Result<std::result::Result<Selected, TreePath>> {
    let since = change_clock();
    let root = Dir::open(std::path::Path::new("/"), calls).on("open", "/")?.crossing();
    let view = View::new(&root)?;
    watch.begin("following what programs need", 0);
    let lists = Lists::read(&root)?;
    let owners = lists.owners();
    let found = closure::gather(&view, &owners, &request(&root, wanted, watch)?, watch)?;
    let paths: Vec<TreePath> = found.entries.keys().cloned().collect();
    let scan = scan_paths(&root, &paths, &ScanOptions { xattrs: true, ..ScanOptions::default() }, watch)?;
    if let Some(path) = changed(&view, &scan.tree, &found)? {
        return Ok(Err(path));
    }
    let mut nodes = nodes(&scan.tree, &found)?;
    let mut notes = found.notes.clone();
    leave_keys(&root, wanted, &mut nodes, &mut notes)?;
    strip(&mut nodes, wanted, &mut notes);
    let missing = wanted.keep_setid.iter().filter(|path| !found.entries.contains_key(*path));
    notes.extend(missing.map(|path| format!("/{path} keeps no set-id bits: it is not in the jail")));
    let (made, own) = made::files(&view, wanted, &found, &nodes)?;
    date_directories(&mut nodes, &made);
    let mut reasons = found.entries;
    for (node, _) in &made {
        let why = node.origin.clone().unwrap_or_else(|| "made".into());
        reasons.entry(node.path.clone()).or_default().push(Reason { by: None, why });
    }
    if !wanted.sockets.is_empty() {
        notes.extend(sockets(wanted));
    }
    let own = found.own.into_iter().chain(own);
    let files: HashSet<&[u8]> = nodes.iter().filter(|n| !n.kind.is_dir()).map(|n| n.path.as_bytes()).collect();
    let versions = match lists.is_empty() {
        true => versions::of(&root, &files)?,
        false => owners.versions(files.iter().copied()),
    };
    let (asked, graph) = (view.asked(), Graph { reasons });
    let record = Record { asked, own: own.collect(), since, graph, wx: found.wx, versions };
    Ok(Ok(Selected { root, nodes, made, notes, record }))
}

fn request(root: &Dir, wanted: &Closure, watch: &Watch) -> Result<Request> {
    let mut packaged = Vec::new();
    if !wanted.packages.is_empty() {
        let options = FileOptions { modified_conffiles: true };
        for entry in Database::open(root)?.beyond_base(&wanted.packages, options, watch)?.entries {
            packaged.push((entry.host, entry.origin.to_string()));
        }
    }
    Ok(Request {
        programs: wanted.programs.clone(),
        paths: wanted.paths.clone(),
        traced: wanted.traced.iter().map(|(path, by)| (path.clone(), by.clone())).collect(),
        packaged,
        formats: formats(),
        host_nss: wanted.host_nss,
        with: wanted.with.clone(),
        without: wanted.without.clone(),
    })
}

/// What the kernel of this machine starts by other programs; nothing where it cannot be asked.
fn formats() -> Vec<Format> {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    let texts = entries.filter(|entry| entry.file_name() != "register").map(|entry| std::fs::read(entry.path()));
    texts.filter_map(|text| Format::parse(&String::from_utf8_lossy(&text.ok()?))).collect()
}

/// The first entry that is no longer what it was when the closure looked at it.
fn changed(view: &View, tree: &Tree, found: &closure::Closure) -> Result<Option<TreePath>> {
    for path in found.entries.keys() {
        let (Some(node), Some(stat)) = (tree.get(path.as_bytes()), view.stat(path)?) else {
            return Ok(Some(path.clone()));
        };
        let same_file = node.meta.mtime == stat.mtime
            && (node.size() == stat.size || matches!(node.kind, Kind::Symlink(_)))
            && node.here.is_none_or(|here| (here.ino, here.ctime) == (stat.ino, stat.ctime));
        if !node.kind.is_dir() && !same_file {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}

/// The scanned entries, with the reason that each was found by as its origin.
fn nodes(tree: &Tree, found: &closure::Closure) -> Result<Vec<Node>> {
    let mut origins: HashMap<(Option<TreePath>, Arc<str>), Arc<str>> = HashMap::new();
    let mut outside = Outside::find();
    let mut nodes = Vec::with_capacity(tree.len());
    for node in tree.nodes() {
        let reason = found.entries.get(&node.path).and_then(|reasons| reasons.first());
        let origin = match reason {
            None => Arc::from("closure: directory"),
            Some(Reason { by, why }) => {
                let text = || match by {
                    Some(by) => format!("closure: {why} <- /{by}").into(),
                    None => format!("closure: {why}").into(),
                };
                Arc::clone(origins.entry((by.clone(), Arc::clone(why))).or_insert_with(text))
            }
        };
        if matches!(node.kind, Kind::Socket | Kind::Fifo | Kind::Char(..) | Kind::Block(..)) {
            continue;
        }
        let mut node = Node { origin: Some(origin), from: node.here, here: None, ..node.clone() };
        if let Some(outside) = &mut outside {
            let at = [b"/", node.path.as_bytes()].concat();
            let owner = outside.owner(&at, (node.meta.uid, node.meta.gid)).on("stat", &node.path)?;
            (node.meta.uid, node.meta.gid) = owner;
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Leaves out private keys that nobody named: files of /etc that not all may read, and that hold one.
fn leave_keys(root: &Dir, wanted: &Closure, nodes: &mut Vec<Node>, notes: &mut Vec<String>) -> Result<()> {
    let named: Vec<TreePath> = wanted.paths.iter().map(|p| TreePath::lenient(p.as_bytes())).collect::<Result<_>>()?;
    let is_named = |path: &TreePath| named.iter().any(|named| path.is_within(named));
    let mut keys = BTreeSet::new();
    for node in nodes.iter().filter(|node| matches!(node.kind, Kind::File { .. }) && node.size() <= MAX_KEY) {
        if node.meta.mode & 0o004 != 0 || !node.path.as_bytes().starts_with(b"etc/") || is_named(&node.path) {
            continue;
        }
        let dir = root.walk_parent(&node.path).on("open", &node.path)?;
        let Some(file) = dir.open_regular(node.path.name()).on("open", &node.path)? else { continue };
        if secrets::holds_key(file).on("read", &node.path)? {
            notes.push(format!("/{}: a private key comes only by name: --path /{}", node.path, node.path));
            keys.insert(node.path.clone());
        }
    }
    nodes.retain(|node| !keys.contains(&node.path));
    Ok(())
}

/// Takes set-id bits and capabilities off all but the programs that keep them by name (decision 40).
fn strip(nodes: &mut [Node], wanted: &Closure, notes: &mut Vec<String>) {
    let mut lost = Vec::new();
    for node in nodes.iter_mut().filter(|node| matches!(node.kind, Kind::File { .. })) {
        if wanted.keep_setid.contains(&node.path) {
            continue;
        }
        let xattrs = node.meta.xattrs.as_deref().map(Vec::as_slice).unwrap_or_default();
        let capable = xattrs.iter().any(|(name, _)| &**name == CAPABILITIES);
        if node.meta.mode & 0o6000 != 0 || capable {
            node.meta.mode &= 0o1777;
            if let Some(xattrs) = &mut node.meta.xattrs {
                xattrs.retain(|(name, _)| &**name != CAPABILITIES);
            }
            node.meta.xattrs = node.meta.xattrs.take().filter(|xattrs| !xattrs.is_empty());
            lost.push(format!("/{}", node.path));
        }
    }
    if !lost.is_empty() {
        let what = lost.join(", ");
        notes.push(format!("set-id bits and capabilities were taken off {what}; --keep-setid PATH keeps them"));
    }
}

/// Gives each directory the time of the newest file below it: the host's own move whenever anything else comes or goes
/// there.
fn date_directories(nodes: &mut [Node], made: &Entries) {
    let mut newest: BTreeMap<TreePath, Time> = BTreeMap::new();
    let files = nodes.iter().chain(made.iter().map(|(node, _)| node)).filter(|node| !node.kind.is_dir());
    for node in files {
        for above in node.path.ancestors() {
            let time = newest.entry(above).or_default();
            *time = (*time).max(node.meta.mtime);
        }
    }
    for node in nodes.iter_mut().filter(|node| node.kind.is_dir()) {
        node.meta.mtime = newest.get(&node.path).copied().unwrap_or_default();
    }
}

/// How sockets come within reach where sessions do not bind them.
fn sockets(wanted: &Closure) -> Vec<String> {
    let dirs = wanted.socket_dirs();
    let mut notes: Vec<String> =
        dirs.iter().map(|dir| format!("{dir}: shown inside by 'run'; for systemd: BindPaths={dir}")).collect();
    if !crate::sys::HAS_SESSIONS {
        notes = dirs.iter().map(|dir| format!("{dir}: have the server listen inside the jail too")).collect();
    }
    notes
}

/// Is silent about what was made in directories that are the jail's own: entries that `known` has not.
pub(crate) fn spare_own(policy: &mut Policy, own: &BTreeSet<TreePath>, have: &Tree, known: &[&Tree]) {
    let mut last: Option<TreePath> = None;
    for node in have.nodes() {
        if last.as_ref().is_some_and(|top| node.path.is_within(top)) {
            continue;
        }
        let below_own = node.path.parent().is_some_and(|parent| own.contains(&parent));
        if below_own && known.iter().all(|tree| tree.get(node.path.as_bytes()).is_none()) {
            policy.volatile.insert(node.path.clone());
            last = Some(node.path.clone());
        }
    }
}
