// SPDX-License-Identifier: ISC
//! The machine: may we make sessions, and may others?
#![forbid(unsafe_code)]

use super::Finding;
use crate::sys;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![sessions()];
    findings.extend(user_namespaces());
    findings
}

fn sessions() -> Finding {
    let what = "sessions";
    if sys::effective_uid() != 0 {
        return Finding::bad(what, "only root can enter a chroot").mend("sudo stockade doctor");
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

/// Settings that keep ordinary users from making namespaces. Root needs none of them.
fn user_namespaces() -> Option<Finding> {
    let what = "user namespaces";
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let forbidding = |(path, value, _): &&(&str, &str, &str)| read(path).is_some_and(|v| v.trim() == *value);
    match sys::USER_NAMESPACE_SETTINGS.iter().find(forbidding) {
        None if sys::USER_NAMESPACE_SETTINGS.is_empty() => None,
        None => Some(Finding::good(what, "ordinary users may make them")),
        Some((path, value, allow)) => {
            let why = format!("ordinary users may make none: {path} is {value}; root needs none");
            Some(Finding { ok: sys::effective_uid() == 0, ..Finding::bad(what, why).mend(*allow) })
        }
    }
}
