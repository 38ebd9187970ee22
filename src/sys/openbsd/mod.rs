// SPDX-License-Identifier: ISC
//! OpenBSD.

mod enter;
mod occupants;

pub(super) use enter::set_credentials;
pub use enter::{MOUNT_POINTS, SEARCH_PATH, enter};
pub use occupants::occupants;
