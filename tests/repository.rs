// SPDX-License-Identifier: ISC
//! Repositories: published, served over HTTP on loopback, fetched; and what a hostile mirror does.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use common::{Said, World, able};

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
    /// From where it is asked to begin.
    Ranged,
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
    /// The files that were asked for, and from where on.
    asked: Arc<Mutex<Vec<(String, usize)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `dir`; files whose names end in `which` in this manner.
    fn new(dir: PathBuf, which: &'static str, manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A client that goes away is what some of these tests want.
                let _ = answer(stream.unwrap(), &dir, (which, manner), &noted);
            }
        });
        Server { url: format!("http://127.0.0.1:{port}/"), stop, port, asked, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(
    mut stream: TcpStream,
    dir: &Path,
    (which, manner): (&str, Manner),
    asked: &Mutex<Vec<(String, usize)>>,
) -> std::io::Result<()> {
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
    let start = text
        .to_lowercase()
        .split_once("range: bytes=")
        .map_or(0, |(_, from)| from.split('-').next().unwrap().parse().unwrap());
    asked.lock().unwrap().push((name.clone(), start));
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
        (Manner::Ranged, Some(body)) if start >= body.len() && start > 0 => {
            stream.write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
        }
        (Manner::Ranged, Some(body)) if start > 0 => {
            let (all, rest) = (body.len(), &body[start..]);
            write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{all}\r\n", all - 1)?;
            write!(stream, "Content-Length: {}\r\n\r\n", rest.len())?;
            stream.write_all(rest)
        }
        (Manner::Honest | Manner::Ranged, Some(body)) => {
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
    // The beginning of a file is kept for the next time, and counts for nothing.
    entries.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with(".part-"));
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
    let dateless = [&sync[..], &["--max-age", "0", "--layout", "syspatch"]].concat();
    world.refused(&dateless, &["does not say when", "leave out --max-age"]);
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

/// What is cut off goes on from there, if the server can do that; whatever there was, only the whole file counts.
#[test]
fn a_cut_download_goes_on() {
    if !able(&[]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "publish", "repo", "one.tgz", "-s", "k-patch.sec"]);
    let size = usize::try_from(fs::metadata(world.path("one.tgz")).unwrap().len()).unwrap();
    let sync = |url: &str| world.run(&["patch", "sync", url, "--key", "k-patch.pub", "--root", "./root"]);
    let parts = || world.sh("ls -A home/patches | grep -c '^.part-' || true");
    let whole = vec![b'x'; size];
    // What is there before, how it is served, where it is asked for to begin.
    for (part, manner, starts) in [
        (None, Manner::Ranged, &[size / 2][..]),
        (None, Manner::Honest, &[size / 2]),
        (Some(&whole[..9]), Manner::Ranged, &[9, 0]),
        (Some(&whole[..9]), Manner::Honest, &[9, 0]),
        (Some(&whole[..]), Manner::Ranged, &[size, 0]),
    ] {
        let cut = Server::new(world.path("repo"), "one.tgz", Manner::CutShort);
        assert_eq!(sync(&cut.url).status, Some(1));
        assert_eq!(parts(), "1\n");
        if let Some(part) = part {
            let name = world.sh("ls -A home/patches | grep '^.part-'");
            fs::write(world.path("home/patches").join(name.trim()), part).unwrap();
        }
        let server = Server::new(world.path("repo"), "one.tgz", manner);
        let said = sync(&server.url);
        assert_eq!((said.status, said.out.as_str()), (Some(0), "fetched one\n"), "{said:?}");
        let asked = server.asked.lock().unwrap();
        let asked: Vec<usize> = asked.iter().filter(|(name, _)| name == "one.tgz").map(|(_, from)| *from).collect();
        assert_eq!(asked, starts);
        assert_eq!(parts(), "0\n");
        world.sh("cmp one.tgz home/patches/one.tgz; rm home/patches/one.tgz");
    }
}

/// The user says whose servers are trusted, as to curl.
#[test]
fn certificates_of_ones_own() {
    if !able(&["openssl", "python3"]) {
        return;
    }
    let world = world();
    world.ok(&["patch", "publish", "repo", "one.tgz", "-s", "k-patch.sec"]);
    world.sh(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca 2>/dev/null
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.csr -subj /CN=own 2>/dev/null
        printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > own.ext
        openssl x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile own.ext -out own.pem 2>/dev/null
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout x.key -out other.pem -subj /CN=x 2>/dev/null
        mkfifo port; echo none > empty.pem; chmod 600 ca.pem",
    );
    let script = "import http.server, ssl, os
os.chdir('repo')
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('../own.pem', '../own.key')
server.socket = context.wrap_socket(server.socket, server_side=True)
open('../port', 'w').write(str(server.server_port))
server.serve_forever()";
    let mut server = std::process::Command::new("python3");
    let server = server.args(["-c", script]).current_dir(world.path("")).stderr(std::process::Stdio::null());
    let mut server = server.spawn().unwrap();
    let port = fs::read_to_string(world.path("port")).unwrap();
    let sync = |name: &str, file: &str| {
        let url = format!("https://127.0.0.1:{port}/");
        let mut command = world.stockade(&["patch", "sync", &url, "--key", "k-patch.pub", "--root", "./root"]);
        Said::of(command.env_remove("SSL_CERT_FILE").env_remove("CURL_CA_BUNDLE").env(name, file).output().unwrap())
    };
    let said = [
        sync("SSL_CERT_FILE", ""),
        sync("SSL_CERT_FILE", "other.pem"),
        sync("SSL_CERT_FILE", "empty.pem"),
        sync("SSL_CERT_FILE", "nowhere.pem"),
        sync("CURL_CA_BUNDLE", "ca.pem"),
        sync("SSL_CERT_FILE", "ca.pem"),
    ];
    server.kill().unwrap();
    server.wait().unwrap();
    for (said, words) in said.iter().zip(["certificate", "certificate", "holds no certificate", "nowhere.pem"]) {
        assert!(said.status == Some(1) && said.err.contains(words), "{said:?}");
    }
    assert_eq!((said[4].out.as_str(), said[5].out.as_str()), ("fetched one\n", "there one\n"), "{said:?}");
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
    world.sh("echo mine > root/usr/bin/a; $STOCKADE patch diff t0 t1 --name far --arch vax -s k-patch.sec
        $STOCKADE patch publish far-repo far.tgz -s k-patch.sec");
    let said = world.run(&["patch", "sync", "far-repo", "--key", "k-patch.pub", "--root", "./root", "--apply"]);
    assert!(said.status == Some(2) && said.err.contains("none of the patches there is for"), "{said:?}");
    world.sh("rm -r home/patches");
    world.refused(&["patch", "sync", "ftp://x/", "--key", "k-patch.pub", "--root", "./root"], &["neither http nor"]);
    let sync = ["patch", "sync", "repo", "--key", "k-patch.pub", "--root", "./root", "--apply"];
    let said = world.run(&sync);
    assert!(said.status == Some(1) && said.out.contains("conflict: usr/bin/a"), "{said:?}");
    assert_eq!(fs::read_to_string(world.path("root/usr/bin/a")).unwrap(), "mine\n");
    world.sh("cp -a t0/usr/bin/a root/usr/bin/a");
    world.ok(&sync);
    assert_eq!(world.run(&sync).status, Some(2));
}

/// A patch that only a newer program reads follows one that brings it; that is started once, with the same words.
#[test]
fn the_new_program_goes_on() {
    if !able(&["strip", "signify-openbsd"]) {
        return;
    }
    let world = World::new();
    // The one that runs is in the root. What replaces it notes that it was called, and calls the old one again.
    world.write("new", "#!/bin/sh\necho \"$STOCKADE_RENEWED $*\" >> ${0%/root/*}/calls\n${0%/root/*}/old \"$@\"\n");
    world.sh(
        "umask 022
        strip -o old $STOCKADE; mkdir -p t0/bin; cp -p old t0/bin/stockade; cp -a t0 t1; cp new t1/bin/stockade; chmod 755 t1/bin/stockade
        cp -a t1 t2; echo later > t2/bin/later; cp -a t0 root; $STOCKADE key generate k-patch
        $STOCKADE patch diff t0 t1 --name one --series s --number 1 -s k-patch.sec
        $STOCKADE patch diff t1 t2 --name two --series s --number 2 -s k-patch.sec
        $STOCKADE patch publish repo one.tgz two.tgz -s k-patch.sec
        # As a later stockade makes it.
        gzip -dc repo/two.tgz > two.tar
        sed -i 's/stockade patch 1$/stockade patch 2/' two.tar; gzip -nc two.tar > two.gz
        rm repo/two.tgz; $STOCKADE key sign -z two.gz -s k-patch.sec -x repo/two.tgz
        sum=$(sha256sum < repo/two.tgz | cut -d' ' -f1); size=$(stat -c %s repo/two.tgz)
        sed -i \"s/^patch two size=[0-9]* sha256=[0-9a-f]*/patch two size=$size sha256=$sum/\" repo/INDEX
        cd repo; sha256sum --tag INDEX *.tgz > list; signify-openbsd -S -e -s ../k-patch.sec -m list -x SHA256.sig; rm list",
    );
    let sync = ["patch", "sync", "repo", "--key", "k-patch.pub", "--root", "./root", "--apply"];
    let mut command = std::process::Command::new(world.path("root/bin/stockade"));
    world.settle(command.args(sync));
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.out.contains("one: applied") && said.err.contains("newer than this program"), "{said:?}");
    assert_eq!(fs::read_to_string(world.path("calls")).unwrap(), format!("1 {}\n", sync.join(" ")));
    assert!(!world.path("root/bin/later").exists());
    // Nothing replaced the one that runs now.
    world.refused(&sync, &["update stockade first"]);
}
