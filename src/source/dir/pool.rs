// SPDX-License-Identifier: ISC
//! Jobs that idle threads take over from busy ones.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// More threads are idle than jobs wait for them: asked so often that it must cost nothing.
    hungry: AtomicBool,
}

struct State<T> {
    /// Jobs, each with its number.
    waiting: Vec<(usize, T)>,
    /// How many jobs there were.
    jobs: usize,
    threads: usize,
    idle: usize,
    stopped: bool,
}

/// A thread's place at the pool. When one leaves, for whatever reason, all stop: there is no more work, or an error.
pub(super) struct Seat<'a, T>(&'a Pool<T>);

impl<T> Pool<T> {
    /// A pool for `threads`, each of which must take its seat; the first job has number 0.
    pub(super) fn new(first: T, threads: usize) -> Pool<T> {
        let state = State { waiting: vec![(0, first)], jobs: 1, threads, idle: 0, stopped: false };
        Pool { state: Mutex::new(state), changed: Condvar::new(), hungry: AtomicBool::new(threads > 1) }
    }

    pub(super) fn seat(&self) -> Seat<'_, T> {
        Seat(self)
    }

    /// Should a busy thread give something away?
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed)
    }

    /// Gives a job away; its number.
    pub(super) fn give(&self, job: T) -> usize {
        let mut state = self.lock();
        let number = state.jobs;
        state.jobs += 1;
        state.waiting.push((number, job));
        self.note(&state);
        self.changed.notify_one();
        number
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &State<T>) {
        self.hungry.store(state.idle > state.waiting.len(), Ordering::Relaxed);
    }
}

impl<T> Seat<'_, T> {
    /// The next job; waits for one. None: all is done.
    pub(super) fn take(&self) -> Option<(usize, T)> {
        let mut state = self.0.lock();
        state.idle += 1;
        loop {
            if state.stopped || (state.idle == state.threads && state.waiting.is_empty()) {
                return None;
            }
            if let Some(job) = state.waiting.pop() {
                state.idle -= 1;
                self.0.note(&state);
                return Some(job);
            }
            self.0.note(&state);
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}
