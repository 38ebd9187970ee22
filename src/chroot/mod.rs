// SPDX-License-Identifier: ISC
//! What Stockade knows of a chroot and does with it: build, check, remove, list, why.
//!
//! Every verb is a composition of three trees: what there is, what was recorded, what is wanted.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod made;
mod place;

pub use place::{Home, Place};
