// SPDX-License-Identifier: ISC
//! dpkg's small tables: diversions, permission overrides and path filters.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobMatcher};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape};

/// A file of other packages that is kept under another name, dpkg-divert(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The name that packages ship.
    pub from: TreePath,
    /// The name under which it is installed.
    pub to: TreePath,
    /// The package whose own file stays at `from`; none if the administrator made the diversion.
    pub package: Option<String>,
}

/// Reads `var/lib/dpkg/diversions`: three lines each, original, diverted, package or `:`.
///
/// # Errors
/// [`ErrorKind::BadInput`] if a record is cut short or a name is no path.
pub fn diversions(file: &[u8]) -> Result<Vec<Diversion>> {
    let lines: Vec<&[u8]> = file.split(|&b| b == b'\n').collect();
    let lines = lines.strip_suffix(&[&b""[..]]).unwrap_or(&lines);
    if !lines.len().is_multiple_of(3) {
        bail!(BadInput, "its last record is cut short");
    }
    let read = |record: &[&[u8]]| {
        let package = String::from_utf8_lossy(record[2]).into_owned();
        let package = (package != ":").then_some(package);
        Ok(Diversion { from: absolute(record[0])?, to: absolute(record[1])?, package })
    };
    lines.chunks_exact(3).map(read).collect()
}

/// An owner and mode that the administrator or a package set for a path, dpkg-statoverride(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// User: a name, or `#` and a number.
    pub user: String,
    /// Group, likewise.
    pub group: String,
    /// Mode, in octal, as written.
    pub mode: String,
    /// The path, as packages ship it.
    pub path: TreePath,
}

/// Reads `var/lib/dpkg/statoverride`: user, group, mode and path on a line.
///
/// # Errors
/// [`ErrorKind::BadInput`] quoting the line.
pub fn overrides(file: &[u8]) -> Result<Vec<Override>> {
    let read = |line: &[u8]| {
        let mut words = line.splitn(4, |&b| b == b' ').map(|word| String::from_utf8_lossy(word).into_owned());
        let (Some(user), Some(group), Some(mode), Some(path)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!(BadInput, "not an override: {}", escape(line));
        };
        if !mode.bytes().all(|b| (b'0'..b'8').contains(&b)) {
            bail!(BadInput, "not a mode: {}", escape(line));
        }
        Ok(Override { user, group, mode, path: absolute(path.as_bytes())? })
    };
    file.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(read).collect()
}

fn absolute(path: &[u8]) -> Result<TreePath> {
    if !path.starts_with(b"/") {
        return Err(Error::new(ErrorKind::BadInput, "not an absolute path").at(path));
    }
    TreePath::lenient(path)
}

/// Which paths dpkg is told not to unpack: `path-exclude` and `path-include` of dpkg.cfg(5); the last match counts.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<(GlobMatcher, bool)>);

impl Filters {
    /// Adds the filters of one configuration file; its other lines are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] quoting a pattern that is no glob.
    pub fn add(&mut self, file: &[u8]) -> Result<()> {
        for (exclude, pattern) in file.split(|&b| b == b'\n').filter_map(filter) {
            let text = String::from_utf8_lossy(pattern);
            let Ok(glob) = Glob::new(&text) else { bail!(BadInput, "not a pattern: {}", escape(pattern)) };
            self.0.push((glob.compile_matcher(), exclude));
        }
        Ok(())
    }

    /// Is `path` one that dpkg did not unpack?
    pub fn excludes(&self, path: &TreePath) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let absolute = [b"/", path.as_bytes()].concat();
        let name = std::ffi::OsStr::from_bytes(&absolute);
        self.0.iter().rev().find(|(glob, _)| glob.is_match(name)).is_some_and(|(_, exclude)| *exclude)
    }
}

/// The filter in a line of dpkg's configuration, `path-exclude=GLOB` or `path-exclude GLOB`: does it exclude, and what.
pub fn filter(line: &[u8]) -> Option<(bool, &[u8])> {
    let line = line.trim_ascii();
    let (exclude, rest) = match line.strip_prefix(b"path-exclude") {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix(b"path-include")?),
    };
    let separated = rest.first().is_some_and(|b| *b == b'=' || b.is_ascii_whitespace());
    let pattern = rest.trim_ascii_start();
    let pattern = pattern.strip_prefix(b"=").unwrap_or(pattern).trim_ascii();
    let pattern = pattern.strip_prefix(b"\"").and_then(|p| p.strip_suffix(b"\"")).unwrap_or(pattern);
    (separated && !pattern.is_empty()).then_some((exclude, pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn diversions_are_read() {
        let found = diversions(b"/bin/sh\n/bin/sh.distrib\ndash\n/a b\n/c\n:\n").unwrap();
        let want = |from, to, package: Option<&str>| Diversion {
            from: path(from),
            to: path(to),
            package: package.map(str::to_owned),
        };
        assert_eq!(found, [want("bin/sh", "bin/sh.distrib", Some("dash")), want("a b", "c", None)]);
        for hostile in [&b"/a\n/b\n"[..], b"a\n/b\nc\n", b"/a/../b\n/b\nc\n", b"/a\n/b\nc\n\n", b"/\0\n/b\nc\n"] {
            assert!(diversions(hostile).is_err(), "{}", escape(hostile));
        }
        assert!(diversions(b"").unwrap().is_empty());
    }

    #[test]
    fn overrides_are_read() {
        let found = overrides(b"root #7 4754 /usr/a b\n\n").unwrap();
        assert_eq!((found[0].group.as_str(), found[0].mode.as_str(), &found[0].path), ("#7", "4754", &path("usr/a b")));
        for hostile in [&b"root root /x"[..], b"root root 9 /x", b"root root 755 x", b"a b 1 /../x"] {
            assert!(overrides(hostile).is_err(), "{}", escape(hostile));
        }
    }

    #[test]
    fn the_last_filter_counts_and_a_star_crosses_slashes() {
        let mut filters = Filters::default();
        filters
            .add(b"# path-exclude=/a\npath-exclude=/usr/share/doc/*\n path-include = \"/usr/share/doc/*/copyright\"\n")
            .unwrap();
        filters.add(b"path-exclude /usr/share/locale/*\npath-excluded=/x\nno-debsig\npath-exclude=\n").unwrap();
        for (name, want) in [
            ("usr/share/doc/a/b/c", true),
            ("usr/share/doc/a/copyright", false),
            ("usr/share/doc", false),
            ("usr/share/locale/de", true),
            ("a", false),
            ("x", false),
        ] {
            assert_eq!(filters.excludes(&path(name)), want, "{name}");
        }
        assert!(filters.add(b"path-exclude=/[").is_err());
    }
}
