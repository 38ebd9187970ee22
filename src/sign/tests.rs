// SPDX-License-Identifier: ISC
//! Files made with signify itself, real errata, and what neither must accept.

use std::path::Path;
use std::process::Command;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::test_data::test_data;

const NUMBER: &[u8] = b"12345678";

fn wrap(comment: &str, parts: &[&[u8]]) -> Vec<u8> {
    format!("untrusted comment: {comment}\n{}\n", Base64::encode_string(&parts.concat())).into_bytes()
}

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> Vec<u8> {
    wrap("a key", &[b"Ed", NUMBER, secret().verifying_key().as_bytes()])
}

fn signed(message: &[u8]) -> Vec<u8> {
    let signature = secret().sign(message).to_bytes();
    [wrap("verify with a.pub", &[b"Ed", NUMBER, &signature]), message.to_vec()].concat()
}

#[test]
fn keys_that_are_none() {
    let key = secret().verifying_key();
    let long = |n: usize| "c".repeat(n);
    let good = String::from_utf8(public()).unwrap();
    for (file, expect) in [
        (public(), ""),
        (wrap(&long(1023), &[b"Ed", NUMBER, key.as_bytes()]), ""),
        ([public(), b"what follows is ignored".to_vec()].concat(), ""),
        (wrap(&long(1024), &[b"Ed", NUMBER, key.as_bytes()]), "not a signify public key: its first line does not end"),
        (
            wrap("", &[b"Ed", NUMBER, key.as_bytes()]),
            "not a signify public key: it does not begin with \"untrusted comment: \" and a comment",
        ),
        (
            wrap("a\0b", &[b"Ed", NUMBER, key.as_bytes()]),
            "not a signify public key: it does not begin with \"untrusted comment: \" and a comment",
        ),
        (
            good.replace("untrusted", "trusted").into(),
            "not a signify public key: it does not begin with \"untrusted comment: \" and a comment",
        ),
        (good.trim_end().into(), "not a signify public key: its second line does not end"),
        (good.replace('\n', "\r\n").into(), "not a signify public key: its second line is not base64"),
        (good.replace("RWQ", "RW Q").into(), "not a signify public key: its second line is not base64"),
        (wrap("c", &[b"Es", NUMBER, key.as_bytes()]), "not a signify public key: it is not Ed25519"),
        (wrap("c", &[b"Ed", NUMBER, &key.as_bytes()[..31]]), "not a signify public key: its length is wrong"),
        (wrap("c", &[b"Ed", NUMBER, key.as_bytes(), b"x"]), "not a signify public key: its length is wrong"),
        (wrap("c", &[b"Ed", b"123"]), "not a signify public key: its length is wrong"),
        (wrap("c", &[b""]), "not a signify public key: it is not Ed25519"),
        (signed(b""), "not a signify public key: its length is wrong"),
        (wrap("c", &[b"Ed", NUMBER, &[0; 32]]), "it is no usable Ed25519 key"), // of small order
        (wrap("c", &[b"Ed", NUMBER, &[1; 32], b""]), ""),
        (wrap("c", &[b"Ed", NUMBER, &[2; 32]]), "it is no usable Ed25519 key"),
        (vec![b'x'; 2048], "a file of more than 2047 bytes is no key and no detached signature"),
        (Vec::new(), "not a signify public key: its first line does not end"),
    ] {
        let got = PublicKey::parse(&file).map_or_else(|e| e.to_string(), |_| String::new());
        assert_eq!(got, expect, "{}", crate::path::escape(&file));
    }
}

#[test]
fn signatures_that_do_not_hold() {
    let key = PublicKey::parse(&public()).unwrap();
    let good = signed(b"message");
    let at = |index: usize, to: u8| {
        let mut file = good.clone();
        file[index] = to;
        file
    };
    let start = good.len() - b"message".len();
    let zero = [wrap("c", &[b"Ed", NUMBER, &[0; 64]]), b"message".to_vec()].concat();
    let mut high = secret().sign(b"message").to_bytes();
    high[63] |= 0xe0; // S beyond the group's order
    for (file, expect) in [
        (good.clone(), "message"),
        (signed(b""), ""),
        (at(20, b'!'), "message"), // the comment is not signed
        (at(start, b'M'), "! its signature does not hold"),
        ([&good[..], b"\n"].concat(), "! its signature does not hold"),
        (good[..good.len() - 1].to_vec(), "! its signature does not hold"),
        (zero, "! its signature does not hold"),
        ([wrap("c", &[b"Ed", NUMBER, &high]), b"message".to_vec()].concat(), "! its signature does not hold"),
        (
            [wrap("c", &[b"Ed", b"87654321", &secret().sign(b"m").to_bytes()]), b"m".to_vec()].concat(),
            "! it is signed by key 3837363534333231, and this is key 3132333435363738",
        ),
        (public(), "! not a signify signature: its length is wrong"),
        (b"message".to_vec(), "! not a signify signature: its first line does not end"),
    ] {
        let got =
            verify_embedded(&file, &key).map_or_else(|e| format!("! {e}"), |m| String::from_utf8_lossy(m).into_owned());
        assert_eq!(got, expect, "{}", crate::path::escape(&file));
    }
    assert!(verify_detached(&good[..start], b"message", &key).is_ok());
    assert!(verify_detached(&good[..start], b"messagf", &key).is_err());
}

#[test]
fn lists() {
    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let base64 = Base64::encode_string(&[0xaa; 32]);
    for (text, name, expect) in [
        (format!("SHA256 (base.tgz) = {A}\n"), "base.tgz", Ok(true)),
        (format!("SHA256 (base.tgz) = {A}"), "base.tgz", Ok(true)),
        (format!("SHA256 (base.tgz) = {A}\nSHA256 (b) = {B}\n"), "base.tgz", Ok(true)),
        (format!("SHA256 (a) = {base64}\n"), "a", Ok(true)),
        (format!("SHA256 (a) = {}\n", A.to_uppercase()), "a", Ok(true)),
        (format!("SHA256 (a) = {A}\nSHA256 (a) = {base64}\n"), "a", Ok(true)),
        (format!("SHA256 (a b) = {A}\n"), "a b", Ok(true)),
        (format!("SHA256 (a) = {A}\n"), "./a", Ok(false)),
        (format!("SHA512 (a) = {A}{A}\n"), "a", Ok(false)),
        (format!("SHA512 (a) = {A}{A}\nSHA256 (a) = {A}\n"), "a", Ok(true)),
        (String::new(), "a", Ok(false)),
        (format!("{A}  base.tgz\n"), "base.tgz", Ok(true)),
        (format!("{A} *base.tgz\n"), "base.tgz", Ok(true)),
        (format!("{A}   blank\n"), " blank", Ok(true)),
        (format!("\\{A}  new\\nline\\\\\n"), "new\nline\\", Ok(true)),
        (format!("{A}  new\\nline\n"), "new\\nline", Ok(true)),
        (format!("\\SHA256 (new\\nline) = {A}\n"), "new\nline", Ok(true)),
        (format!("SHA256 (a) = {A}\nSHA256 (a) = {B}\n"), "a", Err("line 2 gives another digest for a")),
        (format!("{A}  a\nSHA256 (a) = {B}\n"), "a", Err("line 2 gives another digest for a")),
        (format!("SHA256 (a)b) = {A}\n"), "a)b", Err("line 1 is no line of a checksum list")),
        (format!("SHA256 (a) = {A}\n\nSHA256 (b) = {B}\n"), "a", Err("line 2 is no line of a checksum list")),
        (format!("SHA256 (a) = {A}\r\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("SHA256 (a) = {A} \n"), "a", Err("line 1 is no line of a checksum list")),
        (format!(" SHA256 (a) = {A}\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("SHA256(a)= {A}\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("SHA256 () = {A}\n"), "", Err("line 1 is no line of a checksum list")),
        (format!("MD5 (a) = {A}\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("SHA256 (a) = {}\n", &A[1..]), "a", Err("line 1 is no line of a checksum list")),
        (format!("SHA256 (a) = {}g\n", &A[1..]), "a", Err("line 1 is no line of a checksum list")),
        (format!("SHA512 (a) = {A}\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("{A} a\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("{A}\ta\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("{A}  \n"), "", Err("line 1 is no line of a checksum list")),
        (format!("{A}  a\0b\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("\\{A}  a\\tb\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("\\{A}  a\\\n"), "a", Err("line 1 is no line of a checksum list")),
        (format!("{A}  {}\n", "n".repeat(1024)), "a", Err("line 1 is no line of a checksum list")),
        ("# comment\n".into(), "a", Err("line 1 is no line of a checksum list")),
        ("\n".into(), "a", Err("line 1 is no line of a checksum list")),
    ] {
        let found = CheckList::parse(text.as_bytes()).map(|list| list.find(name.as_bytes()));
        let got = found.as_ref().map(|d| d.is_some_and(|d| d.0 == [0xaa; 32])).map_err(ToString::to_string);
        assert_eq!(got.as_ref().map_err(String::as_str), expect.as_ref().map_err(|e| *e), "{text:?}");
    }
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

#[test]
fn vectors_made_by_signify() {
    let Some(dir) = test_data("vectors") else { return };
    let file = |name: &str| read(dir.join(name));
    let plain = PublicKey::parse(&file("plain.pub")).unwrap();
    let locked = PublicKey::parse(&file("locked.pub")).unwrap();
    let message = file("msg.txt");
    assert_eq!(verify_embedded(&file("msg.embedded.sig"), &plain).unwrap(), message);
    verify_detached(&file("msg.detached.sig"), &message, &plain).unwrap();
    verify_detached(&file("msg.locked.sig"), &message, &locked).unwrap();
    assert_eq!(verify_detached(&file("msg.locked.sig"), &message, &plain).unwrap_err().kind(), ErrorKind::Unverified);
    assert!(PublicKey::parse(&file("plain.sec")).is_err());
    let signed = file("SHA256.sig");
    let list = verify_embedded(&signed, &plain).unwrap();
    assert_eq!(list, file("SHA256"));
    let list = CheckList::parse(list).unwrap();
    assert_eq!(list.len(), 2);
    for name in ["blob.bin", "msg.txt"] {
        let expect = <sha2::Sha256 as sha2::Digest>::digest(file(name));
        assert_eq!(list.find(name.as_bytes()).unwrap().0[..], expect[..]);
    }
}

#[test]
fn real_errata() {
    let Some(dir) = test_data("errata/5.8") else { return };
    let key = Path::new("/usr/share/signify-openbsd-keys/openbsd-58-base.pub");
    if !key.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", key.display());
        return eprintln!("SKIPPED: {} is missing (package signify-openbsd-keys)", key.display());
    }
    let key = PublicKey::parse(&read(key)).unwrap();
    let errata: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(errata.len() >= 6);
    for path in errata {
        let mut file = read(&path);
        let text = String::from_utf8_lossy(verify_embedded(&file, &key).unwrap()).into_owned();
        assert!(text.contains("signify -Vep /etc/signify/openbsd-58-base.pub"), "{}", path.display());
        *file.last_mut().unwrap() ^= 1;
        assert!(verify_embedded(&file, &key).is_err(), "{}", path.display());
    }
}

#[test]
fn all_public_keys_of_openbsd_are_read() {
    let Ok(keys) = std::fs::read_dir("/usr/share/signify-openbsd-keys") else {
        assert!(std::env::var_os("CI").is_none(), "signify-openbsd-keys is not installed");
        return eprintln!("SKIPPED: signify-openbsd-keys is not installed");
    };
    let keys: Vec<_> = keys.map(|e| PublicKey::parse(&read(e.unwrap().path())).unwrap().number()).collect();
    let different: std::collections::HashSet<_> = keys.iter().collect();
    assert!(keys.len() > 50 && different.len() == keys.len());
}

/// What signify signs we verify, what we sign signify verifies, and of what was tampered with both say the same.
#[test]
fn as_signify_itself() {
    let work = tempfile::tempdir().unwrap();
    let signify = |args: &[&str]| Command::new("signify-openbsd").args(args).current_dir(work.path()).output();
    if signify(&[]).is_err() {
        assert!(std::env::var_os("CI").is_none(), "signify-openbsd is not installed");
        return eprintln!("SKIPPED: signify-openbsd is not installed");
    }
    let passes = |args: &[&str]| signify(args).unwrap().status.success();
    let put = |name: &str, bytes: &[u8]| std::fs::write(work.path().join(name), bytes).unwrap();
    let get = |name: &str| read(work.path().join(name));
    assert!(passes(&["-G", "-n", "-p", "k.pub", "-s", "k.sec"]));
    let key = PublicKey::parse(&get("k.pub")).unwrap();
    let message: Vec<u8> = (0..=255).chain(0..=255).collect();
    put("m", &message);
    assert!(passes(&["-S", "-e", "-s", "k.sec", "-m", "m", "-x", "m.sig"]));
    let theirs = get("m.sig");
    assert_eq!(verify_embedded(&theirs, &key).unwrap(), message);
    for at in (0..theirs.len()).step_by(13) {
        let mut bent = theirs.clone();
        bent[at] ^= 1;
        put("bent.sig", &bent);
        let they = passes(&["-V", "-e", "-p", "k.pub", "-x", "bent.sig", "-m", "out"]);
        assert_eq!(verify_embedded(&bent, &key).is_ok(), they, "byte {at}");
    }
    put("ours.pub", &public());
    put("ours.sig", &signed(b"by us"));
    assert!(passes(&["-V", "-e", "-p", "ours.pub", "-x", "ours.sig", "-m", "out"]));
    assert_eq!(get("out"), b"by us");
    // Checksum lists: whatever we accept signify does, and finds the same file good.
    put("f", b"x");
    let good = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    for (list, both) in [
        (format!("SHA256 (f) = {good}\n"), true),
        (format!("SHA256 (f) = {good}\nSHA256 (f) = {good}\n"), true),
        (format!("SHA256 (f) = {}\n", Base64::encode_string(&hex_bytes(good))), true),
        (format!("SHA256 (f)x) = {good}\n"), false),
        (format!("SHA256 (g) = {good}\n"), false),
        (format!("MD5 (f) = {good}\n"), false),
        ("SHA256 (f)\n".to_owned(), false),
    ] {
        put("list.sig", &signed(list.as_bytes()));
        let they = passes(&["-C", "-p", "ours.pub", "-x", "list.sig", "f"]);
        let ours = CheckList::parse(list.as_bytes()).ok().and_then(|l| l.find(b"f")).map(|d| d.to_string());
        assert_eq!((ours.as_deref() == Some(good), they), (both, both), "{list}");
    }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    crate::tree::Digest::from_hex(text.as_bytes()).unwrap().0.to_vec()
}
