#!/bin/sh
# SPDX-License-Identifier: ISC
# The OpenBSD build, made on Linux: types and lints, then a real link against OpenBSD's own list of libc's symbols, and
# a look at what came out. The standard library is built from source, because rustup ships none for OpenBSD; compiler
# and linker are zig's, which PyPI has. Minutes when cold, seconds when warm.
set -eu
cd "$(dirname "$0")/.."
release=7.8 target=x86_64-unknown-openbsd zig=0.17.1

if command -v rustup >/dev/null; then
    rustup -q component add rust-src
fi
# Its own directory: the flags differ, and would have the native build made anew.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/openbsd" RUSTC_BOOTSTRAP=1
# Nobody debugs it here, and a link without that is a fraction of the work.
export CARGO_PROFILE_DEV_DEBUG=0
mkdir -p "$CARGO_TARGET_DIR"
tools="$(cd "$CARGO_TARGET_DIR" && pwd)/zig-$zig"

if [ ! -e "$tools/done" ]; then
    if python3 -m pip install -q --disable-pip-version-check --target "$tools" "ziglang==$zig"; then
        touch "$tools/done"
    elif [ "${CI:-}" = true ]; then
        echo "openbsd.sh: pip cannot fetch ziglang: nothing can be linked" >&2
        exit 1
    else
        echo "SKIPPED: pip cannot fetch ziglang, so that nothing is linked" >&2
    fi
fi
if [ -e "$tools/done" ]; then
    # cc-rs has --target in its own spelling.
    cat > "$tools/cc" <<WRAPPER
#!/bin/sh
for word; do case "\$word" in --target=*) ;; *) set -- "\$@" "\$word";; esac; shift; done
PYTHONPATH="$tools" ZIG_GLOBAL_CACHE_DIR="$tools/cache" exec python3 -m ziglang cc -target x86_64-openbsd.$release "\$@"
WRAPPER
    chmod +x "$tools/cc"
    export CC_x86_64_unknown_openbsd="$tools/cc" AR_x86_64_unknown_openbsd=ar
    export CARGO_TARGET_X86_64_UNKNOWN_OPENBSD_LINKER="$tools/cc"
fi

cargo clippy --locked -q -Zbuild-std=std,panic_abort --target $target -- -D warnings
[ -e "$tools/done" ] || exit 0

cargo build --locked -q -Zbuild-std=std,panic_abort --target $target
binary="$CARGO_TARGET_DIR/$target/debug/stockade"
fail() { echo "openbsd.sh: $binary: $1" >&2; exit 1; }
# Without the note the kernel does not take it for a program of its own.
readelf -n "$binary" | grep -q OpenBSD || fail "the note of OpenBSD is missing"
readelf -l "$binary" | grep -q 'interpreter: /usr/libexec/ld.so' || fail "another interpreter than ld.so"
needed=$(readelf -d "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
# What every system has; a library of the build host, or of a package, would be one more.
for library in $needed; do
    case "$library" in
    libc.so*|libm.so*|libpthread.so*|libutil.so*|libc++abi.so*|libexecinfo.so*) ;;
    *) fail "it needs $library, which base does not have" ;;
    esac
done
echo "$needed" | grep -q '^libc\.so' || fail "it is not linked to libc"
