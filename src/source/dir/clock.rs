// SPDX-License-Identifier: ISC
//! When a stamp proves something (decision E11): whoever changes a file after it was looked at must give it another ctime
//! than the one that was seen. Kernels take ctimes from a clock that ticks, so a change in the tick of the look would not
//! show.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys::change_clock;
use crate::tree::Time;

/// A time: changes before it are told from all that come now.
#[derive(Clone, Copy)]
pub(super) struct Settled(Time);

impl Settled {
    pub(super) fn now() -> Settled {
        Settled(change_clock())
    }

    pub(super) fn at(time: Time) -> Settled {
        Settled(time)
    }

    /// Was the last change before it? Without nanoseconds, the filesystem may count in whole seconds.
    pub(super) fn holds(self, ctime: Time) -> bool {
        if ctime.nsec == 0 { ctime.sec < self.0.sec } else { ctime < self.0 }
    }
}

/// Waits until all that this process has changed so far is told from what comes: a tick, 10 ms at most where the
/// kernel shows its clock, else two.
pub(super) fn settle() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = Time { sec: now.as_secs().try_into().unwrap_or_default(), nsec: now.subsec_nanos() };
    // Not longer, if the clock is set back meanwhile: some stamps are then missing.
    for _ in 0..40 {
        if Settled::now().holds(changed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
