// SPDX-License-Identifier: ISC
//! The state files of update-alternatives(1), one a name, in `var/lib/dpkg/alternatives`.
#![forbid(unsafe_code)]

use crate::bail;
use crate::error::Result;

/// Everything that update-alternatives knows of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// The name in `/etc/alternatives`.
    pub name: Vec<u8>,
    /// Did the administrator choose? Else the highest priority wins.
    pub manual: bool,
    /// The public name, absolute.
    pub link: Vec<u8>,
    /// Names that follow it: name in `/etc/alternatives`, public name.
    pub slaves: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it may lead to, in the order of the file.
    pub choices: Vec<Choice>,
}

/// One thing that a name may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Absolute path.
    pub path: Vec<u8>,
    /// The higher, the better.
    pub priority: i64,
    /// For each of [`Alternative::slaves`], its path; empty where this choice has none.
    pub slaves: Vec<Vec<u8>>,
}

impl Alternative {
    /// Reads one state file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] saying what is wrong.
    pub fn parse(name: &[u8], file: &[u8]) -> Result<Alternative> {
        let mut lines = file.split(|&b| b == b'\n');
        let mut line = || lines.next().map(<[u8]>::to_vec);
        let manual = match line().as_deref() {
            Some(b"auto") => false,
            Some(b"manual") => true,
            _ => bail!(BadInput, "neither auto nor manual"),
        };
        let mut found =
            Alternative { name: name.to_vec(), manual, link: path(line())?, slaves: vec![], choices: vec![] };
        while let Some(slave) = line().filter(|slave| !slave.is_empty()) {
            if slave.contains(&b'/') {
                bail!(BadInput, "a slave's name is a path");
            }
            found.slaves.push((slave, path(line())?));
        }
        while let Some(choice) = line().filter(|choice| !choice.is_empty()) {
            let priority = line().and_then(|text| String::from_utf8(text).ok()?.parse().ok());
            let Some(priority) = priority else { bail!(BadInput, "a priority is no number") };
            let mut slaves = Vec::with_capacity(found.slaves.len());
            for _ in &found.slaves {
                match line() {
                    Some(slave) if slave.is_empty() => slaves.push(slave),
                    slave => slaves.push(path(slave)?),
                }
            }
            found.choices.push(Choice { path: path(Some(choice))?, priority, slaves });
        }
        Ok(found)
    }

    /// Writes the state file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mode: &[u8] = if self.manual { b"manual" } else { b"auto" };
        let mut lines = vec![mode.to_vec(), self.link.clone()];
        for (name, link) in &self.slaves {
            lines.extend([name.clone(), link.clone()]);
        }
        lines.push(Vec::new());
        for choice in &self.choices {
            lines.extend([choice.path.clone(), choice.priority.to_string().into_bytes()]);
            lines.extend(choice.slaves.iter().cloned());
        }
        lines.push(Vec::new());
        let mut text = lines.join(&b'\n');
        text.push(b'\n');
        text
    }
}

fn path(line: Option<Vec<u8>>) -> Result<Vec<u8>> {
    match line {
        Some(path) if path.starts_with(b"/") && !path.contains(&0) => Ok(path),
        Some(_) => bail!(BadInput, "not an absolute path"),
        None => bail!(BadInput, "cut short"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWK: &[u8] = b"auto\n/usr/bin/awk\nawk.1.gz\n/usr/share/man/man1/awk.1.gz\nnawk\n/usr/bin/nawk\n\n\
        /usr/bin/mawk\n5\n/usr/share/man/man1/mawk.1.gz\n\n/usr/bin/gawk\n10\n\n/usr/bin/gawk\n\n";

    #[test]
    fn what_is_read_is_written() {
        let awk = Alternative::parse(b"awk", AWK).unwrap();
        assert_eq!((awk.manual, awk.slaves.len(), awk.choices.len()), (false, 2, 2));
        assert_eq!(awk.choices[1].slaves, [b"".to_vec(), b"/usr/bin/gawk".to_vec()]);
        assert_eq!(awk.to_bytes(), AWK);
    }

    #[test]
    fn hostile_table() {
        for (file, want) in [
            (&b""[..], "neither auto nor manual"),
            (b"auto", "cut short"),
            (b"auto\nx\n", "not an absolute path"),
            (b"auto\n/a\n../s\n/b\n\n", "a slave's name is a path"),
            (b"auto\n/a\ns\n", "not an absolute path"),
            (b"auto\n/a\n\n/b\nx\n", "a priority is no number"),
            (b"auto\n/a\ns\n/s\n\n/b\n1", "cut short"),
            (b"auto\n/a\n\nb\n1\n\n", "not an absolute path"),
        ] {
            assert_eq!(Alternative::parse(b"x", file).unwrap_err().to_string(), want);
        }
    }
}
