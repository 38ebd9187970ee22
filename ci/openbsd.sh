#!/bin/sh
# SPDX-License-Identifier: ISC
# Types and lints of the OpenBSD build, checked from Linux: the standard library is built from source, because rustup
# ships none for OpenBSD. Nothing is linked, so no cross compiler is needed. Minutes when cold, seconds when warm.
set -eu
cd "$(dirname "$0")/.."
if command -v rustup >/dev/null; then
    rustup -q component add rust-src
fi
# Its own directory: the flags differ, and would have the native build made anew.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/openbsd" RUSTC_BOOTSTRAP=1
exec cargo clippy --locked -q -Zbuild-std=std,panic_abort --target x86_64-unknown-openbsd -- -D warnings
