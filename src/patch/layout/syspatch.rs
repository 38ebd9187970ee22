// SPDX-License-Identifier: ISC
//! Patches for OpenBSD's own client: the directory, the names, the archives and the list that syspatch(8) expects of a
//! mirror (`MIRROR/syspatch/X.Y/ARCH/`).
//!
//! It installs files and symlinks over what is there, and nothing else: no deletions, no hard links, no metadata alone.
//! What it cannot do is refused here.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Can, digits, fits, seal};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::bundle::LEVEL;
use crate::patch::tar::{END, Header, Type, padding};
use crate::patch::{Body, Bundle, Contents, Entry, Keys, Member, New, Pen, Trust, What, check_name, verify_body};
use crate::plan::Action;
use crate::sign::CheckList;
use crate::tree::{Digest, Kind, Node};
use crate::watch::Watch;

/// Official patches count from 1; ours must never take a number of theirs.
const FIRST_NUMBER: u32 = 900;

/// Puts patches into the mirror below `dir` and signs its lists anew, official patches that lie there included: the
/// client knows one key for all. Returns the files that came.
///
/// # Errors
/// [`ErrorKind::Refused`] for what syspatch cannot do; as [`Bundle::read`].
pub fn publish_syspatch(
    dir: &Path,
    patches: &[PathBuf],
    (pen, keys): (&Pen, &Keys),
    watch: &Watch,
) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let mut parents = BTreeMap::new();
    for patch in patches {
        let shown = patch.as_os_str().as_bytes();
        let input = BufReader::new(File::open(patch).on("open", shown)?);
        let bundle = Bundle::open(input, Trust::Keys(keys)).map_err(|error| error.at(shown))?;
        let place = place(&bundle.contents).map_err(|error| error.at(shown))?;
        bundle.contents.entries.iter().try_for_each(|entry| fits(entry, Can::Replace))?;
        let to = dir.join(place);
        let parent = to.parent().unwrap_or(dir).to_owned();
        fs::create_dir_all(&parent).on("mkdir", parent.as_os_str().as_bytes())?;
        parents.insert(parent, bundle.contents.head.release.clone());
        convert(bundle, &to, watch).map_err(|error| error.at(shown))?;
        made.push(to);
    }
    for (parent, release) in parents {
        // What came from OpenBSD's own mirrors.
        let official = Keys::of_syspatch(&release).map(|keys| keys.0).unwrap_or_default();
        seal(&parent, "syspatch", &made, (pen, &Keys([keys.0.clone(), official].concat())))?;
    }
    Ok(made)
}

/// A patch of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Official {
    /// What it is called: its file without `.tgz`.
    pub name: String,
    /// Its place in the order.
    pub number: u32,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

/// Where a mirror has what is for this release of OpenBSD and this architecture: `syspatch/7.8/amd64`.
pub fn mirror(release: &str, arch: &str) -> String {
    format!("syspatch/{release}/{arch}")
}

/// The patches that the list of a mirror has for a release, in their order. What else it lists is none.
pub fn official(list: &CheckList, release: &str) -> Vec<Official> {
    let Some(digits) = digits(release) else { return Vec::new() };
    let patch = |file: &[u8]| {
        let name = std::str::from_utf8(file).ok()?.strip_suffix(".tgz")?;
        let (number, title) = name.strip_prefix(&format!("syspatch{digits}-"))?.split_once('_')?;
        let plain = title.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let digits = number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit());
        let number = (digits && plain && check_name(name).is_ok()).then(|| number.parse().ok())??;
        Some(Official { name: name.to_owned(), number, sha256: list.find(file)? })
    };
    let mut patches: Vec<Official> = list.names().into_iter().filter_map(patch).collect();
    patches.sort_by_key(|patch| patch.number);
    patches
}

/// `syspatch/7.8/amd64/syspatch78-901_name.tgz`
fn place(contents: &Contents) -> Result<PathBuf> {
    let head = &contents.head;
    let refused = |reason: &'static str, hint: &str| Err(Error::new(ErrorKind::Refused, reason).hint(hint));
    let Some(digits) = digits(&head.release) else {
        return refused("it is for no release of OpenBSD", "say which with --release X.Y");
    };
    if head.arch.is_empty() {
        return refused("it is for no architecture", "say which with --arch");
    }
    let number = head.number.filter(|number| (FIRST_NUMBER..1000).contains(number));
    let Some(number) = number else {
        return refused("its number is not between 900 and 999: others are official", "give it one with --number");
    };
    let replaces = |entry: &Entry| entry.change.action() == Action::Modify && entry.body == Body::Full;
    if !contents.entries.iter().any(replaces) {
        return refused("it replaces no file", "syspatch takes a patch only where one of its files is there already");
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = head.name.chars().map(plain).collect();
    Ok(Path::new(&mirror(&head.release, &head.arch)).join(format!("syspatch{digits}-{number:03}_{name}.tgz")))
}

/// Writes the archive: files and symlinks under their own names.
fn convert(bundle: Bundle<'_>, to: &Path, watch: &Watch) -> Result<()> {
    let shown = to.as_os_str().as_bytes();
    let mut new = New::create(to, 0o644)?;
    let mut gzip = GzEncoder::new(BufWriter::new(new.file()), Compression::new(LEVEL));
    for entry in &bundle.contents.entries {
        if let Some(node @ Node { kind: Kind::Symlink(target), .. }) = &entry.change.after {
            gzip.write_all(&header(&bundle.contents, node, Type::Symlink(target))).on("write", shown)?;
        }
    }
    let mut take = |contents: &Contents, member: &Member, body: &mut dyn Read| -> Result<()> {
        let Some(node) = contents.entries[member.entry].change.after.as_ref() else { return Ok(()) };
        if member.what != What::Whole {
            return Ok(());
        }
        gzip.write_all(&header(contents, node, Type::File(member.size))).on("write", shown)?;
        let mut copied = Copied { from: body, to: &mut gzip };
        verify_body(contents, member, &mut copied)?;
        gzip.write_all(&END[..padding(member.size)]).on("write", shown)
    };
    bundle.read(&mut take, watch)?;
    let written = gzip.write_all(&END).and_then(|()| gzip.finish()).and_then(|mut out| out.flush());
    written.on("write", shown)?;
    new.commit()
}

/// A body that is written while it is verified; nobody sees the archive before that is done.
struct Copied<'a, W> {
    from: &'a mut dyn Read,
    to: &'a mut W,
}

impl<W: Write> Read for Copied<'_, W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(out)?;
        self.to.write_all(&out[..length])?;
        Ok(length)
    }
}

fn header(contents: &Contents, node: &Node, kind: Type<'_>) -> Vec<u8> {
    let (meta, head) = (&node.meta, &contents.head);
    let user = head.users.get(&meta.uid).map_or("", String::as_str);
    let group = head.groups.get(&meta.gid).map_or("", String::as_str);
    let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime.sec);
    Header { path: &node.path, kind, mode, uid, gid, user, group, mtime }.blocks()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mirror_lists() {
        let line = |name: &str| format!("SHA256 ({name}) = {}\n", Digest([7; 32]));
        let names = [
            "syspatch78-010_b.tgz",
            "syspatch78-002_a-b_C.tgz",
            "syspatch77-001_old.tgz",
            "syspatch78-1_short.tgz",
            "syspatch78-+01_sign.tgz",
            "syspatch78-003_dot.dot.tgz",
            "syspatch78-004_a/../../b.tgz",
            "syspatch78-005_x",
            "INDEX",
        ];
        let list = CheckList::parse(names.map(line).concat().as_bytes()).unwrap();
        let found = |release| official(&list, release).into_iter().map(|patch| patch.name).collect::<Vec<_>>();
        assert_eq!(found("7.8"), ["syspatch78-002_a-b_C", "syspatch78-010_b"]);
        assert_eq!(found("7.7"), ["syspatch77-001_old"]);
        for release in ["78", "7.9", "", "7.", "../7.8", "7.8/.."] {
            assert_eq!(found(release), Vec::<String>::new(), "{release}");
        }
    }
}
