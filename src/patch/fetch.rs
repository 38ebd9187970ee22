// SPDX-License-Identifier: ISC
//! Files from elsewhere: [`fetch`] asks a child process for one, [`child`] is what that runs. The child gives up root
//! before it says a word to the network, and hands over nothing but bytes; how many and how long is for the caller to
//! say.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys;
use crate::watch::Watch;

/// Who the child is, the first of these that exists.
const ACCOUNTS: [&str; 2] = ["_stockade", "nobody"];
/// What it may take: to begin with, and for each mebibyte.
const SECONDS: (u64, u64) = (60, 60);
/// Without any byte for so long it gives up.
const STALLED: Duration = Duration::from_secs(30);
/// Bytes of what it has to say.
const MAX_MESSAGE: u64 = 4096;
/// What it is told of our environment.
const ENVIRONMENT: [&str; 8] =
    ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// Is it something that a child has to fetch, and no path?
pub fn is_url(from: &str) -> bool {
    from.starts_with("http://") || from.starts_with("https://")
}

/// Writes what is at `url` to `to`, if it has at most `limit` bytes.
///
/// # Errors
/// [`ErrorKind::Io`] with what the child says; [`ErrorKind::BadInput`] for a longer file; as write(2).
pub fn fetch(url: &str, limit: u64, to: &mut dyn Write, watch: &Watch) -> Result<()> {
    let seconds = SECONDS.0 + SECONDS.1 * (limit >> 20);
    let me = std::env::current_exe().on("readlink", "/proc/self/exe")?;
    let mut command = Command::new(me);
    command.args(["fetch", url, &seconds.to_string()]).env_clear().current_dir("/");
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().on("spawn", url)?;
    let (body, messages) = (child.stdout.take(), child.stderr.take());
    let (done, until) = mpsc::channel::<()>();
    let (copied, said, status) = std::thread::scope(|scope| {
        // Whatever it does with its time, it has an end.
        let warden = scope.spawn(move || {
            let late = until.recv_timeout(Duration::from_secs(seconds)) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                child.kill()?;
            }
            child.wait().map(|status| (status, late))
        });
        let reader = scope.spawn(move || {
            let mut said = Vec::new();
            let _ = messages.map(|from| from.take(MAX_MESSAGE).read_to_end(&mut said));
            said
        });
        // The pipe is closed when this is done: a child that has more to say ends by that.
        let copied = body.map_or(Ok(0), |mut body| copy(&mut body, to, limit, watch));
        let said = reader.join().unwrap_or_default();
        drop(done);
        (copied, said, warden.join())
    });
    let status = status.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).on("wait", url)?;
    let failed = match copied? {
        size if size > limit => {
            Error::new(ErrorKind::BadInput, format!("it is longer than the {limit} bytes that it may have"))
        }
        _ if status.0.success() => return Ok(()),
        _ if status.1 => Error::new(ErrorKind::Io, format!("it took longer than {seconds} seconds")),
        _ => {
            // The child speaks as any command does.
            let said = said.trim_ascii();
            let said = escape(said.strip_prefix(b"stockade: fetch: ").unwrap_or(said));
            Error::new(ErrorKind::Io, format!("fetching failed: {said}"))
                .hint("try it with another program: curl -O URL")
        }
    };
    Err(failed.at(url))
}

/// Copies at most a byte more than `limit`.
fn copy(from: &mut dyn Read, to: &mut dyn Write, limit: u64, watch: &Watch) -> Result<u64> {
    let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
    while size <= limit {
        let length = from.read(&mut buffer).on("read", "pipe")?;
        if length == 0 {
            break;
        }
        size += length as u64;
        if size <= limit {
            to.write_all(&buffer[..length]).on("write", "patch")?;
        }
        watch.count(0, length as u64)?;
    }
    Ok(size)
}

/// What the child does: gives up root, then writes what is at `url` to `to`.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is nobody to be; whatever the network says.
pub fn child(url: &str, seconds: u64, to: &mut dyn Write) -> Result<()> {
    // In a user namespace root is somebody ordinary already, and there may be nobody else.
    if sys::effective_uid() == 0 && sys::id_map().on("read", "/proc/self/uid_map")?.is_everything() {
        let (uid, gid) = account()?;
        sys::become_nobody(uid, gid).on("setresuid", b"")?;
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(seconds)))
        .timeout_connect(Some(STALLED))
        .timeout_recv_response(Some(STALLED))
        .max_redirects(5)
        .user_agent(concat!("stockade/", env!("CARGO_PKG_VERSION")));
    let agent: ureq::Agent = config.build().into();
    let network = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Io, error.to_string());
    let response = agent.get(url).call().map_err(|error| network(&error))?;
    let mut body = response.into_body().into_reader();
    io::copy(&mut body, to).map_err(|error| network(&error))?;
    to.flush().on("write", b"")
}

/// Number and group of the account to be.
fn account() -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").on("read", "/etc/passwd")?;
    let find = |account: &str| {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let own = *fields.first()? == account;
            own.then_some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
    };
    let found = ACCOUNTS.into_iter().find_map(find).filter(|(uid, _)| *uid != 0);
    found.ok_or_else(|| {
        let error = Error::new(ErrorKind::NotFound, "there is no account to fetch as").at("/etc/passwd");
        error.hint("add the user _stockade")
    })
}
