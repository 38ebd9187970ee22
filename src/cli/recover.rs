// SPDX-License-Identifier: ISC
//! `stockade recover`: finishes or undoes what an interrupted command began.
#![forbid(unsafe_code)]

use serde_json::json;

use crate::chroot::Home;
use crate::chroot::patch::{Followed, catch_up_on};
use crate::chroot::recover::{self, Outcome};
use crate::cli::Exit;
use crate::cli::args::Rooted;
use crate::cli::out::{Out, shown};
use crate::cli::patch::{followed_lines, followed_value};
use crate::cli::progress::watched;
use crate::error::Result;
use crate::path::escape;

pub(super) fn run(args: &Rooted, out: &mut Out) -> Result<Exit> {
    let home = Home::from_env()?;
    let outcome = watched(out.json, |watch| recover::recover(&home, args.root.as_os_str(), !args.lock.no_wait, watch))?;
    let followed = watched(out.json, |watch| catch_up_on(&home, args.root.as_os_str(), !args.lock.no_wait, watch))?;
    let (word, text, why) = match &outcome {
        Outcome::Nothing => ("nothing", "nothing was interrupted", None),
        Outcome::Discarded => ("discarded", "what had changed nothing yet is forgotten", None),
        Outcome::Finished => ("finished", "the interrupted change is complete", None),
        Outcome::TurnedBack(why) => ("turned back", "the interrupted change is undone", Some(why)),
    };
    if out.json {
        out.value(&json!({ "outcome": word, "why": why, "follow_ups": followed_value(&followed) }))?;
    } else {
        let why = why.map_or(String::new(), |why| format!(": {}", escape(why.as_bytes())));
        out.line(format_args!("{}: {text}{why}", shown(&args.root)))?;
        followed_lines(&followed, out)?;
    }
    Ok(if followed.iter().all(Followed::done) { Exit::Done } else { Exit::Differs })
}
