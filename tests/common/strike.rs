// SPDX-License-Identifier: ISC
//! Stopping a command at every system call that changes something: which there are, and every case on two threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls that change something on a disk, in every spelling that a library may choose.
const CHANGING: &str = "link linkat rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat symlink symlinkat mknod \
    mknodat chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown utimensat setxattr lsetxattr fsetxattr \
    removexattr lremovexattr fsync fdatasync syncfs write pwrite64 ftruncate copy_file_range";

/// The option with which strace writes down all of them.
pub(crate) fn trace() -> String {
    let calls: Vec<String> = CHANGING.split_whitespace().map(|name| format!("?{name}")).collect();
    format!("-etrace={}", calls.join(","))
}

/// How often each call is in a log of strace, by the thread that makes it most: strace counts them for each thread.
pub(crate) fn moments(log: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (thread, call) = (words.next().unwrap(), words.next().unwrap());
        if let Some((call, _)) = call.split_once('(').filter(|(call, _)| !call.starts_with("syscall_")) {
            *counts.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((call, _), count) in counts {
        let known = most.entry(call).or_default();
        *known = count.max(*known);
    }
    most.into_iter().flat_map(|(call, count)| (1..=count).map(move |n| (call.clone(), n))).collect()
}

/// Every case, on two threads with a stage each; how many are true.
pub(crate) fn each<S>(
    cases: &[(String, String)],
    new: fn() -> S,
    judge: impl Fn(&S, &str, &str) -> bool + Sync,
) -> usize {
    let (next, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let stage = new();
        while let Some((call, how)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            good.fetch_add(usize::from(judge(&stage, call, how)), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work();
        other.join().unwrap();
    });
    good.into_inner()
}
