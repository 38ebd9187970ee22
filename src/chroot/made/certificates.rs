// SPDX-License-Identifier: ISC
//! The bundle of certificate authorities and the links in `/etc/ssl/certs`, as update-ca-certificates(8) makes them,
//! from the packages' own certificates. Those that the host's administrator added stay on the host.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use super::{Input, Output};
use crate::error::Result;
use crate::path::TreePath;

const SHIPPED: &str = "usr/share/ca-certificates";
const LOCAL: &str = "usr/local/share/ca-certificates";
const CONFIGURATION: &str = "etc/ca-certificates.conf";
const CERTS: &str = "etc/ssl/certs";

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let shipped = |name: &str| input.find(format!("{SHIPPED}/{name}").as_bytes()).is_some();
    let mut configuration = String::new();
    for line in input.text(CONFIGURATION)?.lines() {
        if line.starts_with('#') || line.is_empty() || shipped(line.trim_start_matches('!')) {
            configuration.push_str(line);
            configuration.push('\n');
        }
    }
    let (mut bundle, mut names) = (Vec::new(), HashSet::new());
    for line in configuration.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
        let path = format!("{SHIPPED}/{line}");
        bundle.extend(input.read(&path)?.unwrap_or_default());
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        let name = link_name(line);
        output.link(format!("{CERTS}/{name}"), format!("/{path}"))?;
        names.insert(name.into_bytes());
    }
    hashes(input, output, &names)?;
    output.file(CONFIGURATION, 0o644, configuration)?;
    output.file(format!("{CERTS}/ca-certificates.crt"), 0o644, bundle)?;
    for local in input.host.list(&TreePath::new(LOCAL.as_bytes())?)? {
        let path = TreePath::new(LOCAL.as_bytes())?.join(&local)?;
        output.note(format!("{path}: a certificate authority of the host's administrator, not taken"));
    }
    Ok(())
}

/// The link to a certificate is named after its file, with characters that scripts dislike replaced.
fn link_name(certificate: &str) -> String {
    let name = certificate.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".crt").unwrap_or(name);
    let replace = |c| match c {
        ' ' | ',' => '_',
        '(' | ')' => '=',
        c => c,
    };
    name.chars().map(replace).collect::<String>() + ".pem"
}

/// OpenSSL finds a certificate by a hash of its subject, `HASH.N`. The host has those links already: they are taken
/// for the certificates in `names`, numbered without gaps.
fn hashes(input: &Input<'_>, output: &mut Output, names: &HashSet<Vec<u8>>) -> Result<()> {
    let certs = TreePath::new(CERTS.as_bytes())?;
    let mut found = BTreeMap::new();
    for name in input.host.list(&certs)? {
        if let Some((hash, number)) = hash_and_number(&name)
            && let Some(at) = input.host.place(&certs.join(&name)?)?
            && let Ok(target) = input.host.read_link(&at)
            && names.contains(&*target)
        {
            found.insert((hash.to_vec(), number), target);
        }
    }
    let (mut last, mut number) = (Vec::new(), 0);
    for ((hash, _), target) in found {
        number = if hash == last { number + 1 } else { 0 };
        output.link([CERTS.as_bytes(), b"/", &hash, format!(".{number}").as_bytes()].concat(), target)?;
        last = hash;
    }
    Ok(())
}

fn hash_and_number(name: &[u8]) -> Option<(&[u8], u32)> {
    let (hash, number) = (name.get(..8)?, name.get(8..)?.strip_prefix(b".")?);
    let hex = hash.iter().all(u8::is_ascii_hexdigit);
    hex.then(|| Some((hash, std::str::from_utf8(number).ok()?.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(link_name("mozilla/A, (b) c.crt"), "A__=b=_c.pem");
        assert_eq!(hash_and_number(b"002c0b4f.12"), Some((&b"002c0b4f"[..], 12)));
        for name in [&b"002c0b4f"[..], b"002c0b4g.0", b"002c0b4f.r0", b"x.0", b""] {
            assert_eq!(hash_and_number(name), None);
        }
    }
}
