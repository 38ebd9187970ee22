// SPDX-License-Identifier: ISC
//! System calls that a confined guest does not get, with their numbers on each kind of processor.
//!
//! Those are what container engines refuse a container without extra capabilities: making namespaces and mounts, the
//! kernel's own loading and tracing, clocks, keys, and calls that reach files by handle. Capabilities refuse most of it
//! too; here it ends before the kernel's code for it runs. Numbers: the `syscall.tbl` files of Linux 6.18.

use super::seccomp::Table;

/// The last number of Linux 6.18, the same everywhere (`file_setattr`). What is newer does not exist for a guest, until
/// somebody has looked at it.
pub(super) const NEWEST: u32 = 469;

/// No such call on this processor.
const NONE: u32 = u32::MAX;

/// One call: x86-64; i386; what all newer processors share; 32-bit ARM.
type Numbers = [u32; 4];

const DENIED: &[(&str, Numbers)] = &[
    ("_sysctl", [156, 149, NONE, 149]),
    ("acct", [163, 51, 89, 51]),
    ("add_key", [248, 286, 217, 309]),
    ("bpf", [321, 357, 280, 386]),
    ("clock_settime", [227, 264, 112, 262]),
    ("clock_settime64", [NONE, 404, NONE, 404]),
    ("create_module", [174, 127, NONE, NONE]),
    ("delete_module", [176, 129, 106, 129]),
    ("fanotify_init", [300, 338, 262, 367]),
    ("finit_module", [313, 350, 273, 379]),
    ("fsconfig", [431; 4]),
    ("fsmount", [432; 4]),
    ("fsopen", [430; 4]),
    ("fspick", [433; 4]),
    ("get_kernel_syms", [177, 130, NONE, NONE]),
    ("init_module", [175, 128, 105, 128]),
    ("io_uring_enter", [426; 4]),
    ("io_uring_register", [427; 4]),
    ("io_uring_setup", [425; 4]),
    ("ioperm", [173, 101, NONE, NONE]),
    ("iopl", [172, 110, NONE, NONE]),
    ("kcmp", [312, 349, 272, 378]),
    ("kexec_file_load", [320, NONE, 294, 401]),
    ("kexec_load", [246, 283, 104, 347]),
    ("keyctl", [250, 288, 219, 311]),
    ("lookup_dcookie", [212, 253, 18, 249]),
    ("mount", [165, 21, 40, 21]),
    ("mount_setattr", [442; 4]),
    ("move_mount", [429; 4]),
    ("nfsservctl", [180, 169, 42, 169]),
    ("open_by_handle_at", [304, 342, 265, 371]),
    ("open_tree", [428; 4]),
    ("open_tree_attr", [467; 4]),
    ("perf_event_open", [298, 336, 241, 364]),
    ("pivot_root", [155, 217, 41, 218]),
    ("query_module", [178, 167, NONE, NONE]),
    ("quotactl", [179, 131, 60, 131]),
    ("quotactl_fd", [443; 4]),
    ("reboot", [169, 88, 142, 88]),
    ("request_key", [249, 287, 218, 310]),
    ("setns", [308, 346, 268, 375]),
    ("settimeofday", [164, 79, 170, 79]),
    ("stime", [NONE, 25, NONE, NONE]),
    ("swapoff", [168, 115, 225, 115]),
    ("swapon", [167, 87, 224, 87]),
    ("sysfs", [139, 135, NONE, 135]),
    ("syslog", [103, 103, 116, 103]),
    ("umount", [NONE, 22, NONE, NONE]),
    ("umount2", [166, 52, 39, 52]),
    ("uselib", [134, 86, NONE, 86]),
    ("userfaultfd", [323, 374, 282, 388]),
    ("ustat", [136, 62, NONE, 62]),
    ("vhangup", [153, 111, 58, 111]),
    ("vm86", [NONE, 166, NONE, NONE]),
    ("vm86old", [NONE, 113, NONE, NONE]),
];

/// Calls that do not exist for a guest. Programs then use an older one, or do without: those on memory of several nodes say
/// at every start that they may not.
const ABSENT: &[(&str, Numbers)] = &[
    // Its arguments lie in memory, where no filter can look.
    ("clone3", [435; 4]),
    ("get_mempolicy", [239, 275, 236, 320]),
    ("mbind", [237, 274, 235, 319]),
    ("migrate_pages", [256, 294, 238, 400]),
    ("move_pages", [279, 317, 239, 344]),
    ("set_mempolicy", [238, 276, 237, 321]),
    ("set_mempolicy_home_node", [450; 4]),
];

const CLONE: Numbers = [56, 120, 220, 120];
const UNSHARE: Numbers = [272, 310, 97, 337];
const IOCTL: Numbers = [16, 54, 29, 54];
const PERSONALITY: Numbers = [135, 136, 92, 136];
/// i386 also has `socketcall`, whose arguments lie in memory, where no filter can look: there it is not held. It cannot be
/// absent, because it is the only way that C libraries built for kernels before 4.3, as Debian's is, make sockets.
const SOCKET: Numbers = [41, 359, 198, 281];

/// The kinds of programs that the processor which we are built for can run: `AUDIT_ARCH_...` of `linux/audit.h`, and
/// the column of the tables here.
const KINDS: &[(u32, usize)] = if cfg!(target_arch = "x86_64") {
    &[(0xc000_003e, 0), (0x4000_0003, 1)]
} else if cfg!(target_arch = "aarch64") {
    &[(0xc000_00b7, 2), (0x4000_0028, 3)]
} else if cfg!(target_arch = "riscv64") {
    &[(0xc000_00f3, 2)]
} else {
    &[]
};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("the numbers of this processor's system calls are not known here");

/// 32-bit ARM has calls of its own from here on (`__ARM_NR_BASE`).
const ARM_OWN: u32 = 0xf_0000;

/// One table for each kind of program; programs of other kinds are killed.
pub(super) fn tables() -> Vec<Table> {
    let table = |&(arch, column): &(u32, usize)| {
        let mut denied: Vec<u32> = DENIED.iter().map(|(_, numbers)| numbers[column]).filter(|&n| n != NONE).collect();
        denied.sort_unstable();
        let newest = if column == 3 { ARM_OWN } else { NONE };
        Table {
            arch,
            denied,
            absent: ABSENT.iter().map(|(_, numbers)| numbers[column]).filter(|&n| n != NONE).collect(),
            newer: NEWEST + 1..newest,
            clone: CLONE[column],
            unshare: UNSHARE[column],
            ioctl: IOCTL[column],
            personality: PERSONALITY[column],
            socket: SOCKET[column],
        }
    };
    KINDS.iter().map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let column = KINDS[0].1;
        let number = |name: &str| DENIED.iter().chain(ABSENT).find(|(n, _)| *n == name).unwrap().1[column];
        for (name, libc) in [
            ("acct", libc::SYS_acct),
            ("add_key", libc::SYS_add_key),
            ("bpf", libc::SYS_bpf),
            ("clock_settime", libc::SYS_clock_settime),
            ("clone3", libc::SYS_clone3),
            ("delete_module", libc::SYS_delete_module),
            ("fanotify_init", libc::SYS_fanotify_init),
            ("finit_module", libc::SYS_finit_module),
            ("fsconfig", libc::SYS_fsconfig),
            ("fsmount", libc::SYS_fsmount),
            ("fsopen", libc::SYS_fsopen),
            ("fspick", libc::SYS_fspick),
            ("get_mempolicy", libc::SYS_get_mempolicy),
            ("init_module", libc::SYS_init_module),
            ("io_uring_enter", libc::SYS_io_uring_enter),
            ("io_uring_register", libc::SYS_io_uring_register),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("kcmp", libc::SYS_kcmp),
            ("kexec_load", libc::SYS_kexec_load),
            ("keyctl", libc::SYS_keyctl),
            ("lookup_dcookie", libc::SYS_lookup_dcookie),
            ("mbind", libc::SYS_mbind),
            ("migrate_pages", libc::SYS_migrate_pages),
            ("mount", libc::SYS_mount),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("move_mount", libc::SYS_move_mount),
            ("move_pages", libc::SYS_move_pages),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("open_tree", libc::SYS_open_tree),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("pivot_root", libc::SYS_pivot_root),
            ("quotactl", libc::SYS_quotactl),
            ("reboot", libc::SYS_reboot),
            ("request_key", libc::SYS_request_key),
            ("set_mempolicy", libc::SYS_set_mempolicy),
            ("setns", libc::SYS_setns),
            ("settimeofday", libc::SYS_settimeofday),
            ("swapoff", libc::SYS_swapoff),
            ("swapon", libc::SYS_swapon),
            ("syslog", libc::SYS_syslog),
            ("umount2", libc::SYS_umount2),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("vhangup", libc::SYS_vhangup),
        ] {
            assert_eq!(libc::c_long::from(number(name)), libc, "{name}");
        }
    }
}
