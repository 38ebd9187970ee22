// SPDX-License-Identifier: ISC
//! Following symlinks inside a tree as the kernel would inside a root, in pure code: absolute targets start at the
//! root, `..` stops there.
#![forbid(unsafe_code)]

use std::borrow::Borrow;

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::tree::Kind;

/// How many symlinks one path may go through, as the kernel counts.
pub const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// To this entry.
    Found(TreePath),
    /// Nowhere: the first path that does not exist, reached through directories alone.
    Missing(TreePath),
}

/// Follows the links in `path`, of its last name only if `last`.
///
/// `look` gives the kind of an entry; `through` is told each link that is followed and may refuse it.
///
/// # Errors
/// [`ErrorKind::Refused`] if a name on the way is no directory or after [`MAX_LINKS`] links; whatever `through` returns.
pub fn resolve<K: Borrow<Kind>>(
    path: &TreePath,
    last: bool,
    look: impl Fn(&TreePath) -> Option<K>,
    mut through: impl FnMut(&TreePath) -> Result<()>,
) -> Result<Resolved> {
    let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut at = TreePath::root();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            at = at.parent().unwrap_or_default();
            continue;
        }
        let next = at.join(&name)?;
        match look(&next).as_ref().map(Borrow::borrow) {
            None => return Ok(Resolved::Missing(next)),
            Some(Kind::Symlink(target)) if last || !todo.is_empty() => {
                through(&next)?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::new(ErrorKind::Refused, format!("too many symbolic links at {next}")));
                }
                if target.starts_with(b"/") {
                    at = TreePath::root();
                }
                let names = target.split(|&b| b == b'/').filter(|n| !n.is_empty() && *n != b".");
                todo.extend(names.rev().map(<[u8]>::to_vec));
            }
            Some(kind) if kind.is_dir() || todo.is_empty() => at = next,
            Some(_) => {
                return Err(Error::new(ErrorKind::Refused, format!("it lies below {next}, which is no directory")));
            }
        }
    }
    Ok(Resolved::Found(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn table() {
        let tree = tree(&[
            "d a",
            "d a/b",
            "f a/b/f",
            "l abs /a/b",
            "l up ../../a",
            "l a/self ../a/b/f",
            "l loop loop",
            "l bad a/none/x",
        ]);
        for (path, last, want) in [
            ("a/b/f", true, "a/b/f"),
            ("abs/f", true, "a/b/f"),
            ("up/b", true, "a/b"),
            ("a/self", true, "a/b/f"),
            ("a/self", false, "a/self"),
            ("bad", true, "missing a/none"),
            ("a/b/new", true, "missing a/b/new"),
            ("loop", true, "too many symbolic links at loop"),
            ("a/self/x", true, "it lies below a/b/f, which is no directory"),
            ("", true, "/"),
        ] {
            let path = TreePath::new(path.as_bytes()).unwrap();
            let look = |p: &TreePath| tree.get(p.as_bytes()).map(|n| &n.kind);
            let got = match resolve(&path, last, look, |_| Ok(())) {
                Ok(Resolved::Found(at)) => at.to_string(),
                Ok(Resolved::Missing(at)) => format!("missing {at}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, want, "{path}");
        }
    }
}
