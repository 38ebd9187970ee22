// SPDX-License-Identifier: ISC
//! The command line: one file a verb. The only place that prints, prompts or draws.
#![forbid(unsafe_code)]

mod adopt;
mod args;
mod build;
mod check;
mod clone;
mod completions;
mod confine;
mod copy;
mod doctor;
mod errata;
mod jail;
mod json;
mod key;
mod list;
mod manifest;
mod options;
mod out;
mod patch;
mod progress;
mod record;
mod recover;
mod remove;
mod reset;
mod run;
mod secret;
mod sessions;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind as Clap;
use clap::{CommandFactory, Parser};

use crate::chroot::Home;
use crate::error::{IoContext, Result};
use crate::recipe;
use crate::session;
use crate::sys;
use args::{Cli, Common, Errata, Record, Run, Verb};
use out::Out;

/// How a verb ended, if not by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// 0: done.
    Done,
    /// 2: it differs, conflicts, or there is nothing to do; each verb says which.
    Differs,
    /// The status of the command that ran inside.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Differs => 2,
            Exit::Command(status) => status,
        })
    }
}

/// The definition of the command line, for completions and for the test that compares it with the manual.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program: parses `arguments` (the program's name first), does the verb, prints its error.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    sys::expect_children();
    let arguments: Vec<OsString> = arguments.collect();
    if looks_confined(&arguments) {
        // As early as can be, since all before it is done twice. What goes wrong is told below.
        let _ = sys::shield();
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, arguments.iter().any(|word| word == "--json")),
    };
    let mut out = Out::new(cli.verb.json());
    let done = rootless(&cli.verb)
        .and_then(|()| shield(&cli.verb))
        .and_then(|()| confine::to(&cli.verb))
        .and_then(|()| dispatch(&cli.verb, &mut out))
        .and_then(|exit| out.flush().map(|()| exit));
    match done {
        Ok(exit) => exit.into(),
        Err(error) if out::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = out.flush();
            out::report(cli.verb.name(), &error, out.json);
            ExitCode::FAILURE
        }
    }
}

/// An ordinary user is root of a user namespace where files of several owners are concerned (decision S4). Not to look at
/// sessions: from outside, the user may see into the namespaces of all of them.
fn rootless(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Sessions(_) | Verb::Schema | Verb::Completions(_) | Verb::Inside(_) | Verb::Fetch(_) => Ok(()),
        Verb::Key(_) => Ok(()),
        Verb::Patch(args) if !args.verb.needs_root() => Ok(()),
        _ => session::become_root(&Home::from_env()?.path),
    }
}

/// Is this `run` with confinement, as far as can be told before the words are understood?
fn looks_confined(arguments: &[OsString]) -> bool {
    let mut options = arguments.iter().skip(2).take_while(|word| *word != "--");
    arguments.get(1).is_some_and(|verb| verb == "run" || verb == "inside")
        && !options.any(|word| word == "--plain" || word == "--no-confine")
        && sys::effective_uid() == 0
}

/// What runs inside must not reach a program of the host that can be changed; without confinement it reaches all.
fn shield(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Run(Run { session, .. })
        | Verb::Record(Record { common: Common { session, .. }, .. })
        | Verb::Errata(Errata { common: Common { session, .. }, .. })
            if session.plain || session.no_confine =>
        {
            Ok(())
        }
        Verb::Run(_) | Verb::Record(_) | Verb::Errata(_) | Verb::Inside(_) if sys::effective_uid() == 0 => {
            sys::shield().on("execve", "/proc/self/exe")
        }
        _ => Ok(()),
    }
}

fn dispatch(verb: &Verb, out: &mut Out) -> Result<Exit> {
    match verb {
        Verb::Build(args) => build::run(args, out),
        Verb::Jail(args) => jail::run(args, out),
        Verb::Graph(args) => jail::graph::run(args, out),
        Verb::Check(args) => check::run(args, out),
        Verb::Run(args) => run::run(args),
        Verb::Record(args) => record::run(args, out),
        Verb::Errata(args) => errata::run(args, out),
        Verb::Sessions(args) => sessions::run(args, out),
        Verb::Clone(args) => clone::run(args, out),
        Verb::Reset(args) => reset::run(args, out),
        Verb::Copy(args) => copy::run(args, out),
        Verb::Remove(args) => remove::run(args, out),
        Verb::List(args) => list::run(args, out),
        Verb::Why(args) => why::run(args, out),
        Verb::Manifest(args) => manifest::run(args, out),
        Verb::Doctor(args) => doctor::run(args, out),
        Verb::Adopt(args) => adopt::run(args, out),
        Verb::Recover(args) => recover::run(args, out),
        Verb::Key(args) => key::run(args, out),
        Verb::Patch(args) => patch::run(args, out),
        Verb::Schema => out.line(format_args!("{}", recipe::schema())).map(|()| Exit::Done),
        Verb::Completions(args) => completions::run(args, out),
        Verb::Inside(args) => run::inside(args),
        Verb::Fetch(args) => patch::fetch(args),
    }
}

/// Help and version go to standard output; a wrong command line is an error like any other, with status 1.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    match error.kind() {
        Clap::DisplayHelp | Clap::DisplayVersion => {
            // Only a closed pipe can be in the way.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Clap::DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
        _ => {
            let text = error.render().to_string();
            out::report_usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end(), json);
        }
    }
    ExitCode::FAILURE
}
