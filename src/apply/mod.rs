// SPDX-License-Identifier: ISC
//! Apply: check, stage, commit, undo. The one effect.
#![forbid(unsafe_code)]
