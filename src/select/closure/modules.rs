// SPDX-License-Identifier: ISC
//! Modules and programs that scripts name, as files of the host.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Reason;
use super::gather::{Gatherer, Task, Want};
use super::hints::glob;
use super::script::{self, Language};
use super::view::{absolute, below};
use crate::error::Result;
use crate::path::{PathSet, TreePath};

/// Where Perl modules are, as Debian and Perl itself lay them out.
const PERL: [&str; 9] = [
    "/etc/perl",
    "/usr/local/lib/*/perl/5*",
    "/usr/local/share/perl/5*",
    "/usr/lib/*/perl5/5*",
    "/usr/share/perl5",
    "/usr/lib/*/perl-base",
    "/usr/lib/*/perl/5*",
    "/usr/share/perl/5*",
    "/usr/local/lib/site_perl",
];

/// Where Python packages are that are not part of Python itself.
const PYTHON: [&str; 4] = [
    "/usr/local/lib/python3*/dist-packages",
    "/usr/local/lib/python3*/site-packages",
    "/usr/lib/python3*/site-packages",
    "/usr/lib/python3/dist-packages",
];

impl Gatherer<'_> {
    /// Adds what the script of `task` names.
    pub(super) fn read_script(&mut self, task: &Task, text: &[u8], language: Language) -> Result<()> {
        let names = script::names(&String::from_utf8_lossy(text), language);
        let want = |why: String| {
            let reason = Reason { by: Some(task.path.clone()), why: Arc::from(why) };
            Want { reason, must: false, in_tree: false }
        };
        for module in &names.modules {
            let want = want(format!("module {module}"));
            match language {
                Language::Python => self.python(&task.path, module, &want)?,
                Language::Perl => self.perl(module, &want)?,
                Language::Shell => {}
            }
        }
        for program in &names.programs {
            // Of paths only programs: data that a script names is as often written as read.
            let want = want(format!("program {program}"));
            if !program.starts_with('/') || self.is_program(program.as_bytes())? {
                self.program(program.as_bytes(), &want)?;
            }
        }
        Ok(())
    }

    fn is_program(&self, at: &[u8]) -> Result<bool> {
        let found = self.view.follow(at)?;
        let Some(path) = found.file() else { return Ok(false) };
        Ok(self.view.stat(path)?.is_some_and(|stat| stat.mode & 0o111 != 0))
    }

    /// The directories that these patterns name, once each.
    fn directories(&mut self, key: &'static [&'static str]) -> Result<Vec<Vec<u8>>> {
        let name = TreePath::lenient(key[0].replace('*', "any").as_bytes())?;
        if let Some(known) = self.interpreters.get(&name) {
            return Ok(known.clone());
        }
        let mut dirs = Vec::new();
        for pattern in key {
            dirs.extend(glob(self.view, pattern.as_bytes())?);
        }
        self.interpreters.insert(name, dirs.clone());
        Ok(dirs)
    }

    /// A module of Python: beside the script, or among the packages. A package comes whole, and with what says who made
    /// it, which its entry points are found by.
    fn python(&mut self, script: &TreePath, module: &str, want: &Want) -> Result<()> {
        let mut dirs = vec![absolute(&script.parent().unwrap_or_default())];
        dirs.extend(self.directories(&PYTHON)?);
        let mut parts = module.split('.');
        let top = parts.next().unwrap_or_default();
        for dir in dirs {
            let package = below(&dir, top.as_bytes());
            let found = self.view.follow(&package)?;
            if let Some(path) = found.dir()
                // A directory beside the script that is no package is nobody's module.
                && (dir.ends_with(b"-packages") || self.view.follow(&below(&package, b"__init__.py"))?.file().is_some())
            {
                let path = path.clone();
                if !self.read.insert(path.clone()) {
                    return self.enter(&path, &package, want).map(drop);
                }
                self.tree(&path, want, &PathSet::new(["**/tests", "**/test"])?, 0)?;
                self.read_package(&path, 0)?;
                return self.distribution(&dir, top, want);
            }
            let file = [package, b".py".to_vec()].concat();
            if self.take(&file, want)? {
                return self.distribution(&dir, top, want);
            }
            for file in glob(self.view, &below(&dir, format!("{top}.*.so").as_bytes()))? {
                self.take(&file, want)?;
            }
        }
        Ok(())
    }

    /// The modules that a directory names which came with its package, if it is one of Python's.
    pub(super) fn python_package(&mut self, dir: &TreePath) -> Result<()> {
        let is_place = dir.parent().is_some_and(|place| place.name().ends_with(b"-packages"));
        if is_place && self.read.insert(dir.clone()) {
            return self.read_package(dir, 0);
        }
        Ok(())
    }

    /// The modules that the files of a package name in turn.
    fn read_package(&mut self, dir: &TreePath, depth: usize) -> Result<()> {
        for name in self.view.names(&absolute(dir))? {
            let path = dir.join(&name)?;
            let Some(stat) = self.view.stat(&path)? else { continue };
            match stat.kind {
                crate::sys::FileType::File if name.ends_with(b".py") => {
                    let reason = Reason { by: Some(dir.clone()), why: "in it".into() };
                    let want = Want { reason, must: false, in_tree: false };
                    self.todo.push_back(Task { at: absolute(&path), path, want });
                }
                crate::sys::FileType::Dir if depth < 16 && *name != *b"tests" => self.read_package(&path, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `NAME-VERSION.dist-info` and `.egg-info` of a module.
    fn distribution(&mut self, dir: &[u8], top: &str, want: &Want) -> Result<()> {
        if !dir.ends_with(b"-packages") {
            return Ok(());
        }
        let plain = |text: &str| text.to_lowercase().replace(['-', '.'], "_");
        for name in self.view.names(dir)? {
            let text = String::from_utf8_lossy(&name).into_owned();
            let known = text.strip_suffix(".dist-info").or_else(|| text.strip_suffix(".egg-info"));
            if known.and_then(|known| known.split('-').next()).is_some_and(|known| plain(known) == plain(top)) {
                self.take(&below(dir, &name), want)?;
            }
        }
        Ok(())
    }

    /// A module of Perl: its file, what lies below its name, and its compiled part.
    fn perl(&mut self, module: &str, want: &Want) -> Result<()> {
        let name = module.replace("::", "/");
        for dir in self.directories(&PERL)? {
            let file = below(&dir, format!("{name}.pm").as_bytes());
            let found = self.view.follow(&file)?;
            let Some(path) = found.file().cloned() else { continue };
            if !self.read.insert(path.clone()) {
                return self.enter(&path, &file, want).map(drop);
            }
            self.take(&file, want)?;
            for part in [below(&dir, name.as_bytes()), below(&below(&dir, b"auto"), name.as_bytes())] {
                if self.view.follow(&part)?.dir().is_some() {
                    self.take(&part, want)?;
                }
            }
            if let Some(text) = self.view.read(&file, super::gather::MAX_SCRIPT * 4).unwrap_or_default() {
                let task = Task { path, at: file, want: want.clone() };
                return self.read_script(&task, &text, Language::Perl);
            }
            return Ok(());
        }
        Ok(())
    }
}
