// SPDX-License-Identifier: ISC
//! What a traced program did with a path: the same on both systems.

use std::sync::atomic::AtomicBool;

use super::Dir;

/// A program to trace.
#[derive(Debug, Clone, Copy)]
pub struct Tracing<'a> {
    /// It and its arguments.
    pub argv: &'a [Vec<u8>],
    /// Its root, where it gets no environment of ours; none: the host, and the caller's environment.
    pub root: Option<&'a Dir>,
    /// User and group that it runs as.
    pub user: Option<(u32, u32)>,
    /// What it says goes to standard error: standard output is for something else.
    pub aside: bool,
    /// Once this is set, it is killed with all that it started.
    pub stop: &'a AtomicBool,
}

/// A path that a program, or one that it started, handed to the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// The program that did it: its file, absolute.
    pub program: Vec<u8>,
    /// The path, absolute as the program sees it.
    pub path: Vec<u8>,
    /// Nothing was there (ENOENT).
    pub missing: bool,
    /// It was opened to be written to, or made.
    pub written: bool,
}
