// SPDX-License-Identifier: ISC
//! Looks into files: an object is loaded, a script read; and finds programs by name.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io::Read;

use super::gather::{Gatherer, MAX_SCRIPT, Task, Want};
use super::script::{self, Language};
use super::view::below;
use super::{PROGRAM_DIRS, Reason, binfmt};
use crate::error::{IoContext, Result};

impl Gatherer<'_> {
    /// Looks into a file: an object is loaded, a script read.
    pub(super) fn look_into(&mut self, task: &Task) -> Result<()> {
        let Some(stat) = self.view.stat(&task.path)? else { return Ok(()) };
        let is_library = task.path.name().windows(3).any(|part| part == b".so") || task.path.name().ends_with(b".node");
        // In a tree most files are data.
        if task.want.in_tree && stat.mode & 0o111 == 0 && !is_library {
            return Ok(());
        }
        if !task.want.in_tree && !self.request.formats.is_empty() {
            self.started_by(task)?;
        }
        if let Some(elf) = self.search.elf(&task.path)? {
            return self.load(task, &elf);
        }
        let Some(file) = self.view.open(&task.path)? else { return Ok(()) };
        let mut text = Vec::new();
        file.take(MAX_SCRIPT).read_to_end(&mut text).on("read", &task.path)?;
        let Some(interpreter) = script::interpreter(&text) else {
            let language = if task.path.name().ends_with(b".py") { Some(Language::Python) } else { None };
            return language.map_or(Ok(()), |language| self.read_script(task, &text, language));
        };
        let language = Language::of(interpreter.name());
        if task.want.in_tree && language != Some(Language::Shell) && !self.is_there(&interpreter)? {
            let entry = self.left_out.entry(interpreter.name().to_vec()).or_insert_with(|| (task.path.clone(), 0));
            entry.1 += 1;
            return Ok(());
        }
        let by = |why: &str| Want {
            reason: Reason { by: Some(task.path.clone()), why: why.into() },
            in_tree: false,
            ..task.want.clone()
        };
        self.take_file(&interpreter.path, &by("interpreter"))?;
        if let Some(program) = &interpreter.program {
            self.program(program, &by("interpreter"))?;
        }
        if task.want.in_tree {
            return Ok(());
        }
        self.siblings(task, &text)?;
        language.map_or(Ok(()), |language| self.read_script(task, &text, language))
    }

    /// The program that the kernel starts it by, if it is of such a kind.
    fn started_by(&mut self, task: &Task) -> Result<()> {
        let Some(file) = self.view.open(&task.path)? else { return Ok(()) };
        let mut head = Vec::new();
        file.take(binfmt::HEAD).read_to_end(&mut head).on("read", &task.path)?;
        let request = self.request;
        for format in request.formats.iter().filter(|format| format.is(task.path.name(), &head)) {
            let reason = Reason { by: Some(task.path.clone()), why: "interpreter by binfmt_misc".into() };
            self.take_file(&format.interpreter, &Want { reason, in_tree: false, ..task.want.clone() })?;
        }
        Ok(())
    }

    /// Programs of its package that a script names, whole or, as in `prog$version`, by how they begin.
    fn siblings(&mut self, task: &Task, text: &[u8]) -> Result<()> {
        let Some(index) = self.owners.of(&task.path) else { return Ok(()) };
        let text = String::from_utf8_lossy(text);
        let words: HashSet<&str> = text.split(|c: char| !is_word(c)).collect();
        let stem = |before: &'_ str| before.len() - before.trim_end_matches(is_word).len();
        let stems = text.match_indices('$').map(|(at, _)| &text[at - stem(&text[..at])..at]);
        let stems: HashSet<&str> = stems.filter(|stem| stem.len() > 2).collect();
        for file in self.owners.files(index) {
            let mut parts = file.rsplitn(3, |&b| b == b'/');
            let (Some(name), Some(b"bin" | b"sbin")) = (parts.next(), parts.next()) else { continue };
            let name = String::from_utf8_lossy(name);
            if words.contains(&*name) || stems.iter().any(|stem| name.starts_with(stem)) {
                let reason = Reason { by: Some(task.path.clone()), why: format!("program {name}").into() };
                self.take(file, &Want { reason, must: false, in_tree: false })?;
            }
        }
        Ok(())
    }

    /// Is the interpreter of a script in the closure already?
    fn is_there(&self, interpreter: &script::Interpreter) -> Result<bool> {
        let at = match &interpreter.program {
            Some(program) => match self.look_up(program)? {
                Some(at) => at,
                None => return Ok(false),
            },
            None => interpreter.path.clone(),
        };
        let found = self.view.follow(&at)?;
        Ok(found.file().is_some_and(|path| self.closure.entries.contains_key(path)))
    }

    /// The program of this name on the host.
    fn look_up(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if name.contains(&b'/') {
            return Ok(Some(name.to_vec()).filter(|name| name.starts_with(b"/")));
        }
        for dir in PROGRAM_DIRS {
            let at = below(dir.as_bytes(), name);
            let found = self.view.follow(&at)?;
            if let Some(path) = found.file()
                && self.view.stat(path)?.is_some_and(|stat| stat.mode & 0o111 != 0)
            {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Adds a program by name.
    pub(super) fn program(&mut self, name: &[u8], want: &Want) -> Result<bool> {
        match self.look_up(name)? {
            Some(at) => self.take_file(&at, want),
            None if want.must => Err(self.missing(name, want)),
            None => Ok(false),
        }
    }
}

/// Does it belong to the name of a program?
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "-_+.".contains(c)
}
