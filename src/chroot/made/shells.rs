// SPDX-License-Identifier: ISC
//! `/etc/shells` and the state of update-shells(8): the shells that packages declare, each also by the name that
//! merged /usr gives it; then those that packages' scripts added to the host's list.
#![forbid(unsafe_code)]

use super::{Input, Output};
use crate::error::Result;
use crate::path::TreePath;

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let template = "usr/share/debianutils/shells";
    let mut declared = Vec::new();
    for path in std::iter::once(template.to_owned()).chain(input.wanted_below("usr/share/debianutils/shells.d")?) {
        for shell in shells(&input.text(&path)?) {
            let path = TreePath::lenient(shell.as_bytes())?;
            let parent = path.parent().and_then(|parent| input.wanted.canonical(&parent).ok());
            declared.push(shell.to_owned());
            if let Some(real) = parent.and_then(|parent| parent.join(path.name()).ok())
                && real != path
            {
                declared.push(format!("/{real}"));
            }
        }
    }
    let state = declared.join("\n") + "\n";
    let on_host = input.text("etc/shells")?;
    declared.extend(shells(&on_host).filter(|shell| input.find(shell.as_bytes()).is_some()).map(str::to_owned));

    let mut text = input.text(template)?;
    for (index, shell) in declared.iter().enumerate() {
        if !declared[..index].contains(shell) && !shells(&text).any(|listed| listed == shell) {
            text.push_str(shell);
            text.push('\n');
        }
    }
    output.file("etc/shells", 0o644, text)?;
    output.file("var/lib/shells.state", 0o644, state)
}

/// The shells in a list, without comments.
fn shells(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| line.starts_with('/'))
}
