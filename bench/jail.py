#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Jails: what passes on the host passes inside, how long it takes, and the same with jk_cp.

usage: bench/jail.py [STOCKADE]     as root; jk_cp of jailkit for the comparison
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

STOCKADE = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/stockade")

# Programs, what is wanted besides, and a command of which the output on the host is what it has to be inside.
CHECKS = [
    (["dash"], [], "echo $((6*7))"),
    (["bash"], [], "bash -c 'a=(1 2 3); echo ${#a[@]} ${a[-1]}'"),
    (["ls", "id", "sort", "wc", "head", "date", "tr"], [], "id -un; printf 'b\\na\\n' | sort | head -1; date -d @0 +%Y | wc -c"),
    (["grep", "sed", "gawk"], [], "echo abc | sed s/b/B/ | grep -o 'B.' | gawk '{print toupper($0)}'"),
    (["find", "xargs"], [], "find /usr/bin/find -type f | xargs -n1 echo"),
    (["tar", "gzip", "bzip2", "xz"], [], "cd /tmp; echo x >f; for z in z j J; do tar c${z}f a f && tar t${z}f a; done"),
    (["/usr/bin/python3"], [], "/usr/bin/python3 -c 'import ssl,sqlite3,hashlib,json,ctypes,zoneinfo,pwd,socket;"
     "print(sqlite3.connect(\":memory:\").execute(\"select 1+1\").fetchone(), pwd.getpwuid(0)[0],"
     " zoneinfo.ZoneInfo(\"Asia/Tokyo\"), bool(ssl.create_default_context().get_ca_certs()))'"),
    (["/usr/bin/python3"], [], "/usr/bin/python3 -c 'import threading,asyncio,multiprocessing,xml.dom.minidom,email,decimal;"
     "print(asyncio.run(asyncio.sleep(0,5)), decimal.Decimal(1)/3)'"),
    (["perl"], [], "perl -MPOSIX -MEncode -MData::Dumper -MSocket -e 'print floor(2.7), length(encode(\"UTF-16\", \"ab\"))'"),
    (["git"], [], "cd /tmp; rm -rf r; git init -q r; cd r; echo x >f; git add f;"
     "git -c user.name=a -c user.email=b commit -qm m; git log --format=%s; git submodule status; git stash list"),
    (["ssh", "ssh-keygen"], [], "ssh -V 2>&1; rm -f /tmp/k*; ssh-keygen -q -t ed25519 -N '' -f /tmp/k; ssh -G localhost | head -1"),
    (["/usr/lib/openssh/sftp-server"], [], "/usr/lib/openssh/sftp-server -Q requests | head -1"),
    (["sqlite3"], [], "sqlite3 :memory: 'select 40+2, json(\"[1]\")'"),
    (["curl"], [], "curl -s file:///etc/hosts | head -c 9; curl --version | head -1"),
    (["openssl"], [], "openssl rand -hex 4 | wc -c; echo x | openssl dgst -sha256; openssl list -providers | grep -c name"),
    (["vim"], [], "echo a >/tmp/v; vim -es -u NONE -c 's/a/b/' -c wq /tmp/v; cat /tmp/v"),
    (["tmux"], [], "TERM=xterm tmux -f /dev/null -L t new -d 'sleep 5'; TERM=xterm tmux -L t ls | cut -c1-2; tmux -L t kill-server"),
    (["nano", "less"], [], "TERM=xterm less --version | head -1"),
    (["gcc"], [], "cd /tmp; echo 'int main(){return 7;}' >t.c; gcc t.c -o t; ./t; echo $?"),
    (["make"], [], "cd /tmp; rm -f a; printf 'a:\\n\\t@echo made\\n' >Makefile; make"),
    (["java"], [], "java -version 2>&1 | head -1"),
    (["node"], [], "node -e 'console.log(require(\"crypto\").createHash(\"md5\").update(\"\").digest(\"hex\"), Intl.NumberFormat(\"de\").format(1.5))'"),
    (["ruby"], [], "ruby -rjson -ropenssl -e 'puts JSON.dump([1]), OpenSSL::Digest::SHA1.hexdigest(\"\")'"),
    (["php"], [], "php -r 'echo json_encode([strlen(\"a\"), extension_loaded(\"openssl\")]);'"),
    (["psql"], [], "psql --version"),
    (["rsync"], [], "cd /tmp; mkdir -p s; echo x >s/f; rsync -a s/ d/; cat d/f"),
    (["file"], [], "file /bin/sh; file -i /etc/hosts"),
    (["iconv"], [], "echo ü | iconv -f UTF-8 -t ISO-8859-15 | od -An -tx1"),
    (["infocmp", "tput"], [], "TERM=xterm-256color tput colors"),
    (["getent"], [], "getent passwd root | cut -d: -f1; getent services http | cut -c1-4"),
    (["diff", "patch", "cmp"], [], "cd /tmp; echo a >a; echo b >b; diff -u a b | tail -1; cmp a b"),
    (["jq"], [], "echo '{\"a\":1}' | jq .a"),
    (["bc"], [], "echo 2^70 | bc"),
    (["gpg"], [], "gpg --version | head -1"),
    (["tclsh"], [], "echo 'puts [clock format 0 -gmt 1 -format %Y]' | tclsh"),
    (["xmllint"], [], "echo '<a/>' | xmllint --format - | tail -1"),
]


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **more)


def passes(root, command, want):
    # What every service manager mounts, in a namespace of its own.
    enter = ('mount -t proc proc "$1/proc"; mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"; '
             'exec chroot "$1" /bin/sh -c "$2"')
    enter = enter.replace(";", " 2>/dev/null;")
    shell = ["unshare", "-m", "sh", "-c", enter, "sh", root, command] if root else ["/bin/sh", "-c", command]
    try:
        # The same environment on both sides, as a service has it.
        return run(shell, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}, cwd="/", timeout=60)
    except subprocess.TimeoutExpired:
        return None


def timed(command, **more):
    begin = time.monotonic()
    done = run(command, **more)
    return time.monotonic() - begin, done


# What jailkit has lists for, that is nearest to the programs above.
SECTIONS = ["basicshell", "editors", "extendedshell", "netutils", "ssh", "sftp", "scp", "rsync"]
HELPERS = ["sh", "cat", "head", "tail", "wc", "cut", "grep", "od", "sleep", "mkdir", "rm", "tr", "echo"]
DIRS = "/bin:/usr/bin:/sbin:/usr/sbin"


def best(runs, prepare, command, **more):
    """The least of several wall times, each of a jail that is new."""
    times = []
    for _ in range(runs):
        prepare()
        times.append(timed(command, **more)[0])
    return min(times)


def main():
    # jk_cp takes no directory below one that others may write to.
    scratch = tempfile.mkdtemp(prefix="jails", dir=os.path.dirname(os.path.dirname(STOCKADE)))
    env = dict(os.environ, STOCKADE_HOME=os.path.join(scratch, "home"), NO_COLOR="1")
    passed = {"stockade": 0, "jk_cp": 0}
    total, everything = 0, []
    for number, (programs, paths, command) in enumerate(CHECKS):
        found = [shutil.which(name, path=DIRS) for name in programs]
        if None in found:
            print(f"  not here: {programs}")
            continue
        host = passes(None, command, None)
        if host is None or host.returncode != 0 and b"error" in host.stdout:
            print(f"  fails on the host: {programs}")
            continue
        total += 1
        everything += found
        roots = {"stockade": os.path.join(scratch, "home", f"j{number}")}
        extra = [word for path in paths for word in ("--path", path)]
        made = run([STOCKADE, "jail", f"j{number}", *HELPERS, *found, *extra], env=env)
        if made.returncode:
            print(made.stdout.decode())
        if shutil.which("jk_cp"):
            roots["jk_cp"] = os.path.join(scratch, f"k{number}")
            os.mkdir(roots["jk_cp"])
            names = [shutil.which(name, path=DIRS) for name in HELPERS]
            run(["jk_cp", "-j", roots["jk_cp"], *names, *found])
            os.makedirs(os.path.join(roots["jk_cp"], "tmp"), exist_ok=True)
        for who, root in roots.items():
            inside = passes(root, command, host)
            if inside is not None and inside.stdout == host.stdout:
                passed[who] += 1
            elif who == "stockade":
                print(f"  differs in the jail: {programs}\n    host {host.stdout[:200]}\n    jail {inside and inside.stdout[:300]}")
        for root in roots.values():
            shutil.rmtree(root)
    for who, count in passed.items():
        print(f"{who:9} {count} of {total} checks pass")

    wanted = sorted(set(everything))
    root, kit = os.path.join(scratch, "home", "all"), os.path.join(scratch, "kit")

    def clear():
        run([STOCKADE, "remove", "all"], env=env)
        shutil.rmtree(kit, ignore_errors=True)
        os.mkdir(kit)

    for title, programs in [("tar, sh", ["/bin/tar", "/bin/sh"]), (f"all {len(wanted)}", wanted)]:
        ours = best(5, clear, [STOCKADE, "jail", "all", *programs], env=env)
        entries = sum(len(dirs) + len(files) for _, dirs, files in os.walk(root))
        line = f"{title}: stockade {ours:.3f} s, {entries} entries"
        if shutil.which("jk_cp"):
            theirs = best(3, clear, ["jk_cp", "-j", kit, *programs])
            init = f"jk_init -j {kit} {' '.join(SECTIONS)} && jk_cp -j {kit} {' '.join(programs)}"
            both = best(1, clear, ["sh", "-c", init])
            line += f"; jk_cp {theirs:.3f} ({ours / theirs:.2f}); jk_init and jk_cp {both:.2f} ({ours / both:.3f})"
        print(line)
    clear()
    run([STOCKADE, "jail", "all", "/bin/sh", "/bin/ls", "/usr/bin/python3"], env=env)
    refresh = [timed([STOCKADE, "build", "all"], env=env)[0] for _ in range(7)]
    start = min(timed([STOCKADE, "--version"])[0] for _ in range(7))
    said = run([STOCKADE, "build", "all"], env=env).stdout.decode().strip()
    print(f"refresh with nothing to do: {min(refresh) * 1000:.1f} ms, start {start * 1000:.1f} ms: {said}")
    shutil.rmtree(scratch)


main()
