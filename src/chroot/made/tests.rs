// SPDX-License-Identifier: ISC
//! A small made-up host, and a chroot of this machine's packages that is entered and used.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::path::PathSet;
use crate::recipe::Action;
use crate::select::packages::FileOptions;
use crate::source::dir::{ScanOptions, scan_paths};
use crate::sys::{Calls, Dir};
use crate::watch::Watch;

/// A wanted tree, complete, and where its contents are.
struct Composed {
    overlay: Overlay,
    output: Output,
    /// Paths whose file the host has under another name.
    renamed: HashMap<TreePath, TreePath>,
}

/// Lays the links, the selection and the made files of the host at `root` over each other.
fn compose(root: &Path, names: &[&str]) -> Composed {
    let (dir, watch, time) = (Dir::open(root, Calls::Native).unwrap(), Watch::default(), Time { sec: 9, nsec: 0 });
    let (host, dpkg) = (Host::new(&dir).unwrap(), Dpkg::open(&dir).unwrap());
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let packages = dpkg.closure(&names).unwrap();
    let selection = dpkg.files(&packages, FileOptions::default(), &watch).unwrap();
    let paths: Vec<TreePath> = selection.entries.iter().map(|entry| entry.host.clone()).collect();
    let scan = scan_paths(&dir, &paths, &ScanOptions { xattrs: true, ..ScanOptions::default() }, &watch).unwrap();
    let (mut nodes, mut renamed) = (Vec::new(), HashMap::new());
    for entry in &selection.entries {
        let mut node = scan.tree.get(entry.host.as_bytes()).unwrap().clone();
        node.path = entry.path.clone();
        node.origin = Some(entry.origin.clone());
        if entry.path != entry.host {
            renamed.insert(entry.path.clone(), entry.host.clone());
        }
        nodes.push(node);
    }
    let mut overlay = Overlay::default();
    let lay = |overlay: &mut Overlay, nodes| overlay.lay(nodes, &TreePath::root(), &PathSet::default()).unwrap();
    lay(&mut overlay, links(&host, time).unwrap().into_iter().map(|made| made.node).collect());
    lay(&mut overlay, nodes);
    let (wanted, actions) = (&overlay, &Action::ALL.into());
    let input = Input { host: &host, dpkg: &dpkg, packages: &packages, selection: &selection, wanted, time, actions };
    let output = make(&input).unwrap();
    lay(&mut overlay, output.made.iter().map(|made| made.node.clone()).collect());
    Composed { overlay, output, renamed }
}

/// Writes the tree to `to`, which is empty: a plain copy, enough for a test.
fn write_out(composed: Composed, host: &Path, to: &Path) {
    let bodies: HashMap<TreePath, Vec<u8>> =
        composed.output.made.into_iter().map(|made| (made.node.path, made.body)).collect();
    let (tree, from) = composed.overlay.finish().unwrap();
    for (node, from) in tree.nodes().iter().zip(&from) {
        let path = to.join(node.path.as_os_str());
        match &node.kind {
            Kind::Dir if node.path.is_root() => {}
            Kind::Dir => std::fs::create_dir(&path).unwrap(),
            Kind::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
            Kind::File { .. } if from.layer == 2 => std::fs::write(&path, &bodies[&from.path]).unwrap(),
            Kind::File { .. } => {
                let source = composed.renamed.get(&from.path).unwrap_or(&from.path);
                std::fs::copy(host.join(source.as_os_str()), &path).unwrap();
            }
            other => panic!("{}: {}", node.path, other.word()),
        }
        lchown(&path, Some(node.meta.uid), Some(node.meta.gid)).unwrap();
        if !matches!(node.kind, Kind::Symlink(_)) {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(node.meta.mode.into())).unwrap();
        }
    }
}

/// A host with merged /usr, on which `tool` is chosen and `other` is not.
fn made_up() -> tempfile::TempDir {
    let stanza = |name: &str, rest: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n{rest}\n")
    };
    // md5 of "x"
    let conffiles =
        "Conffiles:\n /etc/kept 9dd4e461268c8034f5c8564e155c67a6\n /etc/edited 9dd4e461268c8034f5c8564e155c67a6\n";
    let status = [
        stanza("base-passwd", "Essential: yes\n"),
        stanza("dpkg", "Essential: yes\n"),
        stanza("tool", conffiles) + "Bugs: last\n",
        stanza("other", "Conffiles:\n /etc/apt/apt.conf.d/other 0\n"),
    ];
    let status = status.map(|s| s.replace("\n\n", "\n") + "\n").concat();
    let files = [
        ("bin", "-> usr/bin"),
        ("var/lib/dpkg/status", status.as_str()),
        ("var/lib/dpkg/info/base-passwd.list", "/.\n/usr/share/base-passwd/passwd.master\n"),
        ("var/lib/dpkg/info/dpkg.list", "/usr/bin\n/var/lib/dpkg\n"),
        (
            "var/lib/dpkg/info/tool.list",
            "/bin/tool\n/bin/tool.slow\n/usr/man/tool.slow\n/etc/kept\n/etc/edited\n/usr/bin/diverted\n",
        ),
        ("var/lib/dpkg/info/tool.postinst", "adduser --system tooluser || true\n"),
        ("var/lib/dpkg/info/other.list", "/usr/bin/other\n"),
        ("var/lib/dpkg/info/other.postinst", "adduser otheruser\n"),
        (
            "var/lib/dpkg/diversions",
            "/usr/bin/diverted\n/usr/bin/diverted.real\nother\n/usr/bin/tool.slow\n/usr/bin/away\ntool\n",
        ),
        (
            "var/lib/dpkg/statoverride",
            "root tooluser 4750 /usr/bin/tool\nroot otheruser 755 /bin/tool.slow\nroot root 700 /usr/bin/other\n",
        ),
        ("var/lib/dpkg/triggers/File", "/usr/a tool/noawait\n/usr/b other\n"),
        ("var/lib/dpkg/triggers/cache", "other\n"),
        ("var/lib/dpkg/triggers/index", "tool\nother/noawait\n"),
        ("var/lib/dpkg/triggers/Unincorp", "x tool\n"),
        (
            "var/lib/dpkg/alternatives/t",
            "manual\n/bin/t\nt.1\n/usr/man/t\nt.2\n/usr/man/t2\n\n/usr/bin/other\n99\n/usr/man/other\n\n/usr/bin/tool\n5\n\n\n/usr/bin/tool.slow\n7\n/usr/man/tool.slow\n/usr/man/none\n\n",
        ),
        ("var/lib/dpkg/alternatives/u", "auto\n/bin/u\n\n/usr/bin/other\n1\n\n"),
        ("var/lib/dpkg/alternatives/v", "manual\n/bin/v\n\n/usr/bin/tool\n1\n/usr/bin/tool.slow\n2\n\n"),
        ("etc/alternatives/t", "-> /usr/bin/other"),
        ("etc/alternatives/v", "-> /usr/bin/tool"),
        ("etc/dpkg/dpkg.cfg.d/mine", "force-unsafe-io\npath-exclude=/usr/share/doc/*\n"),
        ("etc/kept", "x"),
        ("etc/edited", "y"),
        (
            "etc/passwd",
            "root:HASH:0:0:the boss:/root:/bin/zsh\ntooluser:x:101:101:,,,:/:/sbin/nologin\notheruser:x:102:102::/:/x\nanna:x:1000:1000::/home/anna:/bin/sh\n+::::::\n",
        ),
        ("etc/group", "root:x:0:\nshadow:x:42:anna,tooluser\ntooluser:x:101:\notheruser:x:102:\nanna:x:1000:\n"),
        ("etc/shadow", "root:HASH:1:0:9:7:::\n"),
        ("usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n"),
        ("usr/share/base-passwd/group.master", "root:*:0:\nshadow:*:42:\n"),
        ("usr/bin/tool", "tool"),
        ("usr/bin/tool.slow", "slow"),
        ("usr/man/tool.slow", "manual"),
        ("usr/bin/diverted", "other's"),
        ("usr/bin/diverted.real", "tool's"),
        ("usr/bin/other", "other"),
    ];
    let temp = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = temp.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => std::fs::write(path, content).unwrap(),
        }
    }
    temp
}

/// What was made at `path`: a link's target or a file's content.
fn made<'a>(composed: &'a Composed, path: &str) -> Option<(&'a Node, String)> {
    let found = composed.output.made.iter().rev().find(|made| made.node.path.as_bytes() == path.as_bytes())?;
    let text = match &found.node.kind {
        Kind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
        _ => String::from_utf8_lossy(&found.body).into_owned(),
    };
    Some((&found.node, text))
}

#[test]
fn a_made_up_host() {
    let host = made_up();
    let composed = compose(host.path(), &["tool"]);
    let conffiles = "Conffiles:\n /etc/kept 9dd4e461268c8034f5c8564e155c67a6\n";
    for (path, want) in [
        ("etc/passwd", Some("root:x:0:0:root:/root:/bin/bash\ntooluser:x:101:101:,,,:/:/sbin/nologin\n")),
        ("etc/group", Some("root:x:0:\nshadow:x:42:tooluser\ntooluser:x:101:\n")),
        ("etc/shadow", Some("root:*::0:99999:7:::\ntooluser:*::0:99999:7:::\n")),
        ("etc/gshadow", Some("root:*::\nshadow:*::tooluser\ntooluser:*::\n")),
        ("etc/alternatives/t", Some("-> /usr/bin/tool.slow")),
        ("bin/t", Some("-> /etc/alternatives/t")),
        ("etc/alternatives/t.1", Some("-> /usr/man/tool.slow")),
        ("usr/man/t", Some("-> /etc/alternatives/t.1")),
        ("usr/man/t2", None),
        (
            "var/lib/dpkg/alternatives/t",
            Some(
                "auto\n/bin/t\nt.1\n/usr/man/t\nt.2\n/usr/man/t2\n\n/usr/bin/tool\n5\n\n\n/usr/bin/tool.slow\n7\n/usr/man/tool.slow\n/usr/man/none\n\n",
            ),
        ),
        ("etc/alternatives/u", None),
        ("var/lib/dpkg/alternatives/u", None),
        ("etc/alternatives/v", Some("-> /usr/bin/tool")),
        ("var/lib/dpkg/diversions", Some("/usr/bin/tool.slow\n/usr/bin/away\ntool\n")),
        ("var/lib/dpkg/statoverride", Some("root tooluser 4750 /usr/bin/tool\n")),
        ("var/lib/dpkg/triggers/File", Some("/usr/a tool/noawait\n")),
        ("var/lib/dpkg/triggers/cache", None),
        ("var/lib/dpkg/triggers/index", Some("tool\n")),
        ("var/lib/dpkg/triggers/Unincorp", Some("")),
        ("var/lib/dpkg/available", Some("")),
        ("var/lib/dpkg/arch", None),
        ("etc/dpkg/dpkg.cfg.d/mine", Some("path-exclude=/usr/share/doc/*\n")),
    ] {
        assert_eq!(made(&composed, path).map(|(_, text)| text).as_deref(), want, "{path}");
    }
    let (shadow, _) = made(&composed, "etc/shadow").unwrap();
    assert_eq!((shadow.meta.uid, shadow.meta.gid, shadow.meta.mode), (0, 42, 0o640));
    assert_eq!(shadow.origin.as_deref(), Some("made accounts"));
    let (_, status) = made(&composed, "var/lib/dpkg/status").unwrap();
    assert!(
        status.contains(conffiles) && !status.contains("/etc/edited") && status.contains("Bugs: last\n"),
        "{status}"
    );
    assert!(status.contains("Package: tool\n") && !status.contains("Package: other"), "{status}");
    for path in ["bin", "usr/bin/tool", "usr/bin/t", "usr/bin/diverted"] {
        assert!(composed.overlay.get(&TreePath::new(path.as_bytes()).unwrap()).is_some(), "{path}");
    }
    assert_eq!(composed.renamed.len(), 1, "{:?}", composed.renamed);
    let want = [
        "etc/edited: edited on the host, left out (tool 1)",
        "alternative t: /usr/bin/tool.slow, not what the host chose",
        "bin/tool.slow: override for root:otheruser dropped",
        "what these packages' postinst scripts set up is missing: tool",
    ];
    assert_eq!(composed.output.notes, want);
}

#[test]
fn the_same_host_gives_the_same() {
    let host = made_up();
    let show = || {
        let made = compose(host.path(), &["tool"]).output.made;
        made.iter().map(|made| format!("{:?} {:?}", made.node, made.body)).collect::<Vec<_>>()
    };
    assert_eq!(show(), show());
}

/// The tree without contents and times, one line an entry.
fn shape(composed: &Composed) -> Vec<String> {
    let show = |node: &Node| {
        let Meta { mode, uid, gid, .. } = node.meta;
        let kind = match &node.kind {
            Kind::File { size, .. } => size.to_string(),
            Kind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
            other => other.word().to_owned(),
        };
        format!("{} {kind} {mode:o} {uid}:{gid} {:?}", node.path, node.origin)
    };
    composed.overlay.nodes().map(show).collect()
}

/// Copies the files of this machine's base and apt, with what the generators make, and works in there. Nothing is
/// fetched: the package that is installed is made here.
#[test]
fn a_chroot_of_this_machine_works() {
    let ready = Path::new("/var/lib/dpkg/status").exists()
        && Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !ready {
        assert!(std::env::var_os("CI").is_none(), "this test needs root on a Debian");
        eprintln!("SKIPPED: not root on a Debian");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let composed = compose(Path::new("/"), &["apt"]);
    let tree = shape(&composed);
    write_out(composed, Path::new("/"), &root);
    // A chroot is a host like any other: its own chroot is the same, so nothing was lost and nothing grows.
    let again = shape(&compose(&root, &["apt"]));
    assert_eq!(tree.iter().zip(&again).find(|(first, second)| first != second), None);
    assert_eq!(tree.len(), again.len());
    let package = temp.path().join("package");
    std::fs::create_dir_all(package.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(package.join("usr/share/stockade-test")).unwrap();
    std::fs::write(package.join("usr/share/stockade-test/here"), "here\n").unwrap();
    let control = "Package: stockade-test\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n\
        Depends: apt, base-files\nDescription: a test\n";
    std::fs::write(package.join("DEBIAN/control"), control).unwrap();
    let script = r#"
        set -eu
        dpkg-deb --root-owner-group -b "$1/package" "$1/root/test.deb" >/dev/null
        mount --make-rprivate /
        mount -t proc proc "$1/root/proc"
        mount --bind /dev "$1/root/dev"
        exec chroot "$1/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
            DEBIAN_FRONTEND=noninteractive sh -eu -c '
                say() { echo "$1"; shift; "$@"; }
                ldconfig
                say verify: dpkg --verify
                say audit: dpkg --audit
                say check: apt-get -qq check
                say groups: grpck -r
                say libraries: sh -c "ldconfig -p | grep -q libc.so.6 && echo some"
                say nobody: su -s /bin/sh nobody -c "id -un"
                say awk: awk "BEGIN{print 7}"
                say alternatives: sh -c "update-alternatives --query awk | grep ^Status"
                apt-get -qq -y install /test.deb >/dev/null
                say installed: cat /usr/share/stockade-test/here
                say verify: dpkg --verify
                apt-get -qq -y purge stockade-test >/dev/null
                say pam: pam-auth-update --package
                say shells: sh -c "update-shells && tail -n 1 /etc/shells"
                say passwords: sh -c "cut -d: -f2 /etc/shadow /etc/gshadow | sort -u"'
    "#;
    let run = Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(temp.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}{err}");
    let words: Vec<&str> = out.split_whitespace().collect();
    let want = "verify: audit: check: groups: libraries: some nobody: nobody awk: 7 alternatives: Status: auto installed: \
        here verify: pam: shells: /usr/bin/dash passwords: *";
    assert_eq!(words.join(" "), want, "{err}");
}
