// SPDX-License-Identifier: ISC
//! `doctor --install-hooks`: one file of apt's that looks, after packages changed, what that did to patches and jails.
//!
//! The hook says what it finds and never changes how apt ends (decisions 25, 39).
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::chroot::place::{Home, Place, bytes};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::sys::{Dir, is_stale};

/// Where apt has its configuration, in a root.
const FOLDER: &str = "etc/apt/apt.conf.d";
/// Late, so that others have done what they do.
const NAME: &str = "95stockade";
/// How it begins.
const FIRST: &str = "// Made by stockade doctor --install-hooks; gone with --remove-hooks.\n";
/// What is run after packages changed, each whatever became of the one before. They say nothing while all is well.
const LOOK: [&str; 2] = ["patch check --quiet", "check --all --host --quiet"];
/// The same, with jails brought up to date: one that somebody is in is left, and said.
const REFRESH: [&str; 2] = ["patch check --quiet", "build --jails --quiet --no-wait"];

/// Writes the hook into a root, to run `program` with `home`; jails are brought up to date, or only looked at. Returns its
/// path.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is no apt; [`ErrorKind::NotFound`] if the root does not have `program`,
/// [`ErrorKind::Refused`] if others can change it; [`ErrorKind::BadInput`] for a path that apt and a shell would not take
/// as it is.
pub fn install(home: &Home, root: &Place, program: &Path, refresh: bool) -> Result<PathBuf> {
    let (program, at) = (plain(program)?, plain(&home.path)?);
    let run = |command: &&str| format!("STOCKADE_HOME={at} {program} {command} || true; ");
    let commands: String = if refresh { REFRESH } else { LOOK }.iter().map(run).collect();
    let text = format!("{FIRST}DPkg::Post-Invoke {{ \"if test -x {program}; then {commands}fi\"; }};\n");
    let folder = folder(home, root)?;
    only_roots(&root.root, Path::new(program))?;
    let shown = root.root.join(FOLDER).join(NAME);
    ours(&folder, &shown)?;
    let write = || -> std::io::Result<()> {
        // apt reads no name that ends like this.
        let new = format!("{NAME}.new");
        match folder.unlink(new.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = folder.create_file(new.as_bytes(), 0o600)?;
        file.write_all(text.as_bytes())?;
        folder.set_mode(new.as_bytes(), 0o644)?;
        file.sync_all()?;
        folder.rename(new.as_bytes(), &folder, NAME.as_bytes())
    };
    write().on("write", bytes(&shown))?;
    Ok(shown)
}

/// Removes the hook from a root. Returns its path, if it was there.
///
/// # Errors
/// As [`install`].
pub fn remove(home: &Home, root: &Place) -> Result<Option<PathBuf>> {
    let folder = folder(home, root)?;
    let shown = root.root.join(FOLDER).join(NAME);
    if !ours(&folder, &shown)? {
        return Ok(None);
    }
    folder.unlink(NAME.as_bytes()).on("unlink", bytes(&shown))?;
    Ok(Some(shown))
}

fn folder(home: &Home, root: &Place) -> Result<Dir> {
    let shown = root.root.join(FOLDER);
    let dir = Dir::open(&root.root, home.calls).on("open", bytes(&root.root))?.crossing();
    match dir.walk(&TreePath::new(FOLDER.as_bytes())?) {
        Err(error) if is_stale(&error) => {
            let error = Error::new(ErrorKind::Unsupported, "there is no apt that could run a hook").at(bytes(&shown));
            Err(error.hint("run `stockade patch check` after each change of packages, from cron(8) for example"))
        }
        folder => folder.on("open", bytes(&shown)),
    }
}

/// Is the hook there? Somebody else's file of that name is not touched.
fn ours(folder: &Dir, shown: &Path) -> Result<bool> {
    use std::io::Read;
    let file = match folder.open_regular(NAME.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.on("open", bytes(shown))?,
    };
    let mut first = vec![0; FIRST.len()];
    let begins = file.is_some_and(|mut file| file.read_exact(&mut first).is_ok() && first == FIRST.as_bytes());
    let error = || Error::new(ErrorKind::Refused, "it was not made by stockade").at(bytes(shown));
    if begins { Ok(true) } else { Err(error().hint("see what it is, and remove it")) }
}

/// apt runs it as root: nobody else may be able to put another in its place.
fn only_roots(root: &Path, program: &Path) -> Result<()> {
    let within = root.join(program.strip_prefix("/").unwrap_or(program));
    for at in within.ancestors().take_while(|at| at.starts_with(root)) {
        let found = std::fs::symlink_metadata(at).on("stat", bytes(at));
        let found = found.map_err(|error| error.hint("install stockade there, under the same path as it runs now"))?;
        // Of a directory with the sticky bit each takes away only what is his own.
        let shared = found.mode() & 0o022 != 0 && !(found.is_dir() && found.mode() & 0o1000 != 0);
        if found.uid() != 0 || shared {
            let error = Error::new(ErrorKind::Refused, "others than root can change what apt would run as root");
            return Err(error.at(bytes(at)).hint("install stockade where root alone writes: /usr/local/bin"));
        }
    }
    Ok(())
}

/// A path that needs no quotes.
fn plain(path: &Path) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    let reason = "apt and the shell need a path of letters, digits and / . _ + -";
    path.to_str()
        .filter(|path| path.starts_with('/') && path.chars().all(plain))
        .ok_or_else(|| Error::new(ErrorKind::BadInput, reason).at(bytes(path)))
}
