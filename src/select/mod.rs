// SPDX-License-Identifier: ISC
//! Selectors: things that yield a set of paths out of a tree.
#![forbid(unsafe_code)]

pub mod closure;
pub mod elf;
pub mod locate;
pub mod packages;
