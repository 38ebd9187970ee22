// SPDX-License-Identifier: ISC
//! The names of terminals: ttyname(3) inside looks for the node in `/dev` that has the number of the host's terminal. If
//! that node is called something else there, or two have the number, programs take one terminal for another.
#![forbid(unsafe_code)]

use std::path::Path;

use super::Finding;
use crate::error::{IoContext, Result};
use crate::sys::{Dir, FileType};

/// Names that are named in one finding.
const NAMED: usize = 5;

/// A character device in `/dev`: its name, its number.
type Node = (Vec<u8>, (u32, u32));

/// Compares the terminals in the `dev` of `root` with those of the host; nothing to say where there is none.
pub(super) fn findings(root: &Dir) -> Result<Vec<Finding>> {
    let inside = nodes(root)?;
    if !inside.iter().any(|(name, _)| is_terminal(name)) {
        return Ok(Vec::new());
    }
    let host = nodes(&Dir::open(Path::new("/"), root.calls()).on("open", "/")?.crossing())?;
    let wrong = misnamed(&inside, &host);
    let what = "terminals in the chroot's dev";
    if wrong.is_empty() {
        return Ok(vec![Finding::good(what, "each has the name that its number has on the host")]);
    }
    let more = wrong.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = wrong.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    let why = format!("{shown}{more}: ttyname(3) gives wrong names");
    Ok(vec![Finding::bad(what, why).mend("remove them, and make them again with: stockade build")])
}

/// The character devices directly in `dev`, by name.
fn nodes(root: &Dir) -> Result<Vec<Node>> {
    let Ok(dev) = root.try_clone().on("dup", "dev")?.crossing().open_dir(b"dev") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in dev.entries().on("getdents", "dev")? {
        if let Some(stat) = dev.find(&entry.name).on("stat", &*entry.name)?.filter(|stat| stat.kind == FileType::Char) {
            found.push((entry.name.to_vec(), stat.rdev));
        }
    }
    found.sort();
    Ok(found)
}

fn is_terminal(name: &[u8]) -> bool {
    name.starts_with(b"tty") || name == b"console"
}

/// What is wrong with the terminals `inside`: another number than the host gives to the name, or one that another node has
/// too. Pure.
fn misnamed(inside: &[Node], host: &[Node]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, number) in inside.iter().filter(|(name, _)| is_terminal(name)) {
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let (major, minor) = number;
        if let Some((_, own)) = host.iter().find(|(known, own)| known == name && own != number) {
            wrong.push(format!("{} is {major},{minor}, and {},{} on the host", shown(name), own.0, own.1));
        }
        if let Some((other, _)) = inside.iter().find(|(other, same)| other != name && same == number) {
            wrong.push(format!("{} and {} are both {major},{minor}", shown(name), shown(other)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(nodes: &[(&str, (u32, u32))]) -> Vec<Node> {
        nodes.iter().map(|(name, number)| (name.as_bytes().to_vec(), *number)).collect()
    }

    #[test]
    fn each_terminal_is_called_what_its_number_is_called() {
        let host = [("console", (0, 0)), ("tty", (1, 0)), ("ttyC0", (12, 0)), ("ttyp0", (5, 0)), ("null", (2, 2))];
        for (inside, want) in [
            (&[("console", (0, 0)), ("tty", (1, 0)), ("ttyC0", (12, 0)), ("ttyp0", (5, 0))][..], &[][..]),
            // What the host does not have is not the host's to judge, nor what is no terminal.
            (&[("ttyU0", (66, 0)), ("null", (9, 9)), ("zero", (9, 9))], &[]),
            (&[("ttyC0", (12, 1))], &["ttyC0 is 12,1, and 12,0 on the host"]),
            (&[("odd", (12, 0)), ("ttyC0", (12, 0))], &["ttyC0 and odd are both 12,0"]),
            (
                &[("ttyp0", (5, 1)), ("ttyp1", (5, 1))],
                &["ttyp0 is 5,1, and 5,0 on the host", "ttyp0 and ttyp1 are both 5,1", "ttyp1 and ttyp0 are both 5,1"],
            ),
        ] {
            assert_eq!(misnamed(&list(inside), &list(&host)), want, "{inside:?}");
        }
    }
}
