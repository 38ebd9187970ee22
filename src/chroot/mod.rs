// SPDX-License-Identifier: ISC
//! What Stockade knows of a chroot and does with it: build, check, clone, reset, remove, list, why.
//!
//! Every verb is a composition of three trees: what there is, what was recorded, what is wanted.
#![forbid(unsafe_code)]

pub mod accounts;
mod actions;
pub mod adopt;
mod areas;
mod bodies;
pub mod build;
mod built;
mod cache;
mod carry;
pub mod check;
pub mod clone;
pub mod closure;
mod compose;
pub mod copy;
mod devices;
pub mod disk;
pub mod doctor;
mod foreign;
mod guard;
mod host;
mod identity;
mod ingest;
mod inside;
mod layer;
mod layers;
pub mod list;
mod login;
pub mod made;
mod mapped;
mod mirror;
mod needs;
mod numbers;
mod open;
pub mod origin;
pub mod patch;
mod place;
mod proof;
pub mod record;
mod recorded;
pub mod recover;
mod register;
pub(crate) mod release;
pub mod remove;
pub mod reset;
pub mod sessions;
mod sets;
mod state;
mod swap;
mod work;

pub use open::{Chroot, Locking};
pub use place::{Home, Place};
