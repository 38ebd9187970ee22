// SPDX-License-Identifier: ISC
//! Actions: programs of the chroot that make what no source brings, run inside it when their inputs changed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::place::bytes;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::plan::Plan;
use crate::recipe::{self, Recipe};
use crate::tree::{Digest, Kind, Node, Tree};

/// One action.
struct Action {
    recipe: recipe::Action,
    /// The program; without it in the tree there is nothing to do.
    program: &'static str,
    arguments: &'static [&'static str],
    /// What it reads: its input key is made of these entries.
    reads: fn(&Node) -> bool,
    /// What it writes: never judged by the policy.
    writes: &'static [&'static str],
}

const ACTIONS: &[Action] = &[Action {
    recipe: recipe::Action::Ldconfig,
    program: "sbin/ldconfig",
    arguments: &["-X"],
    reads: |node| {
        let path = node.path.as_bytes();
        let library = node.path.name().windows(3).any(|three| three == b".so");
        path.starts_with(b"etc/ld.so.conf") || (library && !node.kind.is_dir())
    },
    writes: &["etc/ld.so.cache", "var/cache/ldconfig"],
}];

/// Everything that actions write.
pub(crate) fn outputs() -> Result<Vec<TreePath>> {
    ACTIONS.iter().flat_map(|action| action.writes).map(|path| TreePath::new(path.as_bytes())).collect()
}

/// The actions of `recipe` whose input in `tree` is not the one they ran with last.
pub(crate) fn due(recipe: &Recipe, tree: &Tree, ran: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let wanted = ACTIONS.iter().filter(|action| recipe.actions.contains(&action.recipe) && has_program(tree, action));
    let keyed = wanted.map(|action| (action.recipe.name().to_owned(), key(tree, action)));
    keyed.filter(|(name, key)| ran.get(name) != Some(key)).collect()
}

/// Does `plan` change anything that the action `name` reads?
pub(crate) fn concerns(name: &str, plan: &Plan) -> bool {
    let nodes = || plan.changes.iter().flat_map(|change| change.before.iter().chain(&change.after));
    ACTIONS.iter().any(|action| action.recipe.name() == name && nodes().any(action.reads))
}

fn has_program(tree: &Tree, action: &Action) -> bool {
    let Ok(path) = TreePath::new(action.program.as_bytes()) else { return false };
    let found = crate::tree::resolve::resolve(&path, true, |at| tree.get(at.as_bytes()).map(|n| &n.kind), |_| Ok(()));
    matches!(found, Ok(crate::tree::resolve::Resolved::Found(_)))
}

fn key(tree: &Tree, action: &Action) -> String {
    let mut hash = Sha256::new();
    for node in tree.nodes().iter().filter(|node| (action.reads)(node)) {
        hash.update(node.path.as_bytes());
        match &node.kind {
            Kind::Symlink(target) => hash.update(target),
            _ => hash.update(node.digest().map_or([0; 32], |d| d.0)),
        }
        hash.update(b"\n");
    }
    Digest(hash.finalize().into()).to_string()
}

/// Runs the action `name` in the directory `root`.
///
/// It runs as a process of its own, `stockade inside ROOT -- PROGRAM`: entering a root is for a process without other
/// threads (decision S1).
pub(crate) fn run(name: &str, root: &Path) -> Result<()> {
    let Some(action) = ACTIONS.iter().find(|action| action.recipe.name() == name) else { return Ok(()) };
    let program = format!("/{}", action.program);
    run_inside(root, &program, action.arguments)?.map_err(|why| {
        Error::new(ErrorKind::Io, format!("action {name}: {program} {why}"))
            .at(bytes(root))
            .hint(format!("leave it out with: actions = [\"-{name}\"]"))
    })
}

/// Runs a program in the directory `root`; else says in what way it failed.
pub(crate) fn run_inside(root: &Path, program: &str, arguments: &[&str]) -> Result<Result<(), String>> {
    let me = std::env::current_exe().on("readlink", "/proc/self/exe")?;
    let mut command = Command::new(me);
    command.arg("inside").arg(root).arg("--").arg(program).args(arguments);
    run_within(&mut command, &LIMITS).on("spawn", program)
}

/// What an action may take. Far beyond what any needs: so that a program that hangs, or never stops to complain, does
/// not hold a build for ever.
const LIMITS: Limits = Limits { seconds: 600, messages: 1 << 20 };

struct Limits {
    seconds: u64,
    /// Bytes on standard error.
    messages: u64,
}

/// Runs `command` to its end; else says in what way it failed.
fn run_within(command: &mut Command, limits: &Limits) -> io::Result<Result<(), String>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let messages = child.stderr.take();
    let deadline = Instant::now() + Duration::from_secs(limits.seconds);
    let (tell, told) = std::sync::mpsc::channel();
    let (said, status) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut said = Vec::new();
            // What was read before an error is all there is to say.
            let _ = messages.map(|from| from.take(limits.messages + 1).read_to_end(&mut said));
            let _ = tell.send(said.len());
            said
        });
        let length = told.recv_timeout(Duration::from_secs(limits.seconds));
        let ended = match length {
            Ok(length) if length as u64 <= limits.messages => wait_until(&mut child, deadline),
            _ => Ok(None),
        };
        if !matches!(ended, Ok(Some(_))) {
            // What it started ends with it, and with that the reader.
            child.kill()?;
            child.wait()?;
        }
        let said = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.map(|status| (said, status))
    })?;
    Ok(match status {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(format!("failed: {}", last_message(&said))),
        None if said.len() as u64 > limits.messages => {
            Err(format!("was stopped: it wrote more than {} bytes of messages", limits.messages))
        }
        None => Err(format!("was stopped: it did not end within {} seconds", limits.seconds)),
    })
}

/// Waits for a process that is about to end; none if it is still there at the deadline.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
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
        let limits = Limits { seconds: 1, messages: 100 };
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
            let ended = run_within(Command::new("sh").args(["-c", script]), &limits).unwrap();
            assert_eq!(ended, expect.map_err(str::to_owned), "{script}");
        }
        assert!(run_within(&mut Command::new("/nowhere"), &limits).is_err());
    }
}
