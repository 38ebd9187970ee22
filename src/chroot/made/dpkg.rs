// SPDX-License-Identifier: ISC
//! dpkg's database, restricted to the packages chosen. Their files in `info/` are part of the selection.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt::Write as _;

use super::accounts::Accounts;
use super::{Input, Output};
use crate::error::Result;
use crate::path::TreePath;
use crate::select::packages::Why;
use crate::select::packages::dpkg::tables::filter;
use crate::select::packages::dpkg::{ADMIN, Package, configuration};

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let at = |name: &str| format!("{ADMIN}/{name}");
    output.file(at("status"), 0o644, status(input))?;
    output.file(at("available"), 0o644, "")?;
    output.file(at("info/format"), 0o644, "1\n")?;
    let diversions = diversions(input, output);
    output.file(at("diversions"), 0o644, diversions)?;
    let overrides = overrides(input, output)?;
    output.file(at("statoverride"), 0o644, overrides)?;
    if let Some(archs) = architectures(input) {
        output.file(at("arch"), 0o644, archs)?;
    }
    triggers(input, output)?;
    filters(input, output)
}

/// The status file, without the conffiles that were left out: dpkg then installs them with the next version, instead
/// of taking them for deleted by the administrator.
fn status(input: &Input<'_>) -> Vec<u8> {
    let edited = input.selection.skipped.iter().filter(|skipped| skipped.why == Why::Edited);
    let edited: HashSet<&TreePath> = edited.map(|skipped| &skipped.path).collect();
    let mut text = Vec::new();
    for package in input.packages {
        let left_out = package.conffiles.iter().any(|conffile| edited.contains(&conffile.path));
        if left_out {
            stanza_without(package, &edited, &mut text)
        } else {
            text.extend_from_slice(&package.stanza)
        }
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.push(b'\n');
    }
    text
}

fn stanza_without(package: &Package, edited: &HashSet<&TreePath>, text: &mut Vec<u8>) {
    let mut in_conffiles = false;
    for line in package.stanza.split_inclusive(|&b| b == b'\n') {
        if line[0] != b' ' && line[0] != b'\t' {
            in_conffiles = line.to_ascii_lowercase().starts_with(b"conffiles:");
            if !in_conffiles {
                text.extend_from_slice(line);
            }
            continue;
        }
        if !in_conffiles {
            text.extend_from_slice(line);
        }
    }
    let kept: Vec<_> = package.conffiles.iter().filter(|conffile| !edited.contains(&conffile.path)).collect();
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    if !kept.is_empty() {
        text.extend_from_slice(b"Conffiles:\n");
    }
    for conffile in kept {
        text.extend([b" /", conffile.path.as_bytes(), b" ", conffile.md5.as_bytes(), b"\n"].concat());
    }
}

/// Diversions stay if the package that made them is here; the others were undone by the selection.
fn diversions(input: &Input<'_>, output: &mut Output) -> Vec<u8> {
    let mut text = Vec::new();
    for diversion in &input.dpkg.diversions {
        match &diversion.package {
            Some(package) if input.has(package) => {
                let (from, to) = (diversion.from.as_bytes(), diversion.to.as_bytes());
                text.extend([b"/", from, b"\n/", to, b"\n", package.as_bytes(), b"\n"].concat());
            }
            Some(_) => {}
            None if input.wanted.get(&diversion.from).is_some() => {
                output.note(format!("{}: a diversion of the host's administrator, undone", diversion.from));
            }
            None => {}
        }
    }
    text
}

/// Overrides of what is here, by users that are here: dpkg refuses to run with a name that it does not know.
fn overrides(input: &Input<'_>, output: &mut Output) -> Result<String> {
    let mut text = String::new();
    let accounts = Accounts::of(input)?;
    for o in &input.dpkg.overrides {
        if input.find(o.path.as_bytes()).is_none() {
            continue;
        }
        if accounts.has_user(&o.user) && accounts.has_group(&o.group) {
            let path = String::from_utf8_lossy(o.path.as_bytes());
            let _ = writeln!(text, "{} {} {} /{path}", o.user, o.group, o.mode);
        } else {
            output.note(format!("{}: override for {}:{} dropped", o.path, o.user, o.group));
        }
    }
    Ok(text)
}

/// The architectures of the packages, the host's own first; none if that is the only one.
fn architectures(input: &Input<'_>) -> Option<String> {
    let native = input.dpkg.native();
    let mut others: Vec<&str> = input.packages.iter().map(|package| package.arch.as_str()).collect();
    others.retain(|arch| *arch != native && *arch != "all");
    others.sort_unstable();
    others.dedup();
    let lines = std::iter::once(native).chain(others.iter().copied()).map(|arch| format!("{arch}\n"));
    (!others.is_empty()).then(|| lines.collect())
}

/// Who is interested in which trigger. `File` holds paths and packages; every other trigger has a file of packages.
fn triggers(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let dir = format!("{ADMIN}/triggers");
    output.dir(&dir, (0, 0), 0o755)?;
    for name in input.host.list(&TreePath::lenient(dir.as_bytes())?)? {
        let Ok(name) = std::str::from_utf8(&name) else { continue };
        let path = format!("{dir}/{name}");
        match name {
            "Lock" => {}
            // Nothing is waiting: packages in that state are not chosen.
            "Unincorp" => output.file(path, 0o644, "")?,
            _ => {
                let mut kept = String::new();
                for line in input.text(&path)?.lines() {
                    if line.split(' ').next_back().is_some_and(|package| interested(input, package)) {
                        kept.push_str(line);
                        kept.push('\n');
                    }
                }
                if !kept.is_empty() || name == "File" {
                    output.file(path, 0o644, kept)?;
                }
            }
        }
    }
    Ok(())
}

/// Is `package`, `name[:arch][/noawait]`, chosen?
fn interested(input: &Input<'_>, package: &str) -> bool {
    let name = package.split('/').next().unwrap_or_default();
    let (name, arch) = name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
    input.packages.iter().any(|p| p.name == name && arch.is_none_or(|arch| arch == p.arch))
}

/// The path filters of the host, without which dpkg would miss what they kept away.
fn filters(input: &Input<'_>, output: &mut Output) -> Result<()> {
    for path in configuration(input.host)? {
        if input.wanted.get(&path).is_some() {
            continue;
        }
        let mut kept = String::new();
        for line in input.text(&path.to_string())?.lines().filter(|line| filter(line.as_bytes()).is_some()) {
            kept.push_str(line);
            kept.push('\n');
        }
        if !kept.is_empty() {
            output.file(&path, 0o644, kept)?;
        }
    }
    Ok(())
}
