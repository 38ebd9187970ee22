// SPDX-License-Identifier: ISC
//! Which release a root is of: what its own files say, never what runs outside (decision 31).
#![forbid(unsafe_code)]

use crate::chroot::doctor::release;
use crate::chroot::login::read_below;
use crate::error::Result;
use crate::path::TreePath;
use crate::sys::Dir;

/// `7.8`, or `VERSION_ID` of os-release(5); empty if nothing tells.
pub(crate) fn of(root: &Dir) -> Result<String> {
    if let Some(release) = openbsd(root)? {
        return Ok(release);
    }
    let text = |path: &str| read_below(root, &TreePath::new(path.as_bytes())?);
    let file = match text("usr/lib/os-release")? {
        Some(file) => file,
        None => text("etc/os-release")?.unwrap_or_default(),
    };
    let file = String::from_utf8_lossy(&file);
    let line = file.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    let word = line.unwrap_or_default().trim_matches(['"', '\'']);
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    Ok(if plain { word.to_owned() } else { String::new() })
}

/// As the keys of its sets tell.
pub(crate) fn openbsd(root: &Dir) -> Result<Option<String>> {
    let Ok(dir) = root.walk(&TreePath::new(*b"etc/signify")?) else { return Ok(None) };
    let keys = dir.entries().unwrap_or_default();
    let number = release(keys.iter().map(|entry| &*entry.name));
    Ok(number.map(|number| format!("{}.{}", number / 10, number % 10)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Calls;

    #[test]
    fn table() {
        let debian = "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"13\"\n";
        for (files, expect) in [
            (&[][..], ""),
            (&[("etc/os-release", debian)], "13"),
            (&[("etc/os-release", "ID=arch\n")], ""),
            (&[("etc/os-release", "VERSION_ID=a b\n")], ""),
            (&[("etc/signify/openbsd-78-base.pub", ""), ("etc/signify/openbsd-79-base.pub", "")], "7.8"),
            (&[("etc/signify/openbsd-58-base.pub", ""), ("etc/os-release", debian)], "13"),
            (&[("etc/signify/openbsd-78-pkg.pub", ""), ("etc/signify/openbsd-x8-base.pub", "")], ""),
        ] {
            let temp = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = temp.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            assert_eq!(of(&Dir::open(temp.path(), Calls::from_env()).unwrap()).unwrap(), expect, "{files:?}");
        }
    }
}
