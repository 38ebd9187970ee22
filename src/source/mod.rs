// SPDX-License-Identifier: ISC
//! Sources: things that yield a tree and can open its contents. There are two, archives and directories.
#![forbid(unsafe_code)]

pub mod archive;
pub mod dir;
pub mod fetch;
