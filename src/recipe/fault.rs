// SPDX-License-Identifier: ISC
//! Errors of a recipe file: file, line, column, the offending text and, where one is near, the word that was meant.
#![forbid(unsafe_code)]

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use toml::Spanned;

use crate::error::{Error, ErrorKind, Result};

/// The text of one recipe file and the name that errors give it.
pub(super) struct Text<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Text<'_> {
    /// Runs `check` on a value; its error is said of the value's place in the file.
    pub(super) fn check<T>(&self, value: &Spanned<String>, check: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        check(value.get_ref()).map_err(|error| self.fault(value.span(), error))
    }

    /// `error`, whose reason and hint count, said of `span`.
    pub(super) fn fault(&self, span: Range<usize>, error: Error) -> Error {
        let (line, column) = self.place(span.start);
        let made = Error::new(ErrorKind::Usage, error.reason().to_owned())
            .at(format!("{}:{line}:{column}", self.name))
            .excerpt(self.excerpt(span));
        match error.advice() {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }

    /// What the TOML parser or serde found, in our words where theirs are about Rust.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Error {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let span = error.span().unwrap_or(0..0);
        self.fault(span, unknown_word(&message).unwrap_or_else(|| Error::new(ErrorKind::Usage, message)))
    }

    /// Line and column of a byte, both counted from 1; the column in characters.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    /// The lines of `span` with marks below them.
    fn excerpt(&self, span: Range<usize>) -> String {
        let mark = AnnotationKind::Primary.span(span.start..span.end.max(span.start));
        let snippet = Snippet::source(self.text).annotation(mark);
        Renderer::plain().render(&[Group::with_level(Level::ERROR).element(snippet)])
    }
}

/// Rephrases serde's "unknown field `x`, expected one of `a`, `b`" and its kin.
fn unknown_word(message: &str) -> Option<Error> {
    let (what, rest) = [("unknown field ", "key"), ("unknown variant ", "value")]
        .iter()
        .find_map(|(serde, ours)| message.strip_prefix(serde).map(|rest| (*ours, rest)))?;
    let mut words = rest.split('`').skip(1).step_by(2);
    Some(unknown(what, words.next()?, words))
}

/// "unknown WHAT `given`", with the nearest of `known` or all of them as the hint.
pub(super) fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.collect();
    let distance = |word: &str| strsim::damerau_levenshtein(given, word);
    let near =
        known.iter().copied().min_by_key(|word| distance(word)).filter(|word| distance(word) <= word.len() / 3 + 1);
    let hint = near.map_or_else(|| format!("known: {}", known.join(", ")), |word| format!("did you mean `{word}`?"));
    Error::new(ErrorKind::Usage, format!("unknown {what} {given:?}")).hint(hint)
}
