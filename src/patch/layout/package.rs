// SPDX-License-Identifier: ISC
//! Patches as OpenBSD packages.
//!
//! pkg_add(1) installs nothing over a file that belongs to no package, and pkg_delete(1) removes what a package lists. So
//! a package lists no path of the base system, but the patch itself, beside a script that puts its files in their
//! places, keeps what was there, and brings that back when the package goes.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Can, digits, fits, seal};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::bundle::LEVEL;
use crate::patch::tar::{END, Header, Type, padding};
use crate::patch::{
    Bundle, Contents, Keys, New, Pen, Scratch, Signer, Trust, digest_of, iso_date, sign_gzip, verify_body,
};
use crate::path::TreePath;
use crate::plan::Action;
use crate::tree::Digest;
use crate::watch::Watch;

/// Puts the files of a patch in their places and back.
const INSTALL: &[u8] = include_bytes!("install.sh");
/// Where packages keep theirs.
const CWD: &str = "/var/db";
const DIR: &str = "binpatch";
/// How long the one-line description of a package may be.
const MAX_COMMENT: usize = 60;

/// Makes packages of patches below `dir`, in `X.Y/packages/ARCH/`, and signs their list. Returns the files that came.
///
/// # Errors
/// [`ErrorKind::Refused`] for what such a package cannot do, or a key that pkg_add(1) would not take; as
/// [`Bundle::read`].
pub fn publish_packages(
    dir: &Path,
    patches: &[PathBuf],
    (pen, keys): (&Pen, &Keys),
    watch: &Watch,
) -> Result<Vec<PathBuf>> {
    let path = signer(pen)?;
    let mut made = Vec::new();
    for patch in patches {
        let shown = patch.as_os_str().as_bytes();
        let open = || File::open(patch).on("open", shown);
        let bundle = Bundle::open(BufReader::new(open()?), Trust::Keys(keys)).map_err(|error| error.at(shown))?;
        let contents = bundle.read(&mut verify_body, watch).map_err(|error| error.at(shown))?;
        let package = Package::of(&contents).map_err(|error| error.at(shown))?;
        let parent = dir.join(&contents.head.release).join("packages").join(&contents.head.arch);
        fs::create_dir_all(&parent).on("mkdir", parent.as_os_str().as_bytes())?;
        let to = parent.join(format!("{}.tgz", package.name));
        package.write(open()?, (pen, &path), &to)?;
        made.push(to);
    }
    let mut parents: Vec<&Path> = made.iter().filter_map(|file| file.parent()).collect();
    parents.dedup();
    parents.into_iter().try_for_each(|parent| seal(parent, "", &made, (pen, keys)))?;
    Ok(made)
}

/// pkg_add(1) takes the signer from the path of the key: a directory, and a name that ends in `-pkg`.
fn signer(pen: &Pen) -> Result<String> {
    let stem = pen.path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-+@".contains(c);
    if !stem.ends_with("-pkg") || !stem.chars().all(plain) {
        let error = Error::new(ErrorKind::Refused, "pkg_add takes no key whose name does not end in -pkg.sec");
        return Err(error.at(pen.path.as_os_str().as_bytes()).hint("make one: stockade key generate NAME-pkg"));
    }
    let path = pen.path.to_string_lossy().into_owned();
    Ok(if path.contains('/') { path } else { format!("./{path}") })
}

/// A package that is going to be made.
struct Package<'a> {
    contents: &'a Contents,
    /// `patch-errata_7_8_001_sshd-1.0`
    name: String,
    /// Paths that the patch removes, a line each.
    removed: String,
}

impl<'a> Package<'a> {
    fn of(contents: &'a Contents) -> Result<Package<'a>> {
        let head = &contents.head;
        let refused = |reason: &'static str, hint: &str| Err(Error::new(ErrorKind::Refused, reason).hint(hint));
        if digits(&head.release).is_none() {
            return refused("it is for no release of OpenBSD", "say which with --release X.Y");
        }
        if head.arch.is_empty() {
            return refused("it is for no architecture", "say which with --arch");
        }
        if !head.accounts.is_empty() {
            return refused("it needs accounts, which its package would not make", "patch apply makes them");
        }
        contents.entries.iter().try_for_each(|entry| fits(entry, Can::Remove))?;
        let gone = contents.entries.iter().filter(|entry| entry.change.action() == Action::Remove);
        let removed = gone.map(|entry| format!("{}\n", entry.change.path)).collect();
        Ok(Package { contents, name: package_name(&head.name, head.number), removed })
    }

    fn write(&self, mut patch: File, (pen, key): (&Pen, &str), to: &Path) -> Result<()> {
        let shown = to.as_os_str().as_bytes();
        let size = patch.metadata().on("stat", shown)?.len();
        let digest = digest_of(&mut patch).on("read", shown)?;
        patch.rewind().on("seek", shown)?;
        let description = self.description();
        let (own, lists) = (self.contents.head.name.as_str(), &self.removed);
        let files = [("install", INSTALL), ("removed", lists.as_bytes())];
        let listing = self.listing(&description, &files, (size, digest));
        let mut unsigned = Scratch::beside(to)?;
        let mut gzip = GzEncoder::new(BufWriter::new(&mut unsigned), Compression::new(LEVEL));
        let mut put = |name: &str, from: &mut dyn Read, size| -> Result<()> {
            let path = TreePath::new(name.as_bytes())?;
            let (kind, mode) = (Type::File(size), 0o444);
            let header = Header { path: &path, kind, mode, uid: 0, gid: 7, user: "root", group: "bin", mtime: 0 };
            gzip.write_all(&header.blocks()).on("write", shown)?;
            std::io::copy(from, &mut gzip).on("write", shown)?;
            gzip.write_all(&END[..padding(size)]).on("write", shown)
        };
        put("+CONTENTS", &mut listing.as_bytes(), listing.len() as u64)?;
        put("+DESC", &mut description.as_bytes(), description.len() as u64)?;
        for (name, text) in files {
            put(&format!("{DIR}/{own}/{name}"), &mut &text[..], text.len() as u64)?;
        }
        put(&format!("{DIR}/{own}/patch.tgz"), &mut patch, size)?;
        let ended = gzip.write_all(&END).and_then(|()| gzip.finish()).and_then(|mut out| out.flush());
        ended.on("write", shown)?;
        let mut new = New::create(to, 0o644)?;
        let mut unsigned = BufReader::new(unsigned.rewound().on("seek", shown)?);
        let (comment, date) = (pen.comment(), iso_date(self.contents.head.date));
        let signer = Signer { key: &pen.key, comment: &comment, path: key, date: &date };
        sign_gzip(&mut unsigned, &signer, new.file())?;
        new.commit()
    }

    /// A line of 60 bytes at most, then what people should know.
    fn description(&self) -> String {
        let head = &self.contents.head;
        let title = if head.title.is_empty() { &head.name } else { &head.title };
        let end = (0..=MAX_COMMENT).rev().find(|&end| title.is_char_boundary(end)).unwrap_or(0).min(title.len());
        let mut text = format!("{}\n\nbinary patch {}\n{}", &title[..end], head.name, head.note);
        let left = head.follow_ups.iter().map(ToString::to_string).chain(head.commands.iter().cloned());
        left.for_each(|what| text.push_str(&format!("to be done afterwards: {what}\n")));
        text
    }

    /// The packing list (package(5)).
    fn listing(&self, description: &str, files: &[(&str, &[u8])], patch: (u64, Digest)) -> String {
        let head = &self.contents.head;
        let sum = |text: &[u8]| (text.len() as u64, Digest(<sha2::Sha256 as sha2::Digest>::digest(text).into()));
        let noted =
            |(size, digest): (u64, Digest)| format!("@sha {}\n@size {size}\n", Base64::encode_string(&digest.0));
        let own = format!("{DIR}/{}", head.name);
        let mut text = format!("@name {}\n@comment pkgpath={own} ftp=yes\n@arch {}\n", self.name, head.arch);
        text.push_str(&format!("+DESC\n{}", noted(sum(description.as_bytes()))));
        for (needed, _) in &head.requires {
            // Any version of it, as they all do the same.
            let (name, stem) = (package_name(needed, None), package_stem(needed));
            text.push_str(&format!("@depend {DIR}/{needed}:{stem}-*:{name}\n"));
        }
        text.push_str(&format!("@cwd {CWD}\n{DIR}/\n{own}/\n@unexec sh %D/{own}/install rollback\n"));
        for (name, body) in files {
            text.push_str(&format!("{own}/{name}\n{}@ts {}\n", noted(sum(body)), head.date));
        }
        text.push_str(&format!("{own}/patch.tgz\n{}@ts {}\n", noted(patch), head.date));
        text.push_str(&format!("@exec sh %D/{own}/install install\n"));
        text
    }
}

/// A version begins at the first digit after a hyphen, so the stem must have none.
fn package_stem(patch: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("patch-p_{}", patch.chars().map(plain).collect::<String>())
}

fn package_name(patch: &str, number: Option<u32>) -> String {
    format!("{}-{}.0", package_stem(patch), number.unwrap_or(0))
}
