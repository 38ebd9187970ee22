// SPDX-License-Identifier: ISC
//! After a patch: what has to be made again, what has to be restarted, and who still runs what was replaced.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::change::Change;
use super::target::Root;
use crate::chroot::actions;
use crate::chroot::open::Locking;
use crate::chroot::place::{Home, Place, bytes};
use crate::chroot::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::{Contents, FollowUp};
use crate::path::TreePath;
use crate::plan::Plan;
use crate::sys::{self, Mapping};
use crate::watch::Watch;

/// What became of a follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// What was to be done.
    pub what: FollowUp,
    /// What became of it.
    pub result: Result<Done, String>,
}

/// How a follow-up ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was done.
    Ran,
    /// There is nothing there that it could be done with.
    NotApplicable,
    /// It is for people to do.
    Left,
}

impl Followed {
    /// Did it not fail?
    pub fn done(&self) -> bool {
        self.result.is_ok()
    }
}

/// The programs that may do it, with their arguments.
fn programs(what: &FollowUp) -> &'static [&'static [&'static str]] {
    match what {
        FollowUp::Ldconfig => &[&["/sbin/ldconfig"]],
        FollowUp::PwdMkdb => &[&["/usr/sbin/pwd_mkdb", "-p", "/etc/master.passwd"]],
        FollowUp::CapMkdb => &[&["/usr/bin/cap_mkdb", "/etc/login.conf"]],
        FollowUp::Newaliases => &[&["/usr/bin/newaliases"], &["/usr/sbin/newaliases"]],
        FollowUp::Makewhatis => &[&["/usr/sbin/makewhatis"], &["/usr/bin/mandb", "-q"]],
        FollowUp::Relink => &[],
        FollowUp::Restart(_) => &[],
    }
}

/// What is to be done after a patch. Services are restarted only where that is asked for, and never in a chroot
/// (decision 7).
pub(crate) struct After<'a> {
    pub(crate) root: &'a Root,
    pub(crate) contents: &'a Contents,
    pub(crate) restart: bool,
}

impl After<'_> {
    /// Commits the patch. What has to be done afterwards is written down before, and so survives whatever happens; it is
    /// taken back only if `change` was not made.
    pub(crate) fn commit(&self, change: &Change<'_>, commit: impl FnOnce() -> Result<()>) -> Result<()> {
        let state = self.root.state()?;
        let before = due(state)?;
        let mut all = before.clone();
        all.extend(self.contents.head.follow_ups.iter().filter(|what| self.is_ours(what)).cloned());
        write(state, all)?;
        let done = commit();
        if done.is_err() && !change.made.get() && !state.is_interrupted() {
            write(state, before)?;
        }
        done
    }

    /// Is it for us to do, and not for people, or for nobody?
    fn is_ours(&self, what: &FollowUp) -> bool {
        match what {
            FollowUp::Restart(_) => self.restart && self.root.is_system(),
            FollowUp::Relink => false,
            _ => true,
        }
    }

    /// Does what has to be done.
    pub(crate) fn follow(&self, watch: &Watch) -> Result<Vec<Followed>> {
        let left = if self.root.is_system() { Done::Left } else { Done::NotApplicable };
        let (ours, others): (Vec<_>, Vec<_>) =
            self.contents.head.follow_ups.iter().partition(|what| self.is_ours(what));
        let mut followed = if ours.is_empty() { Vec::new() } else { catch_up(self.root, watch)? };
        followed.extend(others.into_iter().map(|what| Followed { what: what.clone(), result: Ok(left) }));
        Ok(followed)
    }
}

/// The state file of what is still to be done after patches, a line each.
const DUE: &str = "due";

/// What is still to be done after patches of a root.
pub(crate) fn due(state: &State) -> Result<Vec<FollowUp>> {
    let text = state.read(DUE)?.unwrap_or_default();
    let shown = state.path.join(DUE);
    let broken = || Error::new(ErrorKind::BadInput, "what is to be done after patches is malformed").at(bytes(&shown));
    let hint = "remove that file, and apply the patch again";
    String::from_utf8_lossy(&text).lines().map(|line| line.parse().map_err(|_| broken().hint(hint))).collect()
}

fn write(state: &State, mut due: Vec<FollowUp>) -> Result<()> {
    let mut seen = HashSet::new();
    due.retain(|what| seen.insert(what.to_string()));
    if due.is_empty() {
        state.discard(DUE)?;
        return state.sync();
    }
    let text: String = due.iter().map(|what| format!("{what}\n")).collect();
    state.write(DUE, text.as_bytes())
}

/// The root that `to` is of is a copy of the one that `from` is of.
pub(crate) fn copy_due(from: &State, to: &State) -> Result<()> {
    let due = due(from)?;
    if due.is_empty() { Ok(()) } else { write(to, due) }
}

/// Does what is still to be done after patches; what fails stays to be done.
pub(crate) fn catch_up(root: &Root, watch: &Watch) -> Result<Vec<Followed>> {
    let state = root.state()?;
    let mut due = due(state)?;
    let mut followed = Vec::new();
    if !due.is_empty() {
        root.attach()?;
    }
    for what in due.clone() {
        watch.check()?;
        let result = match &what {
            FollowUp::Restart(name) => restart_service(name).map(|()| Done::Ran),
            _ => run(root, programs(&what), watch).unwrap_or_else(|error| Err(error.to_string())),
        };
        if result.is_ok() {
            due.retain(|other| *other != what);
            write(state, due.clone())?;
        }
        followed.push(Followed { what, result });
    }
    Ok(followed)
}

/// Does what is still to be done after patches of the root that the user calls `name`.
///
/// # Errors
/// As for opening it to be patched.
pub fn catch_up_on(home: &Home, name: &OsStr, wait: bool, watch: &Watch) -> Result<Vec<Followed>> {
    let known = State::open(home, &Place::find(home, name)?)?;
    if known.map_or(Ok(true), |state| due(&state).map(|due| due.is_empty()))? {
        return Ok(Vec::new());
    }
    catch_up(&Root::open(home, name, Locking { shared: false, wait, verb: "recover" })?, watch)
}

/// Runs the first of `programs` that the root has.
fn run(root: &Root, programs: &[&[&str]], watch: &Watch) -> Result<Result<Done, String>> {
    for words in programs {
        let Some((program, arguments)) = words.split_first() else { continue };
        let path = TreePath::lenient(program.as_bytes())?;
        let is_there = root.dir.try_clone().on("open", &path)?.crossing().walk_parent(&path);
        let is_there = is_there.is_ok_and(|dir| matches!(dir.find(path.name()), Ok(Some(_))));
        // Where /sbin is a link to usr/sbin.
        let usr = TreePath::new([b"usr/", path.as_bytes()].concat())?;
        let merged = root.dir.walk_parent(&usr).is_ok_and(|dir| matches!(dir.find(usr.name()), Ok(Some(_))));
        if !is_there && !merged {
            continue;
        }
        let ended = if root.is_system() {
            let ended = sys::run_aside(Command::new(program).args(arguments)).on("spawn", *program)?;
            if ended.success() { Ok(()) } else { Err(ended.to_string()) }
        } else {
            actions::run_inside(&root.place.root, (program, arguments), watch)?
        };
        return Ok(ended.map(|()| Done::Ran));
    }
    Ok(Ok(Done::NotApplicable))
}

fn restart_service(name: &str) -> Result<(), String> {
    let words: &[&str] = match Path::new("/usr/sbin/rcctl").exists() {
        true => &["rcctl", "restart", name],
        false => &["systemctl", "try-restart", name],
    };
    match sys::run_aside(Command::new(words[0]).args(&words[1..])) {
        Ok(ended) if ended.success() => Ok(()),
        Ok(ended) => Err(ended.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Processes that still have mapped what the plan replaced or removed. Whoever may not look finds nobody.
pub(crate) fn in_use(plan: &Plan) -> Vec<Mapping> {
    let gone = plan.changes.iter().filter(|change| change.replace || change.after.is_none());
    let inodes: HashSet<u64> = gone.filter_map(|change| Some(change.before.as_ref()?.here?.ino)).collect();
    if inodes.is_empty() { Vec::new() } else { sys::mappings(&inodes, true).unwrap_or_default() }
}
