// SPDX-License-Identifier: ISC
//! Small made-up databases, and the machine's own.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::select::packages::{FileOptions, Selected};
use crate::sys::Calls;
use crate::watch::Watch;

/// A status file; a package is a line `name version;Field: value|...`, of architecture amd64 unless it says otherwise.
fn status(packages: &[&str]) -> String {
    let mut text = String::new();
    for package in packages {
        let mut parts = package.split(';');
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let fields: Vec<&str> = parts.collect();
        writeln!(text, "Package: {name}\nVersion: {version}").unwrap();
        for (field, value) in [("Status", "install ok installed"), ("Architecture", "amd64")] {
            if !fields.iter().any(|f| f.starts_with(field)) {
                writeln!(text, "{field}: {value}").unwrap();
            }
        }
        writeln!(text, "{}\n", fields.join("\n")).unwrap();
    }
    text
}

/// A host: `("path", "content")`, or `("path", "-> target")` for a link, or `("path/", "")`.
fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = temp.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            _ if name.ends_with('/') => std::fs::create_dir_all(path).unwrap(),
            Some(target) => symlink(target, path).unwrap(),
            None => std::fs::write(path, content).unwrap(),
        }
    }
    temp
}

fn open(root: &Path) -> Result<Dpkg> {
    Dpkg::open(&Dir::open(root, Calls::Native).unwrap())
}

/// The closure of `names` as one line, or the error.
fn closure(packages: &[&str], names: &[&str]) -> String {
    let temp = host(&[("var/lib/dpkg/status", &status(packages))]);
    let dpkg = open(temp.path()).unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    match dpkg.closure(&names) {
        Ok(found) => found.iter().map(|p| p.label(&dpkg.native)).collect::<Vec<_>>().join(" "),
        Err(e) => format!("{e}; {}", e.advice().unwrap_or_default()),
    }
}

#[test]
fn closure_table() {
    for (packages, names, want) in [
        // the base, and what it depends on
        (&["a 1;Essential: yes;Depends: b", "b 1;Pre-Depends: c", "c 1", "d 1"][..], &[][..], "a b c"),
        (
            &["a 1;Priority: required", "b 1;Important: yes", "c 1;Protected: yes", "d 1;Priority: important"],
            &[],
            "a b c",
        ),
        (&["a 1;Depends: b", "b 1;Depends: a", "c 1"], &["b", "a", "b"], "a b"),
        // versions
        (&["a 1;Depends: b (>= 2)", "b 2.0-1"], &["a"], "a b"),
        (&["a 1;Depends: b (>= 2) | c", "b 2~rc1", "c 1"], &["a"], "a c"),
        // alternatives: the first installed one, unless another is chosen anyway
        (&["a 1;Depends: x | b | c", "b 1", "c 1"], &["a"], "a b"),
        (&["a 1;Depends: b | c", "b 1", "c 1"], &["a", "c"], "a c"),
        (&["a 1;Depends: b | c", "b 1", "c 1", "z 1;Depends: c"], &["a", "z"], "a c z"),
        // the order of the names decides nothing
        (&["a 1;Depends: x | b | c", "b 1", "c 1", "z 1;Depends: c | b"], &["a", "z"], "a b z"),
        (&["a 1;Depends: x | b | c", "b 1", "c 1", "z 1;Depends: c | b"], &["z", "a"], "a b z"),
        // virtual packages, versioned or not; the real one goes first
        (&["a 1;Depends: mta", "p 1;Provides: mta", "q 1;Provides: mta"], &["a"], "a p"),
        (&["a 1;Depends: mta", "mta 1", "aa 1;Provides: mta"], &["a"], "a mta"),
        (&["a 1;Depends: v (>= 2) | r", "p 9;Provides: v", "q 1;Provides: v (= 2)", "r 1"], &["a"], "a q"),
        // architectures
        (&["dpkg 1", "a 1;Architecture: i386;Depends: b", "b 1;Architecture: i386", "b 1"], &["a"], "a:i386 b:i386"),
        (
            &["dpkg 1", "a 1;Depends: b:any, c", "b 1;Architecture: i386;Multi-Arch: allowed", "c 1;Architecture: all"],
            &["a"],
            "a b:i386 c",
        ),
        (&["dpkg 1", "a 1;Depends: b", "b 1;Architecture: i386;Multi-Arch: foreign"], &["a"], "a b:i386"),
        (&["dpkg 1", "a 1", "a 1;Architecture: i386"], &["a:i386"], "a:i386"),
        (&["dpkg 1", "a 1;Architecture: i386", "b 1"], &["a"], "a:i386"),
        // what is held is installed; what was removed is not
        (&["a 1;Status: hold ok installed", "b 1;Status: deinstall ok config-files"], &["a"], "a"),
        // errors
        (
            &["a 1;Depends: b", "b 1;Depends: c (>= 2) | d", "c 1"],
            &["a"],
            "a -> b needs c (>= 2) | d, which is not installed; mend it on the host: apt-get --fix-broken install",
        ),
        (
            &["dpkg 1", "a 1;Depends: b", "b 1;Architecture: i386"],
            &["a"],
            "a needs b, which is not installed; mend it on the host: apt-get --fix-broken install",
        ),
        (
            &["a 1;Status: install ok half-configured", "b 1"],
            &["a"],
            "package a is not installed but half-configured; mend it on the host: dpkg --configure -a",
        ),
        (&["vim-tiny 1", "vim 1"], &["vimm"], "package vimm is not installed on the host; did you mean vim?"),
        (
            &["mawk 1;Provides: awk"],
            &["awk"],
            "package awk is not installed on the host; it is a virtual package; name one that provides it: mawk",
        ),
        (&["a 1"], &["zzzzzz"], "package zzzzzz is not installed on the host; apt-get install zzzzzz"),
    ] {
        assert_eq!(
            closure(packages, names),
            want.trim_start_matches("var/lib/dpkg/status: "),
            "{packages:?} {names:?}"
        );
    }
}

#[test]
fn hostile_databases() {
    let none = host(&[("etc/x", "")]);
    assert_eq!(open(none.path()).unwrap_err().kind(), ErrorKind::NotFound);
    for (package, want) in [
        ("../x 1", "line 1: no name of a package and its architecture"),
        ("a 1;Architecture: a/b", "line 1: no name of a package and its architecture"),
        ("a 1;Depends: b (1)", "package a: not a dependency: b (1)"),
        ("a 1;Conffiles:\n etc/x 0", "package a: not a conffile: etc/x 0"),
        ("a 1;Conffiles:\n /etc/../x 0", "package a: \"..\" in a path"),
        ("a 1;:x", "line 5: not a field: :x\\012"),
        ("a 1;Architecture: all", "it names no architecture"),
    ] {
        let temp = host(&[("var/lib/dpkg/status", &status(&[package]))]);
        assert_eq!(open(temp.path()).unwrap_err().to_string(), format!("var/lib/dpkg/status: {want}"), "{package}");
    }
    let twice = host(&[("var/lib/dpkg/status", &status(&["a 1", "a 2"]))]);
    assert_eq!(open(twice.path()).unwrap_err().reason(), "package a occurs twice");
    for (name, content) in [("diversions", "/a\n"), ("statoverride", "root\n"), ("alternatives/x", "perhaps\n")] {
        let temp = host(&[("var/lib/dpkg/status", &status(&["a 1"])), (&format!("var/lib/dpkg/{name}"), content)]);
        assert!(open(temp.path()).unwrap_err().to_string().starts_with(&format!("var/lib/dpkg/{name}: ")), "{name}");
    }
    for list in [None, Some("/a/../../etc/shadow\n")] {
        let mut files = vec![("var/lib/dpkg/status", status(&["a 1"]))];
        files.extend(list.map(|list| ("var/lib/dpkg/info/a.list", list.to_owned())));
        let temp = host(&files.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
        let dpkg = open(temp.path()).unwrap();
        let error = dpkg.files(&[dpkg.get("a").unwrap()], FileOptions::default(), &Watch::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{list:?}");
    }
}

/// The files of `names`: `path=host` where they differ, then what was skipped.
fn files(temp: &tempfile::TempDir, names: &[&str], modified_conffiles: bool) -> (Vec<String>, Vec<String>) {
    let dpkg = open(temp.path()).unwrap();
    let packages: Vec<&Package> = names.iter().map(|name| dpkg.get(name).unwrap()).collect();
    let found = dpkg.files(&packages, FileOptions { modified_conffiles }, &Watch::default()).unwrap();
    let show = |s: &Selected| match s.path == s.host {
        true => format!("{}: {}", s.path, s.origin),
        false => format!("{}={}: {}", s.path, s.host, s.origin),
    };
    let taken = found.entries.iter().filter(|s| !s.path.as_bytes().starts_with(b"var/lib")).map(show).collect();
    (taken, found.skipped.iter().map(|s| format!("{:?} {}", s.why, s.path)).collect())
}

#[test]
fn files_are_canonical_and_say_whose_they_are() {
    let packages = status(&["zz 1;Essential: yes", "b 2"]);
    let temp = host(&[
        ("var/lib/dpkg/status", &packages),
        ("var/lib/dpkg/info/zz.list", "/.\n/bin\n/bin/ls\n/usr\n/usr/bin\n/usr/gone\n/gone/x\n/usr/share/doc/x\n"),
        ("var/lib/dpkg/info/b.list", "/usr\n/usr/link\n/bin/b\n/etc/shadow\n/etc/ssl/private/key"),
        ("etc/dpkg/dpkg.cfg.d/doc", "path-exclude=/usr/share/doc/*\n"),
        ("bin", "-> usr/bin"),
        ("usr/bin/ls", "ls"),
        ("usr/bin/b", "b"),
        ("usr/link", "-> bin"),
        ("etc/shadow", "secret"),
        ("etc/ssl/private/key", "secret"),
    ]);
    let (taken, skipped) = files(&temp, &["b", "zz"], false);
    let want = ["/: zz 1", "usr: zz 1", "usr/bin: zz 1", "usr/bin/b: b 2", "usr/bin/ls: zz 1", "usr/link: b 2"];
    assert_eq!(taken, want);
    let want = [
        "Missing gone/x",
        "Missing usr/gone",
        "Excluded usr/share/doc/x",
        "Secret etc/shadow",
        "Secret etc/ssl/private/key",
    ];
    assert_eq!(skipped, want);
    let dpkg = open(temp.path()).unwrap();
    let found = dpkg.files(&[dpkg.get("b").unwrap()], FileOptions::default(), &Watch::default()).unwrap();
    assert!(found.entries.iter().any(|s| s.path.as_bytes() == b"var/lib/dpkg/info/b.list"));
}

#[test]
fn conffiles_come_pristine_or_not_at_all() {
    // md5 of "x"
    let md5 = "9dd4e461268c8034f5c8564e155c67a6";
    let conffiles: String =
        ["same", "edited", "beside", "gone", "linked"].map(|n| format!("\n /etc/{n} {md5}")).concat();
    let temp = host(&[
        ("var/lib/dpkg/status", &status(&[&format!("a 1;Conffiles:{conffiles}\n /etc/old {md5} obsolete")])),
        ("var/lib/dpkg/info/a.list", "/etc/same\n/etc/edited\n/etc/beside\n/etc/gone\n/etc/linked\n/etc/old\n"),
        ("etc/same", "x"),
        ("etc/edited", "y"),
        ("etc/beside", "y"),
        ("etc/beside.dpkg-dist", "x"),
        ("etc/linked", "-> same"),
        ("etc/old", "x"),
    ]);
    let (taken, skipped) = files(&temp, &["a"], false);
    assert_eq!(taken, ["etc/beside=etc/beside.dpkg-dist: a 1", "etc/old: a 1", "etc/same: a 1"]);
    assert_eq!(skipped, ["Missing etc/gone", "Edited etc/edited", "Edited etc/linked"]);
    let (taken, _) = files(&temp, &["a"], true);
    assert_eq!(taken, ["etc/beside: a 1", "etc/edited: a 1", "etc/linked: a 1", "etc/old: a 1", "etc/same: a 1"]);
}

#[test]
fn diversions_are_kept_with_their_package_and_undone_without() {
    let temp = host(&[
        ("var/lib/dpkg/status", &status(&["a 1", "b 1"])),
        ("var/lib/dpkg/info/a.list", "/bin/p\n/usr/bin/q\n"),
        ("var/lib/dpkg/info/b.list", "/bin/p\n"),
        ("var/lib/dpkg/diversions", "/bin/p\n/bin/p.real\nb\n/usr/bin/q\n/usr/bin/q.mine\n:\n"),
        ("bin", "-> usr/bin"),
        ("usr/bin/p", "b's"),
        ("usr/bin/p.real", "a's"),
        ("usr/bin/q", "the administrator's"),
        ("usr/bin/q.mine", "a's"),
    ]);
    let (taken, _) = files(&temp, &["a", "b"], false);
    assert_eq!(taken, ["usr/bin/p: b 1", "usr/bin/p.real: a 1", "usr/bin/q=usr/bin/q.mine: a 1"]);
    let (taken, _) = files(&temp, &["a"], false);
    assert_eq!(taken, ["usr/bin/p=usr/bin/p.real: a 1", "usr/bin/q=usr/bin/q.mine: a 1"]);
}

#[test]
fn what_changed_since_the_installation_is_said() {
    // md5 of "x"
    let sums = "9dd4e461268c8034f5c8564e155c67a6  usr/new\n9dd4e461268c8034f5c8564e155c67a6  usr/old\nodd\n";
    let temp = host(&[
        ("var/lib/dpkg/status", &status(&["a 1", "b 1"])),
        ("var/lib/dpkg/info/a.list", "/usr/new\n/usr/old\n/usr/unknown\n/usr/touched\n"),
        ("var/lib/dpkg/info/a.md5sums", &sums.replace("odd", "9dd4e461268c8034f5c8564e155c67a6  usr/touched")),
        ("var/lib/dpkg/info/b.list", "/b/1\n/b/2\n"),
        ("usr/new", "y"),
        ("usr/old", "y"),
        ("usr/unknown", "y"),
        ("usr/touched", "x"),
    ]);
    let at = |name: &str, sec: u64| {
        let file = std::fs::File::options().write(true).open(temp.path().join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(sec)).unwrap();
    };
    at("var/lib/dpkg/info/a.list", 1000);
    at("usr/old", 1000);
    for newer in ["usr/new", "usr/unknown", "usr/touched"] {
        at(newer, 1001);
    }
    let dpkg = open(temp.path()).unwrap();
    let packages: Vec<&Package> = dpkg.packages().iter().collect();
    let found = dpkg.files(&packages, FileOptions::default(), &Watch::default()).unwrap();
    assert_eq!(found.entries.iter().filter(|s| s.path.as_bytes().starts_with(b"usr/")).count(), 4);
    let want =
        ["usr/new: changed on the host, taken as it is there", "b 1: 2 paths missing on the host, the first is b/1"];
    assert_eq!(found.notes(), want);
}

/// Skips loudly where this machine is no Debian; on CI that is a failure.
fn real() -> Option<Dpkg> {
    if Path::new("/var/lib/dpkg/status").exists() {
        return Some(open(Path::new("/")).unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "this test needs a Debian");
    eprintln!("SKIPPED: this machine is no Debian");
    None
}

#[test]
fn this_machine() {
    let Some(dpkg) = real() else { return };
    let listed = std::process::Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}\n"]).output().unwrap();
    let installed = String::from_utf8(listed.stdout).unwrap().lines().filter(|l| *l == "installed").count();
    assert_eq!(dpkg.packages().len(), installed);
    let chosen = dpkg.closure(&["apt".to_owned()]).unwrap();
    for name in ["base-files", "libc6", "apt", "mawk", "perl-base"] {
        assert!(chosen.iter().any(|p| p.name == name), "{name}");
    }
    let found = dpkg.files(&chosen, FileOptions::default(), &Watch::default()).unwrap();
    assert!(found.entries.len() > 3000, "{}", found.entries.len());
    for selected in &found.entries {
        let path = Path::new("/").join(selected.host.as_os_str());
        let canonical = path.parent().map(|p| p.canonicalize().unwrap());
        assert_eq!(canonical.as_deref(), path.parent(), "{}", selected.host);
        assert!(path.symlink_metadata().is_ok(), "{}", selected.host);
    }
}
