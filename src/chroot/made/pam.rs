// SPDX-License-Identifier: ISC
//! The common PAM stacks, `/etc/pam.d/common-*`, as pam-auth-update(8) makes them from the chosen packages' profiles
//! with their defaults, and its state in `/var/lib/pam`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt::Write as _;

use super::{Input, Output};
use crate::error::Result;

/// The stacks: name of the file, field of the profiles.
const STACKS: [(&str, &str); 5] = [
    ("auth", "Auth"),
    ("account", "Account"),
    ("password", "Password"),
    ("session", "Session"),
    ("session-noninteractive", "Session"),
];
const PRIMARY: &str = "# here are the per-package modules (the \"Primary\" block)";
const FALLBACK: &str = "# here's the fallback if no module succeeds";
const ADDITIONAL: &str = "# and here are more per-package modules (the \"Additional\" block)";
const END: &str = "# end of pam-auth-update config";

/// A profile of a package: its fields, with the lines of a module list separated by newlines.
struct Profile {
    name: String,
    fields: HashMap<String, String>,
}

impl Profile {
    fn parse(name: &str, text: &str) -> Profile {
        let (mut fields, mut last): (HashMap<String, String>, _) = (HashMap::new(), String::new());
        for line in text.lines() {
            match line.split_once(':').filter(|(field, _)| !field.contains(char::is_whitespace)) {
                Some((field, value)) => {
                    field.trim_end_matches("-Final").clone_into(&mut last);
                    fields.insert(last.clone(), value.trim().to_owned());
                }
                None if line.trim().is_empty() => {}
                None => {
                    let value = fields.entry(last.clone()).or_default();
                    if !value.is_empty() {
                        value.push('\n');
                    }
                    value.push_str(line.trim());
                }
            }
        }
        Profile { name: name.to_owned(), fields }
    }

    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn priority(&self) -> i64 {
        self.get("Priority").parse().unwrap_or(0)
    }

    /// Is it in the stack's block?
    fn is_in(&self, (stack, field): (&str, &str), block: &str) -> bool {
        let interactive = self.fields.contains_key("Session-Interactive-Only") && stack == "session-noninteractive";
        !interactive && self.get(&format!("{field}-Type")) == block
    }

    /// Its modules; the first of a block may differ.
    fn modules(&self, field: &str, first: bool) -> &str {
        let initial = self.get(&format!("{field}-Initial"));
        if first && !initial.is_empty() { initial } else { self.get(field) }
    }
}

pub(super) fn make(input: &Input<'_>, output: &mut Output) -> Result<()> {
    let mut profiles = Vec::new();
    for path in input.wanted_below("usr/share/pam-configs")? {
        let name = path.rsplit('/').next().unwrap_or_default();
        profiles.push(Profile::parse(name, &input.text(&path)?));
    }
    profiles.sort_by(|a, b| (b.priority(), &b.name).cmp(&(a.priority(), &a.name)));
    let seen: String = profiles.iter().map(|profile| profile.name.clone() + "\n").collect();
    profiles.retain(|profile| profile.get("Default") == "yes");
    for stack in STACKS {
        let template = input.text(&format!("usr/share/pam/common-{}", stack.0))?;
        if template.is_empty() {
            continue;
        }
        output.file(format!("etc/pam.d/common-{}", stack.0), 0o644, fill(&template, stack, &profiles))?;
        output.file(format!("var/lib/pam/{}", stack.0), 0o644, state(stack, &profiles))?;
    }
    output.file("var/lib/pam/seen", 0o644, seen)
}

/// Puts the profiles' modules into both blocks of the template.
fn fill(template: &str, stack: (&str, &str), profiles: &[Profile]) -> String {
    let (mut text, mut inside) = (String::new(), false);
    for line in template.lines() {
        inside &= line != FALLBACK && line != END;
        if !inside {
            text.push_str(line);
            text.push('\n');
        }
        if line == PRIMARY || line == ADDITIONAL {
            inside = true;
            block(&mut text, stack, profiles, line == PRIMARY);
        }
    }
    text
}

fn block(text: &mut String, stack: (&str, &str), profiles: &[Profile], primary: bool) {
    let kind = stack.0.trim_end_matches("-noninteractive");
    let members = profiles.iter().filter(|p| p.is_in(stack, if primary { "Primary" } else { "Additional" }));
    let lists = members.enumerate().map(|(index, profile)| profile.modules(stack.1, index == 0));
    let lines: Vec<&str> = lists.flat_map(str::lines).collect();
    if primary && lines.is_empty() {
        let _ = writeln!(text, "{kind}\t[default=1]\t\t\tpam_permit.so");
    }
    for (index, line) in lines.iter().enumerate() {
        // `success=end` jumps over the rest of the block and the fallback; an additional block has no fallback.
        let jump = lines.len() - index - usize::from(!primary);
        let (module, options) = split(line);
        let options: Vec<&str> = options.split_whitespace().collect();
        let _ = writeln!(text, "{kind}\t{} {}", module.replace("end", &jump.to_string()), options.join(" "));
    }
}

/// Control and module, and the options after them.
fn split(line: &str) -> (&str, &str) {
    let control = if line.starts_with('[') { line.find(']').map_or(line.len(), |end| end + 1) } else { 0 };
    let control = control.max(line.find(char::is_whitespace).filter(|_| control == 0).unwrap_or(0));
    let gap = line[control..].find(|c: char| !c.is_whitespace()).map_or(line.len(), |gap| control + gap);
    let end = line[gap..].find(char::is_whitespace).map_or(line.len(), |end| gap + end);
    line.split_at(end)
}

/// What pam-auth-update compares with later.
fn state(stack: (&str, &str), profiles: &[Profile]) -> String {
    let mut text = String::new();
    for block in ["Primary", "Additional"] {
        let members: Vec<&Profile> = profiles.iter().filter(|profile| profile.is_in(stack, block)).collect();
        if members.is_empty() && block == "Primary" {
            text.push_str("Module: null\n[default=1]\t\t\tpam_permit.so\n");
        }
        for (index, profile) in members.iter().enumerate() {
            let _ = writeln!(text, "Module: {}\n{}", profile.name, profile.modules(stack.1, index == 0));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_behind_the_fallback() {
        let template = format!("# top\n{PRIMARY}\n$x\n{FALLBACK}\nauth deny\n{ADDITIONAL}\n$y\n{END}\n# tail\n");
        let profiles = [
            (
                "one",
                "Priority: 9\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_a.so  use x\nAuth-Initial:\n [success=end]\tpam_a.so\n",
            ),
            ("two", "Auth-Type: Primary\nAuth-Final:\n\t[success=end]\tpam_b.so\n\trequired\tpam_c.so\n"),
            ("three", "Auth-Type: Additional\nAuth:\n\toptional\t\tpam_d.so\n"),
        ];
        let profiles: Vec<Profile> = profiles.iter().map(|(name, text)| Profile::parse(name, text)).collect();
        let want = format!(
            "# top\n{PRIMARY}\nauth\t[success=3]\tpam_a.so \nauth\t[success=2]\tpam_b.so \nauth\trequired\tpam_c.so \n\
             {FALLBACK}\nauth deny\n{ADDITIONAL}\nauth\toptional\t\tpam_d.so \n{END}\n# tail\n"
        );
        assert_eq!(fill(&template, ("auth", "Auth"), &profiles), want);
        let want = format!(
            "# top\n{PRIMARY}\naccount\t[default=1]\t\t\tpam_permit.so\n{FALLBACK}\nauth deny\n{ADDITIONAL}\n{END}\n# tail\n"
        );
        assert_eq!(fill(&template, ("account", "Account"), &profiles), want);
        assert_eq!(state(("account", "Account"), &profiles), "Module: null\n[default=1]\t\t\tpam_permit.so\n");
        assert_eq!(profiles[0].priority(), 9);
    }

    #[test]
    fn a_line_is_control_module_options() {
        for (line, want) in [
            ("required pam_a.so b c", ("required pam_a.so", " b c")),
            ("[a b=1]\tpam_a.so", ("[a b=1]\tpam_a.so", "")),
            ("odd", ("odd", "")),
            ("[odd", ("[odd", "")),
            ("", ("", "")),
        ] {
            assert_eq!(split(line), want);
        }
    }
}
