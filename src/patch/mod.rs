// SPDX-License-Identifier: ISC
//! Patches: signed plans with the bodies that they bring.
//!
//! A patch is one gzip file, signed as `signify -z` does. In it is a tar archive: first [`Contents`], which is the plan
//! and all that is said of it, then bodies in the order in which the plan needs them. `signify -Vz` verifies it and
//! plain `tar xzpf` unpacks it, on a machine that has nothing else.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod bundle;
pub mod contents;
pub mod delta;
pub mod errata;
mod keys;
mod layout;
mod make;
pub mod repository;
pub mod resolve;
mod scratch;
pub mod secrets;
pub mod sequence;
mod side;
mod signed;
mod squash;
mod tar;

pub use crate::source::fetch;
pub use bundle::{Bundle, Member, Trust, What, write_bundle};
pub use contents::{Body, Contents, Entry, FollowUp, Head};
pub use keys::{KEYS, Keys, read_short};
pub use layout::{Official, mirror, official, publish_packages, publish_syspatch};
pub use make::{Bodies, Open, Pen, iso_date, make, write};
pub use scratch::{New, Scratch};
pub use side::Side;
pub use signed::{Signed, Signer, sign_gzip};
pub use squash::{squash, squash_files};

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::tree::Digest;

/// Where the patches of a root are listed, in the root: a directory for each (decision 12).
pub const STORE: &str = "var/db/stockade/patches";
/// The manifest of a patch, in its directory.
pub const CONTENTS: &str = "+CONTENTS";

/// Checks the name of a patch: it is the name of a directory too.
///
/// # Errors
/// [`ErrorKind::BadInput`] for anything but 1 to 64 letters, digits and `. _ + -`, the first a letter or digit.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
    {
        return Ok(());
    }
    let reason = "the name of a patch has 1 to 64 letters, digits and . _ + -, and begins with a letter or digit";
    Err(Error::new(ErrorKind::BadInput, reason).at(name))
}

/// The directory of the patch `name` in a root.
///
/// # Errors
/// As [`check_name`].
pub fn store(name: &str) -> Result<TreePath> {
    check_name(name)?;
    TreePath::new(format!("{STORE}/{name}").into_bytes())
}

/// What stands between a set or package and what was done to it, in origins: `base.tgz + patch NAME`.
const STEP: &str = " + ";

/// The origin of an entry that had the origin `known` after it was changed by `step`: `record NAME` or `patch NAME`.
pub fn origin_after(known: Option<&str>, step: &str) -> String {
    known.and_then(set_of).map_or_else(|| step.to_owned(), |set| format!("{set}{STEP}{step}"))
}

/// The set or package that an entry of this origin belongs to; none if it belongs to none.
pub fn set_of(origin: &str) -> Option<&str> {
    let set = origin.split(STEP).next().unwrap_or_default();
    (!set.starts_with("record ") && !set.starts_with("patch ")).then_some(set)
}

/// The name of the recording that an entry of this origin was last changed by.
pub fn recording_of(origin: &str) -> Option<&str> {
    origin.rsplit(STEP).next()?.strip_prefix("record ")
}

/// The name that OpenBSD has for an architecture: uname(1) of Linux has others for some.
pub fn arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i586" => "i386",
        name => name,
    }
}

/// Is the path one that the list of patches takes, or a directory above it that was made for it?
pub fn is_stored(path: &TreePath) -> bool {
    TreePath::new(STORE.as_bytes()).is_ok_and(|store| path.is_within(&store))
}

/// For [`Bundle::read`]: a body must be what the manifest says. Of a difference only the file that it is made for can tell.
///
/// # Errors
/// [`ErrorKind::Unverified`] naming the path.
pub fn verify_body(contents: &Contents, member: &Member, body: &mut dyn Read) -> Result<()> {
    let Some(expected) = member.digest(contents) else { return Ok(()) };
    let path = &contents.entries[member.entry].change.path;
    if digest_of(body).on("read", path)? == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unverified, "its content is not what the manifest says").at(path))
}

/// The digest of all that can be read.
///
/// # Errors
/// As read(2).
pub fn digest_of(from: &mut dyn Read) -> io::Result<Digest> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 * 1024]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Digest(hash.finalize().into())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
