// SPDX-License-Identifier: ISC
//! What a recipe names on the host: what must be there for as long as the recipe is built again.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::recipe::{Origin, Recipe};

impl Recipe {
    /// The files and directories of the host out of which the sources come, and by which they are verified.
    pub fn named_on_host(&self) -> Vec<&Path> {
        self.sources.iter().flat_map(|source| paths(&source.origin)).collect()
    }
}

fn paths(origin: &Origin) -> Vec<&Path> {
    match origin {
        Origin::Archive { path, verify } => {
            let verify = verify.iter().flat_map(|verify| [Some(&verify.list), verify.key.as_ref()]).flatten();
            [path].into_iter().chain(verify).map(AsRef::as_ref).collect()
        }
        Origin::Directory { path: directory, .. } | Origin::Packages { directory, .. } => vec![directory],
        Origin::Sets { directory, key, .. } => [directory].into_iter().chain(key).map(AsRef::as_ref).collect(),
        Origin::Listed { directory, locate, .. } => [directory].into_iter().chain(locate).map(AsRef::as_ref).collect(),
    }
}
