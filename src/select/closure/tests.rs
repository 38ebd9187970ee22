// SPDX-License-Identifier: ISC
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::owners::Lists;
use super::*;
use crate::error::Result;
use crate::sys::{Calls, Dir};
use crate::watch::Watch;

/// An ELF file as small as a loader takes it.
#[derive(Clone, Copy, Default)]
struct Small<'a> {
    narrow: bool,
    big: bool,
    machine: u16,
    interpreter: &'a str,
    needed: &'a [&'a str],
    rpath: &'a str,
    runpath: &'a str,
    note: &'a str,
}

impl Small<'_> {
    fn write(&self) -> Vec<u8> {
        let number = |n: u64, wide: usize, out: &mut Vec<u8>| {
            let bytes = n.to_be_bytes();
            let low = &bytes[8 - wide..];
            if self.big { out.extend(low) } else { out.extend(low.iter().rev()) }
        };
        let word = if self.narrow { 4 } else { 8 };
        let mut strings = vec![0];
        let mut put = |text: &str| {
            strings.extend(text.as_bytes());
            strings.push(0);
            (strings.len() - text.len() - 1) as u64
        };
        let mut dynamic: Vec<(u64, u64)> = self.needed.iter().map(|name| (1, put(name))).collect();
        for (tag, text) in [(15, self.rpath), (29, self.runpath)] {
            if !text.is_empty() {
                dynamic.push((tag, put(text)));
            }
        }
        let interp = put(self.interpreter);
        let mut note = Vec::new();
        if !self.note.is_empty() {
            for n in [4, self.note.len() as u64 + 1, 0x407c_0c0a] {
                number(n, 4, &mut note);
            }
            note.extend(b"FDO\0");
            note.extend(self.note.as_bytes());
            note.push(0);
        }
        let (header, segment) = if self.narrow { (52, 32) } else { (64, 56) };
        let table = header + 4 * segment;
        let (count, size) = (dynamic.len() as u64 + 3, word as u64 * 2);
        let text = table + count * size;
        let notes = text + strings.len() as u64;
        dynamic.extend([(5, 0x10000 + text), (10, strings.len() as u64), (0, 0)]);
        let end = notes + note.len() as u64;
        let mut out = vec![0x7f, b'E', b'L', b'F', 2 - u8::from(self.narrow), 1 + u8::from(self.big), 1];
        out.resize(16, 0);
        for (n, wide) in [(3, 2), (u64::from(self.machine), 2), (1, 4), (0, word), (header, word), (0, word), (0, 4)] {
            number(n, wide, &mut out);
        }
        for n in [header, segment, 4, 0, 0, 0] {
            number(n, 2, &mut out);
        }
        let none = |kind| (if self.interpreter.is_empty() && kind == 3 { 0 } else { kind }, 0, 0);
        let segments = [
            (1, 0, end),
            (2, table, count * size),
            (none(3).0, text + interp, self.interpreter.len() as u64 + 1),
            (if note.is_empty() { 0 } else { 4 }, notes, note.len() as u64),
        ];
        for (kind, offset, length) in segments {
            number(kind, 4, &mut out);
            if !self.narrow {
                number(4, 4, &mut out);
            }
            for n in [offset, 0x10000 + offset, 0, length, length] {
                number(n, word, &mut out);
            }
            if self.narrow {
                number(4, 4, &mut out);
            }
            number(4, word, &mut out);
        }
        for (tag, value) in dynamic {
            number(tag, word, &mut out);
            number(value, word, &mut out);
        }
        out.extend(strings);
        out.extend(note);
        assert_eq!(out.len() as u64, end);
        out
    }
}

/// A host of a test's own.
struct World(tempfile::TempDir);

impl World {
    fn new() -> World {
        World(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, body: &[u8]) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, body).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn gather(&self, request: &Request) -> Result<Closure> {
        let view = View::new(&Dir::open(self.0.path(), Calls::Native).unwrap()).unwrap();
        gather(&view, &Lists::default().owners(), request, &Watch::default())
    }

    /// The paths of the closure of `programs`.
    fn closure(&self, programs: &[&str]) -> String {
        let closure = self.gather(&programs_of(programs)).unwrap();
        closure.entries.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

fn programs_of(programs: &[&str]) -> Request {
    Request { programs: programs.iter().map(|&name| name.to_owned()).collect(), ..Request::default() }
}

const X86: Small<'_> =
    Small { narrow: false, big: false, machine: 62, interpreter: "", needed: &[], rpath: "", runpath: "", note: "" };
const LD: &str = "/lib64/ld-linux-x86-64.so.2";

#[test]
fn a_program_with_links_on_every_way() {
    let world = World::new();
    world.put("usr/bin/prog", &Small { interpreter: LD, needed: &["liba.so.1"], ..X86 }.write());
    world.put("usr/lib64/ld-2.so", &X86.write());
    world.link("/usr/lib64", "lib64");
    world.link("ld-2.so", "usr/lib64/ld-linux-x86-64.so.2");
    world.put("usr/lib/x86_64-linux-gnu/liba.so.1.2", &Small { needed: &["libb.so"], ..X86 }.write());
    world.link("liba.so.1.2", "usr/lib/x86_64-linux-gnu/liba.so.1");
    world.link("usr/lib", "lib");
    // For another machine: passed over, as the loader does.
    world.put("usr/lib/x86_64-linux-gnu/libb.so", &Small { machine: 183, ..X86 }.write());
    world.put("usr/lib64/libb.so", &X86.write());
    world.link("../usr/bin/prog", "sbin/other");
    let want = "lib lib64 sbin/other usr/bin/prog usr/lib/x86_64-linux-gnu/liba.so.1 \
                usr/lib/x86_64-linux-gnu/liba.so.1.2 usr/lib64/ld-2.so usr/lib64/ld-linux-x86-64.so.2 usr/lib64/libb.so";
    assert_eq!(world.closure(&["/sbin/other"]), want);
    let closure = world.gather(&programs_of(&["/sbin/other"])).unwrap();
    let graph = graph::Graph { reasons: closure.entries };
    let (chains, _) = graph.chains(&TreePath::new(*b"usr/lib64/libb.so").unwrap());
    let shown: Vec<String> = chains[0].iter().map(|(path, why)| format!("{path}: {why}")).collect();
    assert_eq!(
        shown,
        [
            "usr/bin/prog: wanted program",
            "usr/lib/x86_64-linux-gnu/liba.so.1.2: library liba.so.1",
            "usr/lib64/libb.so: library libb.so"
        ]
    );
}

#[test]
fn a_missing_library_is_an_error_with_its_chain() {
    let world = World::new();
    world.put("bin/prog", &Small { interpreter: LD, needed: &["liba.so"], ..X86 }.write());
    world.put("lib64/ld-linux-x86-64.so.2", &X86.write());
    world.put("lib/liba.so", &Small { needed: &["libgone.so.3"], ..X86 }.write());
    let error = world.gather(&programs_of(&["/bin/prog"])).unwrap_err();
    let want = "libgone.so.3: the host has no such library; the chain: /bin/prog -> /lib/liba.so -> libgone.so.3";
    assert_eq!(error.to_string(), want);
    assert_eq!(
        world.gather(&programs_of(&["/bin/none"])).unwrap_err().to_string(),
        "/bin/none: the host has no such program"
    );
    // What is merely in a tree may lack what it will.
    let tree = Request { paths: vec!["/bin".into()], ..Request::default() };
    let closure = world.gather(&tree).unwrap();
    assert_eq!(closure.notes, ["/lib/liba.so needs libgone.so.3, which is not where its loader looks"]);
    world.link("loop", "bin/loop");
    assert!(world.gather(&programs_of(&["/bin/loop"])).unwrap_err().to_string().contains("too many symbolic links"));
    assert!(world.gather(&tree).is_ok());
}

#[test]
fn what_the_kernel_starts_by_others_and_what_asks_where_it_is() {
    let world = World::new();
    world.put("opt/tool.jar", b"PK");
    world.put("usr/bin/jexec", &X86.write());
    world.put("opt/prog", &Small { interpreter: LD, runpath: "$ORIGIN/lib", ..X86 }.write());
    world.put("lib64/ld-linux-x86-64.so.2", &X86.write());
    let entry = "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n";
    let formats = vec![super::binfmt::Format::parse(entry).unwrap()];
    let closure = world.gather(&Request { formats, ..programs_of(&["/opt/tool.jar", "/opt/prog"]) }).unwrap();
    let jexec = TreePath::new(*b"usr/bin/jexec").unwrap();
    assert_eq!(&*closure.entries[&jexec][0].why, "interpreter by binfmt_misc");
    assert_eq!(closure.notes, ["/opt/prog looks for libraries beside itself ($ORIGIN): that needs /proc inside"]);
}

/// Where libraries are found: program, library, files, and the one that is taken.
#[test]
fn search_paths() {
    struct Case<'a> {
        program: Small<'a>,
        between: Small<'a>,
        there: &'a [&'a str],
        want: Option<&'a str>,
    }
    let program = Small { interpreter: LD, needed: &["libm1.so"], ..X86 };
    let between = Small { needed: &["libx.so"], ..X86 };
    let case = |program, between, there, want| Case { program, between, there, want };
    for (number, Case { program, between, there, want }) in [
        case(Small { rpath: "/opt/r", ..program }, between, &["opt/r/libx.so", "lib/libx.so"], Some("opt/r/libx.so")),
        // RUNPATH is its object's own.
        case(Small { runpath: "/opt/r", ..program }, between, &["opt/r/libx.so", "lib/libx.so"], Some("lib/libx.so")),
        case(
            program,
            Small { runpath: "$ORIGIN/own", ..between },
            &["lib/own/libx.so", "lib/libx.so"],
            Some("lib/own/libx.so"),
        ),
        // and makes RPATH void.
        case(Small { rpath: "/opt/r", ..program }, Small { runpath: "/none", ..between }, &["opt/r/libx.so"], None),
        case(
            Small { rpath: "${ORIGIN}/../$LIB", ..program },
            between,
            &["opt/lib64/libx.so"],
            Some("opt/lib64/libx.so"),
        ),
        case(program, between, &["opt/conf/libx.so"], Some("opt/conf/libx.so")),
        case(program, between, &["lib/x86_64-linux-gnu/libx.so", "lib/libx.so"], Some("lib/x86_64-linux-gnu/libx.so")),
        case(Small { rpath: "opt/r:.:", ..program }, between, &["opt/r/libx.so"], None),
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::new();
        world.put("opt/bin/prog", &program.write());
        world.put("lib64/ld-linux-x86-64.so.2", &X86.write());
        world.put("lib/libm1.so", &between.write());
        world.put("etc/ld.so.conf", b"/opt/conf\n");
        there.iter().for_each(|path| world.put(path, &X86.write()));
        let found = world.gather(&programs_of(&["/opt/bin/prog"]));
        let got = found.ok().and_then(|c| c.entries.into_keys().find(|path| path.name() == b"libx.so"));
        assert_eq!(got.map(|path| path.to_string()).as_deref(), want, "case {number}");
    }
}

#[test]
fn the_cache_comes_before_the_standard_places_and_better_copies_come_along() {
    let world = World::new();
    world.put("bin/prog", &Small { interpreter: LD, needed: &["libx.so.1"], ..X86 }.write());
    world.put("lib64/ld-linux-x86-64.so.2", &X86.write());
    for path in ["opt/libx.so.1", "lib/libx.so.1", "opt/glibc-hwcaps/x86-64-v3/libx.so.1"] {
        world.put(path, &X86.write());
    }
    let entry =
        cache::Entry { name: (*b"libx.so.1").into(), flags: 0x303, hwcap: None, path: (*b"/opt/libx.so.1").into() };
    world.put("etc/ld.so.cache", &cache::write(std::slice::from_ref(&entry), false));
    let closure = world.gather(&programs_of(&["/bin/prog"])).unwrap();
    let libraries: Vec<String> =
        closure.entries.keys().map(ToString::to_string).filter(|p| p.contains("libx")).collect();
    assert_eq!(libraries, ["opt/glibc-hwcaps/x86-64-v3/libx.so.1", "opt/libx.so.1"]);
    assert_eq!(closure.libraries, [entry]);
}

#[test]
fn musl_openbsd_and_machines_of_other_kinds() {
    let world = World::new();
    let musl = "/lib/ld-musl-x86_64.so.1";
    world.put("bin/m", &Small { interpreter: musl, needed: &["libc.musl-x86_64.so.1", "libz.so.1"], ..X86 }.write());
    world.put("lib/ld-musl-x86_64.so.1", &X86.write());
    world.put("etc/ld-musl-x86_64.path", b"/opt/musl\n");
    world.put("opt/musl/libz.so.1", &X86.write());
    assert_eq!(world.closure(&["/bin/m"]), "bin/m lib/ld-musl-x86_64.so.1 opt/musl/libz.so.1");

    let world = World::new();
    let bsd = "/usr/libexec/ld.so";
    world.put("bin/b", &Small { interpreter: bsd, needed: &["libc.so.102.0", "libx.so"], ..X86 }.write());
    for path in ["usr/libexec/ld.so", "usr/lib/libc.so.102.1", "usr/lib/libc.so.101.7", "usr/lib/libx.so.3.0"] {
        world.put(path, &X86.write());
    }
    assert_eq!(world.closure(&["/bin/b"]), "bin/b usr/lib/libc.so.102.1 usr/lib/libx.so.3.0 usr/libexec/ld.so");

    for (narrow, big, machine, dir) in [
        (true, false, 3, "lib/i386-linux-gnu"),
        (false, false, 183, "usr/lib/aarch64-linux-gnu"),
        (true, true, 8, "usr/lib32"),
        (false, true, 22, "lib/s390x-linux-gnu"),
        (false, false, 243, "lib/riscv64-linux-gnu"),
    ] {
        let world = World::new();
        let own = Small { narrow, big, machine, ..X86 };
        world.put("bin/p", &Small { interpreter: "/lib/ld.so.1", needed: &["liby.so.1"], ..own }.write());
        world.put("lib/ld.so.1", &own.write());
        world.put(&format!("{dir}/liby.so.1"), &own.write());
        // Of the host's own machine: not for this program.
        world.put("lib/liby.so.1", &X86.write());
        assert_eq!(world.closure(&["/bin/p"]).matches("liby").count(), 1, "{machine}");
        assert!(world.closure(&["/bin/p"]).contains(&format!("{dir}/liby.so.1")), "{machine}");
    }
}

#[test]
fn late_libraries_and_threads() {
    let world = World::new();
    let note = r#"[{"soname":["libnone.so.9","liblate.so.1"],"feature":"late","priority":"recommended"}]"#;
    world.put("bin/p", &Small { interpreter: LD, needed: &["libc.so.6"], note, ..X86 }.write());
    world.put("lib64/ld-linux-x86-64.so.2", &X86.write());
    for path in ["lib/libc.so.6", "lib/libgcc_s.so.1", "lib/libdeep.so"] {
        world.put(path, &X86.write());
    }
    world.put("lib/liblate.so.1", &Small { needed: &["libdeep.so"], ..X86 }.write());
    let closure = world.gather(&programs_of(&["/bin/p"])).unwrap();
    let why = |path: &str| closure.entries[&TreePath::new(path.as_bytes()).unwrap()][0].why.to_string();
    assert_eq!(why("lib/liblate.so.1"), "late library liblate.so.1 for late");
    assert_eq!(why("lib/libdeep.so"), "library libdeep.so");
    assert!(why("lib/libgcc_s.so.1").starts_with("policy threads: "));
}

#[test]
fn scripts_and_what_they_name() {
    let world = World::new();
    world.put("usr/bin/env", &X86.write());
    world.put("usr/bin/python3.11", &X86.write());
    world.link("python3.11", "usr/bin/python3");
    world.put("bin/sh", &X86.write());
    world.put("usr/bin/sort", &X86.write());
    world.put("usr/lib/python3.11/os.py", b"");
    world.put("usr/lib/python3.11/test/big.py", b"");
    world.put("usr/lib/python3/dist-packages/flask/__init__.py", b"import click\n");
    world.put("usr/lib/python3/dist-packages/click/__init__.py", b"");
    world.put("usr/lib/python3/dist-packages/click-8.1.dist-info/METADATA", b"");
    world.put("usr/lib/python3/dist-packages/unused/__init__.py", b"");
    world.put("srv/app.py", b"#!/usr/bin/env -S python3 -I\nimport flask\nimport helper\nrun('/bin/job')\n");
    world.put("srv/helper.py", b"");
    world.put("bin/job", b"#!/bin/sh\nls | sort -u\n");
    assert_eq!(
        world.closure(&["/srv/app.py"]),
        "bin/job bin/sh srv/app.py srv/helper.py usr/bin/env usr/bin/python3 usr/bin/python3.11 usr/bin/sort \
         usr/lib/python3/dist-packages/click usr/lib/python3/dist-packages/click/__init__.py \
         usr/lib/python3/dist-packages/click-8.1.dist-info usr/lib/python3/dist-packages/click-8.1.dist-info/METADATA \
         usr/lib/python3/dist-packages/flask usr/lib/python3/dist-packages/flask/__init__.py usr/lib/python3.11 \
         usr/lib/python3.11/os.py"
    );
    world.put("bin/broken", b"#!/opt/none\n");
    let error = world.gather(&programs_of(&["/bin/broken"])).unwrap_err();
    assert_eq!(error.to_string(), "/opt/none: the host has no such interpreter; the chain: /bin/broken -> /opt/none");
}

#[test]
fn trees_follow_links_but_not_into_half_the_host() {
    let world = World::new();
    world.put("opt/app/data", b"");
    world.put("opt/other/file", b"");
    world.put("etc/one/secret", b"");
    world.put("etc/shadow", b"");
    world.link("/", "opt/app/root");
    world.link("..", "opt/app/up");
    world.link("../other", "opt/app/other");
    world.link("/none", "opt/app/dangling");
    world.link("/etc/shadow", "opt/app/shadow");
    let request = Request { paths: vec!["/opt/app".into()], ..Request::default() };
    let closure = world.gather(&request).unwrap();
    let paths = closure.entries.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let want = "opt/app opt/app/dangling opt/app/data opt/app/other opt/app/root opt/app/shadow opt/app/up opt/other \
                opt/other/file";
    assert_eq!(paths, want);
    let request = Request { paths: vec!["/etc/shadow".into()], ..Request::default() };
    assert_eq!(world.gather(&request).unwrap().notes, ["/etc/shadow: a secret of the host is never taken"]);
}

/// Whatever ldd(1) finds for programs of this host is found here too, and nothing else.
#[test]
fn as_ldd_on_this_host() {
    if !Path::new("/usr/bin/ldd").exists() {
        return;
    }
    let view = View::new(&Dir::open(Path::new("/"), Calls::from_env()).unwrap().crossing()).unwrap();
    let mut names: Vec<_> = std::fs::read_dir("/usr/bin").unwrap().flatten().map(|entry| entry.path()).collect();
    names.sort();
    let search = search::Search::new(&view).unwrap();
    let step = names.len() / 25 + 1;
    let mut compared = 0;
    for path in names.into_iter().step_by(step) {
        let at = path.to_str().unwrap();
        let Some(file) = view.follow(at.as_bytes()).unwrap().file().cloned() else { continue };
        let Some(object) = search.elf(&file).unwrap().filter(|elf| elf.interpreter.is_some()) else { continue };
        let output = std::process::Command::new("ldd").arg(at).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("not found") || object.machine.number != 62 {
            continue;
        }
        let real = |path: &str| std::fs::canonicalize(path).unwrap().to_string_lossy()[1..].to_owned();
        let mut want: Vec<String> = text
            .lines()
            .filter_map(|line| line.split(" (0x").next()?.split_whitespace().last().filter(|p| p.starts_with('/')))
            .map(real)
            .collect();
        want.sort();
        want.dedup();
        // Policies add to what is linked; they are another matter.
        let closure = gather(&view, &Lists::default().owners(), &programs_of(&[at]), &Watch::default()).unwrap();
        let graph = graph::Graph { reasons: closure.entries };
        let linked = |path: &TreePath| {
            let (chains, _) = graph.chains(path);
            let plain = |why: &str| why.starts_with("library") || why == "interpreter" || why == "wanted program";
            chains.iter().any(|chain| chain.iter().all(|(_, why)| plain(why)))
                && chains.iter().all(|chain| chain.len() > 1)
        };
        let is_file = |path: &TreePath| view.stat(path).unwrap().is_some_and(|s| s.kind == crate::sys::FileType::File);
        let mut got: Vec<String> =
            graph.reasons.keys().filter(|path| is_file(path) && linked(path)).map(ToString::to_string).collect();
        got.sort();
        assert_eq!(got, want, "{at}");
        compared += 1;
    }
    assert!(compared > 5, "{compared}");
}
