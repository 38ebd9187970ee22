// SPDX-License-Identifier: ISC
//! `stockade patch sync`: fetches what a root lacks from a repository.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::apply;
use super::args::{Apply, Sync, TrustArgs};
use super::make::now;
use crate::chroot::Home;
use crate::chroot::patch::verify::list;
use crate::cli::args::{Json, Lock};
use crate::cli::out::{Out, warn};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::{IoContext, Result};
use crate::patch::fetch::{fetch, is_url};
use crate::patch::repository::{Cache, Target, missing};
use crate::patch::{Keys, iso_date};
use crate::tree::Digest;
use crate::watch::Watch;

pub(super) fn run(args: &Sync, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let keys = match args.keys.as_slice() {
        [] => Keys::of_host()?,
        files => Keys::load(files)?,
    };
    let installed = list(&home, args.root.as_os_str(), !args.lock.no_wait)?;
    let there: HashSet<Digest> = installed
        .patches
        .iter()
        .filter(|patch| patch.vouched)
        .flat_map(|patch| patch.contents.head.provides.iter().map(|(_, digest)| *digest).chain([patch.digest]))
        .collect();
    let target = Target { system: installed.system, release: args.release.clone().or(installed.release), arch: None };
    let (fresh, fetched) = watched(out.json, |watch| {
        let cache = Cache::open(&home.path.join("patches"))?;
        let mut get = |name: &str, limit: u64, to: &mut dyn Write| get(&args.from, name, limit, to, watch);
        let fresh = cache.look(&keys, &mut get)?;
        let mut fetched = Vec::new();
        for (name, patch) in missing(&fresh.index, &there, &target) {
            watch.begin("fetching", patch.size);
            let path = match args.dry_run {
                true => None,
                false => Some(cache.bring(name, patch, &mut get)?),
            };
            fetched.push((name.clone(), patch.size, path));
        }
        Ok((fresh, fetched))
    })?;
    if let Some(days) = args.max_age
        && (now() - fresh.index.date) / 86400 >= i64::from(days)
    {
        warn(&format!("the repository was published on {}: more than {days} days ago", iso_date(fresh.index.date)));
    }
    for (name, size, path) in &fetched {
        let new = path.as_ref().is_some_and(|(_, new)| *new);
        let said = match (path, new) {
            (None, _) => "missing",
            (_, true) => "fetched",
            (_, false) => "there",
        };
        match out.json {
            true => out.value(&json!({
                "name": name,
                "size": size,
                "file": path.as_ref().map(|(path, _)| json::host_path(path)),
                "fetched": new,
            }))?,
            false => out.line(format_args!("{said} {name}"))?,
        }
    }
    let files: Vec<PathBuf> = fetched.into_iter().filter_map(|(.., path)| Some(path?.0)).collect();
    match (files.is_empty(), args.apply) {
        (true, _) if !args.dry_run => Ok(Exit::Differs),
        // For cron: 2 is that there was nothing new, and this is not that.
        (false, true) => match apply::run(&as_apply(args, files), out)? {
            Exit::Done => Ok(Exit::Done),
            _ => Ok(Exit::Command(1)),
        },
        _ => Ok(Exit::Done),
    }
}

/// The patches as the command line of `patch apply`.
fn as_apply(args: &Sync, files: Vec<PathBuf>) -> Apply {
    Apply {
        files,
        root: args.root.clone(),
        all_chroots: false,
        keep: false,
        replace: false,
        skip: Vec::new(),
        release: args.release.clone(),
        no_undo: false,
        restart: false,
        dry_run: false,
        trust: TrustArgs { keys: args.keys.clone(), unsigned: false },
        lock: Lock { no_wait: args.lock.no_wait },
        json: Json { json: args.json.json },
    }
}

/// Writes the file `name` of the repository `from`: by a child from the network, by ourselves from a directory.
fn get(from: &str, name: &str, limit: u64, to: &mut dyn Write, watch: &Watch) -> Result<()> {
    if is_url(from) {
        return fetch(&format!("{}/{name}", from.trim_end_matches('/')), limit, to, watch);
    }
    let path = Path::new(from.strip_prefix("file://").unwrap_or(from)).join(name);
    let shown = path.as_os_str().as_bytes();
    // One byte more than it may have makes it another file.
    let mut file = File::open(&path).on("open", shown)?.take(limit.saturating_add(1));
    io::copy(&mut file, to).map(drop).on("read", shown)
}
