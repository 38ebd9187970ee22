// SPDX-License-Identifier: ISC
//! Sessions: running things inside a chroot.
#![forbid(unsafe_code)]
