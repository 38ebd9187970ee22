// SPDX-License-Identifier: ISC
//! Manifests of patches, indexes of repositories and patch files: `invariants::patch`; never a panic.
#![no_main]

#[path = "../invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::patch(data));
