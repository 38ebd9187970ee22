// SPDX-License-Identifier: ISC
//! In which order patches come: what one requires before it. No clock has a say in it. Pure.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};

use crate::patch::Head;
use crate::tree::Digest;

/// Numbers from here on are of one's own making, those before of the project whose series it is (decision 27).
const OWN: u32 = 900;

/// The first number of the range that `number` is in; whether one's own begin with 900 or 901 is nobody's business.
pub fn first(number: u32) -> u32 {
    match number {
        0..OWN => 1,
        OWN => OWN,
        _ => OWN + 1,
    }
}

/// Are both numbers of one's own, or neither?
pub fn same_range(one: u32, other: u32) -> bool {
    (one < OWN) == (other < OWN)
}

/// A patch to be put in order, with what decides between patches that do not need each other: the smallest comes first.
pub struct Item<'a, K> {
    /// What decides.
    pub key: K,
    /// Its manifest.
    pub head: &'a Head,
    /// What identifies its manifest.
    pub digest: Digest,
}

/// The items by their places in the list, those that are required before those that require them.
pub fn in_order<K: Ord>(items: &[Item<'_, K>]) -> Vec<usize> {
    let mut providers: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let provided = item.head.provides.iter().map(|(_, digest)| *digest);
        provided.chain([item.digest]).for_each(|digest| providers.entry(digest).or_default().push(index));
    }
    let mut before: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); items.len()];
    for (index, item) in items.iter().enumerate() {
        let required = item.head.requires.iter().filter_map(|(_, digest)| providers.get(digest));
        before[index].extend(required.flatten().filter(|&&other| other != index));
    }
    let mut waiting: BTreeSet<(&K, usize)> = items.iter().map(|item| &item.key).zip(0..).collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(&first) = waiting.first() {
        // A digest covers what is required, so that a ring takes one that stands for others: then the key decides.
        let next = waiting.iter().find(|(_, index)| before[*index].is_empty()).copied().unwrap_or(first);
        waiting.remove(&next);
        for others in &mut before {
            others.remove(&next.1);
        }
        order.push(next.1);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, what it requires, what it provides.
    type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

    fn digest(name: &str) -> Digest {
        crate::apply::digest(name.as_bytes())
    }

    fn sorted(cases: &[Case]) -> String {
        let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), digest(name))).collect();
        let head = |case: &Case| Head { requires: named(case.1), provides: named(case.2), ..Head::default() };
        let heads: Vec<Head> = cases.iter().map(head).collect();
        let item = |(case, head): (&Case, _)| Item { key: case.0, head, digest: digest(case.0) };
        let items: Vec<Item<'_, &str>> =
            cases.iter().copied().zip(&heads).map(|(case, head)| item((&case, head))).collect();
        in_order(&items).into_iter().map(|index| cases[index].0).collect()
    }

    #[test]
    fn numbers_of_ones_own_are_a_range() {
        for (number, from) in [(1, 1), (5, 1), (899, 1), (900, 900), (901, 901), (950, 901)] {
            assert_eq!(first(number), from, "{number}");
        }
        for (one, other, same) in [(1, 899, true), (899, 900, false), (900, 2000, true)] {
            assert_eq!(same_range(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn what_is_required_comes_first_and_else_the_smallest() {
        for (cases, expect) in [
            (&[][..], ""),
            (&[("b", &[][..], &[][..]), ("a", &[], &[]), ("c", &[], &[])], "abc"),
            (&[("a", &["b"], &[]), ("b", &["c"], &[]), ("c", &[], &[]), ("d", &[], &[])], "cbad"),
            (&[("a", &["x"], &[]), ("b", &[], &["x"])], "ba"),
            (&[("a", &["elsewhere"], &[]), ("b", &[], &[])], "ab"),
            (&[("a", &["y"], &["x"]), ("b", &["x"], &["y"]), ("c", &["b"], &[])], "abc"),
            (&[("a", &["a"], &["a"])], "a"),
        ] {
            assert_eq!(sorted(cases), expect);
        }
    }
}
