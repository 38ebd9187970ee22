// SPDX-License-Identifier: ISC
//! Sessions end with whoever began them: killed at every moment, stockade leaves nothing behind. Needs root and strace.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr)] // to say why a test was skipped

mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use scene::{Running, STOCKADE, Scene, kill, scene, within_time};

#[test]
fn killed_at_any_moment_nothing_is_left() {
    let Some(scene) = scene() else { return };
    // The caller, when all runs.
    let running = Running::start(&scene, "sleep 1000 & echo ready; sleep 1000");
    assert!(scene.inside().len() >= 3);
    drop(running);
    scene.assert_nothing_left("caller killed");
    // The first process inside.
    let running = Running::start(&scene, "sleep 1000 & echo ready; sleep 1000");
    kill(*scene.inside().iter().min().unwrap(), "KILL");
    assert_eq!(running.end(), (Some(137), String::new()));
    scene.assert_nothing_left("leader killed");
    // The caller, at some moment of entering and leaving.
    for micros in (0..12_000).step_by(150) {
        let mut child = scene.run(&[], &["true"]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(micros));
        child.kill().unwrap();
        child.wait().unwrap();
        scene.assert_nothing_left(&format!("caller killed after {micros} microseconds"));
    }
    // The lock went with them.
    assert!(scene.run(&["--no-wait"], &["true"]).status().unwrap().success());
    assert!(scene.stockade(&["remove", "--no-wait"]).arg(scene.root()).output().unwrap().status.success());
}

/// Runs a command under strace(1), which also follows children if `follow`; the status, and the system calls, each with
/// the process that made it and how many of the name that process had made by then.
fn traced(scene: &Scene, options: &[String], inject: &str, follow: bool) -> (ExitStatus, Vec<(u32, String, usize)>) {
    let trace = scene.dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(follow.then_some("-f")).arg("-qq").arg("-o").arg(&trace).args(["-e", inject]).arg(STOCKADE);
    command.arg("run").args(options).arg(scene.root()).args(["--", "sh", "-c", "sleep 0.01 & :"]);
    command.env("STOCKADE_HOME", scene.dir.path().join("home")).stdin(Stdio::null());
    let status = within_time(&mut command).status;
    let mut made = BTreeMap::new();
    let call = |line: &str| {
        let (pid, rest) = line.split_once(' ').filter(|_| follow).unwrap_or(("0", line));
        let (pid, (name, _)) = (pid.parse().ok()?, rest.trim_start().split_once('(')?);
        let count = made.entry((pid, name.to_owned())).or_insert(0);
        *count += 1;
        name.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| (pid, name.to_owned(), *count))
    };
    (status, fs::read_to_string(&trace).unwrap_or_default().lines().filter_map(call).collect())
}

/// A call that fails: what is said of it, and that nothing is left.
#[test]
fn every_step_that_fails_is_named() {
    let Some(scene) = scene() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "needs strace");
        eprintln!("skipped: needs strace");
        return;
    }
    for (fault, says) in [
        ("clone:error=EAGAIN", "clone: Resource temporarily unavailable while making the session\nhint: end processes"),
        ("clone:error=EPERM", "clone: Operation not permitted while making the session\nhint: in a container"),
        ("unshare:error=ENOSPC", "unshare: No space left on device while making the session\nhint: sysctl user.max_"),
        (
            "open_tree:error=ENOSYS:when=2",
            "open_tree: Function not implemented while taking the root\nhint: sessions need Linux",
        ),
        ("mount_setattr:error=ENOSYS:when=2", "while taking the root\nhint: sessions need Linux"),
        ("sethostname:error=EPERM", "sethostname: Operation not permitted while setting the session apart"),
        ("fsopen:error=ENODEV", "proc: mount: No such device while building the view"),
        ("symlinkat:error=EIO", "dev: mknod: Input/output error while building the view"),
        ("pivot_root:error=EINVAL", "pivot_root: Invalid argument while building the view"),
        ("umount2:error=EBUSY", "umount: Device or resource busy while building the view"),
        ("signalfd4:error=EMFILE", "signalfd: Too many open files while making the session"),
        ("seccomp:error=EINVAL", "while holding the command in\nhint: this kernel cannot"),
        ("capset:error=EPERM", "capset: Operation not permitted while holding the command in"),
        ("setgroups:error=EPERM", "setgroups: Operation not permitted while becoming the user"),
        ("setresuid:error=EAGAIN", "setresuid: Resource temporarily unavailable while becoming the user"),
    ] {
        let mut command = Command::new("strace");
        // The first time is that of the program's own copy, which is made another way then.
        let when = if fault.contains(":when=") { "" } else { ":when=1" };
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=all", "-e", &format!("inject={fault}{when}")]);
        command.arg(STOCKADE).args(["run", "--hostname", "h"]).arg(scene.root()).args(["--", "true"]);
        command.env("STOCKADE_HOME", scene.dir.path().join("home")).stdin(Stdio::null());
        let output = within_time(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(says), "{fault}: {said}");
        scene.assert_nothing_left(fault);
        assert_unlocked(&scene, fault);
    }
}

/// Nobody holds the lock of the chroot.
fn assert_unlocked(scene: &Scene, told: &str) {
    let lock = fs::File::open(scene.dir.path().join(".stockade/b0/lock")).unwrap();
    assert!(lock.try_lock().is_ok(), "{told}: still locked");
}

/// Kills a session with `options` at every system call of the caller, and then of all others.
fn kill_everywhere(options: &[String]) {
    let Some(scene) = scene() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "needs strace");
        eprintln!("skipped: needs strace");
        return;
    }
    for follow in [false, true] {
        let (status, calls) = traced(&scene, options, "trace=all", follow);
        assert!(status.success(), "{calls:?}");
        // From the session's first call on, which looks at the list of sessions: what comes before is every verb's.
        let first = calls.iter().position(|(_, name, _)| name == "getdents64").expect("getdents64");
        let caller = calls[0].0;
        let moments: BTreeSet<_> = calls[first..]
            .iter()
            .filter(|call| !follow || call.0 != caller)
            .map(|(_, name, nth)| (name, nth))
            .collect();
        assert!(moments.len() > 15, "{moments:?}");
        for (name, nth) in moments {
            let (status, _) = traced(&scene, options, &format!("inject={name}:signal=KILL:when={nth}"), follow);
            let told = format!("{options:?} killed at {name} number {nth}: {status}");
            assert!(follow || !status.success() || name == "exit_group", "{told}");
            scene.assert_nothing_left(&told);
            assert_unlocked(&scene, &told);
        }
    }
    // The next session strikes the killed ones from the list, and itself at its end.
    assert!(scene.run(&["--no-wait"], &["true"]).status().unwrap().success());
    let listed = fs::read_dir(scene.dir.path().join(".stockade/b0/sessions")).unwrap().count();
    assert_eq!(listed, 0);
}

#[test]
fn killed_at_every_system_call_nothing_is_left() {
    kill_everywhere(&[]);
}

#[test]
fn killed_at_every_system_call_of_all_options_nothing_is_left() {
    let words = "--ephemeral --net none --bind /etc:/tmp/etc:ro --tmpfs /home --hostname h --timeout 1h --memory 4G";
    kill_everywhere(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
}
