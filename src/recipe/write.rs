// SPDX-License-Identifier: ISC
//! A [`Recipe`] as text again: whole and with absolute paths, to be remembered beside the chroot.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;

use crate::error::{Error, ErrorKind, Result};
use crate::path::TreePath;
use crate::recipe::file::{self, File, List, Spot, Table};
use crate::recipe::values::remembered;
use crate::recipe::{Account, Action, Closure, Conffiles, Made, Make, Net, Origin, Recipe, Source, Unknown};

impl Recipe {
    /// The recipe as a TOML file that extends nothing; [`super::parse`] reads it back as the same recipe.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a path of the host, given on the command line, is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        let unknown = match self.unknown {
            Unknown::Keep => file::Unknown::Keep,
            Unknown::Remove => file::Unknown::Remove,
        };
        let below_etc = |path: &TreePath| path.strip(&TreePath::new(*b"etc").unwrap_or_default());
        let off = Action::ALL.iter().filter(|action| !self.actions.contains(action));
        let file = File {
            extends: None,
            description: self.description.clone(),
            prompt: self.prompt.as_ref().map(spot),
            etc: paths(self.etc.iter().filter_map(below_etc)),
            nested: paths(self.nested.iter().cloned()),
            release: self.release.as_ref().map(spot),
            replace: paths(self.replace.iter().cloned()),
            devices: Some(self.devices),
            net: (self.net != Net::default()).then_some(self.net),
            actions: off.map(|action| spot(format!("-{}", action.name()))).collect(),
            policy: file::Policy {
                unknown: Some(unknown),
                keep: self.keep.iter().map(plain).collect(),
                edited: self.edited.iter().map(plain).collect(),
                volatile: self.volatile.iter().map(plain).collect(),
            },
            record: file::Record {
                omit: self.record.omit.iter().map(plain).collect(),
                keep: self.record.keep.iter().map(plain).collect(),
            },
            environment: table(&self.environment),
            closure: self.closure.as_ref().map(closure),
            sources: self.sources.iter().map(source).collect::<Result<_>>()?,
            made: self.made.iter().map(make).collect(),
            accounts: self.accounts.iter().map(account).collect(),
        };
        toml::to_string(&file).map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))
    }
}

fn closure(closure: &Closure) -> file::Closure {
    let list = |list: &[String]| list.iter().map(plain).collect();
    file::Closure {
        programs: list(&closure.programs),
        paths: list(&closure.paths),
        packages: list(&closure.packages),
        with: list(&closure.with),
        without: list(&closure.without),
        users: list(&closure.users),
        keep_setid: paths(closure.keep_setid.iter().cloned()),
        sockets: list(&closure.sockets),
        host_nss: closure.host_nss,
        traced: table(&closure.traced),
        written: list(&closure.written),
        probe: closure.probe.iter().map(spot).collect(),
        clean: list(&closure.clean),
        purpose: closure.purpose,
    }
}

fn source(source: &Source) -> Result<Spanned<file::Source>> {
    let mut made = file::Source::default();
    match &source.origin {
        Origin::Archive { path, verify } => {
            made.archive = Some(host_path(path)?);
            made.list = verify.as_ref().map(|verify| host_path(&verify.list)).transpose()?;
            made.key = verify.as_ref().and_then(|verify| verify.key.as_deref()).map(host_path).transpose()?;
        }
        Origin::Directory { path, without } => {
            made.directory = Some(host_path(path)?);
            made.without = (!without.is_empty()).then(|| without.iter().map(plain).collect());
        }
        Origin::Sets { directory, names, key, unsigned } => {
            made.directory = Some(host_path(directory)?);
            made.sets = Some(names.iter().map(spot).collect());
            made.key = key.as_deref().map(host_path).transpose()?;
            made.unsigned = unsigned.then(|| Spanned::new(0..0, true));
        }
        Origin::Listed { directory, locate, sets, paths: more } => {
            made.paths = (!more.is_empty()).then(|| paths(more.iter().cloned()));
            made.directory = Some(host_path(directory)?);
            let databases = locate.iter().map(|path| host_path(path)).collect::<Result<Vec<_>>>()?;
            made.locate = (!databases.is_empty()).then_some(databases);
            made.sets = (!sets.is_empty()).then(|| sets.iter().map(spot).collect());
        }
        Origin::Packages { directory, names, modified } => {
            made.directory = (directory != Path::new("/")).then(|| host_path(directory)).transpose()?;
            made.packages = Some(names.iter().map(spot).collect());
            made.modified_conffiles = (*modified != Conffiles::default()).then(|| Spanned::new(0..0, *modified));
        }
    }
    made.into = paths([source.into.clone()].into_iter().filter(|into| !into.is_root())).pop();
    Ok(Spanned::new(0..0, made))
}

fn make(make: &Make) -> Spanned<file::Make> {
    let (text, link) = match &make.what {
        Made::File(text) => (Some(spot(text)), None),
        Made::Link(target) => (None, Some(spot(target))),
        Made::Directory => (None, None),
    };
    let made = file::Make {
        path: spot(if make.path.is_root() { "/".into() } else { String::from_utf8_lossy(make.path.as_bytes()) }),
        text,
        link,
        mode: make.mode.map(|mode| spot(format!("{mode:04o}"))),
        owner: make.owner.as_ref().map(spot),
        group: make.group.as_ref().map(spot),
        below: make.below,
    };
    Spanned::new(0..0, made)
}

fn account(account: &Account) -> file::Account {
    file::Account {
        name: spot(&account.name),
        home: account.home.as_ref().map(spot),
        shell: account.shell.as_ref().map(spot),
        dotfiles: paths(account.dotfiles.iter().cloned()),
        prompt: account.prompt.as_ref().map(spot),
        environment: table(&account.environment),
    }
}

fn spot(text: impl Into<String>) -> Spot {
    Spanned::new(0..0, text.into())
}

/// An entry of a list: a leading `-` or `+` would be taken for a sign.
fn plain(text: impl AsRef<str>) -> Spot {
    let text = text.as_ref();
    spot(if text.starts_with(['-', '+']) { format!("./{text}") } else { text.to_owned() })
}

/// Paths that came from a recipe, so that they are UTF-8.
fn paths(paths: impl Iterator<Item = TreePath>) -> List {
    paths.map(|path| plain(String::from_utf8_lossy(path.as_bytes()))).collect()
}

fn table(map: &BTreeMap<String, String>) -> Table {
    map.iter().map(|(name, value)| (spot(name), spot(value))).collect()
}

fn host_path(path: &Path) -> Result<Spot> {
    remembered(path).map(spot)
}
