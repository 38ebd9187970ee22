// SPDX-License-Identifier: ISC
//! The one door to the terminal: standard output for results, standard error for what went wrong.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::json;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::plan::Plan;
use crate::session::Applied;
use crate::sys::Occupant;
use crate::tree::Tree;
use crate::tree::text::{Dialect, write_tree};

/// What errors of the output are said of.
const STDOUT: &str = "standard output";

/// Standard output: text or JSON.
pub(super) struct Out {
    writer: BufWriter<StdoutLock<'static>>,
    /// JSON was asked for.
    pub(super) json: bool,
    colour: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Out {
        let stdout = io::stdout();
        let colour = stdout.is_terminal() && colour_wanted();
        Out { writer: BufWriter::new(stdout.lock()), json, colour }
    }

    /// Prints one line.
    pub(super) fn line(&mut self, text: fmt::Arguments<'_>) -> Result<()> {
        writeln!(self.writer, "{text}").on("write", STDOUT)
    }

    /// Prints the changes of a plan: letter, path, and what differs where that is not the letter's whole meaning.
    pub(super) fn plan(&mut self, plan: &Plan) -> Result<()> {
        for change in json::shown(plan) {
            let letter = change.action().letter();
            let fields = change.differs_in().join(" ");
            let gap = if fields.is_empty() { "" } else { "  " };
            match self.colour {
                true => {
                    self.line(format_args!("\x1b[{}m{letter}\x1b[0m {}{gap}{fields}", colour(letter), change.path))?
                }
                false => self.line(format_args!("{letter} {}{gap}{fields}", change.path))?,
            }
        }
        Ok(())
    }

    /// Prints one JSON value on a line of its own.
    pub(super) fn value(&mut self, value: &Value) -> Result<()> {
        self.line(format_args!("{value}"))
    }

    /// Prints a manifest.
    pub(super) fn tree(&mut self, tree: &Tree, dialect: Dialect) -> Result<()> {
        write_tree(tree, &mut self.writer, dialect).on("write", STDOUT)
    }

    /// Prints text that ends its own lines.
    pub(super) fn text(&mut self, text: &[u8]) -> Result<()> {
        self.writer.write_all(text).on("write", STDOUT)
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.writer.flush().on("write", STDOUT)
    }
}

/// The colour of a change's letter.
fn colour(letter: char) -> u8 {
    match letter {
        '+' => 32,
        '-' => 31,
        '!' | '*' => 33,
        _ => 36,
    }
}

/// Did writing stop because nobody reads any more, as in `stockade list | head -1`?
pub(super) fn is_closed_pipe(error: &Error) -> bool {
    let broken = |errno| io::Error::from_raw_os_error(errno).kind() == io::ErrorKind::BrokenPipe;
    error.path() == Some(STDOUT.as_bytes()) && error.errno().is_some_and(broken)
}

/// Prints the error of a command: for people as `stockade: VERB PATH: reason` with the marked lines of a file and the
/// hint below it, or as a JSON object.
pub(super) fn report(verb: &str, error: &Error, json: bool) {
    let mut stderr = io::stderr().lock();
    // There is nobody left to tell if this fails.
    let _ = if json { writeln!(stderr, "{}", error_value(verb, error)) } else { write_error(&mut stderr, verb, error) };
}

/// As [`report`], of one of several roots: the error itself may name a path in it, or the patch.
pub(super) fn report_of(verb: &str, root: &OsStr, error: &Error, json: bool) {
    let root = root.as_bytes();
    let mut stderr = io::stderr().lock();
    let _ = if json {
        let mut value = error_value(verb, error);
        value["error"]["root"] = json::path(root);
        writeln!(stderr, "{value}")
    } else if error.path().is_some_and(|path| path != root) {
        write_error(&mut stderr, &format!("{verb} {}:", escape(root)), error)
    } else {
        write_error(&mut stderr, verb, error)
    };
}

/// Says on standard error what should be mended, and does not stop anything.
pub(super) fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "stockade: warning: {text}");
}

/// Says what holds the limits of a session, before it begins.
pub(super) fn limits(limits: &[Applied], json: bool) {
    if limits.is_empty() {
        return;
    }
    let value = |limit: &Applied| json!({ "limit": limit.what, "value": limit.value, "by": limit.by });
    let text = |limit: &Applied| format!("{} {} by {}", limit.what, limit.value, limit.by);
    let line = match json {
        true => json!({ "limits": limits.iter().map(value).collect::<Value>() }).to_string(),
        false => format!("stockade: run: limited: {}", limits.iter().map(text).collect::<Vec<_>>().join("; ")),
    };
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says what a plain session left running.
pub(super) fn left(left: &[Occupant], json: bool) {
    if left.is_empty() {
        return;
    }
    let named: Vec<String> = left.iter().map(ToString::to_string).collect();
    let line = match json {
        true => json!({ "left": named }).to_string(),
        false => format!("stockade: run: left running: {}", named.join(", ")),
    };
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says something of a command that failed inside.
pub(super) fn note(verb: &str, text: &str, json: bool) {
    let line = if json { json!({ "note": text }).to_string() } else { format!("stockade: {verb}: {text}") };
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints what is wrong with the command line.
pub(super) fn report_usage(text: &str, json: bool) {
    let value = || json!({ "error": { "kind": ErrorKind::Usage.name(), "reason": text } });
    let text = if json { value().to_string() } else { format!("stockade: {text}") };
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn write_error(to: &mut dyn Write, verb: &str, error: &Error) -> io::Result<()> {
    let mut lines = error.to_string();
    if let Some(more) = error.lines() {
        lines = format!("{lines}\n{more}");
    }
    if error.path().is_some() {
        writeln!(to, "stockade: {verb} {lines}")?;
    } else {
        writeln!(to, "stockade: {verb}: {lines}")?;
    }
    error.advice().map_or(Ok(()), |hint| writeln!(to, "hint: {hint}"))
}

fn error_value(verb: &str, error: &Error) -> Value {
    json!({ "error": {
        "verb": verb,
        "kind": error.kind().name(),
        "path": error.path().map(json::path),
        "operation": error.operation(),
        "reason": error.reason(),
        "lines": error.lines(),
        "hint": error.advice(),
        "errno": error.errno(),
    } })
}

/// A path of the host, for people.
pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// May colours be used, if the stream is a terminal? <https://no-color.org>
fn colour_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_one_sentence_with_a_hint() {
        let text = |error: Error| {
            let mut out = Vec::new();
            write_error(&mut out, "build", &error).unwrap();
            String::from_utf8(out).unwrap()
        };
        let bare = || Error::new(ErrorKind::Refused, "no");
        for (error, want) in [
            (bare(), "stockade: build: no\n"),
            (bare().at("etc/x"), "stockade: build etc/x: no\n"),
            (
                bare().at("r:1:2").excerpt("1 | a\n  | ^").hint("b"),
                "stockade: build r:1:2: no\n1 | a\n  | ^\nhint: b\n",
            ),
            (bare().at(b"a\x1b"), "stockade: build a\\033: no\n"),
        ] {
            assert_eq!(text(error), want);
        }
    }

    #[test]
    fn errors_are_json_objects_too() {
        let error = Error::io("open", b"a\xff", &io::Error::from_raw_os_error(2)).hint("h");
        let value = error_value("check", &error);
        assert_eq!(value["error"]["path"], json!({ "bytes": "Yf8=" }));
        assert_eq!(value["error"]["kind"], "not-found");
        assert_eq!((&value["error"]["errno"], &value["error"]["lines"]), (&json!(2), &Value::Null));
    }

    #[test]
    fn only_a_closed_pipe_is_quiet() {
        let write = |errno| Error::io("write", STDOUT, &io::Error::from_raw_os_error(errno));
        assert!(is_closed_pipe(&write(32)) && !is_closed_pipe(&write(28)));
        assert!(!is_closed_pipe(&Error::io("write", "file", &io::Error::from_raw_os_error(32))));
    }
}
