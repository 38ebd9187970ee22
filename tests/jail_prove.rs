// SPDX-License-Identifier: ISC
//! `jail --trace` and `jail --probe`: what they take, what they leave, and that they end when they are told to.

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Said, World, able};

/// What `list` knows and what lies in the home, but for the jail `j`.
fn left_over(world: &World) -> String {
    world.sh("cd home; ls -A . .stockade | grep -v -e '^j$' -e '^[.]stockade' -e '^[.]:$' -e '^roots$' -e '^$' || true")
}

#[test]
fn a_probe_that_is_stopped_or_killed_changes_nothing_and_leaves_nothing() {
    if !able(&["cat"]) {
        return;
    }
    let world = World::new();
    world.ok(&["jail", "j", "sh"]);
    let before = common::fingerprint(&world.root("j"));
    // It hears no signal, nor does what it starts.
    let deaf = "trap '' INT TERM HUP; echo began; (trap '' TERM; sleep 60) & sleep 60";
    for signal in ["TERM", "INT", "HUP", "KILL"] {
        let mut command = world.stockade(&["jail", "j", "sh", "sleep", "--probe", "--", "/bin/sh", "-c", deaf]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "began\n", "{signal}");
        std::thread::sleep(Duration::from_millis(100));
        world.sh(&format!("kill -{signal} {}", child.id()));
        let said = Said::of(child.wait_with_output().unwrap());
        match signal {
            "KILL" => assert_eq!(said.status, None),
            _ => assert!(said.status == Some(1) && said.err.contains("stopped by the user"), "{signal}: {said:?}"),
        }
        assert_eq!(common::fingerprint(&world.root("j")), before, "{signal}");
        assert_eq!(left_over(&world).is_empty(), signal != "KILL", "{signal}: {}", left_over(&world));
    }
    // The next one clears what the killed one left.
    world.ok(&["jail", "j", "--probe", "--", "/bin/sh", "-c", "exit 0"]);
    assert_eq!(left_over(&world), "");
    world.assert_tidy();
}

#[test]
fn a_probe_is_of_the_whole_recipe_and_beside_the_root_however_it_is_written() {
    if !able(&["cat"]) {
        return;
    }
    let world = World::new();
    let recipe = "[closure]\nprograms = [\"/bin/cat\"]\n[[make]]\npath = \"etc/app.conf\"\ntext = \"made\"\n";
    world.write("r.toml", recipe);
    world.sh("mkdir k");
    world.ok(&["build", "./k/j", "-f", "./r.toml"]);
    world.ok(&["jail", "./k/j/", "--probe", "--", "/bin/cat", "/etc/app.conf"]);
    assert_eq!(world.run(&["jail", "./k/j/", "--probe", "--", "/bin/cat", "/none"]).status, Some(2));
    assert_eq!(world.sh("ls -A k k/j | grep -c -e probe -e stockade"), "1\n");
    assert_eq!(world.run(&["check", "./k/j"]).status, Some(0));
}

#[test]
fn a_trace_takes_no_accounts_of_the_host_and_waits_for_nobody_elses_children() {
    if !able(&["id"]) {
        return;
    }
    let world = World::new();
    world.ok(&["jail", "j", "id", "sh"]);
    let read = |name: &str| fs::read(world.root("j").join(name)).unwrap_or_default();
    let files = ["etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ld.so.cache"];
    let before = files.map(read);
    let script = "sleep 500 & echo $! > other; exec $STOCKADE jail j --trace -- sh -c 'id root; getent passwd; cat /etc/passwd >/dev/null'";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    world.settle(&mut command);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success());
    // It did not wait for the other one.
    world.sh("kill -0 $(cat other)");
    assert_eq!(files.map(read), before, "made files stay as they were made");
    assert!(world.sh("find home/j -name 'libnss_systemd*'").is_empty());
    world.sh("kill $(cat other)");
}

#[test]
fn an_ordinary_user_may_trace_and_probe() {
    if !able(&["setpriv", "cat"]) || !common::native("user namespaces are Linux's") {
        return;
    }
    let world = World::new();
    world.sh("mkdir -m 755 user; chown 65534 user; chmod 711 .");
    let stockade = |arguments: &str| {
        format!(
            "cp -n $STOCKADE user/stockade; chmod 755 user/stockade; cd user; timeout 60 setpriv --reuid=65534 --regid=65534 \
             --clear-groups env HOME=$PWD TMPDIR=$PWD STOCKADE_HOME=$PWD/home ./stockade {arguments}"
        )
    };
    world.sh(&stockade("jail j sh cat"));
    world.sh(&stockade("jail j --trace -- cat /etc/debian_version"));
    assert!(world.path("user/home/j/etc/debian_version").exists());
    world.sh(&stockade("jail j --probe -- cat /etc/debian_version"));
    world.sh(&stockade("remove j"));
}

/// With `--json`, standard output is JSON and nothing else.
#[test]
fn what_a_command_says_is_no_part_of_the_json() {
    if !able(&["cat"]) {
        return;
    }
    let world = World::new();
    for arguments in [
        &["jail", "j", "cat", "--json", "--probe", "--", "/bin/cat", "/etc/passwd"][..],
        &["jail", "j", "--json", "--probe", "--", "/bin/cat", "/none"],
        &["jail", "j", "--json", "--trace", "--", "/bin/cat", "/etc/debian_version"],
        &["jail", "j", "--json", "--preload", "--", "/bin/cat", "/etc/debian_version"],
    ] {
        let said = world.run(arguments);
        assert!(!said.out.is_empty(), "{arguments:?}: {said:?}");
        for line in said.out.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{arguments:?}: {line}");
        }
    }
}

#[test]
fn what_a_run_writes_is_seen_by_every_call_that_writes() {
    if !able(&["python3"]) {
        return;
    }
    let world = World::on_disk();
    let script = "import os
os.close(os.open('opened', os.O_WRONLY | os.O_CREAT)); os.mkdir('made'); os.rename('opened', 'renamed')
os.symlink('x', 'link'); os.truncate('renamed', 0); os.unlink('link'); os.rmdir('made')";
    world.write("w.py", script);
    let said = world.ok(&["jail", "j", "/usr/bin/python3", "--json", "--trace", "--", "/usr/bin/python3", "w.py"]);
    let trace: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let written: Vec<&str> = trace["trace"]["written"].as_array().unwrap().iter().filter_map(|p| p.as_str()).collect();
    for name in ["opened", "made", "renamed", "link"] {
        assert!(written.iter().any(|path| path.ends_with(&format!("/{name}"))), "{name}: {written:?}");
    }
}
