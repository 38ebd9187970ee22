// SPDX-License-Identifier: ISC
//! A stack of jobs that make more jobs, shared by a few threads.
#![forbid(unsafe_code)]

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    /// Jobs that are waiting or being done.
    open: usize,
    stopped: bool,
}

/// A thread's place at the pool. When one leaves, for whatever reason, all stop: there is no more work, or an error.
pub(super) struct Seat<'a, T>(&'a Pool<T>);

impl<T> Pool<T> {
    pub(super) fn new(first: T) -> Pool<T> {
        let state = State { waiting: vec![first], open: 1, stopped: false };
        Pool { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn seat(&self) -> Seat<'_, T> {
        Seat(self)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Seat<'_, T> {
    /// The next job, the newest first; waits for one. None: all is done.
    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.0.lock();
        loop {
            if state.stopped || state.open == 0 {
                return None;
            }
            if let Some(job) = state.waiting.pop() {
                return Some(job);
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One job is done and made `more`.
    pub(super) fn done(&self, more: Vec<T>) {
        let mut state = self.0.lock();
        let idle = state.waiting.is_empty();
        state.open = state.open + more.len() - 1;
        state.waiting.extend(more);
        if state.open == 0 || (idle && !state.waiting.is_empty()) {
            self.0.changed.notify_all();
        }
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}
