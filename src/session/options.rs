// SPDX-License-Identifier: ISC
//! How a session may be asked for.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::explain::remount;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::sys::{self, Dir};

/// How a command is held in and what it sees. The default is that of `run` without options.
#[derive(Debug, Default)]
pub struct Options {
    /// How far it is held in.
    pub confine: Confine,
    /// Set-id programs work, although it is confined.
    pub setuid: bool,
    /// It has a network of its own with nothing but loopback.
    pub offline: bool,
    /// It cannot write to the root.
    pub read_only: bool,
    /// What it writes to the root is gone at its end.
    pub ephemeral: bool,
    /// As that, but what was written is there to be kept: see [`super::Outcome::kept`].
    pub keep: bool,
    /// Its /run is what the root has there, and lasts: a jail has directories of its services in it.
    pub own_run: bool,
    /// Its host name; none for the host's.
    pub hostname: Option<String>,
    /// What is mounted besides, in order.
    pub mounts: Vec<Extra>,
    /// The home that its account finds.
    pub home: HomeDir,
    /// What it may use.
    pub limits: Limits,
}

impl Options {
    /// What a plain session cannot have.
    pub(super) fn refuse_with_plain(&self) -> Result<()> {
        let asked = [
            (self.offline, "a network of its own"),
            (self.read_only, "a read-only root"),
            (self.ephemeral || self.keep, "a root that forgets"),
            (self.hostname.is_some(), "a host name"),
            (!self.mounts.is_empty(), "a mount"),
            (!matches!(self.home, HomeDir::Own), "a home"),
            (self.limits != Limits::default(), "a limit"),
        ];
        match asked.iter().find(|(asked, _)| *asked) {
            None => Ok(()),
            Some((_, what)) if sys::HAS_SESSIONS => {
                Err(Error::new(ErrorKind::Usage, format!("{what} needs namespaces")).hint("leave out --plain"))
            }
            Some((_, what)) => Err(Error::new(ErrorKind::Unsupported, format!("this system cannot give {what}"))),
        }
    }

    /// What the place of the chroot does not allow.
    pub(super) fn refuse_impossible(&self, root: &Path, dir: &Dir) -> Result<()> {
        let shown = root.as_os_str().as_bytes();
        if self.setuid && dir.space().on("statfs", shown)?.nosuid {
            let error = Error::new(ErrorKind::Refused, "its filesystem is mounted nosuid: no set-id program works");
            return Err(remount(root, "suid", error.at(shown)));
        }
        let below = |mount: &sys::Mount| {
            let target = Path::new(OsStr::from_bytes(&mount.target));
            target != root && target.starts_with(root)
        };
        if (self.ephemeral || self.keep)
            && let Some(mount) = sys::mounts().on("mounts", shown)?.into_iter().find(below)
        {
            let target = escape(&mount.target);
            let reason = format!("{target} is mounted below it: what is written there would stay");
            return Err(Error::new(ErrorKind::Refused, reason).at(shown).hint(format!("umount {target}")));
        }
        Ok(())
    }
}

/// How far a command is held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confine {
    /// As container engines do.
    #[default]
    Full,
    /// In namespaces of its own, with all that root may do.
    Namespaces,
    /// By chroot(2) and nothing else.
    Plain,
}

/// Something that is mounted for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// A directory or file of the host.
    Bind {
        /// Its path.
        from: PathBuf,
        /// Where it appears inside.
        to: TreePath,
        /// It cannot be written to.
        read_only: bool,
    },
    /// A new filesystem in memory, inside.
    Tmpfs(TreePath),
}

/// The home of the account that a command runs as.
#[derive(Debug, Default)]
pub enum HomeDir {
    /// What the chroot has.
    #[default]
    Own,
    /// One that is kept beside the chroot, in the directory of this path.
    Private(PathBuf),
    /// That of the host's account of the same name.
    Host,
}

/// What a session may use; none for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors, in thousandths.
    pub cpus: Option<u32>,
    /// Processes.
    pub pids: Option<u32>,
    /// Time.
    pub timeout: Option<Duration>,
}
