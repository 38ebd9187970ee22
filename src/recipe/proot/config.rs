// SPDX-License-Identifier: ISC
//! A configuration of proot(1) as it is written: attributes, their values, and where each stands.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::recipe::{fault, values};

/// Attributes with one value.
const SINGLE: [&str; 21] = [
    "chroot",
    "srcroot",
    "PORTSDIR",
    "DISTDIR",
    "WRKOBJDIR",
    "LOCKDIR",
    "LOGDIR",
    "PACKAGE_REPOSITORY",
    "PLIST_REPOSITORY",
    "NFSDIR",
    "LOCALDIR",
    "PORT_USER",
    "BUILD_USER",
    "FETCH_USER",
    "LOG_USER",
    "snapshot",
    "portscvs",
    "ignorecvs",
    "chown_all",
    "mkconf_tail",
    "key",
];
/// Attributes with several.
const MULTIPLE: [&str; 5] = ["actions", "sets", "extra", "preserve", "mkconf_lines"];
/// The actions that proot knows; the first seven are its own choice.
const ACTIONS: [&str; 16] = [
    "check_mount",
    "unpopulate_light",
    "devs",
    "ldconfig",
    "ports_subdirs",
    "resolv",
    "write_mk",
    "unpopulate",
    "snapshot",
    "trusted_snapshot",
    "locate",
    "copy_ports",
    "copy_sys",
    "checkout_ports",
    "stragglers",
    "check_symlinks",
];
/// Its own choice of sets.
const SETS: [&str; 7] = ["base", "comp", "etc", "xbase", "xetc", "xfont", "xshare"];

/// A value, and the line that it stands in; 0 for what proot takes by itself.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) text: String,
    line: usize,
}

impl Value {
    pub(super) fn own(text: impl Into<String>) -> Value {
        Value { text: text.into(), line: 0 }
    }

    /// What `read` makes of it; an error names the line, the attribute and the value.
    pub(super) fn read<T>(&self, name: &str, read: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        read(&self.text).map_err(|error| {
            let value = format!("{name}={}", self.text);
            // The value is the path that the error is about.
            placed(self.line, &value, error.reason(), error.advice())
        })
    }
}

/// An error of an attribute.
fn placed(line: usize, what: &str, reason: &str, advice: Option<&str>) -> Error {
    let line = if line > 0 { format!("line {line}: ") } else { String::new() };
    let what = if what.is_empty() { String::new() } else { format!("{what}: ") };
    let error = Error::new(ErrorKind::Usage, format!("{line}{what}{reason}"));
    advice.map(str::to_owned).into_iter().fold(error, Error::hint)
}

/// The attributes as they are written.
#[derive(Debug, Default)]
pub(super) struct Config {
    single: BTreeMap<String, Value>,
    multiple: BTreeMap<&'static str, Vec<Value>>,
    /// The actions that were named, to do them or not to: between those proot does not choose by itself.
    named: BTreeSet<String>,
    /// `actions=none` was said: nothing is chosen.
    no_choice: bool,
    /// The line that last took a set away.
    without_set: usize,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the line.
    pub(super) fn parse(text: &str) -> Result<Config> {
        let mut config = Config::default();
        config.multiple.insert("actions", ACTIONS[..7].iter().map(|&word| Value::own(word)).collect());
        config.multiple.insert("sets", SETS.iter().map(|&word| Value::own(word)).collect());
        let mut last = None::<String>;
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim_end();
            if line.is_empty() {
                continue;
            }
            let fault = |reason: &str| placed(index + 1, "", reason, None);
            let (name, value) = match (line.starts_with([' ', '\t']), line.split_once('=')) {
                (true, _) => match &last {
                    Some(name) => (name.clone(), line.trim()),
                    None => return Err(fault("a further value, and nothing before it")),
                },
                (false, Some((name, value))) => (name.trim_end().to_owned(), value.trim_start()),
                (false, None) => return Err(fault(&format!("not ATTRIBUTE=VALUE: {line:?}"))),
            };
            let set = config.set(&name, value, index + 1);
            set.map_err(|error| placed(index + 1, "", error.reason(), error.advice()))?;
            last = Some(name);
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str, line: usize) -> Result<()> {
        if SINGLE.contains(&name) {
            let mut put = |name: &str, text: String| drop(self.single.insert(name.to_owned(), Value { text, line }));
            match name {
                "NFSDIR" => {
                    for (name, below) in
                        [("DISTDIR", "distfiles"), ("PACKAGE_REPOSITORY", "packages"), ("PLIST_REPOSITORY", "plist")]
                    {
                        put(name, format!("{value}/{below}"));
                    }
                }
                "LOCALDIR" => {
                    put("WRKOBJDIR", format!("{value}/pobj"));
                    put("LOCKDIR", format!("{value}/locks"));
                }
                _ => put(name, value.to_owned()),
            }
            return Ok(());
        }
        let Some(name) = MULTIPLE.into_iter().find(|known| *known == name) else {
            let known = SINGLE.into_iter().chain(MULTIPLE);
            return Err(fault::unknown("attribute", name, known));
        };
        if ["mkconf_lines", "extra", "preserve"].contains(&name) {
            self.multiple.entry(name).or_default().push(Value { text: value.to_owned(), line });
            return Ok(());
        }
        value.split_whitespace().try_for_each(|word| self.choose(name, word, line))
    }

    /// Adds an action or a set to proot's own choice, or takes it away.
    fn choose(&mut self, name: &'static str, word: &str, line: usize) -> Result<()> {
        let list = self.multiple.entry(name).or_default();
        let plain = word.strip_prefix('-').unwrap_or(word);
        if name == "actions" && word == "none" {
            list.clear();
            self.named.clear();
            self.no_choice = true;
            return Ok(());
        }
        if name == "actions" && !ACTIONS.contains(&plain) {
            return Err(fault::unknown("action", plain, ACTIONS.into_iter()));
        }
        match name {
            "sets" => drop(values::set(plain)?),
            _ => drop(self.named.insert(plain.to_owned())),
        }
        if plain != word {
            list.retain(|known| known.text != plain);
            self.without_set = if name == "sets" { line } else { self.without_set };
        } else if !list.iter().any(|known| known.text == word) {
            list.push(Value { text: word.to_owned(), line });
        }
        Ok(())
    }

    /// The attribute `name`, if it was set.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.single.get(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.value(name).map(|value| value.text.as_str())
    }

    pub(super) fn list(&self, name: &str) -> &[Value] {
        self.multiple.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sets to take.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if all were taken away: no set would mean every set.
    pub(super) fn sets(&self) -> Result<Vec<String>> {
        let sets: Vec<String> = self.list("sets").iter().map(|set| set.text.clone()).collect();
        if sets.is_empty() {
            let hint = "leave one, or take nothing of the system: actions=-locate";
            return Err(placed(self.without_set, "sets", "no set is left", Some(hint)));
        }
        Ok(sets)
    }

    /// Is the switch `name` on?
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0")
    }

    pub(super) fn does(&self, action: &str) -> bool {
        self.list("actions").iter().any(|known| known.text == action)
    }

    /// Does a snapshot fill the chroot, and what the locate databases list? One of them, as proot chooses, where neither
    /// is named: a word for or against one is enough to choose nothing.
    pub(super) fn fills(&self) -> (bool, bool) {
        let named = ["snapshot", "trusted_snapshot", "locate"].iter().any(|name| self.named.contains(*name));
        let chooses = !named && !self.no_choice;
        let has_place = self.get("snapshot").is_some();
        let snapshot = self.does("snapshot") || self.does("trusted_snapshot");
        (snapshot || chooses && has_place, self.does("locate") || chooses && !has_place)
    }

    /// Is the ports tree checked out? Where a CVS root is named, unless the action is taken away.
    pub(super) fn checks_out(&self) -> bool {
        let by_itself = self.get("portscvs").is_some() && !self.named.contains("checkout_ports");
        self.does("checkout_ports") || by_itself
    }
}

/// The value of a path of the chroot.
///
/// # Errors
/// [`ErrorKind::Usage`] for one that leads out, and for the root.
pub(super) fn tree_path(text: &str) -> Result<crate::path::TreePath> {
    if text.is_empty() {
        bail!(Usage, "a path is wanted");
    }
    values::tree_path(text)
}
