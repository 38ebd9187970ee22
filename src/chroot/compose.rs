// SPDX-License-Identifier: ISC
//! From a recipe to the wanted tree: each source becomes a layer, each layer is laid over the ones before.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::built::{Built, Seen};
use super::layer::Content;
use super::login::Merged;
use super::place::bytes;
use super::sets::Sets;
use super::work::Work;
use super::{closure, devices, host, login, release};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{PathSet, TreePath};
use crate::recipe::{Closure, Conffiles, Origin, Recipe, Source};
use crate::source::dir::{ScanOptions, scan};
use crate::sys::{self, Calls, Dir};
use crate::tree::overlay::{Overlay, Provenance};
use crate::tree::{Digest, Kind, Meta, Node, Policy, Tree, Unknown};
use crate::watch::Watch;

mod archives;
mod openbsd;

pub(crate) use archives::open_reach;
use archives::slot_of;

/// The wanted tree, and where each of its contents is.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) tree: Tree,
    /// For each node of the tree: its layer and its path there.
    pub(crate) from: Vec<Provenance>,
    pub(crate) layers: Vec<Content>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// The archives as they were seen.
    pub(crate) archives: BTreeMap<PathBuf, Seen>,
    /// What is to be remembered of the closure.
    pub(crate) closure: Option<closure::Record>,
}

impl Wanted {
    /// Gives every entry this owner and group: what cannot be made is not wanted, lest no build were ever done with.
    pub(crate) fn belong_to(&mut self, owner: (u32, u32), tell: bool) {
        let mut others = 0;
        for node in self.tree.nodes_mut() {
            others += usize::from((node.meta.uid, node.meta.gid) != owner);
            (node.meta.uid, node.meta.gid) = owner;
        }
        if tell && others > 0 {
            self.notes.push(format!("{others} entries belong to you instead of their owners: only root sets owners"));
        }
    }
}

/// What composing needs besides the recipe.
pub(crate) struct Composer<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) built: &'a Built,
    pub(crate) work: &'a Work<'a>,
    root: Option<&'a Dir>,
    recorded: Option<&'a Tree>,
    policy: &'a Policy,
    calls: Calls,
    watch: &'a Watch,
    /// Devices can be made: not in a user namespace, where sessions bind the host's, nor where they do not work.
    devices: bool,
    /// How many were left out.
    without: usize,
    overlay: Overlay,
    replace: PathSet,
    layers: Vec<Content>,
    notes: Vec<String>,
    archives: BTreeMap<PathBuf, Seen>,
    closure: Option<closure::Record>,
    /// Accounts of the packages.
    named: login::Named,
    /// Directories of the recipe, and who owns all that sources bring below.
    given: Vec<(TreePath, (u32, u32))>,
    /// The release of OpenBSD, as the recipe or the first source that knows says.
    release: Option<String>,
}

/// The inputs of a [`Composer`].
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) built: &'a Built,
    pub(crate) work: &'a Work<'a>,
    /// The root, if there is one already.
    pub(crate) root: Option<&'a Dir>,
    /// What the last build wanted.
    pub(crate) recorded: Option<&'a Tree>,
    /// What may be touched.
    pub(crate) policy: &'a Policy,
}

impl<'a> Composer<'a> {
    pub(crate) fn new(inputs: Inputs<'a>, watch: &'a Watch) -> Result<Composer<'a>> {
        let Inputs { recipe, built, work, root, recorded, policy } = inputs;
        let calls = work.anchor.calls();
        let replace = PathSet::new(&recipe.replace)?;
        let nodev = sys::effective_uid() == 0 && work.anchor.space().on("statfs", "/")?.nodev;
        Ok(Composer {
            recipe,
            built,
            work,
            root,
            recorded,
            policy,
            calls,
            watch,
            devices: sys::id_map().map_or(true, |map| map.is_everything()) && !nodev,
            without: 0,
            overlay: Overlay::default(),
            replace,
            layers: Vec::new(),
            notes: Vec::new(),
            archives: BTreeMap::new(),
            closure: None,
            named: login::Named::default(),
            given: Vec::new(),
            release: recipe.release.clone(),
        })
    }

    /// Brings all sources together.
    pub(crate) fn compose(mut self) -> Result<Wanted> {
        if let Some(wanted) = &self.recipe.closure {
            self.programs(wanted)?;
        }
        for source in &self.recipe.sources {
            self.source(source)?;
        }
        if let Some(release) = &self.release {
            let (system, kernel) = sys::kernel();
            release::refuse_newer(release, (&system, &kernel))?;
        }
        if self.devices {
            let mut missing = devices::nodes(self.recipe.devices)?;
            missing.retain(|node| self.overlay.get(&node.path).is_none());
            self.lay(missing, Content::Made(HashMap::new()), &TreePath::root())?;
        }
        let (made, notes) = host::etc_files(self.recipe, &self.overlay)?;
        self.notes.extend(notes);
        self.lay_made(made)?;
        let accounts = self.accounts()?;
        self.made(accounts.as_ref())?;
        self.one_user()?;
        if self.overlay.get(&TreePath::root()).is_none() {
            let root = Node::new(TreePath::root(), Meta { mode: 0o755, ..Meta::default() }, Kind::Dir);
            self.lay(vec![root], Content::Made(HashMap::new()), &TreePath::root())?;
        }
        if self.without > 0 {
            self.notes.push(format!(
                "devices left out: {}; ordinary users make none, they do not work on a filesystem mounted nodev, and \
                'run' brings its own where it can",
                self.without
            ));
        }
        let (mut tree, from) = self.overlay.finish()?;
        openbsd::give(&mut tree, &self.given);
        let (layers, notes, archives, closure) = (self.layers, self.notes, self.archives, self.closure);
        Ok(Wanted { tree, from, layers, notes, archives, closure })
    }

    fn lay(&mut self, mut nodes: Vec<Node>, content: Content, into: &TreePath) -> Result<()> {
        if !self.devices {
            let found = nodes.len();
            nodes.retain(|node| !matches!(node.kind, Kind::Char(..) | Kind::Block(..)));
            self.without += found - nodes.len();
        }
        self.overlay.lay(nodes, into, &self.replace)?;
        self.layers.push(content);
        Ok(())
    }

    fn lay_made(&mut self, mut made: Vec<(Node, Vec<u8>)>) -> Result<()> {
        // Without its digest, a body that changed and kept its length would look unchanged.
        for (node, body) in &mut made {
            if let Kind::File { digest, .. } = &mut node.kind {
                *digest = Some(Digest(Sha256::digest(&*body).into()));
            }
        }
        let bodies = made.iter().filter(|(n, _)| matches!(n.kind, Kind::File { .. }));
        let bodies = bodies.map(|(n, body)| (n.path.clone(), body.clone())).collect();
        self.lay(made.into_iter().map(|(node, _)| node).collect(), Content::Made(bodies), &TreePath::root())
    }

    fn source(&mut self, source: &Source) -> Result<()> {
        match &source.origin {
            Origin::Archive { path, verify } => self.archive(path, verify.as_ref(), &source.into),
            Origin::Directory { path, without } => self.directory((path, without), &source.into),
            Origin::Sets { .. } => match Sets::of(&source.origin)? {
                Some(sets) => self.sets(&sets, &source.into),
                None => Ok(()),
            },
            Origin::Listed { directory, locate, sets, paths } => {
                self.listed(directory, (locate, sets, paths), &source.into)
            }
            Origin::Packages { directory, names, modified } => self.packages((directory, names), *modified),
        }
    }

    /// Programs of the host with all that they need, and what is made for a jail.
    fn programs(&mut self, wanted: &Closure) -> Result<()> {
        let found = closure::select(self.calls, wanted, self.watch)?;
        let content = Content::Directory { root: found.root, moved: HashMap::new() };
        self.lay(found.nodes, content, &TreePath::root())?;
        self.lay_made(found.made)?;
        self.notes.extend(found.notes);
        self.closure = Some(found.record);
        Ok(())
    }

    /// Packages of a system: the links of merged /usr, the packages' files, and what their installation would have made.
    fn packages(&mut self, named: (&Path, &[String]), modified: Conffiles) -> Result<()> {
        self.watch.begin("selecting packages", 0);
        let chosen = host::Packages::choose(self.calls, named, modified, self.watch)?;
        let root = TreePath::root();
        self.named = chosen.accounts()?;
        self.lay_made(chosen.links()?)?;
        let (nodes, moved) = chosen.nodes(self.watch)?;
        self.lay(nodes, Content::Directory { root: chosen.root()?, moved }, &root)?;
        let (mut made, notes) = chosen.made(&self.overlay, &self.recipe.actions)?;
        self.notes.extend(notes);
        if let (Some(inside), Unknown::Keep) = (self.root, self.policy.unknown) {
            host::keep_installed(&mut made, inside, self.recorded)?;
        }
        self.lay_made(made)
    }

    /// Where there is one number only, apt cannot become its own user for what it fetches.
    fn one_user(&mut self) -> Result<()> {
        const DIRECTORY: &str = "etc/apt/apt.conf.d";
        let directory = TreePath::new(DIRECTORY.as_bytes())?;
        if !sys::id_map().is_ok_and(|map| map.is_single()) || self.overlay.get(&directory).is_none() {
            return Ok(());
        }
        let body = b"// There is one user number.\nAPT::Sandbox::User \"root\";\n".to_vec();
        let kind = Kind::File { size: body.len() as u64, digest: None };
        let meta = Meta { mode: 0o644, ..Meta::default() };
        let node = Node { origin: Some("made".into()), ..Node::new(directory.join(b"99one-user")?, meta, kind) };
        self.lay_made(vec![(node, body)])
    }

    /// Merges the accounts that the sources bring, those made inside, and those that the recipe wants.
    fn accounts(&mut self) -> Result<Option<Merged>> {
        let source = login::files(|path| self.body_of(path))?;
        let Some(mut source) = source else {
            return match self.recipe.accounts.first() {
                None => Ok(None),
                Some(account) => {
                    let reason = format!("no source brings it, so account {} cannot be added", account.name);
                    Err(Error::new(ErrorKind::NotFound, reason).at("etc/passwd"))
                }
            };
        };
        let (joined, notes) = self.named.join(&source);
        source = joined;
        self.notes.extend(notes);
        let have = match self.root {
            Some(root) => login::files(|path| login::read_below(root, path))?,
            None => None,
        };
        let merged = login::merge(self.recipe, have.as_ref(), &source)?;
        self.notes.extend(merged.notes.iter().cloned());
        let mut entries = merged.entries(|path| self.overlay.get(path).cloned())?;
        if !self.recipe.accounts.is_empty() {
            entries.extend(merged.homes(self.recipe, self.calls)?);
        }
        self.lay_made(entries)?;
        Ok(Some(merged))
    }

    /// The content of a file as the layers so far have it.
    fn body_of(&mut self, path: &TreePath) -> Result<Option<Vec<u8>>> {
        let Some((node, from)) = self.overlay.find(path) else { return Ok(None) };
        let layer = from.layer as usize;
        if !matches!(node.kind, Kind::File { .. }) {
            return Ok(None);
        }
        let node = Node { path: from.path.clone(), ..node.clone() };
        match &self.layers[layer] {
            Content::Made(bodies) => Ok(bodies.get(&from.path).cloned()),
            Content::Directory { root, moved } => login::read_below(root, moved.get(&from.path).unwrap_or(&from.path)),
            Content::Archive(_) => {
                let slot = slot_of(&node, layer, &mut self.layers, self.work, self.watch)?;
                let mut body = Vec::new();
                let file = self.work.stage()?.open(slot)?;
                file.take(node.size()).read_to_end(&mut body).on("read", path)?;
                Ok(Some(body))
            }
        }
    }

    /// A directory of the host, but for what the patterns `without` cover.
    fn directory(&mut self, (path, without): (&Path, &[String]), into: &TreePath) -> Result<()> {
        let root = Dir::open(path, self.calls).on("open", bytes(path))?;
        self.watch.begin("scanning the source", 0);
        let scan = scan(&root, &ScanOptions { xattrs: true, skip: PathSet::new(without)? }, self.watch);
        let scan = scan.map_err(|e| e.at(bytes(path)))?;
        for mount in &scan.mounts {
            self.notes.push(format!(
                "{}/{mount}: another filesystem is mounted there; only its directory is taken",
                path.display()
            ));
        }
        let origin = std::sync::Arc::from(path.to_string_lossy());
        let take =
            |node: Node| Node { from: node.here, here: None, origin: Some(std::sync::Arc::clone(&origin)), ..node };
        let (sockets, nodes): (Vec<Node>, Vec<Node>) =
            scan.tree.into_nodes().into_iter().map(take).partition(|n| n.kind == Kind::Socket);
        self.notes.extend(sockets.iter().map(|s| format!("{}/{}: a socket is not copied", path.display(), s.path)));
        self.lay(nodes, Content::Directory { root, moved: HashMap::new() }, into)
    }
}
