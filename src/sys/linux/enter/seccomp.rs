// SPDX-License-Identifier: ISC
//! The filter of system calls (seccomp(2)): a program for the kernel's classic BPF machine, made from [`Table`]s.
//!
//! What is refused fails with EPERM, as without the capability; what does not exist for a guest with ENOSYS, so that the
//! C library falls back on the older call. The kernel remembers by number which calls are allowed whatever their
//! arguments, by running the filter once for every number: hence the binary search.

use std::ops::Range;

use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// What one kind of program may not call, by number.
pub(super) struct Table {
    /// `AUDIT_ARCH_...`.
    pub(super) arch: u32,
    /// Refused; sorted.
    pub(super) denied: Vec<u32>,
    /// Do not exist.
    pub(super) absent: Vec<u32>,
    /// Do not exist. The x32 calls of x86-64 are among them.
    pub(super) newer: Range<u32>,
    pub(super) clone: u32,
    pub(super) unshare: u32,
    pub(super) ioctl: u32,
    pub(super) personality: u32,
    pub(super) socket: u32,
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// As in a kernel without that family of sockets.
const NO_FAMILY: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;

/// Every flag of clone(2) that makes a namespace.
const NAMESPACES: u32 = 0x7e02_0000;
/// The one that only unshare(2) takes; in clone(2) it is part of a signal's number.
const NEWTIME: u32 = 0x80;
/// Plain Linux, 32 bits, an old kernel's name, both; and the question which it is.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];

/// Offsets in `struct seccomp_data`: number, architecture, six arguments of 64 bits.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(index: u32) -> u32 {
    // The low half, which is all that the kernel looks at where it takes an int.
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

/// The whole filter.
pub(super) fn program(tables: &[Table]) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for table in tables {
        let body = body(table);
        program.push(load(ARCH));
        program.push(jump(BPF_JEQ, table.arch, 1, 0));
        program.push(op(BPF_JMP | BPF_JA, body.len() as u32));
        program.extend(body);
    }
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    program
}

fn body(table: &Table) -> Vec<sock_filter> {
    let mut out = vec![load(NUMBER)];
    for (number, looks) in [
        (table.ioctl, equal(1, &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32], DENY, ALLOW)),
        (table.clone, vec![load(argument(0)), jump(BPF_JSET, NAMESPACES, 0, 1), answer(DENY), answer(ALLOW)]),
        (
            table.unshare,
            vec![load(argument(0)), jump(BPF_JSET, NAMESPACES | NEWTIME, 0, 1), answer(DENY), answer(ALLOW)],
        ),
        (table.socket, socket()),
        (table.personality, equal(0, &PERSONALITIES, ALLOW, DENY)),
    ] {
        out.push(jump(BPF_JEQ, number, 0, looks.len() as u8));
        out.extend(looks);
    }
    out.extend(search(&ranges(table)));
    out
}

/// No socket of the machine's host; and none for audit messages, which need a capability that is not there: programs go
/// on if there is no such family, and end if they may not send.
fn socket() -> Vec<sock_filter> {
    let mut out = equal(0, &[libc::AF_VSOCK as u32], DENY, ALLOW);
    out.pop();
    out.extend([jump(BPF_JEQ, libc::AF_NETLINK as u32, 1, 0), answer(ALLOW)]);
    out.extend(equal(2, &[libc::NETLINK_AUDIT as u32], NO_FAMILY, ALLOW));
    out
}

/// Is argument `index` one of `values`?
fn equal(index: u32, values: &[u32], yes: u32, no: u32) -> Vec<sock_filter> {
    let mut out = vec![load(argument(index))];
    for value in values {
        out.extend([jump(BPF_JEQ, *value, 0, 1), answer(yes)]);
    }
    out.push(answer(no));
    out
}

/// From which number on which answer holds, from 0.
fn ranges(table: &Table) -> Vec<(u32, u32)> {
    let single = |&number: &u32| (number..number + 1, DENY);
    let mut special: Vec<(Range<u32>, u32)> = table.denied.iter().map(single).collect();
    special.extend(table.absent.iter().map(|&number| (number..number + 1, ABSENT)));
    special.push((table.newer.clone(), ABSENT));
    special.sort_by_key(|(range, _)| range.start);
    let mut out: Vec<(u32, u32)> = vec![(0, ALLOW)];
    for (range, answer) in special {
        match out.last_mut() {
            // Directly after the last one, whose end is the start of what is allowed again.
            Some(last) if last.0 == range.start => last.1 = answer,
            _ => out.push((range.start, answer)),
        }
        out.push((range.end, ALLOW));
    }
    out.dedup_by_key(|&mut (_, answer)| answer);
    out
}

/// Finds the last range that begins at or below the number: a jump a level, an answer a leaf.
fn search(ranges: &[(u32, u32)]) -> Vec<sock_filter> {
    if let [(_, only)] = ranges {
        return vec![answer(*only)];
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = search(low);
    let mut out = vec![jump(BPF_JGE, high[0].0, below.len() as u8, 0)];
    out.extend(below);
    out.extend(search(high));
    out
}

fn op(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    op(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn answer(value: u32) -> sock_filter {
    op(BPF_RET | BPF_K, value)
}

/// Compares and skips `yes` or `no` instructions.
fn jump(compare: u32, with: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | compare | BPF_K) as u16, jt: yes, jf: no, k: with }
}

#[cfg(test)]
mod tests {
    use super::super::syscalls::{NEWEST, tables};
    use super::*;

    /// Runs a filter as the kernel does: a jump out of it, or an instruction that is not ours, fails the test.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 3]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let i = program[at];
            at += 1;
            let code = u32::from(i.code);
            let taken = |yes| usize::from(if yes { i.jt } else { i.jf });
            match code {
                c if c == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = match i.k {
                        NUMBER => number,
                        ARCH => arch,
                        k => arguments[(k as usize - 16) / 8] as u32,
                    }
                }
                c if c == BPF_JMP | BPF_JA => at += i.k as usize,
                c if c == BPF_JMP | BPF_JEQ | BPF_K => at += taken(loaded == i.k),
                c if c == BPF_JMP | BPF_JGE | BPF_K => at += taken(loaded >= i.k),
                c if c == BPF_JMP | BPF_JSET | BPF_K => at += taken(loaded & i.k != 0),
                c if c == BPF_RET | BPF_K => return i.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn every_number_gets_its_answer() {
        let tables = tables();
        let program = program(&tables);
        assert!(program.len() < 4096, "the kernel takes no more");
        for table in &tables {
            let checked = [table.clone, table.unshare, table.ioctl, table.personality, table.socket];
            for number in (0..NEWEST + 50).chain([0xf_0002, 0x4000_0000, 0x4000_0010, u32::MAX]) {
                let want = match number {
                    n if table.denied.contains(&n) => DENY,
                    n if table.absent.contains(&n) || table.newer.contains(&n) => ABSENT,
                    _ => ALLOW,
                };
                if !checked.contains(&number) {
                    assert_eq!(run(&program, table.arch, number, [0; 3]), want, "{number} of {:#x}", table.arch);
                }
            }
        }
        assert_eq!(run(&program, 0x1234, 0, [0; 3]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn arguments_decide_where_they_can() {
        let tables = tables();
        let program = program(&tables);
        let high = 0xffff_ffff_0000_0000;
        for table in &tables {
            for (number, arguments, want) in [
                (table.ioctl, [0, 0x5412, 0], DENY),
                (table.ioctl, [0, 0x5412 | high, 0], DENY),
                (table.ioctl, [0, 0x541c | high, 0], DENY),
                (table.ioctl, [0x5412, 0x5401, 0], ALLOW),
                (table.clone, [0x0001_0f00 | 17, 0, 0], ALLOW),
                (table.clone, [0x2000_0011, 0, 0], DENY),
                (table.clone, [0x1000_0000, 0, 0], DENY),
                (table.unshare, [0x400, 0, 0], ALLOW),
                (table.unshare, [0x80, 0, 0], DENY),
                (table.unshare, [0x0002_0000, 0, 0], DENY),
                (table.personality, [0, 0, 0], ALLOW),
                (table.personality, [8, 0, 0], ALLOW),
                (table.personality, [0xffff_ffff, 0, 0], ALLOW),
                (table.personality, [0x004_0000, 0, 0], DENY),
                (table.socket, [1, 0, 0], ALLOW),
                (table.socket, [40, 0, 0], DENY),
                (table.socket, [16, 3, 9], NO_FAMILY),
                (table.socket, [16, 3, 0], ALLOW),
                (table.socket, [2, 3, 9], ALLOW),
            ] {
                assert_eq!(run(&program, table.arch, number, arguments), want, "{number} {arguments:x?}");
            }
        }
    }
}
