// SPDX-License-Identifier: ISC
//! `stockade patch sync`: fetches what a root lacks from a repository.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Apply, Source, Sync, TrustArgs, trust};
use super::make::now;
use super::renew::Program;
use super::{apply, mirror};
use crate::chroot::patch::verify::list;
use crate::chroot::{Home, Locking};
use crate::cli::args::{Json, Lock};
use crate::cli::out::{Out, warn};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::fetch::{fetch, is_url};
use crate::patch::repository::{Cache, Target, file_name, missing};
use crate::patch::{Bundle, Keys, iso_date};
use crate::sys;
use crate::tree::Digest;
use crate::watch::Watch;

pub(super) fn run(args: &Sync, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    if args.layout == Source::Syspatch {
        return mirror::run(&home, args, out);
    }
    let keys = match args.keys.as_slice() {
        [] => Keys::of_host()?,
        files => Keys::load(files)?,
    };
    let installed = list(&home, args.root.as_os_str(), locking(args))?;
    let there: HashSet<Digest> = installed
        .patches
        .iter()
        .filter(|patch| patch.vouched)
        .flat_map(|patch| patch.contents.head.provides.iter().map(|(_, digest)| *digest).chain([patch.digest]))
        .collect();
    let release = installed.release.or(args.release.clone());
    let target = Target { system: installed.system, release, arch: Some(sys::machine()) };
    let (index, found) = watched(out.json, |watch| {
        let cache = Cache::open(&home.path.join("patches"))?;
        let mut get = |name: &str, range: Range<u64>, to: &mut dyn Write| get(&args.from, name, range, to, watch);
        let index = cache.look(&keys, &mut get)?;
        let mut found = Vec::new();
        for (name, patch) in missing(&index, &there, &target) {
            watch.begin("fetching", patch.size);
            let file = match patch.sha256 {
                Some(sha256) if !args.dry_run => Some(cache.bring(&file_name(name), (sha256, patch.size), &mut get)?),
                _ => None,
            };
            found.push(Found { name: name.clone(), size: Some(patch.size), file });
        }
        Ok((index, found))
    })?;
    if let Some(days) = args.max_age
        && (now() - index.date) / 86400 >= i64::from(days)
    {
        warn(&format!("the repository was published on {}: more than {days} days ago", iso_date(index.date)));
    }
    if !index.patches.is_empty() && index.for_target(&target).next().is_none() {
        let here = [&target.system, target.release.as_deref().unwrap_or(""), target.arch.as_deref().unwrap_or("")];
        warn(&format!("none of the patches there is for {}", here.join(" ")));
    }
    found.iter().try_for_each(|found| found.print(out))?;
    let files: Vec<PathBuf> = found.into_iter().filter_map(|found| Some(found.file?.0)).collect();
    match (files.is_empty(), args.apply) {
        (true, _) if !args.dry_run => Ok(Exit::Differs),
        (false, true) => apply_all(args, files, out),
        _ => Ok(Exit::Done),
    }
}

/// Who applies patches ends first what was interrupted; others may not even write there.
pub(super) fn locking(args: &Sync) -> Locking {
    Locking { shared: args.dry_run || !args.apply, wait: !args.lock.no_wait, verb: "patch sync" }
}

/// A patch that the root lacks.
pub(super) struct Found {
    pub(super) name: String,
    /// Bytes, if the repository says so.
    pub(super) size: Option<u64>,
    /// Where it is in the cache, and whether it came just now; none if it was not to be fetched.
    pub(super) file: Option<(PathBuf, bool)>,
}

impl Found {
    pub(super) fn print(&self, out: &mut Out) -> Result<()> {
        let new = self.file.as_ref().is_some_and(|(_, new)| *new);
        let said = match (&self.file, new) {
            (None, _) => "missing",
            (_, true) => "fetched",
            (_, false) => "there",
        };
        let file = self.file.as_ref().map(|(path, _)| json::host_path(path));
        match out.json {
            true => out.value(&json!({ "name": self.name, "size": self.size, "file": file, "fetched": new })),
            false => out.line(format_args!("{said} {}", self.name)),
        }
    }
}

/// Applies the patches in these files, each as if it were given alone: their order is that of the repository. For cron,
/// 2 is that there was nothing new, and never that some could not be applied.
pub(super) fn apply_all(args: &Sync, files: Vec<PathBuf>, out: &mut Out) -> Result<Exit> {
    let program = Program::running()?;
    let mut exit = Exit::Done;
    for file in files {
        let args = as_apply(args, file);
        if is_newer(&args)? {
            out.flush()?;
            program.renew()?;
        }
        if apply::run(&args, out)? != Exit::Done {
            exit = Exit::Command(1);
        }
    }
    Ok(exit)
}

/// Is the patch in a format that this program does not know? Whatever else is wrong with it is said where it is applied.
fn is_newer(args: &Apply) -> Result<bool> {
    let keys = args.trust.keys()?;
    let watch = Watch::default();
    let mut opened = args.files.iter().map(|file| Bundle::open(super::open(file, &watch)?, trust(keys.as_ref())));
    Ok(opened.any(|bundle| bundle.is_err_and(|error| error.kind() == ErrorKind::Unsupported)))
}

/// The patch as the command line of `patch apply`.
fn as_apply(args: &Sync, file: PathBuf) -> Apply {
    Apply {
        files: vec![file],
        root: args.root.clone(),
        all_chroots: false,
        keep: false,
        replace: false,
        skip: Vec::new(),
        release: args.release.clone(),
        allow_unmet: false,
        no_undo: false,
        restart: false,
        dry_run: false,
        // What was made of an archive that is verified is signed by nobody.
        trust: TrustArgs { keys: args.keys.clone(), unsigned: args.layout == Source::Syspatch },
        lock: Lock { no_wait: args.lock.no_wait },
        json: Json { json: args.json.json },
    }
}

/// Writes a part of the file `name` of the repository `from`: by a child from the network, by ourselves from a directory.
pub(super) fn get(from: &str, name: &str, range: Range<u64>, to: &mut dyn Write, watch: &Watch) -> Result<()> {
    if is_url(from) {
        return fetch(&format!("{}/{name}", from.trim_end_matches('/')), range, to, watch);
    }
    let from = from.strip_prefix("file://").unwrap_or(from);
    if from.contains("://") {
        let error = Error::new(ErrorKind::Unsupported, "it is neither http nor https, nor a directory");
        return Err(error.at(from.as_bytes()));
    }
    let path = Path::new(from).join(name);
    let shown = path.as_os_str().as_bytes();
    let mut file = File::open(&path).on("open", shown)?;
    file.seek(SeekFrom::Start(range.start)).on("seek", shown)?;
    // One byte more than it may have makes it another file.
    let most = range.end.saturating_sub(range.start).saturating_add(1);
    io::copy(&mut file.take(most), to).map(drop).on("read", shown)
}
