// SPDX-License-Identifier: ISC
//! The stockade program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    stockade::cli::main(std::env::args_os())
}
