#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Measures patches against their peers, side by side in one run.

usage: bench/patch.py STOCKADE ROOT.tar [RUNS]      (as root; works below $TMPDIR, best a tmpfs)

The case: the root with a binary of 10 MB; 200 of its files edited, the binary edited in 200 places, 10 files deleted, the mode
of 5 changed, 20 new. Medians of RUNS (5 without it) runs in turn. Peers: find and tar (the cookie method), xdelta3 over
whole trees, ostree with static deltas. A peer that is not installed is left out, and said.
"""
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def main():
    stockade, archive = (os.path.abspath(word) for word in sys.argv[1:3])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    work = tempfile.mkdtemp(prefix="bench-")
    try:
        Bench(stockade, archive, work, runs).run()
    finally:
        shutil.rmtree(work)


def sh(command, work):
    subprocess.run(["sh", "-euc", command], cwd=work, check=True, stdout=subprocess.DEVNULL)


class Bench:
    def __init__(self, stockade, archive, work, runs):
        self.stockade, self.archive, self.work, self.runs = stockade, archive, work, runs
        os.environ["STOCKADE_HOME"] = f"{work}/home"

    def run(self):
        self.prepare()
        self.sizes()
        self.times()

    def prepare(self):
        sh(f"mkdir old; tar -xpf {self.archive} -C old --exclude=./dev/*", self.work)
        dice = random.Random(1)
        binary = bytearray(dice.randbytes(10_000_000))
        write(f"{self.work}/old/usr/bin/large", binary, 0o755)
        sh("touch -d '2 days ago' old/usr/bin/large; cp -a old new; touch cookie; sleep 0.05", self.work)
        for edit in range(200):
            at = edit * 49_000 + dice.randrange(40_000)
            binary[at : at + 12] = dice.randbytes(12)
        write(f"{self.work}/new/usr/bin/large", binary, 0o755)
        files = [os.path.join(top, name) for top, _, names in os.walk(f"{self.work}/new/usr") for name in names]
        files = sorted(f for f in files if os.path.isfile(f) and not os.path.islink(f) and os.stat(f).st_nlink == 1)
        files.remove(f"{self.work}/new/usr/bin/large")
        dice.shuffle(files)
        for path in files[:200]:
            with open(path, "ab") as file:
                file.write(b"an edited line\n")
        for path in files[200:210]:
            os.unlink(path)
        for path in files[210:215]:
            os.chmod(path, 0o700)
        os.mkdir(f"{self.work}/new/usr/share/fresh")
        for number in range(20):
            write(f"{self.work}/new/usr/share/fresh/{number}", dice.randbytes(500), 0o644)

    def sizes(self):
        for name, more in (("full", ""), ("delta", "--delta")):
            sh(f"{self.stockade} patch diff old new --unsigned {more} --name {name} -o {name}.tgz", self.work)
        sh("cd new; find . -newercm ../cookie ! -type d -print0 | tar czf ../cookie.tgz --null -T -", self.work)
        sizes = {name: os.path.getsize(f"{self.work}/{name}.tgz") for name in ("full", "delta", "cookie")}
        if shutil.which("xdelta3"):
            sh("tar cf old.tar --sort=name -C old .; tar cf new.tar --sort=name -C new .; xdelta3 -f -9 -e -s old.tar new.tar x", self.work)
            sizes["xdelta3"] = os.path.getsize(f"{self.work}/x")
        print(f"{'size':44}{'bytes':>12}")
        for name, size in sizes.items():
            print(f"{name:44}{size:>12}")
        print(f"full / tar czf of the changed files: {sizes['full'] / sizes['cookie']:.2f}")

    def times(self):
        sk = self.stockade
        fresh = "rm -rf t home; cp -a old t"
        self.table(
            "apply, full bodies", fresh,
            {"stockade": f"{sk} patch apply --unsigned full.tgz --root ./t", "tar xzpf": "tar xzpf cookie.tgz -C t"},
        )
        self.differences("full")
        rows = {"stockade": f"{sk} patch apply --unsigned delta.tgz --root ./t"}
        if shutil.which("xdelta3"):
            rows["xdelta3 and tar"] = "xdelta3 -f -d -s old.tar x y.tar && tar xpf y.tar -C t"
        self.table("apply, differences", fresh, rows)
        self.differences("delta")
        if shutil.which("ostree"):
            self.ostree(fresh)
        else:
            print("ostree: not installed; left out")
        self.record()

    def ostree(self, fresh):
        sh("ostree init --repo=src --mode=archive; ostree commit --repo=src -b b --tree=dir=old -s o >/dev/null", self.work)
        sh("rm -rf osnew; cp -a new osnew; ostree commit --repo=src -b b --tree=dir=osnew -s n >/dev/null; ostree static-delta generate --repo=src b >/dev/null; ostree summary -u --repo=src", self.work)
        size = sum(os.path.getsize(os.path.join(top, n)) for top, _, names in os.walk(f"{self.work}/src/deltas") for n in names)
        print(f"ostree static delta: {size} bytes")
        prepare = fresh + "; rm -rf dst out; ostree init --repo=dst --mode=bare; ostree remote add --repo=dst --no-gpg-verify r file://$PWD/src; " \
            "ostree pull --repo=dst r $(ostree rev-parse --repo=src b^) >/dev/null"
        commands = {
            "stockade": f"{self.stockade} patch apply --unsigned full.tgz --root ./t",
            "ostree pull + checkout": "ostree pull --repo=dst r b >/dev/null && ostree checkout --repo=dst r:b out",
        }
        self.table("apply, full, and ostree", prepare, commands)

    def record(self):
        """A command that edits, in an overlay, against find and tar over the whole tree."""
        sk = self.stockade
        edit = "for f in $(seq 200); do echo line >> /usr/share/edited$f; done; head -c 1000000 /dev/zero > /usr/bin/more"
        sh(f"rm -rf home t; cp -a old t; {sk} adopt ./t", self.work)
        prepare = "rm -f r.tgz; touch cookie; sleep 0.02"
        commands = {
            "record": f"{sk} record ./t --discard --unsigned -o r.tgz -- /bin/sh -c '{edit}'",
            "the command alone, find, tar": f"{sk} run ./t --ephemeral -- /bin/sh -c '{edit}'; find t -newercm cookie ! -type d -print0 | tar czf r.tgz --null -T -",
        }
        self.table("make: record against cookies (CPU counts)", prepare, commands)

    def differences(self, name):
        """What rsync finds after apply and after undo."""
        count = lambda want: len(subprocess.run(
            ["rsync", "-aHAXcni", "--delete", "--modify-window=-1", "--exclude=/var/db", f"{want}/", "t/"],
            cwd=self.work, capture_output=True, check=True).stdout.splitlines())
        sh(f"rm -rf t home; cp -a old t; {self.stockade} patch apply --unsigned {name}.tgz --root ./t", self.work)
        after = count("new")
        sh(f"{self.stockade} patch undo --root ./t", self.work)
        print(f"{name}: differences after apply: {after}; after undo: {count('old')}")

    def table(self, title, prepare, commands):
        seen = {name: [] for name in commands}
        for _ in range(self.runs):
            for name, command in commands.items():
                sh(prepare, self.work)
                seen[name].append(measure(command, self.work))
        print(f"\n{title:44}{'wall s':>9}{'CPU s':>9}{'MB':>7}")
        for name, found in seen.items():
            wall, cpu, memory = (statistics.median(column) for column in zip(*found))
            print(f"{name:44}{wall:9.3f}{cpu:9.3f}{memory:7.0f}")
        first, *others = ([statistics.median(c) for c in zip(*found)] for found in seen.values())
        for (name, _), other in zip(list(seen.items())[1:], others):
            print(f"  ratio to {name:33}{first[0] / other[0]:9.2f}{first[1] / other[1]:9.2f}")


def write(path, body, mode):
    with open(path, "wb") as file:
        file.write(body)
    os.chmod(path, mode)


def measure(command, work):
    """Wall clock, CPU of all children, and the largest of them in MB."""
    began = time.monotonic()
    child = subprocess.Popen(["sh", "-euc", command], cwd=work, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    if status:
        sys.exit(f"failed: {command}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1024:
        sys.exit("too few descriptors")
    main()
