// SPDX-License-Identifier: ISC
//! The index: its text, what is none, and what a root lacks.
#![forbid(unsafe_code)]

use super::*;

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

fn patch(series: &str, number: u32, own: u8, requires: &[u8], provides: &[u8]) -> Listed {
    let digests = |numbers: &[u8]| numbers.iter().map(|&number| digest(number)).collect();
    Listed {
        size: 7,
        sha256: Some(digest(200)),
        digest: Some(digest(own)),
        series: series.into(),
        number: Some(number),
        system: "linux".into(),
        requires: digests(requires),
        provides: digests(provides),
        ..Listed::default()
    }
}

fn index(patches: &[(&str, Listed)]) -> Index {
    let patches = patches.iter().map(|(name, patch)| ((*name).to_owned(), patch.clone())).collect();
    Index { counter: 3, date: 1_700_000_000, patches }
}

#[test]
fn what_is_written_is_read() {
    for index in [
        Index::default(),
        index(&[("a", patch("s", 1, 1, &[], &[])), ("b-1.0_x", patch("", 0, 2, &[1, 9], &[7]))]),
        index(&[("r", Listed { release: "13".into(), arch: "amd64".into(), ..patch("s", 1, 1, &[], &[]) })]),
    ] {
        assert_eq!(Index::parse(index.text().as_bytes()).unwrap(), index);
    }
}

#[test]
fn what_is_no_index() {
    let good = index(&[("a", patch("s", 1, 1, &[2], &[]))]).text();
    for (from, to) in [
        ("repository 1", "repository 2"),
        ("stockade", "stackade"),
        ("counter 3", "counter -3"),
        ("counter 3", "counter"),
        ("date ", "data "),
        ("patch a", "patch ../a"),
        ("patch a", "patch  a"),
        (" size=7", " size=x"),
        (" size=7", " size="),
        (" size=7", " size=7 more=1"),
        (" size=7", " size=7 arch=\u{1b}[0m"),
        (" sha256=c8", " sha256=zz"),
        (" sha256=", " sha512="),
        ("end 1", "end 2"),
        ("end 1\n", "end 1"),
        ("end 1\n", "end 1\nmore\n"),
        ("end 1\n", ""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(bad != good && Index::parse(bad.as_bytes()).is_err(), "{from:?} -> {to:?}");
    }
    let line = good.lines().nth(3).unwrap();
    let twice = good.replace("end 1", &format!("{line}\nend 2"));
    assert!(Index::parse(twice.as_bytes()).is_err());
    assert_eq!(Index::parse(b"stockade repository 2\n").unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn what_a_root_lacks_in_order() {
    let other = Listed { release: "12".into(), ..patch("s", 5, 5, &[], &[]) };
    let foreign = Listed { system: "openbsd".into(), ..patch("s", 6, 6, &[], &[]) };
    let all = index(&[
        ("c1", patch("s", 1, 1, &[], &[])),
        ("b2", patch("s", 2, 2, &[1], &[])),
        ("a3", patch("s", 3, 3, &[4], &[])),
        ("z", patch("t", 1, 4, &[], &[])),
        ("old", other),
        ("obsd", foreign),
    ]);
    let mut rolled = all.clone();
    rolled.patches.insert("roll".into(), patch("s", 2, 9, &[], &[1, 2]));
    for (index, release, installed, expect) in [
        (&all, Some("13"), &[][..], "c1 b2 z a3"),
        (&all, None, &[], "c1 b2 old z a3"),
        (&all, Some("12"), &[1], "b2 old z a3"),
        (&all, Some("13"), &[1, 2, 3, 4], ""),
        (&rolled, Some("13"), &[], "roll z a3"),
        (&rolled, Some("13"), &[9], "z a3"),
        (&rolled, Some("13"), &[1], "roll z a3"),
    ] {
        let target = Target { system: "linux".into(), release: release.map(str::to_owned), arch: None };
        let installed = installed.iter().map(|&number| digest(number)).collect();
        let names: Vec<&str> = missing(index, &installed, &target).iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.join(" "), expect, "{release:?}");
    }
}
