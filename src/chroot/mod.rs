// SPDX-License-Identifier: ISC
//! What Stockade knows of a chroot and does with it.
#![forbid(unsafe_code)]
