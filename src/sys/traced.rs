// SPDX-License-Identifier: ISC
//! What a traced program did with a path: the same on both systems.

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
