//! Watchers: who hears of which change. The writer publishes changes to the watchers of their keys and never waits for one; a watcher that falls
//! behind its bounded queue reads the history from its place instead.
//!
//! Locks: state before hub before queue. A writer takes the hub's lock before it lets go of the state's, so whoever saw a revision and then takes the
//! hub's lock finds it published.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::Notify;

use crate::index::{Change, Version};
use crate::kv::*;
use crate::planted::planted;
use crate::state::State;

mod follow;

pub use follow::{EngineWatch, SharedChange, SharedResponse, WatchSet};

/// A watcher's queue holds at most so many changes; what comes above is read from the history.
const QUEUE_CHANGES: usize = if cfg!(test) { 16 } else { 1024 };
/// Queues hold no changes but those among the last so many bytes of values: all queues together take no more memory than that.
const WINDOW_BYTES: u64 = 32 << 20;
/// Queues are looked through for older ones each time so many bytes came.
const WINDOW_STEP_BYTES: u64 = WINDOW_BYTES / 4;
/// One response holds about so many events: whole revisions only.
const RESPONSE_EVENTS: usize = if cfg!(test) { 4 } else { 1024 };
/// Changes looked at in the history under one read lock; each KiB of a value that is wanted counts as one more.
const HISTORY_BUDGET: usize = if cfg!(test) { 8 } else { 4096 };

/// All watchers, found by the key of a change.
#[derive(Debug)]
pub(crate) struct Hub {
    watchers: Mutex<Watchers>,
    /// Every change up to this revision is in the queues.
    published: AtomicI64,
}

#[derive(Debug, Default)]
pub(crate) struct Watchers {
    exact: HashMap<Bytes, Vec<Arc<Watcher>>>,
    prefixes: HashMap<Bytes, Vec<Arc<Watcher>>>,
    /// How many distinct prefixes there are of each length.
    prefix_lengths: BTreeMap<usize, usize>,
    /// Ranges that are neither one key nor a prefix: rare, looked at one by one.
    others: Vec<Arc<Watcher>>,
    /// Owners to be woken when the changes under way are published.
    touched: Vec<Arc<Bell>>,
    /// Bytes of all changes so far, and how many there were when old ones were last looked for.
    bytes: u64,
    looked_at_bytes: u64,
    closed: Option<KvError>,
}

enum Shape {
    Exact(Bytes),
    Prefix(Bytes),
    Other,
}

fn shape(range: &KeyRange) -> Shape {
    match &range.end {
        None => Shape::Exact(range.key.clone()),
        // No key is empty, so "from \0" is everything.
        Some(end) if end.as_ref() == b"\0" && (range.key.is_empty() || range.key.as_ref() == b"\0") => Shape::Prefix(Bytes::new()),
        Some(end) if *end == prefix_end(&range.key) => Shape::Prefix(range.key.clone()),
        Some(_) => Shape::Other,
    }
}

impl Watchers {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty() && self.others.is_empty()
    }

    fn add(&mut self, watcher: &Arc<Watcher>) {
        match shape(&watcher.request.range) {
            Shape::Exact(key) => self.exact.entry(key).or_default().push(watcher.clone()),
            Shape::Prefix(prefix) => {
                let length = prefix.len();
                let list = self.prefixes.entry(prefix).or_default();
                if list.is_empty() {
                    *self.prefix_lengths.entry(length).or_default() += 1;
                }
                list.push(watcher.clone());
            }
            Shape::Other => self.others.push(watcher.clone()),
        }
    }

    fn remove(&mut self, watcher: &Arc<Watcher>) {
        let without = |list: &mut Vec<Arc<Watcher>>| {
            list.retain(|other| !Arc::ptr_eq(other, watcher));
            list.is_empty()
        };
        match shape(&watcher.request.range) {
            Shape::Exact(key) => {
                if self.exact.get_mut(&key).is_some_and(without) {
                    self.exact.remove(&key);
                }
            }
            Shape::Prefix(prefix) => {
                if self.prefixes.get_mut(&prefix).is_some_and(without) {
                    self.prefixes.remove(&prefix);
                    if let Some(count) = self.prefix_lengths.get_mut(&prefix.len()) {
                        *count -= 1;
                        if *count == 0 {
                            self.prefix_lengths.remove(&prefix.len());
                        }
                    }
                }
            }
            Shape::Other => {
                without(&mut self.others);
            }
        }
    }

    fn offer(&mut self, change: &Arc<Change>) {
        let key = &change.version.key[..];
        let Self { exact, prefixes, prefix_lengths, others, touched, bytes, .. } = self;
        *bytes += (change.value.len() + change.version.key.len()) as u64;
        let at = *bytes;
        let mut all = |list: &[Arc<Watcher>]| {
            for watcher in list {
                if watcher.offer(change, at) && watcher.ring_later() {
                    touched.push(watcher.bell.clone());
                }
            }
        };
        if let Some(list) = exact.get(key) {
            all(list);
        }
        for length in prefix_lengths.keys().take_while(|length| **length <= key.len()) {
            if let Some(list) = prefixes.get(&key[..*length]) {
                all(list);
            }
        }
        for watcher in others.iter().filter(|watcher| watcher.request.range.contains(key)) {
            all(std::slice::from_ref(watcher));
        }
    }
}

impl Watchers {
    /// Leaves what came too long ago to the history.
    fn forget_old(&mut self) {
        if self.bytes - self.looked_at_bytes < WINDOW_STEP_BYTES {
            return;
        }
        self.looked_at_bytes = self.bytes;
        let Some(oldest) = self.bytes.checked_sub(WINDOW_BYTES) else { return };
        for watcher in self.exact.values().chain(self.prefixes.values()).flatten().chain(&self.others) {
            let mut queue = watcher.queue.lock();
            if let Some(first) = queue.pending.front().filter(|_| queue.first_at < oldest) {
                let revision = first.version.mod_revision;
                queue.overflow(revision);
            }
        }
    }
}

impl Hub {
    pub fn new(revision: Revision) -> Self {
        Self { watchers: Mutex::default(), published: AtomicI64::new(revision) }
    }

    /// Taken by the writer while it still holds the state.
    pub fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock()
    }

    /// Puts changes into the queues and wakes their owners; after it everything up to `revision` counts as published.
    pub fn publish(&self, mut watchers: MutexGuard<'_, Watchers>, changes: Vec<Change>, revision: Revision) {
        if !watchers.is_empty() {
            for change in changes {
                watchers.offer(&Arc::new(change));
            }
        }
        watchers.forget_old();
        self.published.store(revision, Ordering::Release);
        for bell in watchers.touched.drain(..) {
            bell.rings.lock().is_touched = false;
            bell.notify.notify_one();
        }
    }

    /// The state is another's from now on, up to `revision`: whoever was up to date reads on in its history.
    pub fn rebase(&self, watchers: MutexGuard<'_, Watchers>, revision: Revision) {
        let published = self.published.swap(revision, Ordering::AcqRel);
        for watcher in watchers.exact.values().chain(watchers.prefixes.values()).flatten().chain(watchers.others.iter()) {
            let mut queue = watcher.queue.lock();
            if !queue.lagging && queue.next <= revision {
                queue.lagging = true;
                queue.next = queue.next.max(published + 1);
            }
            watcher.ring();
        }
    }

    /// Ends all watches, the present and the future ones, with an error.
    pub fn close(&self, error: KvError) {
        let mut watchers = self.watchers.lock();
        let Watchers { exact, prefixes, others, closed, .. } = &mut *watchers;
        for watcher in exact.values().chain(prefixes.values()).flatten().chain(others.iter()) {
            watcher.queue.lock().failed = Some(error.clone());
            watcher.ring();
        }
        *closed = Some(error);
    }

    pub fn watcher_count(&self) -> usize {
        let watchers = self.watchers.lock();
        watchers.exact.values().chain(watchers.prefixes.values()).map(Vec::len).sum::<usize>() + watchers.others.len()
    }
}

/// One watch, as the writer sees it.
#[derive(Debug)]
struct Watcher {
    request: WatchRequest,
    queue: Mutex<Queue>,
    /// Where it is told that there is something for it, under its key there.
    bell: Arc<Bell>,
    key: u64,
    /// It is in the bell's list.
    rung: AtomicBool,
    /// What was read for it beside the workers of the runtime.
    read: Mutex<Option<Result<Vec<Arc<Change>>, KvError>>>,
}

/// Where the owner of watches hears which of them have something.
#[derive(Debug, Default)]
struct Bell {
    rings: Mutex<Rings>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Rings {
    keys: Vec<u64>,
    /// The owner is going to be woken.
    is_touched: bool,
}

#[derive(Debug)]
struct Queue {
    pending: VecDeque<Arc<Change>>,
    /// What the hub's bytes were when the first of these came, or earlier.
    first_at: u64,
    /// The first revision that is neither delivered nor pending.
    next: Revision,
    /// Changes from `next` on must be read from the history.
    lagging: bool,
    failed: Option<KvError>,
}

impl Watcher {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.rings.lock().keys.push(self.key);
            self.bell.notify.notify_one();
        }
    }

    /// As `ring`, but its owner is woken by whoever is told to: returns whether nobody was told yet.
    fn ring_later(&self) -> bool {
        if self.rung.swap(true, Ordering::AcqRel) {
            return false;
        }
        let mut rings = self.bell.rings.lock();
        rings.keys.push(self.key);
        !std::mem::replace(&mut rings.is_touched, true)
    }

    fn wants(&self, version: &Version) -> bool {
        if version.is_deletion() { !self.request.no_delete } else { !self.request.no_put }
    }

    /// Queues a change; returns whether there is something new for its owner.
    fn offer(&self, change: &Arc<Change>, at: u64) -> bool {
        let revision = change.version.mod_revision;
        let mut queue = self.queue.lock();
        if queue.lagging || revision < queue.next || !self.wants(&change.version) {
            return false;
        }
        if queue.pending.len() >= QUEUE_CHANGES {
            queue.overflow(revision);
        } else {
            if queue.pending.is_empty() {
                queue.first_at = at;
            }
            queue.pending.push_back(change.clone());
        }
        true
    }
}

impl Queue {
    /// Leaves `revision` and everything after it to the history: a revision is delivered whole.
    fn overflow(&mut self, revision: Revision) {
        while self.pending.pop_back_if(|last| last.version.mod_revision >= revision).is_some() {}
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        self.lagging = true;
        self.next = revision;
    }

    /// Takes whole published revisions, about `RESPONSE_EVENTS` of changes.
    fn take(&mut self, published: Revision) -> Vec<Arc<Change>> {
        let mut taken: Vec<Arc<Change>> = Vec::new();
        while let Some(change) = self.pending.front() {
            let revision = change.version.mod_revision;
            let complete = taken.last().is_none_or(|last| last.version.mod_revision != revision);
            if revision > published || (planted!(WatchSplitsRevision) && !taken.is_empty()) || (complete && taken.len() >= RESPONSE_EVENTS)
            {
                break;
            }
            taken.extend(self.pending.pop_front());
        }
        taken
    }
}

/// The state and its watchers, shared by readers and the one writer.
#[derive(Debug)]
pub(crate) struct Shared {
    pub state: RwLock<State>,
    pub hub: Hub,
    /// When lease time began.
    pub epoch: tokio::time::Instant,
}
