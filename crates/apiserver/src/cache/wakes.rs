//! Who is woken by a change of a collection: every watch, or only those of one object or of one node's pods. Thousands of kubelets each watch
//! their own: without this every change of any pod would wake all of them. Must not judge what a watch selects.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::collection::Event;

/// Fields by whose value a watch can be told apart.
pub const FIELDS: [&str; 2] = ["metadata.name", "spec.nodeName"];

#[derive(Default)]
pub struct Wakes {
    all: watch::Sender<()>,
    /// By value, for each of `FIELDS`.
    narrow: Mutex<[HashMap<String, watch::Sender<()>>; FIELDS.len()]>,
}

impl Wakes {
    /// Resolves at every change.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.all.subscribe()
    }

    /// Resolves when an object changes that has this value in this one of `FIELDS`, or had it before, and now and then for nothing.
    pub fn subscribe_to(&self, field: &str, value: &str) -> watch::Receiver<()> {
        match FIELDS.iter().position(|known| *known == field) {
            Some(at) => self.narrow.lock()[at].entry_ref(value).or_default().subscribe(),
            None => self.subscribe(),
        }
    }

    pub fn changed(&self, events: &[Arc<Event>]) {
        self.all.send_replace(());
        let narrow = self.narrow.lock();
        for (field, by_value) in FIELDS.iter().zip(narrow.iter()).filter(|(_, by_value)| !by_value.is_empty()) {
            for entry in events.iter().flat_map(|event| std::iter::once(&event.entry).chain(&event.before)) {
                if let Some(sender) = by_value.get(entry.field(field).unwrap_or_default()) {
                    sender.send_replace(());
                }
            }
        }
    }

    /// Wakes the narrow ones whatever has changed, so that none falls behind the history that is kept; forgets those that nobody waits for.
    pub fn catch_up(&self) {
        for by_value in self.narrow.lock().iter_mut() {
            by_value.retain(|_, sender| {
                sender.send_replace(());
                sender.receiver_count() > 0
            });
        }
    }

    /// Wakes all.
    pub fn reset(&self) {
        self.all.send_replace(());
        self.catch_up();
    }
}
