// SPDX-License-Identifier: ISC
//! The sessions of all chroots: listed, and ended.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::place::{Home, Place, bytes};
use super::register;
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::session::Entry;
use crate::session::ledger::{self, Live};
use crate::sys::Dir;

/// The directory of a chroot's state that its sessions are in.
pub(crate) const LEDGER: &str = "sessions";

/// A session and where it is.
#[derive(Debug)]
pub struct Located {
    /// Absolute path of the chroot.
    pub root: PathBuf,
    /// What is known of it.
    pub entry: Entry,
}

/// All sessions that live.
///
/// # Errors
/// As readdir(3), open(2).
pub fn list(home: &Home) -> Result<Vec<Located>> {
    let found = find(home, |_| true)?;
    Ok(found.into_iter().map(|(root, _, live)| Located { root, entry: live.entry }).collect())
}

/// How long a session that is asked to end has for it, and then again how long one has that was killed.
const GRACE: Duration = Duration::from_secs(5);

/// Ends the session with the number `which`, or all in the chroot that the user calls so, and waits for their end: asked
/// first, killed if they take too long.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Refused`] if its process has a number in another pid namespace
/// only; [`ErrorKind::Locked`] if something of it does not die.
pub fn end(home: &Home, which: &OsStr) -> Result<Vec<Located>> {
    let pid = which.to_str().and_then(|word| word.parse::<u32>().ok());
    let mut found = find(home, |_| pid.is_some())?;
    found.retain(|(_, _, live)| Some(live.entry.pid) == pid);
    if found.is_empty() {
        let place = Place::find(home, which)?;
        found = find(home, |root| *root == place.root)?;
    }
    if found.is_empty() {
        let error = Error::new(ErrorKind::NotFound, "no such session, and none in a chroot of that name");
        return Err(error.at(which.as_encoded_bytes()).hint("see them with: stockade sessions"));
    }
    if let Some((root, _, live)) = found.iter().find(|(_, _, live)| live.entry.is_foreign()) {
        let reason = format!("process {} is one of another pid namespace, and another one here", live.entry.pid);
        let error = Error::new(ErrorKind::Refused, reason).at(bytes(root));
        return Err(error.hint("end it in the container that it was started in"));
    }
    for (_, ledger, live) in &found {
        live.end(ledger, false)?;
    }
    let since = Instant::now();
    for (root, ledger, live) in &found {
        let mut killed = false;
        while live.lives(ledger) {
            if since.elapsed() > GRACE && !killed {
                live.end(ledger, true)?;
                killed = true;
            }
            if since.elapsed() > 2 * GRACE {
                let reason = format!("process {} was killed, and something of it is still there", live.entry.pid);
                let error = Error::new(ErrorKind::Locked, reason).at(bytes(root));
                return Err(
                    error.hint(format!("see what it waits for: ps -o pid,stat,wchan,args -p {}", live.entry.pid))
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(found.into_iter().map(|(root, _, live)| Located { root, entry: live.entry }).collect())
}

/// The sessions in the chroots that are `wanted`, each with its ledger.
fn find(home: &Home, wanted: impl Fn(&PathBuf) -> bool) -> Result<Vec<(PathBuf, Dir, Live)>> {
    let mut found = Vec::new();
    for root in register::all(home)? {
        let place = Place::find(home, &root);
        // What is registered may be gone.
        let Ok(Some(state)) = place.and_then(|place| State::open(home, &place)) else { continue };
        let root = PathBuf::from(root);
        if !wanted(&root) || state.dir.find(LEDGER.as_bytes()).on("stat", LEDGER)?.is_none() {
            continue;
        }
        for live in ledger::live(&state.subdir(LEDGER)?)? {
            found.push((root.clone(), state.subdir(LEDGER)?, live));
        }
    }
    Ok(found)
}
