// SPDX-License-Identifier: ISC
//! Files out of a chroot and into one: what arrives, what does not, and that no link leads out.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{World, able, entries, fingerprint};
use serde_json::Value;

const TREE: &str = r#"
umask 022; mkdir -p tree/etc tree/usr/lib/deep tree/dev tree/data/in; cd tree; echo secret > etc/inside; chmod 640 etc/inside
ln -s usr/lib lib; ln -s /etc/inside abs; ln -s ../../../../../../etc/inside up; ln -s /etc/none dangling; ln -s loop loop
ln -s ../etc data/in/link; echo f > data/in/f; chown 5:6 data/in/f; chmod 4755 data/in/f; mkfifo data/in/p
mknod data/null c 1 3; setfattr -n user.a -v b data/in; chmod 1777 data; : > usr/lib/deep/x; mkfifo fifo
find . -depth -exec touch -h -d @1600000000.123456789 {} +
"#;

fn world() -> Option<World> {
    if !able(&["setfattr"]) {
        return None;
    }
    let world = World::new();
    world.sh(TREE);
    let recipe = "devices = \"none\"\nactions = [\"-ldconfig\"]\n[[source]]\ndirectory = \"tree\"\n";
    world.write("recipe.toml", recipe);
    world.ok(&["build", "base", "-f", "./recipe.toml"]);
    world.sh("mkdir out");
    Some(world)
}

fn seen(path: &Path) -> (String, u32, (u32, u32), (i64, i64)) {
    let meta = fs::symlink_metadata(path).unwrap();
    let text = fs::read_to_string(path).unwrap();
    (text, meta.mode() & 0o7777, (meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec()))
}

const TIME: (i64, i64) = (1_600_000_000, 123_456_789);

#[test]
fn files_and_directories_come_out() {
    let Some(world) = world() else { return };
    let before = fingerprint(&world.root("base"));
    for (from, to, at) in [
        ("base:/etc/inside", "out", "out/inside"),
        ("base:etc/inside", "out/new", "out/new"),
        ("base:/abs", "./out/", "out/abs"),
        ("base:up", "out/up", "out/up"),
        ("base:etc/inside", "out/new", "out/new"),
    ] {
        let said = world.ok(&["copy", from, to]);
        assert!(said.ends_with(&format!("/{at}: copied: 1 entries, 7 B\n")), "{from} {to}: {said}");
        assert_eq!(seen(&world.path(at)), ("secret\n".into(), 0o640, (0, 0), TIME), "{from} {to}");
    }
    let said = world.ok(&["copy", "base:data", "out"]);
    assert!(said.contains("note: 2 devices, FIFOs or sockets are not copied\n"), "{said}");
    assert!(said.contains("note: 1 files lose their set-id bits\n"), "{said}");
    let found = entries(&world.path("out/data"));
    let found: Vec<&str> = found.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(found, [".", "in", "in/f", "in/link"]);
    assert_eq!(seen(&world.path("out/data/in/f")), ("f\n".into(), 0o755, (0, 0), TIME));
    assert_eq!(fs::read_link(world.path("out/data/in/link")).unwrap(), Path::new("../etc"));
    assert_eq!(fs::metadata(world.path("out/data")).unwrap().mode() & 0o7777, 0o1777);
    let attributes = world.sh("getfattr -RPhd -m - out");
    assert!(!attributes.contains("user.a"), "{attributes}");
    assert_eq!(fingerprint(&world.root("base")), before, "the chroot is not touched");
    let names: Vec<_> = fs::read_dir(world.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
}

#[test]
fn files_and_directories_go_in() {
    let Some(world) = world() else { return };
    world.sh("mkdir -p in/d/e; echo hello > in/f; echo deep > in/d/e/g; ln -s /nowhere in/d/l; ln -s f in/link");
    world.sh("chown 7:8 in/f; chmod 6711 in/f; touch -d @1600000000.123456789 in/f");
    for (from, to, at) in [
        ("in/f", "base:/etc", "etc/f"),
        ("./in/f", "base:/etc/new", "etc/new"),
        ("in/f", "base:lib", "usr/lib/f"),
        ("in/link", "base:/lib/deep/", "usr/lib/deep/link"),
        ("in/f", "base:abs", "etc/inside"),
        ("in/f", "base:/", "f"),
    ] {
        world.ok(&["copy", from, to]);
        assert_eq!(seen(&world.root("base").join(at)), ("hello\n".into(), 0o711, (0, 0), TIME), "{from} {to}");
    }
    assert!(fs::symlink_metadata(world.root("base").join("abs")).unwrap().is_symlink(), "the link stays");
    world.ok(&["copy", "in/d", "base:/data/in/new"]);
    assert_eq!(fs::read_to_string(world.root("base").join("data/in/new/e/g")).unwrap(), "deep\n");
    world.assert_tidy();
    // A dry run says where, and does nothing.
    let before = fingerprint(&world.root("base"));
    let said = world.ok(&["copy", "in/f", "base:data", "--dry-run"]);
    assert_eq!(said, "note: 1 files lose their set-id bits\ndata/f: would be copied: 1 entries, 6 B\n");
    assert_eq!(fingerprint(&world.root("base")), before);
}

/// Links that lead out of the chroot, in every way that a path can meet them.
#[test]
fn no_link_leads_out() {
    let Some(world) = world() else { return };
    let outside = world.path("outside");
    world.sh("mkdir outside; echo host > outside/file; echo evil > payload; mkdir outside/dir");
    world.sh(&format!(
        "cd home/base; ln -s {0} away; ln -s {0}/file leak; ln -s ../../outside rel; mkdir -p trap; ln -s {0} trap/x",
        outside.display()
    ));
    let before = fingerprint(&outside);
    for (from, to, words) in [
        ("base:away/file", "out", "no such file in the chroot"),
        ("base:leak", "out", "no such file in the chroot"),
        ("base:rel/file", "out", "no such file in the chroot"),
        ("base:trap/x/file", "out", "no such file in the chroot"),
        ("payload", "base:away/file", "no such file in the chroot"),
        ("payload", "base:trap/x/new", "no such file in the chroot"),
        ("payload", "base:leak", "only such are replaced"),
        ("payload", "base:loop", "too many symbolic links"),
        ("payload", "base:../outside/file", "\"..\" in a path"),
        ("base:dangling", "out", "no such file in the chroot"),
        ("base:fifo", "out", "neither a file nor a directory"),
        ("payload", "base:fifo", "only such are replaced"),
        ("outside", "base:data", "a directory of this name"),
        ("payload", "base:etc/inside/x", "no directory"),
        ("base:/", "out", "a whole root is not copied"),
        ("payload", "out", "neither end is in a chroot"),
        ("base:etc", "base:data", "both ends are in chroots"),
        ("none:etc", "out", "neither end is in a chroot"),
        ("base:etc/inside", "/dev/null", "only such are replaced"),
        ("base:etc/inside", "none/x", "No such file"),
    ] {
        if to == "base:data" {
            world.sh("mkdir -p home/base/data/outside");
        }
        let said = world.run(&["copy", from, to]);
        assert_eq!(said.status, Some(1), "{from} {to}: {said:?}");
        assert!(said.err.contains(words), "{from} {to}: {}", said.err);
    }
    assert_eq!(fingerprint(&outside), before, "the outside is as it was");
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 0);
    assert!(fs::metadata("/dev/null").unwrap().mode() & 0o170_000 == 0o020_000);
    world.assert_tidy();
}

/// While somebody inside exchanges a directory and a link to the outside as fast as he can, nothing gets out or in.
#[test]
fn a_race_for_the_way_is_lost_by_the_attacker() {
    let Some(world) = world() else { return };
    world.sh("mkdir outside; echo host > outside/file; echo evil > payload");
    let outside = world.path("outside");
    world.sh(&format!("cd home/base; mkdir a; echo mine > a/file; ln -s {} b", outside.display()));
    let root = world.root("base");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(root.join("a"), root.join("c")).unwrap();
                fs::rename(root.join("b"), root.join("a")).unwrap();
                fs::rename(root.join("a"), root.join("b")).unwrap();
                fs::rename(root.join("c"), root.join("a")).unwrap();
            }
        });
        for _ in 0..30 {
            let _ = fs::remove_file(world.path("out/file"));
            world.run(&["copy", "base:a/file", "out"]);
            if let Ok(text) = fs::read_to_string(world.path("out/file")) {
                assert_eq!(text, "mine\n", "the host's file came out");
            }
            world.run(&["copy", "payload", "base:a/planted"]);
            assert!(!outside.join("planted").exists(), "something was written outside");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A program that needs a library which the host lacks, and one of which the host has an older version.
#[test]
fn libraries_that_the_host_lacks_are_said() {
    if !able(&["cc"]) {
        return;
    }
    let Some(world) = world() else { return };
    world.sh(
        "mkdir host; echo 'V1 { global: one; local: *; }; V2 { global: two; } V1;' > new.map
        echo 'V1 { global: one; local: *; };' > old.map; echo 'int one(void){return 1;} int two(void){return 2;}' > new.c
        echo 'int one(void){return 1;}' > old.c; echo 'int lone(void){return 3;}' > lone.c
        cc -shared -fPIC -Wl,-soname,libdemo.so.1 -Wl,--version-script=new.map -o home/base/usr/lib/libdemo.so.1 new.c
        cc -shared -fPIC -Wl,-soname,libdemo.so.1 -Wl,--version-script=old.map -o host/libdemo.so.1 old.c
        cc -shared -fPIC -Wl,-soname,liblone.so.3 -o home/base/usr/lib/liblone.so.3 lone.c
        echo 'int one(void), two(void), lone(void); int main(){return one()+two()+lone();}' > main.c
        cc -Wl,-rpath,'$ORIGIN' -o home/base/usr/prog main.c home/base/usr/lib/libdemo.so.1 home/base/usr/lib/liblone.so.3
        echo 'int main(){return 0;}' > plain.c; cc -o home/base/usr/plain plain.c",
    );
    let said = world.run(&["copy", "base:usr/prog", "host"]);
    let at = world.path("host/prog");
    let library = world.path("host/libdemo.so.1");
    let version =
        format!("{}: needs libdemo.so.1 with V2, which the host's {} lacks\n", at.display(), library.display());
    let lone = format!("{}: needs liblone.so.3, which the host lacks\n", at.display());
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains(&version) && said.out.contains(&lone), "{said:?}");
    assert_eq!(said.out.lines().count(), 3, "{said:?}");
    assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o755);
    world.sh("cp home/base/usr/lib/lib*.so.* host");
    let said = world.run(&["copy", "base:usr/prog", "host", "--json"]);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.status, value["unmet"].as_array().unwrap().len()), (Some(0), 0), "{said:?}");
    world.sh("./host/prog || test $? = 6");
    // In a directory, each program is looked at; what is no program is not.
    world.sh("mkdir home/base/progs; cp home/base/usr/prog home/base/usr/plain home/base/progs; echo x > home/base/progs/x; rm host/lib*");
    let said = world.run(&["copy", "base:progs", "host"]);
    assert_eq!((said.status, said.out.matches("needs lib").count()), (Some(2), 2), "{said:?}");
    assert!(!said.out.contains("plain"), "{said:?}");
}

/// What is put in the place of a program that was copied out, before it is looked at, is not opened; neither is what a
/// program names as its library, where that is none.
#[test]
fn what_comes_instead_of_a_program_is_not_opened() {
    if !able(&["cc", "strace", "timeout"]) {
        return;
    }
    let Some(world) = world() else { return };
    world.sh(
        "mkfifo out/libtrap.so; echo 'int lone(void){return 3;}' > lone.c; cc -shared -fPIC -o home/libtrap.so lone.c
        echo 'int lone(void); int main(){return lone();}' > main.c
        cc -L home -Wl,-rpath,'$ORIGIN' -o home/base/usr/prog main.c -ltrap; mkdir home/base/progs; cp home/base/usr/prog home/base/progs",
    );
    for (from, at) in [("base:usr/prog", "out/prog"), ("base:progs", "out/progs/prog")] {
        // The rename into place takes a second, in which the file becomes a FIFO.
        let mut command = std::process::Command::new("timeout");
        command.args(["20", "strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=/^renameat:delay_exit=1000000"]);
        command.arg(env!("CARGO_BIN_EXE_stockade")).args(["copy", from, "out"]);
        world.settle(&mut command);
        let done = std::thread::scope(|scope| {
            let copy = scope.spawn(|| command.output().unwrap());
            while !world.path(at).exists() && !copy.is_finished() {
                std::thread::yield_now();
            }
            world.sh(&format!("mkfifo trap && mv -T trap {at}"));
            copy.join().unwrap()
        });
        let said = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.ends_with("/prog: needs libtrap.so, which the host lacks\n"), "{said}");
    }
}
