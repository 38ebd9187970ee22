// SPDX-License-Identifier: ISC
//! `stockade run`, from outside: what the command sees, how it ends, and that nothing of it is left.
//!
//! Needs root and a static busybox. Every test works in a directory of its own and looks only at processes whose root
//! that is.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr)] // to say why a test was skipped

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/ash\nlost:x:1001:100::/none:\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\nadm:x:4:bob\n";
/// How long anything may take before a test calls it hung.
const HUNG: Duration = Duration::from_secs(60);

/// A chroot of busybox, recorded in a home of its own.
struct Scene {
    dir: tempfile::TempDir,
}

/// None, said loudly, where the tests cannot work; a failure in CI.
fn scene() -> Option<Scene> {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root || !Path::new("/bin/busybox").exists() {
        assert!(std::env::var_os("CI").is_none(), "needs root and busybox-static");
        eprintln!("skipped: needs root and busybox-static");
        return None;
    }
    let scene = Scene { dir: tempfile::tempdir().unwrap() };
    let root = scene.root();
    for name in ["bin", "dev", "proc", "etc", "root", "home/ann", "tmp"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in "sh ash cat ls id env kill sleep mount stty echo pwd mknod tty true readlink stat head umask".split(' ')
    {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), PASSWD).unwrap();
    fs::write(root.join("etc/group"), GROUP).unwrap();
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    chown(root.join("home/ann"), Some(1000), Some(100)).unwrap();
    let adopted = scene.stockade(&["adopt"]).arg(&root).output().unwrap();
    assert!(adopted.status.success(), "{adopted:?}");
    Some(scene)
}

impl Scene {
    fn root(&self) -> PathBuf {
        self.dir.path().join("b0")
    }

    fn stockade(&self, words: &[&str]) -> Command {
        let mut command = Command::new(STOCKADE);
        command.args(words).env("STOCKADE_HOME", self.dir.path().join("home"));
        command
    }

    /// `stockade run [OPTION...] ROOT -- ARGV...`, without a terminal.
    fn run(&self, options: &[&str], argv: &[&str]) -> Command {
        let mut command = self.stockade(&["run"]);
        command.args(options).arg(self.root()).stdin(Stdio::null());
        if !argv.is_empty() {
            command.arg("--").args(argv);
        }
        command
    }

    /// What `sh -c SCRIPT` prints inside; it must succeed.
    fn shell(&self, options: &[&str], script: &str) -> String {
        let output = within_time(&mut self.run(options, &["sh", "-c", script]));
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The processes whose root is the chroot, zombies apart.
    fn inside(&self) -> Vec<u32> {
        let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        let root = identity(&self.root());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|pid| identity(Path::new(&format!("/proc/{pid}/root"))) == root).collect()
    }

    /// Waits until nothing runs inside; then nothing of it may be mounted either.
    fn assert_nothing_left(&self, told: &str) {
        let since = Instant::now();
        while !self.inside().is_empty() {
            assert!(since.elapsed() < HUNG, "{told}: still inside: {:?}", self.inside());
            std::thread::sleep(Duration::from_millis(1));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "{told}: {mounts}");
    }
}

/// Runs `command` to its end; one that hangs is killed, and the test fails.
fn within_time(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let done = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&done);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if told.recv_timeout(HUNG).is_err() {
            *seen.lock().unwrap() = true;
            kill(pid, "KILL");
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = tell.send(());
    assert!(!*done.lock().unwrap(), "hung: {command:?} {output:?}");
    output
}

fn kill(pid: u32, signal: &str) {
    Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
}

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
    let mounts =
        scene.shell(&[], "while read a on type opts rest; do echo $on $type ${opts%%,relatime*}; done </proc/mounts");
    let lines: Vec<&str> = mounts.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "/proc proc rw,nosuid,nodev,noexec",
            "/dev tmpfs rw,nosuid",
            "/dev/pts devpts rw,nosuid,noexec",
            "/dev/shm tmpfs rw,nosuid,nodev"
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
        .args(["-c", "exec $RUN -- sh -c 'for fd in /proc/1/fd/*; do readlink $fd; done' 9</var 8</etc"])
        .stdin(Stdio::null());
    command.env("RUN", format!("{STOCKADE} run {}", scene.root().display()));
    let links = within_time(command.env("STOCKADE_HOME", scene.dir.path().join("home")));
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(links.contains("/lock") && !links.lines().any(|to| to == "/etc" || to == "/var"), "{links}");
    // A device made in the root does not work, the one in /dev does.
    assert_eq!(scene.shell(&[], "mknod /x c 1 5; head -c 1 /x 2>/dev/null || head -c 3 /dev/zero | cat -v"), "^@^@^@");
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
    let table: [(&str, Make, i32, &str); 15] = [
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
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 5, "{output:?}");
    scene.assert_nothing_left("shared mounts");
}

/// A session whose command has printed `ready`; killed when dropped.
struct Running(Child);

impl Running {
    fn start(scene: &Scene, script: &str) -> Running {
        let mut child = scene.run(&[], &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        Running(child)
    }

    /// Its exit status, and what else it printed.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        (self.0.wait().unwrap().code(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
fn traced(scene: &Scene, inject: &str, follow: bool) -> (ExitStatus, Vec<(u32, String, usize)>) {
    let trace = scene.dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(follow.then_some("-f")).arg("-qq").arg("-o").arg(&trace).args(["-e", inject]).arg(STOCKADE);
    command.arg("run").arg(scene.root()).args(["--", "sh", "-c", "sleep 0.01 & :"]);
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

#[test]
fn killed_at_every_system_call_nothing_is_left() {
    let Some(scene) = scene() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "needs strace");
        eprintln!("skipped: needs strace");
        return;
    }
    for follow in [false, true] {
        let (status, calls) = traced(&scene, "trace=all", follow);
        assert!(status.success(), "{calls:?}");
        // From the session's first call on: what comes before is every verb's.
        let first = calls.iter().position(|(_, name, _)| name == "open_tree").expect("open_tree");
        let caller = calls[0].0;
        let moments: BTreeSet<_> = calls[first..]
            .iter()
            .filter(|call| !follow || call.0 != caller)
            .map(|(_, name, nth)| (name, nth))
            .collect();
        assert!(moments.len() > 15, "{moments:?}");
        for (name, nth) in moments {
            let (status, _) = traced(&scene, &format!("inject={name}:signal=KILL:when={nth}"), follow);
            let told = format!("killed at {name} number {nth}: {status}");
            assert!(follow || !status.success() || name == "exit_group", "{told}");
            scene.assert_nothing_left(&told);
        }
    }
}

/// An interactive bash on a terminal of its own, made by script(1).
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    read: usize,
}

impl Terminal {
    /// With an interactive bash.
    fn open(scene: &Scene) -> Terminal {
        let mut terminal = Terminal::with(scene, "bash --norc --noprofile -i");
        terminal.types("PS1='OUT''> '\n");
        terminal.shows("OUT> ");
        terminal
    }

    /// With `program`, which has no shell above it.
    fn with(scene: &Scene, program: &str) -> Terminal {
        let mut command = Command::new("script");
        command.args(["-qfec", program, "/dev/null"]).env("STOCKADE_HOME", scene.dir.path().join("home"));
        command
            .env("RUN", format!("{STOCKADE} run {}", scene.root().display()))
            .env("TERM", "dumb")
            .env("PS1", "OUT> ");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (child.stdout.take().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().extend(&buffer[..n]);
            }
        });
        let keys = child.stdin.take().unwrap();
        Terminal { child, keys, screen, read: 0 }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen shows `text` after what was waited for last.
    fn shows(&mut self, text: &str) {
        let since = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap();
            let new = &screen[self.read..];
            if let Some(at) = new.windows(text.len()).position(|w| w == text.as_bytes()) {
                self.read += at + text.len();
                return;
            }
            assert!(since.elapsed() < HUNG, "no {text:?} in {:?}", String::from_utf8_lossy(new));
            drop(screen);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The rest of the line that was waited for last.
    fn line(&mut self) -> String {
        let start = self.read;
        self.shows("\r\n");
        String::from_utf8_lossy(&self.screen.lock().unwrap()[start..self.read]).trim_end().to_owned()
    }

    /// Types a command, whose echo must not hold `text`, and waits for that.
    fn does(&mut self, keys: &str, text: &str) {
        self.types(keys);
        self.shows(text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A terminal, if there is script(1).
fn terminal(scene: &Scene) -> Option<Terminal> {
    if Command::new("script").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "needs script(1)");
        eprintln!("skipped: needs script(1)");
        return None;
    }
    Some(Terminal::open(scene))
}

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
