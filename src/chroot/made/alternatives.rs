// SPDX-License-Identifier: ISC
//! The links of update-alternatives(1) and its state, for what the wanted tree holds.
#![forbid(unsafe_code)]

use super::{Input, Output};
use crate::error::Result;
use crate::path::{TreePath, escape};
use crate::select::packages::dpkg::ADMIN;
use crate::select::packages::dpkg::alternatives::{Alternative, Choice};

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    for alternative in &input.dpkg.alternatives {
        let mut kept = alternative.clone();
        kept.choices.retain(|choice| input.find(&choice.path).is_some());
        let current = current(input, alternative)?;
        let chosen = kept.choices.iter().find(|choice| Some(&choice.path) == current.as_ref());
        let Some(choice) = chosen.or_else(|| best(&kept.choices)).cloned() else { continue };
        if kept.manual && chosen.is_none() {
            let name = escape(&kept.name);
            output.note(format!("alternative {name}: {}, not what the host chose", escape(&choice.path)));
            kept.manual = false;
        }
        link(output, &kept.name, &kept.link, &choice.path)?;
        for ((name, link_at), path) in kept.slaves.iter().zip(&choice.slaves) {
            // A slave whose file was not unpacked (documents) has no links, as update-alternatives does it.
            if !path.is_empty() && input.find(path).is_some() {
                link(output, name, link_at, path)?;
            }
        }
        output.file([ADMIN.as_bytes(), b"/alternatives/", &kept.name].concat(), 0o644, kept.to_bytes())?;
    }
    Ok(())
}

/// What the host's link leads to.
fn current(input: &Input<'_>, alternative: &Alternative) -> Result<Option<Vec<u8>>> {
    let path = TreePath::new(*b"etc/alternatives")?.join(&alternative.name)?;
    match input.host.stat(&path)? {
        Some(_) => Ok(input.host.read_link(&path).ok().map(Into::into)),
        None => Ok(None),
    }
}

/// The first of the choices with the highest priority.
fn best(choices: &[Choice]) -> Option<&Choice> {
    choices.iter().rev().max_by_key(|choice| choice.priority)
}

fn link(output: &mut Output, name: &[u8], public: &[u8], target: &[u8]) -> Result<()> {
    output.link([b"etc/alternatives/", name].concat(), target)?;
    output.link(public, [b"/etc/alternatives/", name].concat())
}
