// SPDX-License-Identifier: ISC
//! After a patch: what has to be made again, what has to be restarted, and who still runs what was replaced.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use super::target::Root;
use crate::chroot::actions;
use crate::error::{IoContext, Result};
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

/// Does what the patch says has to be done afterwards. Services are restarted only where that is asked for, and never
/// in a chroot (decision 7).
pub(crate) fn follow(root: &Root, contents: &Contents, restart: bool, watch: &Watch) -> Result<Vec<Followed>> {
    let mut followed = Vec::new();
    if !contents.head.follow_ups.is_empty() {
        root.attach()?;
    }
    for what in &contents.head.follow_ups {
        watch.check()?;
        let result = match what {
            FollowUp::Restart(name) if restart && root.is_system() => restart_service(name).map(|()| Done::Ran),
            FollowUp::Restart(_) if root.is_system() => Ok(Done::Left),
            FollowUp::Relink if root.is_system() => Ok(Done::Left),
            FollowUp::Restart(_) | FollowUp::Relink => Ok(Done::NotApplicable),
            _ => run(root, programs(what))?,
        };
        followed.push(Followed { what: what.clone(), result });
    }
    Ok(followed)
}

/// Runs the first of `programs` that the root has.
fn run(root: &Root, programs: &[&[&str]]) -> Result<Result<Done, String>> {
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
            let ended = Command::new(program).args(arguments).status().on("spawn", *program)?;
            if ended.success() { Ok(()) } else { Err(ended.to_string()) }
        } else {
            actions::run_inside(&root.place.root, program, arguments)?
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
    match Command::new(words[0]).args(&words[1..]).status() {
        Ok(ended) if ended.success() => Ok(()),
        Ok(ended) => Err(ended.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Processes that still have mapped what the plan replaced or removed. Whoever may not look finds nobody.
pub(crate) fn in_use(plan: &Plan) -> Vec<Mapping> {
    let gone = plan.changes.iter().filter(|change| change.replace || change.after.is_none());
    let inodes: HashSet<u64> = gone.filter_map(|change| Some(change.before.as_ref()?.here?.ino)).collect();
    if inodes.is_empty() { Vec::new() } else { sys::mappings(&inodes).unwrap_or_default() }
}
