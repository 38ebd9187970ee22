// SPDX-License-Identifier: ISC
//! Archives built byte by byte: what is refused, with which words, and what is read out of the rest.

mod entries;
mod packings;

use std::io::Write;

use super::header::BLOCK;
use super::{Archive, Body, Contents, Limits};
use crate::error::{Error, IoContext, Result};
use crate::tree::{Kind, Tree};
use crate::watch::Watch;

/// A header block and what follows it.
#[derive(Clone)]
struct Made(Vec<u8>);

impl Made {
    /// A ustar header, its size that of `body`.
    fn new(flag: u8, name: &[u8], body: &[u8]) -> Made {
        let mut made = Made(vec![0; BLOCK]);
        made.0[..name.len()].copy_from_slice(name);
        made.0[156] = flag;
        made.0[257..265].copy_from_slice(b"ustar\x0000");
        let made = made.octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0);
        let mut made = made.octal(124, 12, body.len() as u64).octal(136, 12, 7);
        made.0.extend_from_slice(body);
        made.0.resize(made.0.len().next_multiple_of(BLOCK), 0);
        made
    }

    fn octal(self, at: usize, length: usize, value: u64) -> Made {
        self.set(at, format!("{value:0width$o}\0", width = length - 1).as_bytes())
    }

    /// Overwrites a field and mends the checksum.
    fn set(mut self, at: usize, bytes: &[u8]) -> Made {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0[..BLOCK].iter().map(|&b| u32::from(b)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn gnu(self) -> Made {
        self.set(257, b"ustar  \0")
    }

    /// Adds raw bytes behind.
    fn then(mut self, bytes: &[u8]) -> Made {
        self.0.extend_from_slice(bytes);
        self
    }

    /// This and the next as one.
    fn with(mut self, next: Made) -> Made {
        self.0.extend(next.0);
        self
    }
}

fn f(name: &str) -> Made {
    Made::new(b'0', name.as_bytes(), name.as_bytes())
}
fn d(name: &str) -> Made {
    Made::new(b'5', name.as_bytes(), b"")
}
fn link(flag: u8, name: &str, target: &str) -> Made {
    Made::new(flag, name.as_bytes(), b"").set(157, target.as_bytes())
}
fn s(name: &str, target: &str) -> Made {
    link(b'2', name, target)
}
fn h(name: &str, target: &str) -> Made {
    link(b'1', name, target)
}
/// A GNU long name or long link.
fn long(flag: u8, text: &str) -> Made {
    Made::new(flag, b"././@LongLink", &[text.as_bytes(), b"\0"].concat()).gnu()
}
/// An extended header.
fn x(flag: u8, pairs: &[(&str, &str)]) -> Made {
    let mut data = String::new();
    for (key, value) in pairs {
        let body = key.len() + value.len() + 3;
        let length = (1..10).map(|digits| body + digits).find(|n| body + n.to_string().len() == *n).unwrap();
        data.push_str(&format!("{length} {key}={value}\n"));
    }
    Made::new(flag, b"PaxHeaders/x", data.as_bytes())
}

fn tar(parts: &[Made]) -> Vec<u8> {
    let mut out: Vec<u8> = parts.iter().flat_map(|made| made.0.clone()).collect();
    out.extend([0; 2 * BLOCK]);
    out
}

fn read_with(bytes: &[u8], limits: Limits, visit: &mut super::Visit<'_>) -> Result<Contents> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Archive::open(file, "t", limits)?.hashed().read(visit, &Watch::default())
}

/// What an archive says, in one line: each node with its content, hard links with `=` and their first name.
fn told(bytes: &[u8], limits: Limits) -> Result<String> {
    let mut bodies = Vec::new();
    let contents = read_with(bytes, limits, &mut |index, node, body| {
        assert_eq!(index as usize, bodies.len());
        bodies.push(expand(body, node.size()).on("read", "")?);
        Ok(())
    })?;
    let nodes: Vec<_> = contents.nodes.iter().map(|(node, _)| node.clone()).collect();
    if nodes.iter().all(|n| n.path.depth() < 2) {
        Tree::new(nodes).unwrap();
    }
    let say = |(node, body): &(crate::tree::Node, Option<u32>)| {
        let content = match &node.kind {
            Kind::File { .. } => String::from_utf8_lossy(&bodies[body.unwrap() as usize]).into_owned(),
            Kind::Symlink(target) => format!("->{}", String::from_utf8_lossy(target)),
            Kind::Char(major, minor) | Kind::Block(major, minor) => format!("{}{major},{minor}", node.kind.word()),
            kind => kind.word().to_owned(),
        };
        let group = node.group.as_ref().map_or(String::new(), |g| format!("={g}"));
        format!("{}{group}:{content}", node.path)
    };
    Ok(contents.nodes.iter().map(say).collect::<Vec<_>>().join(" "))
}

/// The bytes of a body, its holes as dots.
fn expand(body: Body<'_>, size: u64) -> std::io::Result<Vec<u8>> {
    match body {
        Body::Small(bytes) => {
            assert_eq!(bytes.len() as u64, size);
            Ok(bytes)
        }
        Body::Stream { reader, map } => {
            let map = map.unwrap_or_else(|| vec![(0, size)]);
            let mut out = vec![b'.'; usize::try_from(size).unwrap()];
            for (offset, length) in map {
                let start = usize::try_from(offset).unwrap();
                reader.read_exact(&mut out[start..start + usize::try_from(length).unwrap()])?;
            }
            assert_eq!(reader.read(&mut [0])?, 0);
            Ok(out)
        }
    }
}

fn table(cases: Vec<(Vec<u8>, &str)>) {
    for (number, (bytes, expect)) in cases.into_iter().enumerate() {
        let limits = Limits { extents: 40, header: 5000, ..Limits::default() };
        let got = told(&bytes, limits).unwrap_or_else(|e| format!("! {e}"));
        assert_eq!(got, expect, "case {number}");
    }
}
