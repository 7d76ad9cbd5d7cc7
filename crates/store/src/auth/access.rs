//! Which keys a user may read and write: the ranges of all its roles, merged (server/auth/range_perm_cache.go).

use bytes::Bytes;

use super::{Permission, PermissionKind};
use crate::kv::KeyRange;

/// What one user may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    read: Spans,
    write: Spans,
}

impl Access {
    pub fn of<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Self {
        let reads = permissions.clone().filter(|permission| permission.kind != PermissionKind::Write);
        let writes = permissions.filter(|permission| permission.kind != PermissionKind::Read);
        Self { read: Spans::merged(reads.map(|read| &read.range)), write: Spans::merged(writes.map(|write| &write.range)) }
    }

    pub fn may_read(&self, range: &KeyRange) -> bool {
        self.read.covers(range)
    }

    pub fn may_read_key(&self, key: &[u8]) -> bool {
        self.read.contains(key)
    }

    pub fn may_write(&self, range: &KeyRange) -> bool {
        self.write.covers(range)
    }

    pub fn may_write_key(&self, key: &[u8]) -> bool {
        self.write.contains(key)
    }
}

/// Disjoint ranges of keys that do not touch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spans(Vec<Span>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    /// The first key after it; `None`: it has no end.
    end: Option<Bytes>,
}

impl Span {
    fn of(range: &KeyRange) -> Option<Self> {
        let end = match &range.end {
            Some(end) if end.as_ref() == b"\0" => None,
            Some(end) if !end.is_empty() => Some(end.clone()),
            // One key: up to its successor.
            _ => Some([&range.key[..], b"\0"].concat().into()),
        };
        let is_empty = end.as_ref().is_some_and(|end| *end <= range.key);
        (!is_empty).then(|| Self { start: range.key.clone(), end })
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_some_and(|end| end.as_ref() < key)
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }
}

impl Spans {
    fn merged<'a>(ranges: impl Iterator<Item = &'a KeyRange>) -> Self {
        let mut all: Vec<Span> = ranges.filter_map(Span::of).collect();
        all.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Span> = Vec::with_capacity(all.len());
        for span in all {
            match merged.last_mut() {
                // Neighbours are one range: a request may reach over their border.
                Some(last) if !last.ends_before(&span.start) => {
                    let is_longer = match (&last.end, &span.end) {
                        (None, _) => false,
                        (_, None) => true,
                        (Some(end), Some(other)) => other > end,
                    };
                    if is_longer {
                        last.end = span.end;
                    }
                }
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// The only span that can contain the key.
    fn around(&self, key: &[u8]) -> Option<&Span> {
        let after = self.0.partition_point(|span| span.start.as_ref() <= key);
        self.0[..after].last().filter(|span| span.contains(key))
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.around(key).is_some()
    }

    /// Whether every key of the range is in it.
    fn covers(&self, range: &KeyRange) -> bool {
        let Some(span) = self.around(&range.key) else { return false };
        match &range.end {
            None => true,
            Some(end) if end.is_empty() => true,
            Some(end) if end.as_ref() == b"\0" => span.end.is_none(),
            // Backwards it holds no key, and nothing is given for it.
            Some(end) => range.key < *end && span.end.as_ref().is_none_or(|own| end <= own),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> KeyRange {
        match text.split_once("..") {
            None => KeyRange::one(text.to_owned()),
            Some((key, "")) => KeyRange::between(key.to_owned(), "\0"),
            Some((key, end)) => KeyRange::between(key.to_owned(), end.to_owned()),
        }
    }

    fn access(ranges: &str) -> Access {
        let permission = |text| Permission { kind: PermissionKind::ReadWrite, range: range(text) };
        let permissions: Vec<_> = ranges.split(' ').filter(|text| !text.is_empty()).map(permission).collect();
        Access::of(permissions.iter())
    }

    #[test]
    fn ranges_are_covered_whole_or_not() {
        let check = |granted: &str, asked: &str, expected: bool| {
            assert_eq!(access(granted).may_read(&range(asked)), expected, "{asked} with {granted}");
            assert_eq!(access(granted).may_write(&range(asked)), expected, "{asked} with {granted}");
        };
        check("", "a", false);
        check("a", "a", true);
        check("a", "b", false);
        check("a", "a..b", false);
        check("a", "a..a\0", true);
        check("a", "a..", false);
        check("a..c", "a", true);
        check("a..c", "b\u{7f}", true);
        check("a..c", "c", false);
        check("a..c", "a..c", true);
        check("a..c", "a..d", false);
        check("a..c", "a..", false);
        // The parts may come from several roles, in any order.
        check("b..d a..b", "a..d", true);
        check("c..d a..b", "a..d", false);
        check("a..b b", "a..b\0", true);
        check("a..c b..e c", "a..e", true);
        check("a..z c..d", "b..y", true);
        check("m..", "m..", true);
        check("m..", "z..zz", true);
        check("m.. a..n", "a..", true);
        check("\0..", "\0..", true);
        check("\0..", "a", true);
        check("a..", "c..b", false);
        check("a..", "c..c", false);
        // A granted range without keys gives nothing.
        check("c..a", "b", false);
        check("c..c", "c", false);
    }

    #[test]
    fn kinds_are_apart() {
        let permissions = [
            Permission { kind: PermissionKind::Read, range: range("a..c") },
            Permission { kind: PermissionKind::Write, range: range("b..d") },
        ];
        let access = Access::of(permissions.iter());
        assert!(access.may_read_key(b"a") && !access.may_write_key(b"a"));
        assert!(access.may_read_key(b"b") && access.may_write_key(b"b"));
        assert!(!access.may_read_key(b"c") && access.may_write_key(b"c"));
        assert!(!access.may_write(&range("a..d")) && !access.may_read(&range("a..d")));
    }

    proptest! {
        /// Against the definition: a range is covered when each of its keys is in some granted range.
        #[test]
        fn merging_changes_nothing(
            granted in proptest::collection::vec((0u8..12, 0u8..14), 0..6),
            asked in (0u8..12, 0u8..14),
        ) {
            let make = |(key, end): (u8, u8)| KeyRange { key: vec![b'a' + key].into(), end: match end {
                0 => None,
                1 => Some("\0".into()),
                end => Some(vec![b'a' + end - 1].into()),
            } };
            let permissions: Vec<_> =
                granted.iter().map(|range| Permission { kind: PermissionKind::Read, range: make(*range) }).collect();
            let asked = make(asked);
            // Each letter, and the keys right behind it; "~" stands for all keys behind the last letter.
            let keys = (b'a'..=b'o').flat_map(|letter| [vec![letter], vec![letter, b'0']]).chain([vec![b'~']]);
            let mut wanted = keys.filter(|key| asked.contains(key)).peekable();
            if wanted.peek().is_some() {
                let expected = wanted.all(|key| permissions.iter().any(|permission| permission.range.contains(&key)));
                prop_assert_eq!(Access::of(permissions.iter()).may_read(&asked), expected);
            }
        }
    }
}
