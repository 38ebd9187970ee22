// SPDX-License-Identifier: ISC
//! Debian version numbers and their order, as deb-version(7) defines it.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

/// Compares two version numbers: epoch, then upstream version, then revision; a missing epoch or revision counts as 0.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, upstream_a, revision_a), (epoch_b, upstream_b, revision_b)) = (split(a), split(b));
    compare_digits(epoch_a, epoch_b)
        .then_with(|| compare_part(upstream_a, upstream_b))
        .then_with(|| compare_part(revision_a, revision_b))
}

/// Epoch, upstream version and revision: the epoch ends at the first colon, the revision starts at the last hyphen.
fn split(version: &str) -> (&[u8], &[u8], &[u8]) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch.as_bytes(), upstream.as_bytes(), revision.as_bytes())
}

/// Compares runs of other characters and runs of digits in turn, until one differs.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, text_b) = (run(&mut a, false), run(&mut b, false));
        let (digits_a, digits_b) = (run(&mut a, true), run(&mut b, true));
        let order = compare_text(text_a, text_b).then_with(|| compare_digits(digits_a, digits_b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Cuts the leading run of digits, or of anything else, off `rest`.
fn run<'a>(rest: &mut &'a [u8], digits: bool) -> &'a [u8] {
    let end = rest.iter().position(|b| b.is_ascii_digit() != digits).unwrap_or(rest.len());
    let (head, tail) = rest.split_at(end);
    *rest = tail;
    head
}

/// Letters sort before other characters, and a tilde before everything, even before the end.
fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(&letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(&other) => i32::from(other) + 256,
    };
    (0..a.len().max(b.len()))
        .map(|i| weight(a.get(i)).cmp(&weight(b.get(i))))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Compares two runs of digits as numbers of any length.
fn compare_digits(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &'_ [u8]| digits.iter().position(|&b| b != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A bound on a version, as written in a dependency: `(>= 1.2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    /// How the version found must compare.
    pub(super) relation: Relation,
    /// To what.
    pub(super) version: String,
}

/// How two versions must compare. `<` and `>` are the obsolete spellings of `<=` and `>=`, and are read as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Relation {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Relation {
    /// Reads `<<`, `<=`, `=`, `>=`, `>>`.
    pub(super) fn parse(text: &str) -> Option<Relation> {
        Some(match text {
            "<<" => Relation::Earlier,
            "<=" | "<" => Relation::EarlierOrEqual,
            "=" => Relation::Equal,
            ">=" | ">" => Relation::LaterOrEqual,
            ">>" => Relation::Later,
            _ => return None,
        })
    }

    /// As it is written in a dependency.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Relation::Earlier => "<<",
            Relation::EarlierOrEqual => "<=",
            Relation::Equal => "=",
            Relation::LaterOrEqual => ">=",
            Relation::Later => ">>",
        }
    }
}

impl Bound {
    /// Is `version` within the bound?
    pub(super) fn admits(&self, version: &str) -> bool {
        let order = compare(version, &self.version);
        match self.relation {
            Relation::Earlier => order.is_lt(),
            Relation::EarlierOrEqual => order.is_le(),
            Relation::Equal => order.is_eq(),
            Relation::LaterOrEqual => order.is_ge(),
            Relation::Later => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        for (a, sign, b) in [
            ("1", "=", "1"),
            ("1.0", "<", "1.0.1"),
            ("1.10", ">", "1.9"),
            ("1:0", ">", "9"),
            ("0:1", "=", "1"),
            ("1-0", "=", "1"),
            ("1-1", ">", "1"),
            ("1~rc1", "<", "1"),
            ("1~~", "<", "1~"),
            ("1~~a", "<", "1~"),
            ("1a", "<", "1+"),
            ("1a", ">", "1"),
            ("001", "=", "1"),
            ("1.2-3-4", "<", "1.2-4-1"),
            ("99999999999999999999999999", ">", "99999999999999999999999998"),
            ("2.36-9+deb12u10", ">", "2.36-9+deb12u9"),
            ("", "<", "0a"),
            ("", "=", "0"),
        ] {
            let want = match sign {
                "<" => Ordering::Less,
                "=" => Ordering::Equal,
                _ => Ordering::Greater,
            };
            assert_eq!(compare(a, b), want, "{a} {b}");
            assert_eq!(compare(b, a), want.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn bounds() {
        for (sign, version, want) in
            [("<<", "2", false), ("<=", "2", true), ("=", "2.0", false), (">=", "1.9", true), (">>", "2~", true)]
        {
            let bound = Bound { relation: Relation::parse(sign).unwrap(), version: version.to_owned() };
            assert_eq!(bound.admits("2"), want, "2 {sign} {version}");
            assert_eq!(bound.relation.sign(), sign);
        }
        assert_eq!(Relation::parse("~"), None);
    }

    /// Versions that differ little, so that equal prefixes and zeros meet.
    fn version() -> impl Strategy<Value = String> {
        let part = "[0-2]{0,2}[ab.+~]{0,2}[0-2]{0,2}[a.~]{0,1}";
        ("([0-2]:)?", "[0-2]", part, "(-[0-2a.+~]{1,3})?").prop_map(|(e, d, p, r)| format!("{e}{d}{p}{r}"))
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in version(), b in version(), c in version()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le(), "{} {} {}", a, b, c);
            }
        }

        #[test]
        fn it_is_the_order_of_dpkg(a in version(), b in version()) {
            let ask = |relation: &str| {
                std::process::Command::new("dpkg").args(["--compare-versions", &a, relation, &b]).status().map(|s| s.success())
            };
            match ask("lt-nl") {
                Err(_) => {
                    assert!(std::env::var_os("CI").is_none(), "this test needs dpkg");
                    eprintln!("SKIPPED: no dpkg");
                }
                Ok(less) => {
                    prop_assert_eq!(compare(&a, &b).is_lt(), less, "{} {}", a, b);
                    prop_assert_eq!(compare(&a, &b).is_eq(), ask("eq").unwrap(), "{} {}", a, b);
                }
            }
        }
    }
}
