// SPDX-License-Identifier: ISC
//! Packing lists of OpenBSD's packages: `invariants::packing_list` (paths stay below the root); never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::packing_list(data));
