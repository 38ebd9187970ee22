// SPDX-License-Identifier: ISC
//! Configurations of proot(1), the chroot builder of OpenBSD's ports, as recipes of the same meaning.
//!
//! What it warns of or does badly is done differently, and said in the notes: nothing is hard-linked to the host, contents
//! are compared and not sizes and times, what is known is named by its path in the chroot, and no password is copied.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{Action, Devices, Made, Make, Origin, Recipe, Source, Unknown, values};

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
const SETS: [&str; 7] = ["base", "comp", "etc", "xbase", "xetc", "xfont", "xshare"];
/// What mk.conf says, if it was set.
const IN_MK_CONF: [&str; 9] = [
    "PORTSDIR",
    "DISTDIR",
    "WRKOBJDIR",
    "PACKAGE_REPOSITORY",
    "PLIST_REPOSITORY",
    "LOCKDIR",
    "LOGDIR",
    "FETCH_USER",
    "BUILD_USER",
];
/// The largest configuration.
const MAX_FILE: u64 = 1 << 20;

/// What a configuration of proot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proot {
    /// The chroot, if it names one.
    pub chroot: Option<PathBuf>,
    /// The recipe.
    pub recipe: Recipe,
    /// What the recipe does differently, or leaves to a command: one line each.
    pub notes: Vec<String>,
}

/// Reads the configuration `path`.
///
/// # Errors
/// [`ErrorKind::Usage`] with the line for what proot would not understand either; as open(2) for what it names.
pub fn load(path: &Path) -> Result<Proot> {
    let text = read(path)?;
    let config = Config::parse(&text).map_err(|error| error.at(path.as_os_str().as_encoded_bytes()))?;
    let tail = config.get("mkconf_tail").map(|tail| Ok((tail, read(Path::new(tail))?))).transpose()?;
    config.convert(tail.as_ref().map(|(path, text)| (*path, text.as_str())))
}

fn read(path: &Path) -> Result<String> {
    use std::io::Read;
    let shown = path.as_os_str().as_encoded_bytes();
    let mut text = String::new();
    std::fs::File::open(path).on("open", shown)?.take(MAX_FILE + 1).read_to_string(&mut text).on("read", shown)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::new(ErrorKind::BadInput, "larger than 1 MiB").at(shown));
    }
    Ok(text)
}

/// The attributes as they are written.
#[derive(Debug, Default)]
struct Config {
    single: BTreeMap<String, String>,
    multiple: BTreeMap<&'static str, Vec<String>>,
    /// `actions=none` was said: nothing is chosen by itself.
    no_choice: bool,
}

impl Config {
    fn parse(text: &str) -> Result<Config> {
        let mut config = Config::default();
        config.multiple.insert("actions", ACTIONS[..7].iter().map(|&word| word.to_owned()).collect());
        config.multiple.insert("sets", SETS.iter().map(|&word| word.to_owned()).collect());
        let (mut last, mut fresh) = (None::<String>, BTreeSet::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim_end();
            if line.is_empty() {
                continue;
            }
            let fault = |reason: String| Error::new(ErrorKind::Usage, format!("line {}: {reason}", index + 1));
            let (name, value) = match (line.starts_with([' ', '\t']), line.split_once('=')) {
                (true, _) => match &last {
                    Some(name) => (name.clone(), line.trim()),
                    None => return Err(fault("a further value, and nothing before it".to_owned())),
                },
                (false, Some((name, value))) => (name.trim_end().to_owned(), value.trim_start()),
                (false, None) => return Err(fault(format!("not ATTRIBUTE=VALUE: {line:?}"))),
            };
            config.set(&name, value, &mut fresh).map_err(|error| {
                let placed = fault(error.to_string());
                error.advice().map(str::to_owned).into_iter().fold(placed, Error::hint)
            })?;
            last = Some(name);
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str, fresh: &mut BTreeSet<&'static str>) -> Result<()> {
        if SINGLE.contains(&name) {
            match name {
                "NFSDIR" => {
                    for (name, below) in
                        [("DISTDIR", "distfiles"), ("PACKAGE_REPOSITORY", "packages"), ("PLIST_REPOSITORY", "plist")]
                    {
                        self.single.insert(name.to_owned(), format!("{value}/{below}"));
                    }
                }
                "LOCALDIR" => {
                    self.single.insert("WRKOBJDIR".to_owned(), format!("{value}/pobj"));
                    self.single.insert("LOCKDIR".to_owned(), format!("{value}/locks"));
                }
                _ => drop(self.single.insert(name.to_owned(), value.to_owned())),
            }
            return Ok(());
        }
        let Some(name) = MULTIPLE.into_iter().find(|known| *known == name) else {
            let known = SINGLE.into_iter().chain(MULTIPLE);
            return Err(crate::recipe::fault::unknown("attribute", name, known));
        };
        if ["mkconf_lines", "extra", "preserve"].contains(&name) {
            self.multiple.entry(name).or_default().push(value.to_owned());
            return Ok(());
        }
        for word in value.split_whitespace() {
            self.choose(name, word, fresh)?;
        }
        Ok(())
    }

    /// Adds an action or a set, or takes it away. The first set that is named replaces the choice of proot.
    fn choose(&mut self, name: &'static str, word: &str, fresh: &mut BTreeSet<&'static str>) -> Result<()> {
        let list = self.multiple.entry(name).or_default();
        let plain = word.strip_prefix('-').unwrap_or(word);
        if name == "actions" && word == "none" {
            list.clear();
            self.no_choice = true;
            return Ok(());
        }
        if name == "actions" && !ACTIONS.contains(&plain) {
            return Err(crate::recipe::fault::unknown("action", plain, ACTIONS.into_iter()));
        }
        if name == "sets" {
            values::set(plain)?;
        }
        if plain != word {
            list.retain(|known| known != plain);
            return Ok(());
        }
        if name == "sets" && fresh.insert(name) {
            list.clear();
        }
        if !list.iter().any(|known| known == word) {
            list.push(word.to_owned());
        }
        if word == "unpopulate" {
            list.retain(|known| known != "unpopulate_light");
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.single.get(name).map(String::as_str)
    }

    fn list(&self, name: &str) -> &[String] {
        self.multiple.get(name).map_or(&[], Vec::as_slice)
    }

    fn does(&self, action: &str) -> bool {
        self.list("actions").iter().any(|known| known == action)
    }

    /// A directory of the ports tree; `below` is where it is below PORTSDIR by itself.
    fn place(&self, name: &str, below: &str) -> Result<TreePath> {
        let path = match self.get(name) {
            Some(path) => path.to_owned(),
            None if name == "LOCKDIR" => format!("{}/locks", self.place("WRKOBJDIR", "pobj")?),
            None => format!("{}/{below}", self.get("PORTSDIR").unwrap_or("/usr/ports")),
        };
        values::tree_path(&path)
    }

    fn user(&self, name: &str) -> Result<String> {
        let fallback = match name {
            "FETCH_USER" => "_pfetch",
            "LOG_USER" => return self.get("LOG_USER").map_or_else(|| self.user("BUILD_USER"), values::account),
            _ => "_pbuild",
        };
        values::account(self.get(name).unwrap_or(fallback))
    }

    fn convert(&self, tail: Option<(&str, &str)>) -> Result<Proot> {
        let mut recipe = Recipe { unknown: Unknown::Keep, devices: Devices::None, ..Recipe::default() };
        recipe.description = Some("ports, as proot made them".to_owned());
        if self.does("unpopulate") || self.does("unpopulate_light") {
            recipe.unknown = Unknown::Remove;
        }
        if self.does("devs") {
            recipe.devices = Devices::All;
        }
        if !self.does("ldconfig") {
            recipe.actions.remove(&Action::Ldconfig);
        }
        if self.does("resolv") {
            recipe.etc = vec![values::etc("resolv.conf")?, values::etc("hosts")?];
        }
        self.sources(&mut recipe)?;
        self.keep(&mut recipe)?;
        if self.does("ports_subdirs") {
            self.directories(&mut recipe)?;
        }
        if self.does("write_mk") {
            let path = values::tree_path("etc/mk.conf")?;
            let what = Made::File(self.mk_conf(tail));
            recipe.made.push(Make { path, what, mode: None, owner: None, group: None });
        }
        Ok(Proot { chroot: self.get("chroot").map(PathBuf::from), notes: self.notes(), recipe })
    }

    fn sources(&self, recipe: &mut Recipe) -> Result<()> {
        let sets = self.list("sets");
        let from = PathBuf::from(self.get("srcroot").unwrap_or("/"));
        let asked = |action| self.does(action);
        let snapshot =
            asked("snapshot") || asked("trusted_snapshot") || (!self.no_choice && self.get("snapshot").is_some());
        let mut add = |origin, into: TreePath| recipe.sources.push(Source { origin, into });
        if snapshot {
            let place = self.get("snapshot").unwrap_or_default();
            if !place.starts_with('/') && !crate::source::fetch::is_url(place) {
                let error =
                    Error::new(ErrorKind::Usage, format!("snapshot={place}: a directory of release sets is needed"));
                return Err(error.hint("fetch the sets and SHA256.sig into one first"));
            }
            let names = sets.iter().filter(|set| !set.ends_with("etc")).cloned().collect();
            let (directory, unsigned) = (PathBuf::from(place), asked("trusted_snapshot"));
            add(Origin::Sets { directory, names, key: None, unsigned }, TreePath::root());
            for set in sets.iter().filter(|set| set.ends_with("etc")) {
                recipe.nested.push(values::tree_path(&format!("var/sysmerge/{set}.tgz"))?);
            }
        } else if asked("locate") || !self.no_choice {
            let x11 = sets.iter().any(|set| set.starts_with('x'));
            let databases = [("usr/lib/locate/src.db", true), ("usr/X11R6/lib/locate/xorg.db", x11)];
            let locate = databases.iter().filter(|(_, wanted)| *wanted).map(|(path, _)| from.join(path)).collect();
            let origin = Origin::Listed { directory: from.clone(), locate, sets: sets.to_vec(), paths: Vec::new() };
            add(origin, TreePath::root());
        }
        let mut add = |origin, into: TreePath| recipe.sources.push(Source { origin, into });
        let ports = values::tree_path(self.get("PORTSDIR").unwrap_or("/usr/ports"))?;
        if asked("copy_ports") {
            add(Origin::Directory(from.join(ports.as_os_str())), ports);
        }
        if asked("copy_sys") {
            add(Origin::Directory(from.join("usr/src/sys")), values::tree_path("usr/src/sys")?);
        }
        let paths: Vec<TreePath> =
            self.list("extra").iter().map(|path| values::tree_path(path)).collect::<Result<_>>()?;
        if !paths.is_empty() {
            add(Origin::Listed { directory: from, locate: Vec::new(), sets: Vec::new(), paths }, TreePath::root());
        }
        if recipe.sources.is_empty() {
            bail!(Usage, "it fills the chroot with nothing: neither locate nor a snapshot");
        }
        Ok(())
    }

    /// The paths that proot never removes.
    fn keep(&self, recipe: &mut Recipe) -> Result<()> {
        let mut keep: Vec<TreePath> =
            PLACES.iter().map(|(name, below, _)| self.place(name, below)).collect::<Result<_>>()?;
        if !self.does("copy_ports") {
            keep.push(values::tree_path(self.get("PORTSDIR").unwrap_or("/usr/ports"))?);
        }
        for path in self.list("preserve") {
            keep.push(values::tree_path(path)?);
        }
        recipe.keep = keep.iter().map(|path| globset_escape(&path.to_string())).collect();
        recipe.keep.dedup();
        recipe.volatile = vec!["dev/[!M]*".to_owned(), "var/run".to_owned()];
        Ok(())
    }

    fn directories(&self, recipe: &mut Recipe) -> Result<()> {
        for (name, below, user) in PLACES {
            let (path, owner) = (self.place(name, below)?, Some(self.user(user)?));
            let stats = if name == "DISTDIR" { Some(path.join(b"build-stats")?) } else { None };
            recipe.made.push(Make { path, what: Made::Directory, mode: None, owner, group: None });
            if let Some(path) = stats {
                let owner = Some(self.user("LOG_USER")?);
                recipe.made.push(Make { path, what: Made::Directory, mode: None, owner, group: None });
            }
        }
        Ok(())
    }

    fn mk_conf(&self, tail: Option<(&str, &str)>) -> String {
        let mut lines: Vec<String> =
            IN_MK_CONF.iter().filter_map(|name| Some(format!("{name} = {}\n", self.get(name)?))).collect();
        lines.extend(["PORTS_PRIVSEP = Yes\n".to_owned(), "SUDO = doas\n".to_owned()]);
        lines.sort();
        let mut text = format!("# Made by stockade: put changes into the recipe.\n\n{}", lines.concat());
        let more = self.list("mkconf_lines");
        if !more.is_empty() {
            text += &format!("\n{}\n", more.join("\n"));
        }
        if let Some((path, body)) = tail {
            text += &format!("\n# {path}\n{body}");
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |when: bool, text: String| notes.extend(when.then_some(text));
        let ports = self.get("PORTSDIR").unwrap_or("/usr/ports");
        let cvs = self.get("portscvs").unwrap_or("ROOT");
        note(
            self.does("checkout_ports") || self.get("portscvs").is_some(),
            format!("check the ports out by yourself: cvs -z3 -d {cvs} checkout -P -d {ports} ports"),
        );
        note(self.does("check_mount"), "mount options are looked at by: stockade doctor".to_owned());
        note(self.does("stragglers"), "what no source brought is listed by: stockade check".to_owned());
        note(self.does("check_symlinks"), "links are resolved inside the chroot; none leads out".to_owned());
        note(
            self.get("chown_all").is_some_and(|v| v != "0"),
            "owners of what lies in kept directories stay: chown them inside".to_owned(),
        );
        note(self.get("ignorecvs").is_some_and(|v| v != "0"), "directories called CVS are copied too".to_owned());
        note(self.get("PORT_USER").is_some() && self.does("copy_ports"), "copied ports keep their owners".to_owned());
        note(self.get("key").is_some(), "signing keys are never copied into a chroot: sign outside".to_owned());
        notes
    }
}

/// Directories of a build: the attribute, where it is below PORTSDIR by itself, and whose it is.
const PLACES: [(&str, &str, &str); 6] = [
    ("DISTDIR", "distfiles", "FETCH_USER"),
    ("WRKOBJDIR", "pobj", "BUILD_USER"),
    ("LOCKDIR", "locks", "BUILD_USER"),
    ("LOGDIR", "logs", "LOG_USER"),
    ("PACKAGE_REPOSITORY", "packages", "BUILD_USER"),
    ("PLIST_REPOSITORY", "plist", "BUILD_USER"),
];

/// A path as a pattern that covers it alone.
fn globset_escape(path: &str) -> String {
    path.chars().flat_map(|c| if "*?[]{}\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(text: &str) -> Result<Proot> {
        Config::parse(text)?.convert(None)
    }

    /// Each attribute: a line of the recipe that it makes, or what is said of it.
    #[test]
    fn every_attribute_has_its_meaning() {
        for (text, wants) in [
            (
                "",
                &[
                    "directory = \"/\"",
                    "locate = [\"/usr/lib/locate/src.db\", \"/usr/X11R6/lib/locate/xorg.db\"]",
                    "sets = [\"base\", \"comp\", \"etc\", \"xbase\", \"xetc\", \"xfont\", \"xshare\"]",
                    "devices = \"all\"",
                    "etc = [\"resolv.conf\", \"hosts\"]",
                    "unknown = \"remove\"",
                    "path = \"usr/ports/distfiles\"",
                    "owner = \"_pfetch\"",
                    "path = \"usr/ports/pobj/locks\"",
                    "PORTS_PRIVSEP = Yes\nSUDO = doas\n",
                ][..],
            ),
            ("srcroot=/other", &["directory = \"/other\"", "\"/other/usr/lib/locate/src.db\""]),
            ("sets = base comp", &["sets = [\"base\", \"comp\"]", "locate = [\"/usr/lib/locate/src.db\"]"]),
            ("sets=-xfont", &["sets = [\"base\", \"comp\", \"etc\", \"xbase\", \"xetc\", \"xshare\"]"]),
            ("sets=base\n  comp # more\n", &["sets = [\"base\", \"comp\"]"]),
            (
                "snapshot=/snap\nsets=base etc",
                &["directory = \"/snap\"", "sets = [\"base\"]", "nested = [\"var/sysmerge/etc.tgz\"]"],
            ),
            ("snapshot=/s\nactions=trusted_snapshot", &["unsigned = true"]),
            ("snapshot=https://x/y", &["directory = \"https://x/y\""]),
            ("PORTSDIR=/p", &["path = \"p/distfiles\"", "PORTSDIR = /p\nPORTS_PRIVSEP"]),
            ("DISTDIR=/d", &["path = \"d/build-stats\"", "DISTDIR = /d\nPORTS"]),
            ("WRKOBJDIR=/w", &["path = \"w/locks\"", "SUDO = doas\nWRKOBJDIR = /w\n"]),
            ("LOCKDIR=/l", &["path = \"l\"", "LOCKDIR = /l\n"]),
            ("LOGDIR=/l", &["path = \"l\"", "LOGDIR = /l\n"]),
            ("PACKAGE_REPOSITORY=/r", &["path = \"r\"", "PACKAGE_REPOSITORY = /r\n"]),
            ("PLIST_REPOSITORY=/r", &["path = \"r\"", "PLIST_REPOSITORY = /r\n"]),
            (
                "NFSDIR=/n",
                &["path = \"n/distfiles\"", "path = \"n/packages\"", "path = \"n/plist\"", "DISTDIR = /n/distfiles\n"],
            ),
            ("LOCALDIR=/l", &["path = \"l/pobj\"", "path = \"l/locks\"", "LOCKDIR = /l/locks\n"]),
            ("BUILD_USER=bob", &["owner = \"bob\"", "BUILD_USER = bob\n"]),
            ("FETCH_USER=eve", &["owner = \"eve\"", "FETCH_USER = eve\n"]),
            ("LOG_USER=ann", &["path = \"usr/ports/logs\"\nowner = \"ann\"", "build-stats\"\nowner = \"ann\""]),
            (
                "PORT_USER=me\nactions=copy_ports",
                &["directory = \"/usr/ports\"\ninto = \"usr/ports\"", "note: copied ports keep"],
            ),
            ("portscvs=anon@host:/cvs", &["note: check the ports out by yourself: cvs -z3 -d anon@host:/cvs"]),
            ("ignorecvs=1", &["note: directories called CVS"]),
            ("chown_all=1", &["note: owners of what lies"]),
            ("extra=/etc/ssl/x.pem", &["paths = [\"etc/ssl/x.pem\"]"]),
            ("preserve=/usr/obj", &["\"usr/obj\""]),
            ("preserve=/a*b", &["'a\\*b'"]),
            ("mkconf_lines=A=1\n\tB=2", &["SUDO = doas\n\nA=1\nB=2\n"]),
            ("key=mine", &["note: signing keys"]),
            ("actions=none locate", &["devices = \"none\"", "unknown = \"keep\"", "actions = [\"-ldconfig\"]"]),
            (
                "actions=unpopulate stragglers check_symlinks copy_sys",
                &["unknown = \"remove\"", "into = \"usr/src/sys\"", "note: what no source"],
            ),
        ] {
            let made = convert(text).unwrap();
            let toml = made.recipe.to_toml().unwrap();
            let notes: String = made.notes.iter().map(|note| format!("note: {note}\n")).collect();
            let all = format!("{toml}{notes}");
            for want in wants {
                assert!(all.contains(want), "{text:?} lacks {want}:\n{all}");
            }
            assert_eq!(crate::recipe::parse(&toml, "/r.toml").unwrap(), made.recipe, "{text:?}");
        }
        assert_eq!(convert("chroot = /build # here\n").unwrap().chroot, Some(PathBuf::from("/build")));
        let config = Config::parse("mkconf_tail=/etc/tail").unwrap();
        assert!(config.mk_conf(Some(("/etc/tail", "X=1\n"))).ends_with("SUDO = doas\n\n# /etc/tail\nX=1\n"));
    }

    #[test]
    fn what_proot_does_not_know_is_refused() {
        for (text, said) in [
            ("chrot=/x", "line 1: unknown attribute \"chrot\""),
            ("\n  x", "line 2: a further value, and nothing before it"),
            ("sets", "line 1: not ATTRIBUTE=VALUE: \"sets\""),
            ("actions=fly", "line 1: unknown action \"fly\""),
            ("sets=base77", "line 1: \"base77\" is no name of a set"),
            ("PORTSDIR=/a/../b", "/a/../b: \"..\" in a path"),
            ("BUILD_USER=a:b", "\"a:b\" is no account name"),
            ("snapshot=ftp://x/y", "snapshot=ftp://x/y: a directory of release sets is needed"),
            ("actions=none devs", "it fills the chroot with nothing"),
        ] {
            let error = convert(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }
}
