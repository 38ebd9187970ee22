// SPDX-License-Identifier: ISC
//! What a guest can reach through /proc/self/exe: until it is executed that is this program, and a hostile `/bin/sh` that
//! is a link there has it executed again, with libraries of its own. So sessions begin in a copy that nobody can change.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use super::enter::mounting;

/// Executes this program again from a mount of its own that is read-only, or where there can be none, from sealed
/// memory. Returns at once in such a one.
///
/// # Errors
/// As execve(2), memfd_create(2).
pub fn shield() -> io::Result<()> {
    let program = File::open("/proc/self/exe")?;
    if is_shielded(&program)? {
        return Ok(());
    }
    let copy = read_only(program.as_fd()).or_else(|_| sealed(&program))?;
    Err(execute(&copy))
}

fn is_shielded(program: &File) -> io::Result<bool> {
    let seals = rustix::fs::fcntl_get_seals(program);
    Ok(rustix::fs::fstatvfs(program)?.f_flag.contains(StatVfsMountFlags::RDONLY)
        || seals.is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

fn read_only(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mount = mounting::clone(program, c"", OpenTreeFlags::empty())?;
    mounting::restrict(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    Ok(mount)
}

fn sealed(mut program: &File) -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create(c"stockade", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut program, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy.into())
}

/// Returns only if that fails.
fn execute(program: &OwnedFd) -> io::Error {
    let variable =
        |(name, value): (std::ffi::OsString, std::ffi::OsString)| [name.into_vec(), value.into_vec()].join(&b'=');
    let texts = |texts: &mut dyn Iterator<Item = Vec<u8>>| texts.map(CString::new).collect::<Result<Vec<_>, _>>();
    let arguments = texts(&mut std::env::args_os().map(OsStringExt::into_vec));
    let variables = texts(&mut std::env::vars_os().map(variable));
    let (Ok(arguments), Ok(variables)) = (arguments, variables) else { return io::ErrorKind::InvalidInput.into() };
    let list = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (list(&arguments), list(&variables));
    // SAFETY: both lists end with a null pointer, and their strings outlive the call.
    unsafe { libc::fexecve(program.as_raw_fd(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}
