// SPDX-License-Identifier: ISC
//! Archives as sources: tar in its dialects, plain or compressed, and .deb.
#![forbid(unsafe_code)]
