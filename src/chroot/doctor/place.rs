// SPDX-License-Identifier: ISC
//! The place of a chroot: its filesystem, who can reach it, what an earlier command or session left.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, abilities, apparmor, terminals};
use crate::chroot::place::{Home, Place, bytes};
use crate::chroot::state::State;
use crate::chroot::{devices, recorded, release};
use crate::error::{IoContext, Result};
use crate::path::escape;
use crate::session;
use crate::sys::{self, Dir, FileType, Occupant};

/// Directories that everybody must be able to search.
const SHARED: &[&str] = &[
    "/",
    "/bin",
    "/etc",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/run",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/tmp",
];

/// What there is to say of the stockade home: its filesystem, or that of the directory in which it will be made.
pub(super) fn of_home(home: &Home) -> Result<Vec<Finding>> {
    let mut at = home.path.as_path();
    while !at.exists() {
        at = at.parent().unwrap_or(Path::new("/"));
    }
    let dir = Dir::open(at, home.calls).on("open", bytes(at))?;
    let mut findings = filesystem(&dir, at)?;
    if at == home.path {
        findings.push(owned(at));
    }
    Ok(findings)
}

/// What there is to say of the chroot at `place`.
pub(super) fn of_chroot(home: &Home, place: &Place) -> Result<Vec<Finding>> {
    let root = Dir::open(&place.root, home.calls).on("open", bytes(&place.root))?;
    let mut findings = if place.beside {
        // The state lies beside the root, on its filesystem and out of reach of what runs inside.
        let parent = place.root.parent().unwrap_or(Path::new("/"));
        filesystem(&Dir::open(parent, home.calls).on("open", bytes(parent))?, parent)?
    } else {
        filesystem(&root, &place.root)?
    };
    findings.extend(mount_points(&root, place)?);
    findings.push(reach(&place.root, root.space().on("statfs", bytes(&place.root))?.nosuid)?);
    if place.state.exists() {
        findings.push(owned(&place.state));
    }
    findings.push(journal(home, place));
    findings.extend(occupants(&place.root)?);
    // What is wrong with the record itself is said above.
    let state = State::open(home, place).ok().flatten();
    let recipe = state.as_ref().and_then(|state| recorded::remembered(state).ok().flatten());
    if let (Some(state), true) = (&state, recipe.as_ref().is_some_and(|recipe| recipe.closure.is_some()))
        && apparmor::is_there()
    {
        findings.extend(apparmor::findings(place, &state.read_tree("manifest")?.unwrap_or_default())?);
    }
    findings.extend(kernel(&root, recipe.and_then(|recipe| recipe.release).as_deref())?);
    findings.extend(terminals::findings(&root)?);
    Ok(findings)
}

/// Mount options and abilities of the filesystem of `dir`.
fn filesystem(dir: &Dir, path: &Path) -> Result<Vec<Finding>> {
    let space = dir.space().on("statfs", bytes(path))?;
    let target = mounted_at(path);
    let what = format!("the filesystem at {target}");
    let wrong = [
        (space.read_only, "read-only", "rw", "nothing can be built or changed"),
        (space.noexec, "noexec", "exec", "no program in a chroot can be executed"),
        (space.nosuid, "nosuid", "suid", "su, sudo and other set-id programs do not work in a chroot"),
        (space.nodev, "nodev", "dev", "a build makes no devices, unless the chroot's dev is a filesystem of its own"),
    ];
    let flag = |(is_set, flag, mend, effect): &(bool, &str, &str, &str)| {
        let finding = Finding::bad(&what, format!("mounted {flag}: {effect}"));
        is_set.then(|| finding.mend(format!("mount -o remount,{mend} {target}")))
    };
    let mut findings: Vec<Finding> = wrong.iter().filter_map(flag).collect();
    if findings.is_empty() {
        findings.push(Finding::good(&what, "mounted without read-only, noexec, nosuid and nodev"));
    }
    if !space.read_only {
        findings.extend(abilities::findings(dir, path)?);
    }
    Ok(findings)
}

/// The mount point that `path` lies on, as text for a shell.
fn mounted_at(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = sys::mounts().unwrap_or_default();
    let targets = mounts.iter().map(|mount| Path::new(std::ffi::OsStr::from_bytes(&mount.target)));
    let nearest = targets.filter(|target| real.starts_with(target)).max_by_key(|target| target.components().count());
    escape(bytes(nearest.unwrap_or(Path::new("/"))))
}

/// The directories that a session mounts on.
fn mount_points(root: &Dir, place: &Place) -> Result<Vec<Finding>> {
    let look = |name: &&str| {
        let path = place.root.join(name);
        let found = root.find(name.as_bytes()).on("stat", bytes(&path))?;
        let what = escape(bytes(&path));
        Ok(match found.map(|stat| stat.kind) {
            Some(FileType::Dir) => return Ok(None),
            None => Some(Finding::bad(&what, "is missing: `run` mounts on it").mend(format!("mkdir {what}"))),
            Some(_) => Some(
                Finding::bad(&what, "is not a directory: `run` mounts on it and follows no link")
                    .mend(format!("rm {what} && mkdir {what}")),
            ),
        })
    };
    sys::MOUNT_POINTS.iter().filter_map(|name| look(name).transpose()).collect()
}

/// Set-id programs made inside can be run from outside by whoever reaches them (decision E18).
pub(in crate::chroot) fn reach(root: &Path, nosuid: bool) -> Result<Finding> {
    let what = format!("who can reach {}", escape(bytes(root)));
    if nosuid {
        return Ok(Finding::good(what, "set-id programs do not work there"));
    }
    for dir in root.ancestors() {
        if dir.metadata().on("stat", bytes(dir))?.mode() & 0o001 == 0 {
            return Ok(Finding::good(what, format!("only those who may search {}", escape(bytes(dir)))));
        }
    }
    let parent = root.parent().unwrap_or(root);
    let why = "every user of this machine can run the set-id programs that somebody makes inside";
    if SHARED.iter().any(|shared| Path::new(shared) == parent) {
        let why = format!("{why}; keep chroots below a directory that only root can search");
        return Ok(Finding::bad(what, why));
    }
    Ok(Finding::bad(what, why).mend(format!("chmod o-x {}", escape(bytes(parent)))))
}

/// A state directory and its parent must be ours, and nobody else's to write.
fn owned(state: &Path) -> Finding {
    let what = escape(bytes(state));
    for dir in [Some(state), state.parent()].into_iter().flatten() {
        let Ok(meta) = dir.symlink_metadata() else { continue };
        let shown = escape(bytes(dir));
        let me = sys::effective_uid();
        if meta.uid() != me && meta.uid() != 0 {
            let why = format!("{shown} belongs to user {}, who can change what Stockade believes", meta.uid());
            return Finding::bad(what, why).mend(format!("chown {me} {shown}"));
        }
        if meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0 {
            let why = format!("{shown} can be written by others, who can change what Stockade believes");
            return Finding::bad(what, why).mend(format!("chmod go-w {shown}"));
        }
    }
    Finding::good(what, "ours alone")
}

fn journal(home: &Home, place: &Place) -> Finding {
    let shown = escape(bytes(&place.root));
    let what = format!("the journal of {shown}");
    let state = State::open(home, place).ok().flatten();
    if state.is_some_and(|state| state.is_interrupted()) {
        return Finding::bad(what, "a command was interrupted").mend(format!("stockade recover {shown}"));
    }
    Finding::good(what, "no command was interrupted")
}

/// Mounts that somebody left below the root, and what runs in it.
fn occupants(root: &Path) -> Result<Vec<Finding>> {
    let dev = root.canonicalize().on("realpath", bytes(root))?.join(devices::DEV);
    // The host's own devices, bound there, are all of its disks.
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let is_of_host = device(&dev) == device(Path::new("/dev"));
    let found = session::occupants(root)?.into_iter().map(|occupant| match occupant {
        Occupant::Process(process) => Finding::good(process.to_string(), "runs in the chroot"),
        Occupant::Mount(ref target, None) if **target == *bytes(&dev) && !is_of_host => {
            Finding::good(occupant.to_string(), "for the devices; to be unmounted before the chroot is removed")
        }
        Occupant::Mount(ref target, None) => {
            let why = "mounted below the chroot, which can be neither removed nor replaced";
            Finding::bad(occupant.to_string(), why).mend(format!("umount {}", escape(target)))
        }
        Occupant::Mount(_, Some(_)) => {
            Finding::bad(occupant.to_string(), "mounted below the chroot by a process with mounts of its own; end it")
        }
    });
    Ok(found.collect())
}

/// An OpenBSD root runs on OpenBSD only, under a kernel that is not older.
fn kernel(root: &Dir, said: Option<&str>) -> Result<Option<Finding>> {
    let (system, running) = sys::kernel();
    Ok(release::openbsd(root, said)?.map(|release| judge_kernel(&release, (&system, &running))))
}

fn judge_kernel(release: &str, (system, running): (&str, &str)) -> Finding {
    let what = format!("OpenBSD {release} in the chroot");
    if system != "OpenBSD" {
        return Finding::bad(what, format!("its programs do not run on {system}"));
    }
    match release::newer(release, (system, running)) {
        Some(_) => {
            let why = format!("is newer than the running kernel, {running}: its programs may fail in any way");
            Finding::bad(what, why).mend("sysupgrade")
        }
        None => Finding::good(what, format!("is not newer than the running kernel, {running}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for (sets, system, running, ok) in [
            ("7.8", "OpenBSD", "7.8", true),
            ("7.8", "OpenBSD", "7.9", true),
            ("7.9", "OpenBSD", "7.8", false),
            ("7.8", "Linux", "6.12.1", false),
        ] {
            assert_eq!(judge_kernel(sets, (system, running)).ok, ok, "{sets} {system} {running}");
        }
    }
}
