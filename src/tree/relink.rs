// SPDX-License-Identifier: ISC
//! Files that OpenBSD links anew at each boot, in another order each time: their own bytes say nothing, what they are
//! linked from does (decision 22). The kernel is another matter: it is never compared, its objects are files like others.
#![forbid(unsafe_code)]

use crate::path::TreePath;
use crate::plan::{Change, Plan};
use crate::tree::Kind;

/// Where their sources are: `DIR/PATH.a` of libraries and the linker, `DIR/PATH/NAME.tar` of programs.
const SOURCES: &str = "usr/share/relink";
/// Libraries, up to their versions.
const LIBRARIES: [&str; 2] = ["usr/lib/libc.so.", "usr/lib/libcrypto.so."];
const LINKER: &str = "usr/libexec/ld.so";
const PROGRAMS: [&str; 4] = ["usr/sbin/sshd", "usr/libexec/sshd-session", "usr/libexec/sshd-auth", "usr/bin/ssh-agent"];

/// What the file at `path` is linked from at each boot, if it is such a file.
pub fn source(path: &TreePath) -> Option<TreePath> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    let version = |version: &str| !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let library = LIBRARIES.iter().any(|stem| text.strip_prefix(stem).is_some_and(version));
    let source = match text {
        _ if library || text == LINKER => format!("{SOURCES}/{text}.a"),
        _ if PROGRAMS.contains(&text) => format!("{SOURCES}/{text}/{}.tar", text.rsplit('/').next()?),
        _ => return None,
    };
    TreePath::new(source.into_bytes()).ok()
}

/// Leaves out of a plan what a boot does: new bytes, and their time, of files whose source is there (`has`) and stays.
pub fn pass_over(plan: &mut Plan, has: &dyn Fn(&TreePath) -> bool) {
    let replaced: Vec<TreePath> = plan.changes.iter().filter(|c| c.replace).map(|c| c.path.clone()).collect();
    plan.changes.retain(|change| {
        let source = source(&change.path).filter(|source| has(source) && replaced.binary_search(source).is_err());
        source.is_none() || !is_boots(change)
    });
}

fn is_boots(change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return false };
    let files = matches!((&before.kind, &after.kind), (Kind::File { .. }, Kind::File { .. }));
    let mut meta = before.meta.clone();
    meta.mtime = after.meta.mtime;
    files && meta == after.meta && before.group == after.group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::diff::diff;
    use crate::tree::tests::tree;

    #[test]
    fn each_has_its_source() {
        for (path, expect) in [
            ("usr/lib/libc.so.97.1", Some("usr/share/relink/usr/lib/libc.so.97.1.a")),
            ("usr/lib/libcrypto.so.52.0", Some("usr/share/relink/usr/lib/libcrypto.so.52.0.a")),
            ("usr/libexec/ld.so", Some("usr/share/relink/usr/libexec/ld.so.a")),
            ("usr/sbin/sshd", Some("usr/share/relink/usr/sbin/sshd/sshd.tar")),
            ("usr/libexec/sshd-auth", Some("usr/share/relink/usr/libexec/sshd-auth/sshd-auth.tar")),
            ("usr/lib/libc.so.", None),
            ("usr/lib/libc.so.97.1.old", None),
            ("usr/lib/libc++.so.9.0", None),
            ("usr/local/lib/libc.so.97.1", None),
            ("usr/lib/libssl.so.55.0", None),
            ("bsd", None),
        ] {
            let found = source(&TreePath::new(path.as_bytes()).unwrap());
            assert_eq!(found.map(|path| path.to_string()).as_deref(), expect, "{path}");
        }
    }

    #[test]
    fn a_boot_is_passed_over() {
        const C: &str = "usr/lib/libc.so.1.0";
        const A: &str = "usr/share/relink/usr/lib/libc.so.1.0.a";
        let with = |c: &str, a: &str| {
            let above = ["usr", "usr/lib", "usr/share", SOURCES, "usr/share/relink/usr", "usr/share/relink/usr/lib"];
            let mut lines: Vec<String> = above.iter().map(|path| format!("d {path}")).collect();
            lines.push(format!("f {C} {c}"));
            lines.extend(Some(format!("f {A} {a}")).filter(|_| !a.is_empty()));
            tree(&lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
        for (c, a, expect) in [("x", "a", 0), ("y", "a", 0), ("y", "b", 2), ("x", "b", 1), ("y", "", 2)] {
            let have = with("x", "a");
            let mut plan = diff(&have, &with(c, a));
            pass_over(&mut plan, &|path| have.get(path.as_bytes()).is_some());
            let files = plan.changes.iter().filter(|change| change.replace).count();
            assert_eq!(files, expect, "{c} {a}");
        }
    }
}
