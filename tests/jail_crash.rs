// SPDX-License-Identifier: ISC
//! A jail follows the host, and something goes wrong: it is killed at every system call that changes something, the disk is
//! full, the host changes at the same time. Whatever happens, the jail runs, as the old one or as the new. Needs root,
//! strace and a C compiler.

mod common;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::strike::{each, moments, trace};
use common::{Said, World, able};

/// Two releases of a program with a library of its own, `one` and `two`, and `app`, the one that is installed.
fn stage() -> World {
    let world = World::new();
    let main = "int main(void) { printf(\"own %d\\n\", own()); return 0; }";
    world.write("prog.c", &format!("#include <stdio.h>\nint own(void);\n{main}\n"));
    world.sh("mkdir one two; for n in one:1 two:2; do cd ${n%:*}; number=${n#*:}
            echo \"int own(void) { return $number; }\" > own.c
            gcc -shared -fPIC -Wl,-soname,libown.so.$number -o libown.so.$number.0 own.c
            ln -s libown.so.$number.0 libown.so.$number; ln -s libown.so.$number libown.so
            gcc -o prog ../prog.c -L. -lown -Wl,-rpath,$(dirname $PWD)/app; rm own.c; cd ..; done; cp -a one app");
    let prog = world.path("app/prog");
    world.ok(&["jail", "j", prog.to_str().unwrap(), "--without", "zoneinfo"]);
    world
}

/// What the program in the jail says, and everything in the jail.
fn seen(world: &World) -> (String, String) {
    let root = world.root("j");
    let said = Said::of(Command::new("chroot").arg(&root).arg(world.path("app/prog")).output().unwrap());
    let list = "find . -printf '%p %M %U:%G %T@ %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";
    (format!("{}{}", said.out, said.err), world.sh(&format!("cd {}; {list}", root.display())))
}

/// Refreshes the jail under strace with this option.
fn refresh(world: &World, option: &str) -> Said {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(world.path("log")).arg(option);
    command.arg(env!("CARGO_BIN_EXE_stockade")).args(["build", "j"]);
    world.settle(&mut command);
    Said::of(command.output().unwrap())
}

const UPGRADE: &str = "rm -r app; cp -a two app";
const DOWNGRADE: &str = "rm -r app; cp -a one app; $STOCKADE build j >/dev/null";

#[test]
fn killed_at_any_moment_it_is_the_old_one_or_the_new() {
    if !able(&["strace", "gcc"]) {
        return;
    }
    let world = stage();
    let old = seen(&world);
    assert_eq!(old.0, "own 1\n");
    world.sh(UPGRADE);
    let said = refresh(&world, &trace());
    let new = seen(&world);
    assert_eq!((said.status, &*new.0), (Some(0), "own 2\n"), "{said:?}");
    let all = moments(&fs::read_to_string(world.path("log")).unwrap());
    // The engine is struck at every one by `build_crash`; here each fourth shows that the jail's own record keeps step.
    let cases: Vec<_> = all
        .into_iter()
        .filter(|(_, n)| n % 4 == 1)
        .map(|(call, n)| (call.clone(), format!("{call}:signal=KILL:when={n}")))
        .collect();
    let news = each(&cases, stage, |world, _, how| {
        world.sh(DOWNGRADE);
        let old = seen(world);
        world.sh(UPGRADE);
        let said = refresh(world, &format!("-einject={how}"));
        assert!(said.status.is_none() || said.status == Some(0), "{how}: {said:?}");
        assert_eq!(world.run(&["recover", "j"]).status, Some(0), "{how}");
        let now = seen(world);
        assert!(now == old || now.0 == "own 2\n", "{how}: neither old nor new: {now:?}");
        assert_eq!(world.run(&["check", "j", "--hash"]).status, Some(0), "{how}: the record is not of what is there");
        let is_new = now != old;
        world.ok(&["build", "j"]);
        assert_eq!(seen(world).0, "own 2\n", "{how}");
        let library = format!("{}/app/libown.so.2", world.path("").display());
        assert!(world.ok(&["why", "j", &library]).contains("library libown.so.2"), "{how}");
        world.assert_tidy();
        is_new
    });
    assert!(news > 2 && news + 5 < cases.len(), "{news} of {} ended with the new jail", cases.len());
}

#[test]
fn on_a_full_disk_the_old_one_stays() {
    if !able(&["gcc", "unshare", "mount"]) {
        return;
    }
    let world = stage();
    world.sh("head -c 3000000 /dev/urandom >> two/libown.so.2.0");
    let said = world.sh_apart(
        "prog=$PWD/app/prog; for free in 1 600 1500 2900 9000; do
            rm -rf app; cp -a one app; mkdir -m 700 -p small; mount -t tmpfs -o mode=700,size=64m none small
            export STOCKADE_HOME=$PWD/small; $STOCKADE jail j $prog >/dev/null
            rm -r app; cp -a two app; used=$(df --output=used small | tail -1)
            mount -o remount,size=$((used + free))k small; status=0
            $STOCKADE build j >out 2>err || status=$?
            echo $free: $status $(chroot small/j $prog) $(grep -c 'are free$' err) $(ls -A tmp)
            mount -o remount,size=64m small; $STOCKADE check j --hash >/dev/null
            [ ! -e small/.stockade/j/work ]; $STOCKADE build j >/dev/null; [ \"$(chroot small/j $prog)\" = 'own 2' ]
            umount small; done",
    );
    let want = ["1: 1 own 1 1", "600: 1 own 1 1", "1500: 1 own 1 1", "2900: 1 own 1 1", "9000: 0 own 2 0"];
    assert_eq!(said.lines().collect::<Vec<_>>(), want);
    // A new one: no jail at all.
    let said = world.sh_apart(
        "mkdir -m 700 -p small; mount -t tmpfs -o mode=700,size=1500k none small; export STOCKADE_HOME=$PWD/small
        status=0; $STOCKADE jail j $PWD/app/prog 2>err || status=$?; cat err; echo $status; ls small; umount small",
    );
    assert!(said.contains("are free") && said.ends_with("1\n"), "{said}");
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn while_the_host_changes_it_runs_or_says_why_not() {
    if !able(&["gcc"]) {
        return;
    }
    let world = stage();
    let ended = AtomicBool::new(false);
    let mut outcomes = [0, 0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for release in ["two", "one"] {
                    // Entry by entry, as a package manager does it.
                    world.sh(&format!(
                        "cp -a {release} next; for f in next/*; do mv -f $f app/; done; rmdir next
                        for f in app/lib*; do [ -e {release}/${{f#app/}} ] || rm -f $f; done; sleep 0.4"
                    ));
                }
            }
        });
        // Ends the other thread whatever becomes of this one.
        let _end = Ending(&ended);
        for _ in 0..12 {
            let said = world.run(&["build", "j"]);
            outcomes[usize::from(said.status == Some(0))] += 1;
            if said.status != Some(0) {
                assert!(said.status == Some(1) && said.err.contains("/app/"), "{said:?}");
            }
            let now = seen(&world).0;
            assert!(now == "own 1\n" || now == "own 2\n", "{said:?}: {now}");
        }
    });
    world.sh(UPGRADE);
    world.ok(&["build", "j"]);
    assert_eq!(seen(&world).0, "own 2\n");
    assert!(outcomes[1] > 0, "{outcomes:?}");
    world.assert_tidy();
}
