// SPDX-License-Identifier: ISC
//! `clone`: a chroot like another one, edits and all.
//!
//! The tree is made beside its name and renamed in. The record is the base's own: what was built, so that `check` says
//! of the clone what it says of the base. A file that is proved unchanged in the base is proved in the clone too.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::carry::{NEW, new_root, rename_in};
use super::guard::{self, Found};
use super::identity::IDENTITY;
use super::numbers::NUMBERS;
use super::open::{Chroot, Locking, WORK_INSIDE};
use super::origin::{How, Origin};
use super::patch::copy_notes;
use super::place::{Home, Place, bytes};
use super::remove::OLD;
use super::state::State;
use super::work::owners;
use super::{identity, layers, recover, release};
use crate::apply::{Means, copy_tree};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{PathSet, escape};
use crate::source::dir::{ScanOptions, scan};
use crate::sys::{self, Dir, is_subvolume, shares_blocks};
use crate::tree::text::{Dialect, write_tree};
use crate::tree::{Kind, Stamp, Tree};
use crate::watch::Watch;

/// Stamps taken while the clone was made prove something once the clock has moved on by two ticks (decision E11).
const TICKS: Duration = Duration::from_millis(20);

/// What the user asks of `clone`.
#[derive(Debug, Clone)]
pub struct Request {
    /// The chroot to be cloned.
    pub base: OsString,
    /// The clone to be made.
    pub name: OsString,
    /// How; none: the cheapest that the filesystem can.
    pub how: Option<How>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Wait for the locks.
    pub wait: bool,
}

/// What `clone` did, or would do.
#[derive(Debug)]
pub struct Report {
    /// Absolute path of the clone.
    pub root: PathBuf,
    /// Absolute path of its base.
    pub base: PathBuf,
    /// How it was made.
    pub how: How,
    /// How many entries were copied; none where all came along at once, and nobody counted.
    pub entries: Option<usize>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Clones a chroot.
///
/// # Errors
/// [`ErrorKind::Refused`] if something is there under the new name; [`ErrorKind::Unsupported`] if it cannot be made as
/// asked; whatever reading the base or writing the clone says. Nothing is left of it then.
pub fn clone(home: &Home, request: &Request, watch: &Watch) -> Result<Report> {
    // Links move the ctimes of the base's own inodes: its stamps are taken again.
    let shared = request.how != Some(How::Link);
    let base = Chroot::open(home, &request.base, Locking { shared, wait: request.wait, verb: "clone" })?;
    release::may_run(&base.root, base.recipe().ok().and_then(|recipe| recipe.release).as_deref())?;
    if request.dry_run {
        let place = free_place(home, &base, &request.name)?;
        if let Some(state) = State::open(home, &place)? {
            refuse_record(&place, &state)?;
        }
        let entries = Some(base.state.entries()?);
        let how = choose(request.how, &base, &place, home);
        return Ok(Report { root: place.root, base: base.place.root, how, entries, notes: Vec::new() });
    }
    clone_of(home, &base, request, watch)
}

/// Makes sure that a clone can be called `name`.
///
/// # Errors
/// [`ErrorKind::Refused`] if something is there under the new name, or the place is not fit for a clone.
pub fn may_be_called(home: &Home, base: &Chroot, name: &OsString) -> Result<()> {
    free_place(home, base, name).map(drop)
}

/// As [`clone`], of a chroot that is open; its [`Chroot::root`] is what is cloned, and may be another view of it.
///
/// # Errors
/// As [`clone`].
pub fn clone_of(home: &Home, base: &Chroot, request: &Request, watch: &Watch) -> Result<Report> {
    let place = free_place(home, base, &request.name)?;
    let state = State { lasting: false, ..State::create(home, &place)? };
    let _lock = state.lock(false, request.wait, "clone").map_err(|e| e.at(bytes(&place.root)))?;
    recover::settle(home, &place, &state, watch)?;
    let place = free_place(home, base, &request.name)?;
    refuse_record(&place, &state)?;
    let job = Job { home, base, place: &place, state: &state };
    let done = job.run(request.how, watch);
    if done.is_err() {
        // A clone that did not come to be is of no use to anybody.
        recover::settle(home, &place, &state, &Watch::default())?;
    }
    done
}

/// The place of a clone, where nothing is yet.
fn free_place(home: &Home, base: &Chroot, name: &OsString) -> Result<Place> {
    let place = Place::find(home, name)?;
    let shown = bytes(&place.root);
    guard::may_build(home, &place)?;
    if place.root.starts_with(&base.place.root) {
        return Err(Error::new(ErrorKind::Refused, "a clone inside its base would be part of it").at(shown));
    }
    if !matches!(guard::look(home, &place)?, Found::Room) {
        let error = Error::new(ErrorKind::Refused, "something is there already").at(shown);
        return Err(error.hint(format!("remove it first, if it may go: stockade remove {}", escape(shown))));
    }
    if !place.beside {
        let reason = "others may write to the directory above it, or a filesystem is mounted there";
        let error = Error::new(ErrorKind::Refused, reason).at(shown);
        return Err(error.hint("clone to a name below a directory that only you may write to"));
    }
    Ok(place)
}

/// Refuses to write over the record of a chroot that is gone: it may only have been moved, and what was written to an
/// overlay lies in its record.
fn refuse_record(place: &Place, state: &State) -> Result<()> {
    let shown = bytes(&place.root);
    let there = |name: &str| Ok(state.dir.find(name.as_bytes()).on("stat", shown)?.is_some());
    // A removal that was interrupted is none.
    if !there(IDENTITY)? || there(OLD)? {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Refused, "the record of a chroot of this name is left, which is gone").at(shown);
    Err(error.hint(format!("move it back, or forget it with: stockade remove {}", escape(shown))))
}

/// The way that was asked for, or the cheapest that works, between the base and the place of its clone.
fn choose(asked: Option<How>, base: &Chroot, place: &Place, home: &Home) -> How {
    let sharing = match (asked, place.parent(home.calls)) {
        (None, Ok((parent, _))) => shares_blocks(&base.root, &parent),
        _ => false,
    };
    match asked.unwrap_or(if sharing { How::Reflink } else { How::Overlay }) {
        How::Reflink if is_subvolume(&base.root) => How::Snapshot,
        how => how,
    }
}

/// One clone, once it is clear what it works on.
struct Job<'a> {
    home: &'a Home,
    base: &'a Chroot,
    place: &'a Place,
    state: &'a State,
}

impl Job<'_> {
    fn run(&self, asked: Option<How>, watch: &Watch) -> Result<Report> {
        let (root, base) = (self.place.root.clone(), self.base.place.root.clone());
        let how = choose(asked, self.base, self.place, self.home);
        let (how, (entries, notes)) = match how {
            // Subvolumes of two filesystems, perhaps: each file tells.
            How::Snapshot if !self.snapshot()? => (How::Reflink, self.copy(How::Reflink, watch)?),
            How::Snapshot => (how, (None, Vec::new())),
            How::Overlay => match self.layer() {
                Err(e) if asked.is_none() && matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Refused) => {
                    (How::Copy, self.copy(How::Copy, watch)?)
                }
                done => done.map(|()| (how, (None, Vec::new())))?,
            },
            _ => (how, self.copy(how, watch)?),
        };
        watch.check()?;
        rename_in(self.home, self.place, self.state)?;
        Ok(Report { root, base, how, entries, notes })
    }

    /// Takes a snapshot, in which inodes and ctimes are those of the base. False: it cannot be taken here, or would lack
    /// what lies in subvolumes below.
    fn snapshot(&self) -> Result<bool> {
        if sys::holds_subvolumes(&self.base.root).unwrap_or(true) {
            return Ok(false);
        }
        if sys::snapshot(&self.base.root, &self.state.dir, NEW.as_bytes()).is_err() {
            return Ok(false);
        }
        let new = self.state.dir.open_dir(NEW.as_bytes()).on("open", bytes(&self.place.root))?;
        self.record(None, How::Snapshot, &new)?;
        Ok(true)
    }

    /// Makes the clone an overlay: an empty directory, and layers in its state.
    fn layer(&self) -> Result<()> {
        layers::make(self.base, self.place, self.state).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = layers::unmake(self.home, self.base, self.place, self.state);
        })?;
        let new = self.state.subdir(NEW)?;
        self.record(None, How::Overlay, &new)
    }

    /// Copies the base entry by entry. Returns how many there are, and what did not come along.
    fn copy(&self, how: How, watch: &Watch) -> Result<(Option<usize>, Vec<String>)> {
        let means = match how {
            How::Snapshot | How::Reflink => Means::Reflink,
            How::Copy | How::Overlay => Means::Copy,
            How::Link => Means::Link,
        };
        let new = new_root(self.state)?;
        let (tree, notes) = self.scan(means, watch)?;
        watch.begin("cloning", tree.bytes());
        let (stamps, recorded) = std::thread::scope(|scope| {
            let manifest = scope.spawn(|| self.base.manifest());
            let stamps = copy_tree((&self.base.root, &new), &tree, means, owners(), watch);
            (stamps, manifest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let stamps = stamps.map_err(|e| hinted(e, how))?;
        let copied = Instant::now();
        let record = text_of(&restamped(recorded?, &tree, &stamps))?;
        // The same inodes, and so the same stamps: one record for both.
        let record = if how == How::Link {
            self.base.state.write("manifest", &record)?;
            None
        } else {
            Some(record)
        };
        self.record(record, how, &new)?;
        std::thread::sleep(TICKS.saturating_sub(copied.elapsed()));
        Ok((Some(tree.len()), notes))
    }

    /// The base as it is, and what of it cannot come along.
    fn scan(&self, means: Means, watch: &Watch) -> Result<(Tree, Vec<String>)> {
        watch.begin("scanning", 0);
        // A link brings its attributes by itself.
        let options = ScanOptions { xattrs: means != Means::Link, skip: PathSet::new([WORK_INSIDE])? };
        let scan = scan(&self.base.root, &options, watch).map_err(|e| e.at(bytes(&self.base.place.root)))?;
        let mut notes: Vec<String> = Vec::new();
        let mounted = "a filesystem is mounted there; only its directory is cloned";
        notes.extend(scan.mounts.iter().map(|path| format!("{path}: {mounted}")));
        let (sockets, nodes): (Vec<_>, Vec<_>) =
            scan.tree.into_nodes().into_iter().partition(|node| node.kind == Kind::Socket);
        notes.extend(sockets.iter().map(|node| format!("{}: a socket is not cloned", node.path)));
        Ok((Tree::new(nodes)?, notes))
    }

    /// Writes what is known of the clone. Neither that nor the clone itself is synced, which would take longer than all
    /// the rest: a base that lasts has all that is in it.
    ///
    /// Without a manifest of its own the clone shares the file of the base: such files are replaced, never written to.
    fn record(&self, manifest: Option<Vec<u8>>, how: How, new: &Dir) -> Result<()> {
        let known = |name| Ok::<_, Error>(self.base.state.read(name)?.unwrap_or_default());
        let origin = Origin { base: self.base.place.root.clone(), how }.text();
        let identity = identity::of(new).on("stat", bytes(&self.place.root))?;
        let (recipe, built) = (known("recipe")?, known("built")?);
        let linked = || self.base.state.dir.link(b"manifest", &self.state.dir, b"manifest.next").is_ok();
        let manifest = match manifest {
            None if linked() => None,
            None => Some(known("manifest")?),
            text => text,
        };
        let mut files: Vec<(&str, &[u8])> = vec![("recipe.next", &recipe), ("built.next", &built)];
        let numbers = self.base.state.read(NUMBERS)?;
        files.extend(numbers.as_deref().map(|text| ("numbers.next", text)));
        files.extend(manifest.as_deref().map(|text| ("manifest.next", text)));
        files.extend([("origin.next", &*origin), ("identity.next", &identity)]);
        copy_notes(&self.base.state, self.state)?;
        self.state.write_all(&files)
    }
}

fn text_of(tree: &Tree) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    write_tree(tree, &mut text, Dialect::Stockade).on("write", "manifest")?;
    Ok(text)
}

fn hinted(error: Error, how: How) -> Error {
    match (how, error.errno()) {
        (How::Reflink, _) if error.kind() == ErrorKind::Unsupported => error.hint("use --how copy"),
        (How::Link, Some(_)) if error.operation() == Some("link") => {
            error.hint("hard links work only within one filesystem; use --how copy")
        }
        _ => error,
    }
}

/// `recorded` with the stamps of the clone for every file of which the base's own stamp proves that it is as recorded.
fn restamped(mut recorded: Tree, have: &Tree, stamps: &[Option<Stamp>]) -> Tree {
    let mut found = have.nodes().iter().zip(stamps).peekable();
    for node in recorded.nodes_mut() {
        while found.next_if(|(is, _)| is.path < node.path).is_some() {}
        let same = found.peek().filter(|(is, _)| {
            is.path == node.path && is.here == node.here && (is.size(), is.meta.mtime) == (node.size(), node.meta.mtime)
        });
        node.here = node.here.and_then(|_| *same?.1);
    }
    recorded
}
