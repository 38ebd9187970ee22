// SPDX-License-Identifier: ISC
//! Names the packages whose `postinst` did something that no generator covers, so that gaps are known.
//!
//! What debhelper adds to scripts is no gap: it enables services, which a chroot does not start, and fills caches.
#![forbid(unsafe_code)]

use super::{Input, Output};
use crate::error::Result;
use crate::select::packages::dpkg::INFO;

/// Packages whose script is covered, by the generators or by ldconfig in the finished chroot, or does something in an
/// upgrade only.
const COVERED: &[&str] = &[
    "apt",
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "debconf",
    "debian-archive-keyring",
    "debianutils",
    "dpkg",
    "e2fsprogs",
    "libc-bin",
    "libc6",
    "libgcrypt20",
    "libpam-modules",
    "libpam-runtime",
    "libpam0g",
    "login",
    "netbase",
    "passwd",
    "readline-common",
    "tzdata",
    "usr-is-merged",
    "util-linux",
];

/// First words of lines that do nothing that would be missed: the shell's own, and what the alternatives, the triggers
/// and the defaults stand for.
const HARMLESS: &[&str] = &[
    "#",
    "set",
    "exit",
    "case",
    "esac",
    ";;",
    "if",
    "elif",
    "else",
    "fi",
    "then",
    "for",
    "do",
    "done",
    "shift",
    "}",
    ".",
    "return",
    "echo",
    "update-alternatives",
    "--slave",
    "dpkg-maintscript-helper",
    "db_stop",
    "configure)",
];

pub(super) fn note(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let mut names = Vec::new();
    for package in input.packages.iter().filter(|package| !COVERED.contains(&package.name.as_str())) {
        let Some(script) = package.info.get("postinst") else { continue };
        let script = input.text(&format!("{INFO}/{}", String::from_utf8_lossy(script)))?;
        if does_something(&script) {
            names.push(package.name.as_str());
        }
    }
    if !names.is_empty() {
        output.note(format!("what these packages' postinst scripts set up is missing: {}", names.join(", ")));
    }
    Ok(())
}

/// Is there anything in the script besides what debhelper adds and what is harmless?
fn does_something(script: &str) -> bool {
    let (mut added, mut continued) = (false, false);
    for line in script.lines().map(str::trim) {
        added |= line.starts_with("# Automatically added by dh_");
        let skip = added || continued || line.is_empty() || line.starts_with('#') || line.ends_with([')', '{']);
        let first = line.split([' ', '\t']).next().unwrap_or_default();
        if !skip && !HARMLESS.contains(&first) {
            return true;
        }
        continued = !added && line.ends_with('\\') && (continued || HARMLESS.contains(&first));
        added &= !line.starts_with("# End automatically added section");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debhelper_and_alternatives_are_nothing() {
        for (script, want) in [
            (
                "#!/bin/sh\nset -e\n\n# Automatically added by dh_x/1\nldconfig\n# End automatically added section\nexit 0\n",
                false,
            ),
            (
                "#!/bin/sh\ncase \"$1\" in\n  configure)\n    update-alternatives --install a b c 1 \\\n  x y\n  ;;\nesac\n",
                false,
            ),
            ("#!/bin/sh\nmkfontdir /x\n", true),
            ("# Automatically added by dh_x\na\n# End automatically added section\nb", true),
            ("", false),
        ] {
            assert_eq!(does_something(script), want, "{script}");
        }
    }
}
