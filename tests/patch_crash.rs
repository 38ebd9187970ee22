// SPDX-License-Identifier: ISC
//! `patch apply` and `patch undo` are stopped at every system call that changes something, by SIGKILL and by errors, and a
//! root on three filesystems too. Whatever the moment, the root is exactly the old or exactly the new one after `recover`, and
//! the same command then ends what it began. Needs root, strace and, for the filesystems, loop devices.

mod common;

use std::fs;
use std::process::Command;

use common::strike::{each, moments, trace};
use common::{Said, World, able, picture};

/// Before the patch: of everything a little, in the directories that are filesystems of their own in one of the tests.
const OLD: &str = "
mkdir -p etc usr/bin usr/lib var/log var/db gone/deep; echo old > usr/lib/libone.so.1; echo old > usr/bin/prog
printf 'a\\nb\\nc\\n' > etc/conf; echo suid > usr/bin/suid; chmod 4755 usr/bin/suid; echo x > gone/deep/f; ln -s f gone/l
echo h > usr/bin/h1; ln usr/bin/h1 usr/bin/h2; echo f > turns; echo v > var/data; chmod 600 var/data
";

/// After it.
const EDIT: &str = "
echo new > usr/lib/libone.so.1; echo new > usr/bin/prog; printf 'a\\nB\\nc\\n' > etc/conf; echo SUID > usr/bin/suid
chmod 4755 usr/bin/suid; rm -r gone; mkdir fresh; echo n > fresh/n; echo H > usr/bin/h1; rm turns; mkdir turns
echo g > turns/g; echo V > var/data; chmod 644 var/data; mkfifo usr/fifo
";

/// What is struck.
#[derive(Clone, Copy)]
enum Verb {
    Apply,
    Undo,
}

struct Stage {
    world: World,
    verb: Verb,
    /// Pictures of the tree before and after the verb.
    from: String,
    to: String,
}

impl Stage {
    fn new(verb: Verb) -> Stage {
        let world = World::new();
        world.sh(&format!(
            "umask 022; mkdir old; (cd old; {OLD}); find old -depth -exec touch -h -d @1000000000.000000007 {{}} +
            cp -a old new; (cd new; {EDIT})
            $STOCKADE patch diff old new --unsigned --name p --follow-up ldconfig -o p.tgz; cp -a old root
            $STOCKADE patch apply --unsigned p.tgz --root ./root; cp -a root patched"
        ));
        let (old, new) = (picture(&world.path("old")), picture(&world.path("patched")));
        let (from, to) = match verb {
            Verb::Apply => (old, new),
            Verb::Undo => (new, old),
        };
        let stage = Stage { world, verb, from, to };
        stage.command("-etrace=none");
        stage
    }

    fn apply() -> Stage {
        Stage::new(Verb::Apply)
    }

    fn undo() -> Stage {
        Stage::new(Verb::Undo)
    }

    /// The root as it is, but for what differs each time: when it was patched is in a file.
    fn seen(&self) -> String {
        picture(&self.world.path("root"))
    }

    /// Sets the root to what it is before the verb: patched by the program, because what it kept is known by digest.
    fn set(&self) {
        self.world.sh("rm -rf root; cp -a old root");
        if matches!(self.verb, Verb::Undo) {
            self.world.ok(&["patch", "apply", "--unsigned", "p.tgz", "--root", "./root"]);
        }
    }

    fn command(&self, option: &str) -> Said {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.world.path("log")).arg(option).arg(env!("CARGO_BIN_EXE_stockade"));
        match self.verb {
            Verb::Apply => command.args(["patch", "apply", "--unsigned", "p.tgz", "--root", "./root"]),
            Verb::Undo => command.args(["patch", "undo", "--root", "./root"]),
        };
        self.world.settle(&mut command);
        Said::of(command.output().unwrap())
    }

    fn moments(&self) -> Vec<(String, usize)> {
        self.set();
        let said = self.command(&trace());
        assert_eq!(said.status, Some(0), "{said:?}");
        assert!(alike(&self.seen(), &self.to), "{}\n{}", self.seen(), self.to);
        moments(&fs::read_to_string(self.world.path("log")).unwrap())
    }

    /// After whatever happened: recovers, is the one or the other, and ends as the other. Was it the other?
    fn verdict(&self, told: &str) -> bool {
        let recovered = self.world.run(&["recover", "./root"]);
        // Nothing is known of a root that was never written to.
        let nothing = recovered.err.contains("no record of such a chroot");
        assert!(recovered.status == Some(0) || nothing, "{told}: {recovered:?}");
        let found = self.seen();
        let done = alike(&found, &self.to);
        assert!(done || alike(&found, &self.from), "{told}: neither:\n{found}\nfrom:\n{}\nto:\n{}", self.from, self.to);
        assert!(!self.world.path("root/.stockade-work").exists(), "{told}: the work space is left");
        assert!(!self.world.path(".stockade/root/due").exists(), "{told}: something is still to be done");
        if !done {
            let said = self.command("-etrace=none");
            assert_eq!(said.status, Some(0), "{told}: and then: {said:?}");
            assert!(alike(&self.seen(), &self.to), "{told}: and then");
        }
        done
    }
}

/// Are two pictures the same but for the day on which the root was patched?
fn alike(a: &str, b: &str) -> bool {
    let plain = |picture: &str| -> Vec<String> {
        let line = |line: &str| match line.find("\\napplied ") {
            Some(at) => {
                let rest = &line[at + 10..];
                format!("{}{}", &line[..at], &rest[rest.find("\\n").unwrap_or(0)..])
            }
            None => line.to_owned(),
        };
        picture.lines().map(line).collect()
    };
    plain(a) == plain(b)
}

const TOOLS: [&str; 3] = ["strace", "setfattr", "getfattr"];

fn killed(new: fn() -> Stage) {
    if !able(&TOOLS) {
        return;
    }
    let cases: Vec<_> =
        new().moments().into_iter().map(|(call, n)| (call.clone(), format!("{call}:signal=KILL:when={n}"))).collect();
    let done = each(&cases, new, |stage, _, how| {
        stage.set();
        stage.command(&format!("-einject={how}"));
        stage.verdict(how)
    });
    assert!(done > 10 && done + 30 < cases.len(), "{done} of {} were done", cases.len());
}

fn failed(new: fn() -> Stage) {
    if !able(&TOOLS) {
        return;
    }
    // In turn, which is as good as both at each.
    let errors = [("ENOSPC", "No space left on device"), ("EIO", "Input/output error")].into_iter().cycle();
    let moments = new().moments();
    let case = |((call, n), (error, text)): (&(String, usize), (&str, &str))| {
        (text.to_owned(), format!("{call}:error={error}:when={n}"))
    };
    let cases: Vec<_> = moments.iter().zip(errors).map(case).collect();
    let done = each(&cases, new, |stage, text, how| {
        stage.set();
        let said = stage.command(&format!("-einject={how}"));
        assert!(matches!(said.status, Some(0 | 1)) && !said.err.contains("panicked"), "{how}: {said:?}");
        if said.status == Some(1) && !how.starts_with("write:") {
            assert!(said.err.starts_with("stockade: patch") && said.err.contains(text), "{how}: {said:?}");
        }
        let done = stage.verdict(how);
        assert!(said.status == Some(1) || done, "{how}: it said that it was done: {said:?}");
        done
    });
    assert!(done > 3 && done + 30 < cases.len(), "{done} of {} were done", cases.len());
}

#[test]
fn a_patch_that_is_killed_is_there_or_not() {
    killed(Stage::apply);
}

#[test]
fn a_patch_that_fails_is_there_or_not() {
    failed(Stage::apply);
}

#[test]
fn an_undo_that_is_killed_is_done_or_not() {
    killed(Stage::undo);
}

#[test]
fn an_undo_that_fails_is_done_or_not() {
    failed(Stage::undo);
}

/// `/`, `/usr` and `/var` of the root on filesystems of their own, each killed at every third moment.
#[test]
fn a_root_on_three_filesystems_is_patched_as_one() {
    if !able(&["strace", "mkfs.ext4", "losetup", "unshare"]) {
        return;
    }
    let stage = Stage::apply();
    let out = stage.world.sh_apart(
        "for fs in root usr var; do truncate -s 24M $fs.img; mkfs.ext4 -qO ^has_journal $fs.img; done
        mkdir mnt; mount -o loop root.img mnt; mkdir mnt/usr mnt/var; mount -o loop usr.img mnt/usr; mount -o loop var.img mnt/var
        fill() { rm -rf mnt/[a-km-z]*/* mnt/fresh mnt/turns mnt/gone; rmdir mnt/lost+found mnt/*/lost+found 2>/dev/null || true
            rsync -aHAX --delete old/ mnt/; }
        same() { rsync -aHAXcni --delete --modify-window=-1 --exclude=/var/db/stockade $1/ mnt/; }
        step=1 done=0
        while :; do
            fill; test -z \"$(same old)\"
            strace -f -qq -o log -e inject=renameat,linkat,unlinkat,mkdirat,fchmodat,utimensat:signal=KILL:when=$step \\
                $STOCKADE patch apply --unsigned p.tgz --root ./mnt > said 2>&1 && break || true
            $STOCKADE recover ./mnt > said 2>&1 || grep -q 'no record' said
            if test -z \"$(same old)\"; then :; elif test -z \"$(same new)\"; then done=$((done+1)); else same old; same new; exit 1; fi
            ls -A mnt mnt/usr mnt/var | grep stockade-work && exit 1
            step=$((step+3)); test $step -lt 900
        done
        test -z \"$(same new)\"
        $STOCKADE patch undo --root ./mnt; test -z \"$(rsync -aHAXcni --delete --modify-window=-1 old/ mnt/)\"
        mount -o remount,ro mnt/var
        if $STOCKADE patch apply --unsigned p.tgz --root ./mnt > said 2>&1; then exit 1; fi
        grep -q read-only said; test -z \"$(same old)\"
        echo $step moments, $done of them done",
    );
    let numbers: Vec<usize> = out.lines().last().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 60 && numbers[1] > 1, "{out}");
}

/// A filesystem that is nearly full: nothing is changed, and it is said.
#[test]
fn where_there_is_no_room_nothing_is_changed() {
    if !able(&["mkfs.ext4", "losetup", "unshare"]) {
        return;
    }
    let stage = Stage::apply();
    stage.world.sh_apart(
        "cp -a new big; head -c 6000000 /dev/urandom > big/usr/bin/large
        $STOCKADE patch diff old big --unsigned --name big -o big.tgz
        truncate -s 12M img; mkfs.ext4 -qO ^has_journal img; mkdir mnt; mount -o loop img mnt; rmdir mnt/lost+found
        rsync -aHAX old/ mnt/; head -c 7000000 /dev/urandom > mnt/filler; cp -a mnt was
        if $STOCKADE patch apply --unsigned big.tgz --root ./mnt > said 2>&1; then exit 1; fi
        grep -q \"patch apply $PWD/mnt: it needs .* and .* are free\" said; grep -q 'hint: ' said
        dd if=/dev/zero of=mnt/all bs=64k 2> /dev/null || true
        if $STOCKADE patch diff old big --unsigned --name big -o mnt/big.tgz > said 2>&1; then exit 1; fi
        grep -q 'mnt/big.tgz: .*No space left' said; test ! -e mnt/big.tgz; rm mnt/all; touch -r was mnt
        test -z \"$(rsync -aHAXcni --delete --modify-window=-1 was/ mnt/)\"",
    );
}
