// SPDX-License-Identifier: ISC
//! The `[closure]` table of a recipe: programs of the host, which come with all that they need.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::path::TreePath;

/// Programs of the host that come with all that they need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closure {
    /// Absolute paths of programs.
    pub programs: Vec<String>,
    /// Absolute paths of files and trees that are wanted besides.
    pub paths: Vec<String>,
    /// Packages of which every file is wanted, with those they depend on that are no part of the base.
    pub packages: Vec<String>,
    /// Policies that apply only where they are named.
    pub with: Vec<String>,
    /// Policies that do not apply.
    pub without: Vec<String>,
    /// Accounts that exist inside.
    pub users: Vec<String>,
    /// Programs that keep their set-id bits and capabilities.
    pub keep_setid: Vec<TreePath>,
    /// Sockets of the host that sessions reach.
    pub sockets: Vec<String>,
    /// Name services as the host has them.
    pub host_nss: bool,
    /// What traces of real runs saw: the path, and the program that opened it.
    pub traced: BTreeMap<String, String>,
    /// What traces of real runs saw written to.
    pub written: Vec<String>,
    /// A command that has to work in the jail, as its first account, before a build changes the jail that there is.
    pub probe: Vec<String>,
    /// Patterns of what services leave behind and nobody needs: cleared by a build while nothing runs inside.
    pub clean: Vec<String>,
    /// Who starts programs with the jail as their root, and has rules of its own for that.
    pub purpose: Option<Purpose>,
}

/// A program with rules of its own for a directory that it makes a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// `ChrootDirectory` of sshd.
    Sshd,
    /// `RootDirectory=` of systemd.
    Systemd,
    /// httpd, slowcgi and php-fpm of OpenBSD.
    Httpd,
}

impl Closure {
    /// Adds what `more` wants; what is there already stays once.
    pub fn add(&mut self, more: &Closure) {
        let lists = [
            (&mut self.programs, &more.programs),
            (&mut self.paths, &more.paths),
            (&mut self.packages, &more.packages),
            (&mut self.with, &more.with),
            (&mut self.without, &more.without),
            (&mut self.users, &more.users),
            (&mut self.sockets, &more.sockets),
            (&mut self.written, &more.written),
            (&mut self.clean, &more.clean),
        ];
        for (list, more) in lists {
            add(list, more);
        }
        add(&mut self.keep_setid, &more.keep_setid);
        self.host_nss |= more.host_nss;
        if !more.probe.is_empty() {
            self.probe.clone_from(&more.probe);
        }
        self.traced.extend(more.traced.clone());
        self.purpose = more.purpose.or(self.purpose);
    }

    /// The directories of its sockets: those are shown inside, because a server that starts anew makes a new socket.
    pub fn socket_dirs(&self) -> Vec<&str> {
        let parent = |socket: &'_ String| socket.rfind('/').filter(|&at| at > 0);
        let mut dirs: Vec<&str> = self.sockets.iter().filter_map(|s| parent(s).map(|at| &s[..at])).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }
}

fn add<T: PartialEq + Clone>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}
