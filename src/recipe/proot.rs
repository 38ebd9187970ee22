// SPDX-License-Identifier: ISC
//! Configurations of proot(1), the chroot builder of OpenBSD's ports, as recipes of the same meaning.
//!
//! What it warns of or does badly is done differently, and said in the notes: nothing is hard-linked to the host, contents
//! are compared and not sizes and times, what is known is named by its path in the chroot, and no password is copied.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use crate::bail;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{Action, Devices, Made, Make, Origin, Recipe, Unknown, values};

mod config;

use config::{Config, Value};

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
    let converted = config.convert(tail.as_ref().map(|(path, text)| (*path, text.as_str())));
    converted.map_err(|error| error.at(path.as_os_str().as_encoded_bytes()))
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

impl Config {
    /// A directory of the ports tree; `below` is where it is below PORTSDIR by itself.
    fn place(&self, name: &str, below: &str) -> Result<TreePath> {
        match self.value(name) {
            Some(value) => value.read(name, config::tree_path),
            None if name == "LOCKDIR" => self.place("WRKOBJDIR", "pobj")?.join(b"locks"),
            None => self.ports()?.join(below.as_bytes()),
        }
    }

    fn ports(&self) -> Result<TreePath> {
        self.value("PORTSDIR").unwrap_or(&Value::own("/usr/ports")).read("PORTSDIR", config::tree_path)
    }

    fn user(&self, name: &str) -> Result<String> {
        match self.value(name) {
            Some(value) => value.read(name, values::account),
            None if name == "FETCH_USER" => Ok("_pfetch".to_owned()),
            None if name == "LOG_USER" => self.user("BUILD_USER"),
            None => Ok("_pbuild".to_owned()),
        }
    }

    fn convert(&self, tail: Option<(&str, &str)>) -> Result<Proot> {
        let mut recipe = Recipe { unknown: Unknown::Keep, devices: Devices::None, ..Recipe::default() };
        recipe.description = Some("ports, as proot made them".to_owned());
        let chroot = self.value("chroot").map(|value| value.read("chroot", values::absolute)).transpose()?;
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
        self.directories(&mut recipe)?;
        if self.does("write_mk") {
            let what = Made::File(self.mk_conf(tail));
            recipe.made.push(Make { what, ..Make::directory(values::tree_path("etc/mk.conf")?, None) });
        }
        Ok(Proot { chroot: chroot.map(PathBuf::from), notes: self.notes()?, recipe })
    }

    fn sources(&self, recipe: &mut Recipe) -> Result<()> {
        let from = PathBuf::from(self.get("srcroot").unwrap_or("/"));
        let (snapshot, locate) = self.fills();
        if snapshot {
            let sets = self.sets()?;
            let (directory, unsigned) = (self.snapshot()?, self.does("trusted_snapshot"));
            let names = sets.iter().filter(|set| !set.ends_with("etc")).cloned().collect();
            recipe.lay(Origin::Sets { directory, names, key: None, unsigned }, TreePath::root());
            for set in sets.iter().filter(|set| set.ends_with("etc")) {
                recipe.nested.push(values::tree_path(&format!("var/sysmerge/{set}.tgz"))?);
            }
        }
        if locate {
            let sets = self.sets()?;
            let x11 = sets.iter().any(|set| set.starts_with('x'));
            let databases = [("usr/lib/locate/src.db", true), ("usr/X11R6/lib/locate/xorg.db", x11)];
            let locate = databases.iter().filter(|(_, wanted)| *wanted).map(|(path, _)| from.join(path)).collect();
            recipe.lay(Origin::Listed { directory: from.clone(), locate, sets, paths: Vec::new() }, TreePath::root());
        }
        self.copies(recipe, &from)?;
        let extra = self.list("extra").iter().map(|path| path.read("extra", config::tree_path));
        let paths = extra.collect::<Result<Vec<_>>>()?;
        if !paths.is_empty() {
            let origin = Origin::Listed { directory: from, locate: Vec::new(), sets: Vec::new(), paths };
            recipe.lay(origin, TreePath::root());
        }
        if recipe.sources.is_empty() {
            bail!(Usage, "it fills the chroot with nothing: neither locate nor a snapshot");
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<PathBuf> {
        let hint = "fetch the sets and SHA256.sig into one first";
        let none = || Error::new(ErrorKind::Usage, "a directory of release sets is needed").hint(hint);
        let place = |place: &str| match place.starts_with('/') || crate::source::fetch::is_url(place) {
            true => Ok(PathBuf::from(place)),
            false => Err(none()),
        };
        self.value("snapshot").unwrap_or(&Value::own("")).read("snapshot", place)
    }

    /// The trees that are copied whole: ports without what is built of them, the sources of the kernel.
    fn copies(&self, recipe: &mut Recipe, from: &Path) -> Result<()> {
        const CVS: &str = "**/CVS";
        if self.does("copy_ports") {
            let ports = self.ports()?;
            let mut without = Vec::new();
            without.extend(self.is_on("ignorecvs").then(|| CVS.to_owned()));
            let objects = self.place("WRKOBJDIR", "pobj")?.strip(&ports).filter(|path| !path.is_root());
            without.extend(objects.map(|path| globset_escape(&path.to_string())));
            recipe.lay(Origin::Directory { path: from.join(ports.as_os_str()), without }, ports);
        }
        if self.does("copy_sys") {
            let without = vec!["**/obj".to_owned(), CVS.to_owned()];
            let origin = Origin::Directory { path: from.join("usr/src/sys"), without };
            recipe.lay(origin, values::tree_path("usr/src/sys")?);
        }
        Ok(())
    }

    /// The paths that proot never removes.
    fn keep(&self, recipe: &mut Recipe) -> Result<()> {
        let mut keep: Vec<TreePath> =
            PLACES.iter().map(|(name, below, _)| self.place(name, below)).collect::<Result<_>>()?;
        if !self.does("copy_ports") {
            keep.push(self.ports()?);
        }
        for path in self.list("preserve") {
            keep.push(path.read("preserve", config::tree_path)?);
        }
        keep.extend(self.inside().into_iter().filter(|path| !path.is_root()));
        recipe.keep = keep.iter().map(|path| globset_escape(&path.to_string())).collect();
        recipe.keep.dedup();
        recipe.volatile = vec!["dev/[!M]*".to_owned(), "var/run".to_owned()];
        Ok(())
    }

    /// What of the host is named and lies inside the chroot.
    fn inside(&self) -> Vec<TreePath> {
        let Some(chroot) = self.get("chroot") else { return Vec::new() };
        let named = ["snapshot", "srcroot", "mkconf_tail"].into_iter().filter_map(|name| self.get(name));
        let below = named.filter_map(|path| Path::new(path).strip_prefix(chroot).ok());
        below.filter_map(|path| TreePath::lenient(path.as_os_str().as_encoded_bytes()).ok()).collect()
    }

    /// Directories of a build, and whose they are; with a ports tree that is copied, whose all in it is.
    fn directories(&self, recipe: &mut Recipe) -> Result<()> {
        let copied = self.does("copy_ports");
        let mut make = |path: TreePath, owner: String, below: bool| {
            recipe.made.push(Make { below, ..Make::directory(path, Some(owner)) });
        };
        if let (Some(user), true) = (self.value("PORT_USER"), copied) {
            make(self.ports()?, user.read("PORT_USER", values::owner)?, true);
        }
        if !self.does("ports_subdirs") {
            return Ok(());
        }
        for (name, below, user) in PLACES {
            let path = self.place(name, below)?;
            let copied = copied && name != "WRKOBJDIR" && path.is_within(&self.ports()?);
            let stats = if name == "DISTDIR" { Some(path.join(b"build-stats")?) } else { None };
            make(path, self.user(user)?, copied);
            if let Some(path) = stats {
                make(path, self.user("LOG_USER")?, copied);
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
        let more: Vec<&str> = self.list("mkconf_lines").iter().map(|line| line.text.as_str()).collect();
        if !more.is_empty() {
            text += &format!("\n{}\n", more.join("\n"));
        }
        if let Some((path, body)) = tail {
            text += &format!("\n# {path}\n{body}");
        }
        text
    }

    fn notes(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let mut note = |when: bool, text: String| notes.extend(when.then_some(text));
        let ports = self.get("PORTSDIR").unwrap_or("/usr/ports");
        let cvs = self.get("portscvs").unwrap_or("ROOT");
        note(
            self.checks_out(),
            format!("check the ports out by yourself: cvs -z3 -d {cvs} checkout -P -d {ports} ports"),
        );
        note(self.does("check_mount"), "mount options are looked at by: stockade doctor".to_owned());
        note(self.does("stragglers"), "what no source brought is listed by: stockade check".to_owned());
        note(
            self.does("check_symlinks"),
            "absolute links are not listed: inside they lead to the chroot, and nothing here follows them from outside"
                .to_owned(),
        );
        if self.is_on("chown_all") {
            note(true, format!("what lies in kept directories keeps its owners; inside: {}", self.chown()?));
        }
        note(self.does("copy_sys"), "of the kernel's sources all is copied, not the headers alone".to_owned());
        note(self.get("key").is_some(), "signing keys are never copied into a chroot: sign outside".to_owned());
        Ok(notes)
    }

    /// What gives all in the directories of a build to their users.
    fn chown(&self) -> Result<String> {
        let mut commands = Vec::new();
        for (name, below, user) in PLACES.iter().filter(|(name, ..)| *name != "WRKOBJDIR") {
            let (path, user) = (self.place(name, below)?, self.user(user)?);
            commands.push(format!("chown -R {user}:{user} /{path}"));
        }
        Ok(commands.join("; "))
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

    const NO_X11: &str = "sets=-xbase -xetc -xfont -xshare";

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
            ("sets = man comp", &["\"xfont\", \"xshare\", \"man\"]", "\"/usr/X11R6/lib/locate/xorg.db\""]),
            (NO_X11, &["sets = [\"base\", \"comp\", \"etc\"]", "locate = [\"/usr/lib/locate/src.db\"]"]),
            ("sets=-xfont", &["sets = [\"base\", \"comp\", \"etc\", \"xbase\", \"xetc\", \"xshare\"]"]),
            ("sets=man\n  game # more\n", &["\"xshare\", \"man\", \"game\"]"]),
            (
                "snapshot=/snap\nsets=-comp -xbase -xetc -xfont -xshare",
                &["directory = \"/snap\"", "sets = [\"base\"]", "nested = [\"var/sysmerge/etc.tgz\"]"],
            ),
            ("snapshot=/s\nactions=trusted_snapshot", &["unsigned = true"]),
            ("chroot=/b\nsnapshot=/b/tmp/s\nmkconf_tail=/b/tail", &["\"usr/ports\", \"tmp/s\", \"tail\"]"]),
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
                &[
                    "directory = \"/usr/ports\"\nwithout = [\"pobj\"]\ninto = \"usr/ports\"",
                    "path = \"usr/ports\"\nowner = \"me\"\nbelow = true",
                    "path = \"usr/ports/pobj\"\nowner = \"_pbuild\"\n\n",
                    "path = \"usr/ports/logs\"\nowner = \"_pbuild\"\nbelow = true",
                ],
            ),
            ("WRKOBJDIR=/w\nactions=copy_ports", &["directory = \"/usr/ports\"\ninto = \"usr/ports\""]),
            ("actions=copy_ports\nignorecvs=1", &["without = [\"**/CVS\", \"pobj\"]"]),
            ("portscvs=anon@host:/cvs", &["note: check the ports out by yourself: cvs -z3 -d anon@host:/cvs"]),
            ("portscvs=x\nactions=checkout_ports", &["note: check the ports"]),
            ("chown_all=1", &["inside: chown -R _pfetch:_pfetch /usr/ports/distfiles; chown -R _pbuild:_pbuild"]),
            ("snapshot=/s\nactions=snapshot locate", &["directory = \"/s\"", "/usr/lib/locate/src.db"]),
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

    /// What fills the chroot: a snapshot, the locate databases, or nothing but what is named besides.
    #[test]
    fn the_choice_between_snapshot_and_locate_is_that_of_proot() {
        for (text, snapshot, locate) in [
            ("", false, true),
            ("snapshot=/s", true, false),
            ("snapshot=/s\nactions=locate", false, true),
            ("snapshot=/s\nactions=-snapshot", false, false),
            ("snapshot=/s\nactions=-locate snapshot", true, false),
            ("snapshot=/s\nactions=locate snapshot", true, true),
            ("snapshot=/s\nactions=trusted_snapshot", true, false),
            ("actions=-locate", false, false),
            ("actions=none", false, false),
            ("snapshot=/s\nactions=none snapshot", true, false),
            ("actions=-locate none", false, false),
            ("actions=unpopulate", false, true),
        ] {
            assert_eq!(Config::parse(text).unwrap().fills(), (snapshot, locate), "{text:?}");
        }
    }

    #[test]
    fn what_proot_does_not_know_is_refused() {
        for (text, said) in [
            ("chrot=/x", "line 1: unknown attribute \"chrot\""),
            ("\n  x", "line 2: a further value, and nothing before it"),
            ("sets", "line 1: not ATTRIBUTE=VALUE: \"sets\""),
            ("actions=fly", "line 1: unknown action \"fly\""),
            ("sets=base77", "line 1: \"base77\" is no name of a set"),
            ("PORTSDIR=/a/../b", "line 1: PORTSDIR=/a/../b: \"..\" in a path"),
            ("BUILD_USER=a:b", "line 1: BUILD_USER=a:b: \"a:b\" is no account name"),
            ("snapshot=ftp://x/y", "line 1: snapshot=ftp://x/y: a directory of release sets is needed"),
            ("actions=none devs", "it fills the chroot with nothing"),
            ("actions=-locate", "it fills the chroot with nothing"),
            ("snapshot=/s\nactions=-locate", "it fills the chroot with nothing"),
            ("\nsets=-base -comp -etc\n -xbase -xetc -xfont -xshare", "line 3: sets: no set is left"),
            ("snapshot=/s\nsets=-base -comp -etc -xbase -xetc -xfont -xshare", "line 2: sets: no set is left"),
            ("\nPORTSDIR=", "line 2: PORTSDIR=: a path is wanted"),
            ("preserve=/", "line 1: preserve=/: the root itself cannot be named here"),
            ("extra=/a\nextra=../x", "line 2: extra=../x: \"..\" in a path"),
            ("# x\nNFSDIR=/../n", "line 2: DISTDIR=/../n/distfiles: \"..\" in a path"),
            ("chroot=build/ports", "line 1: chroot=build/ports: an absolute path is wanted"),
        ] {
            let error = convert(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }
}
