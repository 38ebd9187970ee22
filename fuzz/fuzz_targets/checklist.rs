// SPDX-License-Identifier: ISC
//! Checksum lists: `invariants::checklist` (twice the list is the same list); never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::checklist(data));
