// SPDX-License-Identifier: ISC
//! `ld.so.cache` of glibc: which library is where. Read for the host's, written for a jail's.
//!
//! The format is that of `sysdeps/generic/dl-cache.h`: since glibc 2.32 the new one stands alone, before that it may
//! follow the old one. Offsets of strings count from the start of the new one. Libraries for better processors carry the
//! number of a name in an extension.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// The largest cache that is read, in bytes.
pub const MAX_FILE: u64 = 64 << 20;
/// No cache lists more libraries.
const MAX_ENTRIES: usize = 1 << 18;
/// No name or path in a cache is longer.
const MAX_TEXT: usize = 4096;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// The bytes are in the order of this machine's family.
const LITTLE: u8 = 2;
const BIG: u8 = 3;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const TAG_HWCAPS: u32 = 1;
const IS_EXTENSION: u32 = 1 << 30;

/// One library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What programs ask for.
    pub name: Vec<u8>,
    /// Its kind and machine, as glibc numbers them.
    pub flags: u32,
    /// The directory below `glibc-hwcaps` that it is from.
    pub hwcap: Option<Vec<u8>>,
    /// Where it is, absolute.
    pub path: Vec<u8>,
}

/// Reads a cache; none if it is malformed. Entries that make no sense are left out, as the loader leaves them.
pub fn read(data: &[u8]) -> Option<Vec<Entry>> {
    let data = if data.starts_with(OLD_MAGIC) {
        let count = usize::try_from(u32::from_le_bytes(data.get(12..16)?.try_into().ok()?)).ok()?;
        data.get((count.checked_mul(12)?.checked_add(16)?).next_multiple_of(8)..)?
    } else {
        data
    };
    if !data.starts_with(MAGIC) {
        return None;
    }
    let big = *data.get(28)? == BIG;
    let number = |at: usize| -> Option<u32> {
        let bytes = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    // Strings may be shared, but not so that they make more of the file than is in it.
    let left = Cell::new(data.len().saturating_mul(4));
    let text = |at: u32| -> Option<Vec<u8>> {
        let tail = data.get(usize::try_from(at).ok()?..)?;
        let text = &tail[..tail.iter().take(MAX_TEXT).position(|&b| b == 0)?];
        left.set(left.get().checked_sub(text.len())?);
        Some(text.to_vec())
    };
    let count = usize::try_from(number(20)?).ok().filter(|&count| count <= MAX_ENTRIES)?;
    data.get(..HEADER + count * ENTRY)?;
    let names = hwcaps(&number).unwrap_or_default();
    let entry = |index: usize| {
        let at = HEADER + index * ENTRY;
        // The upper half tells of an extension, the lower one holds the number; by byte order one or the other is first.
        let (low, high) = if big { (at + 20, at + 16) } else { (at + 16, at + 20) };
        let hwcap = match (number(high)?, number(low)?) {
            (IS_EXTENSION, index) => Some(text(*names.get(usize::try_from(index).ok()?)?)?),
            (0, 0) => None,
            // What processors had before there were names for it.
            _ => return None,
        };
        let (name, path) = (text(number(at + 4)?)?, text(number(at + 8)?)?);
        (path.starts_with(b"/") && !name.is_empty()).then_some(Entry { name, flags: number(at)?, hwcap, path })
    };
    Some((0..count).filter_map(entry).collect())
}

/// Where the names of the extension are.
fn hwcaps(number: &dyn Fn(usize) -> Option<u32>) -> Option<Vec<u32>> {
    let start = usize::try_from(number(32)?).ok().filter(|&at| at > 0)?;
    if number(start)? != EXTENSION_MAGIC {
        return None;
    }
    let sections = usize::try_from(number(start + 4)?).ok()?.min(64);
    let at = |index: usize| start + 8 + index * 16;
    let section = (0..sections).map(at).find(|&at| number(at) == Some(TAG_HWCAPS))?;
    let (offset, size) = (usize::try_from(number(section + 8)?).ok()?, usize::try_from(number(section + 12)?).ok()?);
    (0..(size / 4).min(1024)).map(|index| number(offset.checked_add(index * 4)?)).collect()
}

/// The text of a cache, for a machine with this byte order, as ldconfig(8) would write it.
pub fn write(entries: &[Entry], big: bool) -> Vec<u8> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| compare(&b.name, &a.name).then(b.flags.cmp(&a.flags)).then(b.hwcap.cmp(&a.hwcap)));
    sorted.dedup();
    let mut caps: Vec<&[u8]> = sorted.iter().filter_map(|entry| entry.hwcap.as_deref()).collect();
    caps.sort_unstable();
    caps.dedup();
    let order = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let start = HEADER + sorted.len() * ENTRY;
    let mut strings = Vec::new();
    let mut put = |text: &[u8]| {
        let at = start + strings.len();
        strings.extend_from_slice(text);
        strings.push(0);
        size(at)
    };
    let mut body = Vec::new();
    for entry in &sorted {
        let cap = entry.hwcap.as_deref().and_then(|cap| caps.iter().position(|known| *known == cap));
        let (low, high) = cap.map_or((0, 0), |index| (size(index), IS_EXTENSION));
        let (first, second) = if big { (high, low) } else { (low, high) };
        let fields = [entry.flags, put(&entry.name), put(&entry.path), 0, first, second];
        body.extend(fields.into_iter().flat_map(order));
    }
    let caps: Vec<u32> = caps.into_iter().map(put).collect();
    let extension = (start + strings.len()).next_multiple_of(4);
    let mut out = MAGIC.to_vec();
    out.extend([size(sorted.len()), size(strings.len())].into_iter().flat_map(order));
    out.extend([if big { BIG } else { LITTLE }, 0, 0, 0]);
    out.extend([if caps.is_empty() { 0 } else { size(extension) }, 0, 0, 0].into_iter().flat_map(order));
    out.extend(body);
    out.extend(strings);
    if !caps.is_empty() {
        out.resize(extension, 0);
        let fields = [EXTENSION_MAGIC, 1, TAG_HWCAPS, 0, size(extension + 24), size(caps.len() * 4)];
        out.extend(fields.into_iter().chain(caps).flat_map(order));
    }
    out
}

/// The order of names in a cache, in which the loader searches: runs of digits count as numbers.
fn compare(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.split_first(), b.split_first()) {
            (Some((x, _)), Some((y, _))) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (left, right) = (number(&mut a), number(&mut b));
                if left != right {
                    return left.cmp(&right);
                }
            }
            // A number is more than anything else.
            (Some((x, _)), Some((y, _))) if x.is_ascii_digit() != y.is_ascii_digit() => {
                return x.is_ascii_digit().cmp(&y.is_ascii_digit());
            }
            (Some((x, left)), Some((y, right))) => {
                if x != y {
                    return x.cmp(y);
                }
                (a, b) = (left, right);
            }
            (left, right) => {
                // The end is less than anything but a digit is not asked for.
                return left.is_some().cmp(&right.is_some());
            }
        }
    }
}

/// Takes a run of digits off.
fn number(text: &mut &[u8]) -> u64 {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.iter().fold(0, |n: u64, digit| n.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, hwcap: Option<&str>, path: &str) -> Entry {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Entry { name: bytes(name), flags: 0x303, hwcap: hwcap.map(bytes), path: bytes(path) }
    }

    #[test]
    fn a_round_trip() {
        let entries = [
            entry("libz.so.1", None, "/usr/lib/libz.so.1"),
            entry("libc.so.6", None, "/lib/libc.so.6"),
            entry("libc.so.10", None, "/lib/libc.so.10"),
            entry("libz.so.1", Some("x86-64-v3"), "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1"),
            entry("libz.so.1", Some("x86-64-v2"), "/usr/lib/glibc-hwcaps/x86-64-v2/libz.so.1"),
        ];
        for big in [false, true] {
            let back = read(&write(&entries, big)).unwrap();
            let shown: Vec<_> = back.iter().map(|e| (e.name.as_slice(), e.hwcap.as_deref())).collect();
            assert_eq!(
                shown,
                [
                    (&b"libz.so.1"[..], Some(&b"x86-64-v3"[..])),
                    (b"libz.so.1", Some(b"x86-64-v2")),
                    (b"libz.so.1", None),
                    (b"libc.so.10", None),
                    (b"libc.so.6", None),
                ]
            );
            assert_eq!(
                {
                    let mut all = back;
                    all.sort();
                    all
                },
                {
                    let mut all = entries.to_vec();
                    all.sort();
                    all
                }
            );
        }
        assert_eq!(read(&write(&[], false)), Some(vec![]));
    }

    #[test]
    fn the_hosts_own_and_ours_are_in_the_same_order() {
        let Ok(data) = std::fs::read("/etc/ld.so.cache") else { return };
        let entries = read(&data).expect("the host's cache");
        assert!(!entries.is_empty());
        let again = read(&write(&entries, cfg!(target_endian = "big"))).unwrap();
        let names = |list: &[Entry]| list.iter().map(|e| (e.name.clone(), e.path.clone())).collect::<Vec<_>>();
        let mut alike = (names(&entries), names(&again));
        alike.0.dedup();
        assert_eq!(alike.0, alike.1);
    }

    #[test]
    fn damage_does_no_harm() {
        let whole = write(&[entry("liba.so.1", Some("v2"), "/a"), entry("libb.so", None, "/b")], false);
        for length in 0..whole.len() {
            read(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x40, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                assert!(read(&damaged).is_none_or(|entries| entries.len() <= 2), "{at}");
            }
        }
        let old = [&b"ld.so-1.7.0\0\x01\0\0\0"[..], &[0; 12], &[0; 4], &whole].concat();
        assert_eq!(read(&old).map(|entries| entries.len()), Some(2));
        assert_eq!(read(b"ld.so-1.7.0\0\xff\xff\xff\xff"), None);
    }
}
