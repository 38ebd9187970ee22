// SPDX-License-Identifier: ISC
//! `errata`: source patches, verified and put in order, and what is executed for each of them.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::Recording;
use crate::chroot::open::{Chroot, Locking};
use crate::chroot::place::{Home, bytes};
use crate::chroot::{release, sets};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::errata::steps::{Facts, Step, resolve};
use crate::patch::errata::{self, Erratum, MAX_SIZE};
use crate::patch::{Head, Keys, sequence};
use crate::sign::{signer, verify_embedded};

/// What the user asks of `errata`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The source patches; of a directory all that are in it.
    pub files: Vec<PathBuf>,
    /// Their keys; none for those of the host.
    pub keys: Vec<PathBuf>,
    /// Take files whoever signed them, and if nobody did.
    pub unsigned: bool,
    /// Where a bare diff is applied, how many names are taken off the paths in it, and what is done then.
    pub plain: Option<Plain>,
    /// Numbers that nobody is to wait for.
    pub skip: Vec<u32>,
}

/// How a bare diff is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// A directory of the chroot.
    pub into: String,
    /// Names to take off.
    pub strip: u32,
    /// Commands, one line each.
    pub steps: Vec<String>,
}

/// A source patch that may be used.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its file.
    pub file: PathBuf,
    /// The file's name without its endings: `001_sshd`.
    pub name: String,
    /// What it says.
    pub erratum: Erratum,
    /// Who signed it; none if nobody asked.
    pub signed_by: Option<String>,
    /// Numbers before its own that do not exist here.
    pub absent: Vec<u32>,
    diff: Vec<u8>,
}

/// Reads, verifies and sorts what was asked for.
///
/// # Errors
/// [`ErrorKind::Unverified`] naming a file that is not signed by a key that is known here; [`ErrorKind::BadInput`] for
/// one that is not understood; [`ErrorKind::Refused`] for two of one number, or of two releases.
pub fn read(request: &Request) -> Result<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    for file in files(&request.files)? {
        jobs.push(read_one(&file, request).map_err(|error| error.at(bytes(&file)))?);
    }
    if jobs.is_empty() {
        return Err(
            Error::new(ErrorKind::NotFound, "there is no source patch").hint("name files that end in .patch.sig")
        );
    }
    jobs.sort_by(|a, b| (a.number(), &a.name).cmp(&(b.number(), &b.name)));
    for pair in jobs.windows(2) {
        let refuse = |reason: String| Err(Error::new(ErrorKind::Refused, reason).at(bytes(&pair[1].file)));
        if pair[0].release() != pair[1].release() {
            return refuse(format!("it is of another release than {}", pair[0].file.display()));
        }
        if pair[0].number().is_some() && pair[0].number() == pair[1].number() {
            return refuse(format!("it has the number of {}", pair[0].file.display()));
        }
    }
    Ok(jobs)
}

fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        for entry in std::fs::read_dir(path).on("open", bytes(path))? {
            let file = entry.on("read", bytes(path))?.path();
            files.extend(number_in(&file).is_some().then_some(file));
        }
    }
    Ok(files)
}

/// The number that a name like `001_sshd.patch.sig` begins with.
fn number_in(file: &Path) -> Option<u32> {
    let name = file.file_name()?.to_str()?;
    let stem = name.strip_suffix(".patch.sig").or_else(|| name.strip_suffix(".patch"))?;
    let (digits, _) = stem.split_once('_')?;
    digits.parse().ok().filter(|_| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn read_one(file: &Path, request: &Request) -> Result<Job> {
    let mut text = Vec::new();
    let opened = File::open(file).on("open", bytes(file))?;
    opened.take(MAX_SIZE as u64 + 1).read_to_end(&mut text).on("read", bytes(file))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".sig").unwrap_or(&name);
    let name = name.strip_suffix(".patch").unwrap_or(name).to_owned();
    let (signed_by, message) = match (signer(&text), request.unsigned) {
        (Ok(_), false) => {
            let keys = if request.keys.is_empty() { Keys::trusted(&sets::keys())? } else { Keys::load(&request.keys)? };
            let (name, key) = keys.find(&text)?;
            (Some(name.clone()), verify_embedded(&text, key)?)
        }
        (Ok(_), true) => (None, message_of(&text)),
        (Err(_), true) => (None, text.as_slice()),
        (Err(_), false) => {
            let error = Error::new(ErrorKind::Unverified, "it is not signed");
            return Err(error.hint("trust it as it is with --any"));
        }
    };
    let erratum = match &request.plain {
        Some(plain) => errata::plain(message, (plain.into.clone().into_bytes(), plain.strip), &plain.steps)?,
        None => errata::parse(message, signed_by.is_some()).map_err(|error| match error.advice() {
            None => error.hint("a bare diff needs --into and --step"),
            Some(_) => error,
        })?,
    };
    let job = Job {
        diff: message[erratum.diff..].to_vec(),
        file: file.to_owned(),
        name,
        erratum,
        signed_by,
        absent: Vec::new(),
    };
    job.check()?;
    Ok(job)
}

/// What is below the two lines of a signature that nobody looks at.
fn message_of(signed: &[u8]) -> &[u8] {
    signed.splitn(3, |&b| b == b'\n').nth(2).unwrap_or_default()
}

/// The system of the chroot that the user calls `name`, and what that calls the machine.
///
/// # Errors
/// As [`Chroot::open`].
pub fn system_of(home: &Home, name: &OsStr, wait: bool) -> Result<(String, String)> {
    let chroot = Chroot::open(home, name, Locking { shared: true, wait, verb: "errata" })?;
    release::system(&chroot.root, chroot.said_release().as_deref())
}

impl Job {
    /// Its number: as its title says, or its file's name.
    pub fn number(&self) -> Option<u32> {
        self.erratum.title.as_ref().map(|title| title.number).or_else(|| number_in(&self.file))
    }

    /// The release that it is for; none if it does not say.
    pub fn release(&self) -> Option<&str> {
        self.erratum.title.as_ref().map(|title| title.release.as_str())
    }

    /// Is it called as it says, and signed by whom it says?
    fn check(&self) -> Result<()> {
        let Some(title) = &self.erratum.title else { return Ok(()) };
        if number_in(&self.file).is_some_and(|number| number != title.number) {
            let reason = format!("its title has the number {:03}, and its name another", title.number);
            return Err(Error::new(ErrorKind::BadInput, reason));
        }
        let key = self.signed_by.as_deref().filter(|name| sets::KEYS.iter().any(|dir| name.starts_with(dir)));
        let own = format!("/openbsd-{}-base.pub", title.release.replace('.', ""));
        match key {
            Some(key) if !key.ends_with(&own) => {
                let reason = format!("it is for {}, and signed by {key}", title.release);
                Err(Error::new(ErrorKind::Unverified, reason))
            }
            _ => Ok(()),
        }
    }

    /// The first step: patch(1), which reads the verified diff.
    pub fn apply(&self) -> Step {
        let (dir, strip) = &self.erratum.place;
        // Told what it is given, it does not guess: an ed script would be executed.
        let argv = ["patch".to_owned(), "-u".to_owned(), "-N".to_owned(), format!("-p{strip}")];
        Step { dir: String::from_utf8_lossy(dir).into_owned(), argv: argv.into() }
    }

    /// The steps after that one.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn steps(&self, facts: &Facts) -> Result<Vec<Step>> {
        let lines = self.erratum.blocks.iter().flat_map(|block| &block.lines);
        resolve(lines, &String::from_utf8_lossy(&self.erratum.place.0), facts)
            .map_err(|error| error.at(bytes(&self.file)))
    }

    /// The head of the patch that comes of it: `errata-5.8-001_sshd-amd64`.
    pub fn head(&self, facts: &Facts) -> Head {
        let series = self.release().map(|release| format!("errata-{release}"));
        let name = match &series {
            Some(series) => format!("{series}-{}-{}", self.name, facts.machine),
            None => format!("{}-{}", self.name, facts.machine),
        };
        let title = self.erratum.title.as_ref();
        let title = title.map(|title| format!("OpenBSD {} errata {:03}, {}", title.release, title.number, title.date));
        let note = [self.erratum.text.as_str(), &self.erratum.note].join("\n\n");
        Head {
            series: series.unwrap_or_default(),
            number: self.number().filter(|_| title.is_some()),
            title: title.unwrap_or_else(|| self.name.clone()),
            note: note.trim().to_owned(),
            absent: self.absent.clone(),
            release: facts.release.clone(),
            system: facts.system.clone(),
            arch: facts.machine.clone(),
            name,
            ..Head::default()
        }
    }
}

/// Puts the jobs into their place in what was `done` already (decision 1).
///
/// # Errors
/// [`ErrorKind::Refused`] for a number that was done, and for one that is missing, unless it is to be skipped or the
/// directory of the next shows that there is none.
pub fn place(jobs: &mut [Job], done: &BTreeSet<u32>, skip: &[u32]) -> Result<()> {
    let mut there = done.clone();
    for job in jobs.iter_mut() {
        let Some(number) = job.number() else { continue };
        let last = there.iter().rev().find(|there| sequence::same_range(**there, number));
        let next = last.map_or(sequence::first(number), |last| last + 1);
        if number < next {
            let reason = match done.contains(&number) {
                true => format!("number {number:03} was recorded in this chroot before"),
                false => format!("number {:03} was recorded in this chroot before: order is strict", next - 1),
            };
            let error = Error::new(ErrorKind::Refused, reason).at(bytes(&job.file));
            return Err(match job.release() {
                Some(_) => error,
                None => error.hint("if it is of another series, rename the file: a name of its own, without a number"),
            });
        }
        for missing in next..number {
            if !skip.contains(&missing)
                && let Some(file) = sibling(&job.file, missing)?
            {
                let reason = format!("number {missing:03} comes first: {}", file.display());
                let error = Error::new(ErrorKind::Refused, reason).at(bytes(&job.file));
                return Err(error.hint(format!("name it too, or leave it out with --skip {missing:03}")));
            }
            job.absent.push(missing);
        }
        there.insert(number);
    }
    Ok(())
}

/// The file of another number in the directory of `file`.
fn sibling(file: &Path, number: u32) -> Result<Option<PathBuf>> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(dir).on("open", bytes(dir))? {
        let path = entry.on("read", bytes(dir))?.path();
        if number_in(&path) == Some(number) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

impl Recording {
    /// The numbers of the errata of a release, or of those that say none, that were recorded in this chroot.
    ///
    /// # Errors
    /// As read(2).
    pub fn errata_done(&self, release: Option<&str>) -> Result<BTreeSet<u32>> {
        let prefix = release.map_or_else(String::new, |release| format!("errata-{release}-"));
        let number = |name: &String| name.strip_prefix(&prefix)?.split_once('_')?.0.parse().ok();
        Ok(self.made()?.keys().filter_map(number).collect())
    }

    /// What holds in this chroot, but for the kernel's configuration and the machine, where somebody says those.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if `job` is for another release than the chroot is of.
    pub fn facts(&self, job: &Job, kernel: Option<&str>, arch: Option<&str>) -> Result<Facts> {
        let own = self.release()?;
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        // That of another system is none that an erratum has.
        let is_number = own.contains('.');
        match job.release() {
            Some(release) if is_number && release != own => {
                let reason = format!("it is for {release}, and the chroot is {own}");
                Err(Error::new(ErrorKind::Refused, reason).at(bytes(&job.file)))
            }
            release => {
                let release = release.map_or(own, str::to_owned);
                let (system, machine) = self.system()?;
                let machine = arch.map_or(machine, str::to_owned);
                Ok(Facts { system, machine, release, kernel: kernel.map(str::to_owned), cpus })
            }
        }
    }

    /// The diff of `job` as a file that nobody else can name, for a session to read.
    ///
    /// # Errors
    /// As open(2), write(2).
    pub fn diff(&self, job: &Job) -> Result<File> {
        const NAME: &[u8] = b"diff.new";
        let (dir, shown) = (&self.chroot.state.dir, bytes(&self.chroot.state.path));
        self.chroot.state.discard("diff.new")?;
        let mut file = dir.create_file(NAME, 0o600).on("create", shown)?;
        file.write_all(&job.diff).on("write", shown)?;
        let read = dir.open_file(NAME).on("open", shown)?;
        dir.unlink(NAME).on("unlink", shown)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(dir: &Path, name: &str) -> Job {
        let file = dir.join(name);
        std::fs::write(&file, "").unwrap();
        let steps = ["make".to_owned()];
        let diff = b"--- a\n+++ a\n@@ -1 +1 @@\n-a\n+b\n";
        let erratum = errata::plain(diff, (b"/usr/src".to_vec(), 0), &steps).unwrap();
        Job { name: name.to_owned(), file, erratum, signed_by: None, absent: Vec::new(), diff: Vec::new() }
    }

    /// A line a case: what lies in the directory, what is asked for, what was done, what is skipped; absent numbers of
    /// the last, or why not.
    #[test]
    fn order_is_strict() {
        for (there, asked, done, skip, expect) in [
            (&["001_a", "002_b"][..], &["001_a", "002_b"][..], &[][..], &[][..], Ok(vec![])),
            (&["001_a"], &["002_b"], &[], &[], Err("number 001 comes first")),
            (&["001_a"], &["002_b"], &[], &[1], Ok(vec![1])),
            (&["001_a"], &["002_b"], &[1], &[], Ok(vec![])),
            // The directory shows that there is none.
            (&[], &["001_a", "003_c"], &[], &[], Ok(vec![2])),
            (&[], &["004_d"], &[1], &[], Ok(vec![2, 3])),
            (&[], &["001_a"], &[1], &[], Err("was recorded in this chroot before")),
            (&[], &["001_a"], &[2], &[], Err("order is strict")),
            (&["002_b"], &["001_a", "003_c"], &[], &[], Err("number 002 comes first")),
            (&[], &["plain"], &[3], &[], Ok(vec![])),
            // Those of one's own are counted by themselves.
            (&[], &["001_a", "901_own"], &[], &[], Ok(vec![])),
            (&[], &["900_own", "901_own"], &[7], &[], Ok(vec![])),
            (&[], &["904_own"], &[902], &[], Ok(vec![903])),
            (&[], &["003_c"], &[2, 901], &[], Ok(vec![])),
            (&["902_b"], &["903_c"], &[901], &[], Err("number 902 comes first")),
            (&[], &["901_own"], &[901], &[], Err("was recorded in this chroot before")),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let file = |name: &&str| job(temp.path(), &format!("{name}.patch.sig"));
            there.iter().for_each(|name| drop(file(name)));
            let mut jobs: Vec<Job> = asked.iter().map(file).collect();
            let placed = place(&mut jobs, &done.iter().copied().collect(), skip);
            let found = placed.map(|()| jobs.last().unwrap().absent.clone()).map_err(|error| error.to_string());
            match (&found, &expect) {
                (Ok(absent), Ok(expected)) => assert_eq!(absent, expected, "{asked:?}"),
                (Err(error), Err(why)) => assert!(error.contains(why), "{error}"),
                _ => panic!("{asked:?}: {found:?}"),
            }
        }
    }
}
