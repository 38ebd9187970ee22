// SPDX-License-Identifier: ISC
//! Maps of sparse files: GNU's old header blocks and the three versions of its pax keys (0.0, 0.1, 1.0).
#![forbid(unsafe_code)]

use std::io::Read;

use super::header::{BLOCK, Header, number};
use super::pax::decimal;
use super::pipe::{Pipe, cut_short};
use super::{Limits, bad, refused};
use crate::error::{Error, Result};

/// Offset and length of a range of data.
pub(super) type Extent = (u64, u64);

/// A sparse file: its map and its size with the holes.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) map: Vec<Extent>,
    pub(super) size: u64,
}

/// The `GNU.sparse.*` keys of an extended header.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    version: [Option<u64>; 2],
    offset: Option<u64>,
    map: Option<Vec<Extent>>,
}

impl Keys {
    /// Takes the key `GNU.sparse.KEY`.
    pub(super) fn key(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        let number = || decimal(value).ok_or_else(broken);
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"major" => self.version[0] = Some(number()?),
            b"minor" => self.version[1] = Some(number()?),
            b"numblocks" => {}
            b"offset" => match self.offset.replace(number()?) {
                None => {}
                Some(_) => return Err(broken()),
            },
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(broken)?;
                push(self.map.get_or_insert_default(), (offset, number()?), limits)?;
            }
            b"map" => {
                let mut map = Vec::new();
                let mut numbers = value.split(|&b| b == b',').filter(|_| !value.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().and_then(decimal).ok_or_else(broken)?;
                    push(&mut map, (decimal(offset).ok_or_else(broken)?, length), limits)?;
                }
                self.map = Some(map);
            }
            _ => return Err(refused("it is sparse in a way that is not supported")),
        }
        Ok(())
    }

    /// The sparse file that the keys describe, if any; a map of version 1.0 is read off the front of the entry's
    /// `stored` bytes.
    pub(super) fn resolve(self, pipe: &mut Pipe, stored: &mut u64, limits: &Limits) -> Result<Option<Sparse>> {
        let map = match (self.version, self.map) {
            ([None, None], None) if self.size.is_none() && self.name.is_none() => return Ok(None),
            ([Some(1), Some(0)], None) => read_map(pipe, stored, limits)?,
            ([None, None] | [Some(0), Some(0 | 1)], Some(map)) if self.offset.is_none() => map,
            ([Some(1), Some(0)] | [None, None] | [Some(0), _], _) => return Err(broken()),
            _ => return Err(refused("it is sparse in a way that is not supported")),
        };
        let size = self.size.ok_or_else(broken)?;
        Ok(Some(Sparse { map: checked(map, size, *stored)?, size }))
    }
}

/// Version 1.0: decimal lines (a count, then offset and length of each range), padded to a block.
fn read_map(pipe: &mut Pipe, stored: &mut u64, limits: &Limits) -> Result<Vec<Extent>> {
    let mut text = Vec::new();
    let mut line = |stored: &mut u64| loop {
        if let Some(end) = text.iter().position(|&b| b == b'\n') {
            let rest = text.split_off(end + 1);
            let line = std::mem::replace(&mut text, rest);
            return decimal(&line[..end]).ok_or_else(broken);
        }
        if text.len() > BLOCK || *stored < BLOCK as u64 {
            return Err(broken());
        }
        text.extend(pipe.take(BLOCK)?);
        *stored -= BLOCK as u64;
    };
    let mut map = Vec::new();
    for _ in 0..line(stored)? {
        push(&mut map, (line(stored)?, line(stored)?), limits)?;
    }
    Ok(map)
}

/// The map of an old GNU header (type `S`): four ranges in the header, 21 in each block that follows.
pub(super) fn old_gnu(header: &Header, size: u64, pipe: &mut Pipe, stored: u64, limits: &Limits) -> Result<Sparse> {
    let mut map = Vec::new();
    ranges(&header.0[386..482], &mut map, limits)?;
    let mut more = header.0[482] != 0;
    while more {
        let mut block = [0; BLOCK];
        if pipe.fill(&mut block)? < BLOCK {
            return Err(cut_short());
        }
        ranges(&block[..504], &mut map, limits)?;
        more = block[504] != 0;
    }
    Ok(Sparse { map: checked(map, size, stored)?, size })
}

fn ranges(table: &[u8], map: &mut Vec<Extent>, limits: &Limits) -> Result<()> {
    for range in table.chunks_exact(24).take_while(|range| range[0] != 0) {
        let field = |bytes: &[u8]| number(bytes).and_then(|n| u64::try_from(n).ok()).ok_or_else(broken);
        push(map, (field(&range[..12])?, field(&range[12..])?), limits)?;
    }
    Ok(())
}

fn push(map: &mut Vec<Extent>, extent: Extent, limits: &Limits) -> Result<()> {
    if map.len() >= limits.extents {
        return Err(refused(format!("it is sparse with more than {} ranges", limits.extents)));
    }
    map.push(extent);
    Ok(())
}

/// The map without empty ranges: ascending, apart, inside `size`, and together exactly the bytes that are stored.
fn checked(mut map: Vec<Extent>, size: u64, stored: u64) -> Result<Vec<Extent>> {
    let (mut end, mut sum) = (0, 0u64);
    for &(offset, length) in &map {
        if offset < end {
            return Err(broken());
        }
        end = offset.checked_add(length).filter(|&end| end <= size).ok_or_else(broken)?;
        sum += length;
    }
    if sum != stored {
        return Err(broken());
    }
    map.retain(|&(_, length)| length > 0);
    Ok(map)
}

fn broken() -> Error {
    bad("its map of a sparse file is malformed")
}

/// The whole content of a sparse file: the stored ranges with zeros between them.
pub(super) struct Expanded<'a> {
    pub(super) data: &'a mut dyn Read,
    pub(super) map: std::vec::IntoIter<(u64, u64)>,
    pub(super) at: u64,
    pub(super) size: u64,
}

impl Read for Expanded<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.map.as_slice().first().is_some_and(|&(start, length)| self.at >= start + length) {
            self.map.next();
        }
        let next = self.map.as_slice().first();
        let (start, end) = next.map_or((self.size, self.size), |&(start, length)| (start, start + length));
        let hole = self.at < start;
        let room = usize::try_from(if hole { start } else { end } - self.at).unwrap_or(usize::MAX).min(out.len());
        let read = if hole {
            out[..room].fill(0);
            room
        } else {
            self.data.read(&mut out[..room])?
        };
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros() {
        let mut whole = Vec::new();
        let mut data: &[u8] = b"abcd";
        Expanded { data: &mut data, map: vec![(2, 1), (3, 0), (5, 3)].into_iter(), at: 0, size: 10 }
            .read_to_end(&mut whole)
            .unwrap();
        assert_eq!(whole, b"\0\0a\0\0bcd\0\0");
    }
}
