#!/bin/sh
# Applies the patch that lies beside this, or takes it back: install | rollback.
set -eu
umask 022
cd "$(dirname "$0")"
root=${PKG_DESTDIR:-}

# What the patch brings, and what it removes: absolute paths.
brought() { tar tzf patch.tgz | sed -n '/[^/]$/s|^|/|p'; }
removed() { sed 's|^|/|' removed; }
exists() { [ -f "$1" ] || [ -h "$1" ]; }

# From below one directory to below another; who runs or reads the old file goes on doing that.
copy() {
    mkdir -p "$(dirname "$2$3")" && rm -f "$2$3.new" && cp -RPp "$1$3" "$2$3.new" || return
    # mv would put it into the directory that a link leads to.
    if [ -h "$2$3" ]; then rm -f "$2$3"; fi
    mv -f "$2$3.new" "$2$3"
}

rollback() {
    brought | while read -r file; do
        exists "rollback$file" || rm -f "$root$file" "$root$file.new"
    done
    (cd rollback && find . ! -type d) | sed 's|^\.||' | while read -r file; do
        # What was not replaced needs no room, and nothing in its way to go.
        if [ ! -h "$root$file" ] && cmp -s "rollback$file" "$root$file"; then continue; fi
        copy rollback "$root" "$file" || { echo "not brought back, see $PWD/rollback: $file" >&2; : > failed; }
    done
    # Directories that it made, the deepest first; what others put into them stays.
    own=$(dirname "$(tar tzf patch.tgz | sed 1q)")
    { tar tzf patch.tgz | sed -n 's|/$||p'; echo "$own"; echo "${own%/*}"; echo "${own%/*/*}"; } | sort -r |
        while read -r dir; do rmdir "$root/$dir" 2>/dev/null || :; done
    [ -e failed ] || rm -rf rollback
}

case ${1:-} in
install)
    [ ! -d rollback ] || exit 0
    rm -rf stage rollback.new failed
    mkdir -m 700 stage rollback.new
    tar xzpf patch.tgz -C stage
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
    if brought | while read -r file; do copy stage "$root" "$file" || exit 1; done &&
        removed | while read -r file; do rm -f "$root$file" || exit 1; done
    then rm -rf stage
    else
        rollback
        rm -rf stage
        exit 1
    fi
    ;;
rollback)
    [ ! -d rollback ] || rollback
    ;;
*)
    echo "usage: $0 install | rollback" >&2
    exit 1
    ;;
esac
