#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Measures clone, reset and remove against their peers, side by side in one run.

usage: bench/clone.py STOCKADE ROOT.tar [RUNS]      (as root; works below $TMPDIR, best a tmpfs)

Every filesystem is an image of its own on a loop device, in a mount namespace of the benchmark's own; one that the kernel
or the machine does not have is left out, and said. Medians of RUNS (5 without it) runs in turn, by wall clock; what a
command needs to start at all is shown as `stockade --version`. Peers: coreutils, rsync, btrfs-progs.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# Image size, how it is made; none: the directory itself.
FILESYSTEMS = {
    "here": None,
    "ext4": "mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 {}",
    "xfs": "mkfs.xfs -q {}",
    "btrfs": "mkfs.btrfs -q {}",
}
IMAGE = 6 << 30


def main():
    stockade, archive = (os.path.abspath(word) for word in sys.argv[1:3])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    if os.environ.get("BENCH_APART") != "1":
        os.environ["BENCH_APART"] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv])
    for name, make in FILESYSTEMS.items():
        work = tempfile.mkdtemp(prefix="bench-")
        try:
            place = mounted(work, make)
            if place is None:
                print(f"\n{name}: cannot be made or mounted here; left out")
                continue
            Bench(stockade, archive, place, name, runs).run()
        finally:
            subprocess.run(["umount", f"{work}/mount"], stderr=subprocess.DEVNULL)
            shutil.rmtree(work)


def mounted(work, make):
    """A private directory on the filesystem; none if there is no such here."""
    place = f"{work}/mount"
    os.mkdir(place, 0o700)
    if make is None:
        return place
    image = f"{work}/image"
    with open(image, "wb") as file:
        file.truncate(IMAGE)
    steps = [make.format(image), f"mount -o loop {image} {place}", f"chmod 700 {place}"]
    for step in steps:
        if subprocess.run(step, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return None
    return place


class Bench:
    def __init__(self, stockade, archive, place, name, runs):
        self.stockade, self.place, self.name, self.runs = stockade, place, name, runs
        self.base = f"{place}/home/base"
        os.environ["STOCKADE_HOME"] = f"{place}/home"
        with open(f"{place}/recipe.toml", "w") as file:
            text = 'devices = "none"\nactions = ["-ldconfig"]\n[policy]\nunknown = "remove"\n[[source]]\narchive = '
            file.write(f'{text}"{archive}"\n')
        self.quiet(f"{stockade} build base -f {place}/recipe.toml")

    def run(self):
        peers = {
            "copy": ("cp -a --reflink=never", 0.8),
            "link": ("cp -al", 0.8),
        }
        if self.name in ("xfs", "btrfs"):
            peers = {"reflink": ("cp -a --reflink=always", 0.8)}
        entries = sum(len(dirs) + len(files) for _, dirs, files in os.walk(self.base))
        print(f"\n{self.name}: {entries} entries\n| what | ours | peer | ratio | wanted |\n|---|---|---|---|---|")
        if self.name == "btrfs":
            self.snapshot()
            self.plain_base()
        for how, (peer, wanted) in peers.items():
            self.clone(how, peer, wanted)
        if self.name in ("here", "ext4"):
            self.overlay()
            self.reset()

    def quiet(self, command):
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)

    def time(self, command):
        # What earlier commands left to be written is not this one's to pay for.
        subprocess.run(["sync", "-f", self.place], check=True)
        start = time.monotonic()
        self.quiet(command)
        return time.monotonic() - start

    def line(self, what, ours, peer, wanted):
        ours, peer = statistics.median(ours), statistics.median(peer)
        print(f"| {what} | {ours:.3f} | {peer:.3f} | {ours / peer:.2f} | {wanted} |", flush=True)

    def clone(self, how, peer, wanted):
        """A clone and its removal, against copying and rm."""
        clones, removals, copies, deletions = [], [], [], []
        for _ in range(self.runs):
            copies.append(self.time(f"{peer} {self.base} {self.place}/copy"))
            clones.append(self.time(f"{self.stockade} clone base w --how {how}"))
            deletions.append(self.time(f"rm -rf {self.place}/copy"))
            removals.append(self.time(f"{self.stockade} remove w"))
        self.line(f"clone --how {how} / {peer}", clones, copies, wanted)
        self.line(f"remove of that / rm -rf", removals, deletions, 0.9)

    def overlay(self):
        """Above the start of the program, at any size."""
        clones, starts = [], []
        for _ in range(self.runs * 2):
            starts.append(self.time(f"{self.stockade} --version"))
            clones.append(self.time(f"{self.stockade} clone base w --how overlay"))
            self.quiet(f"{self.stockade} remove w")
        above = statistics.median(clones) - statistics.median(starts)
        print(f"| clone --how overlay, above --version | {above * 1000:.1f} ms | | | 15 ms |", flush=True)

    def snapshot(self):
        clones, peers = [], []
        for _ in range(self.runs):
            clones.append(self.time(f"{self.stockade} clone base w"))
            peers.append(self.time(f"btrfs subvolume snapshot {self.base} {self.place}/copy"))
            self.quiet(f"{self.stockade} remove w; btrfs subvolume delete {self.place}/copy")
        self.line("clone / btrfs subvolume snapshot", clones, peers, 1.2)

    def plain_base(self):
        """The base as a plain directory, which is copied file by file."""
        self.quiet(f"mkdir -m 700 {self.place}/plain; cp -a --reflink=always {self.base}/. {self.place}/plain")
        self.quiet(f"{self.stockade} remove base; mv {self.place}/plain {self.base}; {self.stockade} adopt base")

    def reset(self):
        """After 100 changes, against rsync from the base."""
        self.quiet(f"{self.stockade} clone base w --how copy; cp -a {self.base} {self.place}/copy")
        resets, syncs = [], []
        for turn in range(self.runs):
            for root in (f"{self.base}/../w", f"{self.place}/copy"):
                change(root, turn)
            resets.append(self.time(f"{self.stockade} reset w"))
            syncs.append(self.time(f"rsync -aHAX --delete {self.base}/ {self.place}/copy/"))
        self.quiet(f"{self.stockade} check w; {self.stockade} remove w; rm -rf {self.place}/copy")
        self.line("reset after 100 changes / rsync -aHAX --delete", resets, syncs, 0.3)


def change(root, turn):
    """A hundred changes: files edited, deleted, added, and given another mode."""
    files = []
    for directory, _, names in os.walk(f"{root}/usr/share"):
        paths = (f"{directory}/{name}" for name in sorted(names))
        files.extend(path for path in paths if os.path.isfile(path) and not os.path.islink(path))
        if len(files) > 4000:
            break
    for number, path in enumerate(files[turn :: len(files) // 100][:100]):
        if number % 4 == 0:
            with open(path, "a") as file:
                file.write("edited\n")
        elif number % 4 == 1:
            os.unlink(path)
        elif number % 4 == 2:
            os.chmod(path, 0o600)
        else:
            with open(f"{path}.new", "w") as file:
                file.write("new\n")


if __name__ == "__main__":
    main()
