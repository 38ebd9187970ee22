// SPDX-License-Identifier: ISC
//! `stockade record`: a command inside, and what it changed.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::chroot::Home;
use crate::chroot::patch::apply::list_made;
use crate::chroot::record::{Recorded, Recording, Request};
use crate::cli::args::{Common, Record};
use crate::cli::out::{self, Out, shown};
use crate::cli::patch::make::Draft;
use crate::cli::progress::watched;
use crate::cli::{Exit, json, options};
use crate::error::{Error, Result};
use crate::patch::Head;
use crate::patch::accounts::{Account, User};
use crate::path::escape;
use crate::plan::Plan;
use crate::session::Status;
use crate::watch::Watch;

pub(super) fn run(args: &Record, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let draft = args.common.make.is_asked().then(|| args.common.make.begin_named()).transpose()?;
    let request = request(args.root.clone().into_os_string(), args.discard, &args.common);
    let recording = watched(out.json, |watch| Recording::begin(&home, &request, watch))?;
    let done = record(&recording, (args, draft), out).map_err(|error| told(error, &recording));
    end(recording);
    match done? {
        // The very last: after Ctrl-C this process dies of it.
        Done::Failed(status) => Ok(Exit::Command(status.finish())),
        Done::Recorded(exit) => Ok(exit),
    }
}

/// Ends a recording. What it leaves behind is in nobody's way, and no reason to say that it failed.
pub(super) fn end(recording: Recording) {
    if let Err(error) = recording.end() {
        out::warn(&format!("{error}; the next command clears what is left"));
    }
}

/// What is asked for, of either verb that records.
pub(super) fn request(root: OsString, discard: bool, args: &Common) -> Request {
    Request { root, scan: args.scan, discard, wait: !args.lock.no_wait }
}

enum Done {
    /// The command.
    Failed(Status),
    Recorded(Exit),
}

/// What failed after the command had changed the chroot itself says how to get back.
pub(super) fn told(error: Error, recording: &Recording) -> Error {
    match recording.way_back() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn record(recording: &Recording, (args, draft): (&Record, Option<Draft>), out: &mut Out) -> Result<Done> {
    if let Some(draft) = &draft {
        recording.refuse_output(&draft.file(&draft.head.name), draft.delta)?;
    }
    let chroot = &recording.chroot;
    let recipe = chroot.recipe()?;
    let session = &args.common.session;
    let command = options::command(&args.command, args.user.as_deref(), session, &recipe)?;
    let options = options::options(session, &recipe, || chroot.homes())?;
    let session = recording.session(&command, &options)?;
    out::limits(session.limits(), out.json);
    let outcome = recording.run(session, &options)?;
    out::left(&outcome.left, out.json);
    if let Status::NotRun(error) = &outcome.status {
        out::report("record", error, out.json);
    }
    if outcome.status.code() != 0 {
        out::note("record", recording.way_back().as_deref().unwrap_or("nothing was changed"), out.json);
        return Ok(Done::Failed(outcome.status));
    }
    let recorded = watched(out.json, |watch| {
        let recorded = recording.look(args.common.allow_unmet, watch)?;
        let called = escape(&command.argv[0]);
        match draft.filter(|_| !recorded.is_empty()) {
            Some(draft) => {
                let title = command.argv.iter().map(|word| escape(word)).collect::<Vec<_>>().join(" ");
                let (system, arch) = recording.system()?;
                let head = Head { title, system, release: recording.release()?, arch, ..Head::default() };
                let make = Make { draft: &draft, own: head, discard: args.discard };
                make.patch(recording, &recorded, watch)?;
            }
            None if args.discard || recorded.all.is_empty() => {}
            None => recording.keep(&recorded, &called, watch)?,
        }
        Ok(recorded)
    })?;
    match out.json {
        true => out.value(&value(&recorded, recording, args))?,
        false => print(&recorded, recording, args, out)?,
    }
    Ok(Done::Recorded(if recorded.is_empty() { Exit::Differs } else { Exit::Done }))
}

/// A patch to be made.
pub(super) struct Make<'a> {
    /// As the command line says.
    pub(super) draft: &'a Draft,
    /// What is known of it besides.
    pub(super) own: Head,
    /// The changes do not become part of the chroot.
    pub(super) discard: bool,
}

impl Make<'_> {
    /// Writes it, and makes the changes part of the chroot; without that there is no patch either. Its file.
    pub(super) fn patch(self, recording: &Recording, recorded: &Recorded, watch: &Watch) -> Result<PathBuf> {
        let draft = self.draft;
        let contents = recording.contents(recorded, draft.head_over(self.own))?;
        let file = draft.file(&contents.head.name);
        let contents = recording.write(contents, (draft.delta, draft.pen.as_ref()), &file, watch)?;
        if self.discard {
            return Ok(file);
        }
        recording.keep(recorded, &contents.head.name, watch).inspect_err(|_| {
            // The error says more than that this fails too.
            let _ = std::fs::remove_file(&file);
        })?;
        // The changes are part of the chroot now: the patch stays, and nobody stops what remains.
        recording.note_made(&contents)?;
        list_made(&recording.chroot, &contents, &Watch::default())?;
        Ok(file)
    }
}

fn print(recorded: &Recorded, recording: &Recording, args: &Record, out: &mut Out) -> Result<()> {
    if let Some(why) = recording.scanned.as_ref().filter(|_| !args.common.scan) {
        out.line(format_args!("note: by two scans: {}", escape(why.as_bytes())))?;
    }
    out.plan(&told_of(&recorded.plan))?;
    for account in &recorded.accounts().added {
        out.line(format_args!("+ {}", account_line(account)))?;
    }
    for untold in &recorded.accounts().untold {
        out.line(format_args!("not recorded: {untold}"))?;
    }
    for (rule, (count, example)) in &recorded.left_out {
        out.line(format_args!("left out: {count} of {rule}: {example}{}", if *count > 1 { ", ..." } else { "" }))?;
    }
    let root = shown(&recording.chroot.place.root);
    if recorded.is_empty() {
        return out.line(format_args!("{root}: nothing changed"));
    }
    let stats = recorded.plan.stats();
    out.line(format_args!(
        "{root}: {}: {} added, {} removed, {} changed, {} with other metadata",
        if args.discard { "recorded and discarded" } else { "recorded" },
        stats.added,
        stats.removed,
        stats.modified,
        told_of(&recorded.plan).stats().metadata,
    ))
}

/// The plan without directories of which only the time changes.
pub(super) fn told_of(plan: &Plan) -> Plan {
    Plan {
        changes: plan
            .changes
            .iter()
            .filter(|change| change.differs_in() != ["time"] || !is_dir(change))
            .cloned()
            .collect(),
    }
}

fn is_dir(change: &crate::plan::Change) -> bool {
    change.after.as_ref().is_some_and(|after| after.kind.is_dir())
}

fn account_line(account: &Account) -> String {
    match account {
        Account::Group { name, gid } => format!("group {} {gid}", escape(name)),
        Account::User(user) => format!("account {} {}", escape(&user.name), user.uid),
        Account::Member { group, user } => format!("member {} of group {}", escape(user), escape(group)),
    }
}

fn account_value(account: &Account) -> Value {
    match account {
        Account::Group { name, gid } => json!({ "group": json::path(name), "gid": gid }),
        Account::User(User { name, uid, gid, class, gecos, home, shell }) => json!({
            "user": json::path(name), "uid": uid, "gid": gid, "class": json::path(class), "gecos": json::path(gecos),
            "home": json::path(home), "shell": json::path(shell),
        }),
        Account::Member { group, user } => json!({ "member": json::path(user), "group": json::path(group) }),
    }
}

fn value(recorded: &Recorded, recording: &Recording, args: &Record) -> Value {
    let stats = recorded.plan.stats();
    let left = recorded.left_out.iter().map(
        |(rule, (count, example))| json!({ "rule": rule, "count": count, "example": json::path(example.as_bytes()) }),
    );
    json!({
        "root": json::host_path(&recording.chroot.place.root),
        "mode": if recording.scanned.is_some() { "scan" } else { "overlay" },
        "why": recording.scanned,
        "discarded": args.discard,
        "added": stats.added,
        "removed": stats.removed,
        "changed": stats.modified,
        "metadata": stats.metadata,
        "bytes": stats.bytes,
        "changes": json::plan(&recorded.plan),
        "accounts": recorded.accounts().added.iter().map(account_value).collect::<Value>(),
        "untold": recorded.accounts().untold,
        "left_out": left.collect::<Value>(),
    })
}
