// SPDX-License-Identifier: ISC
//! Makes locate databases, as mklocatedb does: for tests of what reads them.

use std::collections::HashMap;

/// Encodes sorted `lines`; `number` writes the long differences.
pub(crate) fn encode(lines: &[&[u8]], number: fn(i32) -> [u8; 4]) -> Vec<u8> {
    let mut rests = Vec::new();
    let mut before: &[u8] = b"";
    for line in lines {
        let shared = line.iter().zip(before).take_while(|(a, b)| a == b).count();
        rests.push((shared as i32, &line[shared..]));
        before = line;
    }
    let pairs = common_pairs(&rests);
    let mut out: Vec<u8> = pairs.iter().flatten().copied().collect();
    out.resize(256, 0);
    let mut last = 0;
    for (shared, rest) in rests {
        match shared - last + 14 {
            count @ 0..=28 => out.push(count as u8),
            count => {
                out.push(30);
                out.extend(number(count));
            }
        }
        last = shared;
        for two in rest.chunks(2) {
            match pairs.iter().position(|pair| pair == two) {
                Some(at) => out.push(128 + at as u8),
                None => two.iter().for_each(|&byte| literal(&mut out, byte)),
            }
        }
    }
    out
}

fn literal(out: &mut Vec<u8>, byte: u8) {
    if !(32..128).contains(&byte) {
        out.push(31);
    }
    out.push(byte);
}

/// The most frequent pairs of plain characters.
fn common_pairs(rests: &[(i32, &[u8])]) -> Vec<[u8; 2]> {
    let mut counts: HashMap<[u8; 2], usize> = HashMap::new();
    for two in rests.iter().flat_map(|(_, rest)| rest.chunks_exact(2)) {
        if two.iter().all(|byte| (32..127).contains(byte)) {
            *counts.entry([two[0], two[1]]).or_default() += 1;
        }
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    pairs.into_iter().map(|(pair, _)| pair).take(128).collect()
}
