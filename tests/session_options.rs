// SPDX-License-Identifier: ISC
//! The options of `run`: what is mounted, what is cut off, what is limited, and what is refused with its reason.
//!
//! Needs root and a static busybox.
#![cfg(target_os = "linux")]

mod scene;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use scene::{STOCKADE, Scene, scene, within_time};

/// What a run says that is to fail: status and standard error.
fn fails(scene: &Scene, options: &[&str]) -> (Option<i32>, String) {
    let output = within_time(&mut scene.run(options, &["true"]));
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A directory of the host with a file `f` in it.
fn shared(scene: &Scene) -> String {
    let dir = scene.dir.path().join("shared");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "host\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn what_is_bound() {
    let Some(scene) = scene() else { return };
    let shared = shared(&scene);
    fs::create_dir_all(scene.root().join("srv/a")).unwrap();
    fs::write(scene.root().join("srv/file"), "own\n").unwrap();
    fs::create_dir(scene.root().join("run")).unwrap();
    let bind = |rest: &str| format!("{shared}{rest}");
    for (options, script, want) in [
        (vec!["--bind", &bind(":/srv/a")], "echo in >/srv/a/new; cat /srv/a/f", "host\n"),
        (
            vec!["--bind", &bind(":/srv/a:ro")],
            "cat /srv/a/f; echo x 2>/dev/null >/srv/a/g || echo held",
            "host\nheld\n",
        ),
        (vec!["--bind", &bind("/f:/srv/file")], "cat /srv/file", "host\n"),
        (vec!["--bind", &bind("/f:/tmp/x/y/f:ro")], "cat /tmp/x/y/f; ls /tmp", "host\nx\n"),
        (vec!["--bind", &bind(":/run/deep/er")], "cat /run/deep/er/new", "in\n"),
        (
            vec!["--tmpfs", "/srv", "--bind", &bind(":/srv/q/r")],
            "ls /srv /srv/q; cat /srv/q/r/f",
            "/srv:\nq\n\n/srv/q:\nr\nhost\n",
        ),
        (vec!["--tmpfs", "/srv"], "ls /srv; echo x >/srv/x; cat /srv/x", "x\n"),
        (vec!["--bind", "/dev/null:/dev/other"], "echo gone >/dev/other; cat /dev/other", ""),
        (vec!["--bind", "/dev:/srv/a"], "head -c 1 /srv/a/zero 2>/dev/null || echo inert", "inert\n"),
        (vec!["--read-only"], "echo x 2>/dev/null >/srv/x || echo held; echo y >/tmp/y; cat /tmp/y", "held\ny\n"),
    ] {
        assert_eq!(scene.shell(&options, script), want, "{options:?}");
        scene.assert_nothing_left("after a bind");
    }
    // Nothing of it is left, and the root has nothing new.
    assert_eq!(fs::read_to_string(format!("{shared}/new")).unwrap(), "in\n");
    assert_eq!(fs::read_to_string(scene.root().join("srv/file")).unwrap(), "own\n");
    for empty in ["srv/a", "tmp", "run"] {
        assert_eq!(fs::read_dir(scene.root().join(empty)).unwrap().count(), 0, "{empty}");
    }
    // Without a second path: the same one.
    let same = scene.root().join(shared.trim_start_matches('/'));
    fs::create_dir_all(&same).unwrap();
    assert_eq!(scene.shell(&["--bind", &shared], &format!("cat {shared}/f")), "host\n");
}

#[test]
fn mounts_below_a_bind_come_along_and_are_read_only_too() {
    let Some(scene) = scene() else { return };
    let shared = shared(&scene);
    fs::create_dir(format!("{shared}/below")).unwrap();
    fs::create_dir(scene.root().join("srv")).unwrap();
    let run = format!("{STOCKADE} run {} --bind {shared}:/srv:ro", scene.root().display());
    let script = format!(
        "mount -t tmpfs none {shared}/below && echo deep >{shared}/below/g && \
         {run} -- sh -c 'cat /srv/below/g; echo x 2>/dev/null >/srv/below/h || echo held'"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).env("STOCKADE_HOME", scene.dir.path().join("home"));
    let output = within_time(&mut command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "deep\nheld\n", "{output:?}");
}

#[test]
fn a_bind_goes_nowhere_else() {
    let Some(scene) = scene() else { return };
    let (root, shared) = (scene.root(), shared(&scene));
    let trap = scene.dir.path().join("trap");
    fs::create_dir(&trap).unwrap();
    fs::create_dir(root.join("srv")).unwrap();
    symlink(&trap, root.join("link")).unwrap();
    symlink("/", root.join("srv/up")).unwrap();
    symlink("etc", root.join("inside")).unwrap();
    let at = |to: &str| format!("{shared}:{to}");
    for (options, says) in [
        (["--bind", &at("/link")], "link: mount: Too many levels"),
        (["--bind", &at("/link/x")], "a symlink is in the way"),
        (["--bind", &at("/srv/up/etc")], "a symlink is in the way"),
        (["--bind", &at("/inside")], "a symlink is in the way"),
        (
            ["--bind", &at("/none")],
            "none: mount: No such file or directory while binding a path of the host\nhint: mkdir ",
        ),
        (["--bind", &at("/etc/passwd")], "a directory goes on a directory"),
        (["--bind", &at("/")], "nothing can be mounted on the root"),
        (["--bind", &at("relative")], "absolute path"),
        (["--bind", &at("/../x")], ".."),
        (["--bind", &format!("{shared}/none:/srv")], "none: bind: No such file"),
        (["--tmpfs", "/link/x"], "a symlink is in the way"),
        (
            ["--tmpfs", "/none"],
            "none: mount: No such file or directory while mounting a filesystem in memory\nhint: mkdir ",
        ),
    ] {
        let (status, stderr) = fails(&scene, &options);
        assert_eq!(status, Some(1), "{options:?}: {stderr}");
        assert!(stderr.contains(says), "{options:?}: {stderr}");
        scene.assert_nothing_left("a bind that failed");
    }
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0);
    assert!(!root.join("none").exists());
}

#[test]
fn names_networks_and_variables() {
    let Some(scene) = scene() else { return };
    fs::create_dir(scene.root().join("srv")).unwrap();
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (options, script, want) in [
        (&["--hostname", "b0.example"][..], "cat /proc/sys/kernel/hostname", "b0.example\n"),
        (&[], "cat /proc/sys/kernel/hostname", own.as_str()),
        (
            &["--net", "none"],
            "cat /proc/net/dev | tail -n +3 | cut -d: -f1; ping -c1 127.0.0.1 >/dev/null; echo $?",
            "    lo\n1\n",
        ),
        (&["--cwd", "/srv"], "pwd", "/srv\n"),
        (&["--cwd", "srv/../srv"], "pwd", "/srv\n"),
        (&["--env", "A=b c", "--env", "B=", "--env", "HOME=/tmp"], "echo \"$A$B,$HOME\"", "b c,/tmp\n"),
        (&[], "cat /proc/self/cgroup | sort -u | cut -d: -f3 | sort -u", "/\n"),
    ] {
        assert_eq!(scene.shell(options, script), want, "{options:?}");
    }
    // Loopback is up: a listener hears. Raw sockets, which ping needs, are not for confined root.
    let script = "(echo heard | nc -l -p 7 &) ; until nc 127.0.0.1 7 </dev/null 2>/tmp/said; do sleep 0.02; done";
    for name in ["nc", "ping", "tail", "cut", "sort"] {
        let _ = symlink("busybox", scene.root().join("bin").join(name));
    }
    assert_eq!(scene.shell(&["--net", "none"], script), "heard\n");
    for (options, says) in [
        (
            &["--cwd", "/none"][..],
            "chdir: No such file or directory while entering the directory of the command\nhint: name another",
        ),
        (&["--hostname", "a b"], "a host name has"),
        (&["--env", "A"], "NAME=VALUE"),
        (&["--memory", "many"], "--memory \"many\": not a size"),
        (&["--cpus", "0"], "not a number of processors"),
        (&["--timeout", "soon"], "not a time"),
    ] {
        let (status, stderr) = fails(&scene, options);
        assert!(status == Some(1) && stderr.contains(says), "{options:?}: {stderr}");
    }
}

#[test]
fn homes() {
    let Some(scene) = scene() else { return };
    fs::write(scene.root().join("home/ann/own"), "chroot\n").unwrap();
    let ann = |home: &str, script: &str| scene.shell(&["-u", "ann", "--home", home], script);
    assert_eq!(ann("none", "cat own"), "chroot\n");
    // Private: empty at first, hers, kept for the next time, beside the chroot.
    assert_eq!(ann("private", "ls; pwd; echo kept >f; stat -c %U:%a . f"), "/home/ann\nann:700\nann:644\n");
    assert_eq!(ann("private", "cat f"), "kept\n");
    assert!(!scene.root().join("home/ann/f").exists());
    let kept = scene.dir.path().join(".stockade/b0/homes/1000/f");
    assert_eq!((fs::read_to_string(&kept).unwrap().as_str(), fs::metadata(&kept).unwrap().uid()), ("kept\n", 1000));
    // The host's: root is user 0 on both sides; ann is no account of the host, and `daemon` has another number here.
    let home =
        |user: &str| within_time(&mut scene.run(&["-u", user, "--home", "host"], &["sh", "-c", "ls -ain ~ | head -2"]));
    let listed = String::from_utf8(home("root").stdout).unwrap();
    let inode = fs::metadata("/root").unwrap().ino().to_string();
    assert!(listed.contains(&inode), "{listed} {inode}");
    fs::write(scene.root().join("etc/passwd"), format!("{}daemon:x:77:77::/root:/bin/sh\n", scene::PASSWD)).unwrap();
    let refused = home("daemon");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("on the host and user 77 inside"), "{stderr}");
}

#[test]
fn limits_hold_and_say_what_holds_them() {
    let Some(scene) = scene() else { return };
    let run = |options: &[&str], argv: &[&str]| {
        let output = within_time(&mut scene.run(options, argv));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // A text of 64 MB in one variable.
    let greedy = &["sh", "-c", "x=$(head -c 67108864 /dev/zero | tr '\\0' x); echo ${#x} >&2"][..];
    let _ = symlink("busybox", scene.root().join("bin/tr"));
    let (status, said) = run(&["--memory", "32M"], greedy);
    assert!(status != Some(0) && said.contains("limited: memory 33554432 by "), "{status:?} {said}");
    let (status, said) = run(&["--memory", "2G"], greedy);
    assert!(status == Some(0) && said.ends_with("67108864\n"), "{status:?} {said}");
    let (status, said) = run(&["--cpus", "1", "--json"], &["sh", "-c", "nproc >&2"]);
    assert!(status == Some(127) || status == Some(0), "{status:?}");
    let value: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((&value["limits"][0]["limit"], &value["limits"][0]["value"]), (&"cpus".into(), &"1".into()), "{said}");
    // Time: asked to end, and ended.
    for script in ["sleep 1000", "trap '' TERM; sleep 1000 & sleep 1000"] {
        let since = std::time::Instant::now();
        let (status, said) = run(&["--timeout", "1"], &["sh", "-c", script]);
        assert_eq!((status, said.contains("timeout 1 by clock")), (Some(124), true), "{script}: {said}");
        assert!(since.elapsed() >= std::time::Duration::from_secs(1), "{script}");
        scene.assert_nothing_left("after its time");
    }
    assert_eq!(run(&["--timeout", "60"], &["sh", "-c", "exit 3"]).0, Some(3));
}

#[test]
fn plain_is_chroot_and_nothing_else() {
    let Some(scene) = scene() else { return };
    fs::remove_dir(scene.root().join("proc")).unwrap();
    // The shell opens it for what it starts behind; there are no devices.
    fs::write(scene.root().join("dev/null"), "").unwrap();
    let mut child = scene.run(&["--plain"], &["sh", "-c", "echo $$ $(id -un); ls -a /; sleep 1000 >&- 2>&- & exit 5"]);
    fs::remove_file(scene.root().join("bin/true")).unwrap();
    let output = within_time(child.stdout(std::process::Stdio::piped()));
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let pid: u32 = stdout.split_whitespace().next().unwrap().parse().unwrap();
    assert!(pid > 2 && stdout.contains(" root\n") && !stdout.contains("proc"), "{stdout}");
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let left = scene.inside();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(stderr.contains("left running: ") && stderr.contains(&format!("(process {})", left[0])), "{stderr}");
    scene::kill(left[0], "KILL");
    scene.assert_nothing_left("after the sleep");
    for options in [&["--plain", "--net", "none"][..], &["--plain", "--tmpfs", "/srv"], &["--plain", "--timeout", "1"]]
    {
        let (status, stderr) = fails(&scene, options);
        assert!(
            status == Some(1) && stderr.contains("needs namespaces\nhint: leave out --plain"),
            "{options:?}: {stderr}"
        );
    }
    // Its end is told, and a signal that it is sent reaches the command.
    let running = scene::Running::start_with(
        &scene,
        &["--plain"],
        "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.02; done",
    );
    scene::kill(running.0.id(), "TERM");
    assert_eq!(running.end(), (Some(4), "told\n".to_owned()));
    let output = within_time(&mut scene.run(&["--plain"], &["nope"]));
    assert_eq!(output.status.code(), Some(127));
}

/// A session in a session, with the libraries of the host; `run` and its options come before the inner chroot.
#[test]
fn sessions_in_sessions() {
    let Some(scene) = scene() else { return };
    let (root, inner) = (scene.root(), scene.root().join("home/in"));
    for name in ["lib", "lib64", "usr/lib", "run", "home/in/bin", "home/in/proc", "home/in/dev"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", inner.join("bin/true")).unwrap();
    let mut words = vec!["--bind".to_owned(), format!("{STOCKADE}:/run/stockade:ro")];
    for dir in ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|dir| fs::metadata(dir).is_ok()) {
        words.extend(["--bind".to_owned(), format!("{dir}:{dir}:ro")]);
    }
    let script = "export STOCKADE_HOME=/home; /run/stockade adopt in >/dev/null && /run/stockade run in $INNER -- true";
    let run = |outer: &[&str], inner: &str| {
        let env = ["--env".to_owned(), format!("INNER={inner}")];
        let all: Vec<&str> = outer.iter().copied().chain(words.iter().chain(&env).map(String::as_str)).collect();
        let output = within_time(&mut scene.run(&all, &["sh", "-c", script]));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for inner in ["", "--ephemeral", "--net none"] {
        assert_eq!(run(&["--no-confine"], inner), (Some(0), String::new()), "{inner}");
    }
    let (status, said) = run(&[], "");
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("Operation not permitted while taking the root\nhint: ") && said.contains("--no-confine"),
        "{said}"
    );
    assert_eq!(run(&[], "--plain"), (Some(0), String::new()));
    scene.assert_nothing_left("one in another");
}

#[test]
fn a_closed_root_is_named() {
    let Some(scene) = scene() else { return };
    fs::set_permissions(scene.root(), Permissions::from_mode(0o700)).unwrap();
    let output = within_time(&mut scene.run(&["-u", "ann"], &["true"]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("hint: the root is closed to others: chmod o+x "), "{stderr}");
}

#[test]
fn mount_options_in_the_way_are_named() {
    let Some(scene) = scene() else { return };
    let root = scene.root();
    let run = format!("{STOCKADE} run {}", root.display());
    for (option, command, says) in [
        (
            "noexec",
            format!("{run} -- true"),
            "Permission denied while its filesystem is mounted noexec\nhint: mount -o remount,exec ",
        ),
        (
            "nosuid",
            format!("{run} --setuid -- true"),
            "its filesystem is mounted nosuid: no set-id program works\nhint: mount -o remount,suid ",
        ),
    ] {
        let script = format!(
            "mount --bind {0} {0} && mount -o remount,bind,{option} {0} && {command}",
            scene.dir.path().display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).env("STOCKADE_HOME", scene.dir.path().join("home"));
        let output = within_time(&mut command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&format!("{says}{}", scene.dir.path().display())), "{option}: {stderr}");
    }
}
