// SPDX-License-Identifier: ISC
//! Plans rolled up: what two do one after the other, in one.
#![forbid(unsafe_code)]

use super::*;
use crate::tree::diff::diff;
use crate::tree::tests::tree;

/// Patches from each tree to the next.
fn chain(trees: &[&[&str]]) -> Vec<Contents> {
    let pairs = trees.windows(2).enumerate();
    let patch = |(index, pair): (usize, &[&[&str]])| {
        let number = u32::try_from(index).unwrap() + 1;
        let head = Head { name: format!("p{number}"), series: "s".into(), number: Some(number), ..Head::default() };
        Contents::new(head, diff(&tree(pair[0]), &tree(pair[1])))
    };
    pairs.map(patch).collect()
}

fn shown(contents: &Contents) -> String {
    let line = |entry: &Entry| {
        let link = entry.change.link.as_ref().map(|link| format!(">{link}")).unwrap_or_default();
        let body = if entry.body == Body::Full { "b" } else { "" };
        format!("{}{}{body}{link}", entry.change.action().letter(), entry.change.path)
    };
    let shown = contents.entries.iter().filter(|entry| entry.change.action() != crate::plan::Action::Touch);
    shown.map(line).collect::<Vec<_>>().join(" ")
}

#[test]
fn table() {
    for (trees, expect) in [
        (&[&["f a x"][..], &["f a y"], &["f a z"]][..], "*ab"),
        // What comes to nothing is undone where it is.
        (&[&["f a x"], &["f a y"], &["f a x"]], "*ab"),
        (&[&[], &["f a x"], &[]], "-a"),
        (&[&[], &["d d", "f d/a x"], &[]], "-d -d/a"),
        (&[&["f a x"], &["d a", "f a/b"], &["f a x"]], "!ab -a/b"),
        (&[&["f a x"], &[], &["f a z"]], "*ab"),
        (&[&["f a x"], &["d a", "f a/b"], &["d a", "f a/b", "f a/c"]], "!a +a/bb +a/cb"),
        (&[&["d d"], &["d d", "f d/a x"], &["d d", "f d/a x", "f d/b y"]], "+d/ab +d/bb"),
        (&[&["f a x"], &["f a x", "f b y"], &["f b z"]], "-a +bb"),
        // Links: one is made later; the inode that it joined is gone; both names are gone.
        (&[&[], &["f a h"], &["h a a", "h b a"]], "+ab +b>a"),
        (&[&[], &["h a a", "h b a", "h c a"], &["h b b", "h c b"]], "-a +bb +c>b"),
        (&[&["f z x"], &["h a a", "h b a", "f z x"], &["f z x"]], "-a -b"),
        // The inode that was there stays.
        (&[&["f a h"], &["h a a", "h b a"], &["h a a", "h b a", "h c a"]], "+b>a +c>a"),
    ] {
        let members = chain(trees);
        let head = Head { name: "all".into(), ..Head::default() };
        let all = squash(&members, head).unwrap_or_else(|error| panic!("{trees:?}: {error}"));
        assert_eq!(shown(&all), expect, "{trees:?}");
        // It is a patch.
        Contents::parse(&all.text()).unwrap_or_else(|error| panic!("{trees:?}: {error}"));
        // From each of the trees to the last.
        let last = tree(trees[trees.len() - 1]);
        let real = |change: &&Change| change.action() != crate::plan::Action::Touch;
        for state in trees {
            for change in diff(&tree(state), &last).changes.iter().filter(real) {
                let entry = all.get(&change.path).unwrap_or_else(|| panic!("{trees:?}: {}", change.path));
                assert_eq!(entry.change.after.is_some(), change.after.is_some(), "{trees:?}: {}", change.path);
            }
        }
        assert_eq!(all.head.provides.len(), members.len());
        assert_eq!((all.head.number, all.head.absent.as_slice()), (Some(2), &[1][..]));
    }
}

#[test]
fn what_does_not_fit_together() {
    let good = chain(&[&["f a x"], &["f a y"], &["f a z"]]);
    let roll = |members: &[Contents]| squash(members, Head { name: "all".into(), ..Head::default() });
    assert!(roll(&[]).is_err());
    assert!(roll(&[good[1].clone(), good[0].clone()]).unwrap_err().to_string().contains("does not go on"));
    let mut other = good.clone();
    other[1].head.arch = "amd64".into();
    assert!(roll(&other).unwrap_err().to_string().contains("different"));
    // Differences: one alone is copied, of two there must be a whole one below.
    let mut small = good.clone();
    small[1].entries[0].body = Body::Delta(9);
    assert_eq!(roll(&small).unwrap().entries[0].body, Body::Full);
    assert_eq!(roll(&small[1..]).unwrap().entries[0].body, Body::Delta(9));
    small[0].entries[0].body = Body::Delta(8);
    assert!(roll(&small).unwrap_err().to_string().contains("none whole"));
    // What one requires of another of them is not required of anybody.
    let mut needs = good.clone();
    needs[1].head.requires = vec![("p1".into(), good[0].digest()), ("p0".into(), Digest([7; 32]))];
    assert_eq!(roll(&needs).unwrap().head.requires, [("p0".to_owned(), Digest([7; 32]))]);
}
