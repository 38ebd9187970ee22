// SPDX-License-Identifier: ISC
//! OpenBSD.

mod enter;
mod occupants;

pub(super) use enter::set_credentials;
pub use enter::{MOUNT_POINTS, SEARCH_PATH, USER_NAMESPACE_SETTINGS, can_enter, enter};

/// There are no extended attributes.
pub const HAS_XATTRS: bool = false;

pub use occupants::occupants;
