// SPDX-License-Identifier: ISC
//! The mount table, from `/proc/self/mountinfo` (proc(5)).

use std::io;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What of the filesystem is mounted: `/` for all of it, else a directory that is bound there, or a subvolume.
    pub root: Vec<u8>,
    /// Where it is mounted: an absolute path.
    pub target: Vec<u8>,
    /// The filesystem's type: `ext4`, `tmpfs`.
    pub kind: String,
    /// What is mounted: a device, or a name.
    pub source: Vec<u8>,
    /// Options of this mount and of the filesystem, comma separated.
    pub options: String,
}

/// All mounts that this process sees, in the order of mounting.
///
/// # Errors
/// If `/proc` is not there.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// `ID PARENT MAJ:MIN ROOT TARGET OPTIONS [FIELD...] - TYPE SOURCE SUPER-OPTIONS`, odd bytes as `\ooo`.
pub(super) fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|&b| b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    Some(Mount {
        root: unescape(fields.get(3)?),
        target: unescape(fields.get(4)?),
        kind: text(fields.get(dash + 1)?),
        source: unescape(fields.get(dash + 2)?),
        options: format!("{},{}", text(fields.get(5)?), text(fields.get(dash + 3)?)),
    })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo() {
        let table = b"36 35 98:0 / /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
        let want = Mount {
            root: b"/".to_vec(),
            target: b"/mnt 2".to_vec(),
            kind: "ext3".into(),
            source: b"/dev/root".to_vec(),
            options: "rw,noatime,rw,errors=continue".into(),
        };
        assert_eq!(parse(table), [want]);
    }
}
