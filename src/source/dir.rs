// SPDX-License-Identifier: ISC
//! Directories as sources: scan and hashing.
#![forbid(unsafe_code)]
