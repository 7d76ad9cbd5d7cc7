//! The queue of pods without a node: active, backing off, unschedulable, gated (pkg/scheduler/backend/queue/scheduling_queue.go).

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pod::PodInfo;

/// How long an unschedulable pod waits at the most before it is tried anyway.
const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

/// A pod on its way through the queue.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    pub pod: Arc<PodInfo>,
    /// When it first came.
    pub since: Instant,
    pub attempts: u32,
    /// Plugins that rejected it at the last attempt; only what they wait for wakes it.
    pub rejected_by: Vec<&'static str>,
    /// Failures that are not anybody's verdict (an error, a lost race): they back off by time alone.
    pub errors: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Instant),
    Unschedulable(Instant),
    /// A scheduling gate holds it.
    Gated,
}

struct Entry {
    queued: QueuedPod,
    place: Place,
    /// Tells live heap items from those that were overtaken.
    turn: u64,
}

/// Higher priority first, then the older one (plugin PrioritySort).
#[derive(PartialEq, Eq)]
struct Turn {
    priority: i32,
    since: Reverse<Instant>,
    turn: u64,
    uid: String,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.priority, self.since, Reverse(self.turn)).cmp(&(other.priority, other.since, Reverse(other.turn)))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub struct Queue {
    pods: HashMap<String, Entry>,
    active: BinaryHeap<Turn>,
    initial_backoff: Duration,
    max_backoff: Duration,
    turns: u64,
    /// No waiting pod is due before this; `None`: none waits.
    due: Option<Instant>,
}

/// How many pods wait where, for the metric scheduler_pending_pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

impl Queue {
    pub fn new(initial_backoff: Duration, max_backoff: Duration) -> Self {
        Self { pods: HashMap::new(), active: BinaryHeap::new(), initial_backoff, max_backoff, turns: 0, due: None }
    }

    fn put(&mut self, queued: QueuedPod, place: Place) {
        self.turns += 1;
        let uid = queued.pod.uid.clone();
        if place == Place::Active {
            self.active.push(Turn { priority: queued.pod.priority, since: Reverse(queued.since), turn: self.turns, uid: uid.clone() });
        }
        if let Some(due) = due(place) {
            self.due = Some(self.due.map_or(due, |known| known.min(due)));
        }
        self.pods.insert(uid, Entry { queued, place, turn: self.turns });
    }

    /// A new pod. `gated`: a PreEnqueue plugin holds it back.
    pub fn add(&mut self, pod: Arc<PodInfo>, gated: bool, now: Instant) {
        let queued = QueuedPod { pod, since: now, attempts: 0, rejected_by: Vec::new(), errors: 0 };
        self.put(queued, if gated { Place::Gated } else { Place::Active });
    }

    /// The pod changed: new facts, same history. A change of the pod itself may make it schedulable, so it is tried again.
    pub fn update(&mut self, pod: Arc<PodInfo>, gated: bool, retry: bool, now: Instant) {
        let Some(entry) = self.pods.remove(&pod.uid) else {
            return self.add(pod, gated, now);
        };
        let place = match (gated, entry.place) {
            (true, _) => Place::Gated,
            (false, Place::Gated) => Place::Active,
            (false, Place::Unschedulable(_)) if retry => self.after_backoff(&entry.queued, now),
            (false, place) => place,
        };
        self.put(QueuedPod { pod, ..entry.queued }, place);
    }

    pub fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// The next pod to place; it leaves the queue.
    pub fn pop(&mut self, now: Instant) -> Option<QueuedPod> {
        self.wake_due(now);
        while let Some(next) = self.active.pop() {
            let live = self.pods.get(&next.uid).is_some_and(|entry| entry.turn == next.turn && entry.place == Place::Active);
            if live && let Some(mut entry) = self.pods.remove(&next.uid) {
                entry.queued.attempts += 1;
                return Some(entry.queued);
            }
        }
        None
    }

    /// When `pop` is worth asking again without any event; may be too early, never too late.
    pub fn next_due(&self) -> Option<Instant> {
        self.due
    }

    fn wake_due(&mut self, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let woken: Vec<String> =
            self.pods.iter().filter(|(_, entry)| due(entry.place).is_some_and(|due| due <= now)).map(|(uid, _)| uid.clone()).collect();
        for uid in woken {
            if let Some(entry) = self.pods.remove(&uid) {
                self.put(entry.queued, Place::Active);
            }
        }
        self.due = self.pods.values().filter_map(|entry| due(entry.place)).min();
    }

    /// No node takes it: it waits for an event that helps one of `rejected_by`.
    pub fn put_unschedulable(&mut self, mut queued: QueuedPod, rejected_by: Vec<&'static str>, now: Instant) {
        queued.rejected_by = rejected_by;
        queued.errors = 0;
        self.put(queued, Place::Unschedulable(now));
    }

    /// An error came between: it is tried again after its backoff.
    pub fn put_back(&mut self, mut queued: QueuedPod, now: Instant) {
        queued.errors += 1;
        let place = self.after_backoff(&queued, now);
        self.put(queued, place);
    }

    /// Wakes the unschedulable pods for which `helps(pod, plugins)` says that something changed for the better. Returns how many.
    pub fn wake(&mut self, now: Instant, helps: impl Fn(&PodInfo, &[&'static str]) -> bool) -> usize {
        let woken: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::Unschedulable(_)) && helps(&entry.queued.pod, &entry.queued.rejected_by))
            .map(|(uid, _)| uid.clone())
            .collect();
        let count = woken.len();
        for uid in woken {
            if let Some(entry) = self.pods.remove(&uid) {
                let place = match entry.place {
                    Place::Unschedulable(since) => self.backoff_from(&entry.queued, since, now),
                    other => other,
                };
                self.put(entry.queued, place);
            }
        }
        count
    }

    fn after_backoff(&self, queued: &QueuedPod, now: Instant) -> Place {
        self.backoff_from(queued, now, now)
    }

    /// Active once the backoff since the last attempt is over.
    fn backoff_from(&self, queued: &QueuedPod, last_attempt: Instant, now: Instant) -> Place {
        let until = last_attempt + self.backoff(queued.attempts);
        if until <= now { Place::Active } else { Place::Backoff(until) }
    }

    /// The initial backoff doubled with each attempt after the first, up to the maximum.
    fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(16);
        (self.initial_backoff * 2u32.pow(doublings)).min(self.max_backoff)
    }

    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        for entry in self.pods.values() {
            match entry.place {
                Place::Active => pending.active += 1,
                Place::Backoff(_) => pending.backoff += 1,
                Place::Unschedulable(_) => pending.unschedulable += 1,
                Place::Gated => pending.gated += 1,
            }
        }
        pending
    }
}

/// When a place is left by time alone.
fn due(place: Place) -> Option<Instant> {
    match place {
        Place::Backoff(until) => Some(until),
        Place::Unschedulable(since) => Some(since + MAX_UNSCHEDULABLE),
        Place::Active | Place::Gated => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, priority: i32) -> Arc<PodInfo> {
        let value =
            json!({ "metadata": { "name": uid, "namespace": "d", "uid": uid }, "spec": { "priority": priority, "containers": [] } });
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(value).unwrap())))
    }

    fn queue() -> Queue {
        Queue::new(Duration::from_secs(1), Duration::from_secs(10))
    }

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|queued| queued.pod.uid.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn priority_then_age() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.add(pod("old", 0), false, now);
        queue.add(pod("new", 0), false, now + Duration::from_secs(1));
        queue.add(pod("urgent", 5), false, now + Duration::from_secs(2));
        queue.add(pod("gated", 9), true, now);
        assert_eq!(names(&mut queue, now), ["urgent", "old", "new"]);
        assert_eq!(queue.pending(), Pending { gated: 1, ..Pending::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_helps_wakes_and_backoff_doubles() {
        let (mut queue, start) = (queue(), Instant::now());
        queue.add(pod("p", 0), false, start);
        let mut now = start;
        for wanted_s in [1, 2, 4, 8, 10, 10] {
            let queued = queue.pop(now).expect("it is active");
            queue.put_unschedulable(queued, vec!["NodePorts"], now);
            assert_eq!(queue.wake(now, |_, plugins| plugins.contains(&"NodeAffinity")), 0);
            assert_eq!(queue.wake(now, |_, plugins| plugins.contains(&"NodePorts")), 1);
            assert!(queue.pop(now + Duration::from_millis(wanted_s * 1000 - 1)).is_none(), "{wanted_s}");
            now += Duration::from_secs(wanted_s);
            assert!(queue.next_due().is_some_and(|due| due <= now));
        }
        assert!(queue.pop(now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_ever() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.add(pod("p", 0), false, now);
        let queued = queue.pop(now).expect("it is active");
        queue.put_unschedulable(queued, vec!["NodePorts"], now);
        assert!(queue.pop(now + Duration::from_secs(299)).is_none());
        assert!(queue.pop(now + Duration::from_secs(300)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_pod_never_comes() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.add(pod("p", 0), false, now);
        queue.update(pod("p", 3), false, true, now);
        queue.remove("p");
        assert!(queue.pop(now).is_none());
    }
}
