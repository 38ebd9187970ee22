// SPDX-License-Identifier: ISC
//! What a session has of its own besides its view: control group, host name, network; and its limits.

use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

use super::last_errno;
use crate::sys::guest::Stuck;
use crate::sys::terms::Terms;

/// Makes the leader part of it all.
pub(super) fn join(terms: &Terms) -> Result<(), Stuck> {
    if let Some(group) = &terms.limits.group {
        rustix::io::write(group, b"0").map_err(Stuck::new("write", "cgroup.procs"))?;
    }
    // Only now: the group that it is in becomes the root of what it sees.
    // SAFETY: no memory is involved.
    if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } != 0 {
        return Err(Stuck::new("unshare", "")(last_errno()));
    }
    if let Some(name) = &terms.hostname {
        rustix::system::sethostname(name.as_bytes()).map_err(Stuck::new("sethostname", ""))?;
    }
    if terms.offline { raise_loopback().map_err(Stuck::new("ioctl", "loopback")) } else { Ok(()) }
}

/// Limits this process and all that it starts.
pub(super) fn limit(terms: &Terms) -> Result<(), Stuck> {
    let limits = &terms.limits;
    for (resource, limit) in [(Resource::As, limits.address_space), (Resource::Nproc, limits.processes)] {
        if limit.is_some() {
            let limit = Rlimit { current: limit, maximum: limit };
            rustix::process::setrlimit(resource, limit).map_err(Stuck::new("setrlimit", ""))?;
        }
    }
    limits.processors.map_or(Ok(()), |count| run_on(count).map_err(Stuck::new("sched_setaffinity", "")))
}

/// Runs on `count` processors, of those that it may run on.
fn run_on(count: usize) -> Result<(), Errno> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut chosen = CpuSet::new();
    let numbers = (0..CpuSet::MAX_CPU).filter(|&number| allowed.is_set(number));
    numbers.take(count).for_each(|number| chosen.set(number));
    rustix::thread::sched_setaffinity(None, &chosen)
}

/// A new network has a loopback device, switched off.
fn raise_loopback() -> Result<(), Errno> {
    // SAFETY: all bytes zero is a request; the kernel reads the name and the flags of it. The socket is closed.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(last_errno());
        }
        let socket = <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request);
        if done == 0 { Ok(()) } else { Err(last_errno()) }
    }
}
