// SPDX-License-Identifier: ISC
//! The stockade program.
#![forbid(unsafe_code)]

fn main() {}
