// SPDX-License-Identifier: ISC
//! What the tests of sessions share: a chroot of busybox, commands in it, a terminal.
#![allow(dead_code)] // no test file uses all of it
#![allow(clippy::print_stderr)] // to say why a test was skipped

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");
pub(crate) const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/ash\nlost:x:1001:100::/none:\n";
pub(crate) const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\nadm:x:4:bob\n";
/// How long anything may take before a test calls it hung.
pub(crate) const HUNG: Duration = Duration::from_secs(60);

/// A chroot of busybox, recorded in a home of its own.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
}

/// None, said loudly, where the tests cannot work; a failure in CI.
pub(crate) fn scene() -> Option<Scene> {
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
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("b0")
    }

    pub(crate) fn stockade(&self, words: &[&str]) -> Command {
        let mut command = Command::new(STOCKADE);
        command.args(words).env("STOCKADE_HOME", self.dir.path().join("home"));
        command
    }

    /// `stockade run [OPTION...] ROOT -- ARGV...`, without a terminal.
    pub(crate) fn run(&self, options: &[&str], argv: &[&str]) -> Command {
        let mut command = self.stockade(&["run"]);
        command.args(options).arg(self.root()).stdin(Stdio::null());
        if !argv.is_empty() {
            command.arg("--").args(argv);
        }
        command
    }

    /// What `sh -c SCRIPT` prints inside; it must succeed.
    pub(crate) fn shell(&self, options: &[&str], script: &str) -> String {
        let output = within_time(&mut self.run(options, &["sh", "-c", script]));
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The processes whose root is the chroot, zombies apart.
    pub(crate) fn inside(&self) -> Vec<u32> {
        let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        let root = identity(&self.root());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|pid| identity(Path::new(&format!("/proc/{pid}/root"))) == root).collect()
    }

    /// Waits until nothing runs inside; then nothing of it may be mounted either.
    pub(crate) fn assert_nothing_left(&self, told: &str) {
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
pub(crate) fn within_time(command: &mut Command) -> Output {
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

pub(crate) fn kill(pid: u32, signal: &str) {
    Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
}

/// A session whose command has printed `ready`; killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(scene: &Scene, script: &str) -> Running {
        Running::start_with(scene, &[], script)
    }

    pub(crate) fn start_with(scene: &Scene, options: &[&str], script: &str) -> Running {
        let mut child = scene.run(options, &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        Running(child)
    }

    /// Its exit status, and what else it printed.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
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

/// An interactive bash on a terminal of its own, made by script(1).
pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    read: usize,
}

impl Terminal {
    /// With an interactive bash.
    pub(crate) fn open(scene: &Scene) -> Terminal {
        let mut terminal = Terminal::with(scene, "bash --norc --noprofile -i");
        terminal.types("PS1='OUT''> '\n");
        terminal.shows("OUT> ");
        terminal
    }

    /// With `program`, which has no shell above it.
    pub(crate) fn with(scene: &Scene, program: &str) -> Terminal {
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

    pub(crate) fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen shows `text` after what was waited for last.
    pub(crate) fn shows(&mut self, text: &str) {
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
    pub(crate) fn line(&mut self) -> String {
        let start = self.read;
        self.shows("\r\n");
        String::from_utf8_lossy(&self.screen.lock().unwrap()[start..self.read]).trim_end().to_owned()
    }

    /// Types a command, whose echo must not hold `text`, and waits for that.
    pub(crate) fn does(&mut self, keys: &str, text: &str) {
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
pub(crate) fn terminal(scene: &Scene) -> Option<Terminal> {
    if Command::new("script").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "needs script(1)");
        eprintln!("skipped: needs script(1)");
        return None;
    }
    Some(Terminal::open(scene))
}
