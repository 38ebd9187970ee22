// SPDX-License-Identifier: ISC
//! Decision E7: a change to a live tree is stopped at every system call, by SIGKILL and by errors; whatever the moment,
//! the tree is exactly the old or exactly the new one after recovery. Needs root and strace.
//!
//! The change runs in a second process: this same test program, asked for the ignored test `driver`.

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use stockade::apply;
use stockade::error::{Error, Result};
use stockade::tree::Tree;
use stockade::tree::diff::diff;
use stockade::tree::text::{Dialect, read_tree, write_tree};
use stockade::watch::Watch;
use trees::{able, look, open, ready, supports_xattrs, text};

/// The tree before: run in an empty directory.
const OLD: &str = r#"
umask 022
mkdir -p lib bin turns/deep gone/deep stays
echo old > lib/libone.so.1; echo old > bin/prog; echo same > bin/meta; echo same > bin/suid; echo x > gone/deep/f
ln -s f gone/l; mkfifo gone/p; echo f > file-to-dir; echo t > turns/deep/f; ln -s old link
echo one > h1; ln h1 h2; echo two > h3; echo three > h4; echo four > h5; ln h5 h6
echo shared > outside; setfattr -n user.a -v 1 bin/meta
chown 5:6 bin/prog bin/suid; chmod 4755 bin/suid; chmod 2750 stays; chmod 0 h4
touch -d @1000.000000007 lib bin turns turns/deep gone stays bin/* h* .
"#;

/// The tree after.
const NEW: &str = r#"
umask 022
mkdir -p lib bin file-to-dir/deep stays fresh/deep
echo new > lib/libone.so.1; echo new > bin/prog; echo same > bin/meta; echo same > bin/suid
echo g > file-to-dir/deep/g; ln -s elsewhere turns; ln -s new link; echo n > fresh/deep/n; mkfifo fresh/p
mknod fresh/null c 1 3
echo one > h1; echo two > h3; ln h3 h2; echo three > h4; echo four > h5; ln h5 h6
echo shared > outside; setfattr -n user.b -v 2 bin/meta
chown 5:7 bin/prog bin/suid; chmod 4755 bin/suid; chmod 700 bin/meta; chmod 2755 stays; chmod 644 h4; chmod 600 h5
chmod 640 outside; chmod 1777 fresh
touch -d @2000.5 lib bin file-to-dir fresh/deep fresh stays bin/* h* .
"#;

/// Calls that change something on a disk, in every spelling that a library may choose.
const CHANGING: &str = "link linkat rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat symlink symlinkat mknod \
    mknodat chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown utimensat setxattr lsetxattr fsetxattr \
    removexattr lremovexattr fsync fdatasync syncfs write pwrite64 ftruncate";
/// Calls that only look, but may fail.
const LOOKING: &str = "openat openat2 statx readlinkat getdents64 fstatfs";

/// What the second process is asked to do, in its environment.
const ASK: &str = "STOCKADE_CRASH_TEST";

/// One run: a directory with `root`, `work`, `state`, `have` and `want` (manifests), and `new` (the bodies).
struct Run {
    temp: tempfile::TempDir,
}

impl Run {
    /// A copy of the old tree, ready to be changed.
    fn new(fixture: &Fixture) -> Run {
        let temp = tempfile::tempdir_in(fixture.temp.path()).unwrap();
        let run = Run { temp };
        for name in ["work", "state"] {
            fs::create_dir(run.path(name)).unwrap();
        }
        let copied = Command::new("cp").arg("-a").arg(fixture.path("old")).arg(run.path("root")).status().unwrap();
        assert!(copied.success());
        // A name that is not in the tree shares this inode: it must not be changed in place.
        fs::hard_link(run.path("root/outside"), run.path("witness")).unwrap();
        std::os::unix::fs::symlink(fixture.path("new"), run.path("new")).unwrap();
        write(&run.path("have"), &look(&run.path("root")));
        write(&run.path("want"), &look(&fixture.path("new")));
        run
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Runs the driver while one of its calls is made to fail, or kills it.
    fn disturbed(&self, ask: &str, how: &str) {
        let call = how.split(':').next().unwrap_or_default();
        self.traced(ask, &[format!("-etrace={call}"), format!("-einject={how}")]);
    }

    /// Runs the driver under strace with these options.
    fn traced(&self, ask: &str, options: &[String]) {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.path("log")).args(options);
        command.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", "driver", "--test-threads=1"]);
        command.env(ASK, ask).env("STOCKADE_CRASH_DIR", self.temp.path()).env("RUST_BACKTRACE", "0");
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        command.status().unwrap();
    }

    /// Recovers, and checks that nothing is left behind. Returns what the tree is then.
    fn recovered(&self, told: &str) -> String {
        let (target, state) = open(self.temp.path());
        let finish = || finish(self.temp.path());
        apply::recover(&target, &state, &finish, &Watch::default()).unwrap_or_else(|e| panic!("{told}: {e}"));
        for name in ["work", "state"] {
            let left: Vec<_> = fs::read_dir(self.path(name)).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(left.iter().all(|n| n == "written"), "{told}: left in {name}: {left:?}");
        }
        let witness = fs::metadata(self.path("witness")).unwrap();
        assert_eq!(witness.mode() & 0o7777, 0o644, "{told}: a name outside of the tree was changed");
        text(&look(&self.path("root")))
    }
}

/// The two trees, made once.
struct Fixture {
    temp: tempfile::TempDir,
    old: String,
    new: String,
}

impl Fixture {
    fn new() -> Fixture {
        let memory = tempfile::tempdir_in("/dev/shm").ok().filter(|temp| supports_xattrs(temp.path()));
        Fixture::at(memory.unwrap_or_else(|| tempfile::tempdir().unwrap()))
    }

    fn at(temp: tempfile::TempDir) -> Fixture {
        for (name, script) in [("old", OLD), ("new", NEW)] {
            trees::shell(script, &temp.path().join(name));
        }
        let seen = |name: &str| text(&look(&temp.path().join(name)));
        Fixture { old: seen("old"), new: seen("new"), temp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// How often the driver makes each of `calls` when nothing disturbs it.
    fn counts(&self, ask: &str, calls: &str) -> Vec<(String, usize)> {
        let run = Run::new(self);
        run.traced(ask, &[format!("-etrace={}", known(calls).join(","))]);
        let log = fs::read_to_string(run.path("log")).unwrap();
        // strace counts for each thread by itself.
        let mut threads: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for line in log.lines() {
            let mut words = line.split_whitespace();
            let (thread, call) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            *threads.entry((thread, call.split_once('(').map_or("", |(name, _)| name))).or_default() += 1;
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for ((_, call), count) in threads {
            let most = counts.entry(call.to_owned()).or_default();
            *most = count.max(*most);
        }
        // What this strace has no name for it cannot stop either; its neighbours stand for it.
        counts.retain(|name, _| !name.is_empty() && !name.starts_with("syscall_"));
        counts.into_iter().collect()
    }
}

/// Those of `calls` that this strace has heard of on this machine.
fn known(calls: &str) -> Vec<String> {
    calls.split_whitespace().map(|name| format!("?{name}")).collect()
}

/// What a caller does with its manifest: the new one takes the place of the old.
fn finish(at: &Path) -> Result<()> {
    fs::write(at.join("state/written"), b"").map_err(|e| Error::io("write", "written", &e))
}

fn write(path: &Path, tree: &Tree) {
    let mut text = Vec::new();
    write_tree(tree, &mut text, Dialect::Stockade).unwrap();
    fs::write(path, text).unwrap();
}

fn read(path: &Path) -> Tree {
    read_tree(&fs::read(path).unwrap()).unwrap()
}

/// The second process.
#[test]
#[ignore = "run by the other tests"]
fn driver() {
    let at = PathBuf::from(std::env::var_os("STOCKADE_CRASH_DIR").expect("run by the other tests"));
    let ask = std::env::var(ASK).unwrap();
    let (target, state) = open(&at);
    let watch = Watch::default();
    if ask == "recover" {
        apply::recover(&target, &state, &|| finish(&at), &watch).unwrap();
        return;
    }
    let plan = diff(&read(&at.join("have")), &read(&at.join("want")));
    let prepared = ready(&target, plan, &at.join("new")).unwrap();
    if ask == "conflict" {
        spoil(&at.join("root"));
    }
    apply::commit(&target, &state, &prepared, &|| finish(&at), &watch).unwrap();
}

/// What somebody else does to the old tree in the very last moment, in one call: the removal of this file comes late in
/// the order.
fn spoil(root: &Path) {
    let file = fs::File::options().append(true).open(root.join("gone/deep/f")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
}

/// Runs every case on two threads.
fn each<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            check(case);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

/// Every call of `counts`, each time it is made.
fn moments(counts: Vec<(String, usize)>) -> Vec<(String, usize)> {
    counts.into_iter().flat_map(|(name, count)| (1..=count).map(move |n| (name.clone(), n))).collect()
}

fn check(fixture: &Fixture, ask: &str, how: &str, allowed: &[&str]) -> bool {
    let run = Run::new(fixture);
    run.disturbed(ask, how);
    let found = run.recovered(how);
    if !allowed.contains(&&*found) {
        panic!("{ask}, {how}: neither old nor new:\n{found}\nold:\n{}\nnew:\n{}", fixture.old, fixture.new);
    }
    found == fixture.new
}

#[test]
fn killed_at_any_call_it_is_old_or_new() {
    if !able(&["strace", "setfattr"]) {
        return;
    }
    let fixture = Fixture::new();
    let cases = moments(fixture.counts("commit", CHANGING));
    let new = AtomicUsize::new(0);
    each(&cases, |(call, n)| {
        let is_new = check(&fixture, "commit", &format!("{call}:signal=KILL:when={n}"), &[&fixture.old, &fixture.new]);
        new.fetch_add(usize::from(is_new), Ordering::Relaxed);
    });
    let new = new.into_inner();
    assert!(new > 20 && new < cases.len() - 20, "{new} of {} ended with the new tree", cases.len());
}

#[test]
fn whatever_fails_it_is_old_or_new() {
    if !able(&["strace", "setfattr"]) {
        return;
    }
    let fixture = Fixture::new();
    let with = |calls: &str, error: &'static str| {
        moments(fixture.counts("commit", calls)).into_iter().map(move |(call, n)| (call, n, error))
    };
    let cases: Vec<_> = with(CHANGING, "ENOSPC").chain(with(CHANGING, "EIO")).chain(with(LOOKING, "EIO")).collect();
    each(&cases, |(call, n, error)| {
        check(&fixture, "commit", &format!("{call}:error={error}:when={n}"), &[&fixture.old, &fixture.new]);
    });
}

/// The disk breaks and stays broken: neither forward nor back, until it is mended.
#[test]
fn what_cannot_be_taken_back_at_once_is_taken_back_later() {
    if !able(&["strace", "setfattr"]) {
        return;
    }
    let fixture = Fixture::new();
    let changing = "link linkat rename renameat renameat2 unlink unlinkat mkdir mkdirat fsync";
    let cases = moments(fixture.counts("commit", changing));
    each(&cases, |(call, n)| {
        check(&fixture, "commit", &format!("{call}:error=EIO:when={n}+"), &[&fixture.old, &fixture.new]);
    });
}

#[test]
fn killed_while_turning_back_it_is_old() {
    if !able(&["strace", "setfattr"]) {
        return;
    }
    let fixture = Fixture::new();
    // As the old tree is, but for what somebody else did to it.
    let spoilt = Run::new(&fixture);
    spoil(&spoilt.path("root"));
    let spoilt = text(&look(&spoilt.path("root")));
    let cases = moments(fixture.counts("conflict", CHANGING));
    each(&cases, |(call, n)| {
        check(&fixture, "conflict", &format!("{call}:signal=KILL:when={n}"), &[&fixture.old, &spoilt]);
    });
}

#[test]
fn killed_while_recovering_it_is_old_or_new() {
    if !able(&["strace", "setfattr"]) {
        return;
    }
    let fixture = Fixture::new();
    let counts = fixture.counts("commit", "rename renameat renameat2");
    let (call, count) = counts.last().unwrap().clone();
    let half = format!("{call}:signal=KILL:when={}", count / 2);
    let again = {
        let run = Run::new(&fixture);
        run.disturbed("commit", &half);
        run.traced("recover", &[format!("-etrace={}", known(CHANGING).join(","))]);
        let log = fs::read_to_string(run.path("log")).unwrap();
        assert_eq!(run.recovered("undisturbed"), fixture.new);
        log
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let calls = again.lines().filter_map(|line| Some(line.split_whitespace().nth(1)?.split_once('(')?.0));
    let cases: Vec<(&str, usize)> = calls
        .map(|call| {
            let n = seen.entry(call).or_default();
            *n += 1;
            (call, *n)
        })
        .collect();
    assert!(cases.len() > 20);
    each(&cases, |(call, n)| {
        let run = Run::new(&fixture);
        run.disturbed("commit", &half);
        let how = format!("{call}:signal=KILL:when={n}");
        run.disturbed("recover", &how);
        let found = run.recovered(&how);
        assert!(found == fixture.new || found == fixture.old, "{how}: neither old nor new:\n{found}");
    });
}

/// On a disk, syncs are made too.
#[test]
fn killed_at_a_sync_it_is_old_or_new() {
    if !able(&["strace", "setfattr"]) {
        return;
    }
    let fixture = Fixture::at(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let cases = moments(fixture.counts("commit", "fsync syncfs"));
    each(&cases, |(call, n)| {
        for how in ["signal=KILL", "error=EIO"] {
            check(&fixture, "commit", &format!("{call}:{how}:when={n}"), &[&fixture.old, &fixture.new]);
        }
    });
}
