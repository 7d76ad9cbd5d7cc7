//! The work queue of controllers (client-go/util/workqueue): an item waits at most once, is worked on by at most one worker, and comes again if it was
//! added meanwhile. Delayed and rate-limited adds included. Holds keys, never objects.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

const BASE_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1000);

/// Cheap to clone; all clones are one queue.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    /// Waiting in `ready`, or to be put there when its worker is done.
    dirty: HashSet<T>,
    processing: HashSet<T>,
    delayed: BinaryHeap<Delayed<T>>,
    /// The earliest time of each delayed item; entries of `delayed` with another time are stale.
    due: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
    shut_down: bool,
}

struct Delayed<T> {
    at: Instant,
    item: T,
}

impl<T> PartialEq for Delayed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl<T> Eq for Delayed<T> {}
impl<T> PartialOrd for Delayed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Delayed<T> {
    /// The earliest is the greatest, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl<T: Clone + Eq + Hash> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BinaryHeap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            shut_down: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }) }
    }

    /// Adds an item now. Does nothing when it already waits.
    pub fn add(&self, item: T) {
        if self.shared.state.lock().add(item) {
            self.shared.wake.notify_one();
        }
    }

    /// Adds an item after a delay; of several delays the earliest counts.
    pub fn add_after(&self, item: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(item);
        }
        let at = base::clock::monotonic() + delay;
        let mut state = self.shared.state.lock();
        if state.shut_down || state.due.get(&item).is_some_and(|&earlier| earlier <= at) {
            return;
        }
        state.due.insert(item.clone(), at);
        state.delayed.push(Delayed { at, item });
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Adds an item after a delay that doubles with every call until `forget`: 5 ms to 1000 s.
    pub fn add_rate_limited(&self, item: T) {
        let failures = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(item.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        let delay = BASE_DELAY.saturating_mul(2u32.saturating_pow(failures - 1)).min(MAX_DELAY);
        self.add_after(item, delay);
    }

    /// Forgets the failures of an item.
    pub fn forget(&self, item: &T) {
        self.shared.state.lock().failures.remove(item);
    }

    /// How often `add_rate_limited` was called since the last `forget`.
    pub fn failures(&self, item: &T) -> u32 {
        self.shared.state.lock().failures.get(item).copied().unwrap_or(0)
    }

    /// Waits for an item, which is the caller's until `done`. `None` after `shut_down` once everything that waited was handed out.
    pub async fn get(&self) -> Option<T> {
        loop {
            let next_due = {
                let mut state = self.shared.state.lock();
                state.promote(base::clock::monotonic());
                if let Some(item) = state.take() {
                    // Pass the baton: this caller may be the one that watched the clock for the others.
                    if !state.ready.is_empty() || !state.delayed.is_empty() {
                        self.shared.wake.notify_one();
                    }
                    return Some(item);
                }
                if state.shut_down {
                    self.shared.wake.notify_one();
                    return None;
                }
                state.delayed.peek().map(|delayed| delayed.at)
            };
            match next_due {
                Some(at) => {
                    let _either = tokio::time::timeout_at(at, self.shared.wake.notified()).await;
                }
                None => self.shared.wake.notified().await,
            }
        }
    }

    /// Ends the work on an item; it comes again at once if it was added meanwhile.
    pub fn done(&self, item: &T) {
        let mut state = self.shared.state.lock();
        if let Some(item) = state.processing.take(item)
            && state.dirty.contains(&item)
        {
            state.ready.push_back(item);
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Accepts nothing more; `get` hands out what waits and then `None`.
    pub fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.shut_down = true;
        state.delayed.clear();
        state.due.clear();
        drop(state);
        self.shared.wake.notify_one();
    }

    /// How many items wait to be handed out.
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// Whether a worker has something new to take.
    fn add(&mut self, item: T) -> bool {
        if self.shut_down || !self.dirty.insert(item.clone()) || self.processing.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    /// Moves what is due to `ready`.
    fn promote(&mut self, now: Instant) {
        while self.delayed.peek().is_some_and(|delayed| delayed.at <= now) {
            let Some(Delayed { at, item }) = self.delayed.pop() else { return };
            if self.due.get(&item) == Some(&at) {
                self.due.remove(&item);
                self.add(item);
            }
        }
    }

    fn take(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.processing.insert(item.clone());
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_waits_once_and_comes_again_when_added_while_worked_on() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.get().await, Some("b"), "a is being worked on");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_items_come_at_their_earliest_time() {
        let queue = WorkQueue::new();
        let start = base::clock::monotonic();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(5));
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        let late = tokio::time::timeout(Duration::from_secs(60), queue.get()).await;
        assert!(late.is_err(), "the later delays are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_until_forgotten() {
        let queue = WorkQueue::new();
        let mut waits = Vec::new();
        for _ in 0..4 {
            let start = base::clock::monotonic();
            queue.add_rate_limited(1);
            queue.get().await;
            queue.done(&1);
            waits.push(start.elapsed().as_millis());
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        assert_eq!(queue.failures(&1), 4);
        queue.forget(&1);
        assert_eq!(queue.failures(&1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_worker_does_not_hold_back_delayed_items() {
        let queue = WorkQueue::new();
        let (first, second) = (queue.clone(), queue.clone());
        let a = tokio::spawn(async move { first.get().await });
        let b = tokio::spawn(async move { second.get().await });
        tokio::task::yield_now().await;
        queue.add_after("late", Duration::from_secs(1));
        queue.add("now");
        let mut got = [a.await.unwrap().unwrap(), b.await.unwrap().unwrap()];
        got.sort_unstable();
        assert_eq!(got, ["late", "now"]);
    }

    #[tokio::test(start_paused = true)]
    async fn shutting_down_drains() {
        let queue = WorkQueue::new();
        queue.add(1);
        queue.add_after(2, Duration::from_secs(1));
        queue.shut_down();
        queue.add(3);
        assert_eq!(queue.get().await, Some(1));
        assert_eq!(queue.get().await, None);
        assert_eq!(queue.get().await, None);
    }
}
