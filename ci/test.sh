#!/bin/sh
# SPDX-License-Identifier: ISC
# The whole check, on a bare Debian machine with Rust: installs what the tests need, then runs everything.
# Tests that cannot run here fail instead of being skipped.
set -eu
cd "$(dirname "$0")/.."
export CI=true

# Each line: a program or file that tells whether the package is there, and the package.
needs='
/usr/bin/mmdebstrap mmdebstrap
/usr/bin/mtree mtree-netbsd
/usr/bin/bsdtar libarchive-tools
/usr/bin/rsync rsync
/usr/bin/signify-openbsd signify-openbsd
/usr/share/signify-openbsd-keys signify-openbsd-keys
/usr/bin/mandoc mandoc
/usr/bin/zstd zstd
/usr/bin/xz xz-utils
/usr/bin/setfattr attr
/usr/bin/setfacl acl
/usr/sbin/setcap libcap2-bin
/usr/bin/strace strace
/usr/bin/busybox busybox-static
/usr/bin/unshare util-linux
/usr/bin/newuidmap uidmap
/usr/bin/cc gcc
/usr/bin/gawk gawk
/usr/bin/make make
/usr/bin/patch patch
/usr/bin/python3 python3
/usr/share/doc/libc6-dev libc6-dev
/usr/bin/curl curl
/usr/bin/pgrep procps
/usr/sbin/nginx nginx-light
/usr/share/doc/php-fpm php-fpm
/usr/share/doc/php-pgsql php-pgsql
/usr/share/doc/postgresql postgresql
/usr/bin/msmtp msmtp
/usr/sbin/sshd openssh-server
/usr/bin/sftp openssh-client
/usr/bin/gunicorn gunicorn
/usr/sbin/fcgiwrap fcgiwrap
/usr/share/perl5/CGI.pm libcgi-pm-perl
/usr/sbin/mkfs.ext4 e2fsprogs
/usr/sbin/mkfs.xfs xfsprogs
/usr/sbin/mkfs.btrfs btrfs-progs
'
missing=$(echo "$needs" | while read -r sign package; do
    [ -z "$sign" ] || [ -e "$sign" ] || [ -e "${sign#/usr}" ] || echo "$package"
done)
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "ci/test.sh: as root, install:" $missing >&2
        exit 1
    fi
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
fi
command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest

step() {
    echo "==> $*"
    began=$(date +%s)
    "$@"
    echo "    $(($(date +%s) - began)) s"
}
step cargo fmt --check
step cargo clippy --locked --all-targets -q -- -D warnings
step cargo build --locked -q
# Beside the tests, which wait more than they compute. Its own target directory keeps it from waiting for them.
if [ -x ci/openbsd.sh ]; then
    log="${CARGO_TARGET_DIR:-target}/openbsd.log"
    ci/openbsd.sh > "$log" 2>&1 &
    openbsd=$!
    trap 'kill "$openbsd" 2>/dev/null || true' EXIT
fi
step cargo nextest run --locked --no-fail-fast
# The engine and the verbs on files once more, with those calls only that other systems have too.
step env STOCKADE_PORTABLE=1 cargo nextest run --locked \
    -E 'test(/^apply::|^source::dir/) or binary(/^(crash|build_safety|build_refresh|clone|copy|reset|verbs)$/)'
step cargo test --locked --doc -q
step mandoc -T lint -W warning man/*.[0-9]
if [ -n "${openbsd:-}" ]; then
    echo "==> ci/openbsd.sh"
    wait "$openbsd" || { cat "$log"; exit 1; }
fi
# Installing it takes longer than all the rest; it is run where it is.
if command -v cargo-deny >/dev/null; then step cargo deny check licenses bans sources; fi
echo "==> all good"
