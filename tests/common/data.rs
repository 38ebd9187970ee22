// SPDX-License-Identifier: ISC
//! Real data that is not part of the project: signed errata, keys, vectors, tables.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

/// What is there `below` the directory that STOCKADE_TESTDATA names, or else beside the project; without it a test is
/// skipped, which this says.
pub(crate) fn test_data(below: &str) -> Option<PathBuf> {
    let named = std::env::var_os("STOCKADE_TESTDATA").map(PathBuf::from);
    let path = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/testdata")).join(below);
    let found = path.exists();
    if !found {
        eprintln!("SKIPPED: {} is missing (set STOCKADE_TESTDATA)", path.display());
    }
    found.then_some(path)
}
