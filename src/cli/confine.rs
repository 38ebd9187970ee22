// SPDX-License-Identifier: ISC
//! What the program gives up as soon as it knows the verb, where the system lets it: `sys/openbsd/confine.rs`.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::args::Verb;
use super::key::args::KeyVerb;
use super::patch::args::PatchVerb;
use crate::chroot::{Home, Place};
use crate::error::{IoContext, Result};
use crate::sys;

/// Confines this process to what `verb` needs. A verb whose output may go anywhere, or that enters a chroot, is not confined.
pub(super) fn to(verb: &Verb) -> Result<()> {
    let roots: Vec<&PathBuf> = match verb {
        Verb::Schema | Verb::Completions(_) => return reads_only(),
        Verb::Patch(args) if matches!(args.verb, PatchVerb::Show(_) | PatchVerb::Verify(_)) => return reads_only(),
        Verb::Key(args) if matches!(args.verb, KeyVerb::Verify(_)) => return reads_only(),
        Verb::Build(args) => args.root.iter().collect(),
        Verb::Clone(args) => vec![&args.root, &args.new],
        Verb::Reset(args) => vec![&args.root],
        Verb::Remove(args) => vec![&args.root],
        Verb::Adopt(args) => vec![&args.root],
        _ => return Ok(()),
    };
    if roots.is_empty() {
        return Ok(());
    }
    let home = Home::from_env()?;
    let mut places = vec![home.path.clone()];
    for root in roots {
        // Its state lies beside it.
        let root = Place::find(&home, root.as_os_str())?.root;
        places.push(root.parent().map_or_else(|| root.clone(), PathBuf::from));
        places.push(root);
    }
    sys::confine_writes(&places).on("unveil", home.path.as_os_str().as_encoded_bytes())
}

fn reads_only() -> Result<()> {
    sys::forbid_writes().on("pledge", "")
}
