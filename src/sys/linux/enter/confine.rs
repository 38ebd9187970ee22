// SPDX-License-Identifier: ISC
//! Holding the guest in: capabilities, no new privileges, the filter of system calls.

use libc::sock_filter;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{last_errno, seccomp, syscalls};
use crate::sys::guest::Stuck;
use crate::sys::terms::Terms;

/// What root inside may still do: the set that podman(1) gives. Raw sockets and device nodes are not in it: with the
/// host's network the first would see the host's traffic, and the second work for whoever reaches the root from outside.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// What holds a guest in, made before the fork.
pub(super) struct Hold {
    filter: Vec<sock_filter>,
    setuid: bool,
}

impl Hold {
    /// None for a guest that is not confined.
    pub(super) fn new(terms: &Terms) -> Option<Hold> {
        let hold = || Hold { filter: seccomp::program(&syscalls::tables()), setuid: terms.setuid };
        terms.confined.then(hold)
    }

    /// Holds this process, and all that it will start. To be called while it is still root.
    pub(super) fn apply(&self) -> Result<(), Stuck> {
        if !self.setuid {
            rustix::thread::set_no_new_privs(true).map_err(Stuck::new("prctl", ""))?;
        }
        // Without the above this takes a capability that goes next.
        self.install().map_err(Stuck::new("seccomp", ""))?;
        capabilities().map_err(Stuck::new("capset", ""))
    }

    fn install(&self) -> Result<(), rustix::io::Errno> {
        let filter = self.filter.as_ptr().cast_mut();
        let program = libc::sock_fprog { len: self.filter.len() as u16, filter };
        // SAFETY: the kernel copies `len` instructions.
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_usize, &raw const program) };
        if done == 0 { Ok(()) } else { Err(last_errno()) }
    }
}

/// Gives up all capabilities but [`KEPT`], for good.
fn capabilities() -> Result<(), rustix::io::Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break, // the kernel has no more
            done => done?,
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let left = rustix::thread::capabilities(None)?.permitted & KEPT;
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}
