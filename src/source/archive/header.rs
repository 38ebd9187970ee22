// SPDX-License-Identifier: ISC
//! The 512-byte header block of tar: where its fields are and how they write numbers and names.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::bad;
use crate::error::Result;

pub(super) const BLOCK: usize = 512;

/// A number field: its name for errors and its bytes.
pub(super) struct Field(&'static str, Range<usize>);

pub(super) const MODE: Field = Field("mode", 100..108);
pub(super) const UID: Field = Field("owner", 108..116);
pub(super) const GID: Field = Field("group", 116..124);
pub(super) const SIZE: Field = Field("size", 124..136);
pub(super) const MTIME: Field = Field("time", 136..148);
pub(super) const MAJOR: Field = Field("device", 329..337);
pub(super) const MINOR: Field = Field("device", 337..345);
/// The size of an old GNU sparse file with its holes.
pub(super) const REAL_SIZE: Field = Field("size", 483..495);
const SUM: Range<usize> = 148..156;

/// Which layout a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before POSIX: no prefix, no devices, no extensions.
    V7,
    /// POSIX, with or without pax headers.
    Ustar,
    /// GNU's own: no prefix, sparse maps in its place.
    Gnu,
}

pub(super) struct Header(pub(super) [u8; BLOCK]);

impl Header {
    pub(super) fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK]
    }

    /// Does the checksum hold? It counts its own field as blanks.
    pub(super) fn holds(&self) -> bool {
        let sum = |bytes: &[u8]| bytes.iter().map(|&b| i128::from(b)).sum::<i128>();
        let expected = sum(&self.0) - sum(&self.0[SUM]) + i128::from(b' ') * 8;
        octal(&self.0[SUM]) == Some(expected)
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    /// The type flag.
    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix where the dialect has one.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        match self.dialect() {
            Dialect::Ustar if self.0[345] != 0 => [text(&self.0[345..500]), b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    /// The target of a link.
    pub(super) fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    /// A number, in octal or base 256; `T` says its range.
    pub(super) fn number<T: TryFrom<i128>>(&self, field: &Field) -> Result<T> {
        let value = number(&self.0[field.1.clone()]).and_then(|n| T::try_from(n).ok());
        value.ok_or_else(|| bad(format!("the {} field holds no usable number", field.0)))
    }
}

/// A number field: octal digits, or with the top bit set a big-endian two's complement number of the other bits.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let sign = i128::from((first << 1).cast_signed() >> 1);
    Some(rest.iter().fold(sign, |value, &b| value << 8 | i128::from(b)))
}

/// Octal digits between blanks, ended by a blank, a NUL or the field's end; an empty field is 0.
fn octal(field: &[u8]) -> Option<i128> {
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0, |value, &digit| match digit {
        b'0'..=b'7' => Some(value << 3 | i128::from(digit - b'0')),
        _ => None,
    })
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, expect) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"7777777 ", Some(0o7_777_777)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"12 34\0", None),
            (b"\x80\0\0\0\xb2\xd0\x5e\0", Some(3_000_000_000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", Some(1 << 80)),
        ] {
            assert_eq!(number(field), expect, "{field:?}");
        }
    }
}
