//! Watchers: who hears of which change. The writer publishes changes to the watchers of their keys and never waits for one; a watcher that falls
//! behind its bounded queue reads the history from its place instead.
//!
//! Locks: state before hub before queue. A writer takes the hub's lock before it lets go of the state's, so whoever saw a revision and then takes the
//! hub's lock finds it published.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::Notify;

use crate::index::Change;
use crate::kv::*;
use crate::planted::planted;
use crate::state::State;

/// A watcher's queue holds at most so many changes and bytes of values; what comes above is read from the history.
const QUEUE_CHANGES: usize = if cfg!(test) { 16 } else { 4096 };
const QUEUE_BYTES: usize = 8 << 20;
/// One response holds about so many events: whole revisions only.
const RESPONSE_EVENTS: usize = if cfg!(test) { 4 } else { 1024 };
/// Changes looked at in the history under one read lock.
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
    touched: Vec<Arc<Watcher>>,
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

    fn offer(&mut self, change: &Change) {
        let key = &change.version.key;
        let Self { exact, prefixes, prefix_lengths, others, touched, .. } = self;
        let mut all = |list: &[Arc<Watcher>]| {
            for watcher in list {
                if watcher.offer(change) {
                    touched.push(watcher.clone());
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

impl Hub {
    pub fn new(revision: Revision) -> Self {
        Self { watchers: Mutex::default(), published: AtomicI64::new(revision) }
    }

    /// Taken by the writer while it still holds the state.
    pub fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock()
    }

    /// Puts changes into the queues and wakes their owners; after it everything up to `revision` counts as published.
    pub fn publish(&self, mut watchers: MutexGuard<'_, Watchers>, changes: &[Change], revision: Revision) {
        for change in changes {
            watchers.offer(change);
        }
        self.published.store(revision, Ordering::Release);
        for watcher in watchers.touched.drain(..) {
            watcher.queue.lock().touched = false;
            watcher.notify.notify_one();
        }
    }

    /// Ends all watches, the present and the future ones, with an error.
    pub fn close(&self, error: KvError) {
        let mut watchers = self.watchers.lock();
        let Watchers { exact, prefixes, others, closed, .. } = &mut *watchers;
        for watcher in exact.values().chain(prefixes.values()).flatten().chain(others.iter()) {
            watcher.queue.lock().failed = Some(error.clone());
            watcher.notify.notify_one();
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
    notify: Notify,
}

#[derive(Debug)]
struct Queue {
    pending: VecDeque<Change>,
    bytes: usize,
    /// The first revision that is neither delivered nor pending.
    next: Revision,
    /// Changes from `next` on must be read from the history.
    lagging: bool,
    touched: bool,
    failed: Option<KvError>,
}

impl Watcher {
    fn wants(&self, change: &Change) -> bool {
        if change.version.is_deletion() { !self.request.no_delete } else { !self.request.no_put }
    }

    /// Queues a change; returns whether the watcher was untouched before in this round.
    fn offer(&self, change: &Change) -> bool {
        let revision = change.version.mod_revision;
        let mut queue = self.queue.lock();
        if queue.lagging || revision < queue.next || !self.wants(change) {
            return false;
        }
        if queue.pending.len() >= QUEUE_CHANGES || queue.bytes >= QUEUE_BYTES {
            queue.overflow(revision);
        } else {
            queue.bytes += change.version.value.len();
            let previous = if self.request.prev_kv { change.previous.clone() } else { None };
            queue.pending.push_back(Change { version: change.version.clone(), previous });
        }
        !std::mem::replace(&mut queue.touched, true)
    }
}

impl Queue {
    /// Leaves `revision` and everything after it to the history. What of it is queued goes too: a revision is delivered whole.
    fn overflow(&mut self, revision: Revision) {
        while let Some(last) = self.pending.pop_back_if(|last| last.version.mod_revision == revision) {
            self.bytes -= last.version.value.len();
        }
        self.lagging = true;
        self.next = revision;
    }

    /// Takes whole published revisions, about `RESPONSE_EVENTS` of changes.
    fn take(&mut self, published: Revision) -> Vec<Change> {
        let mut taken: Vec<Change> = Vec::new();
        while let Some(change) = self.pending.front() {
            let revision = change.version.mod_revision;
            let complete = taken.last().is_none_or(|last| last.version.mod_revision != revision);
            if revision > published || (planted!(WatchSplitsRevision) && !taken.is_empty()) || (complete && taken.len() >= RESPONSE_EVENTS)
            {
                break;
            }
            let change = self.pending.pop_front().expect("front was just seen");
            self.bytes -= change.version.value.len();
            taken.push(change);
        }
        taken
    }
}

/// One watch, as its owner sees it.
pub(crate) struct EngineWatch {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    /// A progress mark is owed as soon as this revision is delivered.
    progress_wanted: Option<Revision>,
    progress_interval: Duration,
    progress_due: tokio::time::Instant,
}

/// The state and its watchers, shared by readers and the one writer.
#[derive(Debug)]
pub(crate) struct Shared {
    pub state: RwLock<State>,
    pub hub: Hub,
    /// When lease time began.
    pub epoch: tokio::time::Instant,
}

impl EngineWatch {
    pub fn new(shared: Arc<Shared>, request: WatchRequest, progress_interval: Duration) -> Result<Self, KvError> {
        let state = shared.state.read();
        let lagging = request.start_revision > 0 && request.start_revision <= state.revision;
        let next = if request.start_revision > 0 { request.start_revision } else { state.revision + 1 };
        let queue = Queue { pending: VecDeque::new(), bytes: 0, next, lagging, touched: false, failed: None };
        let watcher = Arc::new(Watcher { request, queue: Mutex::new(queue), notify: Notify::new() });
        let mut watchers = shared.hub.lock();
        if let Some(error) = &watchers.closed {
            return Err(error.clone());
        }
        watchers.add(&watcher);
        drop(watchers);
        drop(state);
        let progress_due = base::clock::monotonic() + progress_interval;
        Ok(Self { shared, watcher, progress_wanted: None, progress_interval, progress_due })
    }

    /// The next response if there is one now.
    fn poll_next(&mut self) -> Result<Option<WatchResponse>, KvError> {
        if planted!(ProgressAheadOfEvents) && self.progress_wanted.is_some() {
            let published = self.shared.hub.published.load(Ordering::Acquire);
            return Ok(Some(self.progress_mark(published)));
        }
        // Read before the queue: what is published by now is in the queue.
        let published = self.shared.hub.published.load(Ordering::Acquire);
        let mut queue = self.watcher.queue.lock();
        let taken = queue.take(published);
        if !taken.is_empty() {
            drop(queue);
            return Ok(Some(respond(&taken)));
        }
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        let waits = queue.pending.is_empty();
        if queue.lagging && waits {
            drop(queue);
            return self.catch_up();
        }
        drop(queue);
        if waits && self.progress_wanted.is_some_and(|wanted| wanted <= published) {
            return Ok(Some(self.progress_mark(published)));
        }
        Ok(None)
    }

    /// Reads a part of the history. At its end the queue takes over, without a gap because the state is held still.
    fn catch_up(&mut self) -> Result<Option<WatchResponse>, KvError> {
        let mut taken = Vec::new();
        let state = self.shared.state.read();
        let from = self.watcher.queue.lock().next;
        if from < state.compact_revision && !planted!(WatchGapOnCompaction) {
            return Err(KvError::Compacted { compact_revision: state.compact_revision });
        }
        let request = &self.watcher.request;
        let next = state.index.changes_from(from, HISTORY_BUDGET, |version| {
            let previous = if request.prev_kv { state.index.previous(version).cloned() } else { None };
            let change = Change { version: version.clone(), previous };
            if request.range.contains(&version.key) && self.watcher.wants(&change) {
                taken.push(change);
            }
        });
        let mut queue = self.watcher.queue.lock();
        queue.lagging = next.is_some();
        queue.next = next
            .map_or(state.revision + 1 + Revision::from(planted!(WatchLostOnSwitch)), |next| next - Revision::from(planted!(WatchRepeats)));
        drop(queue);
        drop(state);
        if taken.is_empty() {
            // Nothing of interest in this part: look again at once.
            self.watcher.notify.notify_one();
            return Ok(None);
        }
        Ok(Some(respond(&taken)))
    }

    fn progress_mark(&mut self, revision: Revision) -> WatchResponse {
        self.progress_wanted = None;
        WatchResponse { revision, events: Vec::new() }
    }

    /// What is applied now is published once the hub's lock was free.
    fn want_progress(&mut self) {
        let revision = self.shared.state.read().revision;
        drop(self.shared.hub.lock());
        self.progress_wanted = Some(revision);
    }
}

#[async_trait::async_trait]
impl Watch for EngineWatch {
    async fn next(&mut self) -> Result<WatchResponse, KvError> {
        loop {
            if let Some(response) = self.poll_next()? {
                self.progress_due = base::clock::monotonic() + self.progress_interval;
                return Ok(response);
            }
            if self.watcher.request.progress_notify {
                if tokio::time::timeout_at(self.progress_due, self.watcher.notify.notified()).await.is_err() {
                    self.progress_due = base::clock::monotonic() + self.progress_interval;
                    self.want_progress();
                }
            } else {
                self.watcher.notify.notified().await;
            }
        }
    }

    async fn request_progress(&mut self) -> Result<(), KvError> {
        self.want_progress();
        self.watcher.notify.notify_one();
        Ok(())
    }
}

impl Drop for EngineWatch {
    fn drop(&mut self) {
        self.shared.hub.lock().remove(&self.watcher);
    }
}

fn respond(changes: &[Change]) -> WatchResponse {
    let revision = changes.last().map_or(0, |change| change.version.mod_revision);
    let events = changes
        .iter()
        .map(|Change { version, previous }| Event {
            kind: if version.is_deletion() { EventKind::Delete } else { EventKind::Put },
            kv: version.to_kv(),
            prev_kv: previous.as_ref().map(|previous| previous.to_kv()),
        })
        .collect();
    WatchResponse { revision, events }
}
