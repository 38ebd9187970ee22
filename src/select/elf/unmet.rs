// SPDX-License-Identifier: ISC
//! What a program needs to be loaded, and what of it the host lacks.
//!
//! With GNU's symbol versions, a program names for each of its libraries the versions that it uses (`.gnu.version_r`), and
//! a library those that it has (`.gnu.version_d`).
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf::{FileHeader32, FileHeader64, SHT_GNU_VERDEF, SHT_GNU_VERNEED};
use object::read::elf::{FileHeader, SectionHeader, SectionTable};
use object::read::{ReadCache, ReadRef, StringTable};
use object::{Endianness, FileKind};

use super::Elf;
use crate::path::escape;
use crate::sys::{self, Calls, Dir};

/// A larger file is not looked at: tables in it may be as large.
const MAX_SIZE: u64 = 1 << 30;
/// No real table of versions is larger, in bytes.
const MAX_TABLE: u64 = 4 << 20;
/// No table of versions has more entries.
const MAX_ENTRIES: usize = 4096;
/// No list of directories is longer, in bytes.
const MAX_LIST: u64 = 1 << 20;

/// An ELF file with its symbol versions.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    elf: Elf,
    /// Versions that it uses: library, version.
    uses: Vec<(Vec<u8>, Vec<u8>)>,
    /// Versions that it has.
    has: Vec<Vec<u8>>,
}

/// Something that a program needs and the host does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// The program that would load it.
    Interpreter(Vec<u8>),
    /// A library, by soname.
    Library(Vec<u8>),
    /// A version of a library: what is used of it is not in the host's.
    Version {
        /// Its soname.
        library: Vec<u8>,
        /// The version that is used.
        version: Vec<u8>,
        /// The host's library.
        at: PathBuf,
    },
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unmet::Interpreter(path) => write!(f, "needs {}, which the host lacks", escape(path)),
            Unmet::Library(name) => write!(f, "needs {}, which the host lacks", escape(name)),
            Unmet::Version { library, version, at } => {
                let (library, version) = (escape(library), escape(version));
                write!(f, "needs {library} with {version}, which the host's {} lacks", at.display())
            }
        }
    }
}

/// Reads an ELF file. None: it is something else, or damaged; nothing would load it then.
pub fn read(file: File) -> Option<Object> {
    let size = file.metadata().ok()?.len();
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok().filter(|_| size <= MAX_SIZE)? {
        FileKind::Elf64 => object::<FileHeader64<Endianness>, _>(&data),
        FileKind::Elf32 => object::<FileHeader32<Endianness>, _>(&data),
        _ => None,
    }
}

fn object<'data, H, R>(data: R) -> Option<Object>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let elf = super::parse::<H, R>(data)?;
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let is_table = |kind| matches!(kind, SHT_GNU_VERNEED | SHT_GNU_VERDEF);
    if sections.iter().any(|s| is_table(s.sh_type(endian)) && s.sh_size(endian).into() > MAX_TABLE) {
        return None;
    }
    let uses = versions_used(&sections, endian, data)?;
    let has = versions_had(&sections, endian, data)?;
    Some(Object { elf, uses, has })
}

fn versions_used<'data, H, R>(
    sections: &SectionTable<'data, H, R>,
    endian: Endianness,
    data: R,
) -> Option<Vec<(Vec<u8>, Vec<u8>)>>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let Some((mut libraries, link)) = sections.gnu_verneed(endian, data).ok()? else { return Some(Vec::new()) };
    let strings: StringTable<'data, R> = sections.strings(endian, data, link).ok()?;
    let (mut found, mut left) = (Vec::new(), MAX_ENTRIES);
    while let Some((library, mut versions)) = libraries.next().ok()? {
        let name = library.file(endian, strings).ok()?;
        while let Some(version) = versions.next().ok()? {
            left = left.checked_sub(1)?;
            // Weak versions are for symbols that the program can do without.
            if version.vna_flags.get(endian) & object::elf::VER_FLG_WEAK == Default::default() {
                found.push((name.to_vec(), version.name(endian, strings).ok()?.to_vec()));
            }
        }
    }
    Some(found)
}

fn versions_had<'data, H, R>(sections: &SectionTable<'data, H, R>, endian: Endianness, data: R) -> Option<Vec<Vec<u8>>>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let Some((mut versions, link)) = sections.gnu_verdef(endian, data).ok()? else { return Some(Vec::new()) };
    let strings: StringTable<'data, R> = sections.strings(endian, data, link).ok()?;
    let (mut found, mut left) = (Vec::new(), MAX_ENTRIES);
    while let Some((_, mut names)) = versions.next().ok()? {
        left = left.checked_sub(1)?;
        // The first name is the version's own, further ones are those that it continues.
        if let Some(name) = names.next().ok()? {
            found.push(name.name(endian, strings).ok()?.to_vec());
        }
    }
    Some(found)
}

/// Where what a program needs is looked for.
#[allow(missing_debug_implementations)] // functions say nothing
pub struct Root<'a> {
    /// Opens a file at an absolute path, through links.
    pub open: &'a dyn Fn(&Path) -> Option<File>,
    /// The names in a directory at an absolute path.
    pub names: &'a dyn Fn(&Path) -> Vec<OsString>,
    /// Libraries may be called `libNAME.so.MAJOR.MINOR`; a later minor number does as well.
    pub minors: bool,
}

/// This host.
pub const HOST: Root<'static> = Root {
    open: &open_here,
    names: &|dir| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect(),
    minors: sys::LIBRARY_MINORS,
};

/// What the program at `path` of `root` needs and the root does not have.
pub fn unmet(object: &Object, path: &Path, root: &Root<'_>) -> Vec<Unmet> {
    let Object { elf, uses, .. } = object;
    let mut unmet = Vec::new();
    let there = |at: &&Vec<u8>| (root.open)(Path::new(OsStr::from_bytes(at))).is_some();
    unmet.extend(elf.interpreter.iter().filter(|at| !there(at)).cloned().map(Unmet::Interpreter));
    let dirs = root.directories(elf, path);
    for name in &elf.needed {
        let Some((at, library)) = root.find(elf, name, &dirs) else {
            unmet.push(Unmet::Library(name.clone()));
            continue;
        };
        // A library without any versions is taken for one that has them all, as ld.so does.
        let used = uses.iter().filter(|(of, version)| of == name && !library.has.contains(version));
        let lacking = used.filter(|_| !library.has.is_empty());
        unmet.extend(lacking.map(|(library, version)| Unmet::Version {
            library: library.clone(),
            version: version.clone(),
            at: at.clone(),
        }));
    }
    unmet
}

impl Root<'_> {
    /// Where the libraries of `elf`, a program at `path`, are looked for.
    fn directories(&self, elf: &Elf, path: &Path) -> Vec<PathBuf> {
        let origin = path.parent().unwrap_or(Path::new("/"));
        let search = elf.runpath.as_ref().unwrap_or(&elf.rpath);
        let own = search.iter().filter(|dir| !dir.is_empty()).map(|dir| {
            let rest = [&b"$ORIGIN"[..], b"${ORIGIN}"].iter().find_map(|word| dir.strip_prefix(*word));
            match rest {
                Some(rest) => origin.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest))),
                None => PathBuf::from(OsStr::from_bytes(dir)),
            }
        });
        let configured = self.configured(Path::new("/etc/ld.so.conf"));
        own.chain(configured).chain(sys::LIBRARY_DIRS.iter().flat_map(|dir| self.built_in(Path::new(dir)))).collect()
    }

    /// A directory that the loader knows by itself; Debian's knows those of architectures in it, too.
    fn built_in(&self, dir: &Path) -> Vec<PathBuf> {
        let of_arch = |name: &OsString| name.as_bytes().windows(7).any(|word| word == b"-linux-");
        let inner = (self.names)(dir).into_iter().filter(of_arch).map(|name| dir.join(name));
        inner.chain([dir.to_owned()]).collect()
    }

    /// The directories that ldconfig(8) is told of; `include` names files by a pattern in one directory.
    fn configured(&self, file: &Path) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        for line in self.text(file).lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("include ") {
                None if line.starts_with('/') => dirs.push(PathBuf::from(line)),
                None => {}
                Some(pattern) => {
                    let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern.trim());
                    let above = pattern.parent().unwrap_or(Path::new("/"));
                    let files = (self.names)(above).into_iter().map(|name| above.join(name));
                    let named = files.filter(|path| path.extension().is_some_and(|end| end == "conf"));
                    dirs.extend(named.flat_map(|path| plain_directories(&self.text(&path))));
                }
            }
        }
        dirs
    }

    /// The text of a file; none of what is larger than any list of directories.
    fn text(&self, path: &Path) -> String {
        let mut text = String::new();
        if let Some(file) = (self.open)(path) {
            // What is no text names no directory.
            let _ = file.take(MAX_LIST).read_to_string(&mut text);
        }
        text
    }

    /// The first library of this name that `elf` could be loaded with.
    fn find(&self, elf: &Elf, name: &[u8], dirs: &[PathBuf]) -> Option<(PathBuf, Object)> {
        let fitting = |at: PathBuf| {
            let library = read((self.open)(&at)?)?;
            (library.elf.machine == elf.machine).then_some((at, library))
        };
        let name = OsStr::from_bytes(name);
        dirs.iter().find_map(|dir| fitting(dir.join(name)).or_else(|| self.newer_minor(dir, name).and_then(fitting)))
    }

    /// Where libraries are called `libNAME.so.MAJOR.MINOR` and a later minor number does as well: such a one.
    fn newer_minor(&self, dir: &Path, name: &OsStr) -> Option<PathBuf> {
        if !self.minors {
            return None;
        }
        let (stem, minor) = name.to_str()?.rsplit_once('.')?;
        let minor: u32 = minor.parse().ok()?;
        let fits = |found: &str| {
            found.rsplit_once('.').is_some_and(|(s, m)| s == stem && m.parse::<u32>().is_ok_and(|m| m >= minor))
        };
        (self.names)(dir).into_iter().find(|name| name.to_str().is_some_and(fits)).map(|name| dir.join(name))
    }
}

/// Opens a library. The program under inspection says where it is looked for, and may name a device or a FIFO.
fn open_here(at: &Path) -> Option<File> {
    let real = at.canonicalize().ok()?;
    let dir = Dir::open(real.parent()?, Calls::from_env()).ok()?;
    dir.open_regular(real.file_name()?.as_bytes()).ok()?
}

fn plain_directories(text: &str) -> Vec<PathBuf> {
    text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn of(bytes: &[u8]) -> Option<Object> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read(file)
    }

    /// The program of these tests themselves.
    fn own() -> Vec<u8> {
        let path = ["/bin/sh", "/usr/bin/env"].iter().find(|path| Path::new(path).exists()).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_program_of_the_host_finds_all_it_needs_there() {
        let mut strange = of(&own()).unwrap();
        assert!(!strange.uses.is_empty() && !strange.elf.needed.is_empty(), "{strange:?}");
        assert_eq!(unmet(&strange, Path::new("/bin/sh"), &HOST), []);
        strange.elf.needed = vec![b"libnone.so.1".to_vec()];
        strange.elf.interpreter = Some(b"/lib/ld-none".to_vec());
        let lacking: Vec<String> =
            unmet(&strange, Path::new("/bin/sh"), &HOST).iter().map(ToString::to_string).collect();
        assert_eq!(lacking, ["needs /lib/ld-none, which the host lacks", "needs libnone.so.1, which the host lacks"]);
    }
}
