// SPDX-License-Identifier: ISC
//! The manifest: the text form of a tree, in mtree(5) syntax.
#![forbid(unsafe_code)]
