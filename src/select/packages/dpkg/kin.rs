// SPDX-License-Identifier: ISC
//! [`Dpkg::kin`]: the packages that one program was cut into.
#![forbid(unsafe_code)]

use crate::select::packages::dpkg::Dpkg;
use crate::select::packages::dpkg::control;

impl Dpkg {
    /// The package at this index, and those that it depends on, directly or not, which are built from the same source:
    /// a program, what it keeps for all machines, its library.
    pub fn kin(&self, index: usize) -> Vec<usize> {
        let source = self.source(index);
        let mut kin = vec![index];
        let mut next = 0;
        while let Some(&index) = kin.get(next) {
            next += 1;
            let package = &self.packages[index];
            for wish in package.depends.iter().flatten() {
                let same = format!("{}:{}", wish.name, self.actual_arch(package));
                let found = self.index_of(&same).or_else(|| self.index_of(&wish.name));
                if let Some(found) = found.filter(|found| !kin.contains(found))
                    && self.source(found) == source
                {
                    kin.push(found);
                }
            }
        }
        kin
    }

    /// The name of the source that the package at this index is built from.
    fn source(&self, index: usize) -> String {
        let package = &self.packages[index];
        let stanzas = control::stanzas(&package.stanza).unwrap_or_default();
        let named = stanzas.first().and_then(|stanza| stanza.text("Source").ok()).unwrap_or_default();
        // A version of the source may follow, if it is not that of the package.
        named.split_ascii_whitespace().next().unwrap_or(&package.name).to_owned()
    }
}
