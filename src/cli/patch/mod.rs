// SPDX-License-Identifier: ISC
//! `stockade patch`: one file a verb below it.
#![forbid(unsafe_code)]

pub(super) mod args;
mod show;
mod verify;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cli::Exit;
use crate::cli::out::Out;
use crate::error::{IoContext, Result};
use args::{Patch, PatchVerb};

pub(super) fn run(args: &Patch, out: &mut Out) -> Result<Exit> {
    match &args.verb {
        PatchVerb::Show(args) => show::run(args, out),
        PatchVerb::Verify(args) => verify::run(args, out),
    }
}

/// Opens a patch to be read forward; `-` is standard input.
fn open(file: &Path) -> Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    Ok(Box::new(BufReader::new(File::open(file).on("open", file.as_os_str().as_bytes())?)))
}
