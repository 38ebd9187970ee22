// SPDX-License-Identifier: ISC
//! The system: the only place with `unsafe`, `target_os`, `libc` and `rustix`.
//!
//! [`Dir`] is the one door to the disk: a directory descriptor and the at-calls on single names below it, none of which
//! follows a symlink. Both systems offer the same names; `linux/` and `openbsd/` stand beside each other.

mod dir;
mod guest;
mod handover;
mod ids;
#[cfg(target_os = "linux")]
mod linux;
mod lock;
mod occupant;
#[cfg(target_os = "openbsd")]
mod openbsd;
#[cfg(all(test, target_os = "linux"))]
#[path = "openbsd/devices.rs"]
#[allow(unreachable_pub, reason = "there it is handed on")]
mod openbsd_devices;
mod plain;
mod program;
mod regular;
mod stat;
mod stdin;
mod terminal;
mod terms;
mod traced;

#[cfg(not(any(target_os = "linux", target_os = "openbsd")))]
compile_error!("stockade runs on Linux and OpenBSD");

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "openbsd")]
use openbsd as platform;

pub use dir::{Dir, is_no_directory, set_file_meta};
pub use guest::{Ended, Guest, Stuck, die_interrupted, expect_children};
pub use handover::{Giver, Taker, handover};
pub use ids::{Extent, IdMap};
pub use lock::{Held, Lock, take_record_lock};
pub use occupant::{Mapping, Occupant, Process, processes};
pub use plain::enter_plain;
pub use platform::{
    Bind, Front, HAS_SESSIONS, HAS_XATTRS, HOLDING_FLAGS, HOST_RECIPE, LIBRARY_DIRS, LIBRARY_MINORS, MOUNT_DEV,
    MOUNT_POINTS, Mount, Outside, Overlays, SEARCH_PATH, USER_NAMESPACE_SETTINGS, can_enter, can_overlay, change_clock,
    confine_writes, detach, device_set, end_process, enter, enter_user_namespace, execute_again, forbid_writes,
    has_subvolumes, hides_lower, holds_subvolumes, id_map, is_overlay, is_subvolume, make_subvolume, mappings, mounts,
    next_data, occupants, pid_namespace, process_start, remove_subvolume, shares_blocks, shield, snapshot, take_bind,
    trace,
};
pub use program::{end_group, lives, own_program, run_aside, start_group};
pub use regular::{open_regular, read_regular};
pub use stat::{Entry, FileType, Space, Stat, Visit};
pub use stdin::{Stdin, WatchedInput};
pub use terminal::{ask_hidden, become_nobody, random};
pub use terms::{Limits, Mounted, Mounting, Terms};
pub use traced::{Traced, Tracing};

/// Which system calls may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    /// All that the system has.
    #[default]
    Native,
    /// Only those that OpenBSD has too: for tests of the portable paths.
    Portable,
}

impl Calls {
    /// [`Calls::Portable`] if the environment has `STOCKADE_PORTABLE=1`.
    pub fn from_env() -> Calls {
        if std::env::var_os("STOCKADE_PORTABLE").is_some_and(|v| v == "1") { Calls::Portable } else { Calls::Native }
    }
}

/// One entry of a device table.
#[derive(Debug, Clone)]
pub struct Device {
    /// Path in the root.
    pub path: String,
    /// A device; also the links and directories that belong beside them.
    pub kind: crate::tree::Kind,
    /// Mode bits.
    pub mode: u16,
    /// Group, by number; the owner is root.
    pub group: u32,
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The effective group of this process.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Does the failure of a call on a name say that it is gone, or no longer what it was a moment ago? A directory became
/// a file (ENOTDIR), a symlink (ELOOP) or a mount point (EXDEV); a symlink something else (EINVAL).
pub fn is_stale(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let stale = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV, Errno::INVAL];
    Errno::from_io_error(error).is_some_and(|errno| stale.contains(&errno))
}

/// Did a call fail because it was to follow no symlink and met one?
pub fn is_symlink_in_the_way(error: &std::io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP)
}

/// The machine's architecture, as uname(1) names it: `x86_64`, `amd64`.
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The name of the running kernel and its release: `Linux`, `6.12.48`.
pub fn kernel() -> (String, String) {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    (text(uname.sysname()), text(uname.release()))
}
