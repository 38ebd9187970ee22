// SPDX-License-Identifier: ISC
//! [`Watch`]: how far long work has come, and whether the user wants it stopped. Workers count, `cli` draws.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Shared by all threads of one command.
#[derive(Debug, Default)]
pub struct Watch {
    phase: Mutex<&'static str>,
    entries: AtomicU64,
    bytes: AtomicU64,
    total: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Begins a phase: `scanning`, `staging`; `total` bytes or entries, 0 where nobody knows.
    pub fn begin(&self, phase: &'static str, total: u64) {
        if let Ok(mut now) = self.phase.lock() {
            *now = phase;
        }
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Counts work done.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] once the user asked to stop.
    pub fn count(&self, entries: u64, bytes: u64) -> Result<()> {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.check()
    }

    /// Asks whether to go on.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] once the user asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "stopped by the user; nothing was changed"));
        }
        Ok(())
    }

    /// The flag that a signal handler sets.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Phase, entries, bytes and total, for drawing.
    pub fn state(&self) -> (&'static str, u64, u64, u64) {
        let phase = self.phase.lock().map_or("", |p| *p);
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (phase, load(&self.entries), load(&self.bytes), load(&self.total))
    }
}
