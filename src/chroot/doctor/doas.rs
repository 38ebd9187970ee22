// SPDX-License-Identifier: ISC
//! doas.conf(5): who may run this program as root, and what that amounts to (decision 32).
#![forbid(unsafe_code)]

use super::Finding;

const FILE: &str = "/etc/doas.conf";
/// Words of a rule that are no account.
const OPTIONS: [&str; 4] = ["nopass", "nolog", "persist", "keepenv"];

/// What the host's rules say of this program; the narrowest rule lets somebody into `chroot`. Nothing where there is no doas.
pub(super) fn findings(chroot: &str) -> Vec<Finding> {
    std::fs::read_to_string(FILE).map_or_else(|_| Vec::new(), |text| judge(&text, chroot))
}

fn judge(text: &str, chroot: &str) -> Vec<Finding> {
    let narrow = |who: &str| {
        let user = who.strip_prefix(':').map_or(who, |_| "USER");
        format!("permit nopass {user} cmd /usr/local/bin/stockade args run -u {user} {chroot}")
    };
    let found: Vec<Finding> = text.replace("\\\n", " ").lines().filter_map(|line| bare(line, &narrow)).collect();
    match found.is_empty() {
        true => vec![Finding::good(FILE, format!("the narrowest rule for a shell inside: {}", narrow("USER")))],
        false => found,
    }
}

/// A rule that lets somebody run any verb.
fn bare(line: &str, narrow: &dyn Fn(&str) -> String) -> Option<Finding> {
    let rule = line.split('#').next().unwrap_or_default().trim();
    let mut words = rule.split_ascii_whitespace();
    if words.next() != Some("permit") {
        return None;
    }
    let mut braces = 0;
    let who = words.by_ref().find(|word| {
        let within = braces > 0 || word.starts_with("setenv") || word.starts_with('{');
        braces += word.matches('{').count();
        braces -= word.matches('}').count().min(braces);
        !within && !OPTIONS.contains(word)
    })?;
    let rest: Vec<&str> = words.collect();
    let command = rest.iter().position(|word| *word == "cmd").and_then(|at| rest.get(at + 1))?;
    let names_it = command.rsplit('/').next() == Some("stockade");
    if !names_it || rest.contains(&"args") {
        return None;
    }
    let why = format!("`{rule}` makes {who} root: whoever may build a chroot of anything may do anything");
    Some(Finding::bad(FILE, why).mend(format!("put in its place: {}", narrow(who))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let narrowest =
            "the narrowest rule for a shell inside: permit nopass USER cmd /usr/local/bin/stockade args run -u USER b0";
        for (text, want) in [
            ("", narrowest),
            ("permit persist :wheel\npermit nopass keepenv root\n", narrowest),
            ("# permit ann cmd stockade\ndeny ann cmd stockade", narrowest),
            ("permit nopass ann cmd /usr/local/bin/stockade args run -u ann b0", narrowest),
            (
                "permit nopass ann cmd stockade",
                "`permit nopass ann cmd stockade` makes ann root: whoever may build a chroot of anything may do anything; \
                put in its place: permit nopass ann cmd /usr/local/bin/stockade args run -u ann b0",
            ),
            (
                "permit setenv { A B=c } nopass \\\n :build as root cmd /usr/local/bin/stockade # x",
                "`permit setenv { A B=c } nopass   :build as root cmd /usr/local/bin/stockade` makes :build root: whoever may \
                build a chroot of anything may do anything; put in its place: permit nopass USER cmd \
                /usr/local/bin/stockade args run -u USER b0",
            ),
        ] {
            let said: Vec<String> = judge(text, "b0")
                .into_iter()
                .map(|f| [Some(f.why), f.mend].into_iter().flatten().collect::<Vec<_>>().join("; "))
                .collect();
            assert_eq!(said, [want], "{text}");
        }
    }
}
