// SPDX-License-Identifier: ISC
//! The terms of a session: what its guest sees, and how it is held in. Only Linux has sessions; see
//! [`super::enter_plain`] for what there is everywhere.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::handover::Giver;
use super::platform::Bind;

/// What a guest sees and may do, in namespaces of its own.
#[derive(Debug, Default)]
pub struct Terms {
    /// Its capabilities, system calls and /proc are those that container engines give.
    pub confined: bool,
    /// Set-id programs keep their meaning, although it is confined.
    pub setuid: bool,
    /// It has a network of its own, with nothing but loopback.
    pub offline: bool,
    /// Its host name; none for the host's.
    pub hostname: Option<CString>,
    /// It cannot write to the root.
    pub read_only: bool,
    /// We are in a user namespace: what only root of the host may do, is done another way.
    pub rootless: bool,
    /// It writes to memory in front of the root, which is not changed.
    pub ephemeral: bool,
    /// Its /run is what the root has there.
    pub own_run: bool,
    /// Takes the root as it is with what was written to memory.
    pub keep: Option<Giver>,
    /// What else is mounted, in order.
    pub mounts: Vec<Mounting>,
    /// What it may use.
    pub limits: Limits,
}

/// Something that is mounted for a guest.
#[derive(Debug)]
pub struct Mounting {
    /// Where, from the root, without a leading slash. No part of it may be a symlink.
    pub place: CString,
    /// So many bytes of it lead to a filesystem that is made for the session: below that the place is made if it is
    /// missing. 0: it lies in the root, where nothing is made.
    pub ours: usize,
    /// What.
    pub what: Mounted,
}

/// See [`Mounting`].
#[derive(Debug)]
pub enum Mounted {
    /// A directory or file of the host; see [`super::take_bind`].
    Bind(Bind),
    /// A new filesystem in memory.
    Tmpfs,
}

/// What a guest may use.
#[derive(Debug, Default)]
pub struct Limits {
    /// The `cgroup.procs` of the control group that it lives in.
    pub group: Option<OwnedFd>,
    /// Bytes of address space of each process.
    pub address_space: Option<u64>,
    /// How many processes its user may have. Root may have any number.
    pub processes: Option<u64>,
    /// How many processors it runs on.
    pub processors: Option<usize>,
    /// The time after which it is ended: by SIGTERM, and by SIGKILL a little later.
    pub timeout: Option<Duration>,
}
