// SPDX-License-Identifier: ISC
//! `stockade run`, from outside: what the command sees, how it ends, and that nothing of it is left.
//!
//! Needs root and a static busybox. Every test works in a directory of its own and looks only at processes whose root
//! that is.
#![cfg(target_os = "linux")]

mod scene;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use scene::{Running, STOCKADE, kill, scene, within_time};

#[test]
fn exit_statuses() {
    let Some(scene) = scene() else { return };
    let root = scene.root();
    fs::write(root.join("bin/script"), "#!/bin/sh\nexit 5\n").unwrap();
    fs::write(root.join("bin/bare"), "exit 6\n").unwrap();
    fs::write(root.join("bin/orphan"), "#!/none\n").unwrap();
    fs::write(root.join("bin/plain"), "x").unwrap();
    for name in ["script", "bare", "orphan"] {
        fs::set_permissions(root.join("bin").join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let table: [(&[&str], i32, &str); 14] = [
        (&["true"], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["sh", "-c", "kill -INT $$"], 130, ""),
        (&["script"], 5, ""),
        (&["/bin/bare"], 6, ""),
        (&["nope"], 127, "nope: command not found in the chroot"),
        (&["/bin/nope"], 127, "/bin/nope: no such program"),
        (&["orphan"], 127, "orphan: "),
        (&["plain"], 126, "plain: execve: Permission denied"),
        (&["/etc"], 126, "/etc: execve: Permission denied"),
        (&[""], 127, "not found"),
    ];
    for (argv, status, says) in table {
        let output = within_time(&mut scene.run(&[], argv));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{argv:?} {stderr}");
        assert!(stderr.contains(says) && stderr.is_empty() == says.is_empty(), "{argv:?} {stderr}");
    }
    scene.assert_nothing_left("after the table");
}

#[test]
fn the_environment_is_the_accounts_and_nothing_else() {
    let Some(scene) = scene() else { return };
    let ann = "HOME=/home/ann LOGNAME=ann PATH=/usr/local/bin:/usr/bin:/bin SHELL=/bin/ash TERM=vt100 USER=ann";
    let root = "HOME=/root LOGNAME=root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SHELL=/bin/sh \
        TERM=vt100 USER=root";
    for (options, env, dir, id) in [
        (&[][..], root, "/root", "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        (&["-u", "ann"], ann, "/home/ann", "uid=1000(ann) gid=100(users) groups=10(wheel),100(users)"),
        (&["-u", "1000"], ann, "/home/ann", "uid=1000(ann) gid=100(users) groups=10(wheel),100(users)"),
    ] {
        let mut command = scene.run(options, &["env"]);
        command.env("TERM", "vt100").env("LD_PRELOAD_", "x").env("HOME", "/evil").env("BASH_ENV", "x");
        let output = within_time(&mut command);
        let got: BTreeSet<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(got, env.split(' ').collect(), "{options:?}");
        let got = scene.shell(options, "pwd; id; umask; readlink /proc/self/cwd");
        assert_eq!(got, format!("{dir}\n{id}\n0022\n{dir}\n"), "{options:?}");
    }
    // A home that is not there.
    assert_eq!(scene.shell(&["-u", "lost"], "pwd; echo $HOME $SHELL"), "/\n/none /bin/sh\n");
}

#[test]
fn without_a_command_a_login_shell() {
    let Some(scene) = scene() else { return };
    for (options, name) in [(&[][..], "-sh"), (&["-u", "ann"], "-ash")] {
        let mut child = scene.run(options, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"echo $0; exit 3\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(3), format!("{name}\n")));
    }
}

#[test]
fn what_the_command_sees() {
    let Some(scene) = scene() else { return };
    fs::create_dir(scene.root().join("run")).unwrap();
    fs::create_dir(scene.root().join("sys")).unwrap();
    let mounts = scene.shell(
        &["--no-confine"],
        "while read a on type opts rest; do echo $on $type ${opts%%,relatime*}; done </proc/mounts",
    );
    let lines: Vec<&str> = mounts.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "/proc proc rw,nosuid,nodev,noexec",
            "/dev tmpfs rw,nosuid",
            "/dev/pts devpts rw,nosuid,noexec",
            "/dev/shm tmpfs rw,nosuid,nodev",
            "/sys sysfs ro,nosuid,nodev,noexec",
            "/run tmpfs rw,nosuid,nodev",
            "/tmp tmpfs rw,nosuid,nodev"
        ]
    );
    assert!(mounts.starts_with("/ ") && mounts.lines().next().unwrap().contains(",nodev"), "{mounts}");
    let dev = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(scene.shell(&[], "echo $(ls /dev)"), format!("{dev}\n"));
    // Three descriptors, and the one that lists them.
    assert_eq!(scene.shell(&[], "echo $(ls /proc/self/fd)"), "0 1 2 3\n");
    assert_eq!(scene.shell(&[], "echo $$ $PPID; cat /proc/1/comm"), "2 1\nstockade\n");
    // Nor can a directory of the host be taken from the first process.
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec $RUN --no-confine -- sh -c 'for fd in /proc/1/fd/*; do readlink $fd; done' 9</var 8</etc"])
        .stdin(Stdio::null());
    command.env("RUN", format!("{STOCKADE} run {}", scene.root().display()));
    let links = within_time(command.env("STOCKADE_HOME", scene.dir.path().join("home")));
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(links.contains("/lock") && !links.lines().any(|to| to == "/etc" || to == "/var"), "{links}");
    // A device made in the root does not work, the one in /dev does.
    assert_eq!(
        scene.shell(&["--no-confine"], "mknod /x c 1 5; head -c 1 /x 2>/dev/null || head -c 3 /dev/zero | cat -v"),
        "^@^@^@"
    );
    assert_eq!(scene.shell(&["-u", "ann"], "echo a >/dev/null && echo b >/dev/shm/b && cat /dev/shm/b"), "b\n");
    // Signals are as they were here, but for SIGPIPE, which Rust programs ignore for themselves; the C library has
    // uses of its own for those beyond 31.
    let inside = within_time(&mut scene.run(&[], &["cat", "/proc/self/status"]));
    let inside = String::from_utf8(inside.stdout).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let mask = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!(mask(&inside, "SigBlk:"), 0);
    assert_eq!(mask(&inside, "SigIgn:"), mask(&own, "SigIgn:") & !(1 << (13 - 1)));
    scene.assert_nothing_left("after looking");
}

#[test]
fn a_hostile_chroot_is_refused_and_reaches_nothing() {
    let Some(scene) = scene() else { return };
    let root = scene.root();
    let trap = scene.dir.path().join("trap");
    fs::create_dir(&trap).unwrap();
    let fifo = |path: &str| assert!(Command::new("mkfifo").arg(root.join(path)).status().unwrap().success());
    let gone = |path: &str| fs::rename(root.join(path), scene.dir.path().join("saved")).unwrap();
    let link = |path: &str| symlink(&trap, root.join(path)).unwrap();
    let huge = |path: &str| fs::File::create(root.join(path)).unwrap().set_len(1 << 40).unwrap();
    type Make<'a> = &'a dyn Fn(&str);
    let nothing: Make = &|_| {};
    for dir in ["sys", "run"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files\n").unwrap();
    let table: [(&str, Make, i32, &str); 23] = [
        ("sys", &link, 0, ""),
        ("run", &link, 0, ""),
        ("tmp", &link, 0, ""),
        ("tmp", &fifo, 0, ""),
        ("root", &link, 0, ""),
        ("root", &fifo, 0, ""),
        ("etc/nsswitch.conf", &fifo, 0, ""),
        ("etc/nsswitch.conf", &huge, 0, ""),
        ("proc", nothing, 1, "proc: the chroot has no such directory\nhint: mkdir "),
        ("dev", nothing, 1, "dev: the chroot has no such directory\nhint: mkdir "),
        ("proc", &link, 1, "proc: is a symlink"),
        ("dev", &link, 1, "dev: is a symlink"),
        ("dev", &fifo, 1, "dev: is not a directory"),
        ("etc/passwd", &fifo, 1, "passwd: is not a regular file"),
        ("etc/passwd", &huge, 1, "passwd: is larger than"),
        ("etc/passwd", &link, 1, "passwd: is not a regular file"),
        ("etc/group", &fifo, 1, "group: is not a regular file"),
        ("etc/group", &huge, 1, "group: is larger than"),
        ("etc", &link, 1, "etc/passwd: "),
        ("etc/passwd", nothing, 0, ""),
        ("bin/true", &fifo, 126, "true: execve: Permission denied"),
        ("bin/true", &link, 127, "true: command not found"),
        ("bin/true", &huge, 126, "true: execve: "),
    ];
    for (path, make, status, says) in table {
        gone(path);
        make(path);
        let output = within_time(&mut scene.run(&[], &["true"]));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{path}: {stderr}");
        assert!(stderr.contains(says), "{path}: {stderr}");
        scene.assert_nothing_left(path);
        assert_eq!(fs::read_dir(&trap).unwrap().count(), 0, "{path}");
        let _ = fs::remove_file(root.join(path));
        fs::rename(scene.dir.path().join("saved"), root.join(path)).unwrap();
    }
    // The login shell itself.
    fs::remove_file(root.join("bin/sh")).unwrap();
    fifo("bin/sh");
    let shell = within_time(&mut scene.run(&[], &[]));
    assert_eq!(shell.status.code(), Some(126), "{shell:?}");
    let unknown = within_time(&mut scene.run(&["-u", "bob"], &["true"]));
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no account \"bob\" in the chroot"), "{unknown:?}");
}

#[test]
fn orphans_die_with_the_session() {
    let Some(scene) = scene() else { return };
    let out = scene.shell(&[], "(sleep 1000 & sleep 1000 & ) ; sleep 1000 & echo started");
    assert_eq!(out, "started\n");
    // `run` has returned: by then they are gone, not soon after.
    assert_eq!(scene.inside(), [] as [u32; 0]);
    scene.assert_nothing_left("orphans");
}

#[test]
fn nothing_is_mounted_for_others_where_mounts_are_shared() {
    let Some(scene) = scene() else { return };
    // As systemd has it; in a namespace of our own, so that it is not this machine that learns of a fault.
    let script = "mount --make-rshared / && grep -q shared: /proc/self/mountinfo \
        && before=$(cat /proc/self/mountinfo) && $RUN -- cat /proc/mounts >&2 \
        && test \"$before\" = \"$(cat /proc/self/mountinfo)\" && echo same";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("RUN", format!("{STOCKADE} run {}", scene.root().display()));
    let output = within_time(command.env("STOCKADE_HOME", scene.dir.path().join("home")));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "same\n", "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).lines().count() > 5, "{output:?}");
    scene.assert_nothing_left("shared mounts");
}

#[test]
fn signals_reach_the_command() {
    let Some(scene) = scene() else { return };
    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"] {
        let script = format!("trap 'echo {signal}; exit 9' {signal}; echo ready; while :; do sleep 0.02; done");
        let running = Running::start(&scene, &script);
        kill(running.0.id(), signal);
        assert_eq!(running.end(), (Some(9), format!("{signal}\n")));
    }
}

/// Without a terminal to share, as in a script of cron(8).
#[test]
fn a_signal_to_its_own_group_stays_inside() {
    let Some(scene) = scene() else { return };
    let run = format!("{STOCKADE} run {}", scene.root().display());
    for (signal, status) in [("TERM", 143), ("INT", 130), ("USR1", 138), ("KILL", 137)] {
        let mut command = Command::new("setsid");
        let script = format!("{run} -- sh -c 'sleep 1000 & kill -{signal} 0; sleep 1000'; echo after $?");
        command.args(["-w", "sh", "-c", &script]).stdin(Stdio::null());
        let output = within_time(command.env("STOCKADE_HOME", scene.dir.path().join("home")));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("after {status}\n"), "{signal}: {output:?}");
    }
    scene.assert_nothing_left("after signals");
}

/// While the session waits for the lock, say; it must not enter what its record is not of.
#[test]
fn another_directory_that_comes_to_the_path_is_not_entered() {
    let Some(scene) = scene() else { return };
    let (root, away) = (scene.root(), scene.dir.path().join("away"));
    let lock = fs::File::open(scene.dir.path().join(".stockade/b0/lock")).unwrap();
    lock.lock().unwrap();
    let mut run = scene.run(&[], &["cat", "/which"]);
    let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A line of who waits: "1: -> FLOCK  ADVISORY  READ PID ...".
    let waits = |line: &str| line.contains("->") && line.split_whitespace().any(|word| word == child.id().to_string());
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    fs::write(root.join("which"), "recorded\n").unwrap();
    fs::rename(&root, &away).unwrap();
    assert!(Command::new("cp").arg("-a").args([&away, &root]).status().unwrap().success());
    fs::write(root.join("which"), "another\n").unwrap();
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "recorded\n", "{output:?}");
    scene.assert_nothing_left("after the other");
}

#[test]
fn a_directory_of_the_host_is_not_handed_in() {
    let Some(scene) = scene() else { return };
    let run = format!("{STOCKADE} run {}", scene.root().display());
    for (redirect, status) in [("</etc", 1), ("2</etc", 1), ("</dev/null", 0), ("<&-", 0)] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{run} -- true {redirect}")]);
        let output = within_time(command.env("STOCKADE_HOME", scene.dir.path().join("home")));
        assert_eq!(output.status.code(), Some(status), "{redirect}: {output:?}");
        if status == 1 && !redirect.starts_with('2') {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("a directory of the host") && said.contains("hint: redirect it"), "{said}");
        }
    }
}

/// What a guest reaches through /proc/self/exe before it is executed: a copy of the program that cannot be changed, whether
/// it is a mount or, where there can be none, memory.
#[test]
fn the_program_cannot_be_changed_from_inside() {
    let Some(scene) = scene() else { return };
    let program = scene.dir.path().join("stockade");
    fs::copy(STOCKADE, &program).unwrap();
    for fault in ["", "open_tree:error=ENOSYS:when=1"] {
        let mut command = Command::new("strace");
        // Not the processes that it starts.
        command.args(["-qq", "-o", "/dev/null", "-e", "trace=open_tree"]);
        if !fault.is_empty() {
            command.args(["-e", &format!("inject={fault}")]);
        }
        command.arg(&program).arg("run").arg(scene.root()).args(["--", "sh", "-c", "echo ready; read x; true"]);
        command.env("STOCKADE_HOME", scene.dir.path().join("home")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut strace = command.spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(strace.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let caller = fs::read_to_string(format!("/proc/{0}/task/{0}/children", strace.id())).unwrap();
        let link = format!("/proc/{}/exe", caller.split_whitespace().next().unwrap());
        let changed = fs::set_permissions(&link, Permissions::from_mode(0o4755));
        assert!(changed.is_err() || !fault.is_empty(), "the mount is read-only");
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o755, "{fault}");
        drop(strace.stdin.take());
        assert!(strace.wait().unwrap().success());
    }
    scene.assert_nothing_left("after the program");
}
