// SPDX-License-Identifier: ISC
//! Keys and signatures: `invariants::signify` (nothing verifies but what was signed); never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::signify(data));
