// SPDX-License-Identifier: ISC
//! A patch may be in a format that this program does not know yet, if the one before it brings a program that does
//! (decision 17).
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::own_program;

/// Set for a program that was started in place of one that it replaced: once is enough.
const RENEWED: &str = "STOCKADE_RENEWED";

/// The file that this process runs.
pub(super) struct Program {
    path: PathBuf,
    file: (u64, u64),
}

impl Program {
    /// To be asked before anything is applied.
    pub(super) fn running() -> Result<Program> {
        let path = own_program().on("readlink", "/proc/self/exe")?;
        let file = fs::metadata(&path).on("stat", path.as_os_str().as_bytes())?;
        Ok(Program { path, file: (file.dev(), file.ino()) })
    }

    /// Goes on as the program that is there now, if it is another; returns only if it is not, or cannot be started.
    pub(super) fn renew(&self) -> Result<()> {
        let shown = self.path.as_os_str().as_bytes();
        let now = fs::metadata(&self.path).on("stat", shown)?;
        if (now.dev(), now.ino()) == self.file || std::env::var_os(RENEWED).is_some() {
            return Ok(());
        }
        let error = Command::new(&self.path).args(std::env::args_os().skip(1)).env(RENEWED, "1").exec();
        Err(Error::new(ErrorKind::Io, format!("the new program does not start: {error}")).at(shown))
    }
}
