// SPDX-License-Identifier: ISC
//! `run --ephemeral`: what is written is seen inside and gone at the end, and the base is what it was.
//!
//! Needs root and a static busybox.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod scene;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use scene::{Running, STOCKADE, Scene, kill, scene, within_time};

/// The root's every entry, as find(1) prints it: nothing of it may change.
fn picture(scene: &Scene) -> String {
    let format = "%p %y %m %U:%G %s %T@ %C@ %i %n %l\\n";
    let output = Command::new("find").arg(scene.root()).args(["-printf", format]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn whatever_is_written_is_gone() {
    let Some(scene) = scene() else { return };
    let root = scene.root();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/e/f"), "old\n").unwrap();
    fs::write(root.join("one"), "1\n").unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o751)).unwrap();
    for name in ["rm", "mv", "mkdir", "chown", "chmod", "ln", "test"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
    }
    for (script, want) in [
        ("echo new >/d/e/f; cat /d/e/f", "new\n"),
        ("echo more >>/d/e/f; cat /d/e/f", "old\nmore\n"),
        ("rm -r /d; test -e /d || echo gone", "gone\n"),
        ("mv /d /moved && cat /moved/e/f", "old\n"),
        ("rm -r /etc; mkdir /etc; ls /etc", ""),
        ("chown 5:6 /d/e/f; chmod 4711 /d/e; stat -c %u:%g /d/e/f; stat -c %a /d/e", "5:6\n4711\n"),
        // A file with two names stays one.
        ("echo 2 >>/one; cat /two", "1\n2\n"),
        ("stat -c '%a %u:%g' /", "751 0:0\n"),
        ("ln -s x /x; mkdir /y; echo z >/root/z; cat /root/z", "z\n"),
        ("head -c 3000000 /dev/zero >/big; stat -c %s /big", "3000000\n"),
    ] {
        let before = picture(&scene);
        assert_eq!(scene.shell(&["--ephemeral"], script), want, "{script}");
        assert_eq!(picture(&scene), before, "{script}");
        scene.assert_nothing_left(script);
    }
    assert_eq!(scene.shell(&["--ephemeral", "-u", "ann"], "echo a >f; cat f; id -un"), "a\nann\n");
    assert_eq!(fs::read_dir(root.join("home/ann")).unwrap().count(), 0);
}

#[test]
fn it_goes_with_the_other_options() {
    let Some(scene) = scene() else { return };
    let shared = scene.dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::create_dir(scene.root().join("srv")).unwrap();
    let bind = format!("{}:/srv", shared.display());
    // What is bound is written to in earnest.
    scene.shell(&["--ephemeral", "--bind", &bind, "--net", "none"], "echo kept >/srv/f; echo gone >/g");
    assert_eq!(fs::read_to_string(shared.join("f")).unwrap(), "kept\n");
    assert!(!scene.root().join("g").exists());
    // A place in the root that is missing is not made, not even in memory.
    let output = within_time(&mut scene.run(&["--ephemeral", "--tmpfs", "/none"], &["true"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = within_time(&mut scene.run(&["--ephemeral", "--read-only"], &["true"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be used with"), "{output:?}");
}

#[test]
fn devices_and_set_id_programs_are_as_without_it() {
    let Some(scene) = scene() else { return };
    let node = scene.root().join("zero");
    assert!(Command::new("mknod").arg(&node).args(["c", "1", "5"]).status().unwrap().success());
    assert_eq!(scene.shell(&["--ephemeral"], "head -c 1 /zero 2>/dev/null || echo inert"), "inert\n");
    assert_eq!(scene.shell(&["--ephemeral"], "head -c 1 /dev/zero | cat -v"), "^@");
}

#[test]
fn killed_nothing_is_left() {
    let Some(scene) = scene() else { return };
    let before = picture(&scene);
    let running = Running::start_with(&scene, &["--ephemeral"], "echo x >/x; sleep 1000 & echo ready; sleep 1000");
    kill(running.0.id(), "KILL");
    drop(running);
    scene.assert_nothing_left("caller killed");
    assert_eq!(picture(&scene), before);
}

/// `script` in a mount namespace of its own, below `$DIR`; what it prints and what it complains of.
fn apart(scene: &Scene, script: &str) -> (String, String) {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("STOCKADE_HOME", scene.dir.path().join("home"));
    command.env("DIR", scene.dir.path()).env("ROOT", scene.root()).env("STOCKADE", STOCKADE).stdin(Stdio::null());
    let output = within_time(&mut command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn where_it_cannot_be_it_is_refused_with_the_reason() {
    let Some(scene) = scene() else { return };
    fs::create_dir(scene.root().join("srv")).unwrap();
    let (_, stderr) = apart(&scene, "mount -t tmpfs none $ROOT/srv && $STOCKADE run --ephemeral $ROOT -- true");
    assert!(stderr.contains("srv is mounted below it: what is written there would stay\nhint: umount "), "{stderr}");
    // A base on an overlay works; one on an overlay of overlays is one too many.
    let overlay = "o() { mkdir -p $DIR/$1/u $DIR/$1/w $DIR/$1/m && \
        mount -t overlay -o lowerdir=$2,upperdir=$DIR/$1/u,workdir=$DIR/$1/w none $DIR/$1/m; }; \
        mount -t tmpfs none /mnt && DIR=/mnt && mkdir /mnt/base && cp -a $ROOT /mnt/base/";
    let run = "$STOCKADE adopt $AT >/dev/null && $STOCKADE run --ephemeral $AT -- sh -c 'echo x >/x; cat /x'";
    let (stdout, stderr) = apart(&scene, &format!("{overlay} && o 1 /mnt/base && AT=/mnt/1/m/b0 && {run}"));
    assert_eq!((&*stdout, &*stderr), ("x\n", ""));
    let (stdout, stderr) =
        apart(&scene, &format!("{overlay} && o 1 /mnt/base && o 2 /mnt/1/m && AT=/mnt/2/m/b0 && {run}"));
    assert_eq!(stdout, "", "{stderr}");
    assert!(stderr.contains("while building the view") && stderr.contains("the kernel stacks two"), "{stderr}");
    // On a filesystem in memory it works.
    let (stdout, stderr) = apart(
        &scene,
        "mount -t tmpfs none /mnt && cp -a $ROOT /mnt/ && AT=/mnt/b0 && \
        $STOCKADE adopt $AT >/dev/null && $STOCKADE run --ephemeral $AT -- sh -c 'echo x >/x; cat /x'",
    );
    assert_eq!((&*stdout, &*stderr), ("x\n", ""));
}

#[test]
fn the_base_is_not_written_by_who_maps_it() {
    let Some(scene) = scene() else { return };
    // A program that runs inside is the base's own inode as long as nobody writes to it.
    let inode = fs::metadata(scene.root().join("bin/busybox")).unwrap().ino();
    let script = "stat -c %i /bin/busybox; echo x >>/bin/busybox 2>/dev/null || echo busy";
    let said = scene.shell(&["--ephemeral"], script);
    assert!(said.starts_with(char::is_numeric), "{said}");
    // Nor can root, if nothing else holds it, take the base out of the first process.
    std::os::unix::fs::symlink("busybox", scene.root().join("bin/test")).unwrap();
    let script = "for fd in /proc/1/fd/*; do echo $(readlink $fd); test -d $fd/ && echo directory; done; true";
    let said = scene.shell(&["--ephemeral", "--no-confine"], script);
    assert!(said.contains("/lock") && !said.contains("directory"), "{said}");
    let after = fs::metadata(scene.root().join("bin/busybox")).unwrap();
    assert_eq!((after.ino(), after.len()), (inode, fs::metadata("/bin/busybox").unwrap().len()));
}

#[test]
fn what_was_written_can_be_kept() {
    if std::env::var_os("STOCKADE_PORTABLE").is_some_and(|value| value == "1") {
        // The files of an overlay have the numbers of its layers, which look like mounts then.
        eprintln!("SKIPPED with portable calls: device numbers do not tell the files of an overlay");
        return;
    }
    let Some(scene) = scene() else { return };
    let root = scene.root();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/e/f"), "old\n").unwrap();
    fs::write(root.join("one"), "1\n").unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    for name in ["rm", "mv", "mkdir", "chown", "ln", "touch", "mkfifo"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
    }
    let script = "mkdir /new; echo n >/new/file; chown 5:6 /new/file; rm -r /d; echo 2 >>/one; mv /root /gone; \
        ln -s x /link; ln /new/file /new/again; rm /etc/group; mkdir /etc/group; mkfifo /fifo; touch /tmp/not";
    // The same done to a copy, in earnest.
    let copy = scene.dir.path().join("copy");
    assert!(Command::new("cp").arg("-a").args([&root, &copy]).status().unwrap().success());
    let recorded = within_time(scene.stockade(&["adopt"]).arg(&copy));
    assert!(recorded.status.success(), "{recorded:?}");
    let done = within_time(scene.stockade(&["run"]).arg(&copy).args(["--", "sh", "-c", script]).stdin(Stdio::null()));
    assert!(done.status.success(), "{done:?}");
    let (before, kept) = (picture(&scene), scene.dir.path().join("kept"));
    let keep = |script: &str| within_time(&mut scene.run(&["--keep", kept.to_str().unwrap()], &["sh", "-c", script]));
    let output = keep(&format!("{script}; exit 3"));
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(3), "".into()));
    assert_eq!(picture(&scene), before);
    scene.assert_nothing_left("after keeping");
    // Times apart, which are those of each run.
    let differences = Command::new("rsync")
        .args(["-rlpgoDHAXcni", "--delete", "--numeric-ids"])
        .args([format!("{}/", copy.display()), format!("{}/", kept.display())])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&differences.stdout), "", "{differences:?}");
    // Its record is the base's: what was done to it shows.
    let check = within_time(scene.stockade(&["check"]).arg(&kept));
    let said = String::from_utf8(check.stdout).unwrap();
    for line in ["+ new/file", "+ gone", "! etc/group", "+ link", "- root"] {
        assert!(said.lines().any(|l| l.starts_with(line)), "{line}: {said}");
    }
    // What is there is not overwritten, and that is said before the command runs.
    let output = keep("echo ran");
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("kept: something is there already"), "{output:?}");
    // A command that never ran leaves nothing to keep.
    let other = scene.dir.path().join("other");
    let output = within_time(&mut scene.run(&["--keep", other.to_str().unwrap()], &["nope"]));
    assert_eq!((output.status.code(), other.exists()), (Some(127), false), "{output:?}");
}

#[test]
fn doctor_tries_it() {
    let Some(scene) = scene() else { return };
    let output = within_time(scene.stockade(&["doctor", "--json"]).arg(scene.root()));
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |what: &str| {
        let found = findings.iter().find(|one| one["what"].as_str().is_some_and(|text| text.starts_with(what)));
        found.unwrap_or_else(|| panic!("nothing on {what}: {findings:?}"))["why"].as_str().unwrap().to_owned()
    };
    assert!(of("overlays on ").starts_with("works"), "{findings:?}");
    assert!(of("limits of sessions").contains("control group"), "{findings:?}");
    assert_eq!(of("sessions"), "all that `run` needs is allowed");
    scene.assert_nothing_left("after doctor");
}
