// SPDX-License-Identifier: ISC
//! Dependency fields: `a (>= 1) | b:any, c`, as deb-control(5) and deb-src-control(5) define them.
#![forbid(unsafe_code)]

use std::fmt;

use crate::bail;
use crate::error::Result;
use crate::path::escape;
use crate::select::packages::dpkg::version::{Bound, Relation};

/// One alternative of a dependency, or one item of `Provides`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Name of a package, real or virtual.
    pub(super) name: String,
    /// The architecture asked for, where one is: `any`, or a name.
    pub(super) arch: Option<String>,
    /// What its version must be.
    pub(super) bound: Option<Bound>,
}

/// A dependency is met if one of its alternatives is.
pub(super) type Group = Vec<Wish>;

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(arch) = &self.arch {
            write!(f, ":{arch}")?;
        }
        match &self.bound {
            Some(bound) => write!(f, " ({} {})", bound.relation.sign(), bound.version),
            None => Ok(()),
        }
    }
}

/// Writes a group as it stands in a control file.
pub(super) fn show(group: &[Wish]) -> String {
    group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

/// Reads a whole field: groups separated by commas, alternatives by bars. Empty items are passed over, as dpkg does.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] quoting the item.
pub(super) fn parse(field: &str) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for item in field.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        groups.push(item.split('|').map(|wish| parse_wish(wish.trim())).collect::<Result<Group>>()?);
    }
    Ok(groups)
}

fn parse_wish(text: &str) -> Result<Wish> {
    let Some(wish) = try_wish(text) else {
        bail!(BadInput, "not a dependency: {}", escape(text.as_bytes()));
    };
    Ok(wish)
}

fn try_wish(text: &str) -> Option<Wish> {
    let (head, bound) = match text.split_once('(') {
        Some((head, rest)) => (head.trim_end(), Some(parse_bound(rest.strip_suffix(')')?.trim())?)),
        None => (text, None),
    };
    let (name, arch) = match head.split_once(':') {
        Some((name, arch)) => (name, Some(arch)),
        None => (head, None),
    };
    let valid = is_name(name) && arch.is_none_or(is_name);
    valid.then(|| Wish { name: name.to_owned(), arch: arch.map(str::to_owned), bound })
}

fn parse_bound(text: &str) -> Option<Bound> {
    let start = text.find(|c| !"<>=".contains(c))?;
    let version = text[start..].trim();
    let plain = !version.is_empty() && version.bytes().all(|b| b.is_ascii_graphic() && b != b'(');
    Some(Bound { relation: Relation::parse(&text[..start])?, version: plain.then(|| version.to_owned())? })
}

/// May it be the name of a package or an architecture? Such names become parts of file names, so this is strict about
/// anything that could be a path, and lenient about capitals, which third parties use.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        for field in ["a", "a (>= 1:2.0-3~)", "a | b (<< 2)", "a:any (= 1), libc6:i386, c | d | e (>> 0)", ""] {
            let groups = parse(field).unwrap();
            assert_eq!(groups.iter().map(|g| show(g)).collect::<Vec<_>>().join(", "), field);
        }
        assert_eq!(parse("a(>=1) ,, b (=2)|c\n , d").unwrap(), parse("a (>= 1), b (= 2) | c, d").unwrap());
    }

    #[test]
    fn hostile_table() {
        let long = "a".repeat(201);
        for field in
            ["a b", "a (1)", "a (>= )", "a (>= 1", "a | ", "../a", "a/b", "a (~ 1)", ".a", "a:", "é", &long, "a (= (1)"]
        {
            assert!(parse(field).is_err(), "{field}");
        }
    }
}
