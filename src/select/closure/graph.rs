// SPDX-License-Identifier: ISC
//! The reasons of a closure as a graph: who wants what, in words, as chains and as text of dot(1).
//!
//! Text form, one line a reason: path, tab, why, tab, the path that wants it. Paths are escaped as manifests escape
//! them; a line without the last field is the user's own wish.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::Reason;
use crate::error::{Error, ErrorKind, Result};
use crate::path::{TreePath, escape, unescape};

/// How many chains to one path are named.
const MAX_CHAINS: usize = 1000;
/// How much is looked at for them.
const MAX_STEPS: usize = 200_000;

/// A chain: paths from a wish of the user on, each with why it is wanted.
pub type Chain = Vec<(TreePath, Arc<str>)>;

/// Who wants what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The reasons of each path.
    pub reasons: BTreeMap<TreePath, Vec<Reason>>,
}

impl Graph {
    /// Its text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (path, reasons) in &self.reasons {
            for reason in reasons {
                let (path, why) = (escape(path.as_bytes()), escape(reason.why.as_bytes()));
                let by = reason.by.as_ref().map(|by| format!("\t{}", escape(by.as_bytes()))).unwrap_or_default();
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{path}\t{why}{by}");
            }
        }
        text
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] naming the line that is none.
    pub fn read(text: &str) -> Result<Graph> {
        let mut graph = Graph::default();
        let mut whys: HashSet<Arc<str>> = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = || Error::new(ErrorKind::BadInput, format!("line {}: no reason", number + 1));
            let mut fields = line.split('\t').map(|field| unescape(field).ok_or_else(wrong));
            let mut next = || fields.next().transpose();
            let path = TreePath::new(next()?.ok_or_else(wrong)?)?;
            let why = String::from_utf8(next()?.ok_or_else(wrong)?).map_err(|_| wrong())?;
            let by = next()?.map(TreePath::new).transpose()?;
            let why = whys.get(why.as_str()).cloned().unwrap_or_else(|| why.into());
            whys.insert(Arc::clone(&why));
            graph.reasons.entry(path).or_default().push(Reason { by, why });
        }
        Ok(graph)
    }

    /// Every chain from a wish of the user to `path`, the shortest first: what is wanted and why, from the wish on. True
    /// if there are more than are named.
    pub fn chains(&self, path: &TreePath) -> (Vec<Chain>, bool) {
        let mut done = Vec::new();
        let mut todo = std::collections::VecDeque::from([vec![(path.clone(), Arc::from(""))]]);
        let mut steps = 0;
        while let Some(chain) = todo.pop_front() {
            let Some((at, _)) = chain.last() else { continue };
            for reason in self.reasons.get(at).into_iter().flatten() {
                steps += 1;
                if done.len() >= MAX_CHAINS || steps > MAX_STEPS {
                    return (done, true);
                }
                let mut longer = chain.clone();
                if let Some(last) = longer.last_mut() {
                    last.1 = Arc::clone(&reason.why);
                }
                match &reason.by {
                    None => {
                        longer.reverse();
                        done.push(longer);
                    }
                    Some(by) if longer.iter().all(|(seen, _)| seen != by) => {
                        longer.push((by.clone(), Arc::from("")));
                        todo.push_back(longer);
                    }
                    Some(_) => {}
                }
            }
        }
        (done, false)
    }

    /// The paths that no chain from a wish of the user leads to.
    pub fn unused<'a>(&self, paths: impl Iterator<Item = &'a TreePath>) -> Vec<TreePath> {
        let mut below: BTreeMap<Option<&TreePath>, Vec<&TreePath>> = BTreeMap::new();
        for (path, reasons) in &self.reasons {
            for reason in reasons {
                below.entry(reason.by.as_ref()).or_default().push(path);
            }
        }
        let mut reached: BTreeSet<&TreePath> = BTreeSet::new();
        let mut todo: Vec<&TreePath> = below.get(&None).cloned().unwrap_or_default();
        while let Some(path) = todo.pop() {
            if reached.insert(path) {
                todo.extend(below.get(&Some(path)).into_iter().flatten());
            }
        }
        paths.filter(|path| !reached.contains(path)).cloned().collect()
    }

    /// The graph as text of dot(1). What lies in a tree is left out: it would hide the rest.
    pub fn dot(&self) -> String {
        let mut text = "digraph closure {\n  rankdir = LR;\n  node [shape = box];\n".to_owned();
        let quote = |words: &str| format!("\"{}\"", words.replace('\\', "\\\\").replace('"', "\\\""));
        for (path, reasons) in &self.reasons {
            let shown = quote(&format!("/{}", escape(path.as_bytes())));
            for reason in reasons.iter().filter(|reason| &*reason.why != "in it") {
                let _ = match &reason.by {
                    None => writeln!(text, "  {shown} [style = bold];"),
                    Some(by) => {
                        let (by, why) = (quote(&format!("/{}", escape(by.as_bytes()))), quote(&reason.why));
                        writeln!(text, "  {by} -> {shown} [label = {why}];")
                    }
                };
            }
        }
        text + "}\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(lines: &[(&str, &str, &str)]) -> Graph {
        let mut graph = Graph::default();
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        for (at, why, by) in lines {
            let by = (!by.is_empty()).then(|| path(by));
            graph.reasons.entry(path(at)).or_default().push(Reason { by, why: (*why).into() });
        }
        graph
    }

    #[test]
    fn chains_circles_and_what_nothing_needs() {
        let graph = graph(&[
            ("bin/a", "wanted program", ""),
            ("bin/b", "wanted program", ""),
            ("lib/x", "library x", "bin/a"),
            ("lib/y", "library y", "lib/x"),
            ("lib/x", "library x", "lib/y"),
            ("lib/y", "library y", "bin/b"),
            ("lib/z", "library z", "lib/w"),
            ("lib/w", "library w", "lib/z"),
        ]);
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        let shown = |at: &str| {
            let (chains, more) = graph.chains(&path(at));
            assert!(!more);
            let one = |chain: &Chain| chain.iter().map(|(p, _)| p.to_string()).collect::<Vec<_>>().join(">");
            chains.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("lib/y"), "bin/b>lib/y bin/a>lib/x>lib/y");
        assert_eq!(shown("bin/a"), "bin/a");
        assert_eq!(shown("lib/z"), "");
        let all = [path("bin/a"), path("lib/y"), path("lib/z"), path("other")];
        assert_eq!(graph.unused(all.iter()), [path("lib/z"), path("other")]);
        assert_eq!(Graph::read(&graph.text()).unwrap(), graph);
        assert!(graph.dot().contains("\"/bin/a\" -> \"/lib/x\" [label = \"library x\"];"));
    }

    #[test]
    fn odd_names_and_damage() {
        let odd = graph(&[("a b\tc\n\u{e9}\\", "why\twith\ttabs", "q\"uote")]);
        assert_eq!(Graph::read(&odd.text()).unwrap(), odd);
        assert!(odd.dot().contains("\\\"uote"));
        for bad in ["a", "a\\x\tb", "../x\twhy", "a\tb\t../c"] {
            assert!(Graph::read(bad).is_err(), "{bad:?}");
        }
    }
}
