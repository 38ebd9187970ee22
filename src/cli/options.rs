// SPDX-License-Identifier: ISC
//! The options of `run`, from words to what a session takes.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::args::{HomeArg, NetArg, Session};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::TreePath;
use crate::recipe::{Net, Recipe};
use crate::session::{Command, Confine, Extra, HomeDir, Limits, Options};
use crate::sys::{self, Calls};

/// What the command line says, and `recipe` where it says nothing; `homes` makes the directory of private homes.
///
/// # Errors
/// [`ErrorKind::Usage`] for a word that makes no sense.
pub(super) fn options(args: &Session, recipe: &Recipe, homes: impl FnOnce() -> Result<PathBuf>) -> Result<Options> {
    let tmpfs = args.tmpfs.iter().map(|dir| place(dir).map(Extra::Tmpfs));
    let binds = args.bind.iter().map(|words| bind(words));
    Ok(Options {
        confine: match (args.plain, args.no_confine) {
            (true, _) => Confine::Plain,
            (_, true) => Confine::Namespaces,
            _ => Confine::Full,
        },
        setuid: args.setuid,
        offline: args.net.map_or(recipe.net == Net::None, |net| net == NetArg::None),
        read_only: false,
        ephemeral: false,
        keep: false,
        own_run: recipe.closure.is_some(),
        hostname: args.hostname.clone(),
        mounts: tmpfs.chain(binds).collect::<Result<_>>()?,
        home: match args.home {
            HomeArg::None => HomeDir::Own,
            HomeArg::Private => HomeDir::Private(homes()?),
            HomeArg::Host => HomeDir::Host,
        },
        limits: Limits {
            memory: args.memory.as_deref().map(size).transpose()?,
            cpus: args.cpus.as_deref().map(thousandths).transpose()?,
            pids: args.pids,
            timeout: args.timeout.as_deref().map(time).transpose()?,
        },
    })
}

/// What is to run, and as whom.
///
/// # Errors
/// [`ErrorKind::Usage`] for a variable that makes no sense.
pub(super) fn command(words: &[OsString], user: Option<&str>, args: &Session, recipe: &Recipe) -> Result<Command> {
    let mut environment = recipe.environment_of(user.unwrap_or("root"));
    for word in &args.env {
        environment.extend([variable(word)?]);
    }
    let dir = args.cwd.as_ref().map(|dir| dir.as_bytes().to_vec());
    Ok(Command { argv: argv(words), user: user.map(str::to_owned), dir, environment })
}

/// Are sessions held in by nothing but the root? Then root inside is root outside.
pub(super) fn is_bare() -> bool {
    !sys::HAS_SESSIONS || Calls::from_env() == Calls::Portable
}

/// Whose session it is where that is no root that is held in: the account that called, if doas(1) or sudo(8) knows.
pub(super) fn caller() -> Option<String> {
    let named = |name: &&str| std::env::var(name).ok().filter(|user| !user.is_empty() && user != "root");
    if is_bare() { ["DOAS_USER", "SUDO_USER"].iter().find_map(named) } else { None }
}

/// A command and its arguments.
pub(super) fn argv(words: &[OsString]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// `NAME=VALUE`.
fn variable(word: &str) -> Result<(String, String)> {
    let pair = word.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| usage("--env", word, "NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `SRC[:DST][:ro]`.
fn bind(words: &OsStr) -> Result<Extra> {
    let mut parts: Vec<&[u8]> = words.as_bytes().split(|&b| b == b':').collect();
    let read_only = parts.len() > 1 && parts.last() == Some(&&b"ro"[..]);
    parts.truncate(parts.len() - usize::from(read_only));
    let (from, to) = match parts[..] {
        [from] => (from, from),
        [from, to] => (from, to),
        _ => return Err(usage("--bind", &words.to_string_lossy(), "SRC[:DST][:ro]")),
    };
    let path = std::path::absolute(Path::new(OsStr::from_bytes(from))).on("getcwd", from)?;
    let to = if from == to { path.clone().into_os_string() } else { OsString::from(OsStr::from_bytes(to)) };
    Ok(Extra::Bind { from: path, to: place(&to)?, read_only })
}

/// The directories of the sockets that a recipe's closure wants: bound as wholes, because a server that starts anew makes
/// a new socket (decision 34). Those that the host does not have now are left out.
pub(super) fn sockets(recipe: &Recipe) -> Result<Vec<Extra>> {
    let dirs = recipe.closure.iter().flat_map(|closure| closure.socket_dirs()).filter(|dir| Path::new(dir).is_dir());
    let bind =
        |dir: &str| Ok(Extra::Bind { from: dir.into(), to: TreePath::lenient(dir.as_bytes())?, read_only: false });
    dirs.map(bind).collect()
}

/// An absolute path inside.
fn place(path: &OsStr) -> Result<TreePath> {
    if !path.as_bytes().starts_with(b"/") {
        return Err(Error::new(ErrorKind::Usage, "a place inside is an absolute path").at(path.as_bytes()));
    }
    TreePath::lenient(path.as_bytes())
}

/// Bytes.
fn size(word: &str) -> Result<u64> {
    number(word, &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)])
        .ok_or_else(|| usage("--memory", word, "a size, as 512M or 2G"))
}

fn time(word: &str) -> Result<Duration> {
    let seconds = number(word, &[("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]);
    seconds.map(Duration::from_secs).ok_or_else(|| usage("--timeout", word, "a time, as 90 or 5m"))
}

/// A whole number greater than 0, times what its suffix stands for.
fn number(word: &str, units: &[(&str, u64)]) -> Option<u64> {
    let suffixed = units.iter().find_map(|(suffix, times)| Some((word.strip_suffix(suffix)?, *times)));
    let (digits, times) = suffixed.unwrap_or((word, 1));
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|&n| plain && n > 0)?.checked_mul(times)
}

/// Processors, with up to three decimals.
fn thousandths(word: &str) -> Result<u32> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    let fits = (1..=4).contains(&whole.len()) && part.len() <= 3 && !word.ends_with('.');
    let digits = fits.then(|| format!("{whole}{part:0<3}")).filter(|all| all.bytes().all(|b| b.is_ascii_digit()));
    let count = digits.and_then(|digits| digits.parse().ok()).filter(|&n| n > 0);
    count.ok_or_else(|| usage("--cpus", word, "a number of processors, as 2 or 0.5"))
}

fn usage(option: &str, word: &str, want: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{option} {word:?}: not {want}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (word, want) in [("1", Some(1)), ("512M", Some(512 << 20)), ("2G", Some(2 << 30)), ("10K", Some(10240))] {
            assert_eq!(size(word).ok(), want, "{word}");
        }
        for bad in ["", "0", "M", "-1", "+1", "1.5G", "1g", "1 M", "99999999999999999999", "99999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for (word, want) in [("90", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("3s", 3)] {
            assert_eq!(time(word).unwrap(), Duration::from_secs(want), "{word}");
        }
        assert!(time("0").is_err() && time("5M").is_err());
    }

    #[test]
    fn processors() {
        for (word, want) in [("2", 2000), ("0.5", 500), ("1.25", 1250), ("0.001", 1), ("16.0", 16000)] {
            assert_eq!(thousandths(word).unwrap(), want, "{word}");
        }
        for bad in ["", "0", "0.0", ".5", "1.", "1.0001", "-1", "1e3", "99999", "a", "1.-1"] {
            assert!(thousandths(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn binds() {
        let bound = |words: &str| match bind(OsStr::new(words)) {
            Ok(Extra::Bind { from, to, read_only }) => {
                Some((from.into_os_string().into_string().unwrap(), to.to_string(), read_only))
            }
            _ => None,
        };
        for (words, want) in [
            ("/a", Some(("/a", "a", false))),
            ("/a:ro", Some(("/a", "a", true))),
            ("/a:/b/c", Some(("/a", "b/c", false))),
            ("/a:/b:ro", Some(("/a", "b", true))),
            ("/a:/b:rw", None),
            ("/a:b", None),
            ("/a:/../b", None),
            (":/b", None),
            ("", None),
        ] {
            let want = want.map(|(from, to, read_only)| (from.to_owned(), to.to_owned(), read_only));
            assert_eq!(bound(words), want, "{words}");
        }
    }

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
