// SPDX-License-Identifier: ISC
//! Chroots of Debian: out of a bootstrapped tarball, out of a package, and out of the running system.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{World, able, skip};

/// A minimal Debian as a tarball, packed by `packer`; made once for a build directory, for that takes a while.
fn minbase(ending: &str, packer: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (packed, new) = (dir.join(format!("minbase.{ending}")), dir.join(format!("new.{ending}")));
    if !packed.exists() {
        let (program, arguments) = match packer {
            "" => {
                let mut arguments = vec!["--quiet".into(), "--variant=minbase".into()];
                arguments.extend(apt_of_the_host().into_iter().map(PathBuf::from));
                ("mmdebstrap", [arguments, vec!["stable".into(), new.clone()]].concat())
            }
            _ => {
                let pack = format!("{packer} < {} > {}", minbase("tar", "").display(), new.display());
                ("sh", vec!["-c".into(), pack.into()])
            }
        };
        let mut command = Command::new(program);
        command.args(arguments);
        assert!(command.status().unwrap().success(), "{command:?}");
        fs::rename(&new, &packed).unwrap();
    }
    packed
}

/// How the host reaches its mirror and how old it may be: mmdebstrap does not take that over.
fn apt_of_the_host() -> Vec<String> {
    let output = Command::new("apt-config").args(["dump", "Acquire"]).output().unwrap();
    let settings = String::from_utf8(output.stdout).unwrap();
    let kept = |line: &&str| line.contains("::Check-") || line.contains("::Proxy ");
    settings.lines().filter(kept).map(|line| format!("--aptopt={line}")).collect()
}

/// The archives and nothing else.
const PLAIN: &str = "devices = \"none\"\nactions = [\"-ldconfig\"]\n";

#[test]
fn a_bootstrapped_tarball_is_unpacked_as_tar_does() {
    if !able(&["mmdebstrap", "tar", "gzip", "zstd", "xz", "rsync", "mtree"]) {
        return;
    }
    let world = World::new();
    let tar = minbase("tar", "");
    world.sh(&format!("mkdir want; tar --numeric-owner --xattrs --xattrs-include='*' -C want -xpf {}", tar.display()));
    for (ending, packer) in [("tar", ""), ("tar.gz", "gzip -1"), ("tar.zst", "zstd -q -1 -T0"), ("tar.xz", "xz -0 -T0")]
    {
        let archive = minbase(ending, packer);
        world.write("recipe.toml", &format!("{PLAIN}[[source]]\narchive = {archive:?}\n"));
        world.ok(&["build", "b0", "-f", "recipe.toml"]);
        if packer.is_empty() {
            world.assert_same(&world.path("want"), "b0");
        }
        world.assert_alike(&world.path("want"), "b0");
        world.assert_tidy();
        world.ok(&["remove", "b0"]);
        assert!(!world.root("b0").exists() && !world.path("home/.stockade/b0").exists(), "{ending}");
    }
    assert_eq!(world.ok(&["list"]), "");
}

#[test]
fn a_package_file_is_a_source() {
    if !able(&["dpkg-deb", "rsync", "mtree"]) {
        return;
    }
    let world = World::new();
    world.sh(
        "umask 022; mkdir -p p/DEBIAN p/usr/bin p/usr/share/doc/p p/etc; echo x > p/usr/bin/x; chmod 4755 p/usr/bin/x
        ln -s x p/usr/bin/y; ln p/usr/bin/x p/usr/bin/z; echo conf > p/etc/x.conf; chown 12:34 p/etc/x.conf
        printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: m <m@m>\\nDescription: d\\n' > p/DEBIAN/control
        find p -depth -exec touch -h -d @1700000000 {} +",
    );
    for packer in ["gzip", "xz", "zstd", "none"] {
        world.sh(&format!("rm -rf want; dpkg-deb -Z{packer} -b p p.deb >/dev/null; dpkg-deb -x p.deb want"));
        // Links come last in a package, and tar does not give their directory its time back.
        world.sh("touch -d @1700000000 want/usr/bin");
        world.write("recipe.toml", &format!("{PLAIN}[[source]]\narchive = \"p.deb\"\n"));
        world.ok(&["build", packer, "-f", "recipe.toml"]);
        world.assert_same(&world.path("want"), packer);
        assert!(world.ok(&["why", packer, "usr/bin/y"]).contains("p.deb"));
    }
}

/// The packages that dpkg has as installed, where `command` runs it.
fn installed(mut command: Command) -> BTreeSet<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| Some(line.strip_prefix("ii ")?.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    text.lines().filter_map(row).collect()
}

#[test]
fn the_running_system_becomes_a_chroot_that_works() {
    if !able(&["dpkg", "apt-get", "unshare"]) {
        return;
    }
    let world = World::new();
    world.ok(&["build"]);
    let root = world.root("base");
    secrets_stayed_outside(&root);
    for link in ["bin", "sbin", "lib", "lib64"] {
        assert_eq!(fs::read_link(root.join(link)).ok(), fs::read_link(Path::new("/").join(link)).ok(), "{link}");
    }
    let said = world.run(&["run", "base", "--", "dpkg", "--verify"]);
    assert_eq!((said.status, &*said.out, &*said.err), (Some(0), "", ""), "dpkg sees a difference");
    let inside = installed(world.stockade(&["run", "base", "--", "dpkg", "-l"]));
    let mut host = Command::new("dpkg");
    host.arg("-l");
    assert!(inside.is_subset(&installed(host)) && inside.len() > 50, "{inside:?}");
    assert!(world.ok(&["run", "base", "--", "sh", "-c", "ldconfig -p | head -1; perl -e 'print 6*7'"]).ends_with("42"));
    assert!(world.ok(&["why", "base", "/bin/ls"]).lines().last().unwrap().starts_with("usr/bin/ls: coreutils "));
    let said = world.run(&["check", "base", "--hash"]);
    assert_eq!(said.status, Some(0), "using it changed it: {said:?}");

    // Somebody works in it; a refresh does not take that away.
    world.ok(&["run", "base", "--", "useradd", "-m", "puffy"]);
    let network = world.run(&["run", "base", "--", "apt-get", "-q", "update"]);
    if network.status != Some(0) || network.err.contains("Failed to fetch") {
        return skip(&format!("apt-get update found no network: {}{}", network.out, network.err));
    }
    world.ok(&["run", "base", "--", "apt-get", "-q", "install", "-y", "hello"]);
    assert_eq!(world.ok(&["run", "base", "--", "hello"]), "Hello, world!\n");
    let said = world.run(&["check", "base"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.out.contains("+ usr/bin/hello"), "{said:?}");
    let said = world.run(&["build"]);
    assert!(matches!(said.status, Some(0 | 2)), "{said:?}");
    assert_eq!(world.ok(&["run", "base", "-u", "puffy", "--", "hello"]), "Hello, world!\n");
    assert!(
        installed(world.stockade(&["run", "base", "--", "dpkg", "-l"])).iter().any(|row| row.starts_with("hello "))
    );
    // Packages of the host join those that apt installed, and dpkg knows of both.
    let said = world.run(&["build", "base", "--package", "strace"]);
    assert!(matches!(said.status, Some(0 | 2)), "{said:?}");
    let inside = installed(world.stockade(&["run", "base", "--", "dpkg", "-l"]));
    assert!(["hello ", "strace "].iter().all(|name| inside.iter().any(|row| row.starts_with(name))), "{inside:?}");
    let said = world.run(&["run", "base", "--", "sh", "-c", "dpkg --verify; apt-get -qq check"]);
    assert_eq!((said.status, &*said.out, &*said.err), (Some(0), "", ""), "dpkg sees a difference");
    world.assert_tidy();
    world.ok(&["remove", "base"]);
    assert!(!root.exists());
}

/// Nothing that tells the machine from others, or lets somebody in.
fn secrets_stayed_outside(root: &Path) {
    for file in ["etc/shadow", "etc/gshadow"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for line in text.lines() {
            let password = line.split(':').nth(1).unwrap();
            assert!(matches!(password, "" | "*" | "!" | "!*"), "{file}: {line}");
        }
    }
    for file in ["etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname"] {
        assert!(fs::read(root.join(file)).unwrap_or_default().is_empty(), "{file}");
    }
    let keys = |dir: &str| fs::read_dir(root.join(dir)).into_iter().flatten().flatten().map(|e| e.file_name());
    assert!(!keys("etc/ssh").any(|name| name.to_string_lossy().contains("_key")), "host keys");
    assert_eq!(keys("etc/ssl/private").count(), 0, "private keys");
}
