// SPDX-License-Identifier: ISC
//! The machine: may we make sessions, and may others?
#![forbid(unsafe_code)]

use super::Finding;
use crate::session;
use crate::sys;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![sessions()];
    findings.extend(user_namespaces());
    findings.extend(session::lost().map(|why| Finding::bad("user numbers", why)));
    if sys::HAS_SESSIONS {
        findings.push(limits());
    }
    findings
}

fn sessions() -> Finding {
    let what = "sessions";
    if sys::effective_uid() != 0 {
        return Finding::bad(what, "only root can enter a chroot: user namespaces are forbidden");
    }
    match sys::can_enter() {
        Ok(()) => Finding::good(what, "all that `run` needs is allowed"),
        Err(stuck) => {
            let error = crate::error::Error::io(stuck.operation, "", &stuck.error);
            let why = format!("{} fails: {}; a container or an old kernel forbids it", stuck.operation, error.reason());
            Finding::bad(what, why)
        }
    }
}

/// What holds the limits of sessions. A host without control groups of version 2 is a host like others.
fn limits() -> Finding {
    let missing = session::missing_controllers();
    let why = match missing.as_slice() {
        [] => "held by control groups".to_owned(),
        missing => format!("no control group for {}: held for each process alone, or refused", missing.join(", ")),
    };
    Finding::good("limits of sessions", why)
}

/// Settings that keep ordinary users from making namespaces. Root needs none of them.
fn user_namespaces() -> Option<Finding> {
    let what = "user namespaces";
    match session::forbidding() {
        None if sys::USER_NAMESPACE_SETTINGS.is_empty() => None,
        None => Some(Finding::good(what, "ordinary users may make them")),
        Some((path, value, allow)) => {
            let why = format!("ordinary users may make none: {path} is {value}; root needs none");
            Some(Finding { ok: sys::effective_uid() == 0, ..Finding::bad(what, why).mend(*allow) })
        }
    }
}
