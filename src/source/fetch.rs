// SPDX-License-Identifier: ISC
//! Files from elsewhere: [`fetch`] asks a child process for one, [`child`] is what that runs. The child gives up root
//! before it says a word to the network, and hands over nothing but bytes; how many and how long is for the caller to
//! say.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ureq::tls::{PemItem, RootCerts, TlsConfig};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::path::escape;
use crate::sys;
use crate::watch::Watch;

/// Who the child is, the first of these that exists.
const ACCOUNTS: [&str; 2] = ["_stockade", "nobody"];
/// What it may take: to begin with, and for each mebibyte.
const SECONDS: (u64, u64) = (60, 60);
/// A server that does not answer for so long is none.
const STALLED: Duration = Duration::from_secs(30);
/// Without any byte for so long the child is ended: it has had time to connect, and to be answered.
const IDLE: Duration = Duration::from_secs(90);
/// Bytes of what it has to say.
const MAX_MESSAGE: u64 = 4096;
/// What it is told of our environment.
const ENVIRONMENT: [&str; 8] =
    ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// The file of trusted certificates, as OpenSSL calls it; curl's own name for it counts, too.
const TRUST: &str = "SSL_CERT_FILE";

/// Is it something that a child has to fetch, and no path?
pub fn is_url(from: &str) -> bool {
    from.starts_with("http://") || from.starts_with("https://")
}

/// Writes those bytes of what is at `url` to `to`, to its end.
///
/// # Errors
/// [`ErrorKind::Io`] with what the child says; [`ErrorKind::BadInput`] for a longer file; as write(2).
pub fn fetch(url: &str, range: Range<u64>, to: &mut dyn Write, watch: &Watch) -> Result<()> {
    let limit = range.end.saturating_sub(range.start);
    let seconds = SECONDS.0 + SECONDS.1 * (limit >> 20);
    let me = sys::own_program().on("readlink", "/proc/self/exe")?;
    let mut command = Command::new(me);
    command.args(["fetch", url, &seconds.to_string(), &range.start.to_string()]).env_clear().current_dir("/");
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if let Some(file) = trusted() {
        command.env(TRUST, std::path::absolute(file).on("stat", TRUST)?);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().on("spawn", url)?;
    let (body, messages) = (child.stdout.take(), child.stderr.take());
    let (done, until) = mpsc::channel::<()>();
    let came = AtomicU64::new(0);
    let (copied, said, status) = std::thread::scope(|scope| {
        let came = &came;
        // Whatever it does with its time, it has an end.
        let warden = scope.spawn(move || {
            let late = is_late(&until, seconds, came);
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
        let copied = body.map_or(Ok(0), |mut body| copy(&mut body, (to, came), limit, watch));
        let said = reader.join().unwrap_or_default();
        drop(done);
        (copied, said, warden.join())
    });
    let status = status.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).on("wait", url)?;
    let failed = match copied? {
        size if size > limit => {
            let most = range.end;
            Error::new(ErrorKind::BadInput, format!("it is longer than the {most} bytes that it may have"))
        }
        _ if status.0.success() => return Ok(()),
        _ if status.1 => Error::new(ErrorKind::Io, "it took too long, or nothing more came")
            .hint("try again later: what came of a patch is kept, and the next try goes on from there"),
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

/// Waits for the end of it, of its time, or of what `came` so far. Was it not the first?
fn is_late(until: &mpsc::Receiver<()>, seconds: u64, came: &AtomicU64) -> bool {
    let (began, mut before) = (Instant::now(), 0);
    while until.recv_timeout(IDLE) == Err(mpsc::RecvTimeoutError::Timeout) {
        let now = came.load(Ordering::Relaxed);
        if now == before || began.elapsed() > Duration::from_secs(seconds) {
            return true;
        }
        before = now;
    }
    false
}

/// Copies at most a byte more than `limit`, and counts in `came`.
fn copy(from: &mut dyn Read, (to, came): (&mut dyn Write, &AtomicU64), limit: u64, watch: &Watch) -> Result<u64> {
    let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
    while size <= limit {
        let length = from.read(&mut buffer).on("read", "pipe")?;
        if length == 0 {
            break;
        }
        size += length as u64;
        came.store(size, Ordering::Relaxed);
        if size <= limit {
            to.write_all(&buffer[..length]).on("write", "patch")?;
        }
        watch.count(0, length as u64)?;
    }
    Ok(size)
}

/// The file with the certificates that the user trusts instead of those that are built in.
fn trusted() -> Option<OsString> {
    ["CURL_CA_BUNDLE", TRUST].into_iter().filter_map(std::env::var_os).find(|file| !file.is_empty())
}

/// What the child does: gives up root, then writes what is at `url`, but for the first `start` bytes, to `to`.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is nobody to be; [`ErrorKind::BadInput`] for certificates that are none; whatever
/// the network says.
pub fn child(url: &str, (seconds, start): (u64, u64), to: &mut dyn Write) -> Result<()> {
    // Nobody may not read what only root may.
    let bundle =
        trusted().map(|file| fs::read(&file).on("read", file.as_bytes()).map(|text| (file, text))).transpose()?;
    // In a user namespace root is somebody ordinary already, and there may be nobody else.
    if sys::effective_uid() == 0 && sys::id_map().on("read", "/proc/self/uid_map")?.is_everything() {
        let (uid, gid) = account()?;
        sys::become_nobody(uid, gid).on("setresuid", b"")?;
    }
    let mut tls = TlsConfig::builder();
    if let Some((file, text)) = bundle {
        tls = tls.root_certs(certificates(&text).map_err(|error| error.at(file.as_bytes()))?);
    }
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(seconds)))
        .timeout_connect(Some(STALLED))
        .timeout_recv_response(Some(STALLED))
        .timeout_per_read(Some(STALLED))
        .max_redirects(5)
        .user_agent(concat!("stockade/", env!("CARGO_PKG_VERSION")));
    let agent: ureq::Agent = config.build().into();
    let network = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Io, error.to_string());
    let ask = |start: u64| {
        let request = agent.get(url);
        let request = if start > 0 { request.header("Range", format!("bytes={start}-")) } else { request };
        request.call().map_err(|error| network(&error))
    };
    let mut response = ask(start)?;
    if start > 0 && ![200, 206, 416].contains(&response.status().as_u16()) {
        // Some servers answer to the mere question for a part with an error.
        response = ask(0)?;
    }
    let (status, said) = (response.status().as_u16(), response.status());
    let mut body = response.into_body().into_reader();
    match status {
        // All of it, whatever was asked for.
        200 => drop(io::copy(&mut body.by_ref().take(start), &mut io::sink()).map_err(|error| network(&error))?),
        206 if start > 0 => {}
        // There is no more: what there is already, its digest tells.
        416 if start > 0 => return Ok(()),
        _ => return Err(network(&format!("http status: {said}"))),
    }
    io::copy(&mut body, to).map_err(|error| network(&error))?;
    to.flush().on("write", b"")
}

/// The certificates in a file of PEM.
fn certificates(text: &[u8]) -> Result<RootCerts> {
    let all = ureq::tls::parse_pem(text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(Error::new(ErrorKind::BadInput, format!("a malformed certificate: {error}")))),
    });
    let all: Vec<_> = all.collect::<Result<_>>()?;
    match all.as_slice() {
        [] => Err(Error::new(ErrorKind::BadInput, "it holds no certificate").hint("they are text in PEM")),
        _ => Ok(RootCerts::new_with_certs(&all)),
    }
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
