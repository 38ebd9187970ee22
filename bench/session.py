#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Measures sessions against their peers, side by side in one run.

usage: bench/session.py STOCKADE ROOT.tar... [RUNS]      (as root; works below $TMPDIR)

Every tar is built as a chroot. The commands run in turn, RUNS times (40 without it); the table shows medians of wall and
CPU milliseconds and their ratio to the first command. Peers: bubblewrap, schroot, as far as they are there. schroot is
given two chroots in /etc/schroot/chroot.d for the time of the run.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# What bubblewrap is told so that its namespaces and mounts are those of a session that is not confined.
BWRAP = ("bwrap --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup --die-with-parent --bind {root} / --proc /proc "
         "--dev /dev --tmpfs /run --tmpfs /tmp --ro-bind /sys /sys -- /bin/true")
SCHROOT = """[stockade-bench-{kind}-{number}]
type=directory
directory={root}
users=root
root-users=root
profile=minimal
{more}
"""


def measure(command, environment):
    """Wall and CPU milliseconds of one command."""
    start = time.monotonic()
    process = subprocess.Popen(command.split(), env=environment, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command}: exit status {process.returncode}")
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def case(title, commands, runs, environment):
    """Runs every command `runs` times, in turn, and prints a table. The first command is the one to compare with."""
    figures = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            figure = measure(command, environment)
            if turn > 0:  # the first turn only warms up
                figures[name].append(figure)
    print(f"\n{title}\n{'':22}{'wall ms':>10}{'cpu ms':>10}{'wall x':>9}{'cpu x':>9}")
    first = None
    for name, rows in figures.items():
        wall, cpu = (statistics.median(column) for column in zip(*rows))
        first = first or (wall, cpu)
        print(f"{name:22}{wall:10.2f}{cpu:10.2f}{wall / first[0]:9.3f}{cpu / first[1]:9.3f}")


def schroots(roots):
    """Tells schroot of every root twice: as a directory, and with an overlay. The files that say so."""
    files = []
    for number, root in enumerate(roots):
        for kind, more in (("plain", ""), ("overlay", "union-type=overlay")):
            file = f"/etc/schroot/chroot.d/stockade-bench-{kind}-{number}"
            with open(file, "w") as out:
                out.write(SCHROOT.format(kind=kind, number=number, root=root, more=more))
            files.append(file)
    return files


def main():
    words = sys.argv[1:]
    runs = int(words.pop()) if words and words[-1].isdigit() else 40
    if len(words) < 2:
        sys.exit(__doc__)
    stockade, tars = os.path.abspath(words[0]), words[1:]
    work = tempfile.mkdtemp()
    environment = dict(os.environ, STOCKADE_HOME=f"{work}/home")
    files = []
    try:
        roots = []
        for number, tar in enumerate(tars):
            subprocess.run([stockade, "build", f"base{number}", "--from", tar], check=True, env=environment,
                           stdout=subprocess.DEVNULL)
            roots.append(f"{work}/home/base{number}")
        if shutil.which("schroot"):
            files = schroots(roots)
        for number, (tar, root) in enumerate(zip(tars, roots)):
            name = f"base{number}"
            title = f"run -- true in {os.path.basename(tar)}"
            run = f"{stockade} run {name} {{}} -- /bin/true"
            ours = {"--plain": run.format("--plain"), "--no-confine": run.format("--no-confine"),
                    "default": run.format(""), "--ephemeral": run.format("--ephemeral"),
                    "--net none": run.format("--net none")}
            peers = {"bwrap": BWRAP.format(root=root)} if shutil.which("bwrap") else {}
            case(title, peers | {"chroot": f"chroot {root} /bin/true"} | ours, runs, environment)
            if files:
                for kind, mine in (("plain", "default"), ("overlay", "--ephemeral")):
                    peer = f"schroot -c stockade-bench-{kind}-{number} -d / -- /bin/true"
                    case(f"schroot, {kind}, {os.path.basename(tar)}", {"schroot": peer, mine: ours[mine]},
                         max(runs // 4, 5), environment)
    finally:
        for file in files:
            os.unlink(file)
        shutil.rmtree(work, ignore_errors=True)


main()
