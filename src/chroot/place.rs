// SPDX-License-Identifier: ISC
//! Where a chroot is, and where what we know of it is kept (decision E16).
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
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
        Ok(Home { path, calls: Calls::from_env() })
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
        private_dir(&above, name, &self.path)
    }
}

/// Opens the directory `name` in `above`, made 0700 if it is missing. It must be ours and not writable by others, else
/// it was planted. `shown` is its path for messages.
pub(crate) fn private_dir(above: &Dir, name: &[u8], shown: &Path) -> Result<Dir> {
    match above.make_dir(name, 0o700) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.on("mkdir", bytes(shown))?,
    }
    let dir = above.open_dir(name).on("open", bytes(shown))?;
    let stat = dir.stat_self().on("stat", bytes(shown))?;
    if !is_ours(&stat) {
        let reason = "it belongs to somebody else or others may write to it";
        return Err(Error::new(ErrorKind::Refused, reason).at(bytes(shown)));
    }
    Ok(dir)
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
    /// Finds the place of the chroot that the user calls `name`: a name without a slash lives under the home.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the parent directory does not exist; [`ErrorKind::Usage`] for a name like `..`.
    pub fn find(home: &Home, name: &OsStr) -> Result<Place> {
        if !name.as_bytes().contains(&b'/') {
            // `roots` and `@...` are the register's and the escaped paths' own names in the state directory.
            let reserved = matches!(name.as_bytes(), b"" | b"." | b".." | b".stockade" | b"roots");
            if reserved || name.as_bytes().starts_with(b"@") {
                return Err(Error::new(ErrorKind::Usage, "not a name for a chroot").at(name.as_bytes()));
            }
            home.open()?;
        }
        let given = if name.as_bytes().contains(&b'/') {
            std::env::current_dir().on("getcwd", ".")?.join(name)
        } else {
            home.path.join(name)
        };
        if given == Path::new("/") {
            return Ok(Place { state: escaped(home, &given), root: given, beside: false });
        }
        let parent = given.parent().unwrap_or(Path::new("/"));
        let parent = parent.canonicalize().on("open", bytes(parent))?;
        let root = parent.join(OsStr::from_bytes(name_of(&given)?));
        let above = Dir::open(&parent, home.calls).on("open", bytes(&parent))?;
        let stat = above.stat_self().on("stat", bytes(&parent))?;
        let found = above.find(name_of(&root)?).on("stat", bytes(&root))?;
        let mounted = found.is_some_and(|f| f.kind == FileType::Dir && f.mount != stat.mount);
        let beside = !mounted && is_ours(&stat) && !above.space().on("statfs", bytes(&parent))?.read_only;
        let state = if beside { parent.join(STATE).join(name_of_os(&root)?) } else { escaped(home, &root) };
        Ok(Place { root, state, beside })
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
        let base = Place::find(&home, OsStr::new("base")).unwrap();
        assert_eq!(base.state, home.path.join(".stockade/base"));
        assert!(base.beside);
        let open = temp.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let foreign = Place::find(&home, open.join("b0").as_os_str()).unwrap();
        assert!(!foreign.beside, "others can write to the parent: a state there could be planted");
        assert!(foreign.state.starts_with(home.path.join(".stockade")));
        let here = Place::find(&home, OsStr::new("./b0")).unwrap();
        assert_eq!(here.root, std::env::current_dir().unwrap().canonicalize().unwrap().join("b0"));
        for bad in ["..", ".", "", ".stockade", "roots", "@a"] {
            assert!(Place::find(&home, OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }
}
