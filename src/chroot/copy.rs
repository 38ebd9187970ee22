// SPDX-License-Identifier: ISC
//! `copy`: files and directories out of a chroot and into one.
//!
//! A path of the chroot is resolved inside it: no link leads out, however it is made and whoever changes it meanwhile.
//! What arrives belongs to the caller, keeps modes and times, and is never a device or set-id: neither side has to trust
//! the other. It appears under its name only when it is whole.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::open::{Chroot, Locking};
use super::place::{Home, Place, bytes};
use super::state::State;
use super::work::Work;
use crate::apply::{Means, Owners, copy_tree, remove_tree};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::select::elf::{self, Object, Unmet};
use crate::source::dir::{ScanOptions, scan, scan_paths};
use crate::sys::{Dir, FileType, Stat};
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Kind, Meta, Node, Tree};
use crate::watch::Watch;

/// What the user asks of `copy`. One of both ends is `ROOT:PATH`, the other a path of the host.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to copy.
    pub from: OsString,
    /// Where to: a directory, or the new name.
    pub to: OsString,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Wait for the lock.
    pub wait: bool,
}

/// What `copy` did, or would do.
#[derive(Debug, Default)]
pub struct Report {
    /// Where it is now: in the chroot or on the host.
    pub to: Vec<u8>,
    /// How many files, directories and links.
    pub entries: usize,
    /// Bytes in files.
    pub bytes: u64,
    /// What did not come along.
    pub notes: Vec<String>,
    /// What programs that were copied out need and the host does not have, by path.
    pub unmet: Vec<(PathBuf, Unmet)>,
}

/// Copies a file or directory out of a chroot or into one.
///
/// # Errors
/// [`ErrorKind::Usage`] unless exactly one end is in a chroot; [`ErrorKind::Refused`] if a directory is to be replaced,
/// or something else that is no file; whatever reading or writing says.
pub fn copy(home: &Home, request: &Request, watch: &Watch) -> Result<Report> {
    let locking = Locking { shared: true, wait: request.wait, verb: "copy" };
    match (inside(home, &request.from)?, inside(home, &request.to)?) {
        (Some((root, path)), None) => {
            let chroot = Chroot::open(home, &root, locking)?;
            copy_out(&chroot, &path, Path::new(&request.to), request.dry_run, watch)
        }
        (None, Some((root, path))) => {
            let chroot = Chroot::open(home, &root, locking)?;
            chroot.refuse_frozen(home)?;
            copy_in(&chroot, Path::new(&request.from), &path, request.dry_run, watch)
        }
        (Some(_), Some(_)) => Err(usage("both ends are in chroots")),
        (None, None) => Err(usage("neither end is in a chroot")),
    }
}

fn usage(reason: &'static str) -> Error {
    Error::new(ErrorKind::Usage, reason).hint("write one as ROOT:PATH, with a chroot that `stockade list` knows")
}

/// The chroot and the path in it, if the word means such: what is before its first colon is a chroot.
fn inside(home: &Home, word: &OsStr) -> Result<Option<(OsString, TreePath)>> {
    let Some(colon) = word.as_bytes().iter().position(|&b| b == b':').filter(|&at| at > 0) else { return Ok(None) };
    let (root, path) = (OsStr::from_bytes(&word.as_bytes()[..colon]), &word.as_bytes()[colon + 1..]);
    let known = Place::find(home, root).and_then(|place| State::open(home, &place));
    match known {
        Ok(Some(_)) => Ok(Some((root.to_owned(), TreePath::lenient(path)?))),
        _ => Ok(None),
    }
}

/// Something to copy: `name` in `parent`.
struct Source {
    parent: Dir,
    name: Vec<u8>,
    kind: FileType,
}

/// Where it goes: `name` in `parent`.
struct Target {
    parent: Dir,
    name: Vec<u8>,
    /// What is there now.
    found: Option<Stat>,
    /// For people.
    shown: Vec<u8>,
}

fn copy_out(chroot: &Chroot, path: &TreePath, to: &Path, dry_run: bool, watch: &Watch) -> Result<Report> {
    let at = find_inside(&chroot.root, path)?.ok_or_else(|| missing(path))?;
    let parent = chroot.root.walk_parent(&at).on("open", path).map_err(|_| whole(path))?;
    let source = Source::new(parent, at.name())?;
    let target = host_target(to, if path.is_root() { at.name() } else { path.name() }, chroot.root.calls())?;
    let fit = target.fits(&source)?;
    let (tree, mut report) = source.tree(watch)?;
    report.to = target.shown.clone();
    if dry_run {
        return Ok(report);
    }
    // Beside its place, so that it can be renamed in.
    let stage = format!(".stockade-{}", std::process::id()).into_bytes();
    fit.make_dir(&stage, 0o700).on("mkdir", &target.shown)?;
    let done = fit.open_dir(&stage).on("open", &target.shown).and_then(|dir| {
        let programs = programs(&tree, &source.copy(&tree, &dir, &target, watch)?)?;
        source.deliver(&dir, &target).map(|()| programs)
    });
    let removed = remove_tree(fit, &stage, &Watch::default());
    // The first error is the one to tell.
    let programs = done?;
    removed?;
    let (to, alone) = (Path::new(OsStr::from_bytes(&target.shown)), source.kind != FileType::Dir);
    report.unmet = unmet(&programs, to, alone);
    Ok(report)
}

fn copy_in(chroot: &Chroot, from: &Path, path: &TreePath, dry_run: bool, watch: &Watch) -> Result<Report> {
    let shown = bytes(from);
    let real = from.canonicalize().on("open", shown)?;
    let above = Dir::open(real.parent().unwrap_or(Path::new("/")), chroot.root.calls()).on("open", shown)?;
    let source = Source::new(above, real.file_name().map(OsStrExt::as_bytes).unwrap_or_default())?;
    let name = from.file_name().map_or(source.name.clone(), |name| name.as_bytes().to_vec());
    let target = inside_target(&chroot.root, path, &name)?;
    target.fits(&source)?;
    let (tree, mut report) = source.tree(watch)?;
    report.to = target.shown.clone();
    if dry_run {
        return Ok(report);
    }
    let work = Work::new(&chroot.place, &chroot.state, Some(&chroot.root))?;
    let (dir, stage) = (work.dir()?, format!("copy-{}", std::process::id()).into_bytes());
    dir.make_dir(&stage, 0o700).on("mkdir", &target.shown)?;
    let done = dir.open_dir(&stage).on("open", &target.shown).and_then(|to| {
        source.copy(&tree, &to, &target, watch)?;
        source.deliver(&to, &target)
    });
    let left = remove_tree(&dir, &stage, &Watch::default()).and_then(|()| work.leave());
    done.and(left).map(|()| report)
}

impl Source {
    fn new(parent: Dir, name: &[u8]) -> Result<Source> {
        let kind = parent.stat(name).on("stat", name)?.kind;
        if !matches!(kind, FileType::File | FileType::Dir) {
            return Err(Error::new(ErrorKind::Refused, "it is neither a file nor a directory").at(name));
        }
        Ok(Source { parent, name: name.to_vec(), kind })
    }

    fn dir(&self) -> Result<Dir> {
        self.parent.walk(&TreePath::new(&*self.name)?).on("open", &self.name)
    }

    /// Makes the copy in `stage`. Returns the directory in which it is what `tree` says.
    fn copy(&self, tree: &Tree, stage: &Dir, target: &Target, watch: &Watch) -> Result<Dir> {
        watch.begin("copying", tree.bytes());
        let (from, to) = if self.kind == FileType::Dir {
            stage.make_dir(&self.name, 0o700).on("mkdir", &target.shown)?;
            (self.dir()?, stage.open_dir(&self.name))
        } else {
            (self.parent.try_clone().on("dup", &target.shown)?, stage.try_clone())
        };
        let to = to.on("open", &target.shown)?;
        copy_tree((&from, &to), tree, Means::Copy, Owners::Caller, watch)?;
        Ok(to)
    }

    /// Moves the copy from `stage` to its place.
    fn deliver(&self, stage: &Dir, target: &Target) -> Result<()> {
        stage.rename(&self.name, &target.parent, &target.name).on("rename", &target.shown)
    }

    /// What of it is copied: as a tree below `parent` for a file, below itself for a directory.
    fn tree(&self, watch: &Watch) -> Result<(Tree, Report)> {
        watch.begin("scanning", 0);
        let found = match self.kind {
            FileType::Dir => scan(&self.dir()?, &ScanOptions::default(), watch)?,
            _ => scan_paths(&self.parent, &[TreePath::new(&*self.name)?], &ScanOptions::default(), watch)?,
        };
        let mounted = "a filesystem is mounted there; only its directory is copied";
        let mut notes: Vec<String> = found.mounts.iter().map(|path| format!("{path}: {mounted}")).collect();
        let all = found.tree.into_nodes();
        let (mut special, mut privileged, mut nodes) = (0, 0, Vec::with_capacity(all.len()));
        for node in all.into_iter().filter(|node| self.kind == FileType::Dir || !node.path.is_root()) {
            match node.kind {
                Kind::Dir | Kind::File { .. } | Kind::Symlink(_) => {
                    privileged += usize::from(!node.kind.is_dir() && node.meta.mode & 0o6000 != 0);
                    let meta = Meta { mode: node.meta.mode & 0o1777, ..node.meta };
                    nodes.push(Node { meta, ..node });
                }
                _ => special += 1,
            }
        }
        let said =
            [(special, "devices, FIFOs or sockets are not copied"), (privileged, "files lose their set-id bits")];
        notes.extend(said.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        let tree = Tree::new(nodes)?;
        let report = Report { entries: tree.len(), bytes: tree.bytes(), notes, ..Report::default() };
        Ok((tree, report))
    }
}

impl Target {
    /// Refuses to replace what is not meant. Returns the directory to write to.
    fn fits(&self, source: &Source) -> Result<&Dir> {
        let reason = match self.found.as_ref().map(|stat| stat.kind) {
            None => return Ok(&self.parent),
            Some(FileType::File) if source.kind == FileType::File => return Ok(&self.parent),
            Some(FileType::Dir) => "a directory of this name is there; none is merged or replaced",
            Some(_) if source.kind == FileType::Dir => "something of this name is there that is no directory",
            Some(_) => "it is no regular file; only such are replaced",
        };
        Err(Error::new(ErrorKind::Refused, reason).at(&self.shown).hint("name another place, or remove it first"))
    }
}

/// The place on the host: in the directory `to`, or under this name. Links are the caller's own and are followed.
fn host_target(to: &Path, name: &[u8], calls: crate::sys::Calls) -> Result<Target> {
    let to = &std::path::absolute(to).on("open", bytes(to))?;
    let full = match std::fs::metadata(to) {
        Ok(found) if found.is_dir() => to.join(OsStr::from_bytes(name)),
        // What a link leads to is replaced, not the link.
        Ok(_) => to.canonicalize().on("open", bytes(to))?,
        Err(_) => to.clone(),
    };
    let shown = bytes(&full).to_vec();
    let (Some(above), Some(name)) = (full.parent(), full.file_name()) else { return Err(whole(&TreePath::root())) };
    let parent = Dir::open(above, calls).on("open", bytes(above))?;
    let found = parent.find(name.as_bytes()).on("stat", &shown)?;
    Ok(Target { parent, name: name.as_bytes().to_vec(), found, shown })
}

/// The place in the chroot: in the directory at `path`, or under this name.
fn inside_target(root: &Dir, path: &TreePath, name: &[u8]) -> Result<Target> {
    let at = match find_inside(root, path)? {
        Some(at) if kind_of(root, &at)?.is_some_and(|kind| kind.is_dir()) => at.join(name)?,
        Some(at) => at,
        None => {
            let above = path.parent().unwrap_or_default();
            find_inside(root, &above)?.ok_or_else(|| missing(&above))?.join(path.name())?
        }
    };
    let parent = root.walk_parent(&at).on("open", &at)?;
    let found = parent.find(at.name()).on("stat", &at)?;
    Ok(Target { parent, name: at.name().to_vec(), found, shown: at.as_bytes().to_vec() })
}

/// Where `path` leads inside `root`, all its links followed; none if there is nothing.
pub(crate) fn find_inside(root: &Dir, path: &TreePath) -> Result<Option<TreePath>> {
    let failed = RefCell::new(None);
    let look = |at: &TreePath| {
        kind_of(root, at).unwrap_or_else(|error| {
            failed.borrow_mut().get_or_insert(error);
            None
        })
    };
    let found = resolve(path, true, look, |_| Ok(()));
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(match found.map_err(|e| e.at(path))? {
            Resolved::Found(at) => Some(at),
            Resolved::Missing(_) => None,
        }),
    }
}

/// What is at `path`, which leads through no link.
pub(crate) fn kind_of(root: &Dir, path: &TreePath) -> Result<Option<Kind>> {
    if path.is_root() {
        return Ok(Some(Kind::Dir));
    }
    let parent = root.walk_parent(path).on("open", path)?;
    Ok(match parent.find(path.name()).on("stat", path)?.map(|stat| stat.kind) {
        None => None,
        Some(FileType::Dir) => Some(Kind::Dir),
        Some(FileType::Symlink) => Some(Kind::Symlink(parent.read_link(path.name()).on("readlink", path)?)),
        // What else it is does not matter to who only looks for the way.
        Some(_) => Some(Kind::File { size: 0, digest: None }),
    })
}

fn missing(path: &TreePath) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such file in the chroot").at(path)
}

fn whole(path: &TreePath) -> Error {
    Error::new(ErrorKind::Refused, "a whole root is not copied").at(path).hint("use stockade clone")
}

/// The programs and libraries of `tree`, read where nobody else reaches them yet.
fn programs(tree: &Tree, made: &Dir) -> Result<Vec<(TreePath, Object)>> {
    let mut programs = Vec::new();
    for node in tree.nodes().iter().filter(|node| matches!(node.kind, Kind::File { .. })) {
        let parent = made.walk_parent(&node.path).on("open", &node.path)?;
        let file = parent.open_regular(node.path.name()).on("open", &node.path)?;
        programs.extend(file.and_then(elf::read_object).map(|object| (node.path.clone(), object)));
    }
    Ok(programs)
}

/// What they need at `to`, where they are in a directory or alone, and the host does not have.
fn unmet(programs: &[(TreePath, Object)], to: &Path, alone: bool) -> Vec<(PathBuf, Unmet)> {
    let place = |path: &TreePath| if alone { to.to_owned() } else { to.join(path.as_os_str()) };
    let all = programs.iter().map(|(path, object)| (place(path), object));
    all.flat_map(|(path, object)| {
        elf::unmet(object, &path, &elf::HOST).into_iter().map(move |what| (path.clone(), what))
    })
    .collect()
}
