//! The objects of one storage prefix with the recent history of their changes, which watches read by position. Must not know encodings of requests.

use std::borrow::Borrow;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinds::Row;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::Entry;
use super::wakes::Wakes;

/// History kept whatever its age; history kept if it is younger than `MAX_AGE`.
const MIN_EVENTS: usize = 256;
const MAX_EVENTS: usize = 32 * 1024;
const MAX_AGE: Duration = Duration::from_secs(75);
/// After so many changes even those watches read on that none of them was for.
const CATCH_UP_EVERY: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change. Its encoded frames are made once and shared by all watches.
pub struct Event {
    pub kind: EventKind,
    /// The object after the change; for a delete its last state, at the delete's revision.
    pub entry: Arc<Entry>,
    pub before: Option<Arc<Entry>>,
    frames: Mutex<Vec<(u64, Bytes)>>,
    at: Instant,
}

impl Event {
    pub fn revision(&self) -> i64 {
        self.entry.revision
    }

    /// The frame for `key`, made by the first who needs it.
    pub fn frame<E>(&self, key: u64, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        let mut frames = self.frames.lock();
        if let Some((_, frame)) = frames.iter().find(|(k, _)| *k == key) {
            return Ok(frame.clone());
        }
        let frame = make()?;
        frames.push((key, frame.clone()));
        Ok(frame)
    }
}

/// Orders entries by key.
struct ByKey(Arc<Entry>);

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[derive(Default)]
struct State {
    entries: BTreeSet<ByKey>,
    log: VecDeque<Arc<Event>>,
    /// Position of `log[0]`; grows for ever.
    first: u64,
    /// All changes after this revision are in the log.
    floor: i64,
    /// Revision of the last change.
    changed: i64,
}

/// What the store said about one key.
pub enum Change {
    Put(Entry),
    Delete { key: Box<str>, revision: i64 },
}

/// A position was asked for that the log no longer has.
#[derive(Debug, PartialEq, Eq)]
pub struct TooOld {
    pub oldest: i64,
}

pub struct Collection {
    /// Of the row whose encoding the bytes have.
    pub row: &'static dyn Row,
    /// `/registry/pods/`.
    pub prefix: String,
    pub field_names: Vec<&'static str>,
    state: RwLock<State>,
    wakes: Wakes,
}

impl Collection {
    pub fn new(row: &'static dyn Row) -> Self {
        let info = row.info();
        let empty = format!(r#"{{"apiVersion":{:?},"kind":{:?},"metadata":{{}}}}"#, info.api_version(), info.kind);
        let field_names = row
            .decode(empty.as_bytes())
            .map(|object| row.selectable_fields(object.as_ref()).into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default();
        Self { row, prefix: format!("/registry/{}/", info.storage_prefix), field_names, state: RwLock::default(), wakes: Wakes::default() }
    }

    /// Indexes what the store holds under `key` (below the prefix).
    pub fn entry(&self, key: &str, revision: i64, value: Bytes) -> Result<Entry, kinds::DecodeError> {
        let fields_of = if self.field_names.is_empty() { None } else { Some(self.row) };
        Entry::parse(key, revision, value, fields_of)
    }

    /// Replaces everything by what the store held at `revision`; running watches find their position gone.
    pub fn reset(&self, entries: Vec<Entry>, revision: i64) {
        let mut state = self.state.write();
        state.first += state.log.len() as u64 + 1;
        state.log.clear();
        state.floor = revision;
        state.changed = entries.iter().map(|e| e.revision).max().unwrap_or(0).max(state.changed);
        state.entries = entries.into_iter().map(|entry| ByKey(Arc::new(entry))).collect();
        drop(state);
        self.wakes.reset();
    }

    pub fn apply(&self, changes: Vec<Change>) {
        let now = base::clock::monotonic();
        let mut state = self.state.write();
        let (held, before) = (state.log.len(), state.end());
        for change in changes {
            state.apply(change, now);
        }
        let events: Vec<Arc<Event>> = state.log.range(held..).cloned().collect();
        let is_due = before / CATCH_UP_EVERY != state.end() / CATCH_UP_EVERY;
        state.trim(now);
        drop(state);
        self.wakes.changed(&events);
        if is_due {
            self.wakes.catch_up();
        }
    }

    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().entries.get(key).map(|e| e.0.clone())
    }

    /// Entries whose key begins with `prefix`, in order, from `start` on.
    pub fn list(&self, prefix: &str, start: &str, keep: impl FnMut(&Entry) -> bool, limit: usize) -> (Vec<Arc<Entry>>, bool) {
        self.state.read().list(prefix, start, keep, limit)
    }

    /// Revision of the last change, for caches built on this one.
    pub fn changed(&self) -> i64 {
        self.state.read().changed
    }

    /// A snapshot and the position in the log that follows it, taken together.
    pub fn snapshot(&self, prefix: &str, keep: impl FnMut(&Entry) -> bool) -> (Vec<Arc<Entry>>, u64) {
        let state = self.state.read();
        let (entries, _) = state.list(prefix, prefix, keep, usize::MAX);
        (entries, state.end())
    }

    /// The position of the first change after `revision`.
    pub fn position_after(&self, revision: i64) -> Result<u64, TooOld> {
        let state = self.state.read();
        if revision < state.floor {
            return Err(TooOld { oldest: state.floor });
        }
        let skip = state.log.partition_point(|event| event.revision() <= revision);
        Ok(state.first + skip as u64)
    }

    /// Up to `limit` changes from `position` on.
    pub fn read(&self, position: u64, limit: usize, out: &mut Vec<Arc<Event>>) -> Result<(), TooOld> {
        let state = self.state.read();
        let Some(skip) = position.checked_sub(state.first) else { return Err(TooOld { oldest: state.floor }) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(state.log.len());
        out.extend(state.log.range(skip..).take(limit).cloned());
        Ok(())
    }

    /// Resolves whenever something changed.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.wakes.subscribe()
    }

    /// Resolves when something changed that has this value in this field, or had it, and perhaps more often.
    pub fn subscribe_to(&self, field: &str, value: &str) -> watch::Receiver<()> {
        self.wakes.subscribe_to(field, value)
    }

    /// Forgets history that has become too old. To be called more often than `MAX_AGE`, so that no watch is left behind.
    pub fn trim(&self) {
        self.state.write().trim(base::clock::monotonic());
        self.wakes.catch_up();
    }
}

impl State {
    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn apply(&mut self, change: Change, at: Instant) {
        let (kind, entry, before) = match change {
            Change::Put(entry) => {
                let entry = Arc::new(entry);
                let before = self.entries.replace(ByKey(entry.clone())).map(|e| e.0);
                let kind = if before.is_some() { EventKind::Modified } else { EventKind::Added };
                (kind, entry, before)
            }
            Change::Delete { key, revision } => {
                let Some(before) = self.entries.take(key.as_ref()).map(|e| e.0) else { return };
                (EventKind::Deleted, Arc::new(before.at(revision)), Some(before))
            }
        };
        self.changed = entry.revision;
        self.log.push_back(Arc::new(Event { kind, entry, before, frames: Mutex::default(), at }));
    }

    fn trim(&mut self, now: Instant) {
        while self.log.len() > MIN_EVENTS {
            let Some(oldest) = self.log.front() else { return };
            if self.log.len() <= MAX_EVENTS && now.duration_since(oldest.at) < MAX_AGE {
                return;
            }
            self.floor = oldest.revision();
            self.first += 1;
            self.log.pop_front();
        }
    }

    fn list(&self, prefix: &str, start: &str, mut keep: impl FnMut(&Entry) -> bool, limit: usize) -> (Vec<Arc<Entry>>, bool) {
        let from = if start < prefix { prefix } else { start };
        let range = (Bound::Included(from), Bound::Unbounded);
        let mut found = Vec::new();
        for entry in self.entries.range::<str, _>(range).map(|e| &e.0).take_while(|e| e.key.starts_with(prefix)) {
            if keep(entry) {
                if found.len() == limit {
                    return (found, true);
                }
                found.push(entry.clone());
            }
        }
        (found, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection() -> Collection {
        Collection::new(kinds::find("", "v1", "configmaps").unwrap())
    }

    fn put(collection: &Collection, key: &str, revision: i64) {
        let value = Bytes::from(format!(r#"{{"metadata":{{"name":"{revision}"}}}}"#));
        collection.apply(vec![Change::Put(collection.entry(key, revision, value).unwrap())]);
    }

    #[tokio::test]
    async fn log_gives_changes_in_order() {
        let collection = collection();
        collection.reset(vec![], 5);
        put(&collection, "a/x", 6);
        put(&collection, "a/x", 8);
        collection.apply(vec![Change::Delete { key: "a/x".into(), revision: 9 }]);
        let check = |after: i64, expected: &[(EventKind, i64)]| {
            let mut events = Vec::new();
            collection.read(collection.position_after(after).unwrap(), 100, &mut events).unwrap();
            let seen: Vec<_> = events.iter().map(|e| (e.kind, e.revision())).collect();
            assert_eq!(seen, expected);
        };
        check(5, &[(EventKind::Added, 6), (EventKind::Modified, 8), (EventKind::Deleted, 9)]);
        check(6, &[(EventKind::Modified, 8), (EventKind::Deleted, 9)]);
        check(9, &[]);
        assert_eq!(collection.position_after(4), Err(TooOld { oldest: 5 }));
    }

    #[tokio::test(start_paused = true)]
    async fn old_history_is_forgotten() {
        let collection = collection();
        for revision in 1..=MIN_EVENTS as i64 + 10 {
            put(&collection, "a/x", revision);
        }
        tokio::time::advance(MAX_AGE * 2).await;
        collection.trim();
        assert!(collection.position_after(9).is_err());
        assert!(collection.position_after(10).is_ok());
        assert_eq!(collection.read(0, 1, &mut Vec::new()), Err(TooOld { oldest: 10 }));
    }

    #[tokio::test]
    async fn only_those_are_woken_whom_a_change_concerns() {
        let pods = Collection::new(kinds::find("", "v1", "pods").unwrap());
        let put = |name: &str, node: &str, revision: i64| {
            let value = Bytes::from(format!(r#"{{"metadata":{{"name":{name:?}}},"spec":{{"nodeName":{node:?}}}}}"#));
            pods.apply(vec![Change::Put(pods.entry(&format!("a/{name}"), revision, value).unwrap())]);
        };
        let watches =
            [("spec.nodeName", "x"), ("spec.nodeName", "y"), ("spec.nodeName", ""), ("metadata.name", "p"), ("status.phase", "z")];
        let mut watches = watches.map(|(field, value)| pods.subscribe_to(field, value));
        let mut check = |expected: [bool; 5]| {
            let seen = watches.each_mut().map(|watch| {
                let changed = watch.has_changed().unwrap();
                watch.mark_unchanged();
                changed
            });
            assert_eq!(seen, expected);
        };
        put("p", "", 1);
        check([false, false, true, true, true]);
        put("p", "x", 2);
        check([true, false, true, true, true]);
        put("q", "y", 3);
        check([false, true, false, false, true]);
        pods.apply(vec![Change::Delete { key: "a/q".into(), revision: 4 }]);
        check([false, true, false, false, true]);
        pods.trim();
        check([true, true, true, true, false]);
        (5..5 + CATCH_UP_EVERY as i64).for_each(|revision| put("q", "y", revision));
        check([true, true, true, true, true]);
    }

    #[tokio::test]
    async fn lists_by_prefix_in_pages() {
        let collection = collection();
        for (i, key) in ["a/x", "a/y", "a/z", "b/x"].iter().enumerate() {
            put(&collection, key, i as i64 + 1);
        }
        let (page, more) = collection.list("a/", "", |_| true, 2);
        assert_eq!((page.iter().map(|e| e.key.as_ref()).collect::<Vec<_>>(), more), (vec!["a/x", "a/y"], true));
        let (page, more) = collection.list("a/", "a/y\0", |_| true, 2);
        assert_eq!((page.len(), more), (1, false));
    }
}
