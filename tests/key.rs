// SPDX-License-Identifier: ISC
//! `stockade key` against signify(1) itself: what the one signs the other verifies, and both write the same bytes.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;

use common::data::test_data;
use common::{Said, World, skip};

/// Has the machine signify?
fn able() -> bool {
    let found = std::process::Command::new("signify-openbsd").output().is_ok();
    if !found {
        skip("signify-openbsd is not installed");
    }
    found
}

/// Files made by signify, and a locked key with its passphrase.
fn vectors() -> Option<PathBuf> {
    test_data("vectors")
}

/// A world with a pair of keys by each program, `ours` and `theirs`.
fn world() -> World {
    let world = World::new();
    world.ok(&["key", "generate", "ours"]);
    world.sh("signify-openbsd -G -n -p theirs.pub -s theirs.sec");
    world
}

fn write(world: &World, name: &str, bytes: &[u8]) {
    fs::write(world.path(name), bytes).unwrap();
}

fn read(world: &World, name: &str) -> Vec<u8> {
    fs::read(world.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn a_pair_of_keys_is_made_once() {
    let world = World::new();
    world.ok(&["key", "generate", "a-patch"]);
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a-patch.sec"), mode("a-patch.pub") & 0o600), (0o600, 0o600));
    let before = (read(&world, "a-patch.sec"), read(&world, "a-patch.pub"));
    world.refused(&["key", "generate", "a-patch"], &["a-patch.sec", "exists"]);
    fs::remove_file(world.path("a-patch.sec")).unwrap();
    world.refused(&["key", "generate", "a-patch"], &["a-patch.pub", "exists"]);
    assert!(!world.path("a-patch.sec").exists());
    world.ok(&["key", "generate", "b-patch"]);
    assert_ne!(before.1, read(&world, "b-patch.pub"));
    world.refused(&["key", "generate", "no/such/dir/k"], &["No such file"]);
}

#[test]
fn signatures_go_both_ways_and_are_the_same() {
    if !able() {
        return;
    }
    let world = world();
    write(&world, "m", b"a message\nof two lines\0and more");
    write(&world, "empty", b"");
    for key in ["ours", "theirs"] {
        for file in ["m", "empty"] {
            world.sh(&format!(
                "$STOCKADE key sign {file} -s {key}.sec -x a.sig
                signify-openbsd -S -s {key}.sec -m {file} -x b.sig
                cmp a.sig b.sig
                signify-openbsd -V -p {key}.pub -m {file} -x a.sig
                $STOCKADE key verify {file} -p {key}.pub -x b.sig
                $STOCKADE key sign -e {file} -s {key}.sec -x a.sig
                signify-openbsd -S -e -s {key}.sec -m {file} -x b.sig
                cmp a.sig b.sig
                signify-openbsd -V -e -p {key}.pub -x a.sig -m a.out
                $STOCKADE key verify -e b.sig -p {key}.pub -m b.out
                cmp a.out {file} && cmp b.out {file}"
            ));
        }
    }
    world.sh("$STOCKADE key sign m -s ours.sec && $STOCKADE key verify m -p ours.pub");
    world.refused(&["key", "verify", "m", "-p", "theirs.pub"], &["m.sig", "signed by key"]);
    world.refused(&["key", "verify", "empty", "-p", "ours.pub", "-x", "m.sig"], &["does not hold"]);
    world.refused(&["key", "verify", "-e", "m", "-p", "ours.pub", "-m", "never"], &["not a signify signature"]);
    assert!(!world.path("never").exists());
}

/// Every kind of gzip file: what the header has, several members, and what ends with a whole block.
#[test]
fn signed_gzip_files() {
    if !able() {
        return;
    }
    let world = world();
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let body: Vec<u8> = (0..300_000).map(|_| noise()).collect();
    write(&world, "body", &body);
    world.sh("gzip -nc body > plain.gz
        gzip -c body > named.gz
        (gzip -nc body; gzip -nc body) > members.gz
        printf '' | gzip -nc > empty.gz
        python3 - <<'END'
import gzip, io
header = bytes([0x1f, 0x8b, 8, 8 | 16, 1, 2, 3, 4, 2, 255]) + b'name\\0a comment\\0'
open('both.gz', 'wb').write(header + open('plain.gz', 'rb').read()[10:])
# Stored blocks: as long as we like.
import zlib, struct, os
def stored(length):
    body = os.urandom(length)
    out, at = b'', 0
    while at < length:
        part = body[at:at + 65535]; at += len(part)
        out += bytes([at == length]) + struct.pack('<HH', len(part), len(part) ^ 0xffff) + part
    return out + struct.pack('<II', zlib.crc32(body), length)
for blocks in (1, 2):
    length = blocks * 65536 - 8 - 5 * blocks
    while len(stored(length)) != blocks * 65536: length += blocks * 65536 - len(stored(length))
    open(f'whole{blocks}.gz', 'wb').write(bytes([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]) + stored(length))
END");
    for name in ["plain", "named", "members", "empty", "both", "whole1", "whole2"] {
        // signify cannot verify its own signature of whole blocks: ours differs there, by an empty member at the end.
        let same = if name.starts_with("whole") { "! cmp -s" } else { "cmp" };
        world.sh(&format!(
            "$STOCKADE key sign -z -n {name}.gz -s \"$PWD/ours.sec\" -x a.gz
            signify-openbsd -S -z -n -s \"$PWD/ours.sec\" -m {name}.gz -x b.gz
            {same} a.gz b.gz
            grep -aq '^key=/.*ours.sec$' a.gz && grep -aq '^date=1970-01-01T00:00:00Z$' a.gz
            signify-openbsd -V -z -p ours.pub -x a.gz -m a.out
            $STOCKADE key verify -z b.gz -p ours.pub -m b.out
            $STOCKADE key verify -z a.gz -p ours.pub
            gzip -dc {name}.gz > want
            for file in a.gz b.gz a.out b.out; do gzip -dc $file | cmp - want; done
            $STOCKADE key sign -z {name}.gz -s theirs.sec -x c.gz
            grep -aq \"^date=$(date -u +%Y-%m-%dT)\" c.gz
            signify-openbsd -V -z -p theirs.pub -x c.gz -m a.out"
        ));
    }
    if let Some(dir) = vectors() {
        let (signed, public) = (dir.join("exact.signed.tgz"), dir.join("plain.pub"));
        let public =
            if world.run(&["key", "verify", "-z", signed.to_str().unwrap(), "-p", public.to_str().unwrap()]).status
                == Some(0)
            {
                public
            } else {
                dir.join("plain-pkg.pub")
            };
        for name in ["exact.signed.tgz", "signed.tgz"] {
            world.ok(&["key", "verify", "-z", dir.join(name).to_str().unwrap(), "-p", public.to_str().unwrap()]);
        }
    }
    // What was touched has no output, whichever block it is.
    world.sh("$STOCKADE key sign -z members.gz -s ours.sec -x good.gz");
    let good = read(&world, "good.gz");
    for at in [155, 400, good.len() - 400_000, good.len() - 1] {
        let mut bent = good.clone();
        bent[at] ^= 1;
        write(&world, "bent.gz", &bent);
        world.refused(&["key", "verify", "-z", "bent.gz", "-p", "ours.pub", "-m", "never"], &["bent.gz"]);
    }
    for (name, bytes) in [
        ("cut.gz", &good[..good.len() - 70_000]),
        ("none.gz", b"text, and no gzip at all"),
        ("bare.gz", &read(&world, "plain.gz")),
    ] {
        write(&world, name, bytes);
        world.refused(&["key", "verify", "-z", name, "-p", "ours.pub", "-m", "never"], &[name]);
    }
    assert!(!world.path("never").exists());
    world.refused(&["key", "sign", "-z", "none.gz", "-s", "ours.sec", "-x", "never"], &["no gzip file"]);
    assert!(!world.path("never").exists());
}

#[test]
fn checksum_lists() {
    if !able() {
        return;
    }
    let world = world();
    write(&world, "a", b"one");
    write(&world, "b c", b"two");
    world.sh(
        "for f in a 'b c'; do printf 'SHA256 (%s) = %s\\n' \"$f\" \"$(sha256sum < \"$f\" | cut -c1-64)\"; done > SHA256
        $STOCKADE key sign -e SHA256 -s ours.sec -x SHA256.sig
        signify-openbsd -C -p ours.pub -x SHA256.sig",
    );
    assert_eq!(world.ok(&["key", "verify", "-C", "SHA256.sig", "-p", "ours.pub"]), "a: OK\nb c: OK\n");
    assert_eq!(world.ok(&["key", "verify", "-C", "SHA256.sig", "b c", "-p", "ours.pub"]), "b c: OK\n");
    write(&world, "a", b"other");
    let said = world.run(&["key", "verify", "-C", "SHA256.sig", "-p", "ours.pub"]);
    assert_eq!((said.status, said.out.as_str()), (Some(1), "a: FAIL\nb c: OK\n"));
    world.refused(&["key", "verify", "-C", "SHA256.sig", "unknown", "-p", "ours.pub"], &["1 of 1 files"]);
    world.refused(&["key", "verify", "-C", "SHA256.sig", "-p", "theirs.pub"], &["SHA256.sig"]);
    // A file with no digest that we compare must not pass unseen.
    world.sh("printf 'SHA512 (a) = %s\\n' $(sha512sum < a | cut -c1-128) > S && $STOCKADE key sign -e S -s ours.sec -x S.sig");
    world.refused(&["key", "verify", "-C", "S.sig", "-p", "ours.pub"], &["1 of 1 files"]);
}

/// Runs the program with this on its standard input.
fn with_input(world: &World, arguments: &[&str], input: &[u8]) -> Said {
    let mut child =
        world.stockade(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Said::of(child.wait_with_output().unwrap())
}

#[test]
fn locked_keys() {
    if !able() {
        return;
    }
    let world = World::new();
    write(&world, "m", b"message");
    write(&world, "words", b"correct horse\nnot this line\n");
    world.ok(&["key", "generate", "ours", "--passphrase", "--passphrase-file", "words"]);
    world.sh("printf 'correct horse\\n' | signify-openbsd -S -s ours.sec -m m -x b.sig");
    world.ok(&["key", "sign", "m", "-s", "ours.sec", "--passphrase-file", "words"]);
    assert_eq!(read(&world, "m.sig"), read(&world, "b.sig"));
    let good = with_input(&world, &["key", "sign", "m", "-s", "ours.sec", "--passphrase-file", "-"], b"correct horse");
    assert_eq!(good.status, Some(0), "{}", good.err);
    for input in [&b"correct horse "[..], b"", b"\n"] {
        let bad =
            with_input(&world, &["key", "sign", "m", "-s", "ours.sec", "-x", "never", "--passphrase-file", "-"], input);
        assert!(bad.status == Some(1) && bad.err.contains("passphrase"), "{}", bad.err);
    }
    assert!(!world.path("never").exists());
    let empty = with_input(&world, &["key", "generate", "k", "--passphrase", "--passphrase-file", "-"], b"");
    assert!(empty.status == Some(1) && !world.path("k.sec").exists());
    if let Some(dir) = vectors() {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        fs::copy(path("locked.sec"), world.path("locked.sec")).unwrap();
        fs::copy(path("msg.txt"), world.path("msg.txt")).unwrap();
        fs::set_permissions(world.path("locked.sec"), PermissionsExt::from_mode(0o644)).unwrap();
        let said =
            world.run(&["key", "sign", "msg.txt", "-s", "locked.sec", "--passphrase-file", &path("locked.passphrase")]);
        assert_eq!(said.status, Some(0), "{}", said.err);
        assert!(said.err.contains("others can read"), "{}", said.err);
        assert_eq!(read(&world, "msg.txt.sig"), fs::read(path("msg.locked.sig")).unwrap());
    }
}

/// On a terminal nothing of the passphrase is shown, and Ctrl-C leaves the terminal as it was.
#[test]
fn a_passphrase_is_typed_unseen() {
    if !common::able(&["python3"]) {
        return;
    }
    let world = World::new();
    write(&world, "m", b"message");
    write(&world, "words", b"correct horse\n");
    world.ok(&["key", "generate", "k", "--passphrase", "--passphrase-file", "words"]);
    let script = r#"
import os, pty, sys, termios, signal
def type(text):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(os.environ["STOCKADE"], ["stockade", "key", "sign", "m", "-s", "k.sec"])
    seen = b""
    while b"k.sec: " not in seen:
        seen += os.read(fd, 1000)
    while termios.tcgetattr(fd)[3] & termios.ECHO: pass
    os.write(fd, text)
    try:
        while True:
            more = os.read(fd, 1000)
            if not more: break
            seen += more
    except OSError:
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen
status, seen = type(b"correct horse\n")
assert status == 0 and b"horse" not in seen, (status, seen)
status, seen = type(b"wrong horse\n")
assert status == 1 and b"the passphrase is wrong" in seen and b"horse" not in seen, (status, seen)
status, seen = type(b"corr\x03")
assert status == 1 and b"no passphrase was given" in seen and b"corr" not in seen, (status, seen)
# The terminal is as it was: a shell that starts the program and looks at it afterwards.
pid, fd = pty.fork()
if pid == 0:
    os.execv("/bin/sh", ["sh", "-c", "stty -a > before; $STOCKADE key sign m -s k.sec; stty -a > after"])
seen = b""
while b"k.sec: " not in seen:
    seen += os.read(fd, 1000)
while termios.tcgetattr(fd)[3] & termios.ECHO: pass
os.write(fd, b"\x03")
try:
    while os.read(fd, 1000): pass
except OSError:
    pass
os.waitpid(pid, 0)
assert open("before").read() == open("after").read()
"#;
    write(&world, "type.py", script.as_bytes());
    world.sh("python3 type.py");
}
