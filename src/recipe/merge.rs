// SPDX-License-Identifier: ISC
//! From files to a [`Recipe`]: each file of an `extends` chain is checked and laid over the recipe so far.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::recipe::fault::{Text, unknown};
use crate::recipe::file::{self, File, List, Spot, Table};
use crate::recipe::{Account, EMBEDDED, Made, Make, Origin, Recipe, Source, Unknown, Verify, values};

/// How many recipes may extend one another.
const MAX_CHAIN: usize = 8;
/// The longest recipe file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Loads the recipe `name`: an embedded one, or a file if the name has a slash or ends in `.toml`.
///
/// # Errors
/// [`ErrorKind::Usage`] with file, line, column and text for what is wrong in a recipe; [`ErrorKind::Io`] and
/// [`ErrorKind::NotFound`] for what cannot be read.
pub fn load(name: &str) -> Result<Recipe> {
    load_chain(name, Path::new(""), 1)
}

/// Reads the recipe `text`; `file_name` is what errors call it, and its directory is where relative paths start.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, file_name: &str) -> Result<Recipe> {
    let base = std::path::absolute(file_name).on("open", file_name)?;
    merge(&Text { name: file_name, text }, base.parent().unwrap_or(Path::new("/")), 1)
}

/// Loads `name` as seen from the directory `base`, the `depth`th recipe of its chain.
fn load_chain(name: &str, base: &Path, depth: usize) -> Result<Recipe> {
    if let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) {
        return merge(&Text { name, text }, Path::new("/"), depth);
    }
    if !name.contains('/') && !name.ends_with(".toml") {
        let error = unknown("recipe", name, EMBEDDED.iter().map(|(known, _)| *known));
        let hint =
            format!("{}; a file is named with a slash or by its ending .toml", error.advice().unwrap_or_default());
        return Err(error.hint(hint));
    }
    let path = base.join(name);
    let shown = path.to_string_lossy().into_owned();
    let mut text = String::new();
    let file = std::fs::File::open(&path).on("open", &shown)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).on("read", &shown)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::new(ErrorKind::BadInput, "a recipe is at most 1 MiB").at(shown));
    }
    let whole = std::path::absolute(&path).on("open", &shown)?;
    merge(&Text { name: &shown, text: &text }, whole.parent().unwrap_or(Path::new("/")), depth)
}

fn merge(text: &Text<'_>, base: &Path, depth: usize) -> Result<Recipe> {
    let file: File = toml::from_str(text.text).map_err(|error| text.syntax(&error))?;
    let recipe = match &file.extends {
        None => Recipe::default(),
        Some(name) if depth == MAX_CHAIN => {
            let error = Error::new(ErrorKind::Usage, "recipes extend one another in a circle, or 8 deep");
            return Err(text.fault(name.span(), error));
        }
        Some(name) => load_chain(name.get_ref(), base, depth + 1).map_err(|error| match error.kind() {
            // A fault inside that recipe has a place of its own; that it cannot be had is said of this one.
            ErrorKind::Usage if error.path().is_some() => error,
            _ => {
                let said = Error::new(error.kind(), error.to_string());
                text.fault(name.span(), said.hint(error.advice().unwrap_or("is the path relative to this file?")))
            }
        })?,
    };
    let mut layer = Layer { text, base, recipe };
    layer.lay(file)?;
    Ok(layer.recipe)
}

/// One file being laid over the recipe so far.
struct Layer<'a> {
    text: &'a Text<'a>,
    base: &'a Path,
    recipe: Recipe,
}

impl Layer<'_> {
    fn lay(&mut self, file: File) -> Result<()> {
        let text = self.text;
        let recipe = &mut self.recipe;
        amend(text, &mut recipe.etc, &file.etc, values::etc)?;
        amend(text, &mut recipe.nested, &file.nested, values::tree_path)?;
        amend(text, &mut recipe.replace, &file.replace, values::tree_path)?;
        amend(text, &mut recipe.keep, &file.policy.keep, values::pattern)?;
        amend(text, &mut recipe.edited, &file.policy.edited, values::pattern)?;
        amend(text, &mut recipe.volatile, &file.policy.volatile, values::pattern)?;
        amend(text, &mut recipe.record.omit, &file.record.omit, values::pattern)?;
        amend(text, &mut recipe.record.keep, &file.record.keep, values::pattern)?;
        let mut actions: Vec<_> = recipe.actions.iter().copied().collect();
        amend(text, &mut actions, &file.actions, values::action)?;
        recipe.actions = actions.into_iter().collect();
        recipe.environment.extend(variables(text, &file.environment)?);
        replace(&mut recipe.prompt, optional(text, file.prompt.as_ref(), values::value)?);
        replace(&mut recipe.release, optional(text, file.release.as_ref(), values::release)?);
        replace(&mut recipe.description, file.description);
        recipe.devices = file.devices.unwrap_or(recipe.devices);
        recipe.net = file.net.unwrap_or(recipe.net);
        recipe.unknown = match file.policy.unknown {
            Some(file::Unknown::Keep) => Unknown::Keep,
            Some(file::Unknown::Remove) => Unknown::Remove,
            None => recipe.unknown,
        };
        if let Some(closure) = file.closure {
            self.closure(closure)?;
        }
        let mut packages = None;
        for source in file.sources {
            self.source(source, &mut packages)?;
        }
        file.made.into_iter().try_for_each(|make| self.make(&make))?;
        file.accounts.into_iter().try_for_each(|account| self.account(account))
    }

    /// Lays a closure over the inherited one.
    fn closure(&mut self, file: file::Closure) -> Result<()> {
        let text = self.text;
        let closure = self.recipe.closure.get_or_insert_default();
        for (list, given) in [
            (&mut closure.programs, &file.programs),
            (&mut closure.paths, &file.paths),
            (&mut closure.sockets, &file.sockets),
            (&mut closure.written, &file.written),
        ] {
            amend(text, list, given, values::absolute)?;
        }
        amend(text, &mut closure.packages, &file.packages, values::check_package)?;
        amend(text, &mut closure.with, &file.with, values::value)?;
        amend(text, &mut closure.without, &file.without, values::value)?;
        amend(text, &mut closure.users, &file.users, values::account)?;
        amend(text, &mut closure.keep_setid, &file.keep_setid, values::tree_path)?;
        closure.host_nss |= file.host_nss;
        amend(text, &mut closure.clean, &file.clean, values::pattern)?;
        if !file.probe.is_empty() {
            // The words of a command belong together: what was inherited is another command.
            closure.probe = file.probe.iter().map(|word| text.check(word, values::value)).collect::<Result<_>>()?;
        }
        for (path, by) in &file.traced {
            closure.traced.insert(text.check(path, values::absolute)?, text.check(by, values::absolute)?);
        }
        closure.purpose = file.purpose.or(closure.purpose);
        Ok(())
    }

    /// Adds a source. `packages` is where this file's packages were named before, if they were.
    fn source(&mut self, source: Spanned<file::Source>, packages: &mut Option<usize>) -> Result<()> {
        let span = source.span();
        let whole = |reason: &'static str| self.text.fault(span.clone(), Error::new(ErrorKind::Usage, reason));
        let stray =
            |spot: &Spot, reason: &'static str| Err(self.text.fault(spot.span(), Error::new(ErrorKind::Usage, reason)));
        let source = source.into_inner();
        if let (None, Some(list)) = (&source.archive, &source.list) {
            return stray(list, "a checksum list belongs to an archive");
        }
        if let (None, Some(key), true) = (&source.list, &source.key, source.sets.is_none() || source.locate.is_some()) {
            return stray(key, "a key needs the checksum list that it signed: list = \"SHA256.sig\"");
        }
        if let (None, Some(modified)) = (&source.packages, &source.modified_conffiles) {
            let error = Error::new(ErrorKind::Usage, "modified_conffiles belongs to packages");
            return Err(self.text.fault(modified.span(), error));
        }
        let is_directory = source.directory.is_some() && source.packages.is_none();
        let of_openbsd = source.sets.is_some() || source.locate.is_some() || source.paths.is_some();
        if source.without.is_some() && (!is_directory || of_openbsd) {
            return Err(whole("without belongs to a directory"));
        }
        if of_openbsd {
            return self.of_openbsd(&source, &whole);
        }
        if let Some(unsigned) = &source.unsigned {
            let error = Error::new(ErrorKind::Usage, "unsigned belongs to sets");
            return Err(self.text.fault(unsigned.span(), error));
        }
        let into = optional(self.text, source.into.as_ref(), values::tree_path)?;
        let origin = match (source.archive, source.directory, source.packages) {
            (Some(archive), None, None) => {
                let path = self.host_path(&archive)?;
                Origin::Archive { path, verify: self.verify(source.list.as_ref(), source.key.as_ref())? }
            }
            (None, Some(directory), None) => Origin::Directory {
                path: self.host_path(&directory)?,
                without: self.patterns(source.without.as_ref())?,
            },
            (None, _, Some(_)) if packages.replace(span.start).is_some() => {
                return Err(whole("packages are named by two sources; put the names into the first"));
            }
            (None, directory, Some(names)) => {
                if let Some(spot) = &source.into {
                    return stray(spot, "packages are always laid into the root");
                }
                let directory = directory.map(|spot| self.host_path(&spot)).transpose()?;
                return self.packages(&names, directory, source.modified_conffiles);
            }
            _ => return Err(whole("a source is exactly one of archive, directory, sets, locate and packages")),
        };
        self.recipe.sources.push(Source { origin, into: into.unwrap_or_default() });
        Ok(())
    }

    /// Release sets, which join the inherited ones; or what locate databases list.
    fn of_openbsd(&mut self, given: &file::Source, whole: &dyn Fn(&'static str) -> Error) -> Result<()> {
        if given.archive.is_some() || given.packages.is_some() {
            return Err(whole("a source is exactly one of archive, directory, sets, locate and packages"));
        }
        let place = |spot: &Spot| self.text.check(spot, |text| values::place_of_sets(self.base, text));
        let directory = given.directory.as_ref().map(place).transpose()?;
        let key = given.key.as_ref().map(|key| self.host_path(key)).transpose()?;
        let into = optional(self.text, given.into.as_ref(), values::tree_path)?.unwrap_or_default();
        let mut names = Vec::new();
        if given.locate.is_some() || given.paths.is_some() {
            let list = given.locate.as_deref().unwrap_or_default();
            let mut paths = Vec::new();
            amend(self.text, &mut paths, given.paths.as_ref().unwrap_or(&Vec::new()), values::tree_path)?;
            amend(self.text, &mut names, given.sets.as_ref().unwrap_or(&Vec::new()), values::set)?;
            let locate = list.iter().map(|spot| self.host_path(spot)).collect::<Result<_>>()?;
            let directory = directory.unwrap_or_else(|| PathBuf::from("/"));
            self.recipe.sources.push(Source { origin: Origin::Listed { directory, locate, sets: names, paths }, into });
            return Ok(());
        }
        let unsigned = given.unsigned.as_ref().map(|spot| *spot.get_ref());
        let is_sets = |source: &Source| matches!(source.origin, Origin::Sets { .. });
        let at = self.recipe.sources.iter().position(is_sets);
        let inherited = at.map(|at| self.recipe.sources.remove(at));
        let mut origin = match inherited.map(|source| source.origin) {
            Some(origin) => origin,
            None => {
                let Some(directory) = &directory else {
                    return Err(whole("sets need the directory in which they lie"));
                };
                Origin::Sets { directory: directory.clone(), names, key: None, unsigned: false }
            }
        };
        if let Origin::Sets { directory: place, names, key: old_key, unsigned: old } = &mut origin {
            amend(self.text, names, given.sets.as_ref().unwrap_or(&Vec::new()), values::set)?;
            *place = directory.unwrap_or_else(|| place.clone());
            replace(old_key, key);
            *old = unsigned.unwrap_or(*old);
        }
        let at = at.unwrap_or(self.recipe.sources.len());
        self.recipe.sources.insert(at, Source { origin, into });
        Ok(())
    }

    /// Adds an entry that is made, in the place of an inherited one at its path.
    fn make(&mut self, given: &Spanned<file::Make>) -> Result<()> {
        let (text, make) = (self.text, given.get_ref());
        let what = match (&make.text, &make.link) {
            (Some(body), None) => Made::File(text.check(body, values::value)?),
            (None, Some(target)) => Made::Link(text.check(target, values::value)?),
            (None, None) => Made::Directory,
            _ => return Err(text.fault(given.span(), Error::new(ErrorKind::Usage, "it is a file or a link, not both"))),
        };
        let is_directory = what == Made::Directory;
        let made = Make {
            path: text.check(&make.path, if is_directory { values::place } else { values::tree_path })?,
            what,
            mode: optional(text, make.mode.as_ref(), values::mode)?,
            owner: optional(text, make.owner.as_ref(), values::owner)?,
            group: optional(text, make.group.as_ref(), values::owner)?,
            below: make.below,
        };
        if made.below && !is_directory {
            return Err(text.fault(given.span(), Error::new(ErrorKind::Usage, "below belongs to a directory")));
        }
        self.recipe.made.retain(|known| known.path != made.path);
        self.recipe.made.push(made);
        Ok(())
    }

    /// Joins the packages to the inherited ones, if there are some.
    fn packages(
        &mut self,
        given: &List,
        system: Option<PathBuf>,
        conffiles: Option<Spanned<super::Conffiles>>,
    ) -> Result<()> {
        amend(self.text, self.recipe.packages(), given, values::check_package)?;
        for source in &mut self.recipe.sources {
            if let Origin::Packages { directory, modified, .. } = &mut source.origin {
                *directory = system.clone().unwrap_or_else(|| directory.clone());
                *modified = conffiles.as_ref().map_or(*modified, |spot| *spot.get_ref());
            }
        }
        Ok(())
    }

    fn patterns(&self, given: Option<&List>) -> Result<Vec<String>> {
        let mut patterns = Vec::new();
        amend(self.text, &mut patterns, given.unwrap_or(&Vec::new()), values::pattern)?;
        Ok(patterns)
    }

    fn host_path(&self, spot: &Spot) -> Result<PathBuf> {
        self.text.check(spot, |text| values::host_path(self.base, text))
    }

    fn verify(&self, list: Option<&Spot>, key: Option<&Spot>) -> Result<Option<Verify>> {
        let Some(list) = list else { return Ok(None) };
        if key.is_none() && list.get_ref().ends_with(".sig") {
            let error = Error::new(ErrorKind::Usage, "a signed list needs the key that it is verified with");
            return Err(self.text.fault(list.span(), error.hint("add key = \"/etc/signify/NAME.pub\"")));
        }
        let key = key.map(|key| self.host_path(key)).transpose()?;
        Ok(Some(Verify { list: self.host_path(list)?, key }))
    }

    /// Adds an account, in the place of an inherited one of its name.
    fn account(&mut self, account: file::Account) -> Result<()> {
        let text = self.text;
        let name = text.check(&account.name, values::account)?;
        let mut dotfiles = Vec::new();
        amend(text, &mut dotfiles, &account.dotfiles, values::tree_path)?;
        let made = Account {
            home: optional(text, account.home.as_ref(), values::passwd_path)?,
            shell: optional(text, account.shell.as_ref(), values::passwd_path)?,
            dotfiles,
            prompt: optional(text, account.prompt.as_ref(), values::value)?,
            environment: variables(text, &account.environment)?,
            name,
        };
        self.recipe.accounts.retain(|known| known.name != made.name);
        self.recipe.accounts.push(made);
        Ok(())
    }
}

/// Adds the entries to the list; `-ENTRY` takes one away, `+ENTRY` is the same as `ENTRY`. What is there stays once.
fn amend<T: PartialEq>(text: &Text<'_>, list: &mut Vec<T>, entries: &List, read: fn(&str) -> Result<T>) -> Result<()> {
    for entry in entries {
        let word = entry.get_ref();
        let (removes, word) = match word.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        let item = text.check(entry, |_| read(word))?;
        let at = list.iter().position(|known| *known == item);
        match (removes, at) {
            (true, Some(at)) => drop(list.remove(at)),
            (true, None) => {
                text.check(entry, |_| -> Result<()> {
                    bail!(Usage, "nothing to take away: {word:?} is not in the list")
                })?;
            }
            (false, Some(_)) => {}
            (false, None) => list.push(item),
        }
    }
    Ok(())
}

fn variables(text: &Text<'_>, table: &Table) -> Result<BTreeMap<String, String>> {
    table
        .iter()
        .map(|(name, value)| Ok((text.check(name, values::variable)?, text.check(value, values::value)?)))
        .collect()
}

fn optional<T>(text: &Text<'_>, spot: Option<&Spot>, read: fn(&str) -> Result<T>) -> Result<Option<T>> {
    spot.map(|spot| text.check(spot, read)).transpose()
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}
