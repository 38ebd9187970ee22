# SPDX-License-Identifier: ISC
# A test host: this machine as it is, behind an overlay in memory, with processes, mounts and a network of its own.
# What a test does to it, accounts and packages included, is gone with it.
#
# usage: unshare -m -n -p -f --kill-child --propagation private sh host.sh SCRIPT DIR
#   SCRIPT is run in the host by root, in /srv, which is in memory; DIR is empty and is used to mount on.
set -eu
if [ "${1:-}" != inside ]; then
    script=$1 dir=$2
    mount -t tmpfs -o mode=755 none "$dir"
    mkdir "$dir/upper" "$dir/work" "$dir/host"
    mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" none "$dir/host"
    mount --rbind /dev "$dir/host/dev"
    mount --rbind /sys "$dir/host/sys"
    mount -t proc none "$dir/host/proc"
    for place in srv tmp run; do mount -t tmpfs -o mode=755 none "$dir/host/$place"; done
    chmod 1777 "$dir/host/tmp"
    # What is tested may lie below one of those places.
    for at in "$(dirname "$(realpath "$script")")" "$(dirname "$STOCKADE")"; do
        mkdir -p "$dir/host$at"
        mount --bind "$at" "$dir/host$at"
    done
    busybox ip link set lo up
    exec chroot "$dir/host" sh "$(realpath "$0")" inside "$(realpath "$script")"
fi

here=$(dirname "$2")
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export STOCKADE_HOME=/srv/home TMPDIR=/tmp LC_ALL=C DEBIAN_FRONTEND=noninteractive
unset PGHOST PGPORT PGUSER PGDATABASE
cd /srv

# until_works COMMAND...: waits until it does, 20 seconds at most.
until_works() (
    set +x
    tries=200
    until "$@" >/tmp/tried 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { cat /tmp/tried; exit 1; }
        sleep 0.1
    done
)

# stop PID...: ends what was started, and waits for it.
stop() {
    kill "$@"
    for pid; do wait "$pid" || true; done
}

# differs COMMAND...: it must end with status 2; what it prints.
differs() {
    status=0
    "$@" || status=$?
    [ $status = 2 ] || { echo "status $status, not 2: $*"; return 1; }
}

# refused COMMAND...: it must end with status 1; what it prints.
refused() {
    status=0
    "$@" || status=$?
    [ $status = 1 ] || { echo "status $status, not 1: $*"; return 1; }
}

# lacks WORD FILE
lacks() {
    if grep -e "$1" "$2"; then return 1; fi
}

# upgrade PACKAGE...: installs a newer version of each, with files of other bytes and all else as it is.
upgrade() {
    for package; do
        rm -rf /tmp/package
        mkdir -p /tmp/package/DEBIAN
        version=$(dpkg-query -f '${Version}' -W "$package")
        dpkg-query -s "$package" | sed -e '/^Status:/d; /^Conffiles:/,/^[^ ]/{/^Conffiles:/d; /^ /d}' \
            -e "s/^Version: .*/Version: $version+upgraded/" > /tmp/package/DEBIAN/control
        dpkg-query -L "$package" | grep -v '^/etc' | while read -r path; do
            if [ -L "$path" ] || [ -f "$path" ]; then echo "${path#/}"; fi
        done > /tmp/files
        tar -C / --no-recursion -cf - -T /tmp/files | tar -C /tmp/package -xf -
        # What comes after the sections of a program or library is never looked at.
        find /tmp/package/usr /tmp/package/lib -type f \( -name '*.so*' -o -perm /111 \) -size +16k 2>/dev/null |
            while read -r file; do
                if head -c 4 "$file" | grep -q ELF; then printf 'upgraded' >> "$file"; fi
            done
        dpkg-deb --root-owner-group -b /tmp/package "/tmp/$package.deb" >/dev/null
        apt-get -qq -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold install "/tmp/$package.deb"
        [ "$(dpkg-query -f '${Version}' -W "$package")" = "$version+upgraded" ]
    done
}

# breaks_and_mends PATH LIBRARY: without it, `check` says so; a build brings it back.
breaks_and_mends() {
    path=$(cd "$1" && find . -name "$2" -type f | head -1)
    [ -n "$path" ]
    rm "$1/$path"
    differs "$STOCKADE" check "$1" > said
    grep -F -- "- ${path#./}" said
    "$STOCKADE" build "$1"
    "$STOCKADE" check "$1"
}

set -x
. "$2"
