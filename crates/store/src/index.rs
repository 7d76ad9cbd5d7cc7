//! Every version of every key, in order of keys and in order of revisions. Pure data: knows no leases, no transactions, no clock.
//!
//! Values are resident for now. Only `Version::value` and its readers know that, so that a later version can keep cold values in the checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::kv::{KeyRange, KeyValue, LeaseId, Revision};

/// What a version costs beside its key and value: itself, and its places in the two orders.
const VERSION_OVERHEAD_BYTES: u64 = 160;

/// One version of one key; a deletion is a version too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 0 marks a deletion.
    pub version: i64,
    pub lease: LeaseId,
    /// Place among the changes of the same revision.
    pub sub: u32,
}

impl Version {
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }

    pub fn to_kv(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }

    fn size_bytes(&self) -> u64 {
        (self.key.len() + self.value.len()) as u64 + VERSION_OVERHEAD_BYTES
    }
}

/// A version together with the live version that it replaced.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub version: Arc<Version>,
    pub previous: Option<Arc<Version>>,
}

/// The versions of one key, oldest first; at most one per revision.
#[derive(Debug, Default)]
struct History(Vec<Arc<Version>>);

impl History {
    /// The live version at `revision`.
    fn at(&self, revision: Revision) -> Option<&Arc<Version>> {
        let newest = self.0.last()?;
        let found = if newest.mod_revision <= revision {
            newest
        } else {
            let after = self.0.partition_point(|version| version.mod_revision <= revision);
            self.0.get(after.checked_sub(1)?)?
        };
        (!found.is_deletion()).then_some(found)
    }

    /// Removes what nobody can see at `compacted` or later; returns the removed versions through `removed`.
    fn trim(&mut self, compacted: Revision, removed: &mut Vec<Arc<Version>>) {
        let visible = self.0.partition_point(|version| version.mod_revision <= compacted);
        let Some(newest) = visible.checked_sub(1) else { return };
        // The deletion made by the compacted revision itself stays: a watch may still start there.
        let deleted = self.0[newest].is_deletion() && self.0[newest].mod_revision < compacted;
        let drop = if deleted { newest + 1 } else { newest };
        removed.extend(self.0.drain(..drop));
    }
}

/// One page of a range scan.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Where the next page starts; `None` at the end of the range.
    pub next: Option<Bytes>,
}

/// What a range scan has found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub versions: Vec<Arc<Version>>,
    /// Live keys in the range, whether they were kept or not.
    pub count: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Bytes, History>,
    /// All versions above the swept revision, by (revision, sub).
    changes: VecDeque<Arc<Version>>,
    bytes: u64,
}

impl Index {
    /// Approximate memory of all versions.
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }

    pub fn get(&self, key: &[u8], revision: Revision) -> Option<&Arc<Version>> {
        self.keys.get(key)?.at(revision)
    }

    /// Adds a version that is newer than all others.
    pub fn push(&mut self, mut version: Version) -> Change {
        self.bytes += version.size_bytes();
        let (version, previous) = match self.keys.get_mut(&version.key) {
            Some(history) => {
                let newest = history.0.last().expect("a key without versions is removed");
                // The key's bytes are shared by all its versions.
                version.key = newest.key.clone();
                let previous = (!newest.is_deletion()).then(|| newest.clone());
                let version = Arc::new(version);
                history.0.push(version.clone());
                (version, previous)
            }
            None => {
                let version = Arc::new(version);
                self.keys.insert(version.key.clone(), History(vec![version.clone()]));
                (version, None)
            }
        };
        self.changes.push_back(version.clone());
        Change { version, previous }
    }

    /// Scans live keys of `range` at `revision` from `from` on, at most `budget` keys, keeps up to `keep` versions in `found` and counts the rest.
    pub fn scan(&self, range: &KeyRange, from: Option<&Bytes>, revision: Revision, keep: usize, budget: usize, found: &mut Found) -> Page {
        let Some(bounds) = bounds(range, from) else { return Page::default() };
        for (visited, (key, history)) in self.keys.range::<[u8], _>(bounds).enumerate() {
            if visited == budget {
                return Page { next: Some(key.clone()) };
            }
            if let Some(version) = history.at(revision) {
                found.count += 1;
                if found.versions.len() < keep {
                    found.versions.push(version.clone());
                }
            }
        }
        Page::default()
    }

    /// Calls `each` with the changes from `revision` on, until it has seen `budget` of them and a revision is complete.
    /// Returns the first revision that was not looked at, `None` when all were.
    pub fn changes_from(&self, revision: Revision, budget: usize, mut each: impl FnMut(&Arc<Version>)) -> Option<Revision> {
        let start = self.changes.partition_point(|version| version.mod_revision < revision);
        let mut last = revision;
        for (visited, version) in self.changes.range(start..).enumerate() {
            if visited >= budget && version.mod_revision != last {
                return Some(version.mod_revision);
            }
            last = version.mod_revision;
            each(version);
        }
        None
    }

    /// Takes the versions up to `revision` of at most `budget` keys, without those that a compaction at `compacted` removes; returns where to go on.
    pub fn history(
        &self,
        from: Option<&Bytes>,
        compacted: Revision,
        revision: Revision,
        budget: usize,
        found: &mut Vec<Arc<Version>>,
    ) -> Option<Bytes> {
        let start = from.map_or(Bound::Unbounded, |from| Bound::Included(&from[..]));
        for (visited, (key, history)) in self.keys.range::<[u8], _>((start, Bound::Unbounded)).enumerate() {
            if visited == budget {
                return Some(key.clone());
            }
            let later = history.0.iter().filter(|version| version.mod_revision > compacted && version.mod_revision <= revision);
            found.extend(history.at(compacted).into_iter().chain(later).cloned());
        }
        None
    }

    /// The live version that `version` replaced, unless it is compacted.
    pub fn previous(&self, version: &Version) -> Option<&Arc<Version>> {
        self.get(&version.key, version.mod_revision - 1)
    }

    /// Takes up to `budget` changes before `compacted` out of the order of revisions and removes what nobody can see any more.
    /// `limit` is the newest revision that may be taken. Returns whether there is more to do.
    pub fn sweep(&mut self, compacted: Revision, limit: Revision, budget: usize, removed: &mut Vec<Arc<Version>>) -> bool {
        let start = removed.len();
        let mut more = false;
        for visited in 0.. {
            let Some(oldest) = self.changes.front() else { break };
            if oldest.mod_revision >= compacted || oldest.mod_revision > limit {
                break;
            }
            if visited >= budget {
                more = true;
                break;
            }
            let oldest = self.changes.pop_front().expect("front was just seen");
            let Some(history) = self.keys.get_mut(&oldest.key) else { continue };
            history.trim(compacted.min(limit), removed);
            if history.0.is_empty() {
                self.keys.remove(&oldest.key);
            }
        }
        self.bytes -= removed[start..].iter().map(|version| version.size_bytes()).sum::<u64>();
        more
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range as bounds of the map; `None` when it is empty (a map panics on a range that ends before it starts).
fn bounds<'a>(range: &'a KeyRange, from: Option<&'a Bytes>) -> Option<Bounds<'a>> {
    let start: &[u8] = from.unwrap_or(&range.key);
    let end = match &range.end {
        None => Bound::Included(&range.key[..]),
        Some(end) if end.as_ref() == b"\0" => Bound::Unbounded,
        Some(end) => Bound::Excluded(&end[..]),
    };
    let empty = match end {
        Bound::Included(end) => start > end,
        Bound::Excluded(end) => start >= end,
        Bound::Unbounded => false,
    };
    (!empty).then_some((Bound::Included(start), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(key: &'static str, mod_revision: Revision, version: i64) -> Version {
        let key = Bytes::from_static(key.as_bytes());
        Version { key, value: Bytes::from_static(b"v"), create_revision: 1, mod_revision, version, lease: 0, sub: 0 }
    }

    fn live(index: &Index, revision: Revision) -> Vec<String> {
        let mut found = Found::default();
        let mut from = None;
        while {
            from = index.scan(&KeyRange::between("a", "\0"), from.as_ref(), revision, usize::MAX, 1, &mut found).next;
            from.is_some()
        } {}
        found.versions.iter().map(|v| format!("{}@{}", String::from_utf8_lossy(&v.key), v.mod_revision)).collect()
    }

    #[test]
    fn sweep_removes_only_the_invisible() {
        let mut index = Index::default();
        for v in [version("a", 2, 1), version("b", 3, 1), version("a", 4, 2), version("b", 5, 0), version("c", 6, 1), version("a", 7, 3)] {
            index.push(v);
        }
        assert_eq!(live(&index, 4), ["a@4", "b@3"]);
        let mut removed = Vec::new();
        while index.sweep(6, Revision::MAX, 1, &mut removed) {}
        let gone: Vec<_> = removed.iter().map(|v| v.mod_revision).collect();
        assert_eq!(gone, [2, 3, 5]);
        assert_eq!(live(&index, 6), ["a@4", "c@6"]);
        assert_eq!(live(&index, 7), ["a@7", "c@6"]);
        assert_eq!(index.changes.len(), 2);
        while index.sweep(8, Revision::MAX, 1, &mut removed) {}
        assert_eq!(index.bytes, 2 * (VERSION_OVERHEAD_BYTES + 2));
    }

    #[test]
    fn sweep_stops_at_what_is_not_checkpointed() {
        let mut index = Index::default();
        for revision in 2..6 {
            index.push(version("a", revision, revision - 1));
        }
        let mut removed = Vec::new();
        assert!(!index.sweep(5, 3, 100, &mut removed));
        assert_eq!(removed.iter().map(|v| v.mod_revision).collect::<Vec<_>>(), [2]);
        assert_eq!(live(&index, 5), ["a@5"]);
    }

    #[test]
    fn changes_come_in_whole_revisions() {
        let mut index = Index::default();
        index.push(version("a", 2, 1));
        for (sub, key) in ["b", "c", "d"].into_iter().enumerate() {
            index.push(Version { sub: sub as u32, ..version(key, 3, 1) });
        }
        index.push(version("e", 4, 1));
        let mut seen = 0;
        assert_eq!(index.changes_from(2, 2, |_| seen += 1), Some(4));
        assert_eq!(seen, 4);
        assert_eq!(index.changes_from(4, 2, |_| seen += 1), None);
        assert_eq!(seen, 5);
    }

    #[test]
    fn backward_ranges_are_empty() {
        for (key, end) in [("b", Some("a")), ("b", Some("b")), ("b", Some(""))] {
            let range = KeyRange { key: key.into(), end: end.map(Bytes::from) };
            assert!(bounds(&range, None).is_none());
        }
        assert!(bounds(&KeyRange::between("a", "c"), Some(&Bytes::from("c"))).is_none());
    }
}
