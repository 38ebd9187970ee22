// SPDX-License-Identifier: ISC
//! Recipes: TOML that says what a chroot is made of.
#![forbid(unsafe_code)]
