// SPDX-License-Identifier: ISC
//! The life of a chroot, as typed: made, looked at, edited, brought back, entered, removed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A home, a source and a recipe `b0.toml` that lays one over nothing.
struct Desk {
    temp: tempfile::TempDir,
}

const RECIPE: &str = r#"
description = "a test"
devices = "none"
actions = ["-ldconfig"]
environment = { GREETING = "hello" }
[policy]
volatile = ["var/log"]
[[source]]
directory = "source"
"#;

impl Desk {
    fn new() -> Desk {
        let desk = Desk { temp: tempfile::tempdir().unwrap() };
        for dir in ["etc", "usr/bin", "var/log", "proc", "dev", "tmp", "run", "sys"] {
            fs::create_dir_all(desk.path("source").join(dir)).unwrap();
        }
        fs::write(desk.path("source/etc/motd"), "welcome\n").unwrap();
        fs::write(desk.path("source/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        fs::write(desk.path("source/etc/group"), "root:x:0:\n").unwrap();
        fs::write(desk.path("source/etc/hosts"), "::1 localhost\n").unwrap();
        fs::write(desk.path("source/usr/bin/tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(desk.path("source/usr/bin/tool"), PermissionsExt::from_mode(0o4755)).unwrap();
        symlink("usr/bin", desk.path("source/bin")).unwrap();
        fs::write(desk.path("b0.toml"), RECIPE).unwrap();
        desk
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.temp.path().join(below)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command.args(line.split(' ')).env("STOCKADE_HOME", self.path("home")).current_dir(self.temp.path());
        command
    }

    /// Runs `stockade LINE` and compares status and standard output.
    fn expect(&self, line: &str, status: i32, out: &str) {
        let output = self.command(line).output().unwrap();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(status), "{line}: {told}");
        let home = self.temp.path().canonicalize().unwrap().join("home").display().to_string();
        assert_eq!(String::from_utf8_lossy(&output.stdout).replace(&home, "HOME"), out, "{line}: {told}");
    }

    fn json(&self, line: &str) -> Value {
        let output = self.command(line).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {}", told(&output)))
    }

    /// The error that `stockade LINE` ends with.
    fn error(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{line}: {}", told(&output));
        String::from_utf8(output.stderr).unwrap()
    }
}

fn told(output: &Output) -> String {
    format!(
        "{:?} {} {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_chroot_is_made_edited_and_brought_back() {
    let desk = Desk::new();
    let plan = desk.command("build b0 -f ./b0.toml -n").output().unwrap();
    let shown = String::from_utf8(plan.stdout).unwrap();
    assert!(shown.contains("\n+ etc/motd\n") && shown.contains("would be made"), "{shown}");
    assert!(!desk.path("home/b0").exists());

    desk.expect(
        "build b0 -f ./b0.toml",
        0,
        "HOME/b0: made: 17 added, 0 removed, 0 changed, 0 with other metadata; 64 B written\n",
    );
    assert_eq!(fs::read_to_string(desk.path("home/b0/etc/motd")).unwrap(), "welcome\n");
    assert_eq!(fs::metadata(desk.path("home/b0/usr/bin/tool")).unwrap().permissions().mode() & 0o7777, 0o4755);
    desk.expect("build b0", 0, "HOME/b0: nothing to do: 17 entries are up to date\n");
    desk.expect("check b0", 0, "17 entries are as built (by stat)\n");
    desk.expect("check b0 --hash", 0, "17 entries are as built (by content)\n");

    fs::write(desk.path("home/b0/etc/motd"), "go away\n").unwrap();
    fs::write(desk.path("home/b0/var/log/messages"), "volatile\n").unwrap();
    fs::write(desk.path("home/b0/etc/new"), "").unwrap();
    fs::remove_file(desk.path("home/b0/usr/bin/tool")).unwrap();
    fs::set_permissions(desk.path("home/b0/etc/hosts"), PermissionsExt::from_mode(0o600)).unwrap();
    let differences = "m etc/hosts  mode\n* etc/motd  content time\n+ etc/new\n- usr/bin/tool\n";
    desk.expect("check b0", 2, &format!("{differences}4 of 18 entries differ (by stat)\n"));
    let report = desk.json("check b0 --json");
    assert_eq!(report["changes"][1]["path"], "etc/motd");
    assert_eq!(report["changes"][3]["before"]["mode"], "4755");

    let done = "HOME/b0: brought up to date: 1 added, 1 removed, 1 changed, 3 with other metadata; 18 B written\n";
    desk.expect("build b0", 0, done);
    desk.expect("check b0 --hash", 0, "18 entries are as built (by content)\n");
    assert_eq!(fs::read_to_string(desk.path("home/b0/var/log/messages")).unwrap(), "volatile\n");
}

#[test]
fn a_chroot_is_listed_explained_and_removed() {
    let desk = Desk::new();
    desk.expect("list", 0, "");
    desk.command("build b0 -f ./b0.toml").output().unwrap();
    let listed = desk.json("list --json");
    assert_eq!((&listed[0]["name"], &listed[0]["condition"]), (&"b0".into(), &"ok".into()));
    desk.expect("list", 0, "b0  ok                17 entries        64 B  a test\n");
    let source = desk.path("source").canonicalize().unwrap();
    desk.expect("why b0 /bin/tool", 0, &format!("bin -> usr/bin: {0}\nusr/bin/tool: {0}\n", source.display()));
    let manifest = desk.command("manifest b0 --format mtree").output().unwrap().stdout;
    let manifest = String::from_utf8(manifest).unwrap();
    assert!(manifest.starts_with("#mtree\n") && manifest.contains("\n./usr/bin/tool type=file mode=04755 "));
    assert!(!manifest.contains("origin="));
    let lines = desk.command("manifest b0 --json").output().unwrap().stdout;
    let links = lines
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Value>(line).unwrap());
    assert_eq!(links.filter(|node| node["link"] == "usr/bin").count(), 1);

    fs::rename(desk.path("home/b0"), desk.path("home/b1")).unwrap();
    assert!(desk.error("check b1").contains("stockade adopt"));
    desk.expect("adopt b1", 0, "HOME/b1: bound to its record\n");
    desk.expect("check b1", 0, "17 entries are as built (by stat)\n");
    desk.expect("recover b1", 0, "b1: nothing was interrupted\n");
    desk.expect("remove b1 --dry-run", 0, "would remove HOME/b1: 17 entries\n");
    desk.expect("remove b1", 0, "removed HOME/b1: 17 entries\n");
    assert!(!desk.path("home/b1").exists());
    desk.expect("list", 0, "");
    assert!(desk.error("check b1").starts_with("stockade: check "));
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    let desk = Desk::new();
    fs::write(desk.path("bad.toml"), "devices = \"none\"\ndevicse = \"std\"\n").unwrap();
    let want = "stockade: build bad.toml:2:1: unknown key \"devicse\"\n  |\n2 | devicse = \"std\"\n  | ^^^^^^^\nhint: did you mean `devices`?\n";
    assert_eq!(desk.error("build b0 -f bad.toml"), want);
    let json: Value = serde_json::from_str(&desk.error("build b0 -f bad.toml --json")).unwrap();
    assert_eq!((&json["error"]["path"], &json["error"]["kind"]), (&"bad.toml:2:1".into(), &"usage".into()));
    fs::create_dir(desk.path("mine")).unwrap();
    fs::write(desk.path("mine/data"), "precious").unwrap();
    let refused = desk.error("build ./mine -f ./b0.toml");
    assert!(refused.contains("is not empty") && refused.contains("\nhint: "), "{refused}");
    assert_eq!(fs::read_to_string(desk.path("mine/data")).unwrap(), "precious");
    assert!(desk.error("build b0 --from /nowhere.tgz").contains("/nowhere.tgz"));
    assert!(desk.error("build / -f ./b0.toml").contains("no build target"));
}

/// Entering needs root; so does what holds the lock.
#[test]
fn a_command_runs_inside_and_holds_the_lock() {
    if !Path::new("/bin/busybox").exists()
        || fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) != 0)
    {
        assert!(std::env::var_os("CI").is_none(), "needs root and busybox-static");
        eprintln!("skipped: needs root and busybox-static");
        return;
    }
    let desk = Desk::new();
    fs::copy("/bin/busybox", desk.path("source/usr/bin/sh")).unwrap();
    desk.command("build b0 -f ./b0.toml").output().unwrap();
    let run = |words: &[&str]| desk.command("run b0 --").args(words).output().unwrap();
    let said = run(&["sh", "-c", "echo $GREETING $HOME $USER; exit 7"]);
    assert_eq!((said.status.code(), &*said.stdout), (Some(7), &b"hello / root\n"[..]), "{}", told(&said));
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let missing = run(&["nothing"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("stockade: run nothing: "), "{}", told(&missing));

    let mut inside = desk
        .command("run b0 --")
        .args(["sh", "-c", "echo ready; read -r line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(inside.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let held = desk.error("build b0 --no-wait");
    assert!(held.contains("in use by stockade run, process "), "{held}");
    assert!(desk.error("remove b0 --no-wait").contains("in use by stockade run"));
    drop(inside.stdin.take());
    inside.wait().unwrap();
    desk.expect("remove b0 --no-wait", 0, "removed HOME/b0: 18 entries\n");
}
