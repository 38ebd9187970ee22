// SPDX-License-Identifier: ISC
//! Long work: a progress bar on a terminal, and Ctrl-C.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{IoContext, Result};
use crate::watch::Watch;

/// How often the bar is drawn; work that ends sooner shows none.
const TICK: Duration = Duration::from_millis(200);

/// Does `work` while a bar on the terminal shows how far it is; a signal to stop is passed on to it.
///
/// The second signal ends the program at once; the next command then recovers.
pub(super) fn watched<T>(quiet: bool, work: impl FnOnce(&Watch) -> Result<T>) -> Result<T> {
    let watch = Watch::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let flag = watch.stop_flag();
        // In this order: the flag that the first signal sets arms the shutdown for the second.
        signal_hook::flag::register_conditional_shutdown(signal, 1, flag.clone()).on("sigaction", b"")?;
        signal_hook::flag::register(signal, flag).on("sigaction", b"")?;
    }
    if quiet || !io::stderr().is_terminal() {
        return work(&watch);
    }
    thread::scope(|scope| {
        let (working, done) = mpsc::channel();
        let seen = &watch;
        scope.spawn(move || draw(seen, &done));
        let result = work(seen);
        drop(working);
        result
    })
}

/// Draws until the other end of `done` is dropped.
fn draw(watch: &Watch, done: &Receiver<()>) {
    let spinner = ProgressStyle::with_template("{spinner} {msg}");
    let bar = ProgressStyle::with_template("{wide_bar:.cyan/dim} {percent:>3}% {msg}");
    let (Ok(spinner), Ok(bar)) = (spinner, bar) else { return };
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    while done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let (phase, entries, bytes, total) = watch.state();
        if phase.is_empty() {
            continue;
        }
        line.set_style(if total > 0 { bar.clone() } else { spinner.clone() });
        line.set_length(total);
        line.set_position(if bytes > 0 { bytes } else { entries }.min(total));
        line.set_message(match bytes {
            0 => format!("{phase}: {} entries", HumanCount(entries)),
            _ => format!("{phase}: {} entries, {}", HumanCount(entries), HumanBytes(bytes)),
        });
        line.tick();
    }
    line.finish_and_clear();
}
