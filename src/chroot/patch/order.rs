// SPDX-License-Identifier: ISC
//! May a patch be applied now? Its system, its place in its series, what it requires (decisions 1, 9).
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::older::is_jail;
use super::store::Installed;
use super::target::Root;
use crate::chroot::place::bytes;
use crate::chroot::recorded::remembered;
use crate::chroot::release;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Contents, Head, arch, sequence};
use crate::path::escape;
use crate::sys;
use crate::tree::Digest;

/// What stands between a root and a patch.
#[derive(Debug)]
pub(crate) enum Order {
    /// It may be applied.
    Next,
    /// It is there already, or one that stands for it.
    Installed,
    /// It is not for this root.
    Foreign(String),
    /// Others come first.
    Wait(Error),
}

/// What the user knows better.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Numbers that are passed over.
    pub(crate) skip: Vec<u32>,
    /// The release of the root, if it is said.
    pub(crate) release: Option<String>,
}

/// Where `contents` stands among those that are installed.
pub(crate) fn order(contents: &Contents, root: &Root, installed: &[Installed], known: &Known) -> Result<Order> {
    let head = &contents.head;
    let digest = contents.digest();
    let provided: HashSet<Digest> = installed.iter().filter(|other| other.vouched).flat_map(provides).collect();
    if provided.contains(&digest) {
        return Ok(Order::Installed);
    }
    let vouched = || installed.iter().filter(|other| other.vouched);
    let another = |other: &&Installed| other.contents.head.name == head.name && other.digest != digest;
    if let Some(same) = vouched().find(another) {
        let reason = format!("another patch of this name is there: {}", same.digest);
        return Ok(Order::Foreign(reason));
    }
    if root.state.as_ref().map_or(Ok(false), is_jail)? {
        let build = format!("stockade build {}", escape(bytes(&root.place.root)));
        return Ok(Order::Foreign(format!("it is a jail, made of the files of the host: {build}")));
    }
    if let Some(reason) = foreign(head, root, known)? {
        return Ok(Order::Foreign(reason));
    }
    let own: HashSet<Digest> = head.provides.iter().map(|(_, digest)| *digest).collect();
    let missing = head.requires.iter().find(|(_, digest)| !provided.contains(digest) && !own.contains(digest));
    if let Some((name, _)) = missing {
        return Ok(Order::Wait(needs(name)));
    }
    Ok(in_series(head, installed, known).map_or(Order::Next, Order::Wait))
}

/// The digests that a patch stands for.
fn provides(patch: &Installed) -> impl Iterator<Item = Digest> {
    std::iter::once(patch.digest).chain(patch.contents.head.provides.iter().map(|(_, digest)| *digest))
}

/// Is it of another system, architecture or release?
fn foreign(head: &Head, root: &Root, known: &Known) -> Result<Option<String>> {
    let (here, machine) = system_of(root)?;
    if !head.system.is_empty() && head.system != here {
        return Ok(Some(format!("it is for {}, and this is {here}", head.system)));
    }
    if !head.arch.is_empty() && arch(&head.arch) != arch(&machine) {
        return Ok(Some(format!("it is for {}, and this is {machine}", head.arch)));
    }
    let release = match (release_of(root)?, &known.release) {
        (Some(own), Some(said)) if own != *said => {
            return Ok(Some(format!("--release says {said}, and the root itself that it is of {own}")));
        }
        (own, said) => own.or(said.clone()),
    };
    match release {
        Some(release) if !head.release.is_empty() && head.release != release => {
            Ok(Some(format!("it is for release {}, and this is {release}", head.release)))
        }
        Some(release) => {
            let (system, kernel) = sys::kernel();
            Ok(release::newer(&release, (&system, &kernel)))
        }
        None => Ok(None),
    }
}

/// The system that a root is of, and what that calls the machine.
///
/// # Errors
/// As open(2).
pub(crate) fn system_of(root: &Root) -> Result<(String, String)> {
    release::system(&root.dir.try_clone().on("open", "/")?.crossing(), said(root)?.as_deref())
}

/// The release that a root is of, if it says.
///
/// # Errors
/// As open(2).
pub(crate) fn release_of(root: &Root) -> Result<Option<String>> {
    let dir = root.dir.try_clone().on("open", "/")?.crossing();
    release::of(&dir, said(root)?.as_deref()).map(|release| Some(release).filter(|release| !release.is_empty()))
}

/// What the recipe of a chroot calls its release.
fn said(root: &Root) -> Result<Option<String>> {
    Ok(root.state.as_ref().map(remembered).transpose()?.flatten().and_then(|recipe| recipe.release))
}

/// The number before its own in the series that is neither there nor known not to be.
fn in_series(head: &Head, installed: &[Installed], known: &Known) -> Option<Error> {
    let number = head.number.filter(|_| !head.series.is_empty())?;
    let mut there: HashSet<u32> = head.absent.iter().chain(&known.skip).copied().collect();
    // Whatever a root says of itself may have been put there by anybody.
    for other in installed.iter().filter(|other| other.vouched && other.contents.head.series == head.series) {
        there.extend(other.contents.head.number);
        there.extend(&other.contents.head.absent);
        there.extend(other.undo.iter().flat_map(|undo| &undo.skipped));
        let is_later = |later: u32| later > number && sequence::same_range(later, number);
        if other.contents.head.number.is_some_and(is_later) {
            let reason = format!("{} came after it and is there already", other.contents.head.name);
            let hint = format!("undo that first: stockade patch undo --to {}", other.contents.head.name);
            return Some(Error::new(ErrorKind::Refused, reason).hint(hint));
        }
    }
    (sequence::first(number)..number).find(|before| !there.contains(before)).map(|before| {
        let reason = format!("number {before:03} of its series is missing");
        Error::new(ErrorKind::Refused, reason).hint(format!("apply that first, or pass over it: --skip {before:03}"))
    })
}

fn needs(name: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("it needs {name} first")).hint("apply that first")
}
