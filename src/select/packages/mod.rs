// SPDX-License-Identifier: ISC
//! The host's package database (dpkg) as a selector.
#![forbid(unsafe_code)]
