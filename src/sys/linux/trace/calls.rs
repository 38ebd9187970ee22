// SPDX-License-Identifier: ISC
//! System calls that name paths: which they are, where the path stands in them, and whether they change what is there.

use std::ffi::{c_int, c_long};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use crate::sys::traced::Traced;

/// The longest path that the kernel takes.
const MAX_PATH: usize = 4096;

/// What a call does with its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Reads,
    Changes,
    /// What the flags of open(2) say, in the argument of this number.
    Opens(usize),
    /// As that, where the argument is the address of an `open_how`.
    OpensHow(usize),
}

/// System calls with a directory and a path: number, which argument the path is (the directory is the one before), use.
const AT: &[(c_long, usize, Use)] = &[
    (libc::SYS_openat, 1, Use::Opens(2)),
    (libc::SYS_openat2, 1, Use::OpensHow(2)),
    (libc::SYS_newfstatat, 1, Use::Reads),
    (libc::SYS_statx, 1, Use::Reads),
    (libc::SYS_faccessat, 1, Use::Reads),
    (libc::SYS_faccessat2, 1, Use::Reads),
    (libc::SYS_readlinkat, 1, Use::Reads),
    (libc::SYS_execveat, 1, Use::Reads),
    (libc::SYS_mkdirat, 1, Use::Changes),
    (libc::SYS_mknodat, 1, Use::Changes),
    (libc::SYS_unlinkat, 1, Use::Changes),
    (libc::SYS_symlinkat, 2, Use::Changes),
    (libc::SYS_linkat, 3, Use::Changes),
    // Where it goes; where it came from is written to as well.
    (libc::SYS_renameat2, 3, Use::Changes),
    #[cfg(not(target_arch = "riscv64"))]
    (libc::SYS_renameat, 3, Use::Changes),
    (libc::SYS_fchmodat, 1, Use::Changes),
    (libc::SYS_fchownat, 1, Use::Changes),
    (libc::SYS_utimensat, 1, Use::Changes),
];
/// System calls with a path alone: number, which argument it is, use.
#[cfg(target_arch = "x86_64")]
const PLAIN: [(c_long, usize, Use); 18] = [
    (libc::SYS_execve, 0, Use::Reads),
    (libc::SYS_chdir, 0, Use::Reads),
    (libc::SYS_open, 0, Use::Opens(1)),
    (libc::SYS_stat, 0, Use::Reads),
    (libc::SYS_lstat, 0, Use::Reads),
    (libc::SYS_access, 0, Use::Reads),
    (libc::SYS_readlink, 0, Use::Reads),
    (libc::SYS_creat, 0, Use::Changes),
    (libc::SYS_truncate, 0, Use::Changes),
    (libc::SYS_mkdir, 0, Use::Changes),
    (libc::SYS_rmdir, 0, Use::Changes),
    (libc::SYS_unlink, 0, Use::Changes),
    (libc::SYS_mknod, 0, Use::Changes),
    (libc::SYS_symlink, 1, Use::Changes),
    (libc::SYS_link, 1, Use::Changes),
    (libc::SYS_rename, 1, Use::Changes),
    (libc::SYS_chmod, 0, Use::Changes),
    (libc::SYS_chown, 0, Use::Changes),
];
#[cfg(not(target_arch = "x86_64"))]
const PLAIN: [(c_long, usize, Use); 3] =
    [(libc::SYS_execve, 0, Use::Reads), (libc::SYS_chdir, 0, Use::Reads), (libc::SYS_truncate, 0, Use::Changes)];

/// Is this the machine that we are for (`AUDIT_ARCH_*`)?
pub(super) fn is_native(arch: u32) -> bool {
    let own = match std::env::consts::ARCH {
        "x86_64" => 0xc000_003e,
        "aarch64" => 0xc000_00b7,
        "riscv64" => 0xc000_00f3,
        "powerpc64" => 0xc000_0015,
        "s390x" => 0x8000_0016,
        _ => return true,
    };
    arch & !0x4000_0000 == own & !0x4000_0000
}

/// The path that a call is about; none for calls about something else.
pub(super) fn call(pid: c_int, number: u64, args: &[u64; 6], prefix: &[u8]) -> Option<Traced> {
    let number = c_long::try_from(number).ok()?;
    let find = |table: &[(c_long, usize, Use)]| table.iter().find(|(known, ..)| *known == number).copied();
    let (at, path, what) = match (find(AT), find(&PLAIN)) {
        (Some((_, path, what)), _) => (true, path, what),
        (None, Some((_, path, what))) => (false, path, what),
        (None, None) => return None,
    };
    let text = string(pid, args[path])?;
    let dir = if at { i64::from(args[path - 1] as i32) } else { i64::from(libc::AT_FDCWD) };
    let whole = if text.starts_with(b"/") {
        text
    } else {
        let link = match i32::try_from(dir) {
            Ok(libc::AT_FDCWD) => format!("/proc/{pid}/cwd"),
            _ => format!("/proc/{pid}/fd/{dir}"),
        };
        let dir = std::fs::read_link(link).ok()?.into_os_string().into_vec();
        let dir = dir.strip_prefix(prefix).unwrap_or(&dir);
        if text.is_empty() { dir.to_vec() } else { [dir, b"/", &text].concat() }
    };
    let opens = |flags: c_int| flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
    let written = match what {
        Use::Reads => false,
        Use::Changes => true,
        Use::Opens(flags) => opens(args[flags] as c_int),
        // Its first member is the flags, in eight bytes.
        Use::OpensHow(how) => opens(c_int::from_ne_bytes(bytes(pid, args[how])?)),
    };
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string().into_vec();
    let program = program.strip_prefix(prefix).map_or(program.clone(), <[u8]>::to_vec);
    Some(Traced { program, path: whole, missing: false, written })
}

/// The lowest four bytes of a number at this address of the process.
fn bytes(pid: c_int, address: u64) -> Option<[u8; 4]> {
    let mut number = [0; 8];
    std::fs::File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut number, address).ok()?;
    (u64::from_ne_bytes(number) as u32).to_ne_bytes().into()
}

/// The string at this address of the process.
fn string(pid: c_int, address: u64) -> Option<Vec<u8>> {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text = Vec::new();
    while text.len() < MAX_PATH {
        // Never beyond a page: the next one need not be there.
        let at = address + text.len() as u64;
        let mut page = [0; 4096];
        let room = 4096 - usize::try_from(at % 4096).unwrap_or(0);
        let read = memory.read_at(&mut page[..room], at).ok().filter(|&read| read > 0)?;
        let end = page[..read].iter().position(|&b| b == 0);
        text.extend_from_slice(&page[..end.unwrap_or(read)]);
        if end.is_some() {
            return Some(text);
        }
    }
    None
}
