// SPDX-License-Identifier: ISC
//! The names in a directory.
#![forbid(unsafe_code)]

use std::io;

use crate::sys::Dir;

/// Names, all in one buffer: an allocation each would be a tenth of the work of a scan.
#[derive(Default)]
pub(super) struct Names {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Names {
    pub(super) fn of(dir: &Dir) -> io::Result<Names> {
        let mut names = Names::default();
        dir.each_entry(&mut |name, _, _| names.add(name))?;
        Ok(names)
    }

    pub(super) fn add(&mut self, name: &[u8]) {
        self.text.extend_from_slice(name);
        self.ends.push(self.text.len());
    }

    /// In order, each once: a name that is renamed meanwhile may be listed twice.
    pub(super) fn sorted(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let mut names: Vec<&[u8]> = starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
