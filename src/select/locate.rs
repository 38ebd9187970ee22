// SPDX-License-Identifier: ISC
//! Locate databases (locate(1) of the BSDs) as lists of what belongs to a system. Pure: bytes in, names out.
//!
//! OpenBSD ships two: `usr/lib/locate/src.db` and `usr/X11R6/lib/locate/xorg.db`. Each line of theirs is `TAG:/PATH`, and the
//! tag is the name of a set with the release's digits: `base77`, `xshare77`.
//!
//! The format has no magic. 128 pairs of bytes come first; then, for each line, how much more of the line before it
//! shares than that did (one byte, or 30 and a number of four bytes in the maker's byte order), and what follows.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};

/// The largest database that is read. OpenBSD's own have two MB.
pub const MAX_FILE: u64 = 64 << 20;
/// The longest line, as locate(1) takes it (`PATH_MAX`).
const MAX_LINE: usize = 1024;
/// The most lines, and bytes in them: a few bytes may stand for a long line.
const MAX_LINES: usize = 2_000_000;
const MAX_BYTES: usize = 128 << 20;

/// Pairs of bytes at the start of a database.
const PAIRS: usize = 256;
/// What is added to a difference so that it fits a byte.
const OFFSET: i64 = 14;
/// Announces a difference of four bytes.
const SWITCH: u8 = 30;
/// Announces a byte that stands for itself.
const LITERAL: u8 = 31;

/// The order of the bytes in a difference of four.
type Number = fn([u8; 4]) -> i32;

/// What a database of a system lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The release in the tags, as uname(1) prints it: `7.7`. None without digits in any tag.
    pub release: Option<String>,
    /// Each path, sorted and once, and the sets that bring it.
    pub paths: BTreeMap<TreePath, BTreeSet<String>>,
}

impl Listing {
    /// Reads a database of a system.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for what is no database or whose lines are not `TAG:/PATH`.
    pub fn parse(database: &[u8]) -> Result<Listing> {
        let mut listing = Listing::default();
        for line in decode(database)? {
            listing.add(&line).map_err(|error| Error::new(error.kind(), format!("{}: {error}", escape(&line))))?;
        }
        Ok(listing)
    }

    fn add(&mut self, line: &[u8]) -> Result<()> {
        let (set, release, path) = tagged(line).ok_or_else(|| bad("not TAG:/PATH"))?;
        if let Some(release) = release {
            match &self.release {
                Some(known) if *known != release => bail!(BadInput, "release {release} after {known}"),
                _ => self.release = Some(release),
            }
        }
        let path = TreePath::lenient(path)?;
        if !path.is_root() {
            self.paths.entry(path).or_default().insert(set);
        }
        Ok(())
    }

    /// Adds what `other` lists.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if that is of another release.
    pub fn join(&mut self, other: Listing) -> Result<()> {
        if let (Some(one), Some(two)) = (&self.release, &other.release)
            && one != two
        {
            bail!(Refused, "the databases are of two releases, {one} and {two}");
        }
        self.release = self.release.take().or(other.release);
        for (path, sets) in other.paths {
            self.paths.entry(path).or_default().extend(sets);
        }
        Ok(())
    }

    /// The paths that one of `sets` brings; of all sets if none is named.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a set that brings nothing.
    pub fn select(&self, sets: &[String]) -> Result<Vec<TreePath>> {
        let known: BTreeSet<&String> = self.paths.values().flatten().collect();
        if let Some(missing) = sets.iter().find(|set| !known.contains(set)) {
            let known: Vec<&str> = known.iter().map(|set| set.as_str()).collect();
            bail!(Usage, "the database lists no set {missing}, only {}", known.join(", "));
        }
        let wanted = |found: &BTreeSet<String>| sets.is_empty() || sets.iter().any(|set| found.contains(set));
        Ok(self.paths.iter().filter(|(_, found)| wanted(found)).map(|(path, _)| path.clone()).collect())
    }

    /// Makes sure that the database is as old as the system: of every library that it lists, the one listed must be the
    /// newest of those in `present`. After a system was built from source it is older, and would have libraries copied
    /// that the programs do not want.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] naming the first library that is another.
    pub fn check_libraries(&self, present: &[TreePath]) -> Result<()> {
        let mut newest: BTreeMap<(TreePath, &[u8], u32), u32> = BTreeMap::new();
        for path in present {
            let Some((directory, library)) = path.parent().zip(Library::of(path)) else { continue };
            let minor = newest.entry((directory, library.stem, library.major)).or_default();
            *minor = library.minor.max(*minor);
        }
        for path in self.paths.keys() {
            let Some((directory, library)) = path.parent().zip(Library::of(path)) else { continue };
            let found = newest.get(&(directory, library.stem, library.major));
            let is = match found {
                Some(minor) if *minor == library.minor => continue,
                Some(minor) => format!("the system has {}.so.{}.{minor}", escape(library.stem), library.major),
                None => "the system has no such library".to_owned(),
            };
            return Err(Error::new(ErrorKind::Refused, format!("the database lists it, and {is}"))
                .at(path)
                .hint("the locate database is not of this system: it was built from source since; use release sets"));
        }
        Ok(())
    }
}

/// The name of a shared library, taken apart: `libc.so.100.3`.
struct Library<'a> {
    stem: &'a [u8],
    major: u32,
    minor: u32,
}

impl Library<'_> {
    fn of(path: &TreePath) -> Option<Library<'_>> {
        let name = path.name().strip_prefix(b"lib").map(|_| path.name())?;
        let text = std::str::from_utf8(name).ok()?;
        let (stem, numbers) = text.split_once(".so.")?;
        let (major, minor) = numbers.split_once('.')?;
        Some(Library { stem: stem.as_bytes(), major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// Takes `base77:/bin/cat` apart: the set, its release, the path.
fn tagged(line: &[u8]) -> Option<(String, Option<String>, &[u8])> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (tag, path) = (&line[..colon], &line[colon + 1..]);
    let tag = std::str::from_utf8(tag).ok().filter(|tag| tag.bytes().all(|b| b.is_ascii_graphic()))?;
    let start = tag.find(|c: char| c.is_ascii_digit()).unwrap_or(tag.len());
    let end = tag[start..].find(|c: char| !c.is_ascii_digit()).map_or(tag.len(), |length| start + length);
    let set = format!("{}{}", &tag[..start], &tag[end..]);
    let digits = &tag[start..end];
    let release = (digits.len() >= 2).then(|| {
        let (major, minor) = digits.split_at(digits.len() - 1);
        format!("{major}.{minor}")
    });
    (!set.is_empty() && path.starts_with(b"/")).then_some((set, release, path))
}

/// The lines of any locate database. Numbers are read as a little-endian machine wrote them, or else as a big-endian one:
/// no number that is possible in one order is another possible one in the other.
///
/// # Errors
/// [`ErrorKind::BadInput`] with the offset at which it stops making sense.
pub fn decode(database: &[u8]) -> Result<Vec<Box<[u8]>>> {
    let Some((pairs, lines)) = database.split_first_chunk::<PAIRS>() else {
        bail!(BadInput, "not a locate database: it is shorter than its table");
    };
    if pairs.iter().any(|&b| b != 0 && !(32..128).contains(&b)) {
        bail!(BadInput, "not a locate database: its table holds other bytes than text");
    }
    let little = Decoder::new(pairs, lines, i32::from_le_bytes).run();
    little.or_else(|error| Decoder::new(pairs, lines, i32::from_be_bytes).run().map_err(|_| error))
}

struct Decoder<'a> {
    pairs: &'a [u8; PAIRS],
    rest: &'a [u8],
    length: usize,
    number: Number,
}

impl<'a> Decoder<'a> {
    fn new(pairs: &'a [u8; PAIRS], lines: &'a [u8], number: Number) -> Decoder<'a> {
        Decoder { pairs, rest: lines, length: lines.len(), number }
    }

    fn run(mut self) -> Result<Vec<Box<[u8]>>> {
        let (mut found, mut line, mut shared, mut total) = (Vec::new(), Vec::new(), 0_i64, 0);
        while let Some(count) = self.next() {
            shared += self.difference(count)?;
            match usize::try_from(shared).ok().filter(|&shared| shared <= line.len()) {
                Some(shared) => line.truncate(shared),
                None => return Err(self.fault("a line shares more with the one before it than that has")),
            }
            self.tail(&mut line)?;
            total += line.len();
            if found.len() == MAX_LINES || total > MAX_BYTES {
                return Err(self.fault("more lines than any system has files"));
            }
            found.push(line.as_slice().into());
        }
        Ok(found)
    }

    /// How many bytes more than before are shared.
    fn difference(&mut self, count: u8) -> Result<i64> {
        match count {
            ..=28 => Ok(i64::from(count) - OFFSET),
            SWITCH => {
                let Some((number, rest)) = self.rest.split_first_chunk::<4>() else {
                    return Err(self.fault("it ends within a number"));
                };
                self.rest = rest;
                Ok(i64::from((self.number)(*number)) - OFFSET)
            }
            _ => Err(self.fault("a line does not begin with a count")),
        }
    }

    /// What follows the shared part.
    fn tail(&mut self, line: &mut Vec<u8>) -> Result<()> {
        let shared = line.len();
        while let Some(byte) = self.rest.first().copied().filter(|&byte| byte > SWITCH) {
            self.rest = &self.rest[1..];
            match byte {
                LITERAL => match self.next() {
                    Some(byte) => line.push(byte),
                    None => return Err(self.fault("it ends within a character")),
                },
                128.. => {
                    let at = 2 * usize::from(byte & 127);
                    line.extend(&self.pairs[at..at + 2]);
                }
                _ => line.push(byte),
            }
            if line.len() > MAX_LINE {
                return Err(self.fault("a line of more than 1024 bytes"));
            }
        }
        if line[shared..].iter().any(|&b| b == 0 || b == b'\n') {
            return Err(self.fault("a line that holds NUL or a newline"));
        }
        Ok(())
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn fault(&self, reason: &str) -> Error {
        bad(format!("not a locate database: byte {}: {reason}", PAIRS + self.length - self.rest.len()))
    }
}

fn bad(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with the pair `ab` as number 0.
    fn database(lines: &[u8]) -> Vec<u8> {
        let mut pairs = vec![0; PAIRS];
        pairs[..2].copy_from_slice(b"ab");
        [&pairs, lines].concat()
    }

    #[test]
    fn lines_come_out_or_their_fault() {
        for (lines, expect) in [
            (&b""[..], Ok(&[][..])),
            (b"\x0ex", Ok(&["x"])),
            (b"\x0e\x80c\x0fd\x0ee", Ok(&["abc", "ad", "ae"])),
            (b"\x0e", Ok(&[""])),
            (b"\x0eabc\x10\x0c", Ok(&["abc", "ab", ""])),
            (b"\x0e\x1f\x85\x1f\x01x", Ok(&["\u{85}\u{1}x"])),
            // the same difference, of either order
            (b"\x0eabc\x1e\x10\0\0\0d", Ok(&["abc", "abd"])),
            (b"\x0eabc\x1e\0\0\0\x10d", Ok(&["abc", "abd"])),
            (
                b"\x0eabc\x10\x1e\xfb\xff\xff\xff",
                Err("byte 266: a line shares more with the one before it than that has"),
            ),
            (b"\x0eabc\x1e\x0d\0\0\0\x0e", Err("byte 265: a line shares more with the one before it than that has")),
            // never both orders in one
            (
                b"\x0eabc\x1e\x10\0\0\0d\x1e\0\0\0\x0ed",
                Err("byte 271: a line shares more with the one before it than that has"),
            ),
            (b"\x0fx", Err("byte 257: a line shares more with the one before it than that has")),
            (b"\x0dx", Err("byte 257: a line shares more with the one before it than that has")),
            (b"\x1e\xff\xff\xff\x7fx", Err("byte 261: a line shares more with the one before it than that has")),
            (b"\x1e\0\0\0", Err("byte 257: it ends within a number")),
            (b"\x1dx", Err("byte 257: a line does not begin with a count")),
            (b"x", Err("byte 257: a line does not begin with a count")),
            (b"\x0e\x1f", Err("byte 258: it ends within a character")),
            (b"\x0e\x81", Err("byte 258: a line that holds NUL or a newline")),
            (b"\x0e\x1f\n", Err("byte 259: a line that holds NUL or a newline")),
        ] {
            let text = |line: &[u8]| line.iter().map(|&b| char::from(b)).collect::<String>();
            let decoded = decode(&database(lines)).map(|lines| lines.iter().map(|line| text(line)).collect::<Vec<_>>());
            let expect = expect.map(|lines| lines.iter().map(|l| (*l).to_owned()).collect());
            let expect = expect.map_err(|fault| format!("not a locate database: {fault}"));
            assert_eq!(decoded.map_err(|e| e.to_string()), expect, "{lines:?}");
        }
        for (bytes, fault) in [
            (vec![0; 255], "it is shorter than its table"),
            (vec![b'\n'; 300], "its table holds other bytes than text"),
            (vec![0x1f; 256], "its table holds other bytes than text"),
            (vec![0x80; 256], "its table holds other bytes than text"),
        ] {
            let said = decode(&bytes).unwrap_err().to_string();
            assert_eq!(said, format!("not a locate database: {fault}"));
        }
        let long = [&b"\x0e"[..], &[b'x'; 1025]].concat();
        assert!(decode(&database(&long)).unwrap_err().to_string().ends_with("a line of more than 1024 bytes"));
        // 200,000 lines of 1,000 bytes, in as many bytes.
        let bomb = [&b"\x0e"[..], &[b'x'; 1000], b"\x1e\xf6\x03\0\0", &[14; 200_000]].concat();
        assert!(decode(&database(&bomb)).unwrap_err().to_string().ends_with("more lines than any system has files"));
    }

    #[test]
    fn tags_tell_set_and_release() {
        for (line, expect) in [
            ("base77:/bin/cat", Some(("base", Some("7.7"), "/bin/cat"))),
            ("xshare100:/a:b", Some(("xshare", Some("10.0"), "/a:b"))),
            ("base:/", Some(("base", None, "/"))),
            ("a1b22:/x", Some(("ab22", None, "/x"))),
            ("77:/x", None),
            (":/x", None),
            ("base77/x", None),
            ("base77:x", None),
            ("b se:/x", None),
        ] {
            let expect =
                expect.map(|(set, release, path)| (set.to_owned(), release.map(str::to_owned), path.as_bytes()));
            assert_eq!(tagged(line.as_bytes()), expect, "{line}");
        }
    }

    fn listing(lines: &[&str]) -> Result<Listing> {
        let mut listing = Listing::default();
        lines.iter().try_for_each(|line| listing.add(line.as_bytes()))?;
        Ok(listing)
    }

    #[test]
    fn sets_are_selected() {
        let mut all =
            listing(&["base77:/", "base77:/bin/", "base77:/bin/cat", "comp77:/usr/x", "comp77:/bin"]).unwrap();
        let select = |listing: &Listing, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
            listing.select(&sets).map(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(select(&all, &[]).unwrap(), "bin bin/cat usr/x");
        assert_eq!(select(&all, &["comp"]).unwrap(), "bin usr/x");
        assert_eq!(select(&all, &["man"]).unwrap_err().to_string(), "the database lists no set man, only base, comp");
        assert!(listing(&["base77:/a", "base76:/b"]).is_err());
        assert!(listing(&["base77:/a/../../b"]).is_err());
        assert_eq!(all.join(listing(&["xbase76:/y"]).unwrap()).unwrap_err().kind(), ErrorKind::Refused);
        all.join(listing(&["xbase77:/y"]).unwrap()).unwrap();
        assert_eq!((select(&all, &["xbase"]).unwrap().as_str(), all.release.as_deref()), ("y", Some("7.7")));
    }

    #[test]
    fn a_database_older_than_the_system_is_refused() {
        let path = |text: &&str| TreePath::new(text.as_bytes()).unwrap();
        for (listed, present, expect) in [
            (&["base77:/usr/lib/libc.so.100.3"][..], &["usr/lib/libc.so.100.3", "usr/lib/libc.so.99.9"][..], Ok(())),
            (
                &["base77:/usr/lib/libc.so.100.3"],
                &["usr/lib/libc.so.100.10", "usr/lib/libc.so.100.3"],
                Err("libc.so.100.10"),
            ),
            (&["base77:/usr/lib/libc.so.100.3"], &["usr/lib/libc.so.101.3"], Err("no such library")),
            // the same name in another directory, and what is no library, say nothing
            (&["base77:/usr/lib/libc.so.100.3"], &["usr/X11R6/lib/libc.so.100.3"], Err("no such library")),
            (&["base77:/usr/lib/libc.so", "base77:/usr/lib/libx.so.1", "base77:/usr/lib/x.so.1.2"], &[], Ok(())),
        ] {
            let present: Vec<TreePath> = present.iter().map(path).collect();
            let checked = listing(listed).unwrap().check_libraries(&present).map_err(|e| e.to_string());
            match expect {
                Ok(()) => assert_eq!(checked, Ok(())),
                Err(words) => assert!(checked.as_ref().is_err_and(|said| said.contains(words)), "{checked:?}"),
            }
        }
    }
}
