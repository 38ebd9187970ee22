// SPDX-License-Identifier: ISC
//! Compression, .deb, cut and damaged files, bombs, visitors.

use super::*;

/// The same archive in each packing.
fn packings(tar: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let xz = |bytes: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let named = |bytes: &[u8]| {
        let comment = "0123456789abcdef\n".repeat(10_000); // as long as in a signed archive of 160 MB
        let builder = flate2::GzBuilder::new().filename("x.tar").comment(comment).extra(*b"more");
        let mut encoder = builder.write(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let half = tar.len() / 2;
    let (front, back) = tar.split_at(half);
    vec![
        ("tar", tar.to_vec()),
        ("gz", gzip(tar)),
        ("gz and comment", named(tar)),
        ("gz twice", [gzip(front), gzip(back)].concat()),
        ("xz", xz(tar)),
        ("xz twice", [xz(front), xz(back)].concat()),
        ("zst", zstd(tar)),
        ("zst twice", [zstd(front), zstd(back)].concat()),
        ("deb", deb(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar", tar)])),
        ("deb gz", deb(&[("debian-binary", b"2.0\n"), ("_x/", b""), ("data.tar.gz/", &gzip(tar)), ("later", b"odd")])),
        ("deb zst", deb(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar.zst", &zstd(tar))])),
    ]
}

fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

/// Bytes that do not pack well, so that cutting them hits the middle of things.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_packing_reads_the_same_and_none_is_read_short() {
    let body = noise(1500);
    let made = tar(&[d("d"), Made::new(b'0', b"d/a", &body), s("d/l", "a"), h("d/h", "d/a"), f("z")]);
    let expect = told(&made, Limits::default()).unwrap();
    for (packing, bytes) in packings(&made) {
        assert_eq!(told(&bytes, Limits::default()).unwrap(), expect, "{packing}");
        let contents = read_with(&bytes, Limits::default(), &mut |_, _, _| Ok(())).unwrap();
        assert_eq!(contents.digest.unwrap().0[..], <sha2::Sha256 as sha2::Digest>::digest(&bytes)[..], "{packing}");
        // Cut anywhere: an error, but where the second block of the end mark goes, which says nothing.
        let step = if packing == "tar" { BLOCK } else { 61 * (1 + bytes.len() / 20_000) };
        let whole = if packing == "tar" { bytes.len() - BLOCK } else { bytes.len() };
        for end in (0..whole).step_by(step) {
            if packing == "deb gz" && end >= bytes.len() - 63 {
                break; // the member after the data does not count
            }
            let got = told(&bytes[..end], Limits::default());
            let error = got.map_or_else(|e| e.to_string(), |_| "read short".into());
            let words = ["cut short", "empty", "unfinished", "not a tar"];
            assert!(words.iter().any(|w| error.contains(w)), "{packing} cut at {end}: {error}");
        }
    }
}

#[test]
fn damage_is_found() {
    let made = tar(&[Made::new(b'0', b"a", &noise(5000))]);
    for (packing, bytes) in packings(&made).into_iter().filter(|(p, _)| !["tar", "deb"].contains(p)) {
        // In the middle, and in the checksums behind the data.
        let end = if packing.starts_with("deb") { bytes.len() - 1000 } else { bytes.len() };
        for at in [bytes.len() - 1000].into_iter().chain(end - 8..end) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert!(told(&broken, Limits::default()).is_err(), "{packing}: byte {at}");
        }
        if !packing.starts_with("deb") {
            let error = told(&[&bytes[..], b"trailing"].concat(), Limits::default()).expect_err(packing).to_string();
            assert!(error.contains("damaged") || error.contains("cut short"), "{packing}: {error}");
        }
    }
}

#[test]
fn bombs_hit_a_limit() {
    let limits = || Limits { ratio: 20, floor: 1 << 20, ..Limits::default() };
    let zeros = vec![0; 4 << 20];
    let file = tar(&[Made::new(b'0', b"bomb", &zeros)]);
    let trailing = [tar(&[f("a")]), zeros].concat();
    for made in [file, trailing] {
        for (packing, bytes) in packings(&made).into_iter().filter(|(p, _)| !["tar", "deb"].contains(p)) {
            let error = told(&bytes, limits()).expect_err(packing).to_string();
            assert!(error.ends_with("more than 20 times its size, like a decompression bomb"), "{packing}: {error}");
            let error = told(&bytes, Limits { unpacked: 1 << 21, ..Limits::default() }).expect_err(packing).to_string();
            assert!(error.contains("unpacks to more than 2097152"), "{packing}: {error}");
        }
    }
    let many: Vec<Made> = (0..11).map(|n| f(&n.to_string())).collect();
    let error = told(&tar(&many), Limits { entries: 10, ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "t: more than 10 entries");
}

#[test]
fn what_needs_too_much_memory_is_refused() {
    let made = tar(&[f("a")]);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&made).unwrap();
    let zstd = encoder.finish().unwrap();
    // In xz the dictionary's size is a byte of the first block's header, which has a checksum of its own.
    let mut xz = packings(&made).swap_remove(4).1;
    let header = 12..12 + (usize::from(xz[12]) + 1) * 4 - 4;
    assert_eq!(xz[14..16], [0x21, 1], "the filter is LZMA2");
    xz[16] = 36; // 1 GiB
    let mut sum = flate2::Crc::new();
    sum.update(&xz[header.clone()]);
    xz[header.end..header.end + 4].copy_from_slice(&sum.sum().to_le_bytes());
    for (bytes, name) in [(zstd, "zstd"), (xz, "xz")] {
        let error = told(&bytes, Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("t: the {name} data needs more than 128 MiB to unpack"));
        assert_eq!(error.advice(), Some("pack it again with a smaller window"));
    }
}

#[test]
fn broken_packages() {
    let data = tar(&[f("a")]);
    let whole = deb(&[("debian-binary", b"2.0\n"), ("data.tar", &data)]);
    let mut mark = whole.clone();
    mark[8 + 58] = b'x';
    let mut size = whole.clone();
    size[8 + 48] = b'-';
    table(vec![
        (whole, "a:a"),
        (mark, "! t: the package has a broken member header"),
        (size, "! t: the package has a broken member header"),
        (deb(&[("debian-binary", b"3.0\n")]), "! t: a Debian package of another format than 2"),
        (deb(&[("x.o", b"")]), "! t: an ar archive that is no Debian package"),
        (deb(&[("debian-binary", b"2.0\n"), ("control.tar", b"")]), "! t: the package is cut short before its data"),
        (deb(&[("debian-binary", b"2.0\n"), ("data.tar.bz2", b"BZh9")]), "! t: bzip2 is not supported"),
        (deb(&[("debian-binary", b"2.0\n"), ("data.tar", &deb(&[]))]), "! t: a .deb inside a .deb"),
    ]);
}

#[test]
fn bodies_may_be_left_unread_and_a_visitor_may_stop() {
    let big = noise(3 << 20);
    let made = tar(&[Made::new(b'0', b"big", &big), f("a"), Made::new(b'0', b"big2", &big), f("b")]);
    let mut seen = String::new();
    let contents = read_with(&made, Limits::default(), &mut |index, node, body| {
        if let Body::Stream { reader, .. } = body {
            let mut some = vec![0; 1000];
            reader.read_exact(&mut some).unwrap();
            assert_eq!(some, big[..1000]);
        }
        seen.push_str(&format!("{index}:{} ", node.path));
        Ok(())
    });
    assert_eq!(contents.unwrap().nodes.len(), 4);
    assert_eq!(seen, "0:big 1:a 2:big2 3:b ");
    let stop = read_with(&made, Limits::default(), &mut |_, _, _| Err(Error::new(crate::ErrorKind::NoSpace, "full")));
    assert_eq!(stop.unwrap_err().to_string(), "t: big: full");
    // What a visitor makes of a broken stream does not hide the reason.
    let cut = read_with(&made[..1 << 20], Limits::default(), &mut |_, _, body| match body {
        Body::Stream { reader, .. } => {
            std::io::copy(reader, &mut std::io::sink()).map_err(|_| Error::new(crate::ErrorKind::Io, "write"))?;
            Ok(())
        }
        Body::Small(_) => Ok(()),
    });
    assert_eq!(cut.unwrap_err().to_string(), "t: big: the archive is cut short");
}

#[test]
fn only_a_file_is_an_archive() {
    let error = Archive::open(std::fs::File::open("/").unwrap(), "/", Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "/: an archive must be a regular file");
}

#[test]
fn a_file_that_shrinks_meanwhile_is_cut_short() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&tar(&[Made::new(b'0', b"a", &vec![7; 16 << 20])])).unwrap();
    let other = file.try_clone().unwrap();
    let archive = Archive::open(file, "t", Limits::default()).unwrap();
    // The decoder is at most a few buffers ahead of the first body.
    let got = archive.read(&mut |_, _, _| other.set_len(4096).on("truncate", "t"), &Watch::default());
    assert_eq!(got.unwrap_err().to_string(), "t: a: the archive is cut short");
}
