// SPDX-License-Identifier: ISC
//! What all verbs take that make a patch, and how the file is written.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueHint};

use crate::cli::secret::PassphraseArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::patch::{Bodies, Bundle, Contents, FollowUp, Head, Pen, Trust, check_name, make, squash_files};
use crate::sys;
use crate::tree::Digest;
use crate::watch::Watch;

/// What is said of a patch, and where it goes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Make {
    /// Write the patch to this file, or into this directory; without it to NAME.tgz
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    output: Option<PathBuf>,
    /// The name of the patch; without it that of the file, without .tgz
    #[arg(long)]
    name: Option<String>,
    /// The series that it belongs to
    #[arg(long)]
    series: Option<String>,
    /// Its number in the series
    #[arg(long)]
    number: Option<u32>,
    /// The release that it is for
    #[arg(long)]
    release: Option<String>,
    /// The architecture that it is for
    #[arg(long)]
    arch: Option<String>,
    /// One line that says what it mends
    #[arg(long)]
    title: Option<String>,
    /// What else to know; may be repeated, a line each
    #[arg(long, value_name = "TEXT")]
    note: Vec<String>,
    /// A patch that must be there first, as a file; may be repeated
    #[arg(long, value_name = "PATCH", value_hint = ValueHint::FilePath)]
    requires: Vec<PathBuf>,
    /// What is done afterwards: ldconfig, pwd_mkdb, cap_mkdb, newaliases, makewhatis, relink, or `restart NAME`
    #[arg(long, value_name = "ACTION")]
    follow_up: Vec<FollowUp>,
    /// Bring files as differences from what they were, where that is smaller
    #[arg(long)]
    delta: bool,
    /// The signify secret key to sign with
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    secret: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Do not sign it
    #[arg(long, conflicts_with = "secret")]
    unsigned: bool,
}

/// A patch that is going to be made: the key is open, nothing more will be asked.
pub(in crate::cli) struct Draft {
    /// What the command line says; the verb fills in the rest.
    pub(in crate::cli) head: Head,
    /// Who signs it.
    pub(in crate::cli) pen: Option<Pen>,
    /// Files are brought as differences.
    pub(in crate::cli) delta: bool,
    output: Option<PathBuf>,
}

impl Make {
    /// The architecture that is said.
    pub(in crate::cli) fn arch(&self) -> Option<&str> {
        self.arch.as_deref()
    }

    /// Is a patch asked for?
    pub(in crate::cli) fn is_asked(&self) -> bool {
        self.output.is_some() || self.name.is_some()
    }

    /// A patch that has a name: as [`Make::begin`].
    pub(in crate::cli) fn begin_named(&self) -> Result<Draft> {
        let draft = self.begin()?;
        if draft.head.name.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "the patch has no name").hint("give it one with --name"));
        }
        Ok(draft)
    }

    /// Reads what the command line names, and asks for the passphrase.
    pub(in crate::cli) fn begin(&self) -> Result<Draft> {
        let pen = match (&self.secret, self.unsigned) {
            (Some(secret), _) => Some(self.passphrase.open(secret)?),
            (None, true) => None,
            (None, false) => {
                let error = Error::new(ErrorKind::Usage, "a patch is signed, and no key is named");
                return Err(
                    error.hint("name one with --secret, made by: stockade key generate NAME-patch; or say --unsigned")
                );
            }
        };
        Ok(Draft { head: self.head()?, pen, delta: self.delta, output: self.output.clone() })
    }

    /// The name that was given, or that of the file; empty if there is none.
    fn name(&self) -> Result<String> {
        let file = self.output.as_ref().filter(|output| !is_directory(output));
        let of_file = file.and_then(|file| file.file_name()).map(|name| name.to_string_lossy());
        let of_file = of_file.map(|name| name.strip_suffix(".tgz").unwrap_or(&name).to_owned());
        let Some(name) = self.name.clone().or(of_file) else { return Ok(String::new()) };
        check_name(&name).map_err(|error| error.hint("give it another one with --name"))?;
        Ok(name)
    }

    fn head(&self) -> Result<Head> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok(Head {
            name: self.name()?,
            series: text(&self.series),
            number: self.number,
            system: sys::kernel().0.to_lowercase(),
            release: text(&self.release),
            arch: text(&self.arch),
            date: now(),
            title: text(&self.title),
            note: self.note.iter().map(|line| format!("{line}\n")).collect(),
            requires: self.requires.iter().map(|file| required(file)).collect::<Result<_>>()?,
            follow_ups: self.follow_up.clone(),
            ..Head::default()
        })
    }
}

impl Draft {
    /// The head of a patch of which `own` is known: what the command line says goes first.
    pub(in crate::cli) fn head_over(&self, own: Head) -> Head {
        let said = self.head.clone();
        let text = |said: String, own: String| if said.is_empty() { own } else { said };
        let mut follow_ups = own.follow_ups;
        follow_ups.extend(said.follow_ups);
        Head {
            name: text(said.name, own.name),
            series: text(said.series, own.series),
            number: said.number.or(own.number),
            release: text(said.release, own.release),
            arch: text(said.arch, own.arch),
            title: text(said.title, own.title),
            note: [own.note, said.note].into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("\n\n"),
            requires: said.requires,
            follow_ups,
            system: text(own.system, said.system),
            date: said.date,
            ..own
        }
    }

    /// Where a patch of this name will be.
    pub(in crate::cli) fn file(&self, name: &str) -> PathBuf {
        let own = format!("{name}.tgz");
        match &self.output {
            Some(dir) if is_directory(dir) => dir.join(own),
            Some(file) => file.clone(),
            None => PathBuf::from(own),
        }
    }

    /// Writes the patch, whole or not at all; what is in the file.
    pub(in crate::cli) fn write(&self, contents: Contents, bodies: Bodies<'_>, watch: &Watch) -> Result<Contents> {
        let file = self.file(&contents.head.name);
        make(contents, bodies, (self.delta, self.pen.as_ref()), &file, watch)
    }

    /// Rolls patches up into this one; what is in the file.
    pub(in crate::cli) fn squash(&self, patches: &[PathBuf], trust: Trust<'_>, watch: &Watch) -> Result<Contents> {
        let file = self.file(&self.head.name);
        squash_files(patches, self.head.clone(), (trust, self.pen.as_ref()), &file, watch)
    }
}

/// Is it one, or is one meant?
fn is_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_bytes().ends_with(b"/")
}

/// Name and digest of a patch that another one needs.
fn required(file: &Path) -> Result<(String, Digest)> {
    let (watch, shown) = (Watch::default(), file.as_os_str().as_bytes());
    let bundle = Bundle::open(super::open(file, &watch)?, Trust::Anyone).map_err(|error| error.at(shown))?;
    Ok((bundle.contents.head.name.clone(), bundle.contents.digest()))
}

/// Now, or what makes the same patch again: <https://reproducible-builds.org/specs/source-date-epoch/>
pub(in crate::cli) fn now() -> i64 {
    let set = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    set.unwrap_or_else(|| i64::try_from(since()).unwrap_or(i64::MAX))
}
