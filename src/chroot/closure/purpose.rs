// SPDX-License-Identifier: ISC
//! Rules of programs that make a directory their root by themselves.
#![forbid(unsafe_code)]

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::chroot::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::recipe::Purpose;
use crate::sys;

/// Looks whether a jail at `root` can be what it is for; a root that exists counts too.
///
/// sshd(8) takes only a `ChrootDirectory` of which every directory on the way belongs to root and cannot be written to by
/// anybody else. systemd and the daemons of OpenBSD do not look, but trust the path as root all the same: who may rename
/// a directory on it says what they start. A directory with the sticky bit is safe from that. systemd resolves no link,
/// and daemons that gave up their rights still have to reach the root.
///
/// # Errors
/// [`ErrorKind::Refused`] naming the directory, with the command that mends it.
pub(crate) fn check(root: &Path, purpose: Option<Purpose>) -> Result<()> {
    let Some(purpose) = purpose else { return Ok(()) };
    let who = match purpose {
        Purpose::Sshd => "sshd refuses a ChrootDirectory below it",
        Purpose::Systemd => "systemd would trust a RootDirectory= below it",
        Purpose::Httpd => "httpd would trust a chroot below it",
    };
    for dir in root.ancestors() {
        let meta = match std::fs::symlink_metadata(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            meta => meta.on("stat", bytes(dir))?,
        };
        let shown = escape(bytes(dir));
        let refused = |reason: String, mend: String| {
            Err(Error::new(ErrorKind::Refused, reason)
                .at(bytes(dir))
                .hint(format!("{mend}; or put the jail elsewhere")))
        };
        if is_others(&meta, purpose) {
            let mend = format!("chown root {shown} && chmod go-w {shown}");
            return refused(format!("{who}: others than root can write there"), mend);
        }
        if purpose == Purpose::Httpd && meta.mode() & 0o001 == 0 {
            return refused("www has to reach the root, and may not pass".to_owned(), format!("chmod o+x {shown}"));
        }
    }
    Ok(())
}

/// Refuses a jail with a program that writes to memory which it executes, on a filesystem where OpenBSD lets none do so.
///
/// # Errors
/// [`ErrorKind::Refused`] naming the program and the mount.
pub(crate) fn check_wx(root: &Path, program: Option<&TreePath>) -> Result<()> {
    let Some(program) = program.filter(|_| sys::kernel().0 == "OpenBSD") else { return Ok(()) };
    let holds = |mount: &sys::Mount| root.starts_with(std::ffi::OsStr::from_bytes(&mount.target));
    let mounts = sys::mounts().on("getfsstat", bytes(root))?;
    let mount = mounts.into_iter().filter(holds).max_by_key(|mount| mount.target.len());
    let Some(mount) = mount.filter(|mount| !mount.options.split(',').any(|word| word.trim() == "wxallowed")) else {
        return Ok(());
    };
    let target = escape(&mount.target);
    let reason = format!("it writes to memory that it executes, and {target} is not mounted wxallowed");
    Err(Error::new(ErrorKind::Refused, reason).at(program).hint(format!("mount -u -o wxallowed {target}")))
}

/// May others than root write there, or move away what is in it?
fn is_others(meta: &Metadata, purpose: Purpose) -> bool {
    let sticky = meta.mode() & 0o1000 != 0 && purpose != Purpose::Sshd;
    meta.uid() != 0 || (meta.mode() & 0o022 != 0 && !sticky)
}
