// SPDX-License-Identifier: ISC
//! What the tests of whole verbs share: the program with a home of its own, and trees compared by other programs.
#![allow(dead_code, reason = "each test program uses what it needs")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

pub(crate) mod data;
pub(crate) mod strike;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// In CI nothing is skipped.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{why}");
    eprintln!("SKIPPED: {why}");
}

/// May this test run here? It needs root and these programs; in CI it must run.
pub(crate) fn able(programs: &[&str]) -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&dirs).any(|dir| dir.join(name).is_file());
    let missing: Vec<&str> = programs.iter().copied().filter(|name| !has(name)).collect();
    let able = root && missing.is_empty();
    if !able {
        skip(&format!("it needs root and {missing:?}"));
    }
    able
}

/// May a test run that needs what only Linux's own calls do? With the portable ones it is left out, in CI too.
pub(crate) fn native(what: &str) -> bool {
    let native = std::env::var_os("STOCKADE_PORTABLE").is_none_or(|value| value != "1");
    if !native {
        eprintln!("SKIPPED with portable calls: {what}");
    }
    native
}

/// A directory of the test's own that holds a stockade home and whatever else the test makes.
pub(crate) struct World {
    temp: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// In memory, where that is possible: nothing of it has to last.
    pub(crate) fn new() -> World {
        let fits = |temp: &tempfile::TempDir| sets_attributes(temp.path());
        let memory = tempfile::tempdir_in("/dev/shm").ok().filter(fits);
        World::at(memory.unwrap_or_else(|| tempfile::tempdir().unwrap()))
    }

    /// On the disk that the build directory is on, where syncs are made too.
    pub(crate) fn on_disk() -> World {
        World::at(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn at(temp: tempfile::TempDir) -> World {
        fs::DirBuilder::new().mode(0o700).create(temp.path().join("tmp")).unwrap();
        World { temp }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// The chroot of this name, in the home if it has no slash.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        let above = if name.contains('/') { self.path("") } else { self.path("home") };
        above.join(name)
    }

    /// The program, at home in this world: what it leaves among the temporary files is found there too.
    pub(crate) fn stockade(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// Gives a command that starts the program the environment of this world.
    pub(crate) fn settle(&self, command: &mut Command) {
        command.env("STOCKADE_HOME", self.path("home")).env("TMPDIR", self.path("tmp")).env("NO_COLOR", "1");
        command.env("STOCKADE", env!("CARGO_BIN_EXE_stockade"));
        command.current_dir(self.temp.path()).stdin(Stdio::null());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.stockade(arguments).output().unwrap())
    }

    /// Runs the program, which must succeed; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.status, Some(0), "stockade {arguments:?}:\n{}{}", said.out, said.err);
        said.out
    }

    /// Runs the program, which must refuse with status 1 and say all of `words`.
    pub(crate) fn refused(&self, arguments: &[&str], words: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.status, Some(1), "stockade {arguments:?}:\n{}{}", said.out, said.err);
        assert!(said.err.starts_with("stockade: "), "{arguments:?}: {}", said.err);
        for word in words {
            assert!(said.err.contains(word), "{arguments:?}: {word:?} is not in: {}", said.err);
        }
        said.err
    }

    /// Runs a shell script in the world; `$STOCKADE` is the program. It must succeed; what it printed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-euc", script]);
        self.settle(&mut command);
        let said = Said::of(command.output().unwrap());
        assert_eq!(said.status, Some(0), "{script}\n{}{}", said.out, said.err);
        said.out
    }

    /// As [`World::sh`], in a mount namespace of its own: what it mounts ends with it.
    pub(crate) fn sh_apart(&self, script: &str) -> String {
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-euc", script]);
        self.settle(&mut command);
        let said = Said::of(command.output().unwrap());
        assert_eq!(said.status, Some(0), "{script}\n{}{}", said.out, said.err);
        said.out
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Nothing of a finished command is left in the state of any chroot, nor among the temporary files.
    pub(crate) fn assert_tidy(&self) {
        let known = [
            "archives",
            "asked",
            "built",
            "homes",
            "identity",
            "lock",
            "made",
            "manifest",
            "clones",
            "numbers",
            "origin",
            "patches",
            "reasons",
            "recipe",
            "scanned",
            "scanned-fingerprint",
            "sessions",
            "versions",
        ];
        let list = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let states = list(self.path("home/.stockade")).filter(|state| !state.ends_with("roots"));
        let mut left: Vec<PathBuf> = states.flat_map(list).collect();
        left.retain(|path| !known.iter().any(|known| path.ends_with(known)));
        left.extend(list(self.path("tmp")));
        assert_eq!(left, Vec::<PathBuf>::new(), "left behind");
    }

    /// rsync(1) finds `reference` and the chroot `name` the same, to the nanosecond.
    pub(crate) fn assert_alike(&self, reference: &Path, name: &str) {
        assert_eq!(rsync_differences(reference, &self.root(name)), "", "rsync sees a difference");
    }

    /// As [`World::assert_alike`], and mtree(8) finds the chroot as recorded.
    pub(crate) fn assert_same(&self, reference: &Path, name: &str) {
        self.assert_alike(reference, name);
        let manifest = self.ok(&["manifest", name, "--format", "mtree"]);
        self.write("mtree", &manifest);
        let said = Command::new("mtree").arg("-p").arg(self.root(name)).arg("-f").arg(self.path("mtree")).output();
        let said = Said::of(said.unwrap());
        assert_eq!((said.status, &*said.out, &*said.err), (Some(0), "", ""), "mtree sees a difference");
    }
}

impl Said {
    pub(crate) fn of(output: Output) -> Said {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Said { status: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// What rsync would do to make `have` like `want`, one line an entry; contents, owners, modes, times to the nanosecond,
/// links, attributes and access lists are compared.
pub(crate) fn rsync_differences(want: &Path, have: &Path) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync")
        .args(["-aHAXcni", "--delete", "--numeric-ids", "--modify-window=-1"])
        .args([slash(want), slash(have)])
        .output()
        .unwrap();
    let said = Said::of(output);
    assert_eq!((said.status, &*said.err), (Some(0), ""), "rsync");
    said.out
}

fn sets_attributes(path: &Path) -> bool {
    let set = Command::new("setfattr").args(["-n", "user.a", "-v", "1"]).arg(path).stderr(Stdio::null()).status();
    set.is_ok_and(|status| status.success())
}

/// Everything that counts of the tree at `root`, one line an entry: type, mode, owners, time, link group, content and
/// attributes. Made without the program under test.
pub(crate) fn picture(root: &Path) -> String {
    let mut out = String::new();
    let mut groups: HashMap<u64, PathBuf> = HashMap::new();
    for path in entries(root) {
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_file() {
            let content = fs::read(root.join(&path)).unwrap();
            let first = groups.entry(meta.ino()).or_insert_with(|| path.clone());
            let group = if meta.nlink() > 1 { format!(" = {first:?}") } else { String::new() };
            format!("file {}{group}", content.escape_ascii())
        } else if kind.is_symlink() {
            format!("link {:?}", fs::read_link(root.join(&path)).unwrap())
        } else if kind.is_dir() {
            "dir".to_owned()
        } else {
            format!("special {} {}", kind.is_fifo(), meta.rdev())
        };
        let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
        writeln!(out, "{path:?} {:o} {}:{} {time} {what}", meta.mode(), meta.uid(), meta.gid()).unwrap();
    }
    out + &attributes(root)
}

/// The paths below `root` and `.`, sorted.
pub(crate) fn entries(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(".")];
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                todo.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn attributes(root: &Path) -> String {
    let mut command = Command::new("getfattr");
    command.args(["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."]).current_dir(root);
    let mut blocks: Vec<String> =
        Said::of(command.output().unwrap()).out.split("\n\n").map(|b| b.trim().to_owned()).collect();
    blocks.sort();
    blocks.join("\n")
}

/// What the kernel would show of any change below `root`: inodes, times and change times.
pub(crate) fn fingerprint(root: &Path) -> String {
    let look = |path: &PathBuf| {
        let meta = fs::symlink_metadata(root.join(path)).unwrap();
        let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        format!("{path:?} {} {mtime:?} {ctime:?}\n", meta.ino())
    };
    entries(root).iter().map(look).collect()
}
