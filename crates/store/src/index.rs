//! Every version of every key, in order of keys and in order of revisions. Pure data: knows no leases, no transactions, no clock.
//!
//! Keys and numbers are resident, values need not be: see `shelf`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::kv::{KeyRange, KeyValue, LeaseId, Revision};
use crate::segment::Record;
use crate::shelf::Shelf;

/// What a version costs on the disk beside its key and value.
const VERSION_OVERHEAD_BYTES: u64 = 32;
/// A smaller value gets memory of its own: as it comes it holds the whole buffer of its request.
const COPIED_BYTES: usize = 64 << 10;

/// One version of one key; a deletion is a version too. Never changes, but for where its value is.
#[derive(Debug)]
pub(crate) struct Version {
    /// Shared by all versions of the key.
    pub key: Arc<[u8]>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 0 marks a deletion.
    pub version: i64,
    pub lease: LeaseId,
    /// Place among the changes of the same revision.
    pub sub: u32,
    /// Bytes of the value.
    pub length: u32,
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Boxed, since most versions have none.
    value: Option<Box<Bytes>>,
    /// Read since it came in.
    touched: bool,
}

impl Version {
    /// A new version, with its value.
    pub fn new(record: &Record<'_>, value: Bytes) -> Self {
        let value = if value.len() < COPIED_BYTES { Bytes::copy_from_slice(&value) } else { value };
        let length = u32::try_from(value.len()).expect("a request has less than 4 GiB");
        let slot = Slot { value: (length > 0).then(|| Box::new(value)), touched: false };
        Self { length, slot: Mutex::new(slot), ..Self::saved(record) }
    }

    /// A version whose value is in a segment.
    pub fn saved(record: &Record<'_>) -> Self {
        let Record { revision, sub, key, create_revision, version, lease, length } = *record;
        Self { key: key.into(), create_revision, mod_revision: revision, version, lease, sub, length, slot: Mutex::default() }
    }

    pub fn record(&self) -> Record<'_> {
        Record {
            revision: self.mod_revision,
            sub: self.sub,
            key: &self.key,
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            length: self.length,
        }
    }

    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }

    /// The value if it is in memory.
    pub fn resident(&self) -> Option<Bytes> {
        if self.length == 0 {
            return Some(Bytes::new());
        }
        let mut slot = self.slot.lock();
        slot.touched = true;
        slot.value.as_deref().cloned()
    }

    /// Keeps the value in memory; returns whether it was not there.
    pub fn set_resident(&self, value: Bytes) -> bool {
        let mut slot = self.slot.lock();
        let missing = slot.value.is_none();
        if missing {
            *slot = Slot { value: Some(Box::new(value)), touched: false };
        }
        missing
    }

    /// Whether the value was read since it came in or since the last such question.
    pub fn was_touched(&self) -> bool {
        std::mem::take(&mut self.slot.lock().touched)
    }

    /// Lets the value go.
    pub fn release(&self) {
        self.slot.lock().value = None;
    }

    pub fn to_kv(&self, value: Bytes) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(&self.key),
            value,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }

    fn size_bytes(&self) -> u64 {
        self.key.len() as u64 + u64::from(self.length) + VERSION_OVERHEAD_BYTES
    }
}

/// A version, and its value if that was in memory when the state was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub version: Arc<Version>,
    pub value: Option<Bytes>,
}

impl Item {
    pub fn of(version: &Arc<Version>) -> Self {
        Self { version: version.clone(), value: version.resident() }
    }

    /// For those who do not want the value.
    fn bare(version: &Arc<Version>) -> Self {
        Self { version: version.clone(), value: Some(Bytes::new()) }
    }

    /// With the value, which was found before.
    pub fn into_kv(self) -> KeyValue {
        self.version.to_kv(self.value.unwrap_or_default())
    }
}

/// A version together with the live version that it replaced.
#[derive(Debug)]
pub(crate) struct Change {
    pub version: Arc<Version>,
    pub value: Bytes,
    pub previous: Option<Item>,
    /// The value of `previous` as it was found later, if it is not there; `None` when it is gone.
    pub previous_value: OnceLock<Option<Bytes>>,
    /// The change as its watchers' protocol has it, made by the first who needs it.
    pub encoded: OnceLock<Bytes>,
}

impl Change {
    pub fn new(version: Arc<Version>, value: Bytes, previous: Option<Item>) -> Self {
        Self { version, value, previous, previous_value: OnceLock::new(), encoded: OnceLock::new() }
    }

    /// Whether the value of the live version before it must be read.
    pub fn is_cold(&self) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.value.is_none()) && self.previous_value.get().is_none()
    }

    /// The live version before it, unless it is gone.
    pub fn previous_kv(&self) -> Option<KeyValue> {
        let previous = self.previous.as_ref()?;
        let value = previous.value.as_ref().or_else(|| self.previous_value.get()?.as_ref())?;
        Some(previous.version.to_kv(value.clone()))
    }
}

/// The versions of one key, oldest first; at most one per revision. Most keys have one.
#[derive(Debug)]
enum History {
    One(Arc<Version>),
    #[allow(clippy::box_collection, reason = "half the size, and there are as many of these as keys")]
    Many(Box<Vec<Arc<Version>>>),
}

impl History {
    fn all(&self) -> &[Arc<Version>] {
        match self {
            Self::One(version) => std::slice::from_ref(version),
            Self::Many(versions) => versions,
        }
    }

    fn newest(&self) -> &Arc<Version> {
        self.all().last().expect("a key without versions is removed")
    }

    fn push(&mut self, version: Arc<Version>) {
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![first.clone(), version])),
            Self::Many(versions) => versions.push(version),
        }
    }

    /// The live version at `revision`.
    fn at(&self, revision: Revision) -> Option<&Arc<Version>> {
        let newest = self.newest();
        let found = if newest.mod_revision <= revision {
            newest
        } else {
            let after = self.all().partition_point(|version| version.mod_revision <= revision);
            self.all().get(after.checked_sub(1)?)?
        };
        (!found.is_deletion()).then_some(found)
    }

    /// Removes what nobody can see at `compacted` or later; returns the removed versions through `removed`, and whether anything is left.
    fn trim(&mut self, compacted: Revision, removed: &mut Vec<Arc<Version>>) -> bool {
        let invisible = invisible(self.all(), compacted);
        if invisible == self.all().len() {
            removed.extend_from_slice(self.all());
            return false;
        }
        if let Self::Many(versions) = self {
            removed.extend(versions.drain(..invisible));
            if let [only] = &versions[..] {
                *self = Self::One(only.clone());
            }
        }
        true
    }
}

/// How many of a key's versions, from the oldest on, nobody can see at `compacted` or later.
fn invisible(versions: &[Arc<Version>], compacted: Revision) -> usize {
    let visible = versions.partition_point(|version| version.mod_revision <= compacted);
    let Some(newest) = visible.checked_sub(1) else { return 0 };
    // The deletion made by the compacted revision itself stays: a watch may still start there.
    let deleted = versions[newest].is_deletion() && versions[newest].mod_revision < compacted;
    if deleted { visible } else { newest }
}

/// One page of a range scan.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Where the next page starts; `None` at the end of the range.
    pub next: Option<Bytes>,
}

/// What a range scan keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub items: usize,
    pub values: bool,
}

impl Keep {
    pub const ALL: Self = Self { items: usize::MAX, values: true };
    pub const KEYS: Self = Self { items: usize::MAX, values: false };
}

/// What a range scan has found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub items: Vec<Item>,
    /// Live keys in the range, whether they were kept or not.
    pub count: i64,
}

impl Found {
    /// Whether all values are in memory.
    pub fn is_ready(&self) -> bool {
        self.items.iter().all(|item| item.value.is_some())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Arc<[u8]>, History>,
    /// All versions above the swept revision, by (revision, sub).
    changes: VecDeque<Arc<Version>>,
    bytes: u64,
    /// Where the values are.
    pub shelf: Arc<Shelf>,
}

impl Index {
    /// The saved versions of a store in the order of (revision, sub); what a compaction at `compacted` leaves invisible comes out through `removed`.
    pub fn restore(versions: Vec<Arc<Version>>, compacted: Revision, shelf: Arc<Shelf>, removed: &mut Vec<Arc<Version>>) -> Self {
        let first = versions.partition_point(|version| version.mod_revision < compacted);
        let changes = versions[first..].iter().cloned().collect();
        let mut sorted = versions;
        // Stable: the versions of a key stay in order.
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut keys: Vec<(Arc<[u8]>, History)> = Vec::new();
        let mut bytes = 0;
        for versions in sorted.chunk_by(|a, b| a.key == b.key) {
            let (gone, left) = versions.split_at(invisible(versions, compacted));
            removed.extend_from_slice(gone);
            bytes += left.iter().map(|version| version.size_bytes()).sum::<u64>();
            let history = match left {
                [] => continue,
                [only] => History::One(only.clone()),
                many => History::Many(Box::new(many.to_vec())),
            };
            keys.push((left[0].key.clone(), history));
        }
        Self { keys: keys.into_iter().collect(), changes, bytes, shelf }
    }

    /// What all versions take on the disk.
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }

    pub fn get(&self, key: &[u8], revision: Revision) -> Option<&Arc<Version>> {
        self.keys.get(key)?.at(revision)
    }

    /// Adds a version that is newer than all others.
    pub fn push(&mut self, record: &Record<'_>, value: Bytes) -> Change {
        let mut version = Version::new(record, value);
        self.bytes += version.size_bytes();
        let (version, previous) = match self.keys.get_mut(record.key) {
            Some(history) => {
                let newest = history.newest();
                version.key = newest.key.clone();
                let previous = (!newest.is_deletion()).then(|| Item::of(newest));
                let version = Arc::new(version);
                history.push(version.clone());
                (version, previous)
            }
            None => {
                let version = Arc::new(version);
                self.keys.insert(version.key.clone(), History::One(version.clone()));
                (version, None)
            }
        };
        self.changes.push_back(version.clone());
        self.shelf.residents.added(&version);
        let value = version.resident().expect("it came with its value");
        Change::new(version, value, previous)
    }

    /// Scans live keys of `range` at `revision` from `from` on, at most `budget` keys, keeps up to `keep.items` versions in `found` and counts
    /// the rest.
    pub fn scan(&self, range: &KeyRange, from: Option<&Bytes>, revision: Revision, keep: Keep, budget: usize, found: &mut Found) -> Page {
        let Some(bounds) = bounds(range, from) else { return Page::default() };
        for (visited, (key, history)) in self.keys.range::<[u8], _>(bounds).enumerate() {
            if visited == budget {
                return Page { next: Some(Bytes::copy_from_slice(key)) };
            }
            if let Some(version) = history.at(revision) {
                found.count += 1;
                if found.items.len() < keep.items {
                    found.items.push(if keep.values { Item::of(version) } else { Item::bare(version) });
                }
            }
        }
        Page::default()
    }

    /// Calls `each` with the changes from `revision` on, until what it returns for them adds up to `budget` and a revision is complete.
    /// Returns the first revision that was not looked at, `None` when all were.
    pub fn changes_from(&self, revision: Revision, budget: usize, mut each: impl FnMut(&Arc<Version>) -> usize) -> Option<Revision> {
        let start = self.changes.partition_point(|version| version.mod_revision < revision);
        let mut last = revision;
        let mut spent = 0;
        for version in self.changes.range(start..) {
            if spent >= budget && version.mod_revision != last {
                return Some(version.mod_revision);
            }
            last = version.mod_revision;
            spent += each(version);
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
        found: &mut Vec<Item>,
    ) -> Option<Bytes> {
        let start = from.map_or(Bound::Unbounded, |from| Bound::Included(&from[..]));
        for (visited, (key, history)) in self.keys.range::<[u8], _>((start, Bound::Unbounded)).enumerate() {
            if visited == budget {
                return Some(Bytes::copy_from_slice(key));
            }
            let later = history.all().iter().filter(|version| version.mod_revision > compacted && version.mod_revision <= revision);
            found.extend(history.at(compacted).into_iter().chain(later).map(Item::of));
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
            if !history.trim(compacted.min(limit), removed) {
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

    fn push(index: &mut Index, key: &str, revision: Revision, version: i64) {
        push_sub(index, key, revision, version, 0);
    }

    fn push_sub(index: &mut Index, key: &str, revision: Revision, version: i64, sub: u32) {
        let record = Record { revision, sub, key: key.as_bytes(), create_revision: 1, version, lease: 0, length: 0 };
        index.push(&record, Bytes::from_static(b"v"));
    }

    fn live(index: &Index, revision: Revision) -> Vec<String> {
        let mut found = Found::default();
        let mut from = None;
        while {
            from = index.scan(&KeyRange::between("a", "\0"), from.as_ref(), revision, Keep::ALL, 1, &mut found).next;
            from.is_some()
        } {}
        let shown = |item: &Item| format!("{}@{}", String::from_utf8_lossy(&item.version.key), item.version.mod_revision);
        found.items.iter().map(shown).collect()
    }

    #[test]
    fn sweep_removes_only_the_invisible() {
        let mut index = Index::default();
        for (key, revision, version) in [("a", 2, 1), ("b", 3, 1), ("a", 4, 2), ("b", 5, 0), ("c", 6, 1), ("a", 7, 3)] {
            push(&mut index, key, revision, version);
        }
        let saved = index.changes.iter().cloned().collect::<Vec<_>>();
        let mut gone = Vec::new();
        let restored = Index::restore(saved, 6, Arc::default(), &mut gone);
        assert_eq!(gone.iter().map(|v| v.mod_revision).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!((live(&restored, 6), live(&restored, 7)), (live(&index, 6), live(&index, 7)));
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
            push(&mut index, "a", revision, revision - 1);
        }
        let mut removed = Vec::new();
        assert!(!index.sweep(5, 3, 100, &mut removed));
        assert_eq!(removed.iter().map(|v| v.mod_revision).collect::<Vec<_>>(), [2]);
        assert_eq!(live(&index, 5), ["a@5"]);
    }

    #[test]
    fn changes_come_in_whole_revisions() {
        let mut index = Index::default();
        push(&mut index, "a", 2, 1);
        for (sub, key) in ["b", "c", "d"].into_iter().enumerate() {
            push_sub(&mut index, key, 3, 1, sub as u32);
        }
        push(&mut index, "e", 4, 1);
        let mut seen = 0;
        let mut see = |_: &Arc<Version>| {
            seen += 1;
            1
        };
        assert_eq!(index.changes_from(2, 2, &mut see), Some(4));
        assert_eq!(index.changes_from(4, 2, &mut see), None);
        assert_eq!(seen, 5);
        let mut seen = 0;
        assert_eq!(
            index.changes_from(2, 2, |_| {
                seen += 1;
                2
            }),
            Some(3)
        );
        assert_eq!(seen, 1);
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
