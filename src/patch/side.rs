// SPDX-License-Identifier: ISC
//! One of two trees that a patch is made of: a directory, an archive, or a manifest, which has no contents.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Scratch, digest_of, is_stored};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{PathSet, TreePath};
use crate::source::archive::{Archive, Limits};
use crate::source::dir::{ScanOptions, digest_files, scan};
use crate::sys::{Calls, Dir};
use crate::tree::overlay::Overlay;
use crate::tree::text::read_tree;
use crate::tree::{Digest, Kind, Node, Tree};
use crate::watch::Watch;

/// How a manifest begins.
const MANIFEST: &[u8] = b"#mtree";

/// Which files give owners their names, and how long they may be.
const ACCOUNTS: [&str; 2] = ["etc/passwd", "etc/group"];
const MAX_ACCOUNTS: u64 = 64 << 20;

/// A tree, and where its contents are.
pub struct Side {
    /// The tree. All its files have digests, but those of a manifest that says none.
    pub tree: Tree,
    contents: Place,
}

enum Place {
    Directory(Dir),
    Archive(Box<Packed>),
    Nowhere,
}

/// An archive that was read once.
struct Packed {
    archive: Archive,
    /// The digest of each body by its number.
    digests: Vec<Digest>,
    /// The account files.
    texts: HashMap<TreePath, Vec<u8>>,
    /// Those bodies that were asked for.
    gathered: Option<(Scratch, HashMap<Digest, Range<u64>>)>,
}

impl Side {
    /// Opens what is at `path` and reads all of it.
    ///
    /// # Errors
    /// As open(2); whatever reading it says.
    pub fn open(path: &Path, watch: &Watch) -> Result<Side> {
        let shown = path.as_os_str().as_bytes();
        if path.is_dir() {
            return directory(Dir::open(path, Calls::from_env()).on("open", shown)?, watch);
        }
        let mut file = BufReader::new(File::open(path).on("open", shown)?);
        if !file.fill_buf().on("read", shown)?.starts_with(MANIFEST) {
            drop(file);
            return archive(
                Archive::open(File::open(path).on("open", shown)?, &path.to_string_lossy(), Limits::default())?,
                watch,
            );
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).on("read", shown)?;
        let tree = read_tree(&text).map_err(|error| error.at(shown))?;
        Ok(Side { tree, contents: Place::Nowhere })
    }

    /// Has it contents at all?
    pub fn has_contents(&self) -> bool {
        !matches!(self.contents, Place::Nowhere)
    }

    /// Gets ready to [read](Side::content) the contents with these digests; an archive is read again for them. What is
    /// kept on the disk is kept where `beside` is.
    ///
    /// # Errors
    /// As [`Archive::read`]; as write(2).
    pub fn gather(&mut self, wanted: &HashSet<Digest>, beside: &Path, watch: &Watch) -> Result<()> {
        let Place::Archive(packed) = &mut self.contents else { return Ok(()) };
        let Packed { archive, digests, gathered, .. } = &mut **packed;
        let mut scratch = Scratch::beside(beside)?;
        let mut places = HashMap::new();
        watch.begin("reading the archive", archive.stored()?);
        archive.read(
            &mut |number, node, body| {
                let Some(digest) = digests.get(number as usize).filter(|digest| wanted.contains(digest)) else {
                    return Ok(());
                };
                if !places.contains_key(digest) {
                    places.insert(*digest, scratch.add(&mut body.whole(node.size())).on("read", &node.path)?);
                }
                Ok(())
            },
            watch,
        )?;
        *gathered = Some((scratch, places));
        Ok(())
    }

    /// The content of a file of the tree.
    ///
    /// # Errors
    /// As open(2); [`ErrorKind::NotFound`] if it has none, or was not gathered.
    pub fn content(&self, node: &Node) -> Result<Box<dyn Read + '_>> {
        let missing = || Error::new(ErrorKind::NotFound, "a manifest has no contents").at(&node.path);
        match &self.contents {
            Place::Directory(root) => {
                let dir = root.walk_parent(&node.path).on("open", &node.path)?;
                Ok(Box::new(dir.open_file(node.path.name()).on("open", &node.path)?))
            }
            Place::Archive(packed) => {
                let (scratch, places) = packed.gathered.as_ref().ok_or_else(missing)?;
                let range = node.digest().and_then(|digest| places.get(&digest)).ok_or_else(missing)?;
                Ok(Box::new(scratch.read(range.clone())))
            }
            Place::Nowhere => Err(missing().hint("give a directory or an archive")),
        }
    }

    /// The text of an account file; empty if there is none.
    ///
    /// # Errors
    /// As [`Side::content`].
    pub fn text(&self, path: &str) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        match (self.tree.get(path.as_bytes()), &self.contents) {
            (Some(node), Place::Directory(_)) => drop(self.content(node)?.read_to_end(&mut text).on("read", path)?),
            (Some(node), Place::Archive(packed)) => text = packed.texts.get(&node.path).cloned().unwrap_or_default(),
            _ => {}
        }
        Ok(text)
    }
}

fn directory(root: Dir, watch: &Watch) -> Result<Side> {
    watch.begin("scanning", 0);
    let scanned = scan(&root, &ScanOptions { xattrs: true, ..ScanOptions::default() }, watch)?.tree;
    // No patch brings these.
    let is_own = |node: &Node| node.kind == Kind::Socket || is_stored(&node.path);
    let mut tree = Tree::new(scanned.into_nodes().into_iter().filter(|node| !is_own(node)).collect())?;
    let files = tree.nodes().iter().enumerate().filter(|(_, node)| matches!(node.kind, Kind::File { .. }));
    let files: Vec<usize> = files.map(|(index, _)| index).collect();
    watch.begin("hashing", tree.bytes());
    digest_files(&root, &mut tree, &files, watch)?;
    Ok(Side { tree, contents: Place::Directory(root) })
}

fn archive(archive: Archive, watch: &Watch) -> Result<Side> {
    watch.begin("reading the archive", archive.stored()?);
    let (mut digests, mut texts) = (Vec::new(), HashMap::new());
    let contents = archive.read(
        &mut |_, node, body| {
            let mut body = body.whole(node.size());
            if ACCOUNTS.iter().any(|path| path.as_bytes() == node.path.as_bytes()) {
                let mut text = Vec::new();
                body.take(MAX_ACCOUNTS).read_to_end(&mut text).on("read", &node.path)?;
                digests.push(digest_of(&mut &text[..]).on("read", &node.path)?);
                texts.insert(node.path.clone(), text);
            } else {
                digests.push(digest_of(&mut body).on("read", &node.path)?);
            }
            Ok(())
        },
        watch,
    )?;
    let fill = |(mut node, number): (Node, Option<u32>)| {
        if let (Kind::File { digest, .. }, Some(number)) = (&mut node.kind, number) {
            *digest = digests.get(number as usize).copied();
        }
        // What the archive is called says nothing of the target.
        node.origin = None;
        node
    };
    let mut overlay = Overlay::default();
    overlay.lay(contents.nodes.into_iter().map(fill).collect(), &TreePath::root(), &PathSet::default())?;
    let (tree, _) = overlay.finish()?;
    Ok(Side { tree, contents: Place::Archive(Box::new(Packed { archive, digests, texts, gathered: None })) })
}
