// SPDX-License-Identifier: ISC
//! The mount table (getfsstat(2), which unlike getmntinfo(3) keeps no buffer that threads would share).

use std::io;
use std::mem::MaybeUninit;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What of the filesystem is mounted: always all of it.
    pub root: Vec<u8>,
    /// Where it is mounted: an absolute path.
    pub target: Vec<u8>,
    /// The filesystem's type: `ffs`, `mfs`.
    pub kind: String,
    /// What is mounted: a device, or a name.
    pub source: Vec<u8>,
    /// Options, comma separated, in the words of mount(8).
    pub options: String,
}

const OPTIONS: &[(libc::c_int, &str)] = &[
    (libc::MNT_RDONLY, "read-only"),
    (libc::MNT_NODEV, "nodev"),
    (libc::MNT_NOEXEC, "noexec"),
    (libc::MNT_NOSUID, "nosuid"),
    (libc::MNT_WXALLOWED, "wxallowed"),
    (libc::MNT_NOPERM, "noperm"),
    (libc::MNT_NOATIME, "noatime"),
    (libc::MNT_SYNCHRONOUS, "synchronous"),
    (libc::MNT_ASYNC, "asynchronous"),
    (libc::MNT_LOCAL, "local"),
];

/// All mounts.
///
/// # Errors
/// As getfsstat(2).
pub fn mounts() -> io::Result<Vec<Mount>> {
    let mut table: Vec<MaybeUninit<libc::statfs>> = Vec::new();
    loop {
        // SAFETY: the kernel writes at most the given number of bytes to the buffer; with none, it only counts.
        let found = unsafe {
            let buffer = if table.is_empty() { std::ptr::null_mut() } else { table.as_mut_ptr().cast() };
            libc::getfsstat(buffer, std::mem::size_of_val(&*table), libc::MNT_NOWAIT)
        };
        let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        if found < table.len() {
            // SAFETY: the kernel filled in this many.
            return Ok(table[..found].iter().map(|entry| mount(unsafe { entry.assume_init_ref() })).collect());
        }
        // Room for one more shows, the next time, that none was left out.
        table = Vec::new();
        table.resize_with(found + 1, MaybeUninit::uninit);
    }
}

fn mount(entry: &libc::statfs) -> Mount {
    let set = OPTIONS.iter().filter(|(flag, _)| entry.f_flags & *flag as u32 != 0);
    Mount {
        root: b"/".to_vec(),
        target: text(&entry.f_mntonname).to_vec(),
        kind: String::from_utf8_lossy(text(&entry.f_fstypename)).into_owned(),
        source: text(&entry.f_mntfromname).to_vec(),
        options: set.map(|(_, word)| *word).collect::<Vec<_>>().join(","),
    }
}

/// The bytes of a C string in an array.
pub(super) fn text(array: &[libc::c_char]) -> &[u8] {
    // SAFETY: `c_char` and `u8` have the same size and alignment, and every value of the one is one of the other.
    let bytes = unsafe { std::slice::from_raw_parts(array.as_ptr().cast::<u8>(), array.len()) };
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
