// SPDX-License-Identifier: ISC
//! Where a chroot is, and where what we know of it is kept (decision E16).
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::identity::{self, IDENTITY};
use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Calls, Dir, FileType, Stat};

/// The directory in which state directories lie.
pub(crate) const STATE: &str = ".stockade";

/// The stockade home: where chroots named without a slash live, and the register of all of them.
#[derive(Debug, Clone)]
pub struct Home {
    /// Absolute path.
    pub path: PathBuf,
    /// The system calls to use for everything reached from here.
    pub calls: Calls,
}

impl Home {
    /// `$STOCKADE_HOME`; else `/var/stockade` for root and `$XDG_DATA_HOME/stockade` for others.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if no variable leads to an absolute path.
    pub fn from_env() -> Result<Home> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let path = if let Some(home) = var("STOCKADE_HOME") {
            home
        } else if sys::effective_uid() == 0 {
            PathBuf::from("/var/stockade")
        } else if let Some(data) = var("XDG_DATA_HOME") {
            data.join("stockade")
        } else if let Some(home) = var("HOME") {
            home.join(".local/share/stockade")
        } else {
            bail!(Usage, "no home: set STOCKADE_HOME to a directory for your chroots");
        };
        if !path.is_absolute() {
            return Err(Error::new(ErrorKind::Usage, "the stockade home must be an absolute path").at(bytes(&path)));
        }
        Ok(Home { path: with_real_parent(&path), calls: Calls::from_env() })
    }

    /// Opens the home if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if it belongs to somebody else or others may write to it.
    pub fn look(&self) -> Result<Option<Dir>> {
        match Dir::open(self.path.parent().unwrap_or(Path::new("/")), self.calls) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            above => {
                trusted_dir(&above.on("open", bytes(&self.path))?, name_of(&self.path)?, &self.path).map_err(whose)
            }
        }
    }

    /// Opens the home, which is made with mode 0700 if it is missing: set-id programs inside its chroots are not for
    /// everybody (decision E18).
    ///
    /// # Errors
    /// As mkdir(2); [`ErrorKind::Refused`] if it belongs to somebody else or others may write to it.
    pub fn open(&self) -> Result<Dir> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).on("mkdir", bytes(parent))?;
        let above = Dir::open(parent, self.calls).on("open", bytes(parent))?;
        let name = name_of(&self.path)?;
        private_dir(&above, name, &self.path).map_err(whose)
    }
}

/// A home that is not ours has an owner, who can use it.
fn whose(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Refused => {
            error.hint("run it as the user whose home it is, or set STOCKADE_HOME to a directory of your own")
        }
        _ => error,
    }
}

/// The path with the links above its last name resolved, as far as what is above exists.
fn with_real_parent(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => above.canonicalize().unwrap_or_else(|_| with_real_parent(above)).join(name),
        _ => path.to_owned(),
    }
}

/// Opens the directory `name` in `above`, made 0700 if it is missing, as [`trusted_dir`] does.
pub(crate) fn private_dir(above: &Dir, name: &[u8], shown: &Path) -> Result<Dir> {
    match above.make_dir(name, 0o700) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.on("mkdir", bytes(shown))?,
    }
    let gone = || Error::new(ErrorKind::NotFound, "it was removed meanwhile").at(bytes(shown));
    trusted_dir(above, name, shown)?.ok_or_else(gone)
}

/// Opens the directory `name` in `above`, if there is one. It must be ours and not writable by others, else it was
/// planted. `shown` is its path for messages.
pub(crate) fn trusted_dir(above: &Dir, name: &[u8], shown: &Path) -> Result<Option<Dir>> {
    let dir = match above.open_dir(name) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        dir => dir.on("open", bytes(shown))?,
    };
    let stat = dir.stat_self().on("stat", bytes(shown))?;
    if !is_ours(&stat) {
        let reason = "it belongs to somebody else or others may write to it";
        return Err(Error::new(ErrorKind::Refused, reason).at(bytes(shown)));
    }
    Ok(Some(dir))
}

/// Ours and nobody else's to write.
fn is_ours(stat: &Stat) -> bool {
    stat.uid == sys::effective_uid() && stat.mode & 0o022 == 0
}

/// A chroot's place: its directory and its state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absolute path of the chroot, its parent without symlinks.
    pub root: PathBuf,
    /// Absolute path of its state directory.
    pub state: PathBuf,
    /// The state lies beside the root on one filesystem, so that a new root can be built there and renamed in.
    pub beside: bool,
}

impl Place {
    /// Finds the place of the chroot that the user calls `name`: a name without a slash lives under the home. Makes
    /// nothing.
    ///
    /// The state is where a record lies; without one, beside the root if nobody else may write there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the parent directory does not exist, or if the chroot is a filesystem that is not
    /// mounted now; [`ErrorKind::Refused`] if there are two records, or one that others may have planted;
    /// [`ErrorKind::Usage`] for a name like `..`.
    pub fn find(home: &Home, name: &OsStr) -> Result<Place> {
        let given = if name.as_bytes().contains(&b'/') {
            std::env::current_dir().on("getcwd", ".")?.join(name)
        } else {
            if matches!(name.as_bytes(), b"" | b"." | b"..") {
                return Err(not_a_name(name));
            }
            if home.look()?.is_none() {
                let state = home.path.join(STATE).join(name);
                return reserved(home, Place { root: home.path.join(name), state, beside: true });
            }
            home.path.join(name)
        };
        if given == Path::new("/") {
            return Ok(Place { state: escaped(home, &given), root: given, beside: false });
        }
        let parent = given.parent().unwrap_or(Path::new("/"));
        let parent = parent.canonicalize().on("open", bytes(parent))?;
        let root = parent.join(OsStr::from_bytes(name_of(&given)?));
        reserved(home, Ground::look(&root, &parent, home.calls)?.place(home, root)?)
    }

    /// What the user may call it: its name, if it lives under the home; else its path. For messages.
    pub fn called(&self, home: &Home) -> String {
        match self.root.strip_prefix(&home.path) {
            Ok(name) if name.components().count() == 1 => escape(bytes(name)),
            _ => escape(bytes(&self.root)),
        }
    }

    /// The directory that holds the root, and the root's name in it; none for `/`.
    ///
    /// # Errors
    /// As open(2).
    pub fn parent(&self, calls: Calls) -> Result<(Dir, Vec<u8>)> {
        let parent = self.root.parent().unwrap_or(Path::new("/"));
        Ok((Dir::open(parent, calls).on("open", bytes(parent))?, name_of(&self.root)?.to_vec()))
    }
}

/// `roots` and `@...` are the register's and the escaped paths' own names in the home's state directory.
fn reserved(home: &Home, place: Place) -> Result<Place> {
    let name = name_of_os(&place.root)?;
    let in_home = place.root.parent() == Some(&home.path);
    let taken = name == STATE || (in_home && (name == "roots" || name.as_bytes().starts_with(b"@")));
    if taken { Err(not_a_name(name)) } else { Ok(place) }
}

fn not_a_name(name: &OsStr) -> Error {
    Error::new(ErrorKind::Usage, "not a name for a chroot").at(name.as_bytes())
}

/// What decides where the state of a root lies.
struct Ground {
    /// Absolute path of the directory that holds the root.
    parent: PathBuf,
    /// The parent is ours, and nobody else may write to it.
    ours: bool,
    read_only: bool,
    /// The root is a mount point now.
    mounted: bool,
}

impl Ground {
    fn look(root: &Path, parent: &Path, calls: Calls) -> Result<Ground> {
        let above = Dir::open(parent, calls).on("open", bytes(parent))?;
        let stat = above.stat_self().on("stat", bytes(parent))?;
        let found = above.find(name_of(root)?).on("stat", bytes(root))?;
        Ok(Ground {
            parent: parent.to_owned(),
            ours: is_ours(&stat),
            read_only: above.space().on("statfs", bytes(parent))?.read_only,
            mounted: found.is_some_and(|f| f.kind == FileType::Dir && f.mount != stat.mount),
        })
    }

    /// Mounts and modes may be others than when the record was made: the record decides.
    fn place(&self, home: &Home, root: PathBuf) -> Result<Place> {
        let near = self.parent.join(STATE).join(name_of_os(&root)?);
        let away = escaped(home, &root);
        let fit = self.ours && !self.read_only && !self.mounted;
        match (has_record(&near), has_record(&away)) {
            (true, true) => {
                let reason = format!("there are two records of it: {} and {}", near.display(), away.display());
                let hint = "move away the one that is not of this chroot";
                Err(Error::new(ErrorKind::Refused, reason).at(bytes(&root)).hint(hint))
            }
            (true, false) if !self.ours => Err(planted(&near, &self.parent)),
            (true, false) => Ok(Place { root, state: near, beside: fit }),
            (false, true) => {
                if !self.mounted && std::fs::read(away.join(IDENTITY)).is_ok_and(|was| identity::is_of_mount(&was)) {
                    let reason = "it is a filesystem of its own, which is not mounted";
                    let hint = format!("mount it first; if it is gone for good: rm -r {}", escape(bytes(&away)));
                    return Err(Error::new(ErrorKind::NotFound, reason).at(bytes(&root)).hint(hint));
                }
                Ok(Place { root, state: away, beside: false })
            }
            (false, false) if fit => Ok(Place { root, state: near, beside: true }),
            (false, false) => Ok(Place { root, state: away, beside: false }),
        }
    }
}

/// Does the state directory hold a record, or one that is being made? A directory that we may not look into is not
/// ours.
fn has_record(state: &Path) -> bool {
    [IDENTITY, "identity.next"].iter().any(|name| state.join(name).symlink_metadata().is_ok())
}

fn planted(record: &Path, parent: &Path) -> Error {
    let (shown, parent) = (escape(bytes(record)), escape(bytes(parent)));
    Error::new(ErrorKind::Refused, "this record lies where others may write: they may have planted it")
        .at(bytes(record))
        .hint(format!("if it is yours: chmod go-w {parent}; if not: rm -r {shown}"))
}

/// `HOME/.stockade/@ESCAPED-PATH`: `/` becomes `-`, `-` and `%` become `%2d` and `%25`.
fn escaped(home: &Home, root: &Path) -> PathBuf {
    let mut name = b"@".to_vec();
    name.extend(escape_name(root));
    home.path.join(STATE).join(OsString::from_vec(name))
}

/// A file name for an absolute path; injective.
pub(crate) fn escape_name(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in bytes(path).strip_prefix(b"/").unwrap_or(bytes(path)) {
        match byte {
            b'/' => out.push(b'-'),
            b'-' | b'%' => out.extend(format!("%{byte:02x}").into_bytes()),
            _ => out.push(byte),
        }
    }
    if out.is_empty() { b"-".to_vec() } else { out }
}

/// The bytes of a path.
pub(crate) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn name_of(path: &Path) -> Result<&[u8]> {
    name_of_os(path).map(OsStrExt::as_bytes)
}

fn name_of_os(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| Error::new(ErrorKind::Usage, "the path has no last name").at(bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_is_injective() {
        for (path, name) in [("/", "-"), ("/a/b", "a-b"), ("/a-b", "a%2db"), ("/a%2db", "a%252db")] {
            assert_eq!(escape_name(Path::new(path)), name.as_bytes());
        }
    }

    #[test]
    fn places() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home { path: temp.path().join("home"), calls: Calls::Native };
        for _ in 0..2 {
            let base = Place::find(&home, OsStr::new("base")).unwrap();
            assert_eq!(base.state, home.path.join(".stockade/base"));
            assert!(base.beside);
            assert!(!home.path.join("base").exists(), "looking makes nothing");
            home.open().unwrap();
        }
        let open = temp.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let foreign = Place::find(&home, open.join("b0").as_os_str()).unwrap();
        assert!(!foreign.beside, "others can write to the parent: a state there could be planted");
        assert!(foreign.state.starts_with(home.path.join(".stockade")));
        let here = Place::find(&home, OsStr::new("./b0")).unwrap();
        assert_eq!(here.root, std::env::current_dir().unwrap().canonicalize().unwrap().join("b0"));
        let in_home = |name: &str| home.path.join(name).display().to_string();
        for bad in ["..", ".", "", ".stockade", "roots", "@a", &in_home("roots"), &in_home("@a"), "./.stockade"] {
            assert!(Place::find(&home, OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }
}
