// SPDX-License-Identifier: ISC
//! Paragraphs of `Name: value` fields, deb822(5): the form of dpkg's status file.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use crate::path::escape;

/// One paragraph, borrowed from the file.
#[derive(Debug)]
pub struct Stanza<'a> {
    /// Its lines as they are in the file, the last newline included where there is one.
    pub text: &'a [u8],
    /// The number of its first line, from 1.
    pub line: usize,
    fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Stanza<'a> {
    /// The value of the field `name` (case does not count) without the blanks around it; continuation lines stay as
    /// they are.
    pub fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.trim_ascii())
    }

    /// The value of the field `name` as text; empty if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(name).unwrap_or_default())
            .map_err(|_| bad(self.line, &format!("the field {name} is not UTF-8")))
    }
}

/// Splits a file into its paragraphs. Lines that start with `#` are comments.
///
/// # Errors
/// [`ErrorKind::BadInput`] naming the line that is no field.
pub fn stanzas(file: &[u8]) -> Result<Vec<Stanza<'_>>> {
    let mut found: Vec<Stanza<'_>> = Vec::new();
    // Where the open paragraph and the value of its last field start.
    let (mut open, mut value_at): (Option<usize>, usize) = (None, 0);
    let mut offset = 0;
    for (index, line) in file.split_inclusive(|&b| b == b'\n').enumerate() {
        let (start, end) = (offset, offset + line.len());
        offset = end;
        if line.trim_ascii().is_empty() {
            open = None;
            continue;
        }
        if line[0] == b'#' {
            continue;
        }
        let first = *open.get_or_insert_with(|| {
            found.push(Stanza { text: &[], line: index + 1, fields: Vec::new() });
            start
        });
        let Some(stanza) = found.last_mut() else { continue };
        stanza.text = &file[first..end];
        if line[0] == b' ' || line[0] == b'\t' {
            let Some((_, value)) = stanza.fields.last_mut() else {
                return Err(bad(index + 1, "a continuation line without a field"));
            };
            *value = &file[value_at..end];
            continue;
        }
        match line.iter().position(|&b| b == b':') {
            Some(colon) if colon > 0 => {
                value_at = start + colon + 1;
                stanza.fields.push((&line[..colon], &file[value_at..end]));
            }
            _ => return Err(bad(index + 1, &format!("not a field: {}", escape(&line[..line.len().min(60)])))),
        }
    }
    Ok(found)
}

fn bad(line: usize, reason: &str) -> Error {
    Error::new(ErrorKind::BadInput, format!("line {line}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_paragraphs() {
        let file = b"\n\n# c\nPackage: a\nConffiles:\n /etc/x 1\n /etc/y 2\nempty:\n\n \t\npackage:b\n";
        let found = stanzas(file).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].text("PACKAGE").unwrap(), "a");
        assert_eq!(found[0].bytes("conffiles"), Some(&b"/etc/x 1\n /etc/y 2"[..]));
        assert_eq!((found[0].bytes("Empty"), found[0].bytes("None")), (Some(&b""[..]), None));
        assert_eq!(found[0].text, &file[6..file.len() - 14]);
        assert_eq!((found[1].text("Package").unwrap(), found[1].line), ("b", 11));
    }

    #[test]
    fn hostile_table() {
        for (file, want) in [
            (&b"Package"[..], "line 1: not a field: Package"),
            (b"a: b\n: x\n", "line 2: not a field: : x\\012"),
            (b" x\n", "line 1: a continuation line without a field"),
            (b"a: b\n\n x\n", "line 3: a continuation line without a field"),
            (b"\x1b[31m\n", "line 1: not a field: \\033[31m\\012"),
        ] {
            assert_eq!(stanzas(file).unwrap_err().to_string(), want);
        }
        assert!(stanzas(b"").unwrap().is_empty());
        assert_eq!(
            stanzas(b"a: \xff").unwrap()[0].text("a").unwrap_err().to_string(),
            "line 1: the field a is not UTF-8"
        );
    }
}
