// SPDX-License-Identifier: ISC
//! Directories that systemd makes for a service at each boot: the lines `d` and `D` of tmpfiles.d(5).
#![forbid(unsafe_code)]

use crate::path::TreePath;

/// A directory of a service that has it for itself while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    /// Where.
    pub path: TreePath,
    /// Its mode.
    pub mode: u16,
    /// Name or number of its owner.
    pub user: String,
    /// Name or number of its group.
    pub group: String,
}

/// Where they are; elsewhere directories are packages' and the administrator's.
const PLACES: [&str; 4] = ["/run/", "/var/run/", "/var/log/", "/var/lib/"];

/// The directories that this file has made. What is no such line is passed over.
pub fn directories(text: &str) -> Vec<Temporary> {
    text.lines().filter_map(directory).collect()
}

fn directory(line: &str) -> Option<Temporary> {
    let mut words = line.split_whitespace().map(|word| if word == "-" { "" } else { word });
    let kind = words.next()?;
    let plain = |word: &str| !word.contains(['%', '"', '\\', '*']);
    let path = words.next().filter(|path| plain(path) && PLACES.iter().any(|place| path.starts_with(place)))?;
    if !kind.starts_with(['d', 'D']) {
        return None;
    }
    // Where /var/run leads.
    let path = TreePath::lenient(path.replacen("/var/run/", "/run/", 1).as_bytes()).ok()?;
    let mode = words.next().unwrap_or_default().trim_start_matches([':', '~']);
    let mode = if mode.is_empty() { 0o755 } else { u16::from_str_radix(mode, 8).ok()? & 0o7777 };
    let mut owner = || {
        let name = words.next().unwrap_or_default().trim_start_matches(':');
        if name.is_empty() { "root" } else { name }.to_owned()
    };
    Some(Temporary { path, mode, user: owner(), group: owner() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, want) in [
            ("d /run/php 0755 www-data www-data - -", Some("run/php 755 www-data www-data")),
            ("    D!  /var/run/x  -  -  - -", Some("run/x 755 root root")),
            ("d /run/p :2775 :postgres 12", Some("run/p 2775 postgres 12")),
            ("d /var/log/p", Some("var/log/p 755 root root")),
            ("d /run/../etc 0777", None),
            ("d /run/%i 0755", None),
            ("d /etc/x 0755", None),
            ("d /run/x 9999", None),
            ("f /run/x 0644", None),
            ("# d /run/x", None),
            ("d", None),
            ("", None),
        ] {
            let shown = |it: &Temporary| format!("{} {:o} {} {}", it.path, it.mode, it.user, it.group);
            assert_eq!(directories(line).first().map(shown).as_deref(), want, "{line:?}");
        }
    }
}
