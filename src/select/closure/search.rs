// SPDX-License-Identifier: ISC
//! Where a loader finds a library: the rules of glibc, musl and OpenBSD's ld.so.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::cache;
use super::hints;
use super::view::{View, below};
use crate::error::Result;
use crate::path::TreePath;
use crate::select::elf::{self, Elf, Machine};

/// The longest path that the kernel takes.
const MAX_PATH: usize = 4096;

/// Whose rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// ld-linux.so of glibc.
    Glibc,
    /// ld-musl-*.so.
    Musl,
    /// ld.so of OpenBSD.
    OpenBsd,
}

impl Loader {
    /// The loader that is at this path.
    pub fn of(interpreter: &[u8]) -> Loader {
        match interpreter.rsplit(|&b| b == b'/').next().unwrap_or_default() {
            b"ld.so" if interpreter.starts_with(b"/usr/libexec/") => Loader::OpenBsd,
            name if name.starts_with(b"ld-musl-") => Loader::Musl,
            _ => Loader::Glibc,
        }
    }
}

/// An object that was loaded, or will be.
#[derive(Debug, Clone)]
pub struct Object {
    /// The name it was found by, absolute; `$ORIGIN` is the directory of that.
    pub at: Vec<u8>,
    /// Where that leads.
    pub path: TreePath,
    /// What is in it.
    pub elf: Rc<Elf>,
    /// Where it looks before anything else: its own `RPATH`, and that of what loaded it.
    pub rpaths: Rc<Vec<Vec<u8>>>,
}

/// What is known of where libraries are.
#[derive(Debug)]
pub struct Search<'a> {
    view: &'a View,
    cache: HashMap<Vec<u8>, Vec<cache::Entry>>,
    configured: Vec<Vec<u8>>,
    hints: Vec<Vec<u8>>,
    elves: RefCell<HashMap<TreePath, Option<Rc<Elf>>>>,
    musl: RefCell<Option<Rc<Vec<Vec<u8>>>>>,
}

impl<'a> Search<'a> {
    /// Reads what the loaders of the host are told.
    ///
    /// # Errors
    /// As reading files.
    pub fn new(view: &'a View) -> Result<Search<'a>> {
        let mut cache: HashMap<Vec<u8>, Vec<cache::Entry>> = HashMap::new();
        let text = view.read(b"/etc/ld.so.cache", cache::MAX_FILE)?;
        for entry in text.and_then(|text| cache::read(&text)).unwrap_or_default() {
            cache.entry(entry.name.clone()).or_default().push(entry);
        }
        let hints = view.read(b"/var/run/ld.so.hints", hints::MAX_HINTS)?;
        let hints = hints.and_then(|text| hints::directories(&text)).unwrap_or_default();
        let configured = hints::configured(view)?;
        Ok(Search { view, cache, configured, hints, elves: RefCell::default(), musl: RefCell::default() })
    }

    /// What is in the file at a canonical path, if it is an ELF file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn elf(&self, path: &TreePath) -> Result<Option<Rc<Elf>>> {
        if let Some(known) = self.elves.borrow().get(path) {
            return Ok(known.clone());
        }
        let elf = self.view.open(path)?.and_then(elf::read).map(Rc::new);
        self.elves.borrow_mut().insert(path.clone(), elf.clone());
        Ok(elf)
    }

    /// The object at `at`, with what it inherits; none if there is no ELF file.
    ///
    /// # Errors
    /// As reading files.
    pub fn object(&self, at: &[u8], inherited: &[Vec<u8>]) -> Result<Option<Object>> {
        let found = self.view.follow(at)?;
        let Some(path) = found.file() else { return Ok(None) };
        let Some(elf) = self.elf(path)? else { return Ok(None) };
        let mut rpaths = expand(&elf.rpath, at, elf.machine);
        rpaths.extend_from_slice(inherited);
        Ok(Some(Object { at: at.to_vec(), path: path.clone(), elf, rpaths: Rc::new(rpaths) }))
    }

    /// The library `name` as `object` would have it.
    ///
    /// # Errors
    /// As reading files.
    pub fn library(&self, name: &[u8], object: &Object, loader: Loader) -> Result<Option<Object>> {
        if name.contains(&b'/') {
            let at = expand(&[name.to_vec()], &object.at, object.elf.machine);
            return self.first(at.iter().map(Vec::as_slice), object);
        }
        let machine = object.elf.machine;
        let own = object.elf.runpath.as_deref().map(|dirs| expand(dirs, &object.at, machine)).unwrap_or_default();
        // RUNPATH makes RPATH void, in the object itself and in what it inherits.
        let rpaths: &[Vec<u8>] = if object.elf.runpath.is_some() { &[] } else { &object.rpaths };
        for dir in rpaths.iter().chain(&own) {
            if let Some(found) = self.within(dir, name, object, loader)? {
                return Ok(Some(found));
            }
        }
        if object.elf.no_default {
            return Ok(None);
        }
        if loader == Loader::Glibc {
            let cached = self.cache.get(name).into_iter().flatten().filter(|entry| entry.hwcap.is_none());
            if let Some(found) = self.first(cached.map(|entry| entry.path.as_slice()), object)? {
                return Ok(Some(found));
            }
        }
        for dir in self.directories(object, loader)?.iter() {
            if let Some(found) = self.within(dir, name, object, loader)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Copies of the library at `at` for better processors: the loader prefers one of them where it can.
    ///
    /// # Errors
    /// As reading files.
    pub fn better(&self, at: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some(slash) = at.iter().rposition(|&b| b == b'/') else { return Ok(Vec::new()) };
        let (dir, name) = (below(&at[..slash], b"glibc-hwcaps"), &at[slash + 1..]);
        let mut found = Vec::new();
        for kind in self.view.names(&dir)? {
            let path = below(&below(&dir, &kind), name);
            if self.view.follow(&path)?.file().is_some() {
                found.push((kind.into(), path));
            }
        }
        Ok(found)
    }

    /// glibc's number for the kind of the library at `path`, if the host's cache has it.
    pub fn flags(&self, name: &[u8], path: &[u8]) -> Option<u32> {
        self.cache.get(name)?.iter().find(|entry| entry.path == path).map(|entry| entry.flags)
    }

    /// The directories that are searched for everybody.
    fn directories(&self, object: &Object, loader: Loader) -> Result<Rc<Vec<Vec<u8>>>> {
        let machine = object.elf.machine;
        Ok(match loader {
            Loader::Glibc => Rc::new([standard(machine), self.configured.clone()].concat()),
            Loader::OpenBsd => Rc::new([self.hints.clone(), vec![b"/usr/lib".to_vec()]].concat()),
            Loader::Musl => {
                let known = self.musl.borrow().clone();
                let of = |loader: &[u8]| hints::musl(self.view, loader).map(Rc::new);
                match (known, &object.elf.interpreter) {
                    (_, Some(interpreter)) => Rc::clone(self.musl.borrow_mut().insert(of(interpreter)?)),
                    (Some(known), None) => known,
                    (None, None) => of(b"")?,
                }
            }
        })
    }

    /// The library in `dir`.
    fn within(&self, dir: &[u8], name: &[u8], object: &Object, loader: Loader) -> Result<Option<Object>> {
        if loader == Loader::OpenBsd {
            let Some(best) = best_match(name, &self.view.names(dir)?) else { return Ok(None) };
            return self.first([below(dir, &best)].iter().map(Vec::as_slice), object);
        }
        self.first([below(dir, name)].iter().map(Vec::as_slice), object)
    }

    /// The first of these files that is a library for the machine of `object`.
    fn first<'b>(&self, paths: impl Iterator<Item = &'b [u8]>, object: &Object) -> Result<Option<Object>> {
        for path in paths {
            match self.object(path, &object.rpaths)? {
                Some(found) if found.elf.machine == object.elf.machine => return Ok(Some(found)),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The library of OpenBSD that fits best among `names`: `libNAME.so.MAJOR.MINOR` with the same major number and the
/// greatest minor one; the greatest of all, if `name` has no numbers (ld.so(1)).
fn best_match(name: &[u8], names: &[Box<[u8]>]) -> Option<Vec<u8>> {
    let (stem, version) = split(name)?;
    let fits = |other: &[u8]| {
        let found = split(other).filter(|(other, _)| *other == stem);
        found.and_then(|(_, found)| found).is_some_and(|found| version.is_none_or(|wanted| wanted.0 == found.0))
    };
    let best =
        names.iter().filter(|other| fits(other)).max_by_key(|other| split(other).and_then(|(_, version)| version));
    best.map(|name| name.to_vec())
}

/// The name up to `.so`, and its two numbers.
fn split(name: &[u8]) -> Option<(&str, Option<(u32, u32)>)> {
    let name = std::str::from_utf8(name).ok()?;
    let (stem, rest) = name.split_once(".so")?;
    if rest.is_empty() {
        return Some((stem, None));
    }
    let (major, minor) = rest.strip_prefix('.')?.split_once('.')?;
    Some((stem, Some((major.parse().ok()?, minor.parse().ok()?))))
}

/// Debian's names for machines: the directories of their libraries.
pub(crate) fn triples(machine: Machine) -> &'static [&'static str] {
    match (machine.number, machine.wide, machine.big) {
        (62, true, _) => &["x86_64-linux-gnu"],
        (62, false, _) => &["x86_64-linux-gnux32"],
        (3, ..) => &["i386-linux-gnu"],
        (183, ..) => &["aarch64-linux-gnu"],
        (40, ..) => &["arm-linux-gnueabihf", "arm-linux-gnueabi"],
        (21, _, false) => &["powerpc64le-linux-gnu"],
        (21, _, true) => &["powerpc64-linux-gnu"],
        (22, true, _) => &["s390x-linux-gnu"],
        (243, true, _) => &["riscv64-linux-gnu"],
        (258, ..) => &["loongarch64-linux-gnu"],
        (8, true, false) => &["mips64el-linux-gnuabi64"],
        (8, false, false) => &["mipsel-linux-gnu"],
        _ => &[],
    }
}

/// The word for the processor that `$PLATFORM` stands for.
fn platform(machine: Machine) -> &'static str {
    triples(machine).first().and_then(|triple| triple.split('-').next()).unwrap_or("unknown")
}

/// Where libraries of a machine are without anybody saying so.
fn standard(machine: Machine) -> Vec<Vec<u8>> {
    let mut dirs: Vec<Vec<u8>> = Vec::new();
    for triple in triples(machine) {
        dirs.extend([format!("/lib/{triple}").into(), format!("/usr/lib/{triple}").into()]);
    }
    let widths: &[&[u8]] = match (machine.wide, machine.number) {
        (true, _) => &[b"/lib64", b"/usr/lib64"],
        (false, 62) => &[b"/libx32", b"/usr/libx32"],
        (false, _) => &[b"/lib32", b"/usr/lib32"],
    };
    dirs.extend(widths.iter().chain(&[&b"/lib"[..], b"/usr/lib"]).map(|dir| dir.to_vec()));
    dirs
}

/// The directories of a search path, for an object at `at`. Relative ones depend on where a program is started: never
/// searched.
fn expand(dirs: &[Vec<u8>], at: &[u8], machine: Machine) -> Vec<Vec<u8>> {
    let origin = at.rsplitn(2, |&b| b == b'/').nth(1).unwrap_or_default();
    let libs: Vec<Vec<u8>> = triples(machine)
        .iter()
        .map(|triple| format!("lib/{triple}").into_bytes())
        .chain([b"lib64".to_vec(), b"lib".to_vec()])
        .collect();
    let mut expanded = Vec::new();
    for dir in dirs {
        let dir = replace(&replace(dir, "ORIGIN", origin), "PLATFORM", platform(machine).as_bytes());
        let all: Vec<Vec<u8>> = libs.iter().map(|lib| replace(&dir, "LIB", lib)).collect();
        let distinct = if all.first() == all.last() { 1 } else { all.len() };
        // The kernel takes no longer path.
        expanded.extend(all.into_iter().take(distinct).filter(|dir| dir.starts_with(b"/") && dir.len() < MAX_PATH));
    }
    expanded
}

/// Puts `value` in the place of `$word` and `${word}`.
fn replace(text: &[u8], word: &str, value: &[u8]) -> Vec<u8> {
    let (plain, braced) = (format!("${word}"), format!("${{{word}}}"));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let bare = |rest: &&[u8]| !rest.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if let Some(after) = rest.strip_prefix(braced.as_bytes()) {
            out.extend_from_slice(value);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(plain.as_bytes()).filter(bare) {
            out.extend_from_slice(value);
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: Machine = Machine { wide: true, big: false, number: 62 };

    #[test]
    fn words_in_search_paths() {
        for (dir, want) in [
            ("$ORIGIN/../lib", "/opt/app/bin/../lib"),
            ("${ORIGIN}", "/opt/app/bin"),
            ("$ORIGINAL/x", ""),
            ("/opt/$LIB", "/opt/lib/x86_64-linux-gnu /opt/lib64 /opt/lib"),
            ("/opt/${PLATFORM}/$PLATFORM", "/opt/x86_64/x86_64"),
            ("", ""),
            (".", ""),
            ("/$", "/$"),
        ] {
            let shown = expand(&[dir.into()], b"/opt/app/bin/prog", X86).join(&b' ');
            assert_eq!(String::from_utf8(shown).unwrap(), want, "{dir}");
        }
    }

    #[test]
    fn the_best_library_of_openbsd() {
        let names: Vec<Box<[u8]>> =
            ["libc.so.102.0", "libc.so.102.2", "libc.so.101.9", "libc.so", "libcc.so.102.9", "x"]
                .iter()
                .map(|name| name.as_bytes().into())
                .collect();
        for (name, want) in [
            ("libc.so.102.0", Some("libc.so.102.2")),
            ("libc.so.101.0", Some("libc.so.101.9")),
            ("libc.so.100.0", None),
            ("libc.so", Some("libc.so.102.2")),
            ("libc.so.x.y", None),
            ("libc.so.99999999999.1", None),
            ("libd.so.1.0", None),
        ] {
            assert_eq!(best_match(name.as_bytes(), &names).as_deref(), want.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn loaders_by_their_names() {
        for (path, want) in [
            ("/lib64/ld-linux-x86-64.so.2", Loader::Glibc),
            ("/lib/ld-musl-aarch64.so.1", Loader::Musl),
            ("/usr/libexec/ld.so", Loader::OpenBsd),
        ] {
            assert_eq!(Loader::of(path.as_bytes()), want, "{path}");
        }
    }
}
