// SPDX-License-Identifier: ISC
//! There is no tracing of system calls by path.

use std::io;
use std::process::ExitStatus;

use crate::sys::{Dir, Traced};

/// Refuses.
///
/// # Errors
/// Always [`io::ErrorKind::Unsupported`].
pub fn trace(
    _argv: &[Vec<u8>],
    _root: Option<&Dir>,
    _user: Option<(u32, u32)>,
    _seen: &mut dyn FnMut(Traced),
) -> io::Result<ExitStatus> {
    Err(io::ErrorKind::Unsupported.into())
}
