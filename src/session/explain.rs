// SPDX-License-Identifier: ISC
//! Why a session could not begin: the phase, the path, what is in the way, what mends it.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::Session;
use crate::error::{Error, ErrorKind};
use crate::path::escape;
use crate::sys::{self, Mount, Mounted, Stuck};

/// Why entering got stuck.
pub(super) fn stuck(session: &Session, stuck: &Stuck) -> Error {
    let root = &session.root;
    if let Some(mounting) = stuck.mount.and_then(|index| session.terms.mounts.get(index)) {
        let path = within(root, mounting.place.as_bytes());
        let what = match mounting.what {
            Mounted::Bind(_) => "binding a path of the host",
            Mounted::Tmpfs => "mounting a filesystem in memory",
        };
        return misplaced(Error::io("mount", &path, &stuck.error).during(what), &path, &stuck.error);
    }
    if stuck.operation == "inherit" {
        let reason = "standard input, output or error is a directory of the host: a way out for what runs inside";
        return Error::new(ErrorKind::Refused, reason).hint("redirect it: </dev/null");
    }
    let error = Error::io(stuck.operation, within(root, stuck.place.as_bytes()), &stuck.error);
    let error = error.during(phase(stuck));
    match (stuck.operation, stuck.place, stuck.error.kind()) {
        ("clone" | "unshare" | "open_tree", _, io::ErrorKind::PermissionDenied) => {
            error.hint("in a container start it with CAP_SYS_ADMIN; in a session of stockade use run --no-confine")
        }
        // ENOSPC: user namespaces have a number of namespaces that they may make.
        ("clone" | "unshare", _, io::ErrorKind::StorageFull) => {
            error.hint("sysctl user.max_mnt_namespaces=10000 and its like")
        }
        ("clone" | "fork", _, io::ErrorKind::WouldBlock) => {
            error.hint("end processes, or raise the limit with: ulimit -u")
        }
        ("open_tree" | "mount_setattr", _, io::ErrorKind::Unsupported) => {
            error.hint("sessions need Linux 5.12 or newer")
        }
        ("mount", "overlay", _) => overlay(root, error),
        ("chdir", ..) if is_closed(session) => open_up(session, error),
        ("chdir", ..) => error.hint("name another directory with --cwd"),
        ("seccomp" | "capset", ..) => error.hint("this kernel cannot hold it in: run it with --no-confine"),
        ("write", "cgroup.procs", _) => error.hint("leave out --memory, --cpus and --pids"),
        _ => error,
    }
}

/// Why the command could not be executed.
pub(super) fn not_run(session: &Session, error: &io::Error) -> Error {
    let program = session.guest.program.as_bytes();
    if error.kind() == io::ErrorKind::NotFound {
        // The kernel says the same when the program is there and its interpreter is not.
        let reason = if program.contains(&b'/') {
            "no such program, or no interpreter for it, in the chroot"
        } else {
            "command not found in the chroot"
        };
        return Error::new(ErrorKind::NotFound, reason).at(program);
    }
    let made = Error::io("execve", program, error);
    if error.kind() != io::ErrorKind::PermissionDenied {
        return made;
    }
    if session.dir.space().is_ok_and(|space| space.noexec) {
        return remount(&session.root, "exec", made.during("its filesystem is mounted noexec"));
    }
    if is_closed(session) { open_up(session, made) } else { made }
}

/// Where in the process of entering that is.
fn phase(stuck: &Stuck) -> &'static str {
    match (stuck.operation, stuck.place) {
        ("clone" | "fork" | "unshare" | "pipe" | "sigprocmask" | "signalfd" | "setpgid" | "prctl", _) => {
            "making the session"
        }
        ("open_tree" | "mount_setattr", _) => "taking the root",
        ("sethostname" | "ioctl" | "write", _) => "setting the session apart",
        ("mount" | "move_mount" | "open" | "mknod" | "mkdir" | "chown" | "pivot_root" | "umount", _) => {
            "building the view"
        }
        ("mask", _) => "masking /proc and /sys",
        ("setrlimit" | "sched_setaffinity", _) => "setting limits",
        ("seccomp" | "capset", _) => "holding the command in",
        ("setgroups" | "setresgid" | "setresuid", _) => "becoming the user",
        ("chdir" | "getcwd", _) => "entering the directory of the command",
        _ => "entering",
    }
}

fn misplaced(error: Error, path: &[u8], why: &io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::NotFound => error.hint(format!("mkdir {}", escape(path))),
        _ if sys::is_symlink_in_the_way(why) => error.hint("a symlink is in the way: name the place that it leads to"),
        io::ErrorKind::NotADirectory => error.hint("a directory goes on a directory, a file on a file"),
        _ => error,
    }
}

/// An overlay cannot stand on two others.
fn overlay(root: &Path, error: Error) -> Error {
    match mount_of(root) {
        Some(mount) if mount.kind == "overlay" => {
            error.hint("the chroot lies on an overlay, and the kernel stacks two: copy it to another filesystem first")
        }
        _ => error.hint("use a filesystem that overlays can stand on, as ext4, xfs, btrfs and tmpfs are"),
    }
}

/// Can the user not even enter the root?
fn is_closed(session: &Session) -> bool {
    session.guest.uid != 0 && session.dir.stat_self().is_ok_and(|stat| stat.mode & 0o001 == 0)
}

fn open_up(session: &Session, error: Error) -> Error {
    error.hint(format!("the root is closed to others: chmod o+x {}", escape(bytes(&session.root))))
}

/// The error with the command that gives the root's filesystem another option.
pub(super) fn remount(root: &Path, option: &str, error: Error) -> Error {
    match mount_of(root) {
        Some(mount) => error.hint(format!("mount -o remount,{option} {}", escape(&mount.target))),
        None => error,
    }
}

/// The mount that the root lies on.
fn mount_of(root: &Path) -> Option<Mount> {
    let mounts = sys::mounts().ok()?;
    let covering = mounts.into_iter().filter(|mount| root.starts_with(OsStr::from_bytes(&mount.target)));
    // Of several at one place the last one counts.
    covering.max_by_key(|mount| mount.target.len())
}

/// The path of the host for `name` in the root.
pub(super) fn within(root: &Path, name: &[u8]) -> Vec<u8> {
    // Joining nothing would leave a slash.
    let path = if name.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(name)) };
    path.into_os_string().into_vec()
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
