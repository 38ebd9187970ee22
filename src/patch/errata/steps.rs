// SPDX-License-Identifier: ISC
//! The commands of an erratum: a few, taken apart here and executed one by one inside. No shell sees them, and what they
//! ask of the machine is answered for the chroot, not for the host.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::bad;
use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;

/// What may be executed.
const PROGRAMS: [&str; 5] = ["make", "patch", "config", "install", "ldconfig"];
/// No line of a real erratum is longer, in bytes.
const MAX_LINE: usize = 4096;
/// Directories that are meant when a path begins with their name and not with `/usr`.
const BELOW_USR: [&str; 3] = ["src", "xenocara", "ports"];

/// What the commands may ask of the chroot that they are executed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its architecture: `amd64`.
    pub machine: String,
    /// Its release: `7.8`.
    pub release: String,
    /// The system that it is of: `openbsd`.
    pub system: String,
    /// The configuration of its kernel: `GENERIC` or `GENERIC.MP`; none if nobody said.
    pub kernel: Option<String>,
    /// How many processors it may use.
    pub cpus: usize,
}

/// A line of commands, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As it is written.
    pub text: String,
    commands: Vec<Vec<Word>>,
}

/// A word, in parts.
type Word = Vec<Part>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
    Question(Question),
}

/// What a command in backticks asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Machine,
    Release,
    Kernel,
    Cpus,
}

/// The commands that are understood in backticks, as [`question`] spells them.
const QUESTIONS: &[(&str, Question)] = &[
    ("machine", Question::Machine),
    ("arch -s", Question::Machine),
    ("uname -m", Question::Machine),
    ("uname -p", Question::Machine),
    ("sysctl -n hw.machine", Question::Machine),
    ("uname -r", Question::Release),
    ("sysctl -n kern.osrelease", Question::Release),
    ("sysctl -n kern.osversion | cut -d# -f1", Question::Kernel),
    ("sysctl -n kern.osversion | cut -f1 -d#", Question::Kernel),
    ("sysctl -n kern.osversion | sed s/#.*//", Question::Kernel),
    ("sysctl -n kern.osversion", Question::Kernel),
    ("uname -v | cut -d# -f1", Question::Kernel),
    ("uname -v | cut -f1 -d#", Question::Kernel),
    ("sysctl -n hw.ncpu", Question::Cpus),
    ("sysctl -n hw.ncpufound", Question::Cpus),
    ("sysctl -n hw.ncpuonline", Question::Cpus),
];
/// Who builds inside is root there.
const AS_ROOT: [&str; 2] = ["doas", "sudo"];

impl Line {
    /// Takes a line apart.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a command that is not known, or more of the shell's language than words, `&&` and `;`.
    pub fn parse(text: &str) -> Result<Line> {
        let unknown = |what: &str| {
            let error = bad(format!("{what} in a step: {text:?}"));
            error.hint("do it by hand: stockade record ROOT -o FILE -- sh")
        };
        if text.len() > MAX_LINE || text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(unknown("an odd line"));
        }
        let mut line = Line { text: text.to_owned(), commands: Vec::new() };
        for mut words in (Lexer { rest: text.trim() }).commands().map_err(unknown)? {
            if words.len() > 1 && AS_ROOT.iter().any(|name| words[0] == [Part::Text((*name).to_owned())]) {
                words.remove(0);
            }
            line.commands.push(words);
        }
        for words in &line.commands {
            check(words).map_err(unknown)?;
        }
        if line.commands.is_empty() { Err(unknown("nothing")) } else { Ok(line) }
    }
}

/// Is it a command that is known?
fn check(words: &[Word]) -> Result<(), &'static str> {
    let [Part::Text(first), ..] = words[0].as_slice() else { return Err("a command that is made up") };
    if words.len() == 1 && assigned(&words[0]).is_some() {
        return Ok(());
    }
    let options = words[1..].iter().filter_map(|word| match word.first() {
        Some(Part::Text(text)) if text.starts_with('-') => Some(text.as_str()),
        _ => None,
    });
    match (words[0].len(), first.as_str()) {
        (1, "cd") if words.len() == 2 => Ok(()),
        (1, "make") if !options.clone().all(is_make_option) => Err("an unknown option of make"),
        (1, name) if PROGRAMS.contains(&name) => Ok(()),
        _ => Err("an unknown command"),
    }
}

/// `-f FILE`, `-j N`, `-k`, `-s`, `-i`: what neither executes nor leaves the directory.
fn is_make_option(option: &str) -> bool {
    ["-f", "-j"].iter().any(|prefix| option.starts_with(prefix)) || ["-k", "-s", "-i"].contains(&option)
}

/// The name that a word like `KK=...` gives a value.
fn assigned(word: &Word) -> Option<&str> {
    let [Part::Text(first), ..] = word.as_slice() else { return None };
    first.split_once('=').map(|(name, _)| name).filter(|name| is_variable(name))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What is left of a line.
struct Lexer<'a> {
    rest: &'a str,
}

impl Lexer<'_> {
    fn commands(mut self) -> Result<Vec<Vec<Word>>, &'static str> {
        let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), Word::new());
        while let Some(c) = self.next() {
            match c {
                ' ' | '\t' => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
                ';' => close(&mut commands, &mut words, &mut word)?,
                '&' if self.rest.starts_with('&') => {
                    self.next();
                    close(&mut commands, &mut words, &mut word)?;
                }
                '\'' => push(&mut word, Part::Text(self.until('\'')?)),
                '"' => self.quoted(&mut word)?,
                '`' => push(&mut word, question(&self.until('`')?)?),
                '$' => push(&mut word, self.variable()?),
                c if c.is_alphanumeric() || "/._-=+,:@%#^".contains(c) && !(c == '#' && word.is_empty()) => {
                    push(&mut word, Part::Text(c.into()));
                }
                _ => return Err("more of the shell's language than is understood"),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        if !words.is_empty() {
            commands.push(words);
        }
        Ok(commands)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn until(&mut self, end: char) -> Result<String, &'static str> {
        let (text, rest) = self.rest.split_once(end).ok_or("a quote that does not end")?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    fn quoted(&mut self, word: &mut Word) -> Result<(), &'static str> {
        push(word, Part::Text(String::new()));
        loop {
            match self.next().ok_or("a quote that does not end")? {
                '"' => return Ok(()),
                '`' => push(word, question(&self.until('`')?)?),
                '$' => push(word, self.variable()?),
                '\\' => return Err("a backslash"),
                c => push(word, Part::Text(c.into())),
            }
        }
    }

    /// `$NAME`, `${NAME}` or `$(COMMAND)`; the dollar is taken.
    fn variable(&mut self) -> Result<Part, &'static str> {
        if self.rest.starts_with('(') {
            self.next();
            return question(&self.until(')')?);
        }
        let name = if self.rest.starts_with('{') {
            self.next();
            self.until('}')?
        } else {
            let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            name.to_owned()
        };
        if is_variable(&name) { Ok(Part::Variable(name)) } else { Err("a variable without a name") }
    }
}

fn close(commands: &mut Vec<Vec<Word>>, words: &mut Vec<Word>, word: &mut Word) -> Result<(), &'static str> {
    words.extend((!word.is_empty()).then(|| std::mem::take(word)));
    if words.is_empty() {
        return Err("an empty command");
    }
    commands.push(std::mem::take(words));
    Ok(())
}

fn push(word: &mut Word, part: Part) {
    match (word.last_mut(), part) {
        (Some(Part::Text(text)), Part::Text(more)) => text.push_str(&more),
        (_, part) => word.push(part),
    }
}

/// Quotes change nothing in what is known, nor does a blank between an option and its value.
fn question(command: &str) -> Result<Part, &'static str> {
    let plain = command.replace(['\'', '"', '\\'], "").replace('|', " | ");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = plain.replace("-d #", "-d#").replace("-f 1", "-f1");
    let known = QUESTIONS.iter().find(|(text, _)| *text == plain);
    known.map(|(_, question)| Part::Question(*question)).ok_or("an unknown command in backticks")
}

/// A command to be executed: in which directory, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// An absolute path.
    pub dir: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.dir, self.argv.join(" "))
    }
}

/// What `lines` come to in a chroot of which `facts` hold, beginning in the directory `dir`.
///
/// # Errors
/// [`ErrorKind::Usage`] if it is asked which kernel it is and nobody said; [`ErrorKind::BadInput`] for a variable without
/// a value.
pub fn resolve<'a>(lines: impl Iterator<Item = &'a Line>, dir: &str, facts: &Facts) -> Result<Vec<Step>> {
    let mut shell = Shell { dir: dir.to_owned(), variables: BTreeMap::new(), facts };
    let mut steps = Vec::new();
    for line in lines {
        for words in &line.commands {
            steps.extend(shell.run(words).map_err(|error| error.at(line.text.as_bytes()))?);
        }
    }
    Ok(steps)
}

/// What a shell would keep in mind from one line to the next.
struct Shell<'a> {
    dir: String,
    variables: BTreeMap<String, String>,
    facts: &'a Facts,
}

impl Shell<'_> {
    fn run(&mut self, words: &[Word]) -> Result<Option<Step>> {
        let argv: Vec<String> = words.iter().map(|word| self.value(word)).collect::<Result<_>>()?;
        if let (1, Some(name)) = (words.len(), assigned(&words[0])) {
            self.variables.insert(name.to_owned(), argv[0][name.len() + 1..].to_owned());
            return Ok(None);
        }
        if argv[0] == "cd" {
            self.dir = self.reach(&argv[1])?;
            return Ok(None);
        }
        Ok(Some(Step { dir: self.dir.clone(), argv }))
    }

    fn value(&self, word: &Word) -> Result<String> {
        let mut value = String::new();
        for part in word {
            match part {
                Part::Text(text) => value.push_str(text),
                Part::Variable(name) => {
                    let known = self.variables.get(name);
                    value.push_str(known.ok_or_else(|| bad(format!("${name} was given no value")))?);
                }
                Part::Question(Question::Machine) => value.push_str(&self.facts.machine),
                Part::Question(Question::Release) => value.push_str(&self.facts.release),
                Part::Question(Question::Cpus) => value.push_str(&self.facts.cpus.to_string()),
                Part::Question(Question::Kernel) => {
                    let unsaid = || {
                        let error = Error::new(ErrorKind::Usage, "it is not said which kernel the chroot has");
                        error.hint("say it with --kernel GENERIC or --kernel GENERIC.MP")
                    };
                    value.push_str(self.facts.kernel.as_deref().ok_or_else(unsaid)?);
                }
            }
        }
        Ok(value)
    }

    /// The directory that `cd path` leads to.
    fn reach(&self, path: &str) -> Result<String> {
        let first = path.split('/').next().unwrap_or_default();
        // Errata were written by people: some say `cd src/lib/libcrypto`.
        let start = match path {
            _ if path.starts_with('/') => "",
            _ if BELOW_USR.contains(&first) => "/usr",
            _ => &self.dir,
        };
        let mut names: Vec<&str> = start.split('/').filter(|name| !name.is_empty()).collect();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let whole = format!("/{}", names.join("/"));
        TreePath::lenient(whole.as_bytes())?;
        Ok(whole)
    }
}
