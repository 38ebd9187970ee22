#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Measures what recording a command that changes nothing costs, against the cookie method, side by side in one run.

usage: bench/record.py STOCKADE ROOT.tar [RUNS]      (as root; works below $TMPDIR, best a tmpfs)

The cookie method looks at each entry twice: find -cnewer for what came and changed, and a list of names before and after
for what went. Medians of RUNS (7 without it) runs in turn: CPU of all processes, and wall clock, in milliseconds.
"""
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

RECIPE = 'devices = "none"\nactions = ["-ldconfig"]\n[[source]]\narchive = "{}"\n'


def cost(command, env):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    status = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status not in (0, 2):
        sys.exit(f"{command}: status {status}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def main():
    stockade, archive = (os.path.abspath(word) for word in sys.argv[1:3])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    work = tempfile.mkdtemp(prefix="bench-")
    try:
        env = dict(os.environ, STOCKADE_HOME=f"{work}/home")
        with open(f"{work}/recipe.toml", "w") as recipe:
            recipe.write(RECIPE.format(archive))
        subprocess.run([stockade, "build", "big", "-f", f"{work}/recipe.toml"], env=env, check=True)
        root, cookie = f"{work}/home/big", f"{work}/cookie"
        program = next(f for f in ("/bin/true", "/usr/bin/true") if os.path.exists(root + f))
        with open(cookie, "w"):
            pass
        find = f"find {root} -cnewer {cookie}; find {root} -cnewer {cookie}"
        ways = {
            "run, nothing recorded": [stockade, "run", "big", "--", program],
            "record, overlay": [stockade, "record", "big", "--", program],
            "record, --scan": [stockade, "record", "--scan", "big", "--", program],
            "two find -cnewer": ["sh", "-c", find],
        }
        # The first scan reads what the record does not prove, and remembers it.
        print(f"{'record, --scan, first':24} {cost(ways['record, --scan'], env)[0] * 1000:8.1f} ms CPU")
        found = {name: [] for name in ways}
        for _ in range(runs):
            for name, command in ways.items():
                found[name].append(cost(command, env))
        base = statistics.median(cpu for cpu, _ in found["two find -cnewer"])
        for name, costs in found.items():
            cpu, wall = (statistics.median(part) for part in zip(*costs))
            print(f"{name:24} {cpu * 1000:8.1f} ms CPU {wall * 1000:8.1f} ms   {cpu / base:5.2f}")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
