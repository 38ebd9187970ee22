// SPDX-License-Identifier: ISC
//! The outside of a .deb (deb(5)): an ar archive of `debian-binary`, `control.tar*` and `data.tar*`, in this order.
#![forbid(unsafe_code)]

use std::io::{BufRead, Read, Take};

use super::{bad, refused};
use crate::error::Result;

const MAGIC: usize = 8;
const HEADER: usize = 60;
/// More members than this before the data are no package.
const MAX_MEMBERS: usize = 64;

/// Advances `package` to its `data.tar*` and returns that member.
pub(super) fn data<R: BufRead>(package: &mut R) -> Result<Take<&mut R>> {
    skip(package, MAGIC as u64)?;
    for index in 0..MAX_MEMBERS {
        let mut header = [0; HEADER];
        package.read_exact(&mut header).map_err(|_| bad("the package is cut short before its data"))?;
        let (name, size) = member(&header)?;
        match (index, name) {
            (0, b"debian-binary") => version(package, size)?,
            (0, _) => return Err(refused("an ar archive that is no Debian package")),
            (_, name) if name.starts_with(b"data.tar") => return Ok(package.take(size)),
            _ => skip(package, size.next_multiple_of(2))?,
        }
    }
    Err(bad("the package has no data"))
}

/// Name and size of a member: 16 bytes of name, padded by blanks; at 48 ten decimal digits of size; at 58 a mark.
fn member(header: &[u8; HEADER]) -> Result<(&[u8], u64)> {
    let broken = || bad("the package has a broken member header");
    if header[58..] != *b"`\n" {
        return Err(broken());
    }
    let name = header[..16].trim_ascii_end();
    let size = std::str::from_utf8(header[48..58].trim_ascii_end()).ok().filter(|s| !s.starts_with('+'));
    let size = size.and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    Ok((name.strip_suffix(b"/").unwrap_or(name), size))
}

fn version<R: BufRead>(package: &mut R, size: u64) -> Result<()> {
    let mut text = Vec::new();
    package.by_ref().take(size.min(16)).read_to_end(&mut text).map_err(|e| bad(format!("read: {e}")))?;
    if !text.starts_with(b"2.") || size > 16 {
        return Err(refused("a Debian package of another format than 2"));
    }
    skip(package, size % 2)
}

fn skip<R: BufRead>(package: &mut R, length: u64) -> Result<()> {
    let done = std::io::copy(&mut package.by_ref().take(length), &mut std::io::sink());
    match done {
        Ok(n) if n == length => Ok(()),
        Ok(_) => Err(bad("the package is cut short before its data")),
        Err(e) => Err(bad(format!("read: {e}"))),
    }
}
