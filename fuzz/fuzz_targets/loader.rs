// SPDX-License-Identifier: ISC
//! Recipes: `invariants::loader` (what is remembered reads back the same); never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::loader(data));
