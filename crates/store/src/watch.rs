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
use tokio::task::JoinHandle;

use crate::index::{Change, Item, Version};
use crate::kv::*;
use crate::planted::planted;
use crate::reply::reads_in_place;
use crate::shelf::Shelf;
use crate::state::State;

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
    touched: Vec<Arc<Watcher>>,
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
                if watcher.offer(change, at) {
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
        for watcher in watchers.touched.drain(..) {
            watcher.queue.lock().touched = false;
            watcher.notify.notify_one();
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
    pending: VecDeque<Arc<Change>>,
    /// What the hub's bytes were when the first of these came, or earlier.
    first_at: u64,
    /// The first revision that is neither delivered nor pending.
    next: Revision,
    /// Changes from `next` on must be read from the history.
    lagging: bool,
    touched: bool,
    failed: Option<KvError>,
}

impl Watcher {
    fn wants(&self, version: &Version) -> bool {
        if version.is_deletion() { !self.request.no_delete } else { !self.request.no_put }
    }

    /// Queues a change; returns whether the watcher was untouched before in this round.
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
        !std::mem::replace(&mut queue.touched, true)
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

/// Changes of one or more whole revisions, in order; without changes it is a progress mark. All watchers share them.
pub struct SharedResponse {
    pub revision: Revision,
    pub changes: Vec<SharedChange>,
}

/// A change that other watchers may hold, too.
pub struct SharedChange(Arc<Change>);

impl SharedChange {
    /// The change, and with `prev_kv` the version before.
    pub fn to_event(&self, prev_kv: bool) -> Event {
        let Change { version, value, .. } = &*self.0;
        Event {
            kind: if version.is_deletion() { EventKind::Delete } else { EventKind::Put },
            kv: version.to_kv(value.clone()),
            prev_kv: if prev_kv { self.0.previous_kv() } else { None },
        }
    }

    /// The change without the version before as `encode` has it, which must be the same function for all watchers: only the first one calls it.
    pub fn encoded(&self, encode: impl FnOnce(Event) -> Bytes) -> &Bytes {
        self.0.encoded.get_or_init(|| encode(self.to_event(false)))
    }
}

/// One watch, as its owner sees it.
pub struct EngineWatch {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    /// Values that are being read, for changes that have left the queue or the history.
    reading: Option<JoinHandle<Result<Vec<Arc<Change>>, KvError>>>,
    /// A progress mark is owed as soon as this revision is delivered.
    progress_wanted: Option<Revision>,
    progress_interval: Duration,
    progress_due: tokio::time::Instant,
}

/// What a watch does next.
enum Step {
    Respond(SharedResponse),
    /// Look again: something was read or is being read.
    Again,
    Wait,
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
    pub(crate) fn new(shared: Arc<Shared>, request: WatchRequest, progress_interval: Duration) -> Result<Self, KvError> {
        let state = shared.state.read();
        let lagging = request.start_revision > 0 && request.start_revision <= state.revision;
        let next = if request.start_revision > 0 { request.start_revision } else { state.revision + 1 };
        let queue = Queue { pending: VecDeque::new(), first_at: 0, next, lagging, touched: false, failed: None };
        let watcher = Arc::new(Watcher { request, queue: Mutex::new(queue), notify: Notify::new() });
        let mut watchers = shared.hub.lock();
        if let Some(error) = &watchers.closed {
            return Err(error.clone());
        }
        watchers.add(&watcher);
        drop(watchers);
        drop(state);
        let progress_due = base::clock::monotonic() + progress_interval;
        Ok(Self { shared, watcher, reading: None, progress_wanted: None, progress_interval, progress_due })
    }

    /// What is there now.
    fn step(&mut self) -> Result<Step, KvError> {
        if planted!(ProgressAheadOfEvents) && self.progress_wanted.is_some() {
            let published = self.shared.hub.published.load(Ordering::Acquire);
            return Ok(Step::Respond(self.progress_mark(published)));
        }
        // Read before the queue: what is published by now is in the queue.
        let published = self.shared.hub.published.load(Ordering::Acquire);
        let mut queue = self.watcher.queue.lock();
        let taken = queue.take(published);
        if !taken.is_empty() {
            drop(queue);
            if self.watcher.request.prev_kv && taken.iter().any(|change| change.is_cold()) {
                let shelf = self.shared.state.read().index.shelf.clone();
                return self.read(move || read_previous(taken, &shelf));
            }
            return Ok(Step::Respond(respond(taken)));
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
            return Ok(Step::Respond(self.progress_mark(published)));
        }
        Ok(Step::Wait)
    }

    /// Reads a part of the history. At its end the queue takes over, without a gap because the state is held still.
    fn catch_up(&mut self) -> Result<Step, KvError> {
        let (mut items, mut previous) = (Vec::new(), Vec::new());
        let state = self.shared.state.read();
        let from = self.watcher.queue.lock().next;
        if from < state.compact_revision && !planted!(WatchGapOnCompaction) {
            return Err(KvError::Compacted { compact_revision: state.compact_revision });
        }
        let request = &self.watcher.request;
        let next = state.index.changes_from(from, HISTORY_BUDGET, |version| {
            if !request.range.contains(&version.key) || !self.watcher.wants(version) {
                return 1;
            }
            previous.push(if request.prev_kv { state.index.previous(version).map(Item::of) } else { None });
            items.push(Item::of(version));
            1 + (version.length >> 10) as usize
        });
        let mut queue = self.watcher.queue.lock();
        queue.lagging = next.is_some();
        queue.next = next
            .map_or(state.revision + 1 + Revision::from(planted!(WatchLostOnSwitch)), |next| next - Revision::from(planted!(WatchRepeats)));
        drop(queue);
        let shelf = state.index.shelf.clone();
        drop(state);
        if items.is_empty() {
            // Nothing of interest in this part.
            return Ok(Step::Again);
        }
        let is_cold = items.iter().chain(previous.iter().flatten()).any(|item| item.value.is_none());
        let read = move || read_changes(items, previous, &shelf);
        if is_cold { self.read(read) } else { Ok(Step::Respond(respond(read()?))) }
    }

    /// Reads the disk beside the workers of the runtime.
    fn read(&mut self, read: impl FnOnce() -> Result<Vec<Arc<Change>>, KvError> + Send + 'static) -> Result<Step, KvError> {
        if reads_in_place() {
            return Ok(Step::Respond(respond(read()?)));
        }
        self.reading = Some(tokio::task::spawn_blocking(read));
        Ok(Step::Again)
    }

    /// The next response; `Err(Compacted)` or another error ends the watch. Cancel safe.
    pub async fn next_shared(&mut self) -> Result<SharedResponse, KvError> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = reading.await.map_err(|error| KvError::Internal(format!("the history was not read: {error}")))?;
                self.reading = None;
                return Ok(self.delivered(respond(read?)));
            }
            match self.step()? {
                Step::Respond(response) => return Ok(self.delivered(response)),
                // A long history must not keep others from the worker.
                Step::Again => tokio::task::yield_now().await,
                Step::Wait if self.watcher.request.progress_notify => {
                    if tokio::time::timeout_at(self.progress_due, self.watcher.notify.notified()).await.is_err() {
                        self.progress_due = base::clock::monotonic() + self.progress_interval;
                        self.want_progress();
                    }
                }
                Step::Wait => self.watcher.notify.notified().await,
            }
        }
    }

    fn delivered(&mut self, response: SharedResponse) -> SharedResponse {
        if self.watcher.request.progress_notify {
            self.progress_due = base::clock::monotonic() + self.progress_interval;
        }
        response
    }

    fn progress_mark(&mut self, revision: Revision) -> SharedResponse {
        self.progress_wanted = None;
        SharedResponse { revision, changes: Vec::new() }
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
        let SharedResponse { revision, changes } = self.next_shared().await?;
        let prev_kv = self.watcher.request.prev_kv;
        Ok(WatchResponse { revision, events: changes.iter().map(|change| change.to_event(prev_kv)).collect() })
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

fn respond(changes: Vec<Arc<Change>>) -> SharedResponse {
    let revision = changes.last().map_or(0, |change| change.version.mod_revision);
    SharedResponse { revision, changes: changes.into_iter().map(SharedChange).collect() }
}

/// Finds the values of versions and of those before them.
fn read_changes(mut items: Vec<Item>, previous: Vec<Option<Item>>, shelf: &Shelf) -> Result<Vec<Arc<Change>>, KvError> {
    let count = items.len();
    items.extend(previous.iter().flatten().cloned());
    shelf.fill(&mut items)?;
    let mut found = items.split_off(count).into_iter();
    let changes = items.into_iter().zip(previous).map(|(Item { version, value }, previous)| {
        let previous = previous.and_then(|_| found.next());
        Arc::new(Change::new(version, value.unwrap_or_default(), previous))
    });
    Ok(changes.collect())
}

/// Finds the values of the versions before the changes, one by one: some may be compacted by now.
fn read_previous(changes: Vec<Arc<Change>>, shelf: &Shelf) -> Result<Vec<Arc<Change>>, KvError> {
    for change in changes.iter().filter(|change| change.is_cold()) {
        let Some(previous) = &change.previous else { continue };
        let value = match shelf.value(&previous.version) {
            Ok(value) => Some(value),
            Err(KvError::Internal(_)) => None,
            Err(error) => return Err(error),
        };
        // Another watcher may have been faster, with the same result.
        let _ = change.previous_value.set(value);
    }
    Ok(changes)
}
