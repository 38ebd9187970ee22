// SPDX-License-Identifier: ISC
//! Which sessions there are: one file each, locked as long as the session lives, so that a file without a lock is what a
//! killed one left behind.
#![forbid(unsafe_code)]

use std::io::Read;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::limits::{self, Applied};
use super::{Confine, Options, Session};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys::{self, Dir, Held, Lock};

/// A session, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The process that began it and waits for its end.
    pub pid: u32,
    /// Which pid namespace has that number, and when that process began, in ticks; see [`sys::process_start`].
    pub namespace: Option<u64>,
    /// See there.
    pub start: Option<u64>,
    /// When it began: seconds since 1970.
    pub since: u64,
    /// The account that it runs as.
    pub user: String,
    /// Its command, escaped.
    pub command: String,
    /// How far it is held in.
    pub confine: Confine,
    /// It has no network but loopback.
    pub offline: bool,
    /// What it writes is gone at its end.
    pub ephemeral: bool,
    /// Its limits.
    pub limits: Vec<Applied>,
    /// Its control group.
    pub group: Option<PathBuf>,
}

impl Entry {
    /// That of `session`, which begins now and was asked for with `options`.
    pub fn new(session: &Session, options: &Options) -> Entry {
        let words = session.guest.argv.iter().map(|word| escape(word.as_bytes()));
        Entry {
            pid: std::process::id(),
            namespace: sys::pid_namespace(),
            start: sys::process_start(std::process::id()),
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            user: escape(&session.account.name),
            command: words.collect::<Vec<_>>().join(" "),
            confine: if session.plain { Confine::Plain } else { options.confine },
            offline: options.offline,
            ephemeral: options.ephemeral || options.keep,
            limits: session.limits().to_vec(),
            group: session.limits.group.as_ref().map(|group| group.path().to_owned()),
        }
    }

    /// Does its number mean nothing here, because it began in another pid namespace?
    pub fn is_foreign(&self) -> bool {
        self.namespace.is_some_and(|namespace| sys::pid_namespace() != Some(namespace))
    }
}

/// The line of a session in the ledger; struck out when dropped.
#[derive(Debug)]
pub struct Line<'a> {
    ledger: &'a Dir,
    name: String,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        // Whoever finds it later strikes it out.
        let _ = self.ledger.unlink(self.name.as_bytes());
    }
}

/// Enters a session into `ledger`, and strikes out what killed ones left. The lock is the session's to hold.
///
/// # Errors
/// As open(2), flock(2), write(2).
pub fn enter<'a>(ledger: &'a Dir, entry: &Entry) -> Result<(Line<'a>, Held)> {
    live(ledger)?;
    let text = serde_json::to_string(entry).map_err(|e| Error::new(ErrorKind::Io, e.to_string()))?;
    for attempt in 0_u32.. {
        // Processes of different namespaces may have one number.
        let name = format!("{}.{attempt}", entry.pid);
        let lock = Lock::open(ledger, name.as_bytes()).on("open", &name)?;
        let taken = lock.take(false, false, &text).on("flock", &name)?;
        // Somebody may have struck it out between the two, for want of a lock.
        if let Ok(held) = taken
            && ledger.find(name.as_bytes()).on("stat", &name)?.is_some()
        {
            return Ok((Line { ledger, name }, held));
        }
    }
    Err(Error::new(ErrorKind::Io, "no room in the ledger of sessions"))
}

/// A session that lives.
#[derive(Debug)]
pub struct Live {
    /// What is known of it.
    pub entry: Entry,
    name: Box<[u8]>,
}

impl Live {
    /// Has its process end: asked, or with `force` at once. It must not be [foreign](Entry::is_foreign).
    ///
    /// # Errors
    /// As kill(2).
    pub fn end(&self, ledger: &Dir, force: bool) -> Result<()> {
        let Entry { pid, start, .. } = self.entry;
        let same = || start.is_none() || sys::process_start(pid).is_none_or(|began| start == Some(began));
        sys::end_process(pid, force, &|| same() && self.lives(ledger)).on("kill", pid.to_string())
    }

    /// Does it still live?
    pub fn lives(&self, ledger: &Dir) -> bool {
        matches!(Lock::open_existing(ledger, &self.name).and_then(|lock| lock.try_hold()), Ok(None))
    }
}

/// The sessions that live, the oldest first. Those that do not are struck out, with their control groups.
///
/// # Errors
/// As readdir(3), open(2).
pub fn live(ledger: &Dir) -> Result<Vec<Live>> {
    let mut found = Vec::new();
    for file in ledger.entries().on("readdir", "sessions")? {
        let lock = match Lock::open_existing(ledger, &file.name) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            lock => lock.on("open", &file.name)?,
        };
        let entry = read(ledger, &file.name);
        match lock.try_hold().on("flock", &file.name)? {
            None => found.extend(entry.map(|entry| Live { entry, name: file.name })),
            Some(_held) => {
                entry.and_then(|entry| entry.group).iter().for_each(|group| limits::remove(group));
                match ledger.unlink(&file.name) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    done => done.on("unlink", &file.name)?,
                }
            }
        }
    }
    found.sort_by_key(|live| (live.entry.since, live.entry.pid));
    Ok(found)
}

/// No entry is longer, in bytes, but for a command of that length; such a one is not listed.
const MAX_ENTRY: u64 = 1 << 20;

/// None of a session that is about to write it.
fn read(ledger: &Dir, name: &[u8]) -> Option<Entry> {
    let mut text = Vec::new();
    ledger.open_file(name).ok()?.take(MAX_ENTRY).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Calls;

    fn entry(pid: u32) -> Entry {
        Entry {
            pid,
            namespace: Some(3),
            start: None,
            since: 7,
            user: "root".into(),
            command: "sh -c true".into(),
            confine: Confine::Full,
            offline: false,
            ephemeral: true,
            limits: vec![Applied { what: "memory".into(), value: "64".into(), by: "cgroup".into() }],
            group: None,
        }
    }

    #[test]
    fn who_lives_is_listed_and_who_does_not_is_struck_out() {
        let temp = tempfile::tempdir().unwrap();
        let ledger = Dir::open(temp.path(), Calls::Native).unwrap();
        let (line, held) = enter(&ledger, &entry(2)).unwrap();
        let (other, other_held) = enter(&ledger, &entry(1)).unwrap();
        let listed = live(&ledger).unwrap();
        assert_eq!(listed.iter().map(|live| live.entry.clone()).collect::<Vec<_>>(), [entry(1), entry(2)]);
        // One that was killed: its lock is gone, its file is not.
        drop(held);
        std::mem::forget(line);
        assert!(!listed[1].lives(&ledger) && listed[0].lives(&ledger));
        assert_eq!(live(&ledger).unwrap().len(), 1);
        drop((other, other_held));
        // What is no entry.
        std::fs::write(temp.path().join("junk"), b"{").unwrap();
        assert_eq!(live(&ledger).unwrap().len(), 0);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_number_may_be_there_twice() {
        let temp = tempfile::tempdir().unwrap();
        let ledger = Dir::open(temp.path(), Calls::Native).unwrap();
        let first = enter(&ledger, &entry(5)).unwrap();
        let second = enter(&ledger, &entry(5)).unwrap();
        assert_eq!(live(&ledger).unwrap().len(), 2);
        drop((first, second));
        assert_eq!(live(&ledger).unwrap().len(), 0);
    }
}
