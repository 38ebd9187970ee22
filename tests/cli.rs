// SPDX-License-Identifier: ISC
//! The program as people call it: exit status, what goes where, JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program with a home of its own below `home`.
fn stockade(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(arguments).env("STOCKADE_HOME", home.join("home")).env_remove("NO_COLOR").current_dir(home);
    command
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    stockade(home, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn status_and_streams_of_short_commands() {
    let temp = tempfile::tempdir().unwrap();
    for (arguments, status, out, err) in [
        (&["--help"][..], 0, "Usage: stockade <COMMAND>", ""),
        (&["--version"], 0, "stockade 0.1.0\n", ""),
        (&["build", "--help"], 0, "--dry-run", ""),
        (&[], 1, "", "Usage: stockade <COMMAND>"),
        (&["fly"], 1, "", "stockade: unrecognized subcommand 'fly'"),
        (&["check"], 1, "", "stockade: the following required arguments were not provided:\n  <ROOT>"),
        (&["check", "--bogus", "x"], 1, "", "stockade: unexpected argument '--bogus' found"),
        (&["check", "--json", "--bogus", "x"], 1, "", "{\"error\":{\"kind\":\"usage\",\"reason\":\"unexpected"),
        (
            &["build", "--list", "SHA256"],
            1,
            "",
            "stockade: the following required arguments were not provided:\n  --from",
        ),
        (&["completions", "tcsh"], 1, "", "stockade: invalid value 'tcsh'"),
        (&["schema"], 0, "\"$schema\": \"https://json-schema.org/draft/2020-12/schema\"", ""),
    ] {
        let output = run(temp.path(), arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stdout.contains(out) && stdout.is_empty() == out.is_empty(), "{arguments:?}: {stdout}");
        assert!(stderr.contains(err) && stderr.is_empty() == err.is_empty(), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = stockade(temp.path(), &["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

/// The scripts must be accepted by the shells that are here; ksh's arrays by hand, for Debian has no OpenBSD ksh.
#[test]
fn completion_scripts_are_accepted() {
    let temp = tempfile::tempdir().unwrap();
    for shell in ["bash", "fish", "zsh"] {
        let script = run(temp.path(), &["completions", shell]).stdout;
        assert!(text(&script).contains("no-wait"), "{shell}");
        let Ok(mut child) = Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
            continue;
        };
        child.stdin.take().unwrap().write_all(&script).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {}", text(&output.stderr));
    }
    let script = run(temp.path(), &["completions", "ksh"]).stdout;
    let mut lines = BufReader::new(&script[..]).lines().map(Result::unwrap);
    let verbs = lines.next().unwrap();
    assert!(verbs.starts_with("set -A complete_stockade_1 -- build jail check run "), "{verbs}");
    let flags = lines.next().unwrap();
    assert!(flags.contains(" --dry-run ") && flags.contains(" --file "), "{flags}");
}
