// SPDX-License-Identifier: ISC

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{Finding, examine};
use crate::chroot::Home;
use crate::sys::Calls;

/// A directory that others can search, with a home and a root that lack nothing.
fn scene() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["home", "sub/b0/proc", "sub/b0/dev", "sub/.stockade/b0"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for (name, mode) in [("", 0o755), ("home", 0o700), ("sub", 0o700), ("sub/b0", 0o755)] {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    let home = Home { path: dir.path().join("home"), calls: Calls::Native };
    (dir, home)
}

fn findings(home: &Home, root: &Path) -> Vec<Finding> {
    examine(home, Some(root.as_os_str())).unwrap()
}

/// The finding whose `what` ends in `what`.
fn about<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    findings.iter().find(|f| f.what.ends_with(what)).unwrap_or_else(|| panic!("nothing about {what}: {findings:#?}"))
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn each_fault_is_found_and_its_mend_named() {
    type Fault = fn(&Path);
    let table: [(&str, Fault, &str); 6] = [
        ("b0/proc", |sub| fs::remove_dir(sub.join("b0/proc")).unwrap(), "mkdir SUB/b0/proc"),
        (
            "b0/dev",
            |sub| {
                fs::remove_dir(sub.join("b0/dev")).unwrap();
                symlink("/dev", sub.join("b0/dev")).unwrap();
            },
            "rm SUB/b0/dev && mkdir SUB/b0/dev",
        ),
        ("who can reach SUB/b0", |sub| chmod(sub, 0o711), "chmod o-x SUB"),
        (".stockade/b0", |sub| chmod(&sub.join(".stockade/b0"), 0o770), "chmod go-w SUB/.stockade/b0"),
        (".stockade/b0", |sub| chmod(&sub.join(".stockade"), 0o777), "chmod go-w SUB/.stockade"),
        (
            "the journal of SUB/b0",
            |sub| fs::write(sub.join(".stockade/b0/journal"), "x").unwrap(),
            "stockade recover SUB/b0",
        ),
    ];
    for (what, fault, mend) in table {
        let (dir, home) = scene();
        let sub = dir.path().join("sub");
        let real = |text: &str| text.replace("SUB", sub.to_str().unwrap());
        let before = findings(&home, &sub.join("b0"));
        assert!(before.iter().all(|f| f.ok || !f.what.ends_with(&real(what))), "{before:#?}");
        fault(&sub);
        let after = findings(&home, &sub.join("b0"));
        let found = about(&after, &real(what));
        assert_eq!((found.ok, found.mend.as_deref()), (false, Some(real(mend).as_str())), "{found:?}");
    }
}

#[test]
fn trying_leaves_nothing_behind() {
    let (dir, home) = scene();
    let list = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let sub = dir.path().join("sub");
    let before = (list(&sub), list(&sub.join("b0")), list(&home.path));
    findings(&home, &sub.join("b0"));
    examine(&home, None).unwrap();
    assert_eq!((list(&sub), list(&sub.join("b0")), list(&home.path)), before);
}

#[test]
fn what_the_kernel_says_is_what_is_found() {
    let (dir, home) = scene();
    let sub = dir.path().join("sub");
    let got = findings(&home, &sub.join("b0"));
    let links = about(&got, &format!("hard links on {}", sub.display()));
    fs::write(sub.join("one"), "").unwrap();
    assert_eq!(links.ok, fs::hard_link(sub.join("one"), sub.join("two")).is_ok());
    if crate::sys::effective_uid() != 0 {
        assert!(!about(&got, "sessions").ok);
    }
}

/// Runs `argv` until it has printed something, then `look` with its process number.
fn while_running(argv: &[&str], look: impl FnOnce(u32)) {
    let mut command = std::process::Command::new(argv[0]);
    let mut child = command.args(&argv[1..]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 2]).unwrap();
    look(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_lives_inside_is_named() {
    if crate::sys::effective_uid() != 0 || !Path::new("/bin/busybox").exists() {
        assert!(std::env::var_os("CI").is_none(), "needs root and busybox-static");
        eprintln!("skipped: needs root and busybox-static");
        return;
    }
    let (dir, home) = scene();
    let root = dir.path().join("sub/b0");
    let (shown, mount) =
        (root.display(), format!("mount -t tmpfs none {}/proc && echo in && kill -STOP $$", root.display()));
    fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    // A process whose root is the chroot; a mount that only another namespace has.
    let table: [(&[&str], &str, bool); 2] = [
        (
            &["chroot", root.to_str().unwrap(), "/busybox", "sh", "-c", "echo in; kill -STOP $$"],
            "running in it: busybox (process PID)",
            true,
        ),
        (&["unshare", "-m", "sh", "-c", &mount], "mounted below it: ROOT/proc as seen by sh (process PID)", false),
    ];
    for (argv, reason, ok) in table {
        while_running(argv, |pid| {
            let got = findings(&home, &root);
            assert_eq!(about(&got, &format!("(process {pid})")).ok, ok);
            let reason = reason.replace("PID", &pid.to_string()).replace("ROOT", &shown.to_string());
            assert_eq!(crate::session::refuse_occupied(&root).unwrap_err().reason(), reason);
        });
        crate::session::refuse_occupied(&root).unwrap();
    }
}
