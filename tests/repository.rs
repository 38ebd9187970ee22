// SPDX-License-Identifier: ISC
//! Repositories: published, served over HTTP on loopback, fetched; and what a hostile mirror does.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use common::{World, able};

/// What a server does that is asked for a file.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// Says more than it sends.
    CutShort,
    /// Never ends.
    Endless,
    /// Another file altogether.
    Garbage,
    /// Somewhere else, for ever.
    Redirects,
    /// It has none of them.
    Missing,
}

/// A web server for one directory, until it is dropped.
struct Server {
    url: String,
    stop: Arc<AtomicBool>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `dir`; files whose names end in `which` in this manner.
    fn new(dir: PathBuf, which: &'static str, manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A client that goes away is what some of these tests want.
                let _ = answer(stream.unwrap(), &dir, which, manner);
            }
        });
        Server { url: format!("http://127.0.0.1:{port}/"), stop, port, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(mut stream: TcpStream, dir: &Path, which: &str, manner: Manner) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut more = [0; 1024];
        match stream.read(&mut more)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&more[..length]),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let name = text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let manner = if name.ends_with(which) { manner } else { Manner::Honest };
    let body = fs::read(dir.join(&name)).ok();
    match (manner, body) {
        (Manner::Missing, _) | (_, None) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        (Manner::Redirects, _) => {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: /{name}\r\nContent-Length: 0\r\n\r\n")
        }
        (Manner::Endless, _) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 65536])?;
            }
        }
        (Manner::Garbage, Some(body)) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&vec![b'x'; body.len()])
        }
        (Manner::CutShort, Some(body)) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body[..body.len() / 2])
        }
        (Manner::Honest, Some(body)) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            stream.write_all(&body)
        }
    }
}

/// Three trees, two patches between them, a key, and an empty root that is the first tree.
const PATCHES: &str = r#"
umask 022
mkdir -p t0/usr/bin t0/etc; seq 1000 > t0/usr/bin/a; seq 2000 > t0/usr/bin/b; echo r > t0/etc/motd
cp -a t0 t1; echo one > t1/usr/bin/a
cp -a t1 t2; echo two > t2/usr/bin/a; echo new > t2/usr/bin/c
$STOCKADE key generate k-patch > /dev/null; $STOCKADE key generate o-patch > /dev/null
$STOCKADE patch diff t0 t1 --name one --series s --number 1 -s k-patch.sec
$STOCKADE patch diff t1 t2 --name two --series s --number 2 --requires one.tgz -s k-patch.sec
cp -a t0 root
"#;

fn world() -> World {
    let world = World::new();
    world.sh(PATCHES);
    world
}

/// Everything that the host keeps of repositories.
fn kept(world: &World) -> String {
    let dir = world.path("home/patches");
    let mut text = String::new();
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let content = fs::read(&path).unwrap();
        text.push_str(&format!(
            "{} {} {:?}\n",
            path.display(),
            content.len(),
            content.iter().map(|&b| u64::from(b)).sum::<u64>()
        ));
    }
    text
}

#[test]
fn published_fetched_and_applied() {
    if !able(&["signify-openbsd"]) {
        return;
    }
    let world = world();
    let root = world.path("root");
    let root = root.to_str().unwrap();
    world.ok(&["patch", "publish", "repo", "two.tgz", "-s", "k-patch.sec"]);
    assert_eq!(
        world.ok(&["patch", "publish", "repo", "one.tgz", "two.tgz", "-s", "k-patch.sec"]).lines().next(),
        Some("+ one")
    );
    // Base tools alone are enough.
    world.sh("cd repo && signify-openbsd -C -p ../k-patch.pub -x SHA256.sig && signify-openbsd -C -p ../k-patch.pub -x SHA256.sig one.tgz INDEX");
    let server = Server::new(world.path("repo"), "", Manner::Honest);
    let sync = ["patch", "sync", &server.url, "--key", "k-patch.pub", "--root", root];
    assert_eq!(world.ok(&[&sync[..], &["--dry-run"]].concat()), "missing one\nmissing two\n");
    assert_eq!(world.ok(&sync), "fetched one\nfetched two\n");
    assert_eq!(world.ok(&sync), "there one\nthere two\n");
    world.ok(&[&sync[..], &["--apply"]].concat());
    assert_eq!(fs::read_to_string(world.path("root/usr/bin/a")).unwrap(), "two\n");
    let said = world.run(&sync);
    assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{}", said.err);
    let old = world.run(&[&sync[..], &["--max-age", "0"]].concat());
    assert!(old.status == Some(2) && old.err.contains("more than 0 days ago"), "{}", old.err);
    // From a directory, too; and what is withdrawn is no longer listed.
    fs::remove_file(world.path("repo/two.tgz")).unwrap();
    assert!(world.ok(&["patch", "publish", "repo", "-s", "k-patch.sec"]).contains("- two\n"));
    let file = format!("file://{}", world.path("repo").display());
    assert_eq!(world.run(&["patch", "sync", &file, "--key", "k-patch.pub", "--root", root]).status, Some(2));
}

#[test]
fn what_is_not_published() {
    if !able(&[]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "publish", "repo", "one.tgz", "-s", "k-patch.sec"]);
    world.sh("$STOCKADE patch diff t0 t2 --name one -o other.tgz -s k-patch.sec
        $STOCKADE patch diff t0 t2 --name foreign -s o-patch.sec
        $STOCKADE patch diff t0 t2 --name bare --unsigned
        head -c 300 one.tgz > cut.tgz");
    let before = world.sh("cat repo/*");
    for (patch, words) in [
        ("other.tgz", "another patch one"),
        ("foreign.tgz", "signed by key"),
        ("bare.tgz", "not signed"),
        ("cut.tgz", "cut"),
        ("k-patch.pub", "no gzip file"),
        ("nowhere.tgz", "nowhere.tgz"),
    ] {
        world.refused(&["patch", "publish", "repo", patch, "-s", "k-patch.sec"], &[words]);
    }
    world.refused(&["patch", "publish", "repo", "foreign.tgz", "-s", "o-patch.sec"], &["SHA256.sig", "signed by key"]);
    assert_eq!(world.sh("cat repo/*"), before);
    world.ok(&["patch", "publish", "repo", "foreign.tgz", "-s", "k-patch.sec", "--key", "o-patch.pub"]);
}

/// Whatever a mirror does, nothing changes that the host keeps.
#[test]
fn hostile_mirrors() {
    if !able(&[]) {
        return;
    }
    let world = world();
    let root = world.path("root");
    let root = root.to_str().unwrap();
    world.ok(&["patch", "publish", "repo", "one.tgz", "-s", "k-patch.sec"]);
    world.sh("cp -a repo old");
    world.ok(&["patch", "publish", "repo", "two.tgz", "-s", "k-patch.sec"]);
    world.sh("cp -a repo fork && cp -a old/. fork.tmp && $STOCKADE patch publish fork.tmp -s k-patch.sec
        $STOCKADE patch publish mine one.tgz two.tgz -s o-patch.sec --key k-patch.pub");
    // What it knows: the state after both.
    let honest = Server::new(world.path("repo"), "", Manner::Honest);
    world.ok(&["patch", "sync", &honest.url, "--key", "k-patch.pub", "--root", root]);
    let known = kept(&world);
    for dir in ["old", "fork.tmp", "mine"] {
        let server = Server::new(world.path(dir), "", Manner::Honest);
        world.refused(&["patch", "sync", &server.url, "--key", "k-patch.pub", "--root", root], &[]);
        assert_eq!(kept(&world), known, "{dir}");
    }
    world.ok(&["patch", "sync", &honest.url, "--key", "k-patch.pub", "--root", root]);
    // Files that are not what they should be. The cache is empty, so that all would come.
    for file in ["two.tgz", "one.tgz"] {
        fs::remove_file(world.path("home/patches").join(file)).unwrap();
    }
    let known = kept(&world);
    for which in ["SHA256.sig", "INDEX", "one.tgz"] {
        for manner in [Manner::CutShort, Manner::Endless, Manner::Garbage, Manner::Redirects, Manner::Missing] {
            let server = Server::new(world.path("repo"), which, manner);
            world.refused(&["patch", "sync", &server.url, "--key", "k-patch.pub", "--root", root], &[which]);
            assert_eq!(kept(&world), known, "{which}");
        }
    }
    world.refused(
        &["patch", "sync", "http://127.0.0.1:1/", "--key", "k-patch.pub", "--root", root],
        &["fetching failed"],
    );
    world.refused(&["patch", "sync", &honest.url, "--key", "o-patch.pub", "--root", root], &["signed by key"]);
    // What a killed fetch left goes with the next.
    fs::write(world.path("home/patches/.one.tgz.1-0"), "half").unwrap();
    assert_eq!(
        world.ok(&["patch", "sync", &honest.url, "--key", "k-patch.pub", "--root", root]),
        "fetched one\nfetched two\n"
    );
    assert!(!world.path("home/patches/.one.tgz.1-0").exists());
}

/// Root never speaks to the network: who asks has given it up.
#[test]
fn the_child_is_nobody() {
    if !able(&["strace"]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "publish", "repo", "one.tgz", "-s", "k-patch.sec"]);
    let server = Server::new(world.path("repo"), "", Manner::Honest);
    let script = format!(
        "strace -f -o trace -e trace=socket,connect,setresuid,execve $STOCKADE patch sync {} --key k-patch.pub --root {} > out",
        server.url,
        world.path("root").display()
    );
    world.sh(&script);
    let trace = fs::read_to_string(world.path("trace")).unwrap();
    let mut dropped = std::collections::HashSet::new();
    let mut connected = 0;
    for line in trace.lines() {
        let pid = line.split_whitespace().next().unwrap();
        if line.contains("setresuid(") {
            assert!(!line.contains("setresuid(0"), "{line}");
            dropped.insert(pid);
        }
        if line.contains("AF_INET") {
            connected += 1;
            assert!(dropped.contains(pid), "{line}");
        }
    }
    assert!(connected >= 3, "{trace}");
}

/// What syspatch(8) does with a mirror, in the order of its documentation: verifies the list, compares names, hashes the
/// archive, asks whether a member is installed, keeps what is there, installs each member; `revert` goes back.
const CLIENT: &str = r#"
set -eu
mirror=$1 root=$2 key=$3 revert=${4:-}
osrev=78 dir=$mirror/syspatch/7.8/amd64
install_all() (
    cd "$1"
    find . ! -type d | sed 's|^\./||' | while read -r file; do
        mkdir -p "$(dirname "$root/$file")"
        if [ -L "$file" ]; then ln -sf "$(readlink "$file")" "$root/$file"
        else install -p -m "$(stat -c %a "$file")" -o "$(stat -c %u "$file")" -g "$(stat -c %g "$file")" "$file" "$root/$file"; fi
    done
)
if [ -n "$revert" ]; then
    last=$(ls "$root/var/syspatch" | sort | tail -1); tmp=$(mktemp -d)
    tar xzpf "$root/var/syspatch/$last/rollback.tgz" -C "$tmp"
    install_all "$tmp"; rm -r "$root/var/syspatch/$last" "$tmp"; exit
fi
tmp=$(mktemp -d)
signify-openbsd -Veq -x "$dir/SHA256.sig" -m "$tmp/SHA256" -p "$key"
[ "$(basename "$key")" = openbsd-$osrev-syspatch.pub ]
sed -n 's/^SHA256 (\(syspatch.*\)\.tgz) = .*/\1/p' "$tmp/SHA256" | sort -V > "$tmp/names"
while read -r name; do
    echo "$name" | grep -Eq "^syspatch$osrev-[0-9]{3}_[[:alnum:]_-]+$"
    patch=${name#syspatch}
    [ -f "$root/var/syspatch/$patch/rollback.tgz" ] && continue
    want=$(sed -n "s/^SHA256 ($name.tgz) = //p" "$tmp/SHA256")
    [ "$(sha256sum < "$dir/$name.tgz" | cut -d' ' -f1)" = "$want" ]
    rm -rf "$tmp/new"; mkdir "$tmp/new"
    tar tzf "$dir/$name.tgz" > "$tmp/members"
    ! grep -Eq '/$|^/|^\./|[[:space:]]' "$tmp/members"
    there=; while read -r member; do [ -f "$root/$member" ] && there=1; done < "$tmp/members"
    [ -n "$there" ] || continue
    mkdir -p "$root/var/syspatch/$patch"
    tar xzpf "$dir/$name.tgz" -C "$tmp/new"
    (cd "$root"; while read -r member; do [ -f "$member" ] && echo "$member"; done < "$tmp/members" || true) > "$tmp/old"
    tar czf "$root/var/syspatch/$patch/rollback.tgz" -C "$root" -T "$tmp/old"
    install_all "$tmp/new"
    echo "$patch"
done < "$tmp/names"
rm -r "$tmp"
"#;

#[test]
fn a_mirror_for_syspatch() {
    if !able(&["signify-openbsd", "install"]) {
        return;
    }
    let world = World::new();
    world.write("client.sh", CLIENT);
    world.sh(
        "umask 022
        mkdir -p t0/usr/sbin t0/usr/bin t0/etc t0/var/syspatch; seq 100 > t0/usr/sbin/d; chmod 555 t0/usr/sbin/d; echo x > t0/usr/bin/x; chmod 4755 t0/usr/bin/x
        cp -a t0 t1; seq 99 > t1/usr/sbin/d; echo y > t1/usr/bin/x; mkdir t1/usr/new; echo n > t1/usr/new/n; ln -s d t1/usr/sbin/e
        cp -a t0 root; cp -a t0 none; rm none/usr/sbin/d none/usr/bin/x
        $STOCKADE key generate openbsd-78-syspatch; $STOCKADE key generate k-patch
        for n in 901; do $STOCKADE patch diff t0 t1 --name fix.one --number $n --release 7.8 --arch amd64 -s k-patch.sec; done
        $STOCKADE patch publish mirror fix.one.tgz --layout syspatch -s openbsd-78-syspatch.sec --key k-patch.pub
        test $(sh client.sh mirror $PWD/root openbsd-78-syspatch.pub) = 78-901_fix_one
        test -z \"$(sh client.sh mirror $PWD/root openbsd-78-syspatch.pub)\"
        test -z \"$(sh client.sh mirror $PWD/none openbsd-78-syspatch.pub)\"
        diff -r --no-dereference -x syspatch t1 root
        test \"$(stat -c '%a %u %g %Y' root/usr/bin/x)\" = \"$(stat -c '%a %u %g %Y' t1/usr/bin/x)\"
        sh client.sh mirror $PWD/root openbsd-78-syspatch.pub revert
        cmp root/usr/sbin/d t0/usr/sbin/d && cmp root/usr/bin/x t0/usr/bin/x",
    );
    world.sh(
        "diff='$STOCKADE patch diff --release 7.8 --arch amd64 -s k-patch.sec'
        cp -a t1 gone; rm gone/etc -r; cp -a t1 linked; ln linked/usr/new/n linked/usr/new/m; cp -a t1 mode; chmod 500 mode/usr/new/n
        cp -a t1 blank; echo > 'blank/usr/a b'; cp -a t1 only; echo > only/usr/only
        for t in gone linked mode blank only; do sed s/50/51/ -i $t/usr/sbin/d; done
        cp t1/usr/sbin/d only/usr/sbin/d; touch -r t1/usr/sbin/d only/usr/sbin/d; chmod 555 only/usr/sbin/d
        for t in gone linked mode blank only; do eval $diff t1 $t --name $t --number 902; done
        $STOCKADE patch diff t0 t1 --name low --number 12 --release 7.8 --arch amd64 -s k-patch.sec
        $STOCKADE patch diff t0 t1 --name any --number 902 -s k-patch.sec",
    );
    for (name, words) in [
        ("gone", "removes nothing"),
        ("linked", "hard links"),
        ("mode", "metadata alone"),
        ("blank", "blanks"),
        ("only", "replaces no file"),
        ("low", "between 900 and 999"),
        ("any", "no release"),
    ] {
        let file = format!("{name}.tgz");
        let publish = [
            "patch",
            "publish",
            "mirror",
            &file,
            "--layout",
            "syspatch",
            "-s",
            "openbsd-78-syspatch.sec",
            "--key",
            "k-patch.pub",
        ];
        world.refused(&publish, &[words]);
    }
    assert_eq!(world.sh("ls mirror/syspatch/7.8/amd64"), "SHA256.sig\nsyspatch78-901_fix_one.tgz\n");
}

/// An index that somebody else wrote is not signed again, and a counter does not go round.
#[test]
fn only_what_was_signed_is_signed_again() {
    if !able(&[]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "publish", "repo", "one.tgz", "two.tgz", "-s", "k-patch.sec"]);
    let first = world.sh("sed -n /^counter/p repo/INDEX");
    for harm in ["/one/d", "s/^counter .*/counter 0/", "s/^counter .*/counter 18446744073709551615/"] {
        world.sh(&format!("rm -rf bad; cp -a repo bad; sed -i '{harm}' bad/INDEX; cp bad/SHA256.sig list"));
        world.refused(&["patch", "publish", "bad", "-s", "k-patch.sec"], &["INDEX", "not the one that was signed"]);
        world.sh("cmp bad/SHA256.sig list");
    }
    world.ok(&["patch", "publish", "repo", "-s", "k-patch.sec"]);
    assert_ne!(world.sh("sed -n /^counter/p repo/INDEX"), first);
}

/// For cron: that a patch could not be applied is another status than that there is none.
#[test]
fn what_does_not_go_in_is_a_failure() {
    if !able(&[]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "publish", "repo", "one.tgz", "-s", "k-patch.sec"]);
    world.sh("echo mine > root/usr/bin/a");
    let sync = ["patch", "sync", "repo", "--key", "k-patch.pub", "--root", "./root", "--apply"];
    let said = world.run(&sync);
    assert!(said.status == Some(1) && said.out.contains("conflict: usr/bin/a"), "{said:?}");
    assert_eq!(fs::read_to_string(world.path("root/usr/bin/a")).unwrap(), "mine\n");
    world.sh("cp -a t0/usr/bin/a root/usr/bin/a");
    world.ok(&sync);
    assert_eq!(world.run(&sync).status, Some(2));
}
