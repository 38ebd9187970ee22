// SPDX-License-Identifier: ISC
//! Manifests: `invariants::manifest` (text, tree, the same text); never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::manifest(data));
