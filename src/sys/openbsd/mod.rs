// SPDX-License-Identifier: ISC
//! OpenBSD.
