// SPDX-License-Identifier: ISC
//! The user and group numbers that a chroot was made with (decision S4): the manifest holds those inside, which are others
//! outside. With another map every owner would look wrong.
#![forbid(unsafe_code)]

use super::place::bytes;
use super::state::State;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::session;
use crate::sys;

/// The state file that holds them.
pub(crate) const NUMBERS: &str = "numbers";

/// Ours, as they are recorded.
pub(crate) fn ours() -> Result<String> {
    Ok(format!("{}\n", sys::id_map().on("read", "/proc/self/uid_map")?))
}

/// Refuses a chroot that was made with others.
///
/// # Errors
/// [`ErrorKind::Refused`], with the numbers; [`ErrorKind::Unsupported`] for a user who cannot have them.
pub(crate) fn must_be_ours(state: &State) -> Result<()> {
    let Some(recorded) = state.read(NUMBERS)? else { return Ok(()) };
    let (theirs, ours) = (String::from_utf8_lossy(&recorded), ours()?);
    if theirs == ours {
        return Ok(());
    }
    if sys::effective_uid() != 0 {
        return Err(session::forbidden().at(bytes(&state.path)));
    }
    let reason = format!("it was made with the numbers of {}; yours are those of {}", theirs.trim(), ours.trim());
    let error = Error::new(ErrorKind::Refused, reason).at(bytes(&state.path));
    Err(error.hint("run it as the user who made it, with the lines of /etc/subuid and /etc/subgid of that time"))
}
