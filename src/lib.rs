// SPDX-License-Identifier: ISC
//! Stockade builds chroots, keeps them true to a recipe and runs things in them.
//!
//! One idea carries everything: *everything is a tree*. [`tree::Tree`] is a sorted list of paths with metadata and
//! content hashes, [`plan::Plan`] is the difference of two trees, and [`apply`] is the one effect that carries it out.
//! The modules form floors; a module uses only floors below its own (`tests/tidy.rs` checks it):
//!
//! | floor | modules |
//! | --- | --- |
//! | 7 | `cli` |
//! | 5 | [`chroot`], [`session`] |
//! | 4 | [`recipe`], [`patch`] |
//! | 3 | [`source`], [`select`], [`apply`] |
//! | 2 | [`sys`] |
//! | 1 | [`tree`], [`plan`], [`sign`] |
//! | 0 | [`error`], [`path`], [`watch`] |

pub mod apply;
pub mod chroot;
pub mod cli;
pub mod error;
pub mod patch;
pub mod path;
pub mod plan;
pub mod recipe;
pub mod select;
pub mod session;
pub mod sign;
pub mod source;
pub mod sys;
pub mod tree;
pub mod watch;

#[cfg(test)]
#[path = "../tests/common/data.rs"]
mod test_data;

pub use error::{Error, ErrorKind, Result};
