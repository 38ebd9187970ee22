// SPDX-License-Identifier: ISC
//! Extended headers: the records of pax(1), with what GNU tar, star and libarchive added to them.
#![forbid(unsafe_code)]

use base64ct::{Base64Unpadded, Encoding};

use super::{Limits, acl, bad, refused, sparse};
use crate::error::Result;
use crate::path::escape;
use crate::tree::{Time, Xattrs};

/// The longest name of an attribute (XATTR_NAME_MAX).
const MAX_ATTRIBUTE_NAME: usize = 255;

/// What an extended header says of the entry that follows it.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: sparse::Keys,
}

/// The records `LENGTH KEY=VALUE\n`, where LENGTH counts all of the record.
fn records(mut data: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let Some((key, value, rest)) = record(data) else {
            data = &[];
            return Some(Err(bad("a record of its extended header is malformed")));
        };
        data = rest;
        Some(Ok((key, value)))
    })
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&data[..blank])?).ok()?;
    let body = data.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=').filter(|&at| at > 0)?;
    Some((&body[..equals], &body[equals + 1..], &data[length..]))
}

/// Checks a global header: only what changes nothing of the entries may be in it, because readers differ on the rest.
pub(super) fn check_global(data: &[u8]) -> Result<()> {
    for record in records(data) {
        let (key, _) = record?;
        if !matches!(key, b"comment" | b"hdrcharset" | b"charset" | b"uname" | b"gname" | b"atime" | b"ctime") {
            return Err(refused(format!("a global header sets {} for all entries", escape(key))));
        }
    }
    Ok(())
}

/// Reads the extended header of one entry.
pub(super) fn parse(data: &[u8], limits: &Limits) -> Result<Extended> {
    let mut out = Extended::default();
    let mut acls: Vec<(&[u8], &[u8])> = Vec::new();
    for record in records(data) {
        let (key, value) = record?;
        match key {
            b"path" => once(&mut out.path, key, Some(value.to_vec()))?,
            b"linkpath" => once(&mut out.link, key, Some(value.to_vec()))?,
            b"size" => once(&mut out.size, key, decimal(value))?,
            b"uid" => once(&mut out.uid, key, decimal(value).and_then(|n| n.try_into().ok()))?,
            b"gid" => once(&mut out.gid, key, decimal(value).and_then(|n| n.try_into().ok()))?,
            b"mtime" => once(&mut out.mtime, key, time(value))?,
            b"SCHILY.devmajor" => once(&mut out.major, key, decimal(value).and_then(|n| n.try_into().ok()))?,
            b"SCHILY.devminor" => once(&mut out.minor, key, decimal(value).and_then(|n| n.try_into().ok()))?,
            b"SCHILY.acl.access" => acls.push((b"system.posix_acl_access", value)),
            b"SCHILY.acl.default" => acls.push((b"system.posix_acl_default", value)),
            b"RHT.security.selinux" => {
                attribute(&mut out.xattrs, b"security.selinux", &[value, b"\0"].concat(), limits)?
            }
            b"SCHILY.acl.ace" => return Err(refused("it has an NFSv4 access list, which cannot be kept")),
            b"SCHILY.realsize" => return Err(refused("it is sparse in star's own way, which is not supported")),
            _ if key.starts_with(b"GNU.dumpdir") || key.starts_with(b"GNU.volume") => {
                return Err(refused("it is part of an incremental or multi-volume archive"));
            }
            _ if key.starts_with(b"GNU.sparse.") => out.sparse.key(&key[b"GNU.sparse.".len()..], value, limits)?,
            _ => extra(&mut out.xattrs, key, value, limits)?,
        }
    }
    for (name, text) in acls {
        add_acl(&mut out.xattrs, name, text)?;
    }
    out.xattrs.sort();
    Ok(out)
}

/// A key that counts may come once: readers differ on which of two they believe.
fn once<T>(slot: &mut Option<T>, key: &[u8], value: Option<T>) -> Result<()> {
    let value = value.ok_or_else(|| bad(format!("its extended header has no usable {}", escape(key))))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(refused(format!("its extended header has {} twice", escape(key)))),
    }
}

/// Attributes, as GNU tar and star write them (raw bytes; `%` and `=` of the name escaped) and as libarchive does
/// (name URL-encoded, value in base64). Other keys are of no concern, as POSIX asks.
fn extra(xattrs: &mut Xattrs, key: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        return attribute(xattrs, &unescape(name, |byte| byte == b'%' || byte == b'='), value, limits);
    }
    if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
        let text = std::str::from_utf8(value.trim_ascii_end()).ok();
        let bytes = text.and_then(|t| Base64Unpadded::decode_vec(t.trim_end_matches('=')).ok());
        let bytes = bytes.ok_or_else(|| bad(format!("its attribute {} is not base64", escape(name))))?;
        return attribute(xattrs, &unescape(name, |_| true), &bytes, limits);
    }
    Ok(())
}

fn attribute(xattrs: &mut Xattrs, name: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
    if name.is_empty() || name.len() > MAX_ATTRIBUTE_NAME || name.contains(&0) {
        return Err(bad(format!("{:?} is no name of an attribute", escape(name))));
    }
    if value.len() > limits.xattr {
        return Err(bad(format!("its attribute {} has more than {} bytes", escape(name), limits.xattr)));
    }
    match xattrs.iter().find(|(known, _)| **known == *name) {
        None => xattrs.push((name.into(), value.into())),
        Some((_, known)) if **known == *value => {} // libarchive writes both forms
        Some(_) => return Err(bad(format!("its attribute {} has two values", escape(name)))),
    }
    Ok(())
}

/// Takes an ACL from its text, unless the archive has the kernel's own form of it too, which needs no interpreting.
fn add_acl(xattrs: &mut Xattrs, name: &[u8], text: &[u8]) -> Result<()> {
    if xattrs.iter().any(|(known, _)| **known == *name) {
        return Ok(());
    }
    let acl = acl::parse(text)?;
    // Three entries are what the mode says already, and a kernel stores no such access list.
    if !(acl.is_minimal() && name.ends_with(b"access")) {
        xattrs.push((name.into(), acl.to_xattr().into()));
    }
    Ok(())
}

/// Undoes `%XX` for the bytes that `known` says are escaped so.
fn unescape(text: &[u8], known: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|&c| char::from(c).to_digit(16));
        let code = digit(0).zip(digit(1)).and_then(|(a, b)| u8::try_from(a << 4 | b).ok());
        (rest, _) = match code.filter(|&code| byte == b'%' && known(code)) {
            Some(code) => (&tail[2..], out.push(code)),
            None => (tail, out.push(byte)),
        };
    }
    out
}

/// Decimal digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, &c| match c {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(c - b'0')),
        _ => None,
    })
}

/// `[-]SECONDS[.FRACTION]`, a plain decimal number: -1.5 is half a second before -1. Digits beyond the ninth are cut.
///
/// libarchive writes -2.5 for that same moment, which cannot be told from the real -2.5: POSIX and GNU tar are followed.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b"0"[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sec = i64::try_from(decimal(whole)?).ok()?;
    let nsec = (0..9).fold(0, |n, at| n * 10 + u32::from(fraction.get(at).map_or(0, |c| c - b'0')));
    Some(match (negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec: 0 },
        (true, _) => Time { sec: -sec - 1, nsec: 1_000_000_000 - nsec },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records with their lengths.
    fn pax(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            let body = key.len() + value.len() + 3;
            let length = (1..10).map(|digits| body + digits).find(|n| body + n.to_string().len() == *n).unwrap();
            out.extend_from_slice(format!("{length} {key}=").as_bytes());
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn times() {
        let of = |sec, nsec| Some(Time { sec, nsec });
        for (text, expect) in [
            ("0", of(0, 0)),
            ("1.5", of(1, 500_000_000)),
            ("1.", of(1, 0)),
            ("1700000000.123456789", of(1_700_000_000, 123_456_789)),
            ("1.1234567891", of(1, 123_456_789)),
            ("-1", of(-1, 0)),
            ("-0.5", of(-1, 500_000_000)),
            ("-1.5", of(-2, 500_000_000)),
            ("-1.000000001", of(-2, 999_999_999)),
            ("9223372036854775807", of(i64::MAX, 0)),
            ("9223372036854775808", None),
            ("", None),
            (".5", None),
            ("--1", None),
            ("1e3", None),
            ("1.5x", None),
            (" 1", None),
        ] {
            assert_eq!(time(text.as_bytes()), expect, "{text:?}");
        }
    }

    #[test]
    fn malformed_headers() {
        let limits = Limits { xattr: 8, ..Limits::default() };
        for (data, expect) in [
            (&b"11 path=ab\n"[..], ""),
            (b"12 path=ab\n", "a record of its extended header is malformed"),
            (b"10 path=ab\n", "a record of its extended header is malformed"),
            (b"path=ab\n", "a record of its extended header is malformed"),
            (b"-1 path=ab\n", "a record of its extended header is malformed"),
            (b"0 path=ab\n", "a record of its extended header is malformed"),
            (b"2 path=ab\n", "a record of its extended header is malformed"),
            (b"18446744073709551616 a=b\n", "a record of its extended header is malformed"),
            (b"6 =ab\n\n", "a record of its extended header is malformed"),
            (b"9 pathab\n", "a record of its extended header is malformed"),
            (b"11 path=ab\nrubbish", "a record of its extended header is malformed"),
            (b"11 path=ab\n11 path=ab\n", "its extended header has path twice"),
            (b"10 size=-\n", "its extended header has no usable size"),
            (b"8 size=\n", "its extended header has no usable size"),
            (b"18 uid=4294967296\n", "its extended header has no usable uid"),
            (b"18 SCHILY.xattr.=\n", "\"\" is no name of an attribute"),
            (b"29 SCHILY.xattr.a=123456789\n", "a record of its extended header is malformed"),
            (b"28 SCHILY.xattr.a=123456789\n", "its attribute a has more than 8 bytes"),
            (b"20 SCHILY.xattr.a=1\n20 SCHILY.xattr.a=2\n", "its attribute a has two values"),
            (b"24 LIBARCHIVE.xattr.a=!\n", "its attribute a is not base64"),
            (b"23 SCHILY.acl.ace=user\n", "it has an NFSv4 access list, which cannot be kept"),
        ] {
            let error = parse(data, &limits).map_or_else(|e| e.to_string(), |_| String::new());
            assert_eq!(error, expect, "{}", escape(data));
        }
    }

    #[test]
    fn attributes_in_both_spellings() {
        let data = pax(&[
            ("SCHILY.xattr.user.a%3Db%25%41", b"\0\n=\xff"),
            ("LIBARCHIVE.xattr.user.x%20y", b"AAr/"),
            ("LIBARCHIVE.xattr.user.z", b"YQ"),
            ("SCHILY.xattr.user.z", b"a"),
            ("RHT.security.selinux", b"label"),
            ("SCHILY.acl.access", b"user::rwx,group::r-x,other::r-x"),
            ("SCHILY.acl.default", b"user::rwx,group::r-x,other::---"),
            ("vendor.key", b"ignored"),
        ]);
        let got = parse(&data, &Limits::default()).unwrap().xattrs;
        let got: Vec<_> = got.iter().map(|(n, v)| (escape(n), v.len(), v[0])).collect();
        let of = |name: &str, length, first| (name.to_owned(), length, first);
        let expect = [
            of("security.selinux", 6, b'l'),
            of("system.posix_acl_default", 28, 2),
            of("user.a=b%%41", 4, 0),
            of("user.x y", 3, 0),
            of("user.z", 1, b'a'),
        ];
        assert_eq!(got, expect);
    }

    #[test]
    fn global_headers_may_only_comment() {
        assert!(check_global(&pax(&[("comment", b"5f0c"), ("hdrcharset", b"BINARY")])).is_ok());
        let error = check_global(&pax(&[("path", b"a")])).unwrap_err();
        assert_eq!(error.to_string(), "a global header sets path for all entries");
    }
}
