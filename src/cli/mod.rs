// SPDX-License-Identifier: ISC
//! The command line: the only place that prints, prompts or draws progress.
#![forbid(unsafe_code)]
