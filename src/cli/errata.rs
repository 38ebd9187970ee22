// SPDX-License-Identifier: ISC
//! `stockade errata`: source patches, built inside, as binary patches.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::chroot::Home;
use crate::chroot::record::errata::{self, Job, Plain};
use crate::chroot::record::{Recorded, Recording};
use crate::cli::args::Errata;
use crate::cli::out::{self, Out, shown};
use crate::cli::patch::make::Draft;
use crate::cli::progress::watched;
use crate::cli::record::{Make, end, request, told};
use crate::cli::{Exit, json, options};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::patch::check_name;
use crate::patch::errata::steps::{Facts, Step};
use crate::path::{TreePath, escape};
use crate::recipe::Recipe;
use crate::session::{Command, Options, Status};
use crate::sys::Stdin;

/// Why an erratum of the kernel brought nothing, and what does.
const KERNEL: &str = "a kernel was installed, and is not recorded: where there are objects below usr/share/relink/kernel, it \
    is linked anew out of them at each boot. To bring the kernel as a file, write keep = [\"bsd\"] under [record] of the \
    chroot's recipe, or remove that directory; to bring its objects, record what installs them with: stockade record";

pub(super) fn run(args: &Errata, out: &mut Out) -> Result<Exit> {
    let plain = args.into.as_deref().map(|into| plain(into, args)).transpose()?;
    let asked = errata::Request {
        files: args.files.clone(),
        keys: args.key.clone(),
        unsigned: args.any,
        plain,
        skip: args.skip.clone(),
    };
    let mut jobs = errata::read(&asked)?;
    if args.dry_run {
        let system = errata::system_of(&Home::from_env()?, args.root.as_os_str(), !args.common.lock.no_wait)?;
        return jobs.iter().try_for_each(|job| show(job, &system, args, out)).map(|()| Exit::Done);
    }
    let draft = args.common.make.begin()?;
    if jobs.len() > 1 && !(draft.head.name.is_empty() && draft.head.number.is_none()) {
        let error = Error::new(ErrorKind::Usage, "several patches cannot have one name, number or file");
        return Err(error.hint("do them one by one, or name a directory with --output"));
    }
    let home = Home::from_env()?;
    let mut exit = Exit::Done;
    for at in 0..jobs.len() {
        let request = request(args.root.clone().into_os_string(), false, &args.common);
        let recording = watched(out.json, |watch| Recording::begin(&home, &request, watch))?;
        let done = (|| {
            if at == 0 {
                let done = recording.errata_done(jobs[0].release())?;
                errata::place(&mut jobs, &done, &args.skip)?;
                // What the steps ask for and nobody said is missed before the first of many is built.
                for job in &jobs {
                    job.steps(&recording.facts(job, args.kernel.as_deref(), args.common.make.arch())?)?;
                }
            }
            one(&recording, &jobs[at], (args, &draft), out)
        })();
        let done = done.map_err(|error| told(error, &recording));
        end(recording);
        match done? {
            Ok(Exit::Done) => {}
            Ok(other) => exit = other,
            // The very last: after Ctrl-C this process dies of it.
            Err(status) => return Ok(Exit::Command(status.finish())),
        }
    }
    Ok(exit)
}

/// How bare diffs are taken.
fn plain(into: &str, args: &Errata) -> Result<Plain> {
    let into = format!("/{}", String::from_utf8_lossy(TreePath::lenient(into.as_bytes())?.as_bytes()));
    Ok(Plain { into, strip: args.strip, steps: args.step.clone() })
}

/// Builds and records one; or how a step of it ended that did not succeed.
fn one(
    recording: &Recording,
    job: &Job,
    (args, draft): (&Errata, &Draft),
    out: &mut Out,
) -> Result<Result<Exit, Status>> {
    let chroot = &recording.chroot;
    let recipe = chroot.recipe()?;
    let options = options::options(&args.common.session, &recipe, || chroot.homes())?;
    let facts = recording.facts(job, args.kernel.as_deref(), args.common.make.arch())?;
    let steps = job.steps(&facts)?;
    let own = job.head(&facts);
    let hint = |error: Error| error.hint("rename the file, or give the patch another name with --name");
    let name = draft.head_over(own.clone()).name;
    check_name(&name).map_err(hint)?;
    recording.refuse_output(&draft.file(&name), draft.delta)?;
    let diff = recording.diff(job)?;
    let apply = job.apply();
    let applied = {
        let _stdin = Stdin::replace(&diff).on("dup", "standard input")?;
        step(recording, &apply, (&recipe, &options), args)?
    };
    let mut ended = failed(&apply, applied, job, out)?;
    for next in &steps {
        if ended.is_none() {
            ended = failed(next, step(recording, next, (&recipe, &options), args)?, job, out)?;
        }
    }
    if let Some(status) = ended {
        return Ok(Err(status));
    }
    let (recorded, file) = watched(out.json, |watch| {
        let recorded = recording.look(args.common.allow_unmet, watch)?;
        let file = match recorded.is_empty() {
            true => recording.keep(&recorded, &own.name, watch).map(|()| None)?,
            false => Some(Make { draft, own, discard: false }.patch(recording, &recorded, watch)?),
        };
        Ok((recorded, file))
    })?;
    tell(job, &recorded, file.as_deref(), out)?;
    Ok(Ok(if recorded.is_empty() { Exit::Differs } else { Exit::Done }))
}

fn step(recording: &Recording, step: &Step, (recipe, options): (&Recipe, &Options), args: &Errata) -> Result<Status> {
    let words: Vec<_> = step.argv.iter().map(Into::into).collect();
    let command = options::command(&words, None, &args.common.session, recipe)?;
    let command = Command { dir: Some(step.dir.clone().into_bytes()), ..command };
    let outcome = recording.session(&command, options).and_then(|session| recording.run(session, options));
    // That it was a step of an erratum is worth more than what `run` would advise.
    let told = |error: Error| match error.operation() {
        Some("chdir") => Error::new(ErrorKind::NotFound, format!("the chroot has no directory {}", step.dir))
            .hint("errata need the sources of the release in the chroot, below /usr/src"),
        _ => error,
    };
    Ok(outcome.map_err(told)?.status)
}

/// A step that failed ends it all.
fn failed(step: &Step, status: Status, job: &Job, out: &Out) -> Result<Option<Status>> {
    match status {
        Status::Exited(0) => Ok(None),
        Status::NotRun(error) if error.kind() == ErrorKind::NotFound => {
            let program = &step.argv[0];
            let reason = format!("the chroot has no {program}");
            let hint = format!("install it there, or build it in: stockade build ROOT --package {program}");
            Err(Error::new(ErrorKind::NotFound, reason).at(job.name.as_bytes()).hint(hint))
        }
        Status::NotRun(error) => Err(error),
        Status::Interrupted => Ok(Some(Status::Interrupted)),
        status => {
            out::note("errata", &format!("{}: it failed with status {}: {step}", job.name, status.code()), out.json);
            Ok(Some(status))
        }
    }
}

fn tell(job: &Job, recorded: &Recorded, file: Option<&std::path::Path>, out: &mut Out) -> Result<()> {
    let stats = recorded.plan.stats();
    if out.json {
        return out.value(&json!({
            "erratum": job.name,
            "patch": file.map(json::host_path),
            "added": stats.added,
            "removed": stats.removed,
            "changed": stats.modified,
            "changes": json::plan(&recorded.plan),
            "note": (file.is_none() && recorded.has_kernel()).then_some(KERNEL),
        }));
    }
    let Some(file) = file else {
        out.line(format_args!("{}: nothing was installed that a patch could bring", job.name))?;
        return if recorded.has_kernel() { out.line(format_args!("note: {KERNEL}")) } else { Ok(()) };
    };
    out.plan(&super::record::told_of(&recorded.plan))?;
    let made = shown(file);
    out.line(format_args!("{made}: made: {} added, {} removed, {} changed", stats.added, stats.removed, stats.modified))
}

/// What would be done.
fn show(job: &Job, (system, machine): &(String, String), args: &Errata, out: &mut Out) -> Result<()> {
    let facts = Facts {
        system: system.clone(),
        machine: args.common.make.arch().unwrap_or(machine).to_owned(),
        release: job.release().unwrap_or_default().to_owned(),
        // Nobody has to know it to read what would be done.
        kernel: args.kernel.clone().or_else(|| Some("KERNEL".to_owned())),
        cpus: 1,
    };
    let steps: Vec<Step> = [vec![job.apply()], job.steps(&facts)?].concat();
    let erratum = &job.erratum;
    if out.json {
        let step = |step: &Step| json!({ "dir": step.dir, "argv": step.argv });
        let title = |title: &crate::patch::errata::Title| json!({ "release": title.release, "number": title.number, "date": title.date });
        return out.value(&json!({
            "file": json::host_path(&job.file),
            "signed_by": job.signed_by,
            "title": erratum.title.as_ref().map(title),
            "text": erratum.text,
            "note": erratum.note,
            "files": erratum.files.iter().map(|path| json::path(path.as_bytes())).collect::<Value>(),
            "steps": steps.iter().map(step).collect::<Value>(),
        }));
    }
    out.line(format_args!("{}", shown(&job.file)))?;
    if let Some(title) = &erratum.title {
        out.line(format_args!(
            "OpenBSD {} errata {:03}, {}",
            title.release,
            title.number,
            escape(title.date.as_bytes())
        ))?;
    }
    out.line(format_args!("signed by {}", job.signed_by.as_deref().unwrap_or("nobody asked")))?;
    for line in erratum.text.lines() {
        out.line(format_args!("    {}", escape(line.as_bytes())))?;
    }
    let names: PathBuf = String::from_utf8_lossy(&erratum.place.0).into_owned().into();
    for path in &erratum.files {
        out.line(format_args!("changes {}/{path}", names.display()))?;
    }
    for step in steps {
        out.line(format_args!("does {}", escape(step.to_string().as_bytes())))?;
    }
    erratum.note.lines().try_for_each(|line| out.line(format_args!("note: {}", escape(line.as_bytes()))))
}
