// SPDX-License-Identifier: ISC
//! The numbers of users and groups that this process can give files to.

use std::fmt;

/// So many numbers from `inside` on are, outside, those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first number here.
    pub inside: u32,
    /// The first number in the user namespace around this one.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl Extent {
    fn holds(&self, id: u32) -> bool {
        id >= self.inside && id - self.inside < self.count
    }
}

/// The numbers of a user namespace; see user_namespaces(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// Those of users.
    pub users: Vec<Extent>,
    /// Those of groups.
    pub groups: Vec<Extent>,
}

impl IdMap {
    /// All numbers, as they are.
    pub fn everything() -> IdMap {
        let all = vec![Extent { inside: 0, outside: 0, count: u32::MAX }];
        IdMap { users: all.clone(), groups: all }
    }

    /// Is this no user namespace, or one that is like none?
    pub fn is_everything(&self) -> bool {
        *self == IdMap::everything()
    }

    /// One user and one group: nothing can be given away.
    pub fn is_single(&self) -> bool {
        let single = |extents: &[Extent]| matches!(extents, [Extent { count: 1, .. }]);
        single(&self.users) && single(&self.groups)
    }

    /// Is there such a user and such a group?
    pub fn holds(&self, user: u32, group: u32) -> bool {
        let among = |extents: &[Extent], id| extents.iter().any(|extent| extent.holds(id));
        among(&self.users, user) && among(&self.groups, group)
    }

    /// The user here that is `outside` in the namespace around this one.
    pub fn user(&self, outside: u32) -> Option<u32> {
        let mut extents = self.users.iter();
        let extent = extents.find(|e| outside >= e.outside && outside - e.outside < e.count)?;
        Some(extent.inside + (outside - extent.outside))
    }

    /// The lines of a uid_map or gid_map: first number inside, first number outside, how many.
    pub fn parse(users: &str, groups: &str) -> Option<IdMap> {
        Some(IdMap { users: extents(users)?, groups: extents(groups)? })
    }
}

fn extents(text: &str) -> Option<Vec<Extent>> {
    let extent = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Extent { inside, outside, count })
    };
    text.lines().map(extent).collect()
}

/// `users 0 1000 1, 1 100000 65536; groups 0 1000 1`
impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, extents) in [("users", &self.users), ("; groups", &self.groups)] {
            f.write_str(name)?;
            for (at, Extent { inside, outside, count }) in extents.iter().enumerate() {
                write!(f, "{} {inside} {outside} {count}", if at > 0 { "," } else { "" })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let single = IdMap::parse("         0       1000          1\n", "0 100 1\n").unwrap();
        let ranges = IdMap::parse("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n").unwrap();
        let all = IdMap::parse("0 0 4294967295\n", "0 0 4294967295\n").unwrap();
        for (map, everything, is_single, user, group, holds) in [
            (&all, true, false, 70000, 5, true),
            (&single, false, true, 0, 0, true),
            (&single, false, true, 0, 1, false),
            (&ranges, false, false, 65536, 1, true),
            (&ranges, false, false, 65537, 0, false),
        ] {
            let found = (map.is_everything(), map.is_single(), map.holds(user, group));
            assert_eq!(found, (everything, is_single, holds), "{map} {user}:{group}");
        }
        assert_eq!([0, 1000, 100_004].map(|outside| ranges.user(outside)), [None, Some(0), Some(5)]);
        assert_eq!(ranges.to_string(), "users 0 1000 1, 1 100000 65536; groups 0 1000 1, 1 100000 65536");
        for broken in ["0 1000\n", "x 1 1\n", "0 1 99999999999\n", "0 -1 1\n"] {
            assert_eq!(IdMap::parse(broken, ""), None, "{broken}");
        }
    }
}
