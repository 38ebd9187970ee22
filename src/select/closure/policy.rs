// SPDX-License-Identifier: ISC
//! What programs load without saying so: data files in `policies/`, each entry with its reason.
#![forbid(unsafe_code)]

use serde::Deserialize;

use super::search::triples;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{PathSet, TreePath};
use crate::select::elf::Machine;

/// The data files in the program, by name.
pub const EMBEDDED: [(&str, &str); 6] = [
    ("system", include_str!("../../../policies/system.toml")),
    ("languages", include_str!("../../../policies/languages.toml")),
    ("services", include_str!("../../../policies/services.toml")),
    ("tools", include_str!("../../../policies/tools.toml")),
    ("openbsd", include_str!("../../../policies/openbsd.toml")),
    // The last one: it leaves out what the others leave out.
    ("packages", include_str!("../../../policies/packages.toml")),
];

/// One entry of a data file, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    reason: String,
    when: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    owned: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    libraries: Vec<String>,
    #[serde(default)]
    directories: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    asked: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: Vec<Entry>,
}

/// What programs of one kind need.
#[derive(Debug)]
pub struct Policy {
    /// Its name, for recipes.
    pub name: String,
    /// Why it is needed.
    pub reason: String,
    /// Files and trees to leave out of trees.
    pub except: PathSet,
    /// The same as patterns, for the trees of packages.
    pub excepted: Vec<String>,
    /// Where what is of the file's package comes along.
    pub owned: PathSet,
    /// It applies only where the recipe names it.
    pub asked: bool,
    when: PathSet,
    paths: Vec<String>,
    programs: Vec<String>,
    libraries: Vec<String>,
    directories: Vec<String>,
    users: Vec<String>,
}

/// What a policy wants because of one file: absolute paths, which may hold patterns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Files, trees, and patterns of them.
    pub paths: Vec<String>,
    /// Programs, by name.
    pub programs: Vec<String>,
    /// Libraries, by soname.
    pub libraries: Vec<String>,
    /// Directories whose contents are made inside.
    pub directories: Vec<String>,
    /// Accounts.
    pub users: Vec<String>,
}

/// All policies in the program.
///
/// # Errors
/// [`ErrorKind::Usage`] naming the file and what is wrong in it.
pub fn all() -> Result<Vec<Policy>> {
    let mut policies = Vec::new();
    for (file, text) in EMBEDDED {
        policies.extend(parse(text).map_err(|error| Error::new(error.kind(), error.to_string()).at(file))?);
    }
    Ok(policies)
}

/// The policies in a data file.
///
/// # Errors
/// [`ErrorKind::Usage`] saying what is wrong.
pub fn parse(text: &str) -> Result<Vec<Policy>> {
    let file: File = toml::from_str(text).map_err(|error| Error::new(ErrorKind::Usage, error.message().to_owned()))?;
    let policy = |entry: Entry| {
        Ok(Policy {
            when: PathSet::new(&entry.when)?,
            except: PathSet::new(&entry.except)?,
            excepted: entry.except,
            owned: PathSet::new(&entry.owned)?,
            name: entry.name,
            reason: entry.reason,
            asked: entry.asked,
            paths: entry.paths,
            programs: entry.programs,
            libraries: entry.libraries,
            directories: entry.directories,
            users: entry.users,
        })
    };
    file.policy.into_iter().map(policy).collect()
}

impl Policy {
    /// Does it apply to a jail with this file?
    pub fn applies(&self, path: &TreePath) -> bool {
        self.when.names(path)
    }

    /// What it wants because of `path`, which is for this machine.
    pub fn wants(&self, path: &TreePath, machine: Option<Machine>) -> Wants {
        let text = String::from_utf8_lossy(path.as_bytes());
        let (dir, name) = text.rsplit_once('/').unwrap_or(("", &text));
        let prefix = dir.rsplit_once('/').map_or("", |(prefix, _)| prefix);
        let slash = |dir: &str| if dir.is_empty() { String::new() } else { format!("/{dir}") };
        let words = [("{dir}", slash(dir)), ("{prefix}", slash(prefix)), ("{name}", name.to_owned())];
        let version = &name[name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len()..];
        let triple = machine.and_then(|machine| triples(machine).first()).unwrap_or(&"");
        let put = |text: &String| {
            let text = text.replace("{triple}", triple).replace("{version}", version);
            words.iter().fold(text, |text, (word, value)| text.replace(word, value))
        };
        let all = |list: &[String]| list.iter().map(put).collect();
        Wants {
            paths: all(&self.paths),
            programs: all(&self.programs),
            libraries: all(&self.libraries),
            directories: all(&self.directories),
            users: self.users.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_data_files_are_right() {
        let policies = all().unwrap();
        let mut names = HashSet::new();
        for policy in &policies {
            assert!(names.insert(policy.name.clone()), "{} is there twice", policy.name);
            assert!(policy.reason.len() > 10 && !policy.reason.ends_with('.'), "{}: {:?}", policy.name, policy.reason);
            let wants = policy.wants(&TreePath::new(*b"usr/bin/prog").unwrap(), None);
            assert!(wants != Wants::default() || !policy.owned.is_empty(), "{} wants nothing", policy.name);
            for path in wants.paths.iter().chain(&wants.directories) {
                assert!(path.starts_with('/') && !path.contains(['{', '}']), "{}: {path}", policy.name);
            }
            assert!(wants.programs.iter().chain(&wants.libraries).all(|name| !name.contains('/')), "{}", policy.name);
        }
    }

    #[test]
    fn words_stand_for_the_file() {
        let text = r#"
            [[policy]]
            name = "x"
            reason = "because"
            when = ["**/bin/python3.[0-9]*"]
            paths = ["{prefix}/lib/{name}", "{dir}/x{version}", "/usr/lib/{triple}/y"]
        "#;
        let policy = &parse(text).unwrap()[0];
        let path = TreePath::new(*b"opt/py/bin/python3.11").unwrap();
        assert!(policy.applies(&path));
        assert!(!policy.applies(&TreePath::new(*b"opt/py/bin/python3").unwrap()));
        let machine = Machine { wide: true, big: false, number: 183 };
        let want = ["/opt/py/lib/python3.11", "/opt/py/bin/x3.11", "/usr/lib/aarch64-linux-gnu/y"];
        assert_eq!(policy.wants(&path, Some(machine)).paths, want);
        assert!(parse("[[policy]]\nname = 1").is_err() && parse("[[policy]]\nnam = \"x\"").is_err());
    }
}
