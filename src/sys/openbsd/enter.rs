// SPDX-License-Identifier: ISC
//! Entering a root: there are no namespaces, so it is always the plain way.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::sys::guest::{Ended, Guest, Stuck};
use crate::sys::plain::enter_plain;
use crate::sys::terms::Terms;
use crate::sys::{Dir, Held};

/// A guest cannot be held in, nor see anything but the root.
pub const HAS_SESSIONS: bool = false;

/// Where programs are looked for: for root, for others.
pub const SEARCH_PATH: [&str; 2] = [
    "/sbin:/usr/sbin:/bin:/usr/bin:/usr/X11R6/sbin:/usr/X11R6/bin:/usr/local/sbin:/usr/local/bin",
    "/usr/bin:/bin:/usr/sbin:/sbin:/usr/X11R6/bin:/usr/local/bin:/usr/local/sbin",
];

/// The directories that a root must have for us to mount on: nothing is ever mounted.
pub const MOUNT_POINTS: &[&str] = &[];

/// There are no user namespaces.
pub const USER_NAMESPACE_SETTINGS: &[(&str, &str, &str)] = &[];

/// chroot(2) is always allowed to root.
///
/// # Errors
/// None.
pub fn can_enter() -> Result<(), Stuck> {
    Ok(())
}

/// Something of the host that is mounted for a guest: there is no such thing.
#[derive(Debug)]
pub enum Bind {}

/// Nothing of the host is mounted for a guest.
///
/// # Errors
/// Always.
pub fn take_bind(_: &Path, _: bool) -> io::Result<Bind> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What an overlay can do: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlays {
    /// All.
    Whole,
    /// All but attributes of users.
    WithoutUserAttributes,
}

/// There are no overlays.
///
/// # Errors
/// Always.
pub fn can_overlay(_: &Dir, _rootless: bool) -> io::Result<Overlays> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As [`enter_plain`]: there are no terms.
///
/// # Errors
/// The step that failed.
pub fn enter(root: &Dir, guest: &Guest, _: &Terms, locks: Vec<Held>) -> Result<Ended, Stuck> {
    enter_plain(root, guest, locks)
}

/// Of a login class: routing table, environment and path aside (login_cap.h).
const CLASS: libc::c_uint = SET_PRIORITY | SET_RESOURCES | SET_UMASK;
const SET_PRIORITY: libc::c_uint = 0x08;
const SET_RESOURCES: libc::c_uint = 0x10;
const SET_UMASK: libc::c_uint = 0x20;

// What the libc crate has not of libc: login_getclass(3), and setlogin(2).
unsafe extern "C" {
    fn login_getclass(name: *const libc::c_char) -> *mut libc::c_void;
    fn login_close(class: *mut libc::c_void);
    fn setusercontext(
        class: *mut libc::c_void,
        account: *const libc::c_void,
        uid: libc::uid_t,
        flags: libc::c_uint,
    ) -> libc::c_int;
    fn setlogin(name: *const libc::c_char) -> libc::c_int;
}

/// Takes what the guest's login class says of limits, priority and umask, and its login name, as chroot(8) does: by the
/// host's login.conf(5), for these are the host's to give, and so before the root is entered. For a child of a process
/// without other threads: this allocates.
pub(in crate::sys) fn take_class(guest: &Guest) -> Result<(), Stuck> {
    let failed = |operation| Err(Stuck { operation, place: "", mount: None, error: io::Error::last_os_error() });
    // SAFETY: the names are strings that last; the class is closed once, and used until then. No account is given, which
    // only what is not asked for here would need.
    unsafe {
        let mut class = login_getclass(guest.class.as_ptr());
        if class.is_null() {
            // A class that the host does not have.
            class = login_getclass(c"default".as_ptr());
        }
        if class.is_null() {
            return failed("login_getclass");
        }
        let done = setusercontext(class, std::ptr::null(), guest.uid, CLASS);
        login_close(class);
        if done != 0 {
            return failed("setusercontext");
        }
        if has_session() && setlogin(guest.login.as_ptr()) != 0 {
            return failed("setlogin");
        }
    }
    Ok(())
}

/// Is the session of this process its own, or can it be? The login name is a session's. With a terminal it is not made one:
/// the terminal would be lost, and Ctrl-C with it.
fn has_session() -> bool {
    // SAFETY: no memory is involved but a string that lasts.
    unsafe {
        if libc::getsid(0) == libc::getpid() {
            return true;
        }
        let terminal = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        if terminal >= 0 {
            libc::close(terminal);
            return false;
        }
        libc::setsid() != -1
    }
}

/// Has the descriptors that we were given closed when the guest is executed; ours are marked already.
pub(in crate::sys) fn mark_inherited() -> Result<(), Errno> {
    // SAFETY: marks nothing and frees nothing of ours.
    unsafe {
        for fd in 3..libc::getdtablesize() {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}

/// Takes the guest's groups, group and user, in that order: each needs the privilege that the last one gives away.
pub(in crate::sys) fn set_credentials(guest: &Guest) -> Result<(), Stuck> {
    let (uid, gid) = (guest.uid, guest.gid);
    let groups = guest.groups.as_deref();
    let failed = |operation| Err(Stuck { operation, place: "", mount: None, error: io::Error::last_os_error() });
    // SAFETY: the kernel reads `len` numbers of 32 bits; the others take none but numbers.
    unsafe {
        if groups.is_some_and(|groups| libc::setgroups(groups.len() as libc::c_int, groups.as_ptr()) != 0) {
            return failed("setgroups");
        }
        if libc::setresgid(gid, gid, gid) != 0 {
            return failed("setresgid");
        }
        if libc::setresuid(uid, uid, uid) != 0 {
            return failed("setresuid");
        }
    }
    Ok(())
}
