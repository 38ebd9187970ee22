// SPDX-License-Identifier: ISC
//! Actions: programs of the chroot that make what no source brings, run inside it when their inputs changed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::devices;
use super::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::plan::Plan;
use crate::recipe::{self, Recipe};
use crate::sys::{self, Calls, Dir};
use crate::tree::resolve::{Resolved, resolve};
use crate::tree::{Digest, Kind, Node, Time, Tree};
use crate::watch::Watch;

/// One action.
struct Action {
    /// What it is recorded as.
    name: &'static str,
    /// What switches it off in a recipe.
    recipe: recipe::Action,
    /// Whose chroots have it.
    system: System,
    /// The program; without it in the tree there is nothing to do.
    program: &'static str,
    arguments: &'static [&'static str],
    /// What it reads: its input key is made of these entries; without any there is nothing to do.
    reads: fn(&[u8]) -> bool,
    /// What it writes: never judged by the policy. Where a file of these is missing, it is due again.
    writes: &'static [&'static str],
    /// What is brought by others and that it writes anew as it was: its time is put back.
    rewrites: &'static [&'static str],
    /// It is for those who have what it writes, as sysmerge(8) has it: without that, the program reads the text itself.
    refreshes: bool,
}

/// Of all that actions write the one directory; without it nothing is missing.
const CACHE: &str = "var/cache/ldconfig";

/// Two systems have programs of the same name that do not do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Linux,
    OpenBsd,
}

impl System {
    /// Which one the chroot of `tree` is. Only OpenBSD has its linker there.
    fn of(tree: &Tree) -> System {
        if tree.get(b"usr/libexec/ld.so").is_some() { System::OpenBsd } else { System::Linux }
    }
}

/// In the order in which they run: devices before their names, accounts before what looks for them.
const ACTIONS: &[Action] = &[
    Action {
        name: "ldconfig",
        recipe: recipe::Action::Ldconfig,
        system: System::Linux,
        program: "sbin/ldconfig",
        arguments: &["-X"],
        reads: |path| path.starts_with(b"etc/ld.so.conf") || is_library(path),
        writes: &["etc/ld.so.cache", CACHE],
        rewrites: &[],
        refreshes: false,
    },
    Action {
        name: "ldconfig-hints",
        recipe: recipe::Action::Ldconfig,
        system: System::OpenBsd,
        program: "sbin/ldconfig",
        arguments: &["/usr/lib", "/usr/X11R6/lib", "/usr/local/lib"],
        reads: is_library,
        writes: &["var/run/ld.so.hints"],
        rewrites: &[],
        refreshes: false,
    },
    Action {
        name: "pwd_mkdb",
        recipe: recipe::Action::PwdMkdb,
        system: System::OpenBsd,
        program: "usr/sbin/pwd_mkdb",
        arguments: &["-p", "-d", "/etc", "/etc/master.passwd"],
        reads: |path| path == b"etc/master.passwd",
        writes: &["etc/pwd.db", "etc/spwd.db"],
        rewrites: &["etc/passwd"],
        refreshes: false,
    },
    Action {
        name: MAKEDEV,
        recipe: recipe::Action::DevMkdb,
        system: System::OpenBsd,
        program: "bin/sh",
        arguments: &["-c", "cd /dev && exec sh ./MAKEDEV all"],
        reads: |path| path == b"dev/MAKEDEV",
        writes: &[],
        rewrites: &[],
        refreshes: false,
    },
    Action {
        name: "dev_mkdb",
        recipe: recipe::Action::DevMkdb,
        system: System::OpenBsd,
        program: "usr/sbin/dev_mkdb",
        arguments: &[],
        reads: |path| path.starts_with(b"dev/"),
        writes: &["var/run/dev.db"],
        rewrites: &[],
        refreshes: false,
    },
    Action {
        name: "cap_mkdb",
        recipe: recipe::Action::CapMkdb,
        system: System::OpenBsd,
        program: "usr/bin/cap_mkdb",
        arguments: &["/etc/login.conf"],
        reads: |path| path == b"etc/login.conf",
        writes: &["etc/login.conf.db"],
        rewrites: &[],
        refreshes: true,
    },
    Action {
        name: "newaliases",
        recipe: recipe::Action::Newaliases,
        system: System::OpenBsd,
        program: "usr/bin/newaliases",
        arguments: &[],
        reads: |path| path == b"etc/mail/aliases",
        writes: &["etc/mail/aliases.db"],
        rewrites: &[],
        refreshes: true,
    },
    Action {
        name: "makewhatis",
        recipe: recipe::Action::Makewhatis,
        system: System::OpenBsd,
        program: "usr/sbin/makewhatis",
        arguments: &["/usr/share/man"],
        reads: |path| path.starts_with(b"usr/share/man/") && path != b"usr/share/man/mandoc.db",
        writes: &["usr/share/man/mandoc.db"],
        rewrites: &[],
        refreshes: false,
    },
];

/// What an action touches without changing it: the directory above it, its name, its time before.
type Written = (Dir, Box<[u8]>, Time);

/// It runs only where there is no table of the devices that the recipe wants.
const MAKEDEV: &str = "makedev";

fn is_library(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    name.windows(3).any(|three| three == b".so")
}

impl Action {
    fn is_wanted(&self, recipe: &Recipe) -> bool {
        match self.name {
            MAKEDEV => devices::by_script(recipe.devices),
            _ => recipe.actions.contains(&self.recipe),
        }
    }

    fn concerns(&self, node: &Node) -> bool {
        !node.kind.is_dir() && (self.reads)(node.path.as_bytes())
    }

    fn has_program(&self, tree: &Tree) -> bool {
        let Ok(path) = TreePath::new(self.program.as_bytes()) else { return false };
        let found = resolve(&path, true, |at| tree.get(at.as_bytes()).map(|n| &n.kind), |_| Ok(()));
        matches!(found, Ok(Resolved::Found(_)))
    }

    /// Is what it writes there?
    fn is_done(&self, there: There<'_>) -> bool {
        self.writes.iter().filter(|path| **path != CACHE).all(|path| there(path.as_bytes()))
    }

    /// The times of the directories that it writes to, and of the files that it writes anew: what it makes is nobody's to
    /// judge, and so is that it made it.
    fn times(&self, root: &Path) -> Result<Vec<Written>> {
        let root = Dir::open(root, Calls::from_env()).on("open", bytes(root))?;
        let mut times = Vec::new();
        let paths = |of: &[&str]| -> Result<Vec<TreePath>> { of.iter().map(|p| TreePath::new(p.as_bytes())).collect() };
        let directories =
            paths(self.writes)?.into_iter().filter_map(|path| path.parent()).filter(|path| !path.is_root());
        for path in paths(self.rewrites)?.into_iter().chain(directories) {
            let Ok(above) = root.walk_parent(&path) else { continue };
            if let Some(stat) = above.find(path.name()).on("stat", &path)? {
                times.push((above, path.name().into(), stat.mtime));
            }
        }
        Ok(times)
    }

    /// Its input in `tree`; none if there is nothing that it reads.
    fn key(&self, tree: &Tree) -> Option<String> {
        let mut hash = Sha256::new();
        let mut reads = 0;
        for node in tree.nodes().iter().filter(|node| self.concerns(node)) {
            reads += 1;
            hash.update(node.path.as_bytes());
            match &node.kind {
                Kind::Symlink(target) => hash.update(target),
                Kind::Char(major, minor) | Kind::Block(major, minor) => hash.update(format!("{major},{minor}")),
                _ => hash.update(node.digest().map_or([0; 32], |d| d.0)),
            }
            hash.update(b"\n");
        }
        (reads > 0).then(|| Digest(hash.finalize().into()).to_string())
    }
}

/// Everything that actions write.
pub(crate) fn outputs() -> Result<Vec<TreePath>> {
    ACTIONS.iter().flat_map(|action| action.writes).map(|path| TreePath::new(path.as_bytes())).collect()
}

/// Is there something at a path of the root?
pub(crate) type There<'a> = &'a dyn Fn(&[u8]) -> bool;

/// The actions of `recipe` whose input in `tree` is not the one they ran with last, or whose output is not `there`, in the
/// order in which they run.
pub(crate) fn due(
    recipe: &Recipe,
    (tree, there): (&Tree, There<'_>),
    ran: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let system = System::of(tree);
    let is_done = |name: &str| ACTIONS.iter().any(|action| action.name == name && action.is_done(there));
    let is_wanted = |action: &&Action| action.system == system && action.is_wanted(recipe) && action.has_program(tree);
    let wanted = ACTIONS.iter().filter(is_wanted).filter(|action| !action.refreshes || is_done(action.name));
    let keyed = wanted.filter_map(|action| Some((action.name.to_owned(), action.key(tree)?)));
    let ran_with = |name: &str, key: &str| ran.get(name).is_some_and(|ran| ran == key);
    let over = |name: &str, key: &str| ran_with(name, key) && is_done(name) || ran_with(name, &without_output(key));
    keyed.filter(|(name, key)| !over(name, key)).collect()
}

/// Does `plan` change anything that the action `name` reads?
pub(crate) fn concerns(name: &str, plan: &Plan) -> bool {
    let nodes = || plan.changes.iter().flat_map(|change| change.before.iter().chain(&change.after));
    ACTIONS.iter().any(|action| action.name == name && nodes().any(|node| action.concerns(node)))
}

/// Runs the action `name`, whose input has this key, in the directory `root`. What to remember of it.
///
/// It runs as a process of its own, `stockade inside ROOT -- PROGRAM`: entering a root is for a process without other
/// threads (decision S1).
pub(crate) fn run((name, key): (&str, String), root: &Path, watch: &Watch) -> Result<String> {
    let Some(action) = ACTIONS.iter().find(|action| action.name == name) else { return Ok(key) };
    let program = format!("/{}", action.program);
    let times = action.times(root)?;
    let ended = run_inside(root, (&program, action.arguments), watch)?;
    for (above, name, mtime) in times {
        if above.find(&name).on("stat", bytes(root))?.is_some() {
            above.set_mtime(&name, mtime).on("utimensat", bytes(root))?;
        }
    }
    ended.map_err(|why| {
        if watch.check().is_err() {
            let reason = format!("stopped by the user; action {name} is still to be done");
            return Error::new(ErrorKind::Cancelled, reason).at(bytes(root));
        }
        let hint = match name {
            MAKEDEV => "name another set: devices = \"none\"".to_owned(),
            _ => format!("leave it out with: actions = [\"-{}\"]", action.recipe.name()),
        };
        Error::new(ErrorKind::Io, format!("action {name}: {program} {why}")).at(bytes(root)).hint(hint)
    })?;
    let dir = Dir::open(root, Calls::from_env()).on("open", bytes(root))?;
    let there = |path: &[u8]| {
        let find = |path: &TreePath| dir.walk_parent(path).and_then(|above| above.find(path.name()));
        TreePath::new(path).is_ok_and(|path| find(&path).is_ok_and(|stat| stat.is_some()))
    };
    Ok(if action.is_done(&there) { key } else { without_output(&key) })
}

/// The key of an action that ran and did not make what it makes elsewhere, as ldconfig of musl does.
fn without_output(key: &str) -> String {
    format!("{key} without output")
}

/// Runs a program in the directory `root`; else says in what way it failed.
pub(crate) fn run_inside(
    root: &Path,
    (program, arguments): (&str, &[&str]),
    watch: &Watch,
) -> Result<Result<(), String>> {
    let me = crate::sys::own_program().on("readlink", "/proc/self/exe")?;
    let mut command = Command::new(me);
    command.arg("inside").arg(root).arg("--").arg(program).args(arguments);
    run_within(&mut command, &LIMITS, watch).on("spawn", program)
}

/// What an action may take. Far beyond what any needs: so that a program that hangs, or never stops to complain, does
/// not hold a build for ever.
const LIMITS: Limits = Limits { seconds: 600, messages: 1 << 20, grace: 5 };

struct Limits {
    seconds: u64,
    /// Bytes on standard error.
    messages: u64,
    /// Seconds to end in, when the user stops it.
    grace: u64,
}

/// How long nobody looks whether the user wants it stopped.
const TICK: Duration = Duration::from_millis(20);

/// Runs `command` to its end; else says in what way it failed.
///
/// It has a group of its own: a Ctrl-C reaches us alone, and we end it whole.
fn run_within(command: &mut Command, limits: &Limits, watch: &Watch) -> io::Result<Result<(), String>> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = sys::start_group(command)?;
    let messages = child.stderr.take();
    let deadline = Instant::now() + Duration::from_secs(limits.seconds);
    let (tell, told) = channel();
    let (said, status) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut said = Vec::new();
            // What was read before an error is all there is to say.
            let _ = messages.map(|from| from.take(limits.messages + 1).read_to_end(&mut said));
            let _ = tell.send(said.len());
            said
        });
        let goes_on = || Instant::now() < deadline && watch.check().is_ok();
        let length = loop {
            match told.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) if goes_on() => {}
                length => break length,
            }
        };
        let ended = match length {
            Ok(length) if length as u64 <= limits.messages => wait_while(&mut child, goes_on),
            _ => Ok(None),
        };
        if !matches!(ended, Ok(Some(_))) {
            end(&mut child, if watch.check().is_err() { limits.grace } else { 0 })?;
        }
        let said = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.map(|status| (said, status))
    })?;
    Ok(match status {
        Some(status) if status.success() => Ok(()),
        None if watch.check().is_err() => Err("was stopped by the user".to_owned()),
        Some(_) => Err(format!("failed: {}", last_message(&said))),
        None if said.len() as u64 > limits.messages => {
            Err(format!("was stopped: it wrote more than {} bytes of messages", limits.messages))
        }
        None => Err(format!("was stopped: it did not end within {} seconds", limits.seconds)),
    })
}

/// Ends a process with all that it started, and with that the reader; with `grace`, in seconds, it is asked first.
fn end(child: &mut Child, grace: u64) -> io::Result<()> {
    if grace > 0 {
        sys::end_group(child, false)?;
        let deadline = Instant::now() + Duration::from_secs(grace);
        wait_while(child, || Instant::now() < deadline)?;
    }
    // What it left in the background too: it may hold on to what is read from.
    sys::end_group(child, true)?;
    child.wait().map(drop)
}

/// Waits for a process that is about to end; none if it is still there when nobody wants to wait any more.
fn wait_while(child: &mut Child, goes_on: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if goes_on() => std::thread::sleep(Duration::from_millis(2)),
            ended => return Ok(ended),
        }
    }
}

/// The last line that is not a hint: those are for whoever typed the command.
fn last_message(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("hint: "));
    escape(line.unwrap_or("it did not say why").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_ends_or_is_stopped() {
        let limits = Limits { seconds: 1, messages: 100, grace: 1 };
        let watch = Watch::default();
        for (script, expect) in [
            ("exit 0", Ok(())),
            ("echo said; echo warning >&2", Ok(())),
            ("echo one >&2; echo two >&2; echo hint: three >&2; exit 3", Err("failed: two")),
            ("kill -9 $$", Err("failed: it did not say why")),
            ("exec 2>&-; exit 4", Err("failed: it did not say why")),
            ("while echo again; do :; done >&2", Err("was stopped: it wrote more than 100 bytes of messages")),
            ("exec sleep 1000", Err("was stopped: it did not end within 1 seconds")),
            ("exec 2>&-; exec sleep 1000", Err("was stopped: it did not end within 1 seconds")),
        ] {
            let ended = run_within(Command::new("sh").args(["-c", script]), &limits, &watch).unwrap();
            assert_eq!(ended, expect.map_err(str::to_owned), "{script}");
        }
        assert!(run_within(&mut Command::new("/nowhere"), &limits, &watch).is_err());
    }

    #[test]
    fn an_action_ends_when_the_user_stops_it() {
        let limits = Limits { seconds: 600, messages: 100, grace: 1 };
        let watch = Watch::default();
        watch.stop_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        for script in [
            "exec sleep 1000",
            "exec 2>&-; exec sleep 1000",
            "sleep 1000 & wait",
            "trap '' TERM; while :; do sleep 1; done",
            "trap 'exit 0' TERM; while :; do sleep 0.1; done",
        ] {
            let ended = run_within(Command::new("sh").args(["-c", script]), &limits, &watch).unwrap();
            assert_eq!(ended, Err("was stopped by the user".to_owned()), "{script}");
        }
    }
}
