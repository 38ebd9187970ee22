// SPDX-License-Identifier: ISC
//! `jail`: what it takes, what it makes, how it follows the host, and how it explains itself.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{World, able, native};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A program of the test's own, with a library whose soname is `libown.so.N`.
fn own_program(world: &World, soname: u32) {
    fs::create_dir_all(world.path("app")).unwrap();
    world.write("app/own.c", &format!("int own(void) {{ return {soname}; }}\n"));
    let main = "int main(int c, char **v) { (void)v; printf(\"own %d\\n\", own()); fflush(stdout); return c > 1 && getchar() < -1; }";
    world.write("app/prog.c", &format!("#include <stdio.h>\nint own(void);\n{main}\n"));
    let script = format!(
        "cd app; rm -f libown*; gcc -shared -fPIC -Wl,-soname,libown.so.{soname} -o libown.so.{soname}.0 own.c
         ln -s libown.so.{soname}.0 libown.so.{soname}; ln -s libown.so.{soname} libown.so
         gcc -o prog.new prog.c -L. -lown -Wl,-rpath,$PWD; mv prog.new prog"
    );
    world.sh(&script);
}

#[test]
fn a_jail_has_what_its_programs_need_and_little_else() {
    if !able(&["su"]) {
        return;
    }
    let world = World::new();
    let said = world.ok(&["jail", "j", "sh", "ls", "id", "su", "--user", "daemon"]);
    assert!(said.contains("/usr/bin/su") && said.contains("--keep-setid"), "{said}");
    let root = world.root("j");
    let inside = |path: &str| root.join(path);
    for (path, want) in
        [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("etc/passwd", 0o644), ("usr/bin/su", 0o755)]
    {
        assert_eq!(mode(&inside(path)), want, "{path}");
    }
    let passwd = fs::read_to_string(inside("etc/passwd")).unwrap();
    assert!(passwd.starts_with("root:*:0:0:") && passwd.contains("\ndaemon:*:1:1:"), "{passwd}");
    assert!(passwd.lines().next().unwrap().ends_with(":/bin/sh"), "a shell that is there: {passwd}");
    assert!(!inside("etc/shadow").exists());
    assert!(fs::read_to_string(inside("etc/nsswitch.conf")).unwrap().contains("hosts: files dns"));
    // Links are as on the host.
    for link in ["bin", "usr/bin/sh"] {
        assert_eq!(fs::read_link(inside(link)).ok(), fs::read_link(Path::new("/").join(link)).ok(), "{link}");
    }
    assert_eq!(fs::metadata(inside("usr/bin/ls")).unwrap().nlink(), 1);
    for (command, want) in [("id -un", "root\n"), ("id -un daemon", "daemon\n"), ("ls /tmp; echo ok", "ok\n")] {
        let run = std::process::Command::new("chroot").arg(&root).args(["/bin/sh", "-c", command]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stdout), want, "{command}: {}", String::from_utf8_lossy(&run.stderr));
    }
    world.ok(&["jail", "j", "--keep-setid", "/usr/bin/su"]);
    assert_eq!(mode(&inside("usr/bin/su")), 0o4755);
    assert!(world.ok(&["build", "j"]).contains("nothing to do"));
    assert_eq!(world.run(&["check", "j"]).status, Some(0));
    world.assert_tidy();
}

#[test]
fn it_follows_the_host_and_stays_whole_when_it_cannot() {
    if !able(&["gcc"]) {
        return;
    }
    let world = World::new();
    own_program(&world, 1);
    let prog = world.path("app/prog");
    let prog = prog.to_str().unwrap();
    world.ok(&["jail", "j", prog]);
    let root = world.root("j");
    let runs = || {
        let output = std::process::Command::new("chroot").arg(&root).arg(prog).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let app = root.join(prog.strip_prefix('/').unwrap()).parent().unwrap().to_owned();
    assert_eq!(runs(), "own 1\n");
    assert!(!app.join("libown.so").exists() && !app.join("own.c").exists());
    assert_eq!(world.run(&["check", "j", "--host"]).status, Some(0));
    // Another time is no other content.
    world.sh("touch app/prog app/libown.so.1.0");
    assert_eq!(fs::read_link(app.join("libown.so.1")).unwrap(), Path::new("libown.so.1.0"));
    // A library that went away: the old jail stays as it was.
    world.sh("mv app/libown.so.1 app/gone");
    world.refused(
        &["build", "j"],
        &["libown.so.1: the host has no such library; the chain: ", "/app/prog -> libown.so.1"],
    );
    world.refused(&["check", "j", "--host"], &["libown.so.1"]);
    let said = world.run(&["check", "--all", "--host"]);
    assert!(said.status == Some(2) && said.out.contains("libown.so.1"), "{}", said.out);
    world.ok(&["jail", "other", "sh"]);
    fs::write(world.root("other").join("usr/stranger"), "x").unwrap();
    let said = world.run(&["build", "--jails"]);
    assert!(said.status == Some(2) && said.err.contains("libown.so.1"), "{said:?}");
    assert!(
        !world.root("other").join("usr/stranger").exists(),
        "one that fails keeps nobody from the others: {said:?}"
    );
    world.ok(&["remove", "other"]);
    assert_eq!(runs(), "own 1\n");
    // A new soname.
    own_program(&world, 2);
    let said = world.run(&["check", "--all", "--host"]);
    assert_eq!(said.status, Some(2), "{}{}", said.out, said.err);
    assert!(said.out.contains("app/libown.so.2") && said.out.contains("stockade build"), "{}", said.out);
    assert_eq!(runs(), "own 1\n");
    world.ok(&["build", "j"]);
    assert_eq!(runs(), "own 2\n");
    assert!(!app.join("libown.so.1").exists() && !app.join("libown.so.1.0").exists());
    // Broken on purpose, named, mended.
    fs::remove_file(app.join("libown.so.2.0")).unwrap();
    let said = world.run(&["check", "j"]);
    assert!(said.status == Some(2) && said.out.contains("libown.so.2.0"), "{}", said.out);
    world.ok(&["build", "j"]);
    assert_eq!(runs(), "own 2\n");
    world.assert_tidy();
}

/// A service that runs in the jail while the host is upgraded keeps its libraries, with their names, until it ends.
#[test]
fn old_libraries_stay_while_a_process_has_them_mapped() {
    if !able(&["gcc"]) || !native("processes are asked what they have mapped") {
        return;
    }
    let world = World::new();
    own_program(&world, 1);
    let prog = world.path("app/prog");
    let prog = prog.to_str().unwrap();
    world.ok(&["jail", "j", prog]);
    let root = world.root("j");
    let app = root.join(prog.strip_prefix('/').unwrap()).parent().unwrap().to_owned();
    let library = world.path("app/libown.so.1.0");
    let shown = library.to_str().unwrap();
    // It waits for a line.
    let mut service = std::process::Command::new("chroot");
    service.arg(&root).arg(prog).arg("wait").stdin(std::process::Stdio::piped());
    let mut service = service.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(service.stdout.take().unwrap()), &mut first).unwrap();
    assert_eq!(first, "own 1\n");
    let user = format!("prog (process {})", service.id());
    own_program(&world, 2);
    assert!(world.ok(&["build", "j", "--dry-run"]).contains(&user));
    let said = world.run(&["build", "j"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(
        said.out.contains(&format!("{shown} is no longer wanted, and stays while {user} has it mapped")),
        "{said:?}"
    );
    for name in ["libown.so.1", "libown.so.1.0", "libown.so.2", "libown.so.2.0"] {
        assert!(app.join(name).exists(), "{name}");
    }
    let said = world.run(&["check", "j"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains(&format!("note: {shown}: no longer wanted, but mapped by {user}")), "{said:?}");
    let json: serde_json::Value = serde_json::from_str(&world.ok(&["check", "j", "--json"])).unwrap();
    assert_eq!(json["in_use"][0]["processes"][0]["pid"], service.id());
    assert_eq!(world.run(&["check", "j", "--host"]).status, Some(0));
    world.ok(&["build", "j"]);
    assert!(app.join("libown.so.1.0").exists());
    drop(service.stdin.take());
    service.wait().unwrap();
    assert!(world.ok(&["check", "j"]).contains("no longer in use; a build removes it"));
    world.ok(&["build", "j"]);
    assert!(!app.join("libown.so.1").exists() && !app.join("libown.so.1.0").exists());
    assert!(world.ok(&["build", "j"]).contains("nothing to do"));
    assert!(!world.ok(&["check", "j"]).contains("note"));
    world.assert_tidy();
}

#[test]
fn what_services_write_is_theirs_and_strangers_go() {
    if !able(&[]) {
        return;
    }
    let world = World::new();
    world.ok(&["jail", "j", "sh"]);
    let root = world.root("j");
    fs::write(root.join("tmp/socket"), "x").unwrap();
    fs::create_dir(root.join("var/log/mine")).unwrap();
    fs::write(root.join("var/log/mine/log"), "x").unwrap();
    assert_eq!(world.run(&["check", "j"]).status, Some(0));
    fs::write(root.join("usr/stranger"), "x").unwrap();
    let said = world.run(&["check", "j"]);
    assert!(said.status == Some(2) && said.out.contains("usr/stranger") && !said.out.contains("mine"), "{}", said.out);
    world.ok(&["build", "j"]);
    assert!(!root.join("usr/stranger").exists());
    assert!(root.join("tmp/socket").exists() && root.join("var/log/mine/log").exists());
    assert!(world.ok(&["build", "j"]).contains("nothing to do"));
}

#[test]
fn every_file_has_its_chains() {
    if !able(&[]) {
        return;
    }
    let world = World::new();
    world.ok(&["jail", "j", "sh", "ls"]);
    let said = world.ok(&["why", "j", "/lib/x86_64-linux-gnu/libc.so.6"]);
    assert!(
        said.contains("/usr/bin/ls (wanted program) -> /usr/lib/x86_64-linux-gnu/libc.so.6 (library libc.so.6)"),
        "{said}"
    );
    assert!(said.matches("(wanted program)").count() >= 2, "{said}");
    assert_eq!(world.ok(&["why", "j", "--unused"]), "");
    let dot = world.ok(&["graph", "j"]);
    assert!(dot.starts_with("digraph") && dot.contains("label = \"interpreter\""), "{dot}");
    assert!(world.ok(&["why", "j", "--sizes"]).contains("library"));
    let json: serde_json::Value = serde_json::from_str(&world.ok(&["graph", "j", "--json"])).unwrap();
    assert!(json.as_array().unwrap().iter().any(|edge| edge["path"] == "usr/bin/ls" && edge["by"].is_null()));
    world.refused(&["jail", "k", "no-such-program"], &["no-such-program: the host has no such program"]);
    world.refused(&["jail", "k", "sh", "--with", "none"], &["there is no policy \"none\"", "known: "]);
    world.ok(&[
        "build",
        "plain",
        "--from",
        world.sh("tar cf x.tar app 2>/dev/null || tar cf x.tar -T /dev/null; echo x.tar").trim(),
    ]);
    world.refused(&["check", "plain", "--host"], &["it is no jail"]);
}

#[test]
fn a_trace_adds_what_reading_misses_and_a_probe_guards_the_old_jail() {
    if !able(&["cat"]) {
        return;
    }
    let world = World::new();
    world.write("data", "hidden\n");
    let data = world.path("data");
    let data = data.to_str().unwrap();
    // The name is made at run time: no reading sees it.
    let script = format!("#!/bin/sh\nname=da; cat {}/${{name}}ta\n", data.strip_suffix("/data").unwrap());
    let tool = world.write("tool", &script);
    world.sh("chmod 755 tool");
    let tool = tool.to_str().unwrap();
    world.ok(&["jail", "j", "sh"]);
    let said = world.run(&["jail", "j", tool, "--probe", "--", tool]);
    assert_eq!(said.status, Some(2), "{}{}", said.out, said.err);
    assert!(said.out.contains(&format!("looked for {data}, which the host has")), "{}", said.out);
    assert!(!world.root("j").join(&tool[1..]).exists(), "the old jail stays");
    world.refused(&["jail", "j", tool, "--trace", "--", "/bin/false"], &["the traced command failed"]);
    let said = world.run(&["jail", "j", tool, "--trace", "--", tool]);
    assert_eq!(said.status, Some(0), "{}{}", said.out, said.err);
    // The world is in memory below /dev, or below /tmp: nothing there is ever taken by a trace.
    let taken = world.root("j").join(&data[1..]).exists();
    assert!(!taken, "{}", said.out);
    world.ok(&["jail", "j", "--path", data]);
    world.ok(&["jail", "j", tool, "--probe", "--", tool]);
    world.ok(&["jail", "t", "sh", "--trace", "--", "/bin/sh", "-c", "cat /etc/debian_version"]);
    assert!(world.root("t").join("etc/debian_version").exists() && world.root("t").join("usr/bin/cat").exists());
    assert!(world.ok(&["why", "t", "etc/debian_version"]).contains("/usr/bin/cat (opened in the trace"));
    assert_eq!(world.run(&["check", "t", "--host"]).status, Some(0));
    world.assert_tidy();
}

/// Programs of many kinds do inside what they do outside.
#[test]
fn programs_work_inside() {
    if !able(&[]) || !native("sessions are entered") {
        return;
    }
    let world = World::new();
    for (programs, command) in [
        (
            &["/usr/bin/python3"][..],
            "/usr/bin/python3 -c 'import ssl, sqlite3, json, pwd, zoneinfo; print(pwd.getpwuid(0)[0], zoneinfo.ZoneInfo(\"Europe/Berlin\"))'",
        ),
        (&["perl"], "perl -MPOSIX -MEncode -e 'print floor(2.7), encode(\"UTF-8\", chr(252))'"),
        (
            &["git"],
            "cd /tmp && git init -q r && cd r && git -c user.name=a -c user.email=b commit -q --allow-empty -m x && git log --oneline | wc -l",
        ),
        (&["sqlite3"], "sqlite3 :memory: 'select sqlite_version() > 3, date(0, \"unixepoch\")'"),
        (&["tar", "gzip", "xz"], "cd /tmp && echo x > f && tar czf a f && tar cJf b f && tar tf b"),
        (&["gawk", "sed", "grep"], "echo abc | sed s/b/B/ | grep -o 'B.' | gawk '{print toupper($0)}'"),
        (
            &["openssl"],
            "openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -keyout /tmp/k -out /tmp/c 2>&1; openssl x509 -in /tmp/c -noout -subject",
        ),
    ] {
        let there = |name: &&&str| Path::new("/usr/bin").join(name.rsplit('/').next().unwrap()).exists();
        if programs.iter().filter(there).count() < programs.len() {
            common::skip(&format!("{programs:?} are not all here"));
            continue;
        }
        let outside = std::process::Command::new("sh").args(["-c", command]).current_dir("/").output().unwrap();
        world.sh("rm -rf /tmp/r /tmp/f /tmp/a /tmp/b /tmp/k /tmp/c");
        let mut words = vec!["jail", "w", "sh", "wc", "date"];
        words.extend(programs);
        world.ok(&words);
        let inside = world.run(&["run", "w", "--", "/bin/sh", "-c", command]);
        assert!(outside.status.success(), "{command}");
        assert_eq!(inside.out, String::from_utf8_lossy(&outside.stdout), "{command}: {}", inside.err);
    }
}

#[test]
fn a_jail_is_proved_linted_and_cleaned() {
    if !able(&["cat"]) {
        return;
    }
    let world = World::new();
    world.write("state", "good\n");
    let state = world.path("state");
    let (state, inside) = (state.to_str().unwrap(), &state.to_str().unwrap()[1..]);
    let recipe = format!(
        "[closure]\nprograms = [\"/bin/sh\", \"/bin/cat\"]\npaths = [{state:?}]\nusers = [\"nobody\"]\n\
         probe = [\"/bin/sh\", \"-c\", \"grep -q good {state} || read line < {state}; test \\\"$line\\\" != bad\"]\n\
         clean = [\"run/*.pid\"]\n"
    );
    let recipe = world.write("r.toml", &recipe);
    world.ok(&["build", "j", "-f", recipe.to_str().unwrap()]);
    let root = world.root("j");
    assert_eq!(fs::read_to_string(root.join(inside)).unwrap(), "good\n");
    assert!(world.ok(&["build", "j"]).contains("nothing to do"));
    // What the probe would fail with does not come in.
    world.write("state", "bad\n");
    let said = world.run(&["build", "j"]);
    assert!(said.status == Some(2) && said.out.contains("the probe failed"), "{}{}", said.out, said.err);
    assert_eq!(fs::read_to_string(root.join(inside)).unwrap(), "good\n");
    world.write("state", "better\n");
    world.ok(&["build", "j"]);
    assert_eq!(fs::read_to_string(root.join(inside)).unwrap(), "better\n");
    // What a killed service left goes, what another wrote stays.
    fs::write(root.join("run/x.pid"), "1").unwrap();
    fs::write(root.join("run/x.sock"), "").unwrap();
    world.ok(&["build", "j"]);
    assert!(!root.join("run/x.pid").exists() && root.join("run/x.sock").exists());
    // A session clears it as well, but not while another one is there; both see the jail's own /run.
    if native("sessions are entered") {
        fs::write(root.join("run/x.pid"), "1").unwrap();
        let script = "test ! -e /run/x.pid && test -e /run/x.sock && echo 2 > /run/x.pid && read line";
        let mut first = world.stockade(&["run", "j", "--", "/bin/sh", "-c", script]);
        let mut first = first.stdin(std::process::Stdio::piped()).spawn().unwrap();
        while fs::read(root.join("run/x.pid")).is_ok_and(|text| text != b"2\n") || !root.join("run/x.pid").exists() {
            assert!(first.try_wait().unwrap().is_none(), "it ended");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(world.ok(&["run", "j", "--", "/bin/cat", "/run/x.pid"]), "2\n");
        std::io::Write::write_all(&mut first.stdin.take().unwrap(), b"end\n").unwrap();
        assert!(first.wait().unwrap().success());
        let said = world.run(&["run", "j", "--read-only", "--", "/bin/cat", "/run/x.sock"]);
        assert!(said.err.contains("No such file"), "one that cannot write has an empty /run: {said:?}");
        world.ok(&["build", "j"]);
    }
    assert_eq!(world.ok(&["check", "j", "--lint"]), "");
    // Each kind of finding.
    let make = |path: &str, text: &str, mode: u32| {
        fs::write(root.join(path), text).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("usr/bin/root", "x", 0o4755);
    make("etc/open", "x", 0o666);
    make("etc/mine", "x", 0o644);
    std::os::unix::fs::chown(root.join("etc/mine"), Some(65534), Some(65534)).unwrap();
    make("etc/tls.key", "-----BEGIN PRIVATE KEY-----\n", 0o600);
    std::os::unix::fs::symlink("nowhere", root.join("etc/link")).unwrap();
    let said = world.run(&["check", "j", "--lint"]);
    assert_eq!(said.status, Some(2));
    let lines: Vec<&str> = said.out.lines().collect();
    let starts = [
        "etc/link: a link to nothing: ",
        "etc/mine: writable by the service: ",
        "etc/open: writable by everybody: ",
        "etc/tls.key: a secret: ",
        "usr/bin/root: set-id bits or capabilities: ",
    ];
    assert!(
        lines.len() == starts.len() && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)),
        "{lines:?}"
    );
    let unit = world.ok(&["jail", "j", "--hardening"]);
    let wants =
        [format!("RootDirectory={}\n", root.display()), "User=nobody\n".into(), "ReadWritePaths=-+/run\n".into()];
    assert!(wants.iter().all(|want| unit.contains(want)), "{unit}");
    world.assert_tidy();
}

#[test]
fn what_a_jail_is_for_has_rules() {
    if !able(&[]) {
        return;
    }
    let world = World::new();
    let outer = world.path("outer");
    fs::create_dir(&outer).unwrap();
    let jail = outer.join("j");
    // The way to the world may be anybody's: that would be refused first.
    let way = jail.ancestors().skip(2).all(|dir| {
        let meta = fs::metadata(dir).unwrap();
        meta.uid() == 0 && (mode(dir) & 0o022 == 0 || mode(dir) & 0o1000 != 0) && mode(dir) & 0o001 != 0
    });
    for (purpose, bits, refused) in [
        ("systemd", 0o777, true),
        ("systemd", 0o1777, false),
        ("httpd", 0o775, true),
        ("httpd", 0o1777, false),
        ("sshd", 0o1777, true),
    ] {
        fs::set_permissions(&outer, fs::Permissions::from_mode(bits)).unwrap();
        let said = world.run(&["jail", jail.to_str().unwrap(), "sh", "--for", purpose, "--dry-run"]);
        if refused {
            assert!(
                said.status == Some(1) && said.err.contains("others than root can write there"),
                "{purpose}: {}",
                said.err
            );
        } else if way {
            assert_eq!(said.status, Some(0), "{purpose}: {}{}", said.out, said.err);
        }
    }
}

#[test]
fn late_libraries_can_be_loaded_beforehand() {
    if !able(&["gcc"]) {
        return;
    }
    let world = World::new();
    own_program(&world, 1);
    let library = world.path("app/libown.so.1.0");
    let main = format!(
        "#include <dlfcn.h>\nint main(void) {{ void *l = dlopen({:?}, RTLD_NOW); return l == 0; }}\n",
        library.to_str().unwrap()
    );
    world.write("app/late.c", &main);
    world.sh("cd app && gcc -o late late.c -ldl");
    let late = world.path("app/late");
    let said = world.ok(&["jail", "x", "--preload", "--", late.to_str().unwrap()]);
    let list = library.to_str().unwrap();
    assert!(said.starts_with(&format!("{list}\n")), "{said}");
    assert!(said.contains(&format!("for a unit of systemd: Environment=LD_PRELOAD={list}\n")), "{said}");
    assert!(world.ok(&["jail", "x", "--preload", "--", "/bin/true"]).contains("loads no library late"));
    world.refused(&["jail", "x", "--preload", "--", "/bin/false"], &["the command failed"]);
    assert!(!world.root("x").exists());
}

/// Odd wishes are refused by name, or do what they say; the jail can be built again afterwards.
#[test]
fn odd_wishes() {
    if !able(&[]) {
        return;
    }
    let world = World::new();
    world.write("plain", "x");
    world.sh("mkdir dir; echo '#!/usr/share' > dir/script; chmod 755 dir/script; ln -s loop dir/loop; ln -s /proc/1/cwd dir/p
        mkfifo dir/fifo; printf '#!%s/dir\\n' $PWD > odd; chmod 755 odd");
    let at = |name: &str| world.path(name).to_str().unwrap().to_owned();
    for (arguments, words) in [
        (&["j", "/etc"][..], &["/etc: a directory is no program"][..]),
        (&["j", "/"], &["a directory is no program"]),
        (&["j", "--path", "/"], &["the whole host is no part of a jail"]),
        (&["j", "--path", &at("dir/loop")], &["too many symbolic links"]),
        (&["j", &at("odd")], &["a directory is no interpreter", "odd -> "]),
        (&["j", "sh", "--", "ls"], &["a command is run by --trace, --probe or --preload"]),
        (&["j", "sh", "--socket", &at("plain")], &["it is no socket"]),
        (&["j", "sh", "--socket", "/nowhere/s"], &["there is no such directory"]),
        (&["j", "sh", "--socket", "/sock"], &["all of the root would be shown inside"]),
    ] {
        world.refused(&[&["jail"], arguments].concat(), words);
        assert!(!world.root("j").exists(), "{arguments:?}");
    }
    let said = world.ok(&["jail", "j", "sh", "--path", &at("dir"), "--keep-setid", "/no/such"]);
    assert!(said.contains("dir/fifo: neither a file nor a directory; left out"), "{said}");
    assert!(said.contains("/no/such keeps no set-id bits: it is not in the jail"), "{said}");
    world.sh("echo x > 'odd[name'");
    world.ok(&["jail", "j", "--path", &at("odd[name")]);
    assert_eq!(fs::read(world.root("j").join(&at("odd[name")[1..])).unwrap(), b"x\n", "a path is no pattern");
    let inside = world.root("j").join(&at("dir")[1..]);
    assert_eq!(fs::read_link(inside.join("p")).unwrap(), Path::new("/proc/1/cwd"));
    assert!(!world.root("j").join("proc/1").exists() && !world.root("j").join("usr/share/doc").exists());
    assert!(world.ok(&["build", "j"]).contains("nothing to do"));
}

#[test]
fn a_whole_package_comes_and_the_jail_is_built_again() {
    if !able(&["dpkg-query"]) {
        return;
    }
    let world = World::new();
    world.ok(&["jail", "j", "sh", "--package", "tar"]);
    assert!(world.root("j").join("usr/share/doc/tar").is_dir());
    assert!(world.ok(&["build", "j"]).contains("nothing to do"));
    world.ok(&["jail", "j", "ls"]);
    assert_eq!(world.run(&["check", "j", "--host"]).status, Some(0));
    world.ok(&["why", "j", "usr/bin/tar"]);
}
