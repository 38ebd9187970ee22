// SPDX-License-Identifier: ISC
//! `stockade completions SHELL`: scripts for the shells, made from the definitions of the command line.
#![forbid(unsafe_code)]

use clap::Command;
use clap_complete::Shell as Known;

use crate::cli::Exit;
use crate::cli::args::{Completions, Shell};
use crate::cli::out::Out;
use crate::error::Result;

pub(super) fn run(args: &Completions, out: &mut Out) -> Result<Exit> {
    let mut command = crate::cli::command();
    let mut script = Vec::new();
    match args.shell {
        Shell::Bash => clap_complete::generate(Known::Bash, &mut command, "stockade", &mut script),
        Shell::Fish => clap_complete::generate(Known::Fish, &mut command, "stockade", &mut script),
        Shell::Zsh => clap_complete::generate(Known::Zsh, &mut command, "stockade", &mut script),
        Shell::Ksh => script = ksh(&mut command).into_bytes(),
    }
    out.text(&script).map(|()| Exit::Done)
}

/// OpenBSD's ksh(1) completes the Nth argument of a command from the array `complete_COMMAND_N` and the others from
/// `complete_COMMAND`. They are words, not functions: the flags of all verbs, and the chroots of the moment.
fn ksh(command: &mut Command) -> String {
    command.build();
    let shown = || command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs: Vec<&str> = shown().map(Command::get_name).collect();
    let mut flags: Vec<String> = shown()
        .flat_map(Command::get_arguments)
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .collect();
    flags.sort_unstable();
    flags.dedup();
    format!(
        "set -A complete_stockade_1 -- {}\n\
         set -A complete_stockade -- {} $(stockade list 2>/dev/null | while read -r name rest; do echo \"$name\"; done)\n",
        verbs.join(" "),
        flags.join(" ")
    )
}
