// SPDX-License-Identifier: ISC
//! What a build records: recipe, manifest, identity, what it was made of; written together, found together.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::build::Request;
use super::built::{Built, stat_archive};
use super::carry::Known;
use super::closure;
use super::identity::{self, IDENTITY};
use super::mapped;
use super::numbers::{self, NUMBERS};
use super::place::bytes;
use super::sets::{self, Sets};
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{self, Origin, Recipe};
use crate::select::closure::policy::EMBEDDED;
use crate::source::fetch::is_url;
use crate::source::{self, dir::fingerprint};
use crate::sys::{self, Calls, Dir};
use crate::tree::policy::{ADOPTED, Left};
use crate::tree::{Digest, Node, Tree};
use crate::watch::Watch;

/// The state files of one build. Until the tree is committed they are called `NAME.next`.
const FILES: [&str; 9] =
    ["recipe", "manifest", "built", "origin", NUMBERS, IDENTITY, closure::ASKED, closure::REASONS, closure::VERSIONS];

/// The recipe to build with: the one asked for, else the remembered one, else an embedded one; with the archives and
/// packages of the command line added.
pub(crate) fn recipe(state: Option<&State>, request: &Request) -> Result<Recipe> {
    let mut recipe = match (&request.recipe, state.map(remembered).transpose()?.flatten()) {
        _ if request.given.is_some() => request.given.clone().unwrap_or_default(),
        (Some(name), _) => recipe::load(name)?,
        (None, Some(remembered)) => remembered,
        (None, None) if request.closure.is_some() => Recipe::default(),
        (None, None) if request.from.is_empty() => recipe::load(sys::HOST_RECIPE)?,
        // Where there is nothing but sets, it is known what they are for.
        (None, None) if request.from.iter().any(|from| from.is_dir() || from.to_str().is_some_and(is_url)) => {
            recipe::load("openbsd-build")?
        }
        (None, None) => recipe::load("sets")?,
    };
    for path in &request.from {
        if path.to_str().is_some_and(is_url) {
            recipe.take_sets_from(path.clone(), request.key.clone())?;
            continue;
        }
        let path = path.canonicalize().on("open", bytes(path))?;
        match path.is_dir() {
            true => recipe.take_sets_from(path, request.key.clone())?,
            false => recipe.add_archive(path, request.verify.clone())?,
        }
    }
    sets::one_release(&recipe)?;
    if request.unsigned {
        recipe.trust_sets()?;
    }
    recipe.add_packages(&request.packages)?;
    if let Some(more) = &request.closure {
        closure::add(&mut recipe, more);
    }
    if recipe.sources.is_empty() && recipe.closure.is_none() {
        let error = Error::new(ErrorKind::Usage, "the recipe has no source");
        return Err(error.hint("name an archive with --from, or a recipe that has sources with -f"));
    }
    Ok(recipe)
}

/// The recipe of the last build.
pub(crate) fn remembered(state: &State) -> Result<Option<Recipe>> {
    let Some(text) = state.read("recipe")? else { return Ok(None) };
    let shown = state.path.join("recipe");
    recipe::parse(&String::from_utf8_lossy(&text), &shown.to_string_lossy()).map(Some)
}

/// What the host's own files were: those taken into the chroot, checksum lists and keys, source directories. None if
/// the directories cannot be told from what they may become.
pub(crate) struct HostInputs(Option<Digest>);

/// Looks at them. Asked before the sources are, so that a file that changes meanwhile shows with the next build.
pub(crate) fn host_inputs(
    recipe: &Recipe,
    closure: Option<&closure::Record>,
    calls: Calls,
    watch: &Watch,
) -> Result<HostInputs> {
    let mut hash = Sha256::new();
    if recipe.closure.is_some() {
        watch.begin("looking at the host", 0);
        let now = closure.map(|record| record.fingerprint(calls, watch)).transpose()?.flatten();
        let Some(now) = now else { return Ok(HostInputs(None)) };
        hash.update(now.0);
    }
    for source in &recipe.sources {
        match &source.origin {
            Origin::Archive { verify: Some(verify), .. } => {
                for file in [Some(&verify.list), verify.key.as_ref()].into_iter().flatten() {
                    hash.update(Sha256::digest(sys::read_regular(file).on("read", bytes(file))?));
                }
            }
            Origin::Sets { .. } => {
                let verify = Sets::of(&source.origin)?.and_then(|sets| sets.verify);
                for file in verify.iter().flat_map(|verify| [Some(&verify.list), verify.key.as_ref()]).flatten() {
                    hash.update(Sha256::digest(sys::read_regular(file).on("read", bytes(file))?));
                }
            }
            Origin::Directory { path, .. } => {
                watch.begin("looking at the source", 0);
                let Ok(directory) = Dir::open(path, calls) else { return Ok(HostInputs(None)) };
                let Some(now) = fingerprint(&directory, watch)? else { return Ok(HostInputs(None)) };
                hash.update(now.0);
            }
            _ => {}
        }
    }
    for path in &recipe.etc {
        let host = std::path::Path::new("/").join(path.as_os_str());
        hash.update(Sha256::digest(std::fs::read(&host).unwrap_or_default()));
    }
    Ok(HostInputs(Some(Digest(hash.finalize().into()))))
}

/// The key of all that decides the wanted tree. None unless that is the recipe, and archives and directories that have
/// not been touched since they were read: then nothing but their stamps is looked at.
pub(crate) fn key(recipe: &Recipe, built: &Built, anchor: &Dir, host: &HostInputs) -> Result<Option<String>> {
    let HostInputs(Some(host)) = host else { return Ok(None) };
    let mut hash = Sha256::new();
    hash.update(concat!(env!("CARGO_PKG_VERSION"), "\n"));
    hash.update(recipe.to_toml()?);
    if recipe.closure.is_some() {
        EMBEDDED.iter().for_each(|(_, text)| hash.update(text));
    }
    for source in &recipe.sources {
        let paths = match &source.origin {
            Origin::Archive { path, .. } => vec![path.clone()],
            Origin::Sets { .. } => Sets::of(&source.origin)?.map_or_else(Vec::new, |sets| sets.archives),
            Origin::Directory { .. } => continue,
            Origin::Listed { .. } | Origin::Packages { .. } => return Ok(None),
        };
        for path in paths {
            let seen = built.archives.get(&path);
            let proved = stat_archive(&path, anchor).ok().and_then(|stat| seen?.proves_tree(&stat));
            let Some(digest) = proved else { return Ok(None) };
            hash.update(digest.0);
        }
    }
    hash.update(host.0);
    if !recipe.accounts.is_empty() {
        return Ok(None);
    }
    Ok(Some(Digest(hash.finalize().into()).to_string()))
}

/// The state file that stands while a new root is renamed in: only then do prepared files count without a journal.
pub(crate) const RENAMING: &str = "renaming.next";

/// Writes the files of a build as `NAME.next`.
pub(crate) fn prepare(state: &State, recipe: &Recipe, built: &Built, tree: &Tree, root: &Dir) -> Result<()> {
    state.write_tree("manifest.next", tree)?;
    write_rest(state, ".next", (recipe, built), root)
}

/// Records a build that changed nothing in the root, file by file: each is true of the root whether the others are
/// written or not.
pub(crate) fn renew(state: &State, recipe: &Recipe, built: &Built, tree: &Tree, root: &Dir) -> Result<()> {
    state.write_tree("manifest", tree)?;
    write_rest(state, "", (recipe, built), root)
}

/// Writes all but the manifest, with this ending.
fn write_rest(state: &State, ending: &str, (recipe, built): (&Recipe, &Built), root: &Dir) -> Result<()> {
    let name = |name: &str| format!("{name}{ending}");
    state.write(&name("recipe"), recipe.to_toml()?.as_bytes())?;
    built.write(state, &name("built"))?;
    state.write(&name(NUMBERS), numbers::ours()?.as_bytes())?;
    state.write(&name(IDENTITY), &identity::of(root).on("stat", bytes(&state.path))?)
}

/// Makes the prepared files the recorded ones. May be repeated.
pub(crate) fn promote(state: &State) -> Result<()> {
    for name in FILES {
        let next = format!("{name}.next");
        match state.dir.rename(next.as_bytes(), &state.dir, name.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            done => done.on("rename", &next)?,
        }
    }
    state.discard(RENAMING)?;
    state.sync()
}

/// The tree to record after a build of `want`: what was left although it is stale, or adopted, stays known, and files
/// that are as wanted carry the stamps of `have`.
pub(crate) fn tree(want: &Tree, known: &Known<'_>) -> Result<Tree> {
    let Known { have, recorded: old, left, adopt, .. } = *known;
    let mut nodes = want.nodes().to_vec();
    // What is not installed for a mount is still to come: of it, what an earlier build brought stays known.
    let mounted: HashSet<&TreePath> =
        left.iter().filter(|(_, why)| *why == Left::Mounted).map(|(path, _)| path).collect();
    nodes.retain(|node| !mounted.contains(&node.path));
    nodes.extend(mounted.iter().filter_map(|path| old?.get(path.as_bytes()).cloned()));
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    for node in &mut nodes {
        node.here =
            have.get(node.path.as_bytes()).filter(|is| is.same(node) && is.digest().is_some()).and_then(|is| is.here);
    }
    let present: HashSet<&[u8]> = nodes.iter().map(|n| n.path.as_bytes()).collect();
    let has_room = |path: &TreePath| path.ancestors().all(|at| want.get(at.as_bytes()).is_none_or(|n| n.kind.is_dir()));
    let stays = |(path, why): &(TreePath, Left)| match why {
        _ if present.contains(path.as_bytes()) || !has_room(path) => None,
        Left::Stale | Left::Adopted => old?.get(path.as_bytes()).cloned(),
        Left::Mapped => {
            old?.get(path.as_bytes()).map(|was| Node { origin: Some(mapped::IN_USE.into()), ..was.clone() })
        }
        Left::Unknown if adopt => {
            have.get(path.as_bytes()).map(|is| Node { origin: Some(ADOPTED.into()), ..is.clone() })
        }
        _ => None,
    };
    let stale: Vec<Node> = left.iter().filter_map(stays).collect();
    // A stale entry needs its directories to be a tree.
    let mut missing: Vec<_> = Vec::new();
    for node in &stale {
        for above in node.path.ancestors() {
            let known = present.contains(above.as_bytes()) || missing.iter().chain(&stale).any(|n| n.path == above);
            if !known {
                missing.extend(have.get(above.as_bytes()).cloned());
            }
        }
    }
    nodes.extend(stale);
    nodes.extend(missing);
    Tree::new(nodes)
}

/// Stamps the files of `tree` at `paths`, which are known to be as it says.
pub(crate) fn stamp<'a>(
    root: &Dir,
    tree: &mut Tree,
    paths: impl Iterator<Item = &'a TreePath>,
    watch: &Watch,
) -> Result<()> {
    let paths: HashSet<&TreePath> = paths.collect();
    watch.begin("taking stamps", paths.len() as u64);
    source::dir::stamp(root, tree, &|path| paths.contains(path), watch)
}
