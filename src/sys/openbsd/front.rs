// SPDX-License-Identifier: ISC
//! There are no overlays.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use crate::sys::{Calls, Dir};

/// An overlay: there is none.
#[derive(Debug)]
pub struct Front(Infallible);

impl Front {
    /// Always fails.
    ///
    /// # Errors
    /// Unsupported.
    pub fn new(_lower: &Dir, _upper: &Dir, _work: &Dir) -> io::Result<Front> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn dir(&self, _calls: Calls) -> io::Result<Dir> {
        match self.0 {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn attach(&self, _place: &Path) -> io::Result<()> {
        match self.0 {}
    }
}

/// There is nothing to take away.
///
/// # Errors
/// None.
pub fn detach(_place: &Path) -> io::Result<()> {
    Ok(())
}

/// There are no overlays.
///
/// # Errors
/// None.
pub fn hides_lower(_dir: &Dir, _name: &[u8]) -> io::Result<bool> {
    Ok(false)
}

/// There are no overlays.
pub fn is_overlay(_dir: &Dir) -> bool {
    false
}
