// SPDX-License-Identifier: ISC
//! Extended attributes of a name below a descriptor, any kind of inode, without following it.
//!
//! There is no `*xattrat` before Linux 6.13; `/proc/self/fd/N/NAME` with the l-calls names the same thing: the
//! directory by descriptor, the last name unfollowed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::sys::stat::FileType;
use crate::tree::Xattrs;

/// ACLs, capabilities and the administrator's own. Labels of a security module belong to the policy that is loaded,
/// and overlayfs's bookkeeping to its mount; neither is content. XFS shows root its ACLs under names of its own too.
fn is_ours(name: &[u8]) -> bool {
    const FOREIGN: [&[u8]; 4] = [b"trusted.overlay.", b"user.overlay.", b"trusted.SGI_ACL_", b"security.selinux"];
    !FOREIGN.iter().any(|foreign| name.starts_with(foreign))
}

fn path(fd: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", fd.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

pub(crate) fn xattrs(fd: BorrowedFd<'_>, name: &[u8], _kind: FileType) -> io::Result<Xattrs> {
    let path = path(fd, name);
    let mut small = [0u8; 1024];
    let listed = match rustix::fs::llistxattr(&*path, &mut small[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 64 * 1024];
            let length = rustix::fs::llistxattr(&*path, &mut large[..])?;
            large.truncate(length);
            large
        }
        Err(e) => return Err(e.into()),
    };
    let mut found = Xattrs::new();
    for attribute in listed.split(|&b| b == 0).filter(|n| !n.is_empty() && is_ours(n)) {
        let mut value = vec![0; 64 * 1024];
        match rustix::fs::lgetxattr(&*path, attribute, &mut value[..]) {
            Ok(length) => found.push((attribute.into(), value[..length].into())),
            Err(Errno::NODATA) => {} // removed since it was listed
            Err(e) => return Err(e.into()),
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn set_xattrs(fd: BorrowedFd<'_>, name: &[u8], kind: FileType, want: &Xattrs) -> io::Result<()> {
    let path = path(fd, name);
    let have = xattrs(fd, name, kind)?;
    for (attribute, _) in have.iter().filter(|(n, _)| !want.iter().any(|(w, _)| w == n)) {
        rustix::fs::lremovexattr(&*path, &**attribute)?;
    }
    for (attribute, value) in want.iter().filter(|pair| !have.contains(pair)) {
        rustix::fs::lsetxattr(&*path, &**attribute, value, XattrFlags::empty())?;
    }
    Ok(())
}
