//! Decides what becomes of an occurrence: a new Event, a higher count on an old one, or nothing (client-go/tools/record/events_cache.go). No I/O.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use api::core::v1::ObjectReference;
use jiff::Timestamp;
use tokio::time::Instant;

use super::EventType;
use crate::limit::TokenBucket;

/// Similar events with different notes before they are combined, and for how long they count as similar.
const MAX_SIMILAR: usize = 10;
const SIMILAR_FOR: Duration = Duration::from_secs(600);
/// Events about one object at once, and one more every five minutes.
const SPAM_BURST: u32 = 25;
const SPAM_RATE: f64 = 1.0 / 300.0;
/// Entries kept; half of them, the oldest, go when it is full.
const CAPACITY: usize = 4096;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Occurrence {
    pub regarding: ObjectReference,
    pub event_type: EventType,
    pub reason: String,
    pub action: String,
    pub note: String,
    pub at: Timestamp,
}

/// What to write.
pub(super) struct Outcome {
    pub occurrence: Occurrence,
    pub count: i32,
    pub first: Timestamp,
    /// The Event in the API whose count goes up.
    pub known_as: Option<String>,
    key: String,
}

#[derive(Default)]
pub(super) struct Correlator {
    spam: Recent<TokenBucket>,
    similar: Recent<HashSet<String>>,
    known: Recent<Known>,
}

#[derive(Clone)]
struct Known {
    name: Option<String>,
    count: i32,
    first: Timestamp,
}

impl Correlator {
    /// `None`: one too many about this object.
    pub fn correlate(&mut self, mut occurrence: Occurrence, now: Instant) -> Option<Outcome> {
        let group = group_key(&occurrence);
        let mut key = format!("{group}\n{}", occurrence.note);

        let notes = self.similar.entry(group.clone(), now, Some(SIMILAR_FOR), HashSet::new);
        if notes.len() < MAX_SIMILAR || notes.contains(&occurrence.note) {
            notes.insert(occurrence.note.clone());
        } else {
            occurrence.note = format!("(combined from similar events): {}", occurrence.note);
            key = group;
        }
        let first = Known { name: None, count: 0, first: occurrence.at };
        let known = self.known.entry(key.clone(), now, None, || first);
        known.count += 1;
        let (count, first, known_as) = (known.count, known.first, known.name.clone());

        let bucket = self.spam.entry(spam_key(&occurrence), now, None, || TokenBucket::new(SPAM_RATE, SPAM_BURST, now));
        bucket.try_take(now).then_some(Outcome { occurrence, count, first, known_as, key })
    }

    /// Remembers under which name an outcome is in the API.
    pub fn written(&mut self, outcome: &Outcome, name: String) {
        if let Some(known) = self.known.get_mut(&outcome.key) {
            known.name = Some(name);
        }
    }
}

fn spam_key(occurrence: &Occurrence) -> String {
    let object = &occurrence.regarding;
    let parts = [&object.kind, &object.namespace, &object.name, &object.uid, &object.api_version];
    parts.map(|part| part.as_deref().unwrap_or_default()).join("\n")
}

fn group_key(occurrence: &Occurrence) -> String {
    let path = occurrence.regarding.field_path.as_deref().unwrap_or_default();
    [&spam_key(occurrence), path, occurrence.event_type.as_str(), &occurrence.reason, &occurrence.action].join("\n")
}

/// A map that forgets what was not used for long once it is full.
struct Recent<V> {
    entries: HashMap<String, (Instant, V)>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<V> Recent<V> {
    /// The entry, made anew if it is missing or was not touched for `lifetime`.
    fn entry(&mut self, key: String, now: Instant, lifetime: Option<Duration>, make: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&key) {
            let mut times: Vec<Instant> = self.entries.values().map(|(used, _)| *used).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            let mut excess = self.entries.len() / 2;
            self.entries.retain(|_, (used, _)| {
                let drop = *used <= middle && excess > 0;
                excess -= usize::from(drop);
                !drop
            });
        }
        if lifetime.is_some_and(|lifetime| self.entries.get(&key).is_some_and(|(used, _)| *used + lifetime < now)) {
            self.entries.remove(&key);
        }
        let (used, value) = self.entries.entry(key).or_insert_with(|| (now, make()));
        *used = now;
        value
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(object: &str, note: &str) -> Occurrence {
        Occurrence {
            regarding: ObjectReference { name: Some(object.into()), ..ObjectReference::default() },
            event_type: EventType::Normal,
            reason: "Reason".into(),
            action: String::new(),
            note: note.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_combines_and_drops() {
        let now = base::clock::monotonic();
        let mut correlator = Correlator::default();
        let first = correlator.correlate(occurrence("a", "same"), now).expect("written");
        correlator.written(&first, "a.1".into());
        let second = correlator.correlate(occurrence("a", "same"), now).expect("written");
        assert_eq!((second.count, second.known_as.as_deref()), (2, Some("a.1")));

        for index in 1..MAX_SIMILAR {
            let other = correlator.correlate(occurrence("a", &format!("note {index}")), now).expect("written");
            assert_eq!(other.count, 1);
        }
        let combined = correlator.correlate(occurrence("a", "one more"), now).expect("written");
        assert_eq!(combined.occurrence.note, "(combined from similar events): one more");

        let written = (0..50).filter(|_| correlator.correlate(occurrence("a", "same"), now).is_some()).count();
        assert_eq!(written, SPAM_BURST as usize - 12);
        assert!(correlator.correlate(occurrence("b", "same"), now).is_some(), "another object has its own budget");
        let later = now + Duration::from_secs(301);
        assert!(correlator.correlate(occurrence("a", "same"), later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let now = base::clock::monotonic();
        let mut correlator = Correlator::default();
        for index in 0..CAPACITY * 2 {
            correlator.correlate(occurrence(&index.to_string(), "n"), now);
        }
        assert!(correlator.known.entries.len() <= CAPACITY && correlator.spam.entries.len() <= CAPACITY);
    }
}
