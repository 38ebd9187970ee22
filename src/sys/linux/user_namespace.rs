// SPDX-License-Identifier: ISC
//! User namespaces: an ordinary user is root among the numbers that belong to it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::DumpableBehavior;

use super::enter::last_errno;
use super::outside::{self, MAP, Outside};
use crate::sys::guest::Stuck;
use crate::sys::ids::{Extent, IdMap};

/// The numbers of this process.
///
/// # Errors
/// As open(2), if /proc is not there.
pub fn id_map() -> io::Result<IdMap> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
    IdMap::parse(&read("uid_map")?, &read("gid_map")?).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Makes this process root in a user namespace of its own with the numbers of `map`, and in a mount namespace that
/// belongs to that. Several numbers need newuidmap(1) and newgidmap(1). Call it while there is one thread.
///
/// # Errors
/// `unshare` failed: nothing has happened. Anything else: this process has no numbers and can only end.
pub fn enter_user_namespace(map: &IdMap) -> Result<Outside, Stuck> {
    let mut outside = Outside::start(map)?;
    // SAFETY: no memory is involved; there is one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return Err(Stuck::new("unshare", "")(last_errno()));
    }
    let stuck = |operation, error| Stuck { operation, place: "", mount: None, error };
    match map.is_single() {
        true => map_myself(map).map_err(|error| stuck("write", error))?,
        false => outside.ask(MAP).map_err(|error| stuck("newuidmap", error)).map(drop)?,
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Stuck::new("prctl", ""))?;
    Ok(outside)
}

/// One number of its own may be mapped by anybody, who then has to do without setgroups(2).
fn map_myself(map: &IdMap) -> io::Result<()> {
    let lines = |extents: &[Extent]| extents.iter().map(line).collect::<String>();
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", lines(&map.users))?;
    std::fs::write("/proc/self/gid_map", lines(&map.groups))
}

fn line(Extent { inside, outside, count }: &Extent) -> String {
    format!("{inside} {outside} {count}\n")
}

/// Executes this program again with the same arguments, and with `home` as `$STOCKADE_HOME`; `outside` is found again.
/// Returns only if that fails.
pub fn execute_again(home: &Path, outside: Outside) -> io::Error {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    match outside.keep() {
        Ok(kept) => command.args(arguments).env("STOCKADE_HOME", home).env(outside::VARIABLE, kept).exec(),
        Err(error) => error,
    }
}
