// SPDX-License-Identifier: ISC
//! `stockade sessions`: what runs where, since when, with which limits; and its end.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::chroot::Home;
use crate::chroot::sessions::{self, Located};
use crate::cli::args::{Sessions, SessionsVerb};
use crate::cli::out::{Out, shown};
use crate::cli::{Exit, json};
use crate::error::Result;
use crate::session::Confine;

pub(super) fn run(args: &Sessions, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let (found, ended) = match &args.verb {
        Some(SessionsVerb::End { which }) => (sessions::end(&home, which)?, true),
        None => (sessions::list(&home)?, false),
    };
    if out.json {
        out.value(&found.iter().map(value).collect())?;
        return Ok(Exit::Done);
    }
    for one in &found {
        let entry = &one.entry;
        let (root, age) = (shown(&one.root), age(entry.since));
        match ended {
            true => out.line(format_args!("ended {} in {root}", entry.pid))?,
            false => out.line(format_args!(
                "{:>7}  {age:>6}  {root}  {}{}  {}",
                entry.pid,
                entry.user,
                how(one),
                entry.command
            ))?,
        }
    }
    Ok(Exit::Done)
}

/// What is not as usual, in brackets.
fn how(one: &Located) -> String {
    let entry = &one.entry;
    let mut words: Vec<String> = Vec::new();
    let mut put = |said: bool, word: &str| words.extend(said.then(|| word.to_owned()));
    put(entry.is_foreign(), "in another pid namespace");
    put(entry.confine == Confine::Plain, "plain");
    put(entry.confine == Confine::Namespaces, "not confined");
    put(entry.offline, "no network");
    put(entry.ephemeral, "ephemeral");
    words.extend(entry.limits.iter().map(|limit| format!("{} {}", limit.what, limit.value)));
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

fn value(one: &Located) -> Value {
    let mut value = json!(one.entry);
    value["root"] = json::host_path(&one.root);
    value
}

/// How long ago that was, in the two largest units.
fn age(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match now.saturating_sub(since) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        s @ 3600..86400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        s => format!("{}d{:02}h", s / 86400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::age;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn ages() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        // Half a unit more, so that a second that passes meanwhile does not show.
        for (ago, want) in [(3630, "1h00m"), (90_000, "1d01h"), (86_430, "1d00h")] {
            assert_eq!(age(now - ago), want);
        }
        assert_eq!(age(now + 100), "0s");
    }
}
