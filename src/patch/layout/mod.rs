// SPDX-License-Identifier: ISC
//! What OpenBSD's own tools take: mirrors of syspatch(8).
#![forbid(unsafe_code)]

mod syspatch;

pub use syspatch::{Official, mirror, official, publish_syspatch};
