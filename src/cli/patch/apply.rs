// SPDX-License-Identifier: ISC
//! `stockade patch apply`: applies patches to a root, or to all.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::{Apply, trust};
use super::{followed_lines, followed_value, noted_lines, noted_value};
use crate::chroot::Home;
use crate::chroot::patch::apply::{Options, Outcome, Report, apply};
use crate::chroot::patch::older::{Older, older};
use crate::chroot::patch::roots;
use crate::cli::out::{Out, report_of, shown};
use crate::cli::progress::watched;
use crate::cli::{Exit, json};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::resolve::OnConflict;
use crate::patch::sequence::{Item, in_order};
use crate::patch::{Bundle, Contents, Keys};
use crate::path::TreePath;
use crate::select::packages::Owners;
use crate::sys::Mapping;
use crate::watch::Watch;

pub(super) fn run(args: &Apply, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let keys = args.trust.keys()?;
    let job = Job { home: &home, keys: keys.as_ref(), args, options: options(args) };
    let roots = if args.all_chroots { roots(&home)? } else { vec![args.root.clone().into_os_string()] };
    let files = job.files()?;
    let mut exit = Exit::Done;
    let mut there = There::default();
    for root in &roots {
        if job.to_root(root, &files, &mut there, out)? != Exit::Done {
            exit = Exit::Differs;
        }
    }
    there.print_older(&home, out)?;
    Ok(exit)
}

/// What is there now: patches, and the roots that have one.
#[derive(Default)]
struct There {
    roots: HashSet<PathBuf>,
    patches: Vec<Contents>,
}

impl There {
    fn add(&mut self, report: &Report) {
        if matches!(report.outcome, Outcome::Applied | Outcome::Adopted | Outcome::Installed) {
            self.roots.insert(report.root.clone());
            if self.patches.iter().all(|known| known.head.name != report.contents.head.name) {
                self.patches.push(report.contents.clone());
            }
        }
    }

    /// Names the chroots and jails that still hold what was mended.
    fn print_older(&self, home: &Home, out: &mut Out) -> Result<()> {
        for Older { root, name, jail, copies } in older(home, &self.roots, &self.patches)? {
            let mend = if jail { format!("stockade build {name}") } else { format!("patch it, too: --root {name}") };
            if out.json {
                let copy =
                    |(path, patch): &(TreePath, String)| json!({ "path": json::path(path.as_bytes()), "patch": patch });
                let copies: Value = copies.iter().map(copy).collect();
                out.value(&json!({ "older": json::host_path(&root), "jail": jail, "mend": mend, "copies": copies }))?;
                continue;
            }
            let what = if jail { "jail" } else { "chroot" };
            let paths: Vec<String> = copies.iter().map(|(path, _)| path.to_string()).collect();
            let shown = shown(&root);
            out.line(format_args!("{shown}: this {what} holds older copies: {}  ({mend})", paths.join(" ")))?;
        }
        Ok(())
    }
}

fn options(args: &Apply) -> Options {
    let on_conflict = match (args.keep, args.replace) {
        (true, _) => OnConflict::Keep,
        (_, true) => OnConflict::Replace,
        _ => OnConflict::Refuse,
    };
    Options {
        on_conflict,
        skip: args.skip.clone(),
        release: args.release.clone(),
        allow_unmet: args.allow_unmet,
        no_undo: args.no_undo,
        restart: args.restart,
        dry_run: args.dry_run,
        wait: !args.lock.no_wait,
    }
}

struct Job<'a> {
    home: &'a Home,
    keys: Option<&'a Keys>,
    args: &'a Apply,
    options: Options,
}

impl Job<'_> {
    /// The patches to apply, what is required first, else in the order of their series. Standard input can be read once.
    fn files(&self) -> Result<Vec<PathBuf>> {
        if let [file] = self.args.files.as_slice()
            && !file.is_dir()
        {
            let stdin = file == Path::new("-");
            return if stdin && self.args.all_chroots {
                let error =
                    Error::new(ErrorKind::Usage, "standard input can be read once, and there are several roots");
                Err(error.hint("write it to a file first"))
            } else {
                Ok(vec![file.clone()])
            };
        }
        let mut files = Vec::new();
        for file in &self.args.files {
            if file.is_dir() {
                for entry in std::fs::read_dir(file).on("open", bytes(file))? {
                    let path = entry.on("read", bytes(file))?.path();
                    files.extend(path.extension().is_some_and(|end| end == "tgz").then_some(path));
                }
            } else {
                files.push(file.clone());
            }
        }
        let mut known = Vec::new();
        for file in &files {
            known.push(self.open(file, &Watch::default())?.contents);
        }
        let items = known.iter().map(|contents| {
            let head = &contents.head;
            Item { key: (&head.series, head.number, &head.name), head, digest: contents.digest() }
        });
        let order = in_order(&items.collect::<Vec<_>>());
        Ok(order.into_iter().map(|index| files[index].clone()).collect())
    }

    fn open<'a>(&self, file: &Path, watch: &'a Watch) -> Result<Bundle<'a>> {
        Bundle::open(super::open(file, watch)?, trust(self.keys)).map_err(|error| error.at(bytes(file)))
    }

    fn to_root(&self, root: &OsStr, files: &[PathBuf], there: &mut There, out: &mut Out) -> Result<Exit> {
        let mut exit = Exit::Done;
        for file in files {
            let applied =
                watched(out.json, |watch| apply(self.home, root, self.open(file, watch)?, &self.options, watch));
            let done = match applied {
                // Of many roots one may be in use, or of another kind: the others get their patch.
                Err(error) if self.args.all_chroots && error.kind() != ErrorKind::Cancelled => {
                    report_of("patch apply", root, &error.at(root.as_bytes()), out.json);
                    return Ok(Exit::Differs);
                }
                done => done.map_err(|error| if error.path().is_some() { error } else { error.at(bytes(file)) })?,
            };
            there.add(&done);
            if out.json {
                out.value(&self.value(&done))?
            } else {
                self.print(&done, out)?
            }
            if !done.is_whole() {
                exit = Exit::Differs;
            }
            if done.outcome == Outcome::Conflicts {
                break;
            }
        }
        Ok(exit)
    }

    fn print(&self, report: &Report, out: &mut Out) -> Result<()> {
        let (root, name) = (shown(&report.root), &report.contents.head.name);
        if self.args.dry_run {
            out.plan(&report.plan)?;
        }
        noted_lines(&report.noted, out)?;
        let would = if self.args.dry_run { "would be " } else { "" };
        let stats = report.plan.stats();
        match &report.outcome {
            Outcome::Installed => out.line(format_args!("{root}: {name}: is there already"))?,
            Outcome::Foreign(reason) => out.line(format_args!("{root}: {name}: passed over: {reason}"))?,
            Outcome::Conflicts => self.print_conflicts(report, out)?,
            Outcome::Adopted => {
                out.line(format_args!("{root}: {name}: its changes were there; {would}listed, and cannot be undone"))?;
            }
            Outcome::Applied => out.line(format_args!(
                "{root}: {name}: {would}applied: {} added, {} removed, {} changed, {} with other metadata",
                stats.added, stats.removed, stats.modified, stats.metadata,
            ))?,
        }
        followed_lines(&report.followed, out)?;
        if !matches!(report.outcome, Outcome::Applied | Outcome::Adopted) {
            return Ok(());
        }
        for (package, paths) in packages(&report.packages) {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            out.line(format_args!("of the package {package}: {}", paths.join(" ")))?;
        }
        for command in &report.contents.head.commands {
            out.line(format_args!("to be done by you: {command}"))?;
        }
        for Mapping { process, paths } in &report.in_use {
            let paths: Vec<String> = paths.iter().map(|path| crate::path::escape(path)).collect();
            out.line(format_args!("still runs what was replaced: {process}: {}", paths.join(" ")))?;
        }
        report.contents.head.note.lines().try_for_each(|line| out.line(format_args!("note: {line}")))
    }

    fn print_conflicts(&self, report: &Report, out: &mut Out) -> Result<()> {
        for path in &report.torn {
            let then = match self.args.dry_run {
                true => "would be written, to be edited",
                false => "edit it, put it in place, and apply the patch again",
            };
            out.line(format_args!("could not be merged: {path}: {then}"))?;
        }
        let (root, name) = (shown(&report.root), &report.contents.head.name);
        out.line(format_args!(
            "{root}: {name}: nothing was changed; go on with --keep or --replace, or put back what is in the way"
        ))
    }

    fn value(&self, report: &Report) -> Value {
        let stats = report.plan.stats();
        let outcome = match &report.outcome {
            Outcome::Applied => "applied",
            Outcome::Adopted => "adopted",
            Outcome::Installed => "installed",
            Outcome::Foreign(_) => "foreign",
            Outcome::Conflicts => "conflicts",
        };
        let in_use = |m: &Mapping| {
            let paths = m.paths.iter().map(|path| json::path(path)).collect::<Value>();
            json!({ "pid": m.process.pid, "name": json::path(&m.process.name), "paths": paths })
        };
        let mut value = json!({
            "root": json::host_path(&report.root),
            "name": report.contents.head.name,
            "dry_run": self.args.dry_run,
            "outcome": outcome,
            "reason": if let Outcome::Foreign(reason) = &report.outcome { Some(reason) } else { None },
            "added": stats.added,
            "removed": stats.removed,
            "changed": stats.modified,
            "metadata": stats.metadata,
            "noted": noted_value(&report.noted),
            "packages": packages(&report.packages).iter().map(|(of, paths)| json!({ "package": of, "paths": paths.iter().map(|path| json::path(path.as_bytes())).collect::<Value>() })).collect::<Value>(),
            "torn": report.torn.iter().map(|path| json::path(path.as_bytes())).collect::<Value>(),
            "follow_ups": followed_value(&report.followed),
            "commands": report.contents.head.commands,
            "in_use": report.in_use.iter().map(in_use).collect::<Value>(),
        });
        if self.args.dry_run {
            value["changes"] = json::plan(&report.plan);
        }
        value
    }
}

/// The paths of each package and version.
fn packages(versions: &Owners) -> BTreeMap<String, Vec<&TreePath>> {
    let mut packages: BTreeMap<String, Vec<&TreePath>> = BTreeMap::new();
    for (path, (name, version)) in versions {
        packages.entry(format!("{name} {version}")).or_default().push(path);
    }
    packages
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
