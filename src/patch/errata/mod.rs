// SPDX-License-Identifier: ISC
//! Errata: source patches with a text that says what they mend and how they are built in. Pure.
//!
//! ```text
//! OpenBSD X.Y errata N, DATE:
//!
//! What is wrong.
//!
//! Apply by doing:
//!     signify -Vep /etc/signify/openbsd-XY-base.pub -x NNN_name.patch.sig \
//!         -m - | (cd /usr/src && patch -p0)
//!
//! And then rebuild and install WHAT:
//!     COMMAND ...
//!
//! Index: PATH
//! DIFF
//! ```
//!
//! Before errata were signed there was no title, and the block to apply them was `cd /usr/src` and
//! `patch -p0 < NNN_name.patch`. Nothing of the text is ever given to a shell: see [`steps`].
#![forbid(unsafe_code)]

mod diff;
pub mod steps;

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use steps::Line;

/// No erratum is larger, in bytes.
pub const MAX_SIZE: usize = 32 << 20;
/// The text above the diff has no more lines.
const MAX_LINES: usize = 2000;

/// A source patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erratum {
    /// What its title says; none for an old one.
    pub title: Option<Title>,
    /// What is wrong, and what else is said.
    pub text: String,
    /// What is said behind the steps: for people.
    pub note: String,
    /// Where it is applied, as an absolute path, and how many names are taken off the paths in it.
    pub place: (Vec<u8>, u32),
    /// What is done afterwards.
    pub blocks: Vec<Block>,
    /// What the diff changes, below `place`.
    pub files: Vec<TreePath>,
    /// Where the diff begins in the message.
    pub diff: usize,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title {
    /// `5.8`.
    pub release: String,
    /// Its number in that release.
    pub number: u32,
    /// As it is written.
    pub date: String,
}

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is above it: `And then rebuild and install sshd`.
    pub heading: String,
    /// Its commands.
    pub lines: Vec<Line>,
}

/// Reads an erratum. `signed` ones have a title.
///
/// # Errors
/// [`ErrorKind::BadInput`] saying what is missing or not understood.
pub fn parse(message: &[u8], signed: bool) -> Result<Erratum> {
    let (head, at) = split(message)?;
    let paragraphs = paragraphs(head)?;
    let mut rest = paragraphs.iter().peekable();
    let title = match rest.peek().and_then(|paragraph| title(&paragraph.lines)) {
        Some(title) => {
            rest.next();
            Some(title)
        }
        None if signed => return Err(bad("it has no title: OpenBSD X.Y errata N, DATE")),
        None => None,
    };
    let (mut text, mut note) = (String::new(), String::new());
    let (mut place, mut blocks) = (None, Vec::new());
    for paragraph in rest {
        let heading = paragraph.heading();
        match (&place, heading) {
            (None, Some(heading)) if is_apply(heading) => {
                place = Some(apply(&paragraph.commands()?, title.as_ref())?);
            }
            (Some(_), Some(heading)) if is_apply(heading) => {
                return Err(bad("it is applied in two places, and has one diff"));
            }
            (None, _) => paragraph.append_to(&mut text),
            (Some(_), Some(heading)) if is_steps(heading) => {
                let lines = paragraph.commands()?.iter().map(|line| Line::parse(line)).collect::<Result<Vec<_>>>()?;
                blocks.push(Block { heading: heading.trim_end_matches(':').to_owned(), lines });
            }
            // What nobody asked to be run is not: it is shown.
            (Some(_), _) => paragraph.append_to(&mut note),
        }
    }
    let place = place.ok_or_else(|| bad("it does not say how to apply it: Apply by doing:"))?;
    if blocks.is_empty() {
        return Err(bad("it does not say what to do after it is applied: And then rebuild and install ...:"));
    }
    let files = diff::files(&message[at..], place.1)?;
    Ok(Erratum { title, text, note, place, blocks, files, diff: at })
}

/// Reads a bare diff, which is applied in `place`.
///
/// # Errors
/// [`ErrorKind::BadInput`] if it is none.
pub fn plain(message: &[u8], place: (Vec<u8>, u32), lines: &[String]) -> Result<Erratum> {
    let at = diff::start(message).ok_or_else(|| bad("there is no diff in it"))?;
    let lines = lines.iter().map(|line| Line::parse(line)).collect::<Result<Vec<_>>>()?;
    let files = diff::files(&message[at..], place.1)?;
    let blocks = vec![Block { heading: "steps".to_owned(), lines }];
    let text = String::from_utf8_lossy(&message[..at]).trim().to_owned();
    Ok(Erratum { title: None, text, note: String::new(), place, blocks, files, diff: at })
}

/// The text, and where the diff begins.
fn split(message: &[u8]) -> Result<(&str, usize)> {
    if message.len() > MAX_SIZE {
        return Err(bad("it is larger than 32 MiB"));
    }
    let at = diff::start(message).ok_or_else(|| bad("there is no diff in it"))?;
    let text = std::str::from_utf8(&message[..at]).map_err(|_| bad("its text is not UTF-8"))?;
    let strange = |c: char| c.is_control() && !"\n\t".contains(c);
    if text.contains(strange) {
        return Err(bad("there are control characters in its text"));
    }
    Ok((text, at))
}

/// Lines between empty ones; of a heading and the commands below it, the latter are indented.
struct Paragraph<'a> {
    lines: Vec<&'a str>,
}

/// In this text an indented block may also follow its heading after an empty line.
fn paragraphs(text: &str) -> Result<Vec<Paragraph<'_>>> {
    let mut found: Vec<Paragraph<'_>> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().map(str::trim_end).enumerate() {
        if number == MAX_LINES {
            return Err(bad("its text is too long"));
        }
        let joins = |last: &Paragraph<'_>| {
            open || (is_indented(line) && last.heading().is_some() && !last.lines.iter().any(|line| is_indented(line)))
        };
        match found.last_mut() {
            _ if line.is_empty() => open = false,
            Some(last) if joins(last) => {
                last.lines.push(line);
                open = true;
            }
            _ => {
                found.push(Paragraph { lines: vec![line] });
                open = true;
            }
        }
    }
    Ok(found)
}

fn is_indented(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

impl<'a> Paragraph<'a> {
    /// Its first line and what it goes on with, if that ends with a colon.
    fn heading(&self) -> Option<&'a str> {
        let plain = self.lines.iter().take_while(|line| !is_indented(line)).count();
        let last = *self.lines[..plain].last()?;
        (last.ends_with(':') && plain <= 3).then(|| if plain == 1 { last } else { self.lines[0] })
    }

    /// The indented lines, those that end in a backslash joined with the next.
    fn commands(&self) -> Result<Vec<String>> {
        let mut commands = Vec::new();
        let mut open: Option<String> = None;
        for line in self.lines.iter().skip_while(|line| !is_indented(line)) {
            if !is_indented(line) {
                return Err(bad(format!("not indented among commands: {line:?}")));
            }
            let whole =
                open.take().map_or_else(|| line.trim().to_owned(), |before| format!("{before} {}", line.trim()));
            match whole.strip_suffix('\\') {
                Some(begun) => open = Some(begun.trim_end().to_owned()),
                None => commands.push(whole),
            }
        }
        match open {
            Some(begun) => Err(bad(format!("a command that does not end: {begun:?}"))),
            None => Ok(commands),
        }
    }

    fn append_to(&self, text: &mut String) {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&self.lines.join("\n"));
    }
}

/// `Apply by doing:`, `Apply patch using:`.
fn is_apply(heading: &str) -> bool {
    heading.starts_with("Apply ") && ["doing", "using", "with", "executing"].iter().any(|word| heading.contains(word))
}

/// Headings of steps: `And then rebuild and install sshd:`, `Then build and install a new kernel:`, `Also rebuild httpd:`.
/// Better one block too many, which is then not understood, than one that nobody does.
fn is_steps(heading: &str) -> bool {
    let lower = heading.to_ascii_lowercase();
    ["build", "install"].iter().any(|word| lower.contains(word))
}

/// `OpenBSD X.Y errata N, DATE`, with or without a colon.
fn title(lines: &[&str]) -> Option<Title> {
    let [line] = lines else { return None };
    let rest = line.strip_prefix("OpenBSD ")?;
    let (release, rest) = rest.split_once(" errata ")?;
    let (number, date) = rest.split_once(", ")?;
    let (major, minor) = release.split_once('.')?;
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let date = date.trim_end_matches(':').trim();
    let good = digits(major, 2) && digits(minor, 1) && digits(number, 3) && (1..=64).contains(&date.len());
    let number = number.parse().ok().filter(|number| good && *number > 0)?;
    Some(Title { release: release.to_owned(), number, date: date.to_owned() })
}

/// Where it is applied, out of the commands that do so.
fn apply(commands: &[String], title: Option<&Title>) -> Result<(Vec<u8>, u32)> {
    let unknown = || bad(format!("the way to apply it is not understood: {:?}", commands.join("; ")));
    let whole = commands.join(" ; ").replace('(', " ( ").replace(')', " ) ").replace(';', " ; ");
    let words: Vec<&str> = whole.split_whitespace().map(|word| if word == ";" { "&&" } else { word }).collect();
    let (root, strip) = match words[..] {
        ["signify", ref verify @ .., "|", "(", "cd", root, "&&", "patch", strip, ")"] => {
            let key = signify_key(verify).ok_or_else(unknown)?;
            let release = |title: &Title| title.release.replace('.', "");
            let named = title.is_none_or(|title| key.ends_with(&format!("/openbsd-{}-base.pub", release(title))));
            if !named {
                return Err(bad(format!("its title and its key, {key}, are of two releases")));
            }
            (root, strip)
        }
        ["cd", root, "&&", "patch", strip, "<", _] => (root, strip),
        _ => return Err(unknown()),
    };
    let strip = strip.strip_prefix("-p").and_then(|n| n.parse().ok()).filter(|n| *n < 10).ok_or_else(unknown)?;
    let path = TreePath::lenient(root.as_bytes())?;
    if !root.starts_with('/') || path.is_root() {
        return Err(unknown());
    }
    Ok(([b"/", path.as_bytes()].concat(), strip))
}

/// The key in the words after `signify`: `-Vep KEY -x FILE -m -`, in any order; none if they are others.
fn signify_key<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut key = None;
    for pair in words.chunks(2) {
        match *pair {
            ["-Vep" | "-eVp" | "-Vp", named] => key = Some(named),
            ["-x", _] | ["-m", "-"] => {}
            _ => return None,
        }
    }
    key
}

fn bad(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadInput, reason)
}

#[cfg(test)]
mod tests;
