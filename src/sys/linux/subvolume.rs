// SPDX-License-Identifier: ISC
//! Subvolumes of btrfs: directories that can be copied and removed as a whole, whatever is in them (btrfs-ioctl(2),
//! `linux/btrfs.h`).

use std::io;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

use crate::sys::{Calls, Dir};

/// The magic number of btrfs in statfs(2), and the inode number of the root of a subvolume.
const BTRFS: u64 = 0x9123_683e;
const ROOT_INODE: u64 = 256;

/// `struct btrfs_ioctl_vol_args`: a descriptor and a name, NUL-terminated.
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Snapshot {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`: from which subvolume on, tree and directory of each, how many there are.
#[repr(C)]
struct Below {
    least: u64,
    found: [[u64; 2]; 255],
    count: u8,
    unused: [u8; 7],
}

const CREATE: Opcode = opcode::write::<Named>(0x94, 14);
const DESTROY: Opcode = opcode::write::<Named>(0x94, 15);
const SNAPSHOT: Opcode = opcode::write::<Snapshot>(0x94, 23);
const BELOW: Opcode = opcode::read_write::<Below>(0x94, 61);

/// Does `dir` lie on a filesystem that has subvolumes?
pub fn has_subvolumes(dir: &Dir) -> bool {
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // the type differs between architectures
    let kind = rustix::fs::fstatfs(dir).map_or(0, |found| found.f_type as u64);
    dir.calls() == Calls::Native && kind == BTRFS
}

/// Is `dir` the root of a subvolume?
pub fn is_subvolume(dir: &Dir) -> bool {
    dir.stat_self().is_ok_and(|stat| stat.ino == ROOT_INODE) && has_subvolumes(dir)
}

/// Makes the subvolume `name` in `dir`.
///
/// # Errors
/// As mkdir(2); ENOTTY where there are none.
pub fn make_subvolume(dir: &Dir, name: &[u8]) -> io::Result<()> {
    let named = Named { fd: 0, name: field(name)? };
    // SAFETY: the kernel reads a `btrfs_ioctl_vol_args` for this opcode, which `Named` is, and writes nothing.
    Ok(unsafe { ioctl(dir, Setter::<CREATE, Named>::new(named)) }?)
}

/// Are there subvolumes in the subvolume `dir`? A snapshot has empty directories in their places.
///
/// # Errors
/// ENOTTY before Linux 4.18.
pub fn holds_subvolumes(dir: &Dir) -> io::Result<bool> {
    let mut below = Below { least: 0, found: [[0; 2]; 255], count: 0, unused: [0; 7] };
    // SAFETY: the kernel reads and writes a `btrfs_ioctl_get_subvol_rootref_args` for this opcode, which `Below` is.
    match unsafe { ioctl(dir, Updater::<BELOW, Below>::new(&mut below)) } {
        // More than fit.
        Err(Errno::OVERFLOW) => Ok(true),
        done => Ok(done.map(|()| below.count > 0)?),
    }
}

/// Makes `name` in `to` a subvolume that is what the subvolume `from` is now. They must lie on one filesystem.
///
/// # Errors
/// As mkdir(2); EXDEV.
pub fn snapshot(from: &Dir, to: &Dir, name: &[u8]) -> io::Result<()> {
    let fd = from.try_clone()?;
    let fd = std::os::fd::AsFd::as_fd(&fd).as_raw_fd().into();
    let arguments = Snapshot { fd, transaction: 0, flags: 0, unused: [0; 4], name: field(name)? };
    // SAFETY: the kernel reads a `btrfs_ioctl_vol_args_v2` for this opcode, which `Snapshot` is, with a descriptor that
    // is open; what it writes back goes to our copy of it, which `Setter` does not give out.
    Ok(unsafe { ioctl(to, Setter::<SNAPSHOT, Snapshot>::new(arguments)) }?)
}

/// Removes the subvolume `name` in `dir` with all that is in it. False: it is none, or has to be removed piece by piece.
///
/// # Errors
/// As stat(2).
pub fn remove_subvolume(dir: &Dir, name: &[u8]) -> io::Result<bool> {
    if dir.stat(name)?.ino != ROOT_INODE || !has_subvolumes(dir) {
        return Ok(false);
    }
    let named = Named { fd: 0, name: field(name)? };
    // SAFETY: as for `make_subvolume`.
    Ok(unsafe { ioctl(dir, Setter::<DESTROY, Named>::new(named)) }.is_ok())
}

/// A name as the kernel's structures hold it.
fn field<const N: usize>(name: &[u8]) -> Result<[u8; N], Errno> {
    let mut field = [0; N];
    // The last byte stays NUL.
    let place = field.get_mut(..name.len()).filter(|place| place.len() < N).ok_or(Errno::NAMETOOLONG)?;
    place.copy_from_slice(name);
    Ok(field)
}
