// SPDX-License-Identifier: ISC
//! [`PackingList`]: `+CONTENTS`, the list of what an OpenBSD package installed (package(5) and pkg_create(1) of OpenBSD).
//! Pure: bytes in, paths out.
//!
//! One item a line: the name of a file, or `@keyword` and its argument. What follows a file says more of it: `@sha`,
//! `@size`, `@ts`. `@cwd` is the directory of the names that come after.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};
use crate::tree::Digest;

/// The most items of one list. The largest package, texlive, has 200,000.
const MAX_ITEMS: usize = 4_000_000;
/// Unknown keywords that are named.
const MAX_UNKNOWN: usize = 8;

/// Keywords of files; an argument that ends in a slash is a directory.
const FILES: [&[u8]; 10] =
    [b"file", b"bin", b"lib", b"so", b"static-lib", b"man", b"info", b"shell", b"pkgconfig", b"ltlib"];
/// Keywords of directories.
const DIRECTORIES: [&[u8]; 3] = [b"dir", b"fontdir", b"mandir"];
/// What a package does not bring, but takes with it when it is deleted: what it may have made, secrets among them.
const ONLY_DELETED: [&[u8]; 3] = [b"extra", b"extraglob", b"ghost"];
/// Commands that are run when it is installed.
const COMMANDS: [&[u8]; 5] = [b"exec", b"exec-always", b"exec-add", b"exec-update", b"tag"];
/// Files that are about the package; they lie beside the list.
const SPECIAL: [&[u8]; 6] = [b"+CONTENTS", b"+DESC", b"+REQUIRED_BY", b"+REQUIRING", b"+DISPLAY", b"+UNDISPLAY"];
/// What says nothing of which files there are; those of the last lines are of packages of long ago.
const OTHER: [&[u8]; 42] = [
    b"comment",
    b"url",
    b"version",
    b"signer",
    b"digital-signature",
    b"option",
    b"localbase",
    b"arch",
    b"conflict",
    b"pkgpath",
    b"ask-update",
    b"libset",
    b"depend",
    b"wantlib",
    b"define-tag",
    b"owner",
    b"group",
    b"mode",
    b"unexec",
    b"unexec-always",
    b"unexec-delete",
    b"unexec-update",
    b"extraunexec",
    b"symlink",
    b"link",
    b"temp",
    b"src",
    b"display",
    b"mtree",
    b"ignore_inst",
    b"dirrm",
    b"pkgcfl",
    b"pkgdep",
    b"newdepend",
    b"libdepend",
    b"endfake",
    b"ignore",
    b"vendor",
    b"incompatibility",
    b"md5",
    b"sysctl",
    b"checksum",
];

/// What a package installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackingList {
    /// The package's whole name: `bash-5.2.37`.
    pub name: String,
    /// Files and directories, as listed.
    pub items: Vec<Item>,
    /// It runs commands when it is installed.
    pub has_commands: bool,
    /// The accounts that it makes.
    pub users: BTreeSet<String>,
    /// The groups that it makes.
    pub groups: BTreeSet<String>,
    /// Keywords that we do not know: what they list is not in `items`. The first eight.
    pub unknown: BTreeSet<String>,
}

/// One thing that a package installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where.
    pub path: TreePath,
    /// What.
    pub what: What,
}

/// What a package installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file or a link.
    File(Seal),
    /// A directory.
    Directory,
    /// A copy of this file, in the place where it is the administrator's.
    Sample(TreePath),
}

/// How a file was when it was installed. Links have none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seal {
    /// SHA-256 of its content.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its modification time, in seconds since 1970.
    pub time: Option<i64>,
}

/// What `@sha` and `@size` are said of.
enum Last {
    /// Nothing yet, or something that has none of it.
    Other,
    /// The file at this index.
    File(usize),
}

impl PackingList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the line: names that leave their directory, and annotations that are none.
    pub fn parse(bytes: &[u8]) -> Result<PackingList> {
        let mut reader = Reader { list: PackingList::default(), directory: None, last: Last::Other };
        for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
            let said = |e: Error| Error::new(ErrorKind::BadInput, format!("line {}: {e}", number + 1));
            reader.line(line).map_err(said)?;
        }
        match reader.list.name.is_empty() {
            true => bail!(BadInput, "no packing list: it has no @name"),
            false => Ok(reader.list),
        }
    }
}

/// The name that the line of an account, or a group, begins with.
fn account(line: &[u8]) -> Result<String> {
    let name = line.split(|&b| b == b':').next().unwrap_or_default();
    let plain = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b));
    match std::str::from_utf8(name).ok().filter(|_| plain) {
        Some(name) => Ok(name.to_owned()),
        None => bail!(BadInput, "no name of an account: {}", escape(name)),
    }
}

struct Reader {
    list: PackingList,
    /// Of `@cwd`; none before the first.
    directory: Option<TreePath>,
    last: Last,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let Some(rest) = line.strip_prefix(b"@") else {
            return match line {
                b"" => Ok(()),
                name => self.file(name),
            };
        };
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (keyword, argument) = (&rest[..end], rest[end..].trim_ascii_start());
        match keyword {
            b"name" => self.name(argument)?,
            b"cwd" => self.directory = Some(TreePath::lenient(argument)?),
            b"rcscript" => {
                let path = self.anywhere(argument)?;
                self.add(path, What::File(Seal::default()))?;
            }
            b"sample" => self.sample(argument)?,
            b"newuser" => drop(self.list.users.insert(account(argument)?)),
            b"newgroup" => drop(self.list.groups.insert(account(argument)?)),
            b"sha" | b"size" | b"ts" => self.seal(keyword, argument)?,
            _ if FILES.contains(&keyword) => self.file(argument)?,
            _ if DIRECTORIES.contains(&keyword) => {
                let path = self.below(argument)?;
                self.add(path, What::Directory)?;
            }
            _ if COMMANDS.contains(&keyword) => self.list.has_commands = true,
            _ if ONLY_DELETED.contains(&keyword) || OTHER.contains(&keyword) => {}
            _ if self.list.unknown.len() < MAX_UNKNOWN => drop(self.list.unknown.insert(escape(keyword))),
            _ => {}
        }
        Ok(())
    }

    fn name(&mut self, name: &[u8]) -> Result<()> {
        let plain = |name: &&str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
                && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
        };
        let Some(name) = std::str::from_utf8(name).ok().filter(plain) else {
            bail!(BadInput, "no name of a package: {}", escape(name));
        };
        if !self.list.name.is_empty() {
            bail!(BadInput, "a second @name");
        }
        name.clone_into(&mut self.list.name);
        Ok(())
    }

    /// A name that may be absolute.
    fn anywhere(&self, name: &[u8]) -> Result<TreePath> {
        if name.starts_with(b"/") { TreePath::lenient(name) } else { self.below(name) }
    }

    /// A name below the directory of `@cwd`.
    fn below(&self, name: &[u8]) -> Result<TreePath> {
        if name.starts_with(b"/") {
            bail!(BadInput, "an absolute name: {}", escape(name));
        }
        let Some(directory) = &self.directory else { bail!(BadInput, "a file before @cwd: {}", escape(name)) };
        directory.under(&TreePath::lenient(name)?)
    }

    fn file(&mut self, name: &[u8]) -> Result<()> {
        if self.directory.is_none() && SPECIAL.contains(&name) {
            self.last = Last::Other;
            return Ok(());
        }
        let what = if name.ends_with(b"/") { What::Directory } else { What::File(Seal::default()) };
        let path = self.below(name)?;
        self.add(path, what)
    }

    fn sample(&mut self, name: &[u8]) -> Result<()> {
        let path = self.anywhere(name)?;
        if name.ends_with(b"/") {
            return self.push(path, What::Directory);
        }
        let Last::File(of) = self.last else { bail!(BadInput, "a sample of no file: {}", escape(name)) };
        let of = self.list.items[of].path.clone();
        self.push(path, What::Sample(of))
    }

    fn add(&mut self, path: TreePath, what: What) -> Result<()> {
        if matches!(what, What::File(_)) {
            self.last = Last::File(self.list.items.len());
        }
        self.push(path, what)
    }

    fn push(&mut self, path: TreePath, what: What) -> Result<()> {
        if path.is_root() {
            bail!(BadInput, "a file without a name");
        }
        if self.list.items.len() == MAX_ITEMS {
            bail!(BadInput, "more than {MAX_ITEMS} files");
        }
        self.list.items.push(Item { path, what });
        Ok(())
    }

    fn seal(&mut self, keyword: &[u8], argument: &[u8]) -> Result<()> {
        let Last::File(index) = self.last else { return Ok(()) };
        let What::File(seal) = &mut self.list.items[index].what else { return Ok(()) };
        let text = std::str::from_utf8(argument).unwrap_or_default();
        let bad = || Error::new(ErrorKind::BadInput, format!("not a {}: {}", escape(keyword), escape(argument)));
        match keyword {
            b"sha" => {
                let mut digest = [0; 32];
                let decoded = Base64::decode(text, &mut digest).map_err(|_| bad())?;
                if decoded.len() != 32 {
                    return Err(bad());
                }
                seal.digest = Some(Digest(digest));
            }
            b"size" => seal.size = Some(text.parse().map_err(|_| bad())?),
            _ => seal.time = Some(text.parse().map_err(|_| bad())?),
        }
        Ok(())
    }
}
