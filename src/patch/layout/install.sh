#!/bin/sh
# Applies the patch that lies beside this, or takes it back: install | rollback.
# `rollback` holds what was there before, from before the first change on; `installed` is made after the last one.
set -eu
umask 022
cd "$(dirname "$0")"
root=${PKG_DESTDIR:-}

# What the patch brings, and what it removes: absolute paths.
brought() { tar tzf patch.tgz | sed -n '/[^/]$/s|^|/|p'; }
removed() { sed 's|^|/|' removed; }
exists() { [ -f "$1" ] || [ -h "$1" ]; }
same() {
    if [ -h "$1" ] && [ -h "$2" ]; then [ "$(readlink "$1")" = "$(readlink "$2")" ]
    else [ ! -h "$1" ] && [ ! -h "$2" ] && cmp -s "$1" "$2"
    fi
}
unpack() { rm -rf stage && mkdir -m 700 stage && tar xzpf patch.tgz -C stage; }

# From below one directory to below another; who runs or reads the old file goes on doing that.
copy() {
    mkdir -p "$(dirname "$2$3")" && rm -f "$2$3.new" && cp -RPp "$1$3" "$2$3.new" || return
    # mv would put it into the directory that a link leads to.
    if [ -h "$2$3" ]; then rm -f "$2$3"; fi
    mv -f "$2$3.new" "$2$3"
}

rollback() {
    rm -f installed failed
    unpack
    brought | while read -r file; do
        rm -f "$root$file.new" || :
        if exists "rollback$file" || ! exists "$root$file"; then continue; fi
        if same "stage$file" "$root$file"; then rm -f "$root$file"; else echo "changed since, and left: $file" >&2; fi
    done
    (cd rollback && find . ! -type d) | sed 's|^\.||' | while read -r file; do
        # What was not replaced needs no room, and nothing in its way to go.
        if same "rollback$file" "$root$file"; then continue; fi
        # What a later release or patch brought stays.
        if exists "$root$file" && ! same "stage$file" "$root$file"; then
            echo "changed since, and left: $file" >&2
            continue
        fi
        copy rollback "$root" "$file" || { echo "not brought back, see $PWD/rollback: $file" >&2; : > failed; }
    done
    # Directories that it made, the deepest first; what others put into them stays.
    own=$(dirname "$(tar tzf patch.tgz | sed 1q)")
    { tar tzf patch.tgz | sed -n 's|/$||p'; echo "$own"; echo "${own%/*}"; echo "${own%/*/*}"; } | sort -r |
        while read -r dir; do rmdir "$root/$dir" 2>/dev/null || :; done
    rm -rf stage
    [ ! -e failed ] || return 1
    rm -rf rollback
}

case ${1:-} in
install)
    [ ! -e installed ] || exit 0
    # What an interrupted one did is taken back first.
    if [ -d rollback ]; then rollback; fi
    rm -rf rollback.new
    mkdir -m 700 rollback.new
    unpack
    there=$(brought | while read -r file; do [ ! -f "$root$file" ] || echo "$file"; done)
    if [ -z "$there" ]; then
        echo "none of its files is installed here"
        rm -rf stage rollback.new
        exit
    fi
    { brought; removed; } | while read -r file; do
        if exists "$root$file"; then copy "$root" rollback.new "$file"; fi
    done
    mv rollback.new rollback
    sync
    if brought | while read -r file; do copy stage "$root" "$file" || exit 1; done &&
        removed | while read -r file; do rm -f "$root$file" || exit 1; done
    then
        sync
        : > installed
        rm -rf stage
    else
        rollback || :
        exit 1
    fi
    ;;
rollback)
    if [ -d rollback ]; then rollback; fi
    rm -f installed
    ;;
*)
    echo "usage: $0 install | rollback" >&2
    exit 1
    ;;
esac
