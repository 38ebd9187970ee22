// SPDX-License-Identifier: ISC
//! `stockade patch sync --layout syspatch`: what a root lacks of a mirror for OpenBSD's own client.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use serde_json::json;

use super::args::Sync;
use super::make::now;
use super::sync::{Found, apply_all, get, locking};
use crate::chroot::Home;
use crate::chroot::patch::official::{adapt, by_syspatch};
use crate::chroot::patch::verify::list;
use crate::cli::Exit;
use crate::cli::out::Out;
use crate::cli::progress::watched;
use crate::error::{Error, ErrorKind, Result};
use crate::patch::repository::{Cache, file_name, signed_list};
use crate::patch::{Head, Keys, Official, arch, mirror, official};
use crate::sys;

/// The largest archive that is fetched.
const LARGEST: u64 = 4 << 30;

pub(super) fn run(home: &Home, args: &Sync, out: &mut Out) -> Result<Exit> {
    if args.max_age.is_some() {
        let error = Error::new(ErrorKind::Usage, "a mirror for syspatch does not say when it was published");
        return Err(error.hint("leave out --max-age"));
    }
    let installed = list(home, args.root.as_os_str(), locking(args))?;
    if installed.system != "openbsd" {
        let error = Error::new(ErrorKind::Refused, format!("the root is of {}", installed.system));
        return Err(error.at(args.root.as_os_str().as_encoded_bytes()).hint("syspatch is for OpenBSD alone"));
    }
    if let (Some(own), Some(said)) = (&installed.release, &args.release)
        && own != said
    {
        let error = Error::new(ErrorKind::Refused, format!("the root is of release {own}, and not of {said}"));
        return Err(error.at(args.root.as_os_str().as_encoded_bytes()).hint("leave out --release"));
    }
    let Some(release) = installed.release.or(args.release.clone()) else {
        let error = Error::new(ErrorKind::NotFound, "the root does not say which release it is of");
        return Err(error.hint("say which with --release X.Y"));
    };
    let keys = match args.keys.as_slice() {
        [] => Keys::of_syspatch(&release)?,
        files => Keys::load(files)?,
    };
    let listed = installed.patches.iter().filter(|patch| patch.vouched);
    let mut there = by_syspatch(home, args.root.as_os_str(), !args.lock.no_wait)?;
    there.extend(listed.map(|patch| patch.contents.head.name.trim_start_matches("syspatch").to_owned()));
    let machine = sys::machine();
    let from = format!("{}/{}", args.from.trim_end_matches('/'), mirror(&release, arch(&machine)));
    // Kept to the end: what is made of the archives lies beside them.
    let cache = watched(out.json, |_| Cache::open(&home.path.join("patches")))?;
    let found = watched(out.json, |watch| {
        let mut get = |name: &str, range: Range<u64>, to: &mut dyn Write| get(&from, name, range, to, watch);
        let (signed, _) = signed_list(&keys, &mut get)?;
        let mut found = Vec::new();
        for patch in official(&signed, &release) {
            if there.contains(patch.name.trim_start_matches("syspatch")) {
                continue;
            }
            watch.begin("fetching", 0);
            let file = match args.dry_run {
                true => None,
                false => Some(cache.bring(&file_name(&patch.name), (patch.sha256, LARGEST), &mut get)?),
            };
            found.push((Found { name: patch.name.clone(), size: None, file }, patch));
        }
        Ok(found)
    })?;
    found.iter().try_for_each(|(found, _)| found.print(out))?;
    if found.is_empty() {
        return Ok(if args.dry_run { Exit::Done } else { Exit::Differs });
    }
    let step = Step { home, args, release: &release };
    let mut exit = Exit::Done;
    for (number, (found, patch)) in found.iter().enumerate() {
        let Some((archive, _)) = found.file.as_ref().filter(|_| args.apply) else { continue };
        exit = match step.apply(patch, archive, out)? {
            // Only if that is all there is.
            Exit::Differs if number > 0 && exit == Exit::Done => Exit::Done,
            Exit::Command(status) => return Ok(Exit::Command(status)),
            exit => exit,
        };
    }
    Ok(exit)
}

struct Step<'a> {
    home: &'a Home,
    args: &'a Sync,
    release: &'a str,
}

impl Step<'_> {
    /// Makes a patch of an archive for the root as the one before left it, and applies it. `Exit::Differs`: nothing of
    /// it is installed there.
    fn apply(&self, patch: &Official, archive: &Path, out: &mut Out) -> Result<Exit> {
        let arch = arch(&sys::machine()).to_owned();
        let head = Head {
            name: patch.name.clone(),
            series: format!("syspatch-{}-{arch}", self.release),
            number: Some(patch.number),
            // Whoever publishes the mirror knows which there are; not all are for all sets.
            absent: (1..patch.number).collect(),
            system: "openbsd".to_owned(),
            release: self.release.to_owned(),
            arch,
            date: now(),
            ..Head::default()
        };
        // If we are killed, the next sync removes it.
        let file = archive.with_file_name(format!(".{}.adapted", patch.name));
        let target = (self.home, self.args.root.as_os_str());
        let adapted = watched(out.json, |watch| adapt(target, archive, head, &file, watch));
        match adapted.map_err(|error| if error.path().is_some() { error } else { error.at(patch.name.as_bytes()) })? {
            None => {
                match out.json {
                    true => out.value(&json!({ "name": patch.name, "outcome": "not-installed" }))?,
                    false => out.line(format_args!("{}: none of its files is installed", patch.name))?,
                }
                Ok(Exit::Differs)
            }
            Some(_) => {
                let applied = apply_all(self.args, vec![file.clone()], out);
                // What could not be removed is found by the next sync.
                let _ = fs::remove_file(file);
                applied
            }
        }
    }
}
