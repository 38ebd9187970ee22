// SPDX-License-Identifier: ISC
//! There is no tracing of system calls by path.

use std::io;
use std::process::ExitStatus;

use crate::sys::traced::{Traced, Tracing};

/// Refuses.
///
/// # Errors
/// Always [`io::ErrorKind::Unsupported`].
pub fn trace(_run: &Tracing<'_>, _seen: &mut dyn FnMut(Traced)) -> io::Result<ExitStatus> {
    Err(io::ErrorKind::Unsupported.into())
}
