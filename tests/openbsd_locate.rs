// SPDX-License-Identifier: ISC
//! Locate databases: one made by an encoder of somebody else's, and our own test encoder's in both byte orders.

#[path = "common/data.rs"]
mod data;
#[path = "openbsd_release/locate.rs"]
mod encoder;

use std::fs;

use data::test_data;
use proptest::prelude::*;
use stockade::select::locate::{Listing, decode};

fn sample() -> Option<(Vec<u8>, Vec<u8>)> {
    let dir = test_data("vectors/locate")?;
    Some((fs::read(dir.join("sample.db")).unwrap(), fs::read(dir.join("sample.list")).unwrap()))
}

#[test]
fn a_database_made_elsewhere_is_read() {
    let Some((database, list)) = sample() else { return };
    let lines = decode(&database).unwrap();
    assert_eq!(lines.join(&b'\n'), list.strip_suffix(b"\n").unwrap());
    let listing = Listing::parse(&database).unwrap();
    assert_eq!((listing.release.as_deref(), listing.paths.len()), (Some("7.7"), lines.len()));
    let games = listing.select(&["game".to_owned()]).unwrap();
    assert_eq!(games.iter().map(ToString::to_string).collect::<Vec<_>>(), ["usr/games/fortune"]);
    // The other order of bytes: its long differences turned round.
    let plain: Vec<&[u8]> = lines.iter().map(|line| &**line).collect();
    for order in [i32::to_le_bytes, i32::to_be_bytes] {
        assert_eq!(decode(&encoder::encode(&plain, order)).unwrap(), lines);
    }
    // Cut short anywhere, it is the beginning of itself or refused: never other names.
    for length in 0..database.len() {
        let Ok(cut) = decode(&database[..length]) else { continue };
        let whole = cut.len().saturating_sub(1);
        assert_eq!(cut[..whole], lines[..whole], "{length}");
        assert!(cut.last().is_none_or(|last| lines[whole].starts_with(last)), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_list_comes_back(mut lines in prop::collection::vec("[ -~é]{0,80}", 0..40), repeat in 0..12_usize) {
        // Long shared beginnings, so that long differences occur.
        lines.extend(lines.clone().iter().take(8).map(|line| line.repeat(repeat)));
        lines.retain(|line| line.len() <= 1024);
        lines.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        lines.dedup();
        let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        for order in [i32::to_le_bytes, i32::to_be_bytes] {
            let decoded = decode(&encoder::encode(&lines, order)).unwrap();
            prop_assert_eq!(decoded.iter().map(|line| &**line).collect::<Vec<_>>(), lines.clone());
        }
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), table in any::<bool>()) {
        let head = if table { vec![b'x'; 256] } else { Vec::new() };
        let _ = Listing::parse(&[head, bytes].concat());
    }
}
