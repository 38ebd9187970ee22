// SPDX-License-Identifier: ISC
//! Archives of any kind: `invariants::tar` (a sound tree, or refused); never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::tar(data));
