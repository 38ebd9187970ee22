// SPDX-License-Identifier: ISC
//! Limits: by a control group (cgroups(7), version 2) where one can be made; else by what each process can be held to,
//! which is less, and said.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::options::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// A limit as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// `memory`, `cpus`, `pids` or `timeout`.
    pub what: Cow<'static, str>,
    /// How much, as it was asked for: bytes, processors, processes, seconds.
    pub value: String,
    /// What holds it.
    pub by: Cow<'static, str>,
}

/// The limits of one session.
#[derive(Debug, Default)]
pub(super) struct Holding {
    pub(super) limits: sys::Limits,
    pub(super) applied: Vec<Applied>,
    pub(super) group: Option<Group>,
}

/// The setting of a control group that stands for a limit: controller, file, text.
type Setting = (&'static str, &'static str, String);

/// Has `limits` hold for a session of this process, which runs as user `uid`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a limit that nothing here can hold.
pub(super) fn hold(limits: &Limits, uid: u32) -> Result<Holding> {
    let mut holding = Holding::default();
    if let Some(time) = limits.timeout {
        holding.limits.timeout = Some(time);
        holding.note("timeout", time.as_secs_f64(), "clock");
    }
    let settings = settings(limits);
    if settings.is_empty() {
        return Ok(holding);
    }
    let none = || Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup2 filesystem is mounted"));
    match hierarchy().map_or_else(none, |at| Group::make(&at, &settings)) {
        Ok((group, procs)) => {
            holding.limits.group = Some(procs.into());
            holding.group = Some(group);
            limits.each(|what, value| holding.note(what, value, "cgroup"));
            Ok(holding)
        }
        Err(error) => by_process(limits, holding, uid, &error),
    }
}

/// The controllers that limits need and that are not to be had here.
pub fn missing_controllers() -> Vec<&'static str> {
    let known = hierarchy().map(|at| controllers(&at)).unwrap_or_default();
    ["memory", "cpu", "pids"].into_iter().filter(|name| !known.split_whitespace().any(|word| word == *name)).collect()
}

/// The controllers of the hierarchy at `root`, as words.
fn controllers(root: &Path) -> String {
    fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
}

/// Where control groups of version 2 are mounted.
fn hierarchy() -> Option<PathBuf> {
    let mounted = sys::mounts().unwrap_or_default().into_iter().find(|mount| mount.kind == "cgroup2")?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&mounted.target)))
}

/// Without a control group.
fn by_process(limits: &Limits, mut holding: Holding, uid: u32, why: &io::Error) -> Result<Holding> {
    if let Some(bytes) = limits.memory {
        holding.limits.address_space = Some(bytes);
        holding.note("memory", bytes as f64, "rlimit, for each process");
    }
    if let Some(thousandths) = limits.cpus {
        holding.limits.processors = Some(thousandths.div_ceil(1000) as usize);
        holding.note("cpus", f64::from(thousandths.div_ceil(1000)), "affinity, which the command can change");
    }
    if let Some(pids) = limits.pids {
        if uid == 0 {
            let reason = format!("the number of root's processes needs a control group: {why}");
            return Err(Error::new(ErrorKind::Unsupported, reason).hint("name another account with --user"));
        }
        holding.limits.processes = Some(pids.into());
        holding.note("pids", f64::from(pids), "rlimit, over all processes of the user");
    }
    Ok(holding)
}

impl Holding {
    fn note(&mut self, what: &'static str, value: f64, by: &'static str) {
        self.applied.push(Applied { what: what.into(), value: value.to_string(), by: by.into() });
    }
}

impl Limits {
    /// Each limit that a control group can hold.
    fn each(&self, mut see: impl FnMut(&'static str, f64)) {
        self.memory.into_iter().for_each(|bytes| see("memory", bytes as f64));
        self.cpus.into_iter().for_each(|thousandths| see("cpus", f64::from(thousandths) / 1000.0));
        self.pids.into_iter().for_each(|pids| see("pids", f64::from(pids)));
    }
}

/// `Documentation/admin-guide/cgroup-v2.rst`. Swap counts as memory, or the limit would only move what is over it.
fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory {
        settings.push(("memory", "memory.max", bytes.to_string()));
        settings.push(("memory", "memory.swap.max", "0".to_owned()));
    }
    if let Some(thousandths) = limits.cpus {
        // Microseconds of each tenth of a second.
        settings.push(("cpu", "cpu.max", format!("{} 100000", u64::from(thousandths) * 100)));
    }
    if let Some(pids) = limits.pids {
        // The session's first process is one of ours.
        settings.push(("pids", "pids.max", (u64::from(pids) + 1).to_string()));
    }
    settings
}

/// A control group of a session; removed when dropped, when nothing lives in it any more.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

/// The group that all sessions' groups are in. It holds no process itself: only such a group may hand controllers on.
const ALL: &str = "stockade";

impl Group {
    /// Makes a group in the hierarchy mounted at `root`; also its `cgroup.procs`.
    fn make(root: &Path, settings: &[Setting]) -> io::Result<(Group, File)> {
        let known = controllers(root);
        if let Some((missing, ..)) =
            settings.iter().find(|(needed, ..)| !known.split_whitespace().any(|k| k == *needed))
        {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no {missing} controller of version 2 is there"),
            ));
        }
        let all = root.join(ALL);
        match fs::create_dir(&all) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => sweep(&all),
            made => made?,
        }
        for (controller, ..) in settings {
            for above in [root, &all] {
                write(&above.join("cgroup.subtree_control"), &format!("+{controller}"))?;
            }
        }
        let group = Group::create(&all)?;
        for (_, file, text) in settings {
            match write(&group.0.join(file), text) {
                // A kernel without swap has no limit for it.
                Err(e) if e.kind() == io::ErrorKind::NotFound && file.ends_with(".swap.max") => {}
                done => done?,
            }
        }
        let procs = OpenOptions::new().write(true).open(group.0.join("cgroup.procs"))?;
        Ok((group, procs))
    }

    /// Makes the group of this process in `all`. One that is there already has somebody else's limits.
    fn create(all: &Path) -> io::Result<Group> {
        let pid = std::process::id();
        let unseen = || io::Error::new(io::ErrorKind::NotFound, "/proc does not show this process");
        let (start, namespace) = sys::process_start(pid).zip(sys::pid_namespace()).ok_or_else(unseen)?;
        let path = all.join(format!("{pid}.{start}.{namespace}"));
        fs::create_dir(&path).map(|()| Group(path))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes the control group of a session that has ended.
pub(super) fn remove(group: &Path) {
    // Two sessions may find the same dead one.
    let _ = fs::remove_dir(group);
}

/// Removes the groups in `all` of processes that are gone: killed before their session was in any list. Numbers of other
/// pid namespaces say nothing here.
fn sweep(all: &Path) {
    for group in fs::read_dir(all).into_iter().flatten().flatten() {
        let numbers: Option<Vec<u64>> =
            group.file_name().to_str().and_then(|name| name.split('.').map(|number| number.parse().ok()).collect());
        if let Some([pid, start, namespace]) = numbers.as_deref()
            && sys::pid_namespace() == Some(*namespace)
            && u32::try_from(*pid).is_ok_and(|pid| sys::process_start(pid) != Some(*start))
        {
            remove(&group.path());
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    io::Write::write_all(&mut OpenOptions::new().write(true).open(path)?, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_the_kernel_reads() {
        let limits = Limits { memory: Some(1 << 20), cpus: Some(1500), pids: Some(7), timeout: None };
        let want = [
            ("memory", "memory.max", "1048576"),
            ("memory", "memory.swap.max", "0"),
            ("cpu", "cpu.max", "150000 100000"),
            ("pids", "pids.max", "8"),
        ];
        assert_eq!(settings(&limits), want.map(|(controller, file, text)| (controller, file, text.to_owned())));
        assert_eq!(settings(&Limits::default()), []);
    }

    #[test]
    fn a_group_is_new_and_those_of_the_dead_go() {
        let temp = tempfile::tempdir().unwrap();
        let own = sys::pid_namespace().unwrap();
        let start = sys::process_start(std::process::id()).unwrap();
        let [reused, gone] = [format!("{}.{}.{own}", std::process::id(), start - 1), format!("{}.1.{own}", u32::MAX)];
        let stay = [format!("{}.1.{}", u32::MAX, own + 1), "other".to_owned(), format!("1.2.{own}.x")];
        for name in stay.iter().chain([&reused, &gone]) {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        let group = Group::create(temp.path()).unwrap();
        assert_eq!(Group::create(temp.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        sweep(temp.path());
        let mut want: Vec<_> =
            stay.iter().map(|name| temp.path().join(name)).chain([group.path().to_owned()]).collect();
        let mut left: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        want.sort();
        left.sort();
        assert_eq!(left, want);
    }

    #[test]
    fn without_a_group_each_limit_says_what_holds_it() {
        let why = io::Error::from_raw_os_error(2);
        let limits = Limits { memory: Some(64), cpus: Some(1500), pids: Some(9), timeout: None };
        let held = by_process(&limits, Holding::default(), 1000, &why).unwrap();
        assert_eq!(
            (held.limits.address_space, held.limits.processors, held.limits.processes),
            (Some(64), Some(2), Some(9))
        );
        let said: Vec<(&str, &str, &str)> = held.applied.iter().map(|a| (&*a.what, &*a.value, &*a.by)).collect();
        assert_eq!(
            said.iter().map(|s| (s.0, s.1)).collect::<Vec<_>>(),
            [("memory", "64"), ("cpus", "2"), ("pids", "9")]
        );
        assert!(said.iter().all(|s| !s.2.contains("cgroup")));
        let root = by_process(&limits, Holding::default(), 0, &why).unwrap_err();
        assert_eq!(root.kind(), ErrorKind::Unsupported);
    }
}
