// SPDX-License-Identifier: ISC
//! What a script says about itself: its interpreter, and by simple reading the modules and programs that it names.
//!
//! Nothing is executed, so that names made at run time are not seen; a trace of a real run adds those.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};

/// The longest first line that kernels read.
const MAX_LINE: usize = 4096;

/// What the first line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program that the kernel starts, absolute.
    pub path: Vec<u8>,
    /// The program that this one looks up and starts: with env(1).
    pub program: Option<Vec<u8>>,
}

impl Interpreter {
    /// The name of what reads the script.
    pub fn name(&self) -> &[u8] {
        let path = self.program.as_ref().unwrap_or(&self.path);
        path.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }
}

/// The language that a script is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// sh(1) and its kin.
    Shell,
    /// Python.
    Python,
    /// Perl.
    Perl,
}

impl Language {
    /// By the interpreter's name.
    pub fn of(name: &[u8]) -> Option<Language> {
        let plain: Vec<u8> = name.iter().copied().take_while(|b| !b.is_ascii_digit() && *b != b'.').collect();
        match plain.as_slice() {
            b"sh" | b"dash" | b"bash" | b"ksh" | b"mksh" | b"zsh" | b"ash" => Some(Language::Shell),
            b"python" | b"pypy" => Some(Language::Python),
            b"perl" => Some(Language::Perl),
            _ => None,
        }
    }
}

/// The interpreter of a file that begins with `text`; none if it is no script.
pub fn interpreter(text: &[u8]) -> Option<Interpreter> {
    let line = text.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let line = line.get(..line.len().min(MAX_LINE))?.trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (path, rest) = line.split_at(end);
    if !path.starts_with(b"/") {
        return None;
    }
    let is_env = path.rsplit(|&b| b == b'/').next() == Some(b"env");
    let program = if is_env { looked_up(rest.trim_ascii()) } else { None };
    Some(Interpreter { path: path.to_vec(), program })
}

/// The program that env(1) starts with this argument: options and variables come before it.
fn looked_up(argument: &[u8]) -> Option<Vec<u8>> {
    let split = argument.strip_prefix(b"-S").or_else(|| argument.strip_prefix(b"--split-string=")).unwrap_or(argument);
    let mut words = split.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        match word {
            b"-u" | b"-C" | b"--unset" | b"--chdir" => drop(words.next()),
            _ if word.starts_with(b"-") || word.contains(&b'=') => {}
            _ => return Some(word.iter().copied().filter(|b| !b"'\"".contains(b)).collect()),
        }
    }
    None
}

/// What a script names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Modules: `a.b` of Python, `A::B` of Perl.
    pub modules: BTreeSet<String>,
    /// Programs, by name or absolute path.
    pub programs: BTreeSet<String>,
}

/// What `text` names in its language.
pub fn names(text: &str, language: Language) -> Names {
    let mut names = Names::default();
    match language {
        Language::Shell => shell(text, &mut names),
        Language::Python => python(text, &mut names),
        Language::Perl => perl(text, &mut names),
    }
    names
}

/// `import a.b as c, d`, `from a.b import c`; and absolute paths in quotes.
fn python(text: &str, names: &mut Names) {
    let is_name = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.') && !word.starts_with('.')
    };
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("import ") {
            let modules = rest.split(['#', ';']).next().unwrap_or_default().split(',');
            let first = modules.filter_map(|module| module.split_whitespace().next());
            names.modules.extend(first.filter(|word| is_name(word)).map(str::to_owned));
        } else if let Some((module, what)) = line.strip_prefix("from ").and_then(|rest| rest.split_once(" import ")) {
            let module = module.trim();
            if is_name(module) {
                names.modules.insert(module.to_owned());
                // What is imported may be a module of the package.
                let parts = what.split(['#', ';']).next().unwrap_or_default();
                let parts =
                    parts.split(',').filter_map(|part| part.trim_matches(['(', ')', ' ', '\\']).split(' ').next());
                names.modules.extend(parts.filter(|part| is_name(part)).map(|part| format!("{module}.{part}")));
            }
        }
        quoted(line, names);
    }
}

/// `use A::B`, `require A::B`, `use parent 'A::B'`, `use base qw(A::B C)`; and absolute paths in quotes.
fn perl(text: &str, names: &mut Names) {
    let is_name = |word: &str| {
        word.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':')
    };
    let mut in_pod = false;
    for line in text.lines() {
        if line.starts_with("__END__") {
            break;
        }
        if line.starts_with('=') {
            in_pod = !line.starts_with("=cut");
        }
        if in_pod || line.starts_with("=cut") {
            continue;
        }
        for statement in line.split([';', '{', '}']).map(str::trim) {
            let Some(rest) = statement.strip_prefix("use ").or_else(|| statement.strip_prefix("require ")) else {
                continue;
            };
            let mut words =
                rest.split(|c: char| c.is_whitespace() || "(),'\"".contains(c)).filter(|word| !word.is_empty());
            let Some(module) = words.next().filter(|word| is_name(word)) else { continue };
            names.modules.insert(module.to_owned());
            if matches!(module, "parent" | "base") {
                names.modules.extend(words.filter(|word| is_name(word) && *word != "qw").map(str::to_owned));
            }
        }
        quoted(line, names);
    }
}

/// Words where commands stand, and absolute paths; and files that `.` reads.
fn shell(text: &str, names: &mut Names) {
    const BEFORE: [&str; 14] =
        ["if", "then", "else", "elif", "do", "while", "until", "!", "exec", "command", "nohup", "time", "sudo", "{"];
    // The last line of each text: what never ends is no here-document.
    let last: HashMap<&str, usize> = text.lines().enumerate().map(|(at, line)| (line.trim(), at)).collect();
    let mut end_of_text: Option<String> = None;
    for (at, line) in text.lines().enumerate() {
        if let Some(end) = &end_of_text {
            if line.trim() == end {
                end_of_text = None;
            }
            continue;
        }
        end_of_text = here_document(line).filter(|end| last.get(end.as_str()).is_some_and(|&last| last > at));
        let code = line.split(" #").next().unwrap_or_default();
        if code.trim_start().starts_with('#') {
            continue;
        }
        for command in code.split([';', '|', '&', '(', ')', '`']) {
            let mut words = command.split_whitespace().skip_while(|word| BEFORE.contains(word) || is_setting(word));
            if let Some(word) = words.next().map(|word| word.trim_matches(['"', '\'']))
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-+./[".contains(c))
                && !word.is_empty()
            {
                names.programs.insert(word.to_owned());
            }
        }
        absolute(code, names);
    }
}

/// The word that ends the text which begins after this line, if one does: `<<` that is no comment, not quoted, and no
/// arithmetic.
fn here_document(line: &str) -> Option<String> {
    let bytes = line.as_bytes();
    // What is open: quotes, commands in them, arithmetic.
    let mut open: Vec<u8> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let inside = open.last().copied();
        at += match (inside, byte) {
            (Some(b'\''), b'\'') | (Some(b'"'), b'"') | (Some(b'('), b')') => {
                open.pop();
                1
            }
            (Some(b'\''), _) => 1,
            (_, b'\\') => 2,
            (Some(b'+'), b')') if rest.starts_with(b"))") => {
                open.pop();
                2
            }
            (_, b'(') if rest.starts_with(b"((") => {
                open.push(b'+');
                2
            }
            (_, b'(') if inside != Some(b'"') || at > 0 && bytes[at - 1] == b'$' => {
                open.push(b'(');
                1
            }
            (Some(b'"' | b'+'), _) => 1,
            (_, b'\'' | b'"') => {
                open.push(byte);
                1
            }
            (_, b'#') if at == 0 || bytes[at - 1].is_ascii_whitespace() => return None,
            (_, b'<') if rest.starts_with(b"<<<") => 3,
            (_, b'<') if rest.starts_with(b"<<") => {
                let mark = line[at + 2..].trim_start_matches('-').trim_start();
                let mark = mark.trim_start_matches(['"', '\'', '\\']);
                let word: String = mark.chars().take_while(|c| c.is_alphanumeric() || "_!.".contains(*c)).collect();
                return (!word.is_empty()).then_some(word);
            }
            _ => 1,
        };
    }
    None
}

/// `NAME=value`.
fn is_setting(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Absolute paths that stand alone.
fn absolute(line: &str, names: &mut Names) {
    let words = line.split(|c: char| c.is_whitespace() || "\"'`;|&()<>=:,[]{}".contains(c));
    names.programs.extend(words.filter(|word| is_path(word)).map(str::to_owned));
}

/// Absolute paths in quotes.
fn quoted(line: &str, names: &mut Names) {
    for quote in ['"', '\''] {
        let inside = line.split(quote).skip(1).step_by(2).filter_map(|text| text.split_whitespace().next());
        names.programs.extend(inside.filter(|word| is_path(word)).map(str::to_owned));
    }
}

/// An absolute path, as far as it can be told: `/usr/bin/x`, not `/`, `//x` or `/$x`.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "/._+-@".contains(c);
    word.len() > 2 && word.starts_with('/') && !word.contains("//") && !word.contains("/..") && word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (text, want) in [
            ("#!/bin/sh\necho", Some(("/bin/sh", None))),
            ("#! /usr/bin/perl -w\n", Some(("/usr/bin/perl", None))),
            ("#!/usr/bin/env python3\r\n", Some(("/usr/bin/env", Some("python3")))),
            ("#!/usr/bin/env -S python3 -I\n", Some(("/usr/bin/env", Some("python3")))),
            ("#!/usr/bin/env -Spython3\n", Some(("/usr/bin/env", Some("python3")))),
            ("#!/usr/bin/env -S -i A=b 'perl' -w\n", Some(("/usr/bin/env", Some("perl")))),
            ("#!/usr/bin/env -u HOME ruby\n", Some(("/usr/bin/env", Some("ruby")))),
            ("#!/usr/bin/env\n", Some(("/usr/bin/env", None))),
            ("#!bin/sh\n", None),
            ("#!\n", None),
            ("#!", None),
            ("\x7fELF", None),
            (" #!/bin/sh", None),
        ] {
            let want = want.map(|(path, program)| Interpreter {
                path: path.into(),
                program: program.map(|program: &str| program.as_bytes().to_vec()),
            });
            assert_eq!(interpreter(text.as_bytes()), want, "{text:?}");
        }
        interpreter(&[b"#!/".to_vec(), vec![b'a'; 1 << 20]].concat());
    }

    fn joined(set: &BTreeSet<String>) -> String {
        set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn modules_and_programs_by_reading() {
        for (language, text, modules, programs) in [
            (Language::Python, "import os, sys as s  # why\nimport a.b", "a.b os sys", ""),
            (Language::Python, "  from x.y import (z, w as v)", "x.y x.y.w x.y.z", ""),
            (Language::Python, "from . import a\nimportant = 1\nimport importlib;", "importlib", ""),
            (Language::Python, "run(['/usr/bin/id', \"-u\"])", "", "/usr/bin/id"),
            (Language::Perl, "use strict; use POSIX qw(floor);\nrequire Foo::Bar;", "Foo::Bar POSIX strict", ""),
            (Language::Perl, "use parent 'A::B';\nuse base qw(C D::E);", "A::B C D::E base parent", ""),
            (Language::Perl, "use 5.010;\n=head1 X\nuse Not;\n=cut\nuse Yes;\n__END__\nuse No;", "Yes", ""),
            (Language::Perl, "system('/bin/date +%s')", "", "/bin/date"),
            (Language::Shell, "# x\nA=b grep x | sort -u && ! cmp a b; exec tail", "", "cmp grep sort tail"),
            (Language::Shell, "if [ -f /etc/x.conf ]; then . /etc/x.conf; fi", "", ". /etc/x.conf [ fi"),
            (Language::Shell, "x=$(basename \"$0\")\ncat <<EOF\nnothing here\nEOF\nwc", "", "basename cat wc"),
            (Language::Shell, "n=$((1<<EOF))\nawk\nEOF", "", "EOF awk"),
            (Language::Shell, "# cat <<EOF\nawk\nEOF", "", "EOF awk"),
            (Language::Shell, "echo \"a <<EOF\" 'b <<EOF' \\<<EOF\nseen\nEOF\nawk", "", "EOF awk echo seen"),
            (Language::Shell, "x=\"$(cat <<'EOF'\nhidden\nEOF\n)\"; awk", "", "awk cat"),
            (Language::Shell, "cat <<-END | wc\nhidden\n\tEND\nawk <<< EOF\nsed", "", "awk cat sed wc"),
            (Language::Shell, "usage a << b\nawk", "", "awk usage"),
            (Language::Shell, "$PROG x; \"$A\"/b; //no /usr/../bin/no", "", "//no"),
        ] {
            let names = names(text, language);
            assert_eq!((joined(&names.modules), joined(&names.programs)), (modules.into(), programs.into()), "{text}");
        }
    }
}
