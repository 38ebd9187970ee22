// SPDX-License-Identifier: ISC
//! What a program's loader reads of an ELF file (System V ABI): program headers and the dynamic segment. Sections may be
//! stripped, and no loader looks at them.
#![forbid(unsafe_code)]

mod unmet;

use std::fs::File;

use object::elf::{
    DF_1_NODEFLIB, DT_FLAGS_1, DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, ET_EXEC, FileHeader32,
    FileHeader64, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, FileKind};
use serde::Deserialize;

/// Reads an ELF file with its symbol versions: see [`unmet`].
pub use unmet::read as read_object;
pub use unmet::{HOST, Object, Root, Unmet, unmet};

/// No list in a real program has more entries, and no name in it is longer.
const MAX_ENTRIES: usize = 4096;
/// The largest table of strings that is read, in bytes.
const MAX_STRINGS: u64 = 64 << 20;
/// No real program has more program headers, and no interpreter, dynamic segment or note in one more bytes.
const MAX_SEGMENTS: u16 = 4096;
const MAX_SEGMENT: u64 = 4 << 20;
/// The longest note that is read, in bytes.
const MAX_NOTE: usize = 64 << 10;
/// OpenBSD's mark in program headers (elf(5) there).
const WXNEEDED: u32 = 0x65a3_dbe7;
/// Type and owner of notes about libraries that a program loads by itself (systemd's ELF dlopen metadata).
const NOTE_DLOPEN: u32 = 0x407c_0c0a;
const NOTE_OWNER: &[u8] = b"FDO";

/// What machine a file is for: a library must be alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine {
    /// 64 bits.
    pub wide: bool,
    /// The most significant byte comes first.
    pub big: bool,
    /// The machine's number (`e_machine`).
    pub number: u16,
}

/// What a loader reads of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// What it is for.
    pub machine: Machine,
    /// The program that loads it.
    pub interpreter: Option<Vec<u8>>,
    /// Libraries, by soname.
    pub needed: Vec<Vec<u8>>,
    /// Where it and what it loads look for libraries first; void where there is a `runpath`.
    pub rpath: Vec<Vec<u8>>,
    /// Where it alone looks for its libraries.
    pub runpath: Option<Vec<Vec<u8>>>,
    /// It looks in no directory that it does not name.
    pub no_default: bool,
    /// What it says that it loads by itself.
    pub late: Vec<Late>,
    /// It writes to memory that it executes (OpenBSD's `PT_OPENBSD_WXNEEDED`).
    pub wx: bool,
    /// It is a program that is loaded where it wants, or is loaded by another: not a library.
    pub program: bool,
}

/// Libraries that are loaded while the program runs; one of them is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Late {
    /// Their sonames, the best first.
    pub soname: Vec<String>,
    /// What for.
    #[serde(default)]
    pub feature: String,
    /// `required`, `recommended` or `suggested`.
    #[serde(default)]
    pub priority: String,
}

/// Reads an ELF file. None: it is something else, or so damaged that no loader would take it.
pub fn read(file: File) -> Option<Elf> {
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok()? {
        FileKind::Elf64 => parse::<FileHeader64<Endianness>, _>(&data),
        FileKind::Elf32 => parse::<FileHeader32<Endianness>, _>(&data),
        _ => None,
    }
}

impl Elf {
    /// Does it look for libraries in places that depend on its own?
    pub fn asks_origin(&self) -> bool {
        let lists = self.rpath.iter().chain(self.runpath.iter().flatten()).chain(&self.needed);
        lists.into_iter().any(|dir| dir.windows(6).any(|word| word == b"ORIGIN") && dir.contains(&b'$'))
    }
}

/// The values of the dynamic segment that matter, names still as offsets.
#[derive(Default)]
struct Table {
    strings: Option<(u64, u64)>,
    needed: Vec<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
    no_default: bool,
}

fn parse<'data, H, R>(data: R) -> Option<Elf>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let machine =
        Machine { wide: header.is_class_64(), big: endian == Endianness::Big, number: header.e_machine(endian).0 };
    if header.e_phnum(endian) > MAX_SEGMENTS {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let mut interpreter = None;
    let mut table = Table::default();
    let (mut late, mut wx) = (Vec::new(), false);
    for segment in segments {
        let matters = matches!(segment.p_type(endian), PT_INTERP | PT_DYNAMIC | PT_NOTE);
        if matters && segment.p_filesz(endian).into() > MAX_SEGMENT {
            return None;
        }
        wx |= segment.p_type(endian).0 == WXNEEDED;
        if let Some(path) = segment.interpreter(endian, data).ok()? {
            interpreter = Some(path).filter(|path| path.len() < MAX_ENTRIES).map(<[u8]>::to_vec);
        }
        if let Some(entries) = segment.dynamic(endian, data).ok()? {
            table = dynamic::<H>(entries, endian);
        }
        // Notes that are damaged are no reason not to load a program.
        if let Ok(Some(notes)) = segment.notes(endian, data) {
            let ours = |name: &[u8], kind: u32| name == NOTE_OWNER && kind == NOTE_DLOPEN;
            let found = notes.map_while(Result::ok).filter(|note| ours(note.name(), note.n_type(endian).0));
            late.extend(found.take(MAX_ENTRIES).flat_map(|note| lates(note.desc())));
        }
    }
    let text = |(start, size): (u64, u64), offset: u64| -> Option<Vec<u8>> {
        let length = size.checked_sub(offset)?.min(MAX_ENTRIES as u64);
        let tail = data.read_bytes_at(start.checked_add(offset)?, length).ok()?;
        let end = tail.iter().position(|&b| b == 0)?;
        Some(tail[..end].to_vec())
    };
    let strings = match table.strings {
        Some((address, size)) if size <= MAX_STRINGS => {
            let inside = |segment: &&H::ProgramHeader| {
                let (start, length) = (segment.p_vaddr(endian).into(), segment.p_filesz(endian).into());
                segment.p_type(endian) == PT_LOAD && address >= start && address - start < length
            };
            let segment = segments.iter().find(inside)?;
            let start = segment.p_offset(endian).into().checked_add(address - segment.p_vaddr(endian).into())?;
            (start, size)
        }
        _ if table.needed.is_empty() && table.rpath.is_none() && table.runpath.is_none() => (0, 0),
        _ => return None,
    };
    let list = |offset: u64| -> Option<Vec<Vec<u8>>> {
        Some(text(strings, offset)?.split(|&b| b == b':').map(<[u8]>::to_vec).collect())
    };
    let runpath = table.runpath.map(list).map_or(Some(None), |list| list.map(Some))?;
    let rpath = table.rpath.filter(|_| runpath.is_none()).map_or(Some(Vec::new()), list)?;
    let needed = table.needed.into_iter().map(|offset| text(strings, offset)).collect::<Option<_>>()?;
    let program = interpreter.is_some() || header.e_type(endian) == ET_EXEC;
    Some(Elf { machine, interpreter, needed, rpath, runpath, no_default: table.no_default, late, wx, program })
}

fn dynamic<H: FileHeader<Endian = Endianness>>(entries: &[H::Dyn], endian: Endianness) -> Table {
    let mut table = Table::default();
    let (mut address, mut size) = (None, None);
    for entry in entries.iter().take(MAX_ENTRIES) {
        let value = entry.val(endian);
        match entry.tag(endian) {
            DT_NULL => break,
            DT_NEEDED => table.needed.push(value),
            DT_RPATH => table.rpath = Some(value),
            DT_RUNPATH => table.runpath = Some(value),
            DT_STRTAB => address = Some(value),
            DT_STRSZ => size = Some(value),
            DT_FLAGS_1 => table.no_default = value & DF_1_NODEFLIB.0 != 0,
            _ => {}
        }
    }
    table.strings = address.zip(size);
    table
}

/// The libraries of a note; none if it is malformed.
fn lates(note: &[u8]) -> Vec<Late> {
    let end = note.iter().position(|&b| b == 0).unwrap_or(note.len());
    let Some(text) = note.get(..end).filter(|text| text.len() <= MAX_NOTE) else { return Vec::new() };
    let mut list: Vec<Late> = serde_json::from_slice(text).unwrap_or_default();
    list.truncate(MAX_ENTRIES);
    list
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn of(bytes: &[u8]) -> Option<Elf> {
        read(file(bytes))
    }

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_program_is_read_without_its_sections() {
        let mut whole = own();
        let elf = of(&whole).unwrap();
        assert!(elf.program && elf.interpreter.is_some() && !elf.needed.is_empty(), "{elf:?}");
        assert!(!elf.wx && !elf.asks_origin());
        let rpath = vec![b"${ORIGIN}/../lib".to_vec()];
        assert!(Elf { rpath, ..elf.clone() }.asks_origin());
        let stack = whole.windows(4).position(|word| word == 0x6474_e551_u32.to_le_bytes()).unwrap();
        let mut marked = whole.clone();
        marked[stack..stack + 4].copy_from_slice(&WXNEEDED.to_le_bytes());
        assert!(of(&marked).unwrap().wx);
        // e_shoff, e_shnum and e_shstrndx of a 64-bit header.
        whole[0x28..0x30].fill(0);
        whole[0x3c..0x40].fill(0);
        assert_eq!(of(&whole), Some(elf));
    }

    #[test]
    fn notes_of_late_libraries() {
        let json = br#"[{"feature":"zstd","description":"d","priority":"recommended","soname":["libzstd.so.1"]}]"#;
        let want = Late { soname: vec!["libzstd.so.1".into()], feature: "zstd".into(), priority: "recommended".into() };
        assert_eq!(lates(json), std::slice::from_ref(&want));
        assert_eq!(lates(&[&json[..], b"\0\0\0"].concat()), [want]);
        for bad in [&b""[..], b"{}", b"[{}]", b"[{\"soname\":1}]", b"\xff", &[b'['; 70_000]] {
            assert_eq!(lates(bad), []);
        }
    }

    #[test]
    fn damage_does_no_harm() {
        let both = |bytes: &[u8]| (of(bytes), read_object(file(bytes)));
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", &[0; 4096]] {
            assert_eq!(of(bytes), None);
            assert_eq!(read_object(file(bytes)), None);
        }
        let whole = std::fs::read("/bin/sh").unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 200 + 1) {
            both(&whole[..length]);
        }
        for at in (0..1024).chain((1024..whole.len()).step_by(whole.len() / 300 + 1)) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                both(&damaged);
            }
        }
    }
}
