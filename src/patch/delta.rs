// SPDX-License-Identifier: ISC
//! Differences: a file's content as a zstd frame whose dictionary is the content that it replaces, as `zstd
//! --patch-from` makes them.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read};

use zstd::stream::read::Decoder;
use zstd::zstd_safe::{CCtx, CParameter, ErrorCode};

use crate::error::{Error, ErrorKind, IoContext, Result};

/// Both contents together have at most this many bytes: they are in memory, here and on the target.
pub const LARGEST: u64 = 1 << 30;
/// Higher ones need many times the memory and find little more: what is the same is found by long distance matching.
const LEVEL: i32 = 9;

/// Is it worth trying? Where little stays, or both are too large, the whole content is brought.
pub fn fits(before: u64, after: u64) -> bool {
    before > 0 && after > 0 && before.saturating_add(after) <= LARGEST
}

/// The difference that turns `before` into `after`.
///
/// # Errors
/// [`ErrorKind::Io`] if memory is short.
pub fn make(before: &[u8], after: &[u8]) -> Result<Vec<u8>> {
    // In one step: a stream would have a copy of all that its window covers.
    let encode = || -> std::result::Result<Vec<u8>, ErrorCode> {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::CompressionLevel(LEVEL))?;
        context.set_parameter(CParameter::WindowLog(window(before.len() as u64, after.len() as u64)))?;
        context.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        context.ref_prefix(before)?;
        let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(after.len()));
        context.compress2(&mut frame, after)?;
        Ok(frame)
    };
    encode().map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code))).on("compress", "difference")
}

/// Reads what `delta` makes of `before`; it must be `size` bytes. Memory is bounded by these, whatever the frame says.
///
/// # Errors
/// [`ErrorKind::BadInput`] for sizes beyond [`LARGEST`]. While reading, `InvalidData` for a frame that is damaged, or is
/// the difference of something else; whether the right bytes came out is for their digest to say.
pub fn patch<'a>(before: &'a [u8], delta: impl BufRead + 'a, size: u64) -> Result<impl Read + 'a> {
    if !fits(before.len() as u64, size) {
        return Err(Error::new(ErrorKind::BadInput, "a difference of more than 1 GiB, or from nothing"));
    }
    let mut decoder = Decoder::with_ref_prefix(delta, before).on("decompress", "difference")?.single_frame();
    decoder.window_log_max(window(before.len() as u64, size)).on("decompress", "difference")?;
    Ok(Exact { from: decoder, left: size })
}

/// The logarithm of a window from the first byte of the one to the last of the other.
fn window(before: u64, after: u64) -> u32 {
    /// Where decoders begin, and zstd ends.
    const RANGE: (u32, u32) = (10, 31);
    (before + after).next_power_of_two().ilog2().clamp(RANGE.0, RANGE.1)
}

/// A reader of which exactly so many bytes are wanted.
struct Exact<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let wrong = |reason: &'static str| io::Error::new(io::ErrorKind::InvalidData, reason);
        let read = self.from.read(out).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match self.left.checked_sub(read as u64) {
            None => Err(wrong("the difference gives more than the file has")),
            Some(left) if left > 0 && read == 0 && !out.is_empty() => Err(wrong("the difference gives too little")),
            Some(left) => {
                self.left = left;
                Ok(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not compress, the same each time.
    fn noise(length: usize, mut state: u64) -> Vec<u8> {
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state.rotate_left(29) ^ state).to_be_bytes()
        };
        (0..length.div_ceil(8)).flat_map(|_| step()).take(length).collect()
    }

    fn apply(before: &[u8], delta: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        patch(before, delta, size).map_err(io::Error::other)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_was_taken_apart_is_put_together() {
        let base = noise(4 << 20, 1);
        let mut edited = base.clone();
        for edit in 0..200 {
            edited[edit * 20_900 + 17..][..12].copy_from_slice(&noise(12, edit as u64));
        }
        let moved = [&base[1 << 20..], b"between", &base[..1 << 20]].concat();
        for (before, after, most) in [
            (&base, &edited, 12_000),
            (&base, &moved, 1_500),
            (&base, &base.clone(), 1_000),
            (&base, &base[..1].to_vec(), 100),
            (&vec![7], &base, (4 << 20) + 1_000),
            (&noise(1 << 20, 5), &noise(1 << 20, 6), (1 << 20) + 1_000),
        ] {
            let delta = make(before, after).unwrap();
            assert!(delta.len() <= most, "{} > {most}", delta.len());
            assert_eq!(apply(before, &delta, after.len() as u64).unwrap(), *after);
        }
    }

    #[test]
    fn a_frame_gives_what_it_should_or_an_error() {
        let before = noise(100_000, 1);
        let after = [&before[..70_000], &noise(5_000, 2), &before[70_000..]].concat();
        let size = after.len() as u64;
        let good = make(&before, &after).unwrap();
        let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
        for (delta, size) in [
            (&good[..], size - 1),
            (&good[..], size + 1),
            (&good[..good.len() - 1], size),
            (&good[..4], size),
            (&b""[..], size),
            (&b"no frame at all, but text"[..], size),
            (&bomb[..], size),
            (&good[..], 0),
            (&good[..], u64::MAX),
        ] {
            assert!(apply(&before, delta, size).is_err(), "{} bytes for {size}", delta.len());
        }
        // Another content before: an error, or bytes that only the digest tells apart.
        assert!(apply(&noise(100_000, 9), &good, size).map_or(true, |got| got != after));
        for at in 0..good.len().min(200) {
            let mut bent = good.clone();
            bent[at] ^= 1 << (at % 8);
            assert!(apply(&before, &bent, size).map_or(true, |got| got.len() as u64 == size));
        }
    }
}
