// SPDX-License-Identifier: ISC
//! doas.conf(5): who may run this program as root, and what that amounts to (decision 32).
#![forbid(unsafe_code)]

use super::Finding;

const FILE: &str = "/etc/doas.conf";
/// The variable that says whose chroots are meant.
const HOME: &str = "STOCKADE_HOME";

/// What the host's rules say of this program; the narrowest rule lets somebody into `chroot`. Nothing where there is no doas.
pub(super) fn findings(chroot: &str) -> Vec<Finding> {
    std::fs::read_to_string(FILE).map_or_else(|_| Vec::new(), |text| judge(&text, chroot))
}

fn judge(text: &str, chroot: &str) -> Vec<Finding> {
    let narrow = |who: &str| {
        let user = who.strip_prefix(':').map_or(who, |_| "USER");
        format!("permit nopass {user} cmd /usr/local/bin/stockade args run -u {user} {chroot}")
    };
    let found: Vec<Finding> = rules(text).iter().filter_map(|(line, words)| finding(line, words, &narrow)).collect();
    match found.is_empty() {
        true => vec![Finding::good(FILE, format!("the narrowest rule for a shell inside: {}", narrow("USER")))],
        false => found,
    }
}

/// What a rule does, if that is more than it looks.
fn finding(line: &str, words: &[String], narrow: &dyn Fn(&str) -> String) -> Option<Finding> {
    let rule = Rule::of(words)?;
    let is_ours = rule.command.rsplit('/').next() == Some("stockade");
    // Who is root already gains nothing, and who becomes another than root is none.
    if !is_ours || rule.who == "root" || rule.target.is_some_and(|target| target != "root" && target != "0") {
        return None;
    }
    let who = rule.who;
    let why = match rule.arguments {
        None => format!("makes {who} root: whoever may build a chroot of anything may do anything"),
        Some(arguments) if enters_as_root(arguments) => {
            format!("makes {who} root inside, and root inside can be root outside")
        }
        Some(_) if rule.takes_home => {
            format!("makes {who} root: {HOME} is taken from {who}, and with it what is entered")
        }
        Some(_) => return None,
    };
    Some(Finding::bad(FILE, format!("`{line}` {why}")).mend(format!("put in its place: {}", narrow(who))))
}

/// A rule that permits a command.
#[derive(Default)]
struct Rule<'a> {
    who: &'a str,
    /// As whom; none: as anybody.
    target: Option<&'a str>,
    command: &'a str,
    /// The only arguments; none: any.
    arguments: Option<&'a [String]>,
    /// The caller says where the chroots are.
    takes_home: bool,
}

impl Rule<'_> {
    fn of(words: &[String]) -> Option<Rule<'_>> {
        let mut rest = words.strip_prefix(&["permit".to_owned()])?;
        let mut rule = Rule::default();
        loop {
            let (word, after) = rest.split_first()?;
            rest = after;
            match word.as_str() {
                "nopass" | "nolog" | "persist" => {}
                "keepenv" => rule.takes_home = true,
                "setenv" => {
                    let end = rest.iter().position(|word| word == "}")?;
                    // Its name alone, or another variable of the caller's.
                    let mut taken = rest[..end].iter().filter_map(|word| word.strip_prefix(HOME));
                    rule.takes_home |= taken.any(|rest| rest.is_empty() || rest.starts_with("=$"));
                    rest = &rest[end + 1..];
                }
                who => {
                    rule.who = who;
                    break;
                }
            }
        }
        if let [word, target, after @ ..] = rest
            && word == "as"
        {
            (rule.target, rest) = (Some(target.as_str()), after);
        }
        let [word, command, after @ ..] = rest else { return None };
        rule.command = command;
        rule.arguments = after.strip_prefix(&["args".to_owned()]);
        (word == "cmd").then_some(rule)
    }
}

/// Does `run` with these arguments become root inside?
fn enters_as_root(arguments: &[String]) -> bool {
    let is_root = |user: &str| user == "root" || user == "0";
    let mut words = arguments.iter().map(String::as_str).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let user = match word {
            "-u" | "--user" => words.next(),
            _ => word.strip_prefix("--user=").or_else(|| word.strip_prefix("-u")),
        };
        if user.is_some_and(is_root) {
            return true;
        }
    }
    false
}

/// The rules, each as it is written and as its words: in quotes there may be anything, `#` begins a comment, braces stand for
/// themselves, and a line that ends in a backslash goes on.
fn rules(text: &str) -> Vec<(String, Vec<String>)> {
    let joined = text.replace("\\\n", " ");
    let rules = joined.lines().map(|line| {
        let (words, end) = words(line);
        (line[..end].split_whitespace().collect::<Vec<_>>().join(" "), words)
    });
    rules.filter(|(_, words)| !words.is_empty()).collect()
}

/// The words of a line, and where its comment begins.
fn words(line: &str) -> (Vec<String>, usize) {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quoted = false;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(chars.next().map(|(_, c)| c)),
            '#' if !quoted => {
                words.extend(word);
                return (words, at);
            }
            '{' | '}' if !quoted => {
                words.extend(word.take());
                words.push(c.to_string());
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (words, line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: &str = "put in its place: permit nopass ann cmd /usr/local/bin/stockade args run -u ann b0";

    /// A rule, and what is said of it; nothing where it lets nobody do more than it says.
    #[test]
    fn rules_are_what_they_amount_to() {
        for (rule, want) in [
            ("permit persist :wheel", None),
            ("permit nopass keepenv root", None),
            ("deny ann cmd stockade", None),
            ("# permit ann cmd stockade", None),
            ("permit nopass ann cmd /usr/local/bin/stockade args run -u ann b0", None),
            ("permit ann cmd stockade args run b0 -- /bin/sh -u root", None),
            ("permit ann as _pbuild cmd stockade", None),
            ("permit ann as ann cmd stockade args run -u root b0", None),
            ("permit root cmd stockade", None),
            ("permit ann cmd /usr/local/bin/stockade2", None),
            ("permit setenv { STOCKADE_HOME=/build PS1 } ann cmd stockade args run -u ann b0", None),
            ("permit ann cmd stockade args", None),
            ("permit nopass ann cmd stockade", Some("makes ann root: whoever may build")),
            ("permit ann as root cmd stockade", Some("makes ann root: whoever may build")),
            ("permit ann cmd \"/usr/local/bin/stockade\"", Some("makes ann root: whoever may build")),
            ("permit nopass ann cmd stockade args run -u root b0", Some("makes ann root inside")),
            ("permit nopass ann cmd stockade args run -uroot b0", Some("makes ann root inside")),
            ("permit nopass ann cmd stockade args run --user=root b0 -- x", Some("makes ann root inside")),
            ("permit nopass ann cmd stockade args run \"--user\" ro\"ot\" b0", Some("makes ann root inside")),
            ("permit keepenv ann cmd stockade args run -u ann b0", Some("STOCKADE_HOME is taken from ann")),
            ("permit setenv {STOCKADE_HOME} ann cmd stockade args run b0", Some("STOCKADE_HOME is taken from ann")),
            ("permit setenv { STOCKADE_HOME=$HOME } ann cmd stockade args run b0", Some("STOCKADE_HOME is taken")),
        ] {
            let said = judge(rule, "b0");
            assert_eq!(said.len(), 1, "{rule}");
            match want {
                None => assert!(said[0].ok && said[0].why.starts_with("the narrowest rule"), "{rule}: {said:?}"),
                Some(words) => {
                    assert!(!said[0].ok && said[0].why.contains(words), "{rule}: {said:?}");
                    assert!(said[0].why.starts_with(&format!("`{rule}` ")), "{rule}: {said:?}");
                    assert_eq!(said[0].mend.as_deref(), Some(NARROW), "{rule}");
                }
            }
        }
        let many =
            "permit setenv { A B=c } nopass \\\n :build as root cmd /usr/local/bin/stockade # x\npermit a cmd stockade";
        let said: Vec<String> = judge(many, "b0").into_iter().map(|finding| finding.why).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("`permit setenv { A B=c } nopass :build as root cmd /usr/local/bin/stockade` makes"),
            "{said:?}"
        );
    }
}
