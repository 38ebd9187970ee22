// SPDX-License-Identifier: ISC
//! Keys, job control and window size work in a session as in a plain shell. Needs root and script(1).
#![cfg(target_os = "linux")]

mod scene;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use scene::{Terminal, scene, terminal};

const INTERRUPT: &str = "\x03";
const SUSPEND: &str = "\x1a";

#[test]
fn keys_reach_a_command_as_under_chroot() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    let run = "$RUN -- sh -c 'echo rea''dy; sleep 1000'";
    t.does(&format!("{run}; echo st''atus=$?\n"), "ready");
    t.does(INTERRUPT, "OUT> ");
    t.does("echo st''atus=$?\n", "status=130");
    // Stopped, continued behind, brought forward, interrupted.
    t.does(&format!("{run}\n"), "ready");
    t.does(SUSPEND, "Stopped");
    t.shows("OUT> ");
    t.does("bg; echo be''hind\n", "behind");
    t.shows("OUT> ");
    t.does("fg; echo st''atus=$?\n", "sleep 1000");
    t.does(INTERRUPT, "OUT> ");
    // A loop in a script ends with the command that was interrupted.
    t.does("bash -c \"for i in 1 2 3; do $RUN -- sh -c 'echo rea''dy; sleep 1000'; done\"; echo lo''op=$?\n", "ready");
    t.does(INTERRUPT, "OUT> ");
    t.does("echo in=$((40+2))\n", "in=42");
    scene.assert_nothing_left("after keys");
}

#[test]
fn reading_from_behind_stops_and_goes_on_in_front() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    t.does("$RUN -- cat & while ! jobs | grep -q Stopped; do sleep 0.05; done; echo st''opped\n", "stopped");
    t.shows("OUT> ");
    t.does("fg\n", " -- cat");
    t.does("hel''lo\n", "hel''lo\r\nhel''lo");
    t.does("\x04", "OUT> ");
    t.does("echo st''atus=$?\n", "status=0");
    scene.assert_nothing_left("after cat");
}

#[test]
fn a_pipeline_shares_the_terminal() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    t.types("$RUN -- sh -c 'echo rea''dy >/dev/tty; exec sleep 1000' | (read x </dev/tty; echo go''t $x; cat)\n");
    t.shows("ready");
    t.does("word\n", "got word");
    t.does(SUSPEND, "Stopped");
    t.shows("OUT> ");
    t.does("fg\n", "cat )");
    t.does(INTERRUPT, "OUT> ");
    t.does("echo st''atus=$?\n", "status=130");
    scene.assert_nothing_left("after the pipeline");
}

/// The guest is in a process group of its own then, which the terminal does not know.
#[test]
fn keys_reach_a_command_that_has_the_terminal_nowhere() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    // A shell waits for what it runs before it heeds a trap: the key must reach both.
    let script = "trap 'exit 9' INT; echo rea''dy >/dev/tty; sleep 1000; :";
    let run = format!("$RUN -- sh -c \"{script}\" </dev/null >/dev/null 2>&1");
    t.does(&format!("{run}\n"), "ready");
    t.does(SUSPEND, "Stopped");
    t.shows("OUT> ");
    t.does("fg\n", "sleep 1000");
    t.does(INTERRUPT, "OUT> ");
    t.does("echo st''atus=$?\n", "status=9");
    t.does(&format!("{}\n", run.replace("trap 'exit 9' INT; ", "")), "ready");
    t.does(INTERRUPT, "OUT> ");
    t.does("echo st''atus=$?\n", "status=130");
    scene.assert_nothing_left("after keys");
}

#[test]
fn an_interactive_shell_has_job_control() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    t.types("$RUN\n");
    t.does("echo $((6*7)) $(tty)\n", "42 /dev/console");
    t.does("sh -c 'echo rea''dy; sleep 1000'\n", "ready");
    t.does(INTERRUPT, "# ");
    t.does("echo st''atus=$?\n", "status=130");
    t.does("sh -c 'echo rea''dy; sleep 1000'\n", "ready");
    t.does(SUSPEND, "Stopped");
    t.does("kill %1; exit 5\n", "stopped jobs");
    t.does("exit 5\n", "OUT> ");
    t.does("echo st''atus=$?\n", "status=5");
    // A script that goes on afterwards has the terminal again.
    t.does("sh -c '$RUN -- sh -i; echo ba''ck; read x; echo go''t $x'\n", "# ");
    t.does("exit\n", "back");
    t.does("word\n", "got word");
    scene.assert_nothing_left("after shells");
}

#[test]
fn a_prompt_outlasts_the_files_of_the_shell() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    let root = scene.root();
    fs::create_dir(root.join("usr")).unwrap();
    for dir in ["lib", "lib64"] {
        symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/usr/bin/bash\n").unwrap();
    fs::write(root.join("etc/profile"), "PS1='sys''tem> '\n").unwrap();
    fs::write(root.join("root/.bash_profile"), "PS1='us''er> '\n").unwrap();
    t.does("$RUN --bind /usr:/usr:ro\n", "user> ");
    t.does("exit\n", "OUT> ");
    t.does("$RUN --bind /usr:/usr:ro --env PS1=\"it's mi\"'ne> '\n", "it's mine> ");
    t.does("echo st''ill\n", "still\r\nit's mine> ");
    t.does("PS1='la''ter> '\n", "later> ");
    t.does("exit\n", "OUT> ");
    scene.assert_nothing_left("after prompts");
}

#[test]
fn without_a_shell_above_nothing_stays_stopped() {
    let Some(scene) = scene() else { return };
    if terminal(&scene).is_none() {
        return;
    }
    let mut t = Terminal::with(&scene, "exec $RUN -- sh -c 'echo ready; read x; echo got $x'");
    t.shows("ready");
    t.types(SUSPEND);
    t.does("word\n", "got word");
    scene.assert_nothing_left("after the word");
}

#[test]
fn a_new_window_size_is_told() {
    let Some(scene) = scene() else { return };
    let Some(mut t) = terminal(&scene) else { return };
    t.does("echo te''rminal $(tty)\n", "terminal ");
    let tty = t.line();
    t.does("$RUN -- sh -c 'trap \"stty size\" WINCH; echo rea''dy; while :; do sleep 0.02; done'\n", "ready");
    let resized = Command::new("stty").args(["-F", &tty, "rows", "33", "cols", "77"]).status().unwrap();
    assert!(resized.success(), "{tty}");
    t.shows("33 77");
    t.does(INTERRUPT, "OUT> ");
    scene.assert_nothing_left("after resizing");
}
