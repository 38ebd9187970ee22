// SPDX-License-Identifier: ISC
//! What a reader may rely on everywhere: floors, fences, file sizes, and that flags, help and man pages agree.
//! ARCHITECTURE.md states these as invariants; this is where they are held.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Floors, lowest first; a module uses only what lies below its own. The two lowest are families that know each other.
const FLOORS: [&[&str]; 8] = [
    &["error", "path", "watch", "test_data", "bail", "Error", "ErrorKind", "Result"],
    &["tree", "plan", "sign"],
    &["sys"],
    &["source", "select", "apply"],
    &["recipe", "patch"],
    &["session"],
    &["chroot"],
    &["cli"],
];

/// The most lines that a file may have, not counting its tests.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file below `dir` that ends in `ending`, relative to the package; build directories are not entered.
fn files(dir: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(dir)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A source file without its tests: path below `src`, lines of code with comments blanked.
struct Source {
    path: PathBuf,
    module: String,
    lines: Vec<String>,
}

/// Every file of the library and the program that is not for tests alone.
fn sources() -> Vec<Source> {
    let all: Vec<(PathBuf, String)> = files("src", ".rs").into_iter().map(|path| (path.clone(), read(path))).collect();
    let for_tests: BTreeSet<PathBuf> = all.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let is_code = |path: &PathBuf| !path.ancestors().any(|above| for_tests.contains(&above.with_extension("")));
    let sources: Vec<Source> =
        all.iter().filter(|(path, _)| is_code(path)).map(|(path, text)| source(path, text)).collect();
    assert!(sources.len() > 30 && !for_tests.is_empty(), "the sources were not found");
    sources
}

/// The word after `mod` in a line that declares a module, with its `;` or ` {`.
fn declared(line: &str) -> Option<&str> {
    line.strip_prefix("mod ").or_else(|| line.split_once(") mod ").map(|(_, name)| name))
}

/// The modules of `#[cfg(test)] mod NAME;` in the file `path`, as paths without `.rs`.
fn test_files(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap();
    let dir = if stem == "mod" || stem == "lib" { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    let marked = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| declared(rest.lines().next()?));
    marked.filter_map(|name| name.strip_suffix(';')).map(|name| dir.join(name)).collect()
}

fn source(path: &Path, text: &str) -> Source {
    let is_tests =
        |rest: &&str| declared(rest.lines().next().unwrap_or_default()).is_some_and(|name| name.ends_with('{'));
    let mut parts = text.split("#[cfg(test)]\n");
    let mut code = parts.next().unwrap().to_owned();
    code.extend(parts.take_while(|rest| !is_tests(rest)));
    let lines = code.lines().map(|line| line.split("//").next().unwrap().to_owned()).collect();
    let top = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    Source { module: top.trim_end_matches(".rs").to_owned(), path: path.to_owned(), lines }
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names after `crate::` in `code`, those of a `crate::{a, b::{c}}` group too.
fn used(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.push(rest.chars().take_while(|&c| is_name(c)).collect());
            continue;
        };
        let mut depth = 0;
        let mut name = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                _ if depth == 0 && (is_name(c) || c == ':') => name.push(c),
                _ => {}
            }
        }
        names.push(name);
    }
    let first = |name: &String| name.split(':').next().unwrap().to_owned();
    names.iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_use_only_lower_floors() {
    let floor = |module: &str| FLOORS.iter().position(|names| names.contains(&module));
    assert_eq!(used("use crate::{a, b::{c, d}, e::f}; crate::g::h"), ["a", "b", "e", "g"]);
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !["lib", "main"].contains(&source.module.as_str())) {
        let own = floor(&source.module).unwrap_or_else(|| panic!("{} has no floor", source.module));
        for name in used(&source.lines.join("\n")) {
            let family = name == source.module || own <= 1 && floor(&name) == Some(own);
            match floor(&name) {
                None => faults.push(format!("{}: crate::{name} has no floor", source.path.display())),
                Some(other) if other >= own && !family => {
                    faults.push(format!("{}: {name} is not below it", source.path.display()));
                }
                Some(_) => {}
            }
        }
    }
    report(&faults);
}

/// Where a word, or another piece of text, may stand: in files whose path starts so.
const FENCES: [(&str, &[&str]); 16] = [
    ("unsafe", &["src/sys/"]),
    ("target_os", &["src/sys/"]),
    ("libc::", &["src/sys/"]),
    ("rustix::", &["src/sys/"]),
    ("stdout()", &["src/cli/", "src/sys/"]),
    ("stderr()", &["src/cli/", "src/sys/"]),
    ("print!", &[]),
    ("println!", &[]),
    ("dbg!", &[]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("thread_local!", &[]),
    ("OnceLock", &["src/sys/"]),
    ("LazyLock", &[]),
    ("async", &[]),
    (".unwrap()", &[]),
];

#[test]
fn words_stay_behind_their_fences() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.lines.iter().enumerate() {
            for (word, allowed) in FENCES {
                let found = match word.chars().all(is_name) {
                    true => line.split(|c| !is_name(c)).any(|name| name == word),
                    false => line.contains(word),
                };
                if found && !allowed.iter().any(|dir| source.path.starts_with(dir)) {
                    faults.push(format!("{}:{}: {word} does not belong here", source.path.display(), number + 1));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn files_have_their_heads_and_fit() {
    let mut faults = Vec::new();
    for path in ["src", "tests", "bench", "fuzz"].into_iter().flat_map(|dir| files(dir, ".rs")) {
        if !read(&path).starts_with("// SPDX-License-Identifier: ISC\n") {
            faults.push(format!("{}: the first line is not the licence", path.display()));
        }
    }
    for source in sources() {
        let head = source.lines.iter().take(40).any(|line| line == "#![forbid(unsafe_code)]");
        if !head && !source.path.starts_with("src/sys") && source.module != "lib" {
            faults.push(format!("{}: #![forbid(unsafe_code)] is missing", source.path.display()));
        }
        if source.lines.len() > MAX_LINES {
            faults.push(format!("{}: {} lines", source.path.display(), source.lines.len()));
        }
    }
    assert!(read("src/main.rs").lines().count() < 60, "main.rs only starts");
    report(&faults);
}

/// Every verb, as it is typed: those below another that does nothing by itself, in its place.
fn verbs(command: &clap::Command) -> Vec<(String, &clap::Command)> {
    let mut found = Vec::new();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name();
        match verb.is_subcommand_required_set() {
            false => found.push((name.to_owned(), verb)),
            true => found.extend(verbs(verb).into_iter().map(|(below, verb)| (format!("{name} {below}"), verb))),
        }
    }
    found
}

/// The flags (`--long`) that lines of mdoc name.
fn flags_in(mdoc: &str) -> BTreeSet<String> {
    let words: Vec<&str> = mdoc.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| pair[0].ends_with("Fl"))
        .filter_map(|pair| Some(format!("--{}", pair[1].strip_prefix('-')?)))
        .collect()
}

#[test]
fn flags_help_and_manual_agree() {
    let man = read("man/stockade.1");
    let synopsis = man.split(".Sh SYNOPSIS").nth(1).unwrap().split(".Sh ").next().unwrap();
    let command = stockade::cli::command();
    let mut faults = Vec::new();
    for (name, verb) in verbs(&command) {
        let flags: BTreeSet<String> = verb
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|&long| long != "help")
            .map(|long| format!("--{long}"))
            .collect();
        let lines =
            synopsis.split(".Nm stockade").find(|lines| lines.trim_start().starts_with(&format!(".Cm {name}\n")));
        let section = man.split("\n.Ss ").find_map(|text| text.strip_prefix(&format!("{name}\n")));
        let section = section.map(|text| text.split("\n.Sh ").next().unwrap());
        for (place, text) in [("SYNOPSIS", lines), ("its section", section)] {
            let Some(text) = text else {
                faults.push(format!("stockade.1: {name} is missing in {place}"));
                continue;
            };
            let named = flags_in(text);
            for flag in flags.difference(&named) {
                faults.push(format!("stockade.1: {name} {flag} is missing in {place}"));
            }
            for flag in named.difference(&flags) {
                faults.push(format!("stockade.1: {name} has no {flag}, but {place} names it"));
            }
        }
    }
    report(&faults);
}

#[test]
fn the_manual_of_recipes_knows_every_key() {
    let man = read("man/stockade-recipe.5");
    let schema: serde_json::Value = serde_json::from_str(&stockade::recipe::schema()).unwrap();
    let mut tables = vec![&schema["properties"]];
    tables.extend(schema["$defs"].as_object().unwrap().values().map(|def| &def["properties"]));
    let keys = tables.into_iter().filter_map(|table| table.as_object()).flat_map(|table| table.keys());
    let missing: Vec<String> = keys
        .filter(|key| !man.contains(&format!(".It Ic {key}")) && !man.contains(&format!(".Ss {key}")))
        .map(|key| format!("stockade-recipe.5: {key} is missing"))
        .collect();
    report(&missing);
    for action in stockade::recipe::Action::ALL {
        assert!(man.contains(&format!(".It Cm {}", action.name())), "stockade-recipe.5: {}", action.name());
    }
}

#[test]
fn manuals_are_dated_and_named() {
    let pages: Vec<PathBuf> =
        ["1", "5", "7", "8"].into_iter().flat_map(|section| files("man", &format!(".{section}"))).collect();
    assert!(pages.len() >= 3);
    for page in pages {
        let text = read(&page);
        let (name, section) = page.file_name().unwrap().to_str().unwrap().rsplit_once('.').unwrap();
        let date = text.lines().find_map(|line| line.strip_prefix(".Dd ")).expect("a date");
        let year = date.rsplit_once(", ").expect("Month D, YYYY").1;
        assert!(year.len() == 4 && year.parse::<u16>().is_ok(), "{}: {date}", page.display());
        assert!(text.contains(&format!("\n.Dt {} {section}\n", name.to_uppercase())), "{}", page.display());
    }
}

#[test]
fn recipes_are_embedded_and_load() {
    let embedded: Vec<String> =
        stockade::recipe::EMBEDDED.iter().map(|(name, _)| format!("recipes/{name}.toml")).collect();
    let found: Vec<String> = files("recipes", ".toml").iter().map(|path| path.display().to_string()).collect();
    assert_eq!(found, embedded);
    for (name, _) in stockade::recipe::EMBEDDED {
        stockade::recipe::load(name).unwrap();
    }
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let cargo = read("Cargo.toml");
    let mut wanted = BTreeSet::new();
    let mut inside = false;
    for line in cargo.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let (true, Some((name, _))) = (inside, line.split_once(" = ")) {
            wanted.insert(name.to_owned());
        }
    }
    let text = read("ARCHITECTURE.md");
    let table = text.split("## Dependencies").nth(1).expect("a section about dependencies");
    let row = |line: &str| line.strip_prefix("| `").and_then(|rest| rest.split('`').next()).map(str::to_owned);
    let listed: BTreeSet<String> = table.lines().filter_map(row).collect();
    assert_eq!(wanted, listed);
}
