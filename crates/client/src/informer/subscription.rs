//! A queue of changes between an informer and one reader. Changes of one object that wait are merged, so nothing is lost and the queue holds at most one
//! entry per object.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Delta, Informer};
use crate::meta::{Object, ObjectKey, key_of};

/// The receiving end. Keeps its informer running.
pub struct Subscription<K> {
    queue: Arc<Queue<K>>,
    informer: Informer<K>,
    /// The second half of a replacement, handed out next.
    next: Option<Delta<K>>,
}

pub(super) struct Sender<K> {
    queue: Arc<Queue<K>>,
}

struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    /// Keys in the order of their first waiting change; a key without an entry in `pending` is stale.
    order: VecDeque<ObjectKey>,
    pending: HashMap<ObjectKey, Pending<K>>,
}

/// What the reader does not yet know of one object: the state that it knows, and the state now.
struct Pending<K> {
    known: Option<Arc<K>>,
    now: Option<Arc<K>>,
    /// The last state of the object that the reader knows, when it was deleted.
    last: Option<Arc<K>>,
}

pub(super) fn new<K: Object>(informer: Informer<K>) -> (Sender<K>, Subscription<K>) {
    let state = State { order: VecDeque::new(), pending: HashMap::new() };
    let queue = Arc::new(Queue { state: Mutex::new(state), wake: Notify::new() });
    (Sender { queue: queue.clone() }, Subscription { queue, informer, next: None })
}

impl<K: Object> Sender<K> {
    pub fn push(&self, delta: &Delta<K>) {
        self.queue.state.lock().merge(delta);
        self.queue.wake.notify_one();
    }
}

impl<K: Object> State<K> {
    fn merge(&mut self, delta: &Delta<K>) {
        let key = key_of(&**delta.object());
        let deleted = match delta {
            Delta::Deleted(last) => Some(last.clone()),
            _ => None,
        };
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.now = delta.current().cloned();
            if pending.last.is_none() && pending.known.is_some() {
                pending.last = deleted;
            }
            // Came and went unseen. The key stays in `order`, where it is skipped.
            if pending.known.is_none() && pending.now.is_none() {
                self.pending.remove(&key);
            }
            return;
        }
        let pending = Pending { known: delta.old().cloned(), now: delta.current().cloned(), last: deleted };
        self.pending.insert(key.clone(), pending);
        self.order.push_back(key);
    }

    fn pop(&mut self) -> Option<(Delta<K>, Option<Delta<K>>)> {
        while let Some(key) = self.order.pop_front() {
            let Some(pending) = self.pending.remove(&key) else { continue };
            match (pending.known, pending.now, pending.last) {
                (None, Some(new), _) => return Some((Delta::Added(new), None)),
                (Some(_), Some(new), Some(last)) => return Some((Delta::Deleted(last), Some(Delta::Added(new)))),
                (Some(old), Some(new), None) => return Some((Delta::Updated { old, new }, None)),
                (Some(known), None, last) => return Some((Delta::Deleted(last.unwrap_or(known)), None)),
                (None, None, _) => {}
            }
        }
        None
    }
}

impl<K: Object> Subscription<K> {
    /// The next change. Waits for ever when nothing changes; safe to drop half-way.
    pub async fn recv(&mut self) -> Delta<K> {
        loop {
            if let Some(delta) = self.try_recv() {
                return delta;
            }
            self.queue.wake.notified().await;
        }
    }

    /// The next change if one waits.
    pub fn try_recv(&mut self) -> Option<Delta<K>> {
        if let Some(delta) = self.next.take() {
            return Some(delta);
        }
        let (first, second) = self.queue.state.lock().pop()?;
        self.next = second;
        Some(first)
    }

    /// The cache that the changes come from.
    pub fn informer(&self) -> &Informer<K> {
        &self.informer
    }
}
