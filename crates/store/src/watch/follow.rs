//! Watches as their owner sees them: the next response of one of many, from its queue or from the history. Never holds up the writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Bell, HISTORY_BUDGET, Queue, Shared, Watcher};
use crate::index::{Change, Item};
use crate::kv::*;
use crate::planted::planted;
use crate::reply::reads_in_place;
use crate::shelf::Shelf;

/// Parts of the history without anything of interest that are looked at in one go.
const DULL_PARTS: usize = 4;

/// Changes of one or more whole revisions, in order; without changes it is a progress mark. All watchers share them.
pub struct SharedResponse {
    pub revision: Revision,
    pub changes: Vec<SharedChange>,
}

impl SharedResponse {
    fn new(changes: Vec<Arc<Change>>) -> Self {
        let revision = changes.last().map_or(0, |change| change.version.mod_revision);
        Self { revision, changes: changes.into_iter().map(SharedChange).collect() }
    }
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

/// One watch of a set.
struct Follower {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    /// Values are being read, for changes that have left the queue or the history.
    reading: bool,
    /// A progress mark is owed as soon as this revision is delivered.
    progress_wanted: Option<Revision>,
    /// Nothing was delivered since the last round of progress marks.
    quiet: bool,
}

/// What a watch does next.
enum Step {
    Respond(SharedResponse),
    /// Look again: there was nothing of interest in a part of the history.
    Again,
    /// Look again when the bell rings next: what is in the queue is just being published.
    Soon,
    Wait,
}

impl Follower {
    fn new(shared: Arc<Shared>, request: WatchRequest, bell: Arc<Bell>, key: u64) -> Result<Self, KvError> {
        let state = shared.state.read();
        let lagging = request.start_revision > 0 && request.start_revision <= state.revision;
        let next = if request.start_revision > 0 { request.start_revision } else { state.revision + 1 };
        let queue = Queue { pending: VecDeque::new(), first_at: 0, next, lagging, failed: None };
        let watcher = Watcher { request, queue: Mutex::new(queue), bell, key, rung: false.into(), read: Mutex::default() };
        let watcher = Arc::new(watcher);
        let mut watchers = shared.hub.lock();
        if let Some(error) = &watchers.closed {
            return Err(error.clone());
        }
        watchers.add(&watcher);
        drop(watchers);
        drop(state);
        if lagging {
            watcher.ring();
        }
        Ok(Self { shared, watcher, reading: false, progress_wanted: None, quiet: true })
    }

    /// What is there now.
    fn step(&mut self) -> Result<Step, KvError> {
        if self.reading {
            let Some(read) = self.watcher.read.lock().take() else { return Ok(Step::Wait) };
            self.reading = false;
            return Ok(Step::Respond(SharedResponse::new(read?)));
        }
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
            return Ok(Step::Respond(SharedResponse::new(taken)));
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
        Ok(if waits { Step::Wait } else { Step::Soon })
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
            return Ok(Step::Again);
        }
        let is_cold = items.iter().chain(previous.iter().flatten()).any(|item| item.value.is_none());
        let read = move || read_changes(items, previous, &shelf);
        if is_cold { self.read(read) } else { Ok(Step::Respond(SharedResponse::new(read()?))) }
    }

    /// Reads the disk beside the workers of the runtime.
    fn read(&mut self, read: impl FnOnce() -> Result<Vec<Arc<Change>>, KvError> + Send + 'static) -> Result<Step, KvError> {
        if reads_in_place() {
            return Ok(Step::Respond(SharedResponse::new(read()?)));
        }
        self.reading = true;
        let watcher = self.watcher.clone();
        tokio::task::spawn_blocking(move || {
            *watcher.read.lock() = Some(read());
            watcher.ring();
        });
        Ok(Step::Wait)
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
        self.watcher.ring();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.hub.lock().remove(&self.watcher);
    }
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

/// Many watches with one owner, who hears of them in one place.
pub struct WatchSet {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    /// By key.
    followers: Vec<Option<Follower>>,
    free: Vec<u64>,
    /// Watches that may have something, taken from the bell.
    taken: VecDeque<u64>,
    /// Watches that have something at the bell's next ring.
    soon: Vec<u64>,
    progress_interval: Duration,
    progress_due: tokio::time::Instant,
}

impl WatchSet {
    pub(crate) fn new(shared: Arc<Shared>, progress_interval: Duration) -> Self {
        let progress_due = base::clock::monotonic() + progress_interval;
        Self {
            shared,
            bell: Arc::default(),
            followers: Vec::new(),
            free: Vec::new(),
            taken: VecDeque::new(),
            soon: Vec::new(),
            progress_interval,
            progress_due,
        }
    }

    pub(crate) fn add_checked(&mut self, request: WatchRequest) -> Result<u64, KvError> {
        let key = self.free.last().copied().unwrap_or(self.followers.len() as u64);
        let follower = Follower::new(self.shared.clone(), request, self.bell.clone(), key)?;
        if self.free.pop().is_some() {
            *self.slot(key) = Some(follower);
        } else {
            self.followers.push(Some(follower));
        }
        Ok(key)
    }

    fn slot(&mut self, key: u64) -> &mut Option<Follower> {
        &mut self.followers[key as usize]
    }

    /// Ends a watch. Its key may be given to another one later.
    pub fn remove(&mut self, key: u64) {
        if self.slot(key).take().is_some() {
            self.free.push(key);
        }
    }

    /// Asks for a progress mark as soon as the watch has delivered everything up to now.
    pub fn request_progress(&mut self, key: u64) {
        if let Some(follower) = self.slot(key) {
            follower.want_progress();
        }
    }

    /// A next response that is there now, and whose it is. An error ends its watch.
    pub fn try_next(&mut self) -> Option<(u64, Result<SharedResponse, KvError>)> {
        let mut dull = 0;
        loop {
            if self.taken.is_empty() {
                self.taken.extend(self.bell.rings.lock().keys.drain(..));
            }
            let key = self.taken.pop_front()?;
            // A key that was rung may be another's by now, who then looks in vain.
            let Some(follower) = &mut self.followers[key as usize] else { continue };
            // From here on it is told of what comes.
            follower.watcher.rung.store(false, Ordering::Release);
            match follower.step() {
                Ok(Step::Wait) => {}
                Ok(Step::Soon) => self.soon.push(key),
                Ok(Step::Again) => {
                    self.taken.push_back(key);
                    dull += 1;
                    if dull == DULL_PARTS {
                        return None;
                    }
                }
                Ok(Step::Respond(response)) => {
                    follower.quiet = false;
                    // There may be more; the others come first.
                    self.taken.push_back(key);
                    return Some((key, Ok(response)));
                }
                Err(error) => {
                    self.remove(key);
                    return Some((key, Err(error)));
                }
            }
        }
    }

    /// Returns when `try_next` may have something. Cancel safe.
    pub async fn ready(&mut self) {
        if !self.taken.is_empty() {
            // A long history must not keep others from the worker.
            return tokio::task::yield_now().await;
        }
        let rung = tokio::time::timeout_at(self.progress_due, self.bell.notify.notified()).await.is_ok();
        self.taken.extend(self.soon.drain(..));
        if !rung {
            self.progress_due = base::clock::monotonic() + self.progress_interval;
            for follower in self.followers.iter_mut().flatten().filter(|follower| follower.watcher.request.progress_notify) {
                if std::mem::replace(&mut follower.quiet, true) {
                    follower.want_progress();
                }
            }
        }
    }
}

/// One watch alone.
pub struct EngineWatch {
    set: WatchSet,
    ended: Option<KvError>,
}

impl EngineWatch {
    pub(crate) fn new(shared: Arc<Shared>, request: WatchRequest, progress_interval: Duration) -> Result<Self, KvError> {
        let mut set = WatchSet::new(shared, progress_interval);
        set.add_checked(request)?;
        Ok(Self { set, ended: None })
    }
}

#[async_trait::async_trait]
impl Watch for EngineWatch {
    async fn next(&mut self) -> Result<WatchResponse, KvError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        loop {
            match self.set.try_next() {
                None => self.set.ready().await,
                Some((_, Err(error))) => {
                    self.ended = Some(error.clone());
                    return Err(error);
                }
                Some((key, Ok(SharedResponse { revision, changes }))) => {
                    let prev_kv = self.set.slot(key).as_ref().is_some_and(|follower| follower.watcher.request.prev_kv);
                    return Ok(WatchResponse { revision, events: changes.iter().map(|change| change.to_event(prev_kv)).collect() });
                }
            }
        }
    }

    async fn request_progress(&mut self) -> Result<(), KvError> {
        self.set.request_progress(0);
        Ok(())
    }
}
