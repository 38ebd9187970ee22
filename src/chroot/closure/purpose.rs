// SPDX-License-Identifier: ISC
//! Rules of programs that make a directory their root by themselves.
#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::chroot::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::recipe::Purpose;

/// Looks whether a jail at `root` can be what it is for. sshd(8) takes only a `ChrootDirectory` of which every directory
/// on the way belongs to root and cannot be written to by anybody else; a root that exists counts too.
///
/// # Errors
/// [`ErrorKind::Refused`] naming the directory, with the command that mends it.
pub(crate) fn check(root: &Path, purpose: Option<Purpose>) -> Result<()> {
    if purpose != Some(Purpose::Sshd) {
        return Ok(());
    }
    for dir in root.ancestors() {
        let meta = match std::fs::symlink_metadata(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            meta => meta.on("stat", bytes(dir))?,
        };
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            let reason = "sshd refuses a ChrootDirectory below it: others than root can write there";
            let shown = escape(bytes(dir));
            let hint = format!("chown root {shown} && chmod go-w {shown}; or put the jail elsewhere");
            return Err(Error::new(ErrorKind::Refused, reason).at(bytes(dir)).hint(hint));
        }
    }
    Ok(())
}
