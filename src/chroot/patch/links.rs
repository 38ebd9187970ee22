// SPDX-License-Identifier: ISC
//! Links that the administrator put in the place of directories, as /var/www -> /data/www: a patch goes through those that
//! are named in a file of the host, and through no other (decision 23).
//!
//! `HOME/patch.toml`, which must be the user's own: `follow = ["/var/www"]`, absolute paths of the host.
#![forbid(unsafe_code)]

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::target::Root;
use crate::chroot::copy::{find_inside, kind_of};
use crate::chroot::place::{Home, bytes};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::Contents;
use crate::path::TreePath;
use crate::plan::Change;
use crate::sys;
use crate::tree::{Kind, Node};

/// The file, in the home.
const FILE: &str = "patch.toml";
const LARGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    follow: Vec<String>,
}

/// Links of a root that are followed, and where each leads.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<(TreePath, TreePath)>);

impl Links {
    /// Those of `root` that the host's file names.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if somebody else may write to the file; [`ErrorKind::BadInput`] naming what is wrong in it.
    pub(crate) fn read(home: &Home, root: &Root) -> Result<Links> {
        let mut links = Vec::new();
        let dir = root.dir.try_clone().on("open", "/")?.crossing();
        for named in named(home)? {
            let Ok(inside) = Path::new(&named).strip_prefix(&root.place.root) else { continue };
            let at = TreePath::new(bytes(inside))?;
            if matches!(kind_of(&dir, &at), Ok(Some(Kind::Symlink(_))))
                && let Some(to) = find_inside(&dir, &at)?
            {
                links.push((at, to));
            }
        }
        Ok(Links(links))
    }

    /// Where a path really is; a directory may be what a link leads to, whatever else is the link.
    fn at(&self, path: &mut TreePath, dir: bool) -> Result<()> {
        for (link, to) in &self.0 {
            if let Some(rest) = path.strip(link).filter(|rest| dir || !rest.is_root()) {
                *path = to.under(&rest)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// A change at where its path really is.
    pub(crate) fn change(&self, mut change: Change) -> Result<Change> {
        if self.0.is_empty() {
            return Ok(change);
        }
        let dir = change.before.iter().chain(&change.after).all(|node| node.kind.is_dir());
        self.at(&mut change.path, dir)?;
        change.link.as_mut().map_or(Ok(()), |link| self.at(link, false))?;
        let node = |node: &mut Node| {
            self.at(&mut node.path, dir)?;
            node.group.as_mut().map_or(Ok(()), |group| self.at(group, false))
        };
        change.before.as_mut().map_or(Ok(()), node)?;
        change.after.as_mut().map_or(Ok(()), node)?;
        Ok(change)
    }

    /// A patch with its changes at where their paths really are.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if it changes the same by two paths.
    pub(crate) fn contents(&self, contents: &Contents) -> Result<Contents> {
        let mut contents = contents.clone();
        for entry in &mut contents.entries {
            entry.change = self.change(entry.change.clone())?;
        }
        contents.entries.sort_by(|a, b| a.change.path.cmp(&b.change.path));
        match contents.entries.windows(2).find(|pair| pair[0].change.path == pair[1].change.path) {
            None => Ok(contents),
            Some(pair) => {
                let error = Error::new(ErrorKind::Refused, "the patch changes it by two paths, one through a link");
                Err(error.at(&pair[0].change.path))
            }
        }
    }
}

/// What the host's file names.
fn named(home: &Home) -> Result<Vec<String>> {
    let shown = home.path.join(FILE);
    let Some(dir) = home.look()? else { return Ok(Vec::new()) };
    let Some(stat) = dir.find(FILE.as_bytes()).on("stat", bytes(&shown))? else { return Ok(Vec::new()) };
    if stat.uid != sys::effective_uid() || stat.mode & 0o022 != 0 {
        let error = Error::new(ErrorKind::Refused, "it belongs to somebody else or others may write to it");
        return Err(error.at(bytes(&shown)));
    }
    let mut text = String::new();
    let file = dir.open_regular(FILE.as_bytes()).on("open", bytes(&shown))?;
    file.map_or(Ok(0), |file| file.take(LARGEST).read_to_string(&mut text)).on("read", bytes(&shown))?;
    let malformed = |error: toml::de::Error| {
        let reason = error.message().to_owned();
        Error::new(ErrorKind::BadInput, reason).at(bytes(&shown)).hint("it reads: follow = [\"/var/www\"]")
    };
    Ok(toml::from_str::<Settings>(&text).map_err(malformed)?.follow)
}
