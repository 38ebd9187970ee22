#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Measures the engine against its peers, side by side in one run.

usage: bench/engine.py STOCKADE ROOT.tar [RUNS]      (as root; works below $TMPDIR, best a tmpfs)

Each case names its commands; they run in turn, RUNS times (5 without it), and the table shows medians: wall and CPU
seconds, peak memory, and the ratio to the first peer. Peers: Debian's tar, libarchive-tools, rsync, mtree-netbsd, zstd.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def measure(command, quiet):
    """Wall seconds, CPU seconds and peak MB of one command; the exit statuses 0 and 2 are both answers."""
    start = time.monotonic()
    process = subprocess.Popen(["sh", "-c", "exec " + command], stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        sys.exit(f"{command}: exit status {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def case(title, commands, runs, before=None):
    """Runs every command `runs` times, in turn, and prints a table. The first command is the one to compare with."""
    figures = {name: [] for name in commands}
    with open(os.devnull, "w") as quiet:
        for _ in range(runs):
            for name, command in commands.items():
                if before:
                    before()
                figures[name].append(measure(command, quiet))
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    base = next(iter(median.values()))
    print(f"\n{title}\n| command | wall s | cpu s | peak MB | wall | cpu |\n|---|---|---|---|---|---|")
    for name, (wall, cpu, peak) in median.items():
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {peak:.0f} | {wall / base[0]:.2f} | {cpu / base[1]:.2f} |", flush=True)


def main():
    stockade, archive = (os.path.abspath(word) for word in sys.argv[1:3])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    work = tempfile.mkdtemp(prefix="bench-")
    os.environ["STOCKADE_HOME"] = f"{work}/home"
    try:
        unpack(stockade, archive, runs, work)
        refresh(stockade, archive, runs, work)
        packages(stockade, runs, work)
    finally:
        shutil.rmtree(work)


def recipe(work, name, source):
    """A recipe of one source and nothing else."""
    path = f"{work}/{name}.toml"
    with open(path, "w") as file:
        file.write(f'devices = "none"\nactions = ["-ldconfig"]\n\n[[source]]\n{source}\n')
    return path


def unpack(stockade, archive, runs, work):
    """A new chroot out of an archive; SHA-256 of every file is recorded on the way."""
    copies = {"tar": archive}
    for kind, packer in (("gz", "gzip -6"), ("zst", "zstd -q -3")):
        copies[kind] = f"{work}/root.tar.{kind}"
        subprocess.run(f"{packer} -c {archive} > {copies[kind]}", shell=True, check=True)

    def clear():
        for name in ("home", "t"):
            shutil.rmtree(f"{work}/{name}", ignore_errors=True)
        os.mkdir(f"{work}/t")

    for kind, copy in copies.items():
        commands = {
            "bsdtar xpf": f"bsdtar xpf {copy} -C {work}/t",
            "tar xpf": f"tar xpf {copy} -C {work}/t",
            "stockade build": f"{stockade} build b -f {recipe(work, 'unpack', f'archive = {chr(34)}{copy}{chr(34)}')}",
        }
        case(f"unpack .{kind}", commands, runs, clear)
    clear()


def refresh(stockade, archive, runs, work):
    """A refresh with nothing to do, and a full check."""
    subprocess.run(["tar", "xpf", archive, "-C", f"{work}/t"], check=True)
    for name, source in (("a", f'archive = "{archive}"'), ("d", f'directory = "{work}/t"')):
        file = recipe(work, name, source)
        subprocess.run([stockade, "build", name, "-f", file], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cp", "-a", f"{work}/t", f"{work}/c"], check=True)
    case(
        "refresh with nothing to do",
        {
            "cp -au": f"cp -au {work}/t/. {work}/c",
            "rsync -aH --delete": f"rsync -aH --delete {work}/t/ {work}/c/",
            "stockade, directory": f"{stockade} build d",
            "stockade, archive": f"{stockade} build a",
        },
        runs,
    )
    with open(f"{work}/mtree", "w") as file:
        subprocess.run(["mtree", "-c", "-k", "type,mode,uid,gid,size,time,link,sha256", "-p", f"{work}/c"], stdout=file, check=True)
    case(
        "full check by content",
        {"mtree -f": f"mtree -f {work}/mtree -p {work}/c", "stockade check --hash": f"{stockade} check a --hash"},
        runs,
    )


def packages(stockade, runs, work):
    """The host's base out of its packages, against a plain copy of the same entries."""
    subprocess.run([stockade, "build", "base"], check=True, stdout=subprocess.DEVNULL)
    manifest = subprocess.run([stockade, "manifest", "base"], check=True, capture_output=True).stdout.decode()
    entries = [line.split(" ")[0][2:] for line in manifest.splitlines() if "type=dir" not in line and "origin=made" not in line and line.startswith("./")]
    with open(f"{work}/list", "w") as file:
        file.write("".join(f"{path}\0" for path in entries if "\\" not in path and os.path.lexists(f"/{path}")))

    def clear():
        for name in ("home", "p"):
            shutil.rmtree(f"{work}/{name}", ignore_errors=True)
        os.mkdir(f"{work}/p")

    copy = f"env -C / xargs -0 -a {work}/list cp -a --parents -t {work}/p"
    case("the host's base from packages", {"cp -a": copy, "stockade build": f"{stockade} build base"}, runs, clear)


if __name__ == "__main__":
    main()
