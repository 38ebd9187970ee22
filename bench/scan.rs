// SPDX-License-Identifier: ISC
//! How fast a directory is scanned, hashed, written as a manifest and read back: `cargo run --release --example scan
//! -- /usr`. Each figure is the median of seven, the cache warm.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use stockade::source::dir::{ScanOptions, digest_files, scan};
use stockade::sys::{Calls, Dir};
use stockade::tree::Tree;
use stockade::tree::text::{Dialect, read_tree, write_tree};
use stockade::watch::Watch;

fn main() -> stockade::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/usr".to_owned());
    let root = Dir::open(path.as_ref(), Calls::from_env()).expect("a directory");
    let watch = Watch::default();
    let run = |xattrs| scan(&root, &ScanOptions { xattrs, ..ScanOptions::default() }, &watch);
    let mut tree = run(true)?.tree;
    let count = tree.len();
    show("scan", count, || drop(run(false)));
    show("scan with xattrs", count, || drop(run(true)));
    let every: Vec<usize> = (0..count).collect();
    let start = Instant::now();
    digest_files(&root, &mut tree, &every, &watch)?;
    println!("{:18} {:>9.1?}  {} MB, once", "hash", start.elapsed(), tree.bytes() / 1_000_000);
    let text = written(&tree);
    show("manifest written", count, || drop(written(&tree)));
    show("manifest read", count, || drop(read_tree(&text)));
    println!("{count} entries, {} kB of manifest", text.len() / 1000);
    Ok(())
}

fn written(tree: &Tree) -> Vec<u8> {
    let mut text = Vec::new();
    write_tree(tree, &mut text, Dialect::Stockade).expect("memory");
    text
}

fn show(what: &str, entries: usize, mut work: impl FnMut()) {
    let mut times: Vec<Duration> = (0..7).map(|_| timed(&mut work)).collect();
    times.sort();
    let rate = entries as f64 / times[3].as_secs_f64() / 1e6;
    println!("{what:18} {:>9.1?}  {rate:.2} million entries/s", times[3]);
}

fn timed(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
