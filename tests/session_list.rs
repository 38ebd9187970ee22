// SPDX-License-Identifier: ISC
//! `stockade sessions`: who is where, and how it ends. Many sessions at once and one after the other leave nothing.
//!
//! Needs root and a static busybox.
#![cfg(target_os = "linux")]

mod scene;

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use scene::{Running, STOCKADE, Scene, kill, scene, within_time};
use serde_json::Value;

fn listed(scene: &Scene) -> Vec<Value> {
    let output = within_time(&mut scene.stockade(&["sessions", "--json"]));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap()
}

fn end(scene: &Scene, which: &str) -> (Option<i32>, String) {
    let output = within_time(&mut scene.stockade(&["sessions", "end", which]));
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The files of the list.
fn files(scene: &Scene) -> usize {
    fs::read_dir(scene.dir.path().join(".stockade/b0/sessions")).map_or(0, Iterator::count)
}

const WAITS: &str = "echo ready; sleep 1000";

#[test]
fn sessions_are_listed_with_what_is_known_of_them() {
    let Some(scene) = scene() else { return };
    assert_eq!(listed(&scene), Vec::<Value>::new());
    let first = Running::start(&scene, WAITS);
    let options = ["-u", "ann", "--net", "none", "--ephemeral", "--timeout", "1h"];
    let second = Running::start_with(&scene, &options, WAITS);
    let all = listed(&scene);
    let pids = [&first, &second].map(|running| u64::from(running.0.id()));
    let mut found: Vec<u64> = all.iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    found.sort_unstable();
    let mut want = pids.to_vec();
    want.sort_unstable();
    assert_eq!(found, want);
    let one = all.iter().find(|one| one["pid"] == pids[1]).unwrap();
    assert_eq!(one["root"], scene.root().to_str().unwrap());
    assert_eq!((&one["user"], &one["confine"]), (&"ann".into(), &"full".into()));
    assert_eq!((&one["offline"], &one["ephemeral"]), (&true.into(), &true.into()));
    assert_eq!(one["command"], "sh -c echo ready; sleep 1000");
    assert_eq!((&one["limits"][0]["what"], &one["limits"][0]["value"]), (&"timeout".into(), &"3600".into()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 600..=now).contains(&one["since"].as_u64().unwrap()), "{one}");
    let text = String::from_utf8(within_time(&mut scene.stockade(&["sessions"])).stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("ann (no network, ephemeral, timeout 3600)  sh -c echo ready"), "{text}");
    drop(first);
    scene.stockade(&["sessions"]).status().unwrap();
    drop(second);
    scene.assert_nothing_left("after listing");
    assert_eq!(listed(&scene), Vec::<Value>::new());
    assert_eq!(files(&scene), 0, "killed ones are struck out");
}

#[test]
fn sessions_are_ended() {
    let Some(scene) = scene() else { return };
    let script = "trap 'echo asked; exit 4' TERM; echo ready; while :; do sleep 0.02; done";
    let [one, other] = [(); 2].map(|()| Running::start(&scene, script));
    let pid = one.0.id();
    let (status, said) = end(&scene, &pid.to_string());
    assert_eq!((status, said), (Some(0), format!("ended {pid} in {}\n", scene.root().display())));
    assert_eq!(one.end(), (Some(4), "asked\n".to_owned()));
    let third = Running::start(&scene, script);
    let (status, said) = end(&scene, scene.root().to_str().unwrap());
    assert_eq!((status, said.lines().count()), (Some(0), 2), "{said}");
    for ended in [other, third] {
        assert_eq!(ended.end(), (Some(4), "asked\n".to_owned()));
    }
    let (status, said) = end(&scene, scene.root().to_str().unwrap());
    assert!(status == Some(1) && said.contains("no such session") && said.contains("stockade sessions"), "{said}");
    scene.assert_nothing_left("ended");
}

#[test]
fn who_does_not_listen_is_killed() {
    let Some(scene) = scene() else { return };
    let running = Running::start(&scene, "trap '' TERM; echo ready; while :; do sleep 1; done");
    assert_eq!(end(&scene, &running.0.id().to_string()).0, Some(0));
    scene.assert_nothing_left("killed");
    // A number that is nobody's session is no process to be signalled.
    let (status, said) = end(&scene, &std::process::id().to_string());
    assert_eq!(status, Some(1), "{said}");
}

/// As in a container that shares the home: a number there is another process here.
#[test]
fn a_number_of_another_pid_namespace_is_nobodys_here() {
    let Some(scene) = scene() else { return };
    let mut innocent = Running(Command::new("sleep").arg("1000").spawn().unwrap());
    // The next number there is that of `sleep` here, as far as one namespace can choose.
    let script = format!("echo $(({} - 1)) >/proc/sys/kernel/ns_last_pid; \"$@\" & wait", innocent.0.id());
    let mut command = Command::new("unshare");
    command.args(["-pf", "--kill-child", "--mount-proc", "sh", "-c", &script, "sh", STOCKADE, "run"]).arg(scene.root());
    command.args(["--", "sh", "-c", "echo ready; sleep 1000"]).env("STOCKADE_HOME", scene.dir.path().join("home"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let (running, inside) = (Running(child), scene.inside());
    let all = listed(&scene);
    assert_eq!((all.len(), all[0]["pid"].as_u64()), (1, Some(innocent.0.id().into())), "{all:?}");
    for which in [&innocent.0.id().to_string(), scene.root().to_str().unwrap()] {
        let (status, said) = end(&scene, which);
        assert!(
            status == Some(1) && said.contains("another pid namespace") && said.contains("hint: end it in"),
            "{said}"
        );
    }
    let text = String::from_utf8(within_time(&mut scene.stockade(&["sessions"])).stdout).unwrap();
    assert!(text.contains("root (in another pid namespace)  sh -c"), "{text}");
    assert_eq!(scene.inside(), inside, "it goes on");
    assert!(innocent.0.try_wait().unwrap().is_none(), "it was not meant");
    drop(running);
    scene.assert_nothing_left("after another namespace");
}

/// A session whose lock is held although its process is another by now, or is gone.
#[test]
fn what_cannot_be_ended_is_said() {
    let Some(scene) = scene() else { return };
    let running = Running::start(&scene, WAITS);
    let list = scene.dir.path().join(".stockade/b0/sessions");
    let line = list.join(format!("{}.0", running.0.id()));
    let mut innocent = Running(Command::new("sleep").arg("1000").spawn().unwrap());
    // The same in every respect but the number.
    let entry = fs::read_to_string(line).unwrap();
    let other = entry.replace(&format!("\"pid\":{},", running.0.id()), &format!("\"pid\":{},", innocent.0.id()));
    assert_ne!(entry, other);
    drop(running);
    fs::write(list.join("other"), other.replace("\"start\":", "\"start\":1")).unwrap();
    let lock = fs::File::open(list.join("other")).unwrap();
    lock.lock().unwrap();
    let (status, said) = end(&scene, &innocent.0.id().to_string());
    assert!(
        status == Some(1) && said.contains("still there") && said.contains("hint: see what it waits for: ps "),
        "{said}"
    );
    assert!(innocent.0.try_wait().unwrap().is_none(), "it began at another time");
    drop(lock);
    assert_eq!(listed(&scene), Vec::<Value>::new());
}

#[test]
fn a_chroot_with_sessions_is_not_built_or_removed() {
    let Some(scene) = scene() else { return };
    let running = Running::start(&scene, WAITS);
    let output = within_time(scene.stockade(&["remove", "--no-wait"]).arg(scene.root()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("in use by stockade run, process "), "{said}");
    kill(running.0.id(), "KILL");
    drop(running);
    scene.assert_nothing_left("after the session");
    let output = within_time(scene.stockade(&["remove", "--no-wait"]).arg(scene.root()));
    assert!(output.status.success(), "{output:?}");
}

/// What may leak: mounts, control groups, files of the list.
fn traces(scene: &Scene) -> (String, usize, usize) {
    let groups = |root: &str| {
        fs::read_dir(format!("{root}/stockade")).map_or(0, |dir| dir.flatten().filter(|e| e.path().is_dir()).count())
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    (mounts, groups("/sys/fs/cgroup") + groups("/sys/fs/cgroup/unified"), files(scene))
}

#[test]
fn many_at_once_leave_nothing() {
    let Some(scene) = scene() else { return };
    let before = traces(&scene);
    let options = ["--net", "none", "--ephemeral", "--memory", "4G"];
    let start = |number: usize| -> Child {
        let options = &options[..[0, 2, 3, 5][number % 4]];
        let mut command = scene.run(options, &["sh", "-c", "echo x >/tmp/x; cat /tmp/x"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let all: Vec<Child> = (0..200).map(start).collect();
    for (number, child) in all.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"x\n"[..]), "{number}: {output:?}");
    }
    scene.assert_nothing_left("many at once");
    assert_eq!(traces(&scene), before);
}

/// `STOCKADE_TEST_MANY` says how many.
#[test]
fn one_after_the_other_leaves_nothing() {
    let Some(scene) = scene() else { return };
    let before = traces(&scene);
    let many = std::env::var("STOCKADE_TEST_MANY").map_or(200, |text| text.parse().unwrap());
    for number in 0..many {
        let status = scene.run(&[], &["true"]).status().unwrap();
        assert!(status.success(), "{number}: {status}");
    }
    scene.assert_nothing_left("one after the other");
    assert_eq!(traces(&scene), before);
}
