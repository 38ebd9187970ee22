// SPDX-License-Identifier: ISC
//! Root inside tries to get out. Each attempt is a case, made from within a session by this test program itself, which
//! is shown there with the libraries that it needs; most are made without confinement too, to see that they are real.
//!
//! Needs root and a static busybox.
#![cfg(target_os = "linux")]

mod scene;

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use libc::{EACCES, ECONNREFUSED, ENOENT, ENOSYS, EPERM, EROFS, ESRCH};
use scene::{Scene, scene, within_time};

/// How an attempt is expected to end without confinement.
#[derive(Clone, Copy, PartialEq)]
enum Loose {
    /// Otherwise than with it: so it is the confinement that held.
    Differs,
    /// The same: the namespaces hold.
    Held,
    /// Not every kernel has what is attempted.
    Unsure,
}
use Loose::{Differs, Held, Unsure};

type Attempt = (&'static str, fn() -> io::Result<()>, &'static [i32], Loose);

/// Name; the attempt, which succeeds if root got out, or further; the errors that say it was held; what holds it.
const ATTEMPTS: &[Attempt] = &[
    ("dot-dot by directory descriptor", dot_dot, &[ENOENT], Held),
    ("second chroot", second_chroot, &[ENOENT], Held),
    ("roots of other processes", roots, &[ENOENT], Differs),
    ("root of the first process", || fs::read_dir("/proc/1/root/").map(drop), &[EACCES, EPERM], Differs),
    (
        "memory of the first process",
        || OpenOptions::new().write(true).open("/proc/1/mem").map(drop),
        &[EACCES],
        Differs,
    ),
    ("descriptors of the first process", || fs::read_link("/proc/1/fd/0").map(drop), &[EACCES], Differs),
    ("program of the first process", || fs::read_link("/proc/1/exe").map(drop), &[EACCES], Differs),
    ("namespace of the first process", || File::open("/proc/1/ns/mnt").map(drop), &[EACCES], Differs),
    ("disk", || node(libc::S_IFBLK, 8, 0), &[EPERM], Differs),
    ("memory of the machine", || node(libc::S_IFCHR, 1, 1), &[EPERM], Differs),
    ("device in /dev", || File::open("/dev/kmsg").map(drop), &[ENOENT], Held),
    ("mount", || mount(c"tmpfs", c"/tmp", c"tmpfs", 0), &[EPERM], Differs),
    (
        "read-only bind made writable",
        || mount(c"", c"/run/probe", c"", libc::MS_REMOUNT | libc::MS_BIND),
        &[EPERM],
        Differs,
    ),
    ("write to a read-only bind", || OpenOptions::new().append(true).open("/run/ro").map(drop), &[EROFS], Held),
    ("new mount interface", || call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as _, 0, 0, 0]), &[EPERM], Differs),
    (
        "umount of a mask",
        || call(libc::SYS_umount2, [c"/proc/keys".as_ptr() as _, libc::MNT_DETACH.into(), 0, 0]),
        &[EPERM],
        Differs,
    ),
    ("pivot_root", || call(libc::SYS_pivot_root, [c"/".as_ptr() as _, c"/tmp".as_ptr() as _, 0, 0]), &[EPERM], Differs),
    ("kernel setting", || write_to("/proc/sys/kernel/core_pattern"), &[EROFS], Differs),
    ("sysrq", || write_to("/proc/sysrq-trigger"), &[EROFS, ENOENT], Unsure),
    ("interrupts", || write_to("/proc/irq/default_smp_affinity"), &[EROFS], Differs),
    ("/sys", || write_to("/sys/kernel/profiling"), &[EROFS, ENOENT], Held),
    ("kill a process of the host", || call(libc::SYS_kill, [hint("HOST_PID").into(), 0, 0, 0]), &[ESRCH], Held),
    ("trace a process of the host", || trace(hint("HOST_PID")), &[ESRCH], Held),
    ("trace the first process", || trace(1), &[EPERM], Differs),
    ("load a module", || call(libc::SYS_init_module, [0; 4]), &[EPERM], Differs),
    ("load a module from a file", || call(libc::SYS_finit_module, [-1, 0, 0, 0]), &[EPERM], Differs),
    ("join a namespace", || call(libc::SYS_setns, [-1, 0, 0, 0]), &[EPERM], Differs),
    ("namespace by unshare", || call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]), &[EPERM], Differs),
    ("namespace by clone", || new_process(libc::CLONE_NEWUSER), &[EPERM], Differs),
    ("namespace by clone3", || call(libc::SYS_clone3, [0, 0, 0, 0]), &[ENOSYS], Differs),
    ("keyring", || call(libc::SYS_keyctl, [0, -3, 0, 0]), &[EPERM], Differs),
    ("new key", || call(libc::SYS_add_key, [0; 4]), &[EPERM], Differs),
    ("open by handle", || call(libc::SYS_open_by_handle_at, [-1, 0, 0, 0]), &[EPERM], Differs),
    (
        "type into the terminal",
        || call(libc::SYS_ioctl, [0, libc::TIOCSTI as i64, c"x".as_ptr() as _, 0]),
        &[EPERM],
        Differs,
    ),
    (
        "type into it, high bits set",
        || call(libc::SYS_ioctl, [0, libc::TIOCSTI as i64 | 1 << 32, c"x".as_ptr() as _, 0]),
        &[EPERM],
        Differs,
    ),
    (
        "paste into the console",
        || call(libc::SYS_ioctl, [0, libc::TIOCLINUX as i64, c"\x03".as_ptr() as _, 0]),
        &[EPERM],
        Differs,
    ),
    ("bpf", || call(libc::SYS_bpf, [-1, 0, 0, 0]), &[EPERM], Differs),
    ("performance events", || call(libc::SYS_perf_event_open, [0; 4]), &[EPERM], Differs),
    ("page faults in user space", || call(libc::SYS_userfaultfd, [1 << 30, 0, 0, 0]), &[EPERM], Differs),
    ("io_uring", || call(libc::SYS_io_uring_setup, [0; 4]), &[EPERM], Differs),
    ("another kernel", || call(libc::SYS_kexec_load, [0, -1, 0, -1]), &[EPERM], Differs),
    ("reboot", || call(libc::SYS_reboot, [0; 4]), &[EPERM], Differs),
    ("swap", || call(libc::SYS_swapon, [0; 4]), &[EPERM], Differs),
    ("process accounting", || call(libc::SYS_acct, [1, 0, 0, 0]), &[EPERM], Differs),
    ("clock", || call(libc::SYS_clock_settime, [0, 1, 0, 0]), &[EPERM], Differs),
    ("kernel log", || call(libc::SYS_syslog, [10, 0, 0, 0]), &[EPERM], Differs),
    ("host name", || call(libc::SYS_sethostname, [c"x".as_ptr() as _, 1, 0, 0]), &[EPERM], Differs),
    ("raw socket", || socket(libc::AF_INET, libc::SOCK_RAW, 1), &[EPERM], Differs),
    ("packet socket", || socket(libc::AF_PACKET, libc::SOCK_RAW, 0), &[EPERM], Differs),
    ("hypervisor socket", || socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0), &[EPERM], Differs),
    ("a call that is newer than our list", || call(500, [0; 4]), &[ENOSYS], Held),
    #[cfg(target_arch = "x86_64")]
    ("keyring by the calls of i386", || old_call(288, [0, -3, 0]), &[EPERM], Differs),
    #[cfg(target_arch = "x86_64")]
    ("namespace by the calls of i386", || old_call(310, [libc::CLONE_NEWUSER, 0, 0]), &[EPERM], Differs),
    #[cfg(target_arch = "x86_64")]
    ("x32 calls", || call(0x4000_0000 + libc::SYS_getpid, [0; 4]), &[ENOSYS], Held),
    ("abstract socket of the host", abstract_socket, &[ECONNREFUSED], Held),
    ("capabilities come back", capabilities_come_back, &[EPERM], Differs),
];

#[test]
fn root_does_not_get_out() {
    let Some(scene) = scene() else { return };
    let world = World::new(&scene);
    let mut faults = Vec::new();
    for (name, _, errors, loose) in ATTEMPTS {
        let held = |said: &str| errors.iter().any(|errno| *said == format!("errno {errno}\n"));
        let said = world.attempt(name, &["--net", "none"]);
        if !held(&said) {
            faults.push(format!("{name}: {said:?}"));
        }
        let said = world.attempt(name, &["--net", "none", "--no-confine"]);
        if *loose != Unsure && held(&said) != (*loose == Held) {
            faults.push(format!("{name}, not confined: {said:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // With the host's network its abstract sockets are there: as documented, and the attempt is a real one.
    assert_eq!(world.attempt("abstract socket of the host", &[]), "out\n");
    scene.assert_nothing_left("after all attempts");
}

#[test]
fn what_is_held_is_seen() {
    let Some(scene) = scene() else { return };
    let status = |options: &[&str]| scene.shell(options, "cat /proc/self/status");
    let field = |status: &str, name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, setfcap.
    let eleven = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].iter().fold(0_u64, |set, n| set | 1 << n);
    let eleven = format!("{eleven:016x}");
    let none = "0".repeat(16);
    for (options, effective, bounding, new_privileges, filter) in [
        (&[][..], &eleven, &eleven, "1", "2"),
        (&["-u", "ann"], &none, &eleven, "1", "2"),
        (&["--setuid"], &eleven, &eleven, "0", "2"),
        (&["--setuid", "-u", "ann"], &none, &eleven, "0", "2"),
    ] {
        let status = status(options);
        assert_eq!(field(&status, "CapEff:"), *effective, "{options:?}");
        assert_eq!(field(&status, "CapBnd:"), *bounding, "{options:?}");
        assert_eq!((&*field(&status, "CapInh:"), &*field(&status, "CapAmb:")), (&*none, &*none), "{options:?}");
        assert_eq!(
            (&*field(&status, "NoNewPrivs:"), &*field(&status, "Seccomp:")),
            (new_privileges, filter),
            "{options:?}"
        );
    }
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let loose = status(&["--no-confine"]);
    for name in ["CapBnd:", "NoNewPrivs:", "Seccomp:"] {
        assert_eq!(field(&loose, name), field(&own, name), "{name}");
    }
}

/// What the attempts find around them.
struct World<'a> {
    scene: &'a Scene,
    marker: String,
    socket: String,
    _listener: UnixListener,
}

impl World<'_> {
    fn new(scene: &Scene) -> World<'_> {
        for name in ["lib", "lib64", "usr/lib", "run", "sys"] {
            fs::create_dir_all(scene.root().join(name)).unwrap();
        }
        let marker = scene.dir.path().join("marker");
        fs::write(&marker, "host").unwrap();
        let socket = format!("stockade-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&socket).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        World { scene, marker: marker.to_str().unwrap().to_owned(), socket, _listener }
    }

    /// Makes the attempt `name` in a session: `out`, or `errno N`.
    fn attempt(&self, name: &str, options: &[&str]) -> String {
        let me = std::env::current_exe().unwrap();
        let bind = |from: &str, to: &str| ["--bind".to_owned(), format!("{from}:{to}:ro")];
        let mut words: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        words.extend(bind(me.to_str().unwrap(), "/run/probe"));
        words.extend(bind(&self.marker, "/run/ro"));
        for dir in ["/lib", "/lib64", "/usr/lib"] {
            if fs::metadata(dir).is_ok() {
                words.extend(bind(dir, dir));
            }
        }
        for (name, value) in [
            ("ATTEMPT", name),
            ("MARKER", &self.marker),
            ("SOCKET", &self.socket),
            ("HOST_PID", &std::process::id().to_string()),
        ] {
            words.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let argv = ["/run/probe", "--exact", "attempted_inside", "--ignored", "--nocapture", "--test-threads=1"];
        let output = within_time(&mut self.scene.run(&words, &argv));
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.lines().find_map(|line| line.split_once("ATTEMPT ")).map(|(_, said)| said.to_owned());
        said.map_or_else(|| format!("{output:?}"), |said| said + "\n")
    }
}

/// The other side of [`World::attempt`].
#[test]
#[ignore = "runs inside a session"]
fn attempted_inside() {
    let name = std::env::var("ATTEMPT").unwrap();
    let (_, attempt, ..) = ATTEMPTS.iter().find(|(known, ..)| *known == name).unwrap();
    match attempt() {
        Ok(()) => println!("ATTEMPT out"),
        Err(error) => println!("ATTEMPT errno {}", error.raw_os_error().unwrap_or(0)),
    }
}

fn hint(name: &str) -> i32 {
    std::env::var(name).unwrap().parse().unwrap()
}

/// From the directory that this process is in, up as far as it goes: is the host there?
fn look_out() -> io::Result<()> {
    for _ in 0..64 {
        std::env::set_current_dir("..")?;
    }
    std::os::unix::fs::chroot(".")?;
    fs::metadata(std::env::var("MARKER").unwrap()).map(drop)
}

fn dot_dot() -> io::Result<()> {
    let top = CString::new("/").unwrap();
    // SAFETY: a string and flags.
    let fd = unsafe { libc::open(top.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) };
    fs::create_dir_all("/tmp/deep")?;
    std::os::unix::fs::chroot("/tmp/deep")?;
    // SAFETY: no memory is involved.
    returned(unsafe { libc::fchdir(fd) }.into())?;
    look_out()
}

/// The working directory stays outside of the new root.
fn second_chroot() -> io::Result<()> {
    fs::create_dir_all("/tmp/deep")?;
    std::os::unix::fs::chroot("/tmp/deep")?;
    look_out()
}

/// The host by way of any process that there is.
fn roots() -> io::Result<()> {
    let marker = std::env::var("MARKER").unwrap();
    // The first process is asked for its memory: a root of its own is no way out if it is ours.
    fs::read_dir("/proc/1/root/").map_err(|_| io::Error::from_raw_os_error(ENOENT))?;
    for entry in fs::read_dir("/proc")?.flatten() {
        if fs::metadata(format!("{}/root{marker}", entry.path().display())).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::from_raw_os_error(0))
}

fn returned(value: i64) -> io::Result<()> {
    if value >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn call(number: i64, arguments: [i64; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: pointers among the arguments are strings that live on, or none.
    returned(unsafe { libc::syscall(number, a, b, c, d, 0_i64) })
}

/// A system call as programs of 32 bits make it.
#[cfg(target_arch = "x86_64")]
fn old_call(number: i32, [a, b, c]: [i32; 3]) -> io::Result<()> {
    let result: i32;
    // SAFETY: no pointers; rbx is put back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {b:r}", "int 0x80", "xchg rbx, {b:r}",
            b = inout(reg) i64::from(a) => _, inlateout("eax") number => result, in("ecx") b, in("edx") c,
        );
    }
    if result >= 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) }
}

fn node(kind: u32, major: u32, minor: u32) -> io::Result<()> {
    // SAFETY: a string and numbers.
    returned(unsafe { libc::mknod(c"/node".as_ptr(), kind | 0o600, libc::makedev(major, minor)) }.into())?;
    fs::remove_file("/node")
}

fn mount(from: &CStr, to: &CStr, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: strings; no data.
    returned(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }.into())
}

/// Only opened: a test must not change the machine.
fn write_to(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    returned(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) })
}

fn new_process(flags: i32) -> io::Result<()> {
    // SAFETY: a copy of this process, which ends at once.
    let pid = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), 0_i64, 0_i64, 0_i64, 0_i64) };
    if pid == 0 {
        // SAFETY: does not return.
        unsafe { libc::_exit(0) };
    }
    returned(pid)
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    returned(unsafe { libc::socket(family, kind, protocol) }.into())
}

fn abstract_socket() -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(std::env::var("SOCKET").unwrap())?;
    UnixStream::connect_addr(&address).map(drop)
}

/// The bounding set is what an executed program may get.
fn capabilities_come_back() -> io::Result<()> {
    const SYS_ADMIN: i32 = 21;
    // SAFETY: no memory is involved.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, SYS_ADMIN) } {
        0 => Err(io::Error::from_raw_os_error(EPERM)),
        value => returned(value.into()),
    }
}
