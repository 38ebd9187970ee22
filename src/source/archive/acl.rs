// SPDX-License-Identifier: ISC
//! POSIX access lists: from the text that star, GNU tar and libarchive put into archives to the kernel's bytes.
#![forbid(unsafe_code)]

use super::{bad, refused};
use crate::error::Result;
use crate::path::escape;

/// Entries of one list; the kernel's attribute could hold 8,191.
const MAX_ENTRIES: usize = 8191;
/// The version of the attribute's layout (linux/posix_acl_xattr.h).
const VERSION: u32 = 2;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Tag, id, permissions; sorted as the kernel wants them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<(u16, u32, u16)>);

/// Reads entries `tag:[qualifier]:rwx[:id]`, separated by commas or newlines.
pub(super) fn parse(text: &[u8]) -> Result<Acl> {
    let mut entries = Vec::new();
    for line in text.split(|&b| b == b',' || b == b'\n').map(<[u8]>::trim_ascii) {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return Err(bad("its access list is too long"));
        }
        entries.push(entry(line)?);
    }
    entries.sort_unstable();
    let has = |tag| entries.iter().filter(|e| e.0 == tag).count();
    let named = has(USER) + has(GROUP) > 0;
    let whole =
        has(USER_OBJ) == 1 && has(GROUP_OBJ) == 1 && has(OTHER) == 1 && (has(MASK) == 1 || !named && has(MASK) == 0);
    let repeated = entries.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1);
    if !whole || repeated {
        return Err(bad(format!("its access list is not valid: {}", escape(text))));
    }
    Ok(Acl(entries))
}

fn entry(line: &[u8]) -> Result<(u16, u32, u16)> {
    let broken = || bad(format!("its access list has a bad entry: {}", escape(line)));
    let parts: Vec<&[u8]> = line.split(|&b| b == b':').collect();
    // Solaris and libarchive leave out the empty qualifier of mask and other.
    let (tag, name, permissions, id) = match parts[..] {
        [tag, name, permissions] => (tag, name, permissions, None),
        [tag @ (b"mask" | b"other"), permissions] => (tag, &b""[..], permissions, None),
        [tag, name, permissions, id] => (tag, name, permissions, Some(id)),
        _ => return Err(broken()),
    };
    let tag = match (tag, name.is_empty()) {
        (b"user" | b"u", true) => USER_OBJ,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => GROUP_OBJ,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err(broken()),
    };
    let mut bits = 0;
    for (at, &c) in permissions.iter().enumerate() {
        match b"rwx".iter().position(|&known| known == c) {
            Some(bit) if bit == at => bits |= 4 >> bit,
            None if c == b'-' && at < 3 => {}
            _ => return Err(broken()),
        }
    }
    if permissions.len() != 3 {
        return Err(broken());
    }
    if tag != USER && tag != GROUP {
        return Ok((tag, NO_ID, bits));
    }
    let number = |text: &[u8]| super::pax::decimal(text).and_then(|n| u32::try_from(n).ok()).filter(|&n| n != NO_ID);
    match id.map_or_else(|| number(name), number) {
        Some(id) => Ok((tag, id, bits)),
        None => Err(refused(format!("its access list names {} without a number", escape(name)))
            .hint("pack it with tar's --numeric-owner, or with --xattrs-include='*'")),
    }
}

impl Acl {
    /// Does it say no more than a mode does?
    pub(super) fn is_minimal(&self) -> bool {
        self.0.len() == 3
    }

    /// The value of `system.posix_acl_access` or `..._default`, little endian on every machine.
    pub(super) fn to_xattr(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, id, bits) in &self.0 {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&bits.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }
}

/// The permission bits that a file with the access list `xattr` has: its group's are those of the mask. None if it is
/// no access list.
pub(super) fn mode_bits(xattr: &[u8]) -> Option<u16> {
    let (version, entries) = xattr.split_first_chunk()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let half = |entry: &[u8], at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    let bits = |tag| entries.chunks_exact(8).find(|entry| half(entry, 0) == tag).map(|entry| half(entry, 2) & 7);
    Some(bits(USER_OBJ)? << 6 | bits(MASK).or_else(|| bits(GROUP_OBJ))? << 3 | bits(OTHER)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        const BASE: &str = "user::rwx,group::r-x,other::---";
        for (text, expect) in [
            (BASE.to_owned(), Ok(3)),
            ("user::rwx\ngroup::r-x\nmask::r-x\nother::---\nuser:1000:rw-\n".into(), Ok(5)),
            ("user::rwx,group::r-x,group:adm:r--:4,mask:rwx,other:---".into(), Ok(5)),
            ("user::rwx,user:7:rwx\t#effective:r-x\ngroup::r-x,mask::r-x,other::---".into(), Ok(5)),
            (format!("{BASE},user:7:rwx"), Err("its access list is not valid")),
            (format!("{BASE},mask::rwx,user:7:rwx,user:7:r--"), Err("its access list is not valid")),
            (format!("{BASE},{BASE}"), Err("its access list is not valid")),
            (format!("{BASE},mask::rwx,user:adm:rwx"), Err("its access list names adm without a number")),
            (format!("{BASE},mask::rwx,user:adm:rwx:4294967295"), Err("its access list names adm without a number")),
            (format!("{BASE},mask::rw"), Err("its access list has a bad entry: mask::rw")),
            (format!("{BASE},mask::xwr"), Err("its access list has a bad entry: mask::xwr")),
            (format!("{BASE},mask::rwxx"), Err("its access list has a bad entry: mask::rwxx")),
            (format!("{BASE},owner@:rwx"), Err("its access list has a bad entry: owner@:rwx")),
            (String::new(), Err("its access list is not valid")),
            ("user:1:rwx,".repeat(9000), Err("its access list is too long")),
        ] {
            let got = parse(text.as_bytes()).map(|acl| acl.0.len()).map_err(|e| e.to_string());
            match (&got, expect) {
                (Ok(n), Ok(m)) => assert_eq!(*n, m, "{text}"),
                (Err(e), Err(part)) => assert!(e.starts_with(part), "{text}: {e}"),
                _ => panic!("{text:.80}: {got:?}, not {expect:?}"),
            }
        }
    }

    #[test]
    fn the_kernels_bytes() {
        let acl = parse(b"user::rw-,group::r--,other::r--,mask::r--,user:258:rw-").unwrap();
        let expect: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\x02\x01\0\0\
            \x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
        assert_eq!(acl.to_xattr(), expect);
        assert_eq!(mode_bits(expect), Some(0o644));
        assert_eq!(
            mode_bits(&parse(b"user::rwx,group::r-x,other::--x,mask::-w-,user:1:rwx").unwrap().to_xattr()),
            Some(0o721)
        );
        for broken in [&b""[..], &expect[..4], &expect[..11], &expect[..12], &expect[1..]] {
            assert_eq!(mode_bits(broken), None);
        }
    }
}
