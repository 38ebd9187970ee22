// SPDX-License-Identifier: ISC
//! Signatures and checksum lists. Pure: bytes in, verdict out.
#![forbid(unsafe_code)]
