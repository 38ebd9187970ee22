// SPDX-License-Identifier: ISC
//! Libraries that a program loads only while it runs: a daemon that changes its root by itself must have them before.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::process::ExitStatus;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::{TreePath, escape};
use crate::select::closure::owners::Lists;
use crate::select::closure::search::Search;
use crate::select::closure::{self, View, policy};
use crate::sys::{self, Calls, Dir, Traced, Tracing};
use crate::watch::Watch;

/// What a program loads late.
#[derive(Debug)]
pub struct Preload {
    /// The program, absolute.
    pub program: String,
    /// Libraries that it opens while it runs and does not name itself, in the order in which it did.
    pub libraries: Vec<String>,
    /// How it ended with them loaded beforehand.
    pub status: ExitStatus,
    /// Those that it opened nevertheless only after others, or not at all: to load them beforehand is of no use.
    pub unused: Vec<String>,
}

/// Runs `argv` on the host twice: to see what it loads, and with that loaded beforehand. `aside`: what it says goes to
/// standard error.
///
/// # Errors
/// [`ErrorKind::Refused`] if it fails as it is; as [`sys::trace`].
pub fn find(calls: Calls, argv: &[Vec<u8>], aside: bool, watch: &Watch) -> Result<Preload> {
    let root = Dir::open(std::path::Path::new("/"), calls).on("open", "/")?.crossing();
    let view = View::new(&root)?;
    let program = argv.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let (status, opened) = opened(argv, aside, watch)?;
    if !status.success() {
        let error = Error::new(ErrorKind::Refused, format!("the command failed: {status}")).at(program);
        return Err(error.hint("it has to work before it can be helped"));
    }
    let all = policy::all()?.into_iter().map(|policy| policy.name).collect();
    let request = closure::Request { programs: vec![program.clone()], without: all, ..closure::Request::default() };
    let named = closure::gather(&view, &Lists::default().owners(), &request, watch)?.entries;
    let search = Search::new(&view)?;
    let (mut libraries, mut ends) = (Vec::new(), HashSet::new());
    for path in opened {
        let Some(end) = view.follow(path.as_bytes())?.file().cloned() else { continue };
        let is_library = search.elf(&end)?.is_some_and(|elf| !elf.program);
        // By one name, whatever others it is opened by.
        if is_library && !named.contains_key(&end) && ends.insert(end) {
            libraries.push(path);
        }
    }
    let list = libraries.join(":");
    let again = [&[b"/usr/bin/env".to_vec(), format!("LD_PRELOAD={list}").into_bytes()], argv].concat();
    let (status, early) = self::opened(if libraries.is_empty() { argv } else { &again }, aside, watch)?;
    let early: HashSet<&String> = early.iter().collect();
    let unused = libraries.iter().filter(|path| !early.contains(path)).cloned().collect();
    Ok(Preload { program, libraries, status, unused })
}

/// How a command ended, and the files that were opened to be read, by their names and in that order.
fn opened(argv: &[Vec<u8>], aside: bool, watch: &Watch) -> Result<(ExitStatus, Vec<String>)> {
    let mut paths = Vec::new();
    let stop = watch.stop_flag();
    let run = Tracing { argv, root: None, user: None, aside, stop: &stop };
    let status = sys::trace(&run, &mut |one: Traced| {
        if let (false, false, Ok(path)) = (one.missing, one.written, String::from_utf8(one.path)) {
            paths.push(path);
        }
    });
    let name = argv.first().map(Vec::as_slice).unwrap_or_default();
    watch.check()?;
    Ok((status.on("run", name)?, paths))
}

/// Lines that start the program with its libraries loaded beforehand, each with where it goes.
pub fn lines(found: &Preload) -> Vec<(&'static str, String)> {
    let (list, program) = (found.libraries.join(":"), escape(found.program.as_bytes()));
    let name = TreePath::lenient(found.program.as_bytes()).map(|path| escape(path.name())).unwrap_or_default();
    vec![
        ("a shell", format!("LD_PRELOAD={list} {program}")),
        ("a unit of systemd", format!("Environment=LD_PRELOAD={list}")),
        (
            "login.conf(5), with the class of the daemon",
            format!("{name}:setenv=LD_PRELOAD={}:tc=daemon:", list.replace(':', "\\c")),
        ),
    ]
}
