// SPDX-License-Identifier: ISC
//! `build` is stopped at every system call that changes something, by SIGKILL and by errors. Whatever the moment, the
//! chroot is exactly the old or exactly the new one after `recover`, what is recorded is what is there, and the next
//! build works (decisions E1, E6 and E7). Needs root and strace.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use common::strike::{each, moments, trace};
use common::{Said, World, able, native, picture};

/// The sources before: of every kind of entry, a few.
const OLD: &str = "
mkdir -p lib bin turns/deep gone/deep; echo old > lib/libone.so.1; echo old > bin/prog; echo same > bin/meta
echo same > bin/suid; echo x > gone/deep/f; ln -s f gone/l; mkfifo gone/p; echo f > file-to-dir; echo t > turns/deep/f
ln -s old link; echo one > h1; ln h1 h2; echo three > h3; chown 5:6 bin/prog; chmod 4755 bin/suid
setfattr -n user.a -v 1 bin/meta
";

/// The sources after.
const NEW: &str = "
mkdir -p lib bin file-to-dir/deep fresh; echo new > lib/libone.so.1; echo new > bin/prog; echo same > bin/meta
echo same > bin/suid; echo g > file-to-dir/deep/g; ln -s elsewhere turns; ln -s new link; mkfifo fresh/p
echo one > h1; echo three > h3; ln h3 h2; chown 5:7 bin/prog bin/suid; chmod 4755 bin/suid; chmod 700 bin/meta
mknod fresh/null c 1 3; setfattr -n user.b -v 2 bin/meta; chmod 1777 fresh
";

/// A world with both archives and a recipe for each, which removes all that it does not know.
struct Stage {
    world: World,
    /// The chroot.
    name: &'static str,
    /// What `build` is told besides.
    flags: &'static [&'static str],
    old: String,
    new: String,
}

impl Stage {
    fn new(world: World, chroot: &'static str) -> Stage {
        for (name, script, time) in [("old", OLD, 1000), ("new", NEW, 2000)] {
            world.sh(&format!(
                "umask 022; mkdir {name}; cd {name}; {script}
                find . -depth -exec touch -h -d @{time}.000000007 {{}} +
                tar --format=posix --numeric-owner --xattrs --xattrs-include='user.*' -cf ../{name}.tar ."
            ));
            let source = format!("[[source]]\narchive = \"{name}.tar\"\n");
            world.write(
                &format!("{name}.toml"),
                &format!("devices = \"none\"\n[policy]\nunknown = \"remove\"\n{source}"),
            );
        }
        let (old, new) = (picture(&world.path("old")), picture(&world.path("new")));
        world.sh("mkdir -m 1777 open");
        Stage { world, name: chroot, flags: &[], old, new }
    }

    fn root(&self) -> PathBuf {
        self.world.root(self.name)
    }

    fn seen(&self) -> String {
        picture(&self.root())
    }

    /// The chroot is the old one again, whatever it was.
    fn set(&self) {
        self.world.ok(&["build", self.name, "-f", "old.toml", "--yes"]);
        assert_eq!(self.seen(), self.old, "the stage is not set");
    }

    fn strike(&self) {
        if self.root().exists() {
            self.world.ok(&["remove", self.name]);
        }
    }

    /// Builds the new one under strace with this option.
    fn build(&self, option: &str) -> Said {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.world.path("log")).arg(option);
        command
            .arg(env!("CARGO_BIN_EXE_stockade"))
            .args(["build", self.name, "-f", "new.toml", "--yes"])
            .args(self.flags);
        self.world.settle(&mut command);
        Said::of(command.output().unwrap())
    }

    /// How often each call is made in a build that nothing disturbs, by the thread that makes it most: strace counts
    /// them for each thread.
    fn moments(&self) -> Vec<(String, usize)> {
        let said = self.build(&trace());
        assert_eq!((said.status, self.seen() == self.new), (Some(0), true), "{said:?}");
        moments(&fs::read_to_string(self.world.path("log")).unwrap())
    }

    /// After whatever happened: recovers, and is the chroot one or the other, and recorded as such? Is it the new one?
    fn verdict(&self, told: &str) -> bool {
        let recovered = self.world.run(&["recover", self.name]);
        assert_eq!(recovered.status, Some(0), "{told}: {recovered:?}");
        let found = self.seen();
        let old = format!("{told}: neither old nor new:\n{found}\nold:\n{}\nnew:\n{}", self.old, self.new);
        assert!(found == self.old || found == self.new, "{old}");
        let checked = self.world.run(&["check", self.name, "--hash"]);
        assert_eq!(checked.status, Some(0), "{told}: the record is not of what is there: {checked:?}");
        self.world.assert_tidy();
        found == self.new
    }
}

impl Stage {
    /// How many states hold more than a lock.
    fn states(&self) -> usize {
        let states = fs::read_dir(self.world.path("home/.stockade")).unwrap().map(|state| state.unwrap().path());
        let full = |state: &PathBuf| fs::read_dir(state).unwrap().any(|file| file.unwrap().file_name() != "lock");
        states.filter(|state| !state.ends_with("roots")).filter(full).count()
    }
}

fn in_home() -> Stage {
    Stage::new(World::new(), "b0")
}

/// A copy is changed and exchanged with the root.
fn by_exchange() -> Stage {
    Stage { flags: &["--swap"], ..in_home() }
}

/// Where syncs are made too.
fn on_disk() -> Stage {
    Stage::new(World::on_disk(), "b0")
}

/// Where the state cannot lie beside the root: the work space is in the root, and the first build goes by journal too.
fn in_the_open() -> Stage {
    Stage::new(World::new(), "./open/b0")
}

const TOOLS: [&str; 4] = ["strace", "tar", "setfattr", "getfattr"];

#[test]
fn a_refresh_that_is_killed_ends_old_or_new() {
    if !able(&TOOLS) {
        return;
    }
    let stage = in_home();
    stage.set();
    let cases: Vec<_> =
        stage.moments().into_iter().map(|(call, n)| (call.clone(), format!("{call}:signal=KILL:when={n}"))).collect();
    let new = each(&cases, in_home, |stage, _, how| {
        stage.set();
        let said = stage.build(&format!("-einject={how}"));
        assert!(said.status.is_none() || said.status == Some(0), "{how}: {said:?}");
        stage.verdict(how)
    });
    assert!(new > 10 && new + 30 < cases.len(), "{new} of {} ended with the new tree", cases.len());
}

#[test]
fn a_refresh_that_fails_says_so_and_ends_old_or_new() {
    if !able(&TOOLS) {
        return;
    }
    let stage = in_home();
    stage.set();
    let errors = [("ENOSPC", "No space left on device"), ("EIO", "Input/output error")];
    let moments = stage.moments();
    let cases: Vec<_> = moments
        .iter()
        .flat_map(|(call, n)| errors.map(|(error, text)| (text.to_owned(), format!("{call}:error={error}:when={n}"))))
        .collect();
    let new = each(&cases, in_home, |stage, text, how| {
        stage.set();
        let said = stage.build(&format!("-einject={how}"));
        assert!(matches!(said.status, Some(0 | 1)) && !said.err.contains("panicked"), "{how}: {said:?}");
        // The message itself may be what could not be written.
        if said.status == Some(1) && !how.starts_with("write:") {
            assert!(said.err.starts_with("stockade: build") && said.err.contains(text), "{how}: {said:?}");
        }
        let is_new = stage.verdict(how);
        assert!(said.status == Some(1) || is_new, "{how}: it said that it was done: {said:?}");
        is_new
    });
    assert!(new > 5 && new + 60 < cases.len(), "{new} of {} ended with the new tree", cases.len());
}

#[test]
fn a_first_build_that_is_killed_made_nothing_or_all() {
    if !able(&TOOLS) {
        return;
    }
    let stage = in_home();
    let cases: Vec<_> =
        stage.moments().into_iter().map(|(call, n)| (call.clone(), format!("{call}:signal=KILL:when={n}"))).collect();
    let made = each(&cases, in_home, |stage, _, how| {
        stage.strike();
        stage.build(&format!("-einject={how}"));
        let made = stage.root().exists();
        if made {
            // Nobody is told to adopt what only has to be finished.
            let checked = stage.world.run(&["check", stage.name]);
            let finish = checked.status == Some(1) && checked.err.contains("stockade recover b0");
            assert!(checked.status == Some(0) || finish, "{how}: {checked:?}");
            assert_eq!(stage.seen(), stage.new, "{how}");
            stage.verdict(how);
        }
        let said = stage.world.ok(&["build", stage.name, "-f", "new.toml"]);
        assert_eq!(stage.seen(), stage.new, "{how}: {said}");
        assert!(stage.verdict(how));
        made
    });
    assert!(made > 5 && made + 30 < cases.len(), "{made} of {} made it", cases.len());
}

/// A root that is moved away half changed is not given up, unless somebody says so.
#[test]
fn half_changed_and_moved_away_it_is_recovered_once_it_is_back() {
    if !able(&TOOLS) {
        return;
    }
    for new in [in_home, in_the_open] {
        let stage = new();
        stage.set();
        let moments = stage.moments();
        let (call, n) = moments.iter().rfind(|(call, _)| call.starts_with("rename")).unwrap();
        let half = format!("-einject={call}:signal=KILL:when={}", n / 2);
        let (root, away) = (stage.root(), stage.world.path("away"));
        let interrupt = || {
            stage.set();
            stage.build(&half);
            fs::rename(&root, &away).unwrap();
            for arguments in [&["recover", stage.name][..], &["build", stage.name], &["build", stage.name, "--adopt"]] {
                stage.world.refused(arguments, &["interrupted, and now it is gone", "hint: move it back"]);
            }
            assert!(!root.exists(), "it was made anew");
            fs::create_dir(&root).unwrap();
            for arguments in [&["recover", stage.name][..], &["build", stage.name], &["adopt", stage.name]] {
                stage.world.refused(arguments, &["another ", "hint: move ", "stockade recover"]);
            }
            fs::remove_dir(&root).expect("nothing is made in somebody's directory");
        };
        interrupt();
        fs::rename(&away, &root).unwrap();
        assert!(stage.world.ok(&["recover", stage.name]).contains("complete"));
        assert!(stage.verdict("moved away and back"));

        interrupt();
        assert!(stage.world.ok(&["remove", stage.name]).contains("gone already"));
        assert_eq!(stage.world.ok(&["list"]), "");
        assert_eq!(stage.states(), 0);
    }
}

#[test]
fn a_removal_that_is_killed_is_not_begun_or_done() {
    if !able(&TOOLS) {
        return;
    }
    let strike = |stage: &Stage, option: &str| {
        stage.set();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(stage.world.path("log")).arg(option);
        command.arg(env!("CARGO_BIN_EXE_stockade")).args(["remove", stage.name]);
        stage.world.settle(&mut command);
        Said::of(command.output().unwrap())
    };
    let stage = in_home();
    let count = |calls: &str| {
        strike(&stage, &format!("-etrace={calls}"));
        fs::read_to_string(stage.world.path("log"))
            .unwrap()
            .lines()
            .filter(|l| l.contains("at(") || l.contains("ir("))
            .count()
    };
    let mut cases = Vec::new();
    for call in ["renameat", "unlinkat"] {
        let count = count(call);
        assert!(count > 0, "{call}");
        cases.extend((1..=count).map(|n| (call.to_owned(), format!("{call}:signal=KILL:when={n}"))));
    }
    assert!(cases.len() > 20, "{}", cases.len());
    let gone = each(&cases, in_home, |stage, _, how| {
        strike(stage, &format!("-einject={how}"));
        if stage.root().exists() {
            assert_eq!(picture(&stage.root()), stage.old, "{how}");
            assert!(!stage.verdict(how));
            return false;
        }
        // Either finishes it; where nothing but the directory of the state is left, there is nothing to finish.
        let verb = if how.len() % 2 == 0 { "recover" } else { "remove" };
        let said = stage.world.run(&[verb, stage.name]);
        assert!(
            said.status == Some(0) || said.err.contains("no such chroot") || said.err.contains("no record"),
            "{how}: {said:?}"
        );
        assert_eq!(stage.world.ok(&["list"]), "", "{how}");
        assert_eq!(stage.states(), 0, "{how}");
        true
    });
    assert!(gone > 10 && gone < cases.len(), "{gone} of {}", cases.len());
}

/// On a disk, where syncs are made.
#[test]
fn killed_at_a_sync_it_ends_old_or_new() {
    if !native("there is no syncfs(2)") || !able(&TOOLS) {
        return;
    }
    let stage = on_disk();
    stage.set();
    let mut cases = Vec::new();
    for (call, n) in stage.moments().into_iter().filter(|(call, _)| call.contains("sync")) {
        cases.extend(["signal=KILL", "error=EIO"].map(|how| (call.clone(), format!("{call}:{how}:when={n}"))));
    }
    assert!(cases.iter().any(|(call, _)| call == "syncfs"), "a change was not synced before its journal: {cases:?}");
    each(&cases, on_disk, |stage, _, how| {
        stage.set();
        stage.build(&format!("-einject={how}"));
        stage.verdict(how)
    });
}

#[test]
fn a_refresh_that_is_killed_where_others_may_write_ends_old_or_new() {
    if !able(&TOOLS) {
        return;
    }
    let stage = in_the_open();
    stage.set();
    let cases: Vec<_> =
        stage.moments().into_iter().map(|(call, n)| (call.clone(), format!("{call}:signal=KILL:when={n}"))).collect();
    each(&cases, in_the_open, |stage, _, how| {
        stage.set();
        stage.build(&format!("-einject={how}"));
        stage.verdict(how)
    });
}

#[test]
fn a_first_build_in_place_that_is_killed_is_done_by_the_next() {
    if !able(&TOOLS) {
        return;
    }
    let stage = in_the_open();
    let cases: Vec<_> =
        stage.moments().into_iter().map(|(call, n)| (call.clone(), format!("{call}:signal=KILL:when={n}"))).collect();
    each(&cases, in_the_open, |stage, _, how| {
        stage.strike();
        stage.build(&format!("-einject={how}"));
        let said = stage.world.ok(&["build", stage.name, "-f", "new.toml"]);
        assert_eq!(stage.seen(), stage.new, "{how}: {said}");
        stage.verdict(how)
    });
}

#[test]
fn an_exchange_that_is_killed_or_fails_ends_old_or_new() {
    if !native("nothing is exchanged") || !able(&TOOLS) {
        return;
    }
    let stage = by_exchange();
    stage.set();
    let before = fs::metadata(stage.root()).unwrap().ino();
    let moments = stage.moments();
    assert_ne!(before, fs::metadata(stage.root()).unwrap().ino(), "it is the same directory");
    assert!(stage.verdict("undisturbed"));
    let hows = ["signal=KILL", "error=ENOSPC"];
    let cases: Vec<_> =
        moments.iter().flat_map(|(call, n)| hows.map(|how| (call.clone(), format!("{call}:{how}:when={n}")))).collect();
    let new = each(&cases, by_exchange, |stage, _, how| {
        stage.set();
        let before = fs::metadata(stage.root()).unwrap().ino();
        let said = stage.build(&format!("-einject={how}"));
        assert!(matches!(said.status, None | Some(0 | 1)) && !said.err.contains("panicked"), "{how}: {said:?}");
        // Not even before recovery is it anything in between.
        let is_new = fs::metadata(stage.root()).unwrap().ino() != before;
        assert_eq!(stage.seen(), *if is_new { &stage.new } else { &stage.old }, "{how}: {said:?}");
        assert_eq!(stage.verdict(how), is_new, "{how}");
        assert!(said.status != Some(0) || is_new, "{how}: it said that it was done: {said:?}");
        is_new
    });
    assert!(new > 20 && new + 60 < cases.len(), "{new} of {} ended with the new tree", cases.len());
}

/// A filesystem that is really full, of bytes or of inodes: the old tree stays, and once there is room all is well.
#[test]
fn a_full_filesystem_leaves_the_old_tree() {
    if !able(&["tar", "unshare", "mount"]) {
        return;
    }
    for (kind, small, large, make) in [
        ("bytes", "size=4m", "size=64m", "head -c 6000000 /dev/urandom > big"),
        ("inodes", "nr_inodes=200", "nr_inodes=4000", "for i in $(seq 300); do echo $i > n$i; done"),
    ] {
        let stage = in_home();
        let said = stage.world.sh_apart(&format!(
            "mkdir -m 700 home; mount -t tmpfs -o mode=700,{small} none home
            $STOCKADE build b0 -f old.toml
            tree() {{ cd $1; find . -printf '%p %M %U:%G %T@ %s %l\\n' | sort; find . -type f | sort | xargs cat; cd - >/dev/null; }}
            tree home/b0 > before
            cd new; {make}; tar --numeric-owner -cf ../new.tar .; cd ..
            ! $STOCKADE build b0 -f new.toml --yes 2> err || exit 3
            tree home/b0 > after; cmp before after; cat err
            $STOCKADE check b0 --hash; [ ! -e home/.stockade/b0/work ]; ls -A tmp
            mount -o remount,{large} home; $STOCKADE build b0 -f new.toml --yes; $STOCKADE check b0 --hash
            rsync -aHcni --delete new/ home/b0/"
        ));
        assert!(said.contains("stockade: build ") && said.contains("space"), "{kind}: {said}");
        assert_eq!(said.lines().count(), 5, "{kind}: build, error, check, build, check: {said}");
    }
}
