// SPDX-License-Identifier: ISC
//! Archives as layers: verified, read once, their trees remembered.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Composer;
use crate::apply::Slot;
use crate::chroot::built::{Seen, stat_archive};
use crate::chroot::ingest::{Fate, Sink, ingest, with_digests};
use crate::chroot::layer::{ArchiveContent, Content, Need, Reach, bring_archived, name_of, open_archive, threads};
use crate::chroot::place::bytes;
use crate::chroot::work::Work;
use crate::chroot::{cache, login};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::Verify;
use crate::sign;
use crate::source::archive::{Archive, Limits};
use crate::sys;
use crate::tree::{Digest, Node};
use crate::watch::Watch;

/// An archive's entries, and how their contents are reached.
type Layer = (Vec<Node>, ArchiveContent);

impl Composer<'_> {
    pub(super) fn archive(&mut self, path: &Path, verify: Option<&Verify>, into: &TreePath) -> Result<()> {
        let stat = stat_archive(path, &self.work.anchor)?;
        let seen = self.built.archives.get(path);
        let trusted = verify.map(|v| listed_digest(path, v)).transpose()?;
        let checksum = seen.and_then(|seen| seen.proves_sha256(&stat));
        if let Some(trusted) = trusted
            && checksum.map_or_else(|| digest_of(path, self.watch), Ok)? != trusted
        {
            return Err(Error::new(ErrorKind::Unverified, "its checksum is not the one in the list").at(bytes(path)));
        }
        // One that was not verified when it was read is read again: what is used is what was verified.
        let known = seen.filter(|_| trusted.is_none() || checksum.is_some()).and_then(|seen| seen.proves_tree(&stat));
        let (reach, name) = (Reach::File(path.into()), name_of(path));
        let layer = match known.and_then(|id| self.cached(reach.clone(), name.clone(), id)) {
            Some(cached) => cached,
            None => self.read(open_archive(path)?, (reach, name), trusted)?,
        };
        self.archives.insert(path.to_path_buf(), Seen::new(&stat, layer.1.id, trusted));
        self.nested(layer, into)
    }

    /// Lays an archive, then those of the recipe's nested archives that it brought.
    fn nested(&mut self, (nodes, content): Layer, into: &TreePath) -> Result<()> {
        let is_nested = |n: &&Node| self.recipe.nested.contains(&n.path);
        let inner: Vec<Node> = nodes.iter().filter(is_nested).cloned().collect();
        let layer = self.layers.len();
        self.lay(nodes, Content::Archive(content), into)?;
        for node in inner {
            let name = String::from_utf8_lossy(node.path.name()).into_owned();
            let digest = node.digest();
            let reach = Reach::Nested { layer, node: Box::new(node) };
            let cached = digest.and_then(|digest| self.cached(reach.clone(), name.clone(), digest));
            let (nodes, content) = match cached {
                Some(cached) => cached,
                None => {
                    let archive = open_reach(&reach, &name, &mut self.layers, self.work, self.watch)?;
                    self.read(archive, (reach, name), None)?
                }
            };
            self.lay(nodes, Content::Archive(content), into)?;
        }
        Ok(())
    }

    /// The tree of an archive that was read before.
    fn cached(&self, reach: Reach, name: String, id: Digest) -> Option<Layer> {
        let nodes = cache::read(self.work.state?, id)?;
        let twins = twins(&nodes);
        Some((nodes, ArchiveContent { reach, name, id, staged: HashMap::new(), twins }))
    }

    /// Reads an archive to its end and stages its bodies. It must be the `trusted` one: it may have become another
    /// since its checksum was looked at.
    fn read(&self, archive: Archive, (reach, name): (Reach, String), trusted: Option<Digest>) -> Result<Layer> {
        let archive = if trusted.is_some() { archive.hashed() } else { archive };
        self.watch.begin("reading the archive", archive.stored()?);
        let (dry_run, nested) = (self.work.dry_run, &self.recipe.nested);
        let account = |path: &TreePath| login::ACCOUNT_FILES.iter().any(|file| file.as_bytes() == path.as_bytes());
        let fate = |node: &Node| match dry_run && !nested.contains(&node.path) && !account(&node.path) {
            true => Fate::Hash,
            false => Fate::Stage(node.clone()),
        };
        let sink = Sink { stage: self.work.stage()?, fate: &fate, writers: threads() };
        let (contents, taken) = ingest(&archive, sink, self.watch)?;
        if contents.digest != trusted {
            return Err(Error::new(ErrorKind::Unverified, "the archive changed while it was read").at(name));
        }
        let found = with_digests(contents, &taken);
        let staged: HashMap<TreePath, Slot> =
            found.iter().filter_map(|(node, slot)| Some((node.path.clone(), (*slot)?))).collect();
        let nodes: Vec<Node> = found.into_iter().map(|(node, _)| node).collect();
        let text = cache::text(&nodes);
        let whole = match &reach {
            Reach::File(_) => None,
            Reach::Nested { node, .. } => node.digest(),
        };
        let id = whole.unwrap_or_else(|| Digest(Sha256::digest(&text).into()));
        if let Some(state) = self.work.state {
            cache::write(state, id, &text)?;
        }
        let twins = twins(&nodes);
        Ok((nodes, ArchiveContent { reach, name, id, staged, twins }))
    }
}

fn twins(nodes: &[Node]) -> HashMap<TreePath, TreePath> {
    nodes.iter().filter_map(|n| Some((n.path.clone(), n.group.clone()?))).collect()
}

/// Opens an archive, wherever it is; what lies inside another archive is staged first.
pub(crate) fn open_reach(
    reach: &Reach,
    name: &str,
    layers: &mut [Content],
    work: &Work<'_>,
    watch: &Watch,
) -> Result<Archive> {
    match reach {
        Reach::File(path) => open_archive(path),
        Reach::Nested { layer, node } => {
            let slot = slot_of(node, *layer, layers, work, watch)?;
            Archive::open(work.stage()?.open(slot)?, name, Limits::default())
        }
    }
}

/// The slot of a file of the archive `layer`; it is staged if it is not yet.
pub(super) fn slot_of(
    node: &Node,
    layer: usize,
    layers: &mut [Content],
    work: &Work<'_>,
    watch: &Watch,
) -> Result<Slot> {
    let missing = || Error::new(ErrorKind::NotFound, "the archive that holds it is not there").at(&node.path);
    let Content::Archive(outer) = &layers[layer] else { return Err(missing()) };
    if let Some(slot) = outer.staged.get(&node.path) {
        return Ok(*slot);
    }
    let (outer_reach, outer_name) = (outer.reach.clone(), outer.name.clone());
    let archive = open_reach(&outer_reach, &outer_name, layers, work, watch)?;
    let Content::Archive(outer) = &mut layers[layer] else { return Err(missing()) };
    let need = [Need { change: 0, node: node.clone(), path: node.path.clone() }];
    let brought = bring_archived(&archive, &outer.twins, &need, work.stage()?, watch)?;
    outer.staged.insert(node.path.clone(), brought[0].slot);
    Ok(brought[0].slot)
}

/// The digest that the checksum list gives for the archive; the list's signature is verified first.
fn listed_digest(path: &Path, verify: &Verify) -> Result<Digest> {
    let list = read_small(&verify.list)?;
    let shown = bytes(&verify.list);
    let message = match &verify.key {
        Some(key) => {
            let key = sign::PublicKey::parse(&read_small(key)?).map_err(|e| e.at(bytes(key)))?;
            sign::verify_embedded(&list, &key).map_err(|e| e.at(shown))?.to_vec()
        }
        None => list,
    };
    let name = name_of(path);
    let list = sign::CheckList::parse(&message).map_err(|e| e.at(shown))?;
    list.find(name.as_bytes()).ok_or_else(|| {
        Error::new(ErrorKind::Unverified, format!("{} does not list it", verify.list.display())).at(bytes(path))
    })
}

fn read_small(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = sys::open_regular(path).on("open", bytes(path))?;
    file.take(64 << 20).read_to_end(&mut text).on("read", bytes(path))?;
    Ok(text)
}

/// SHA-256 of a whole file.
fn digest_of(path: &Path, watch: &Watch) -> Result<Digest> {
    let mut file = sys::open_regular(path).on("open", bytes(path))?;
    watch.begin("verifying", file.metadata().map_or(0, |m| m.len()));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer).on("read", bytes(path))?;
        if length == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        watch.count(0, length as u64)?;
        hash.update(&buffer[..length]);
    }
}
